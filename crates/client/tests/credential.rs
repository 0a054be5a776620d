//! The credential's protocol, stopped at every point: the device ends with a blob that the vault takes, and no act is lost
//! or done twice.
#![allow(clippy::unwrap_used, reason = "a test")]

mod fake;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use fake::{FakeVault, bytes, listen, profile, welcome};
use strongroom_client::Session;
use strongroom_client::credential::number;
use strongroom_client::fresh::{Factor, FactorError, Factors, new_passphrase_slot, passphrase_root};
use strongroom_crypto::kem::KemPublic;
use strongroom_crypto::os_rng;
use strongroom_crypto::seal::{MailPlace, seal_mail};
use strongroom_crypto::sign::{Act, PublicKey, Statement};
use strongroom_wire::device::{
    DeviceAnswer, DeviceRequest, Envelope, GuestAdd, GuestKind, GuestView, LogPosition, SlotKind, SlotView,
};
use strongroom_wire::{Challenge, Code, DeviceId, GuestId, Refusal, RequestId, SlotId, Timestamp, VaultId};

/// Where the connection breaks, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Break {
    Never,
    /// Before the vault has seen the request.
    BeforePresentation,
    /// After the vault made the next blob; the device never gets it.
    BeforeNext,
    /// Before the vault has seen the confirmation.
    BeforeConfirmation,
    /// After the vault acted; the device never hears of it.
    AfterAct,
    /// The vault process began anew and has lost the request.
    ProcessGone,
}

/// What the vault knows of the device's chain.
#[derive(Default)]
struct Chain {
    number: u64,
    waiting: Option<(RequestId, u64)>,
    acts: Vec<RequestId>,
    frozen: bool,
    broke: bool,
}

struct Typed;

impl Factors for Typed {
    fn factor(&mut self, slots: &[SlotView]) -> Result<Factor, FactorError> {
        Ok(Factor { slot: slots[0].id, root: passphrase_root("fig lantern oboe mistral quarry", &slots[0])? })
    }
}

fn blob(number: u64) -> Vec<u8> {
    [&[1][..], &[2; 16], &number.to_be_bytes(), b"sealed to the vault"].concat()
}

fn guest() -> DeviceAnswer {
    DeviceAnswer::Guest(GuestView {
        id: GuestId([9; 16]),
        name: "helper".into(),
        kind: GuestKind::Agent,
        added_at: Timestamp(0),
        last_seen_at: None,
        suspended: false,
        grants: 0,
    })
}

/// What the vault answers, or nothing where the connection breaks.
fn answer(
    chain: &mut Chain,
    at: Break,
    kem: &KemPublic,
    slot: &(SlotView, PublicKey),
    envelope: &Envelope,
) -> Option<Result<DeviceAnswer, Refusal>> {
    let mut breaks = |here: Break| at == here && !std::mem::replace(&mut chain.broke, true);
    let request: DeviceRequest = serde_json::from_str(envelope.body.get()).unwrap();
    let presented = envelope.credential.as_ref().and_then(|blob| number(&blob.0));
    match request {
        DeviceRequest::SlotList {} => Some(Ok(DeviceAnswer::Slots { slots: vec![slot.0.clone()] })),
        DeviceRequest::Challenge {} => Some(Ok(DeviceAnswer::Challenge { challenge: Challenge([8; 32]) })),
        DeviceRequest::GuestAdd(_) => {
            let fresh = envelope.fresh.as_ref().expect("it takes a factor");
            let act = Act::new(&[7; 16], &[2; 16], &fresh.challenge.0, envelope.body.get().as_bytes());
            slot.1.verify(&Statement::Fresh { act: &act }, &fresh.signature.0).expect("the factor agrees to this body");
            if breaks(Break::BeforePresentation) {
                return None;
            }
            let presented = presented.expect("it presents the credential");
            if presented == chain.number + 1 && chain.waiting.is_some_and(|(_, next)| next == presented) {
                chain.number = presented;
                chain.waiting = None;
            }
            if presented != chain.number {
                chain.frozen = true;
                return Some(Err(Code::CredentialFrozen.into()));
            }
            let next = chain.number + 1;
            chain.waiting = Some((envelope.id, next));
            if breaks(Break::BeforeNext) {
                return None;
            }
            let place = MailPlace { vault: &[7; 16], device: &[2; 16], number: next };
            let mail = seal_mail(kem, &place, &blob(next), &mut os_rng());
            Some(Ok(DeviceAnswer::CredentialNext { sequence: next, mail: bytes(&mail) }))
        }
        DeviceRequest::CredentialConfirm { sequence } => {
            if breaks(Break::BeforeConfirmation) {
                return None;
            }
            if breaks(Break::ProcessGone) {
                chain.number = sequence;
                chain.waiting = None;
                return Some(Err(Code::CredentialBusy.into()));
            }
            assert_eq!(presented, Some(sequence), "the new blob is presented");
            if chain.acts.contains(&envelope.id) {
                return Some(Ok(guest()));
            }
            assert_eq!(chain.waiting, Some((envelope.id, sequence)), "confirmed under the same request id");
            chain.number = sequence;
            chain.waiting = None;
            chain.acts.push(envelope.id);
            if breaks(Break::AfterAct) {
                return None;
            }
            Some(Ok(guest()))
        }
        other => panic!("{other:?}"),
    }
}

fn run(at: Break) -> (Arc<Mutex<Chain>>, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let socket: PathBuf = dir.path().join("s.sock");
    let vault = FakeVault::new();
    let profile = profile(dir.path(), &socket, vault.identity.public(), &blob(0), &LogPosition::default());
    let (device, kem) = (profile.sign_key().public(), profile.kem_key().public());
    let (draft, root) = new_passphrase_slot(VaultId([7; 16]), "p", "fig lantern oboe mistral quarry").unwrap();
    let view = SlotView {
        id: SlotId([4; 16]),
        kind: SlotKind::Passphrase,
        name: None,
        kdf: draft.kdf,
        added_at: Timestamp(0),
    };
    let slot = (view, root.signer(&[7; 16]).public());
    let chain = Arc::new(Mutex::new(Chain::default()));
    let shared = Arc::clone(&chain);
    listen(socket, move |wire| {
        let Some(mut served) = welcome(wire, &vault, device) else { return true };
        while let Some(envelope) = served.request() {
            let answered = answer(&mut shared.lock().unwrap(), at, &kem, &slot, &envelope);
            match answered {
                Some(result) => served.answer(envelope.stream, result),
                None => return true,
            }
        }
        true
    });
    let request = || {
        DeviceRequest::GuestAdd(GuestAdd { name: "helper".into(), kind: GuestKind::Agent, public_key: bytes(&[1; 32]) })
    };
    let mut typed = Typed;
    let done = Session::new(&profile, &mut typed).ask(&request());
    assert!(matches!(done, Ok(DeviceAnswer::Guest(_))), "{at:?}: {done:?}");
    let kept = profile.credential().unwrap();
    assert_eq!(profile.device(), DeviceId([2; 16]));
    (chain, kept)
}

#[test]
fn no_break_loses_the_chain_or_repeats_the_act() {
    for at in [
        Break::Never,
        Break::BeforePresentation,
        Break::BeforeNext,
        Break::BeforeConfirmation,
        Break::AfterAct,
        Break::ProcessGone,
    ] {
        let (chain, kept) = run(at);
        let chain = chain.lock().unwrap();
        assert!(!chain.frozen, "{at:?}");
        assert_eq!(chain.acts.len(), 1, "{at:?}: one act");
        assert_eq!(number(&kept), Some(chain.number), "{at:?}: both ends have the same number");
    }
}

#[test]
fn a_blob_that_was_kept_before_a_kill_confirms_itself() {
    // Killed between storing the next blob and confirming: the next command starts from that blob.
    let dir = tempfile::tempdir().unwrap();
    let vault = FakeVault::new();
    let profile =
        profile(dir.path(), &dir.path().join("s"), vault.identity.public(), &blob(0), &LogPosition::default());
    let place = MailPlace { vault: &[7; 16], device: &[2; 16], number: 1 };
    let mail = seal_mail(&profile.kem_key().public(), &place, &blob(1), &mut os_rng());
    let kept = strongroom_client::credential::keep_next(&profile, 1, &bytes(&mail)).unwrap();
    assert_eq!((number(&kept.0), number(&profile.credential().unwrap())), (Some(1), Some(1)));
    // Mail for another number, or another device's, is not kept.
    assert!(strongroom_client::credential::keep_next(&profile, 2, &bytes(&mail)).is_err());
    let wrong = seal_mail(&profile.kem_key().public(), &MailPlace { number: 2, ..place }, &blob(7), &mut os_rng());
    assert!(strongroom_client::credential::keep_next(&profile, 2, &bytes(&wrong)).is_err());
    assert_eq!(number(&profile.credential().unwrap()), Some(1));
}
