//! Sealing in a TPM, and what a quote of it says, against a software TPM.
#![forbid(unsafe_code)]

use strongroom_attest::{Claims, NotAllowed, Policy, QuoteRefused};
use strongroom_client::wire::Bytes;
use strongroom_client::wire::VaultId;
use strongroom_client::wire::sealing::{Evidence, Sealable, TpmRefusal};
use strongroom_e2e::swtpm::Swtpm;
use strongroom_tpm::Tpm;

const BOOT: [u8; 4] = [0, 2, 4, 7];
const PROGRAM: [u8; 32] = [0x11; 32];
/// A quote says nothing of the time.
const NOW: u64 = 0;
const WHAT: Sealable = Sealable::Share(VaultId([3; 16]));
const NEXT: [u8; 32] = [0x22; 32];
const SHARE: [u8; 32] = *b"a share of thirty-two bytes long";

fn open(chip: &Swtpm) -> Tpm {
    Tpm::open(&chip.name(), &BOOT).expect("a TPM")
}

#[test]
fn a_share_opens_in_the_state_it_was_sealed_to_alone() {
    let mut chip = Swtpm::new();
    let mut tpm = open(&chip);
    let sealed = tpm.seal(WHAT, &PROGRAM, &SHARE).expect("sealed");
    assert_eq!(*tpm.open_sealed(WHAT, &sealed).expect("at once"), SHARE);
    let text = serde_json::to_string(&sealed).expect("JSON");
    assert!(!text.contains("a share of"));

    for other in [Sealable::Share(VaultId([4; 16])), Sealable::Unattended(VaultId([3; 16]))] {
        assert_eq!(tpm.open_sealed(other, &sealed).expect_err("it is something else"), TpmRefusal::Damaged {});
    }

    // Another program measured meanwhile does not stand in the way: it is measured again.
    let for_next = tpm.seal(WHAT, &NEXT, &SHARE).expect("sealed");
    assert_eq!(*tpm.open_sealed(WHAT, &for_next).expect("the next program's"), SHARE);
    assert_eq!(*tpm.open_sealed(WHAT, &sealed).expect("this program's"), SHARE);

    // Sealed to one program and said to be another's.
    let mut swapped = sealed.clone();
    swapped.program = Bytes::from(NEXT);
    assert_eq!(tpm.open_sealed(WHAT, &swapped).expect_err("another program"), TpmRefusal::Changed { pcrs: vec![] });

    // The same machine, started in the same way.
    drop(tpm);
    chip.reboot();
    let mut tpm = open(&chip);
    assert_eq!(*tpm.open_sealed(WHAT, &sealed).expect("after a reboot"), SHARE);

    // Started in another way.
    drop(tpm);
    chip.reboot();
    chip.extend(7, [7; 32]);
    let mut tpm = open(&chip);
    assert_eq!(tpm.open_sealed(WHAT, &sealed).expect_err("another state"), TpmRefusal::Changed { pcrs: vec![7] });
    // Also where the record is made to say that the state is this one, the TPM refuses.
    let mut claimed = sealed.clone();
    claimed.boot = tpm.seal(WHAT, &PROGRAM, &SHARE).expect("sealed").boot;
    assert_eq!(tpm.open_sealed(WHAT, &claimed).expect_err("the TPM decides"), TpmRefusal::Changed { pcrs: vec![] });

    // Another chip.
    let other = Swtpm::new();
    let mut other = open(&other);
    assert_eq!(other.open_sealed(WHAT, &sealed).expect_err("another chip"), TpmRefusal::OtherTpm {});
    let mut claimed = sealed.clone();
    claimed.parent = other.seal(WHAT, &PROGRAM, &SHARE).expect("sealed").parent;
    assert_eq!(other.open_sealed(WHAT, &claimed).expect_err("the chip decides"), TpmRefusal::Damaged {});
}

#[test]
fn what_was_sealed_and_is_damaged_is_refused() {
    let chip = Swtpm::new();
    let mut tpm = open(&chip);
    let sealed = tpm.seal(WHAT, &PROGRAM, &SHARE).expect("sealed");
    for at in (0..sealed.private.0.len()).step_by(11) {
        let mut damaged = sealed.clone();
        damaged.private.0[at] ^= 1;
        assert!(tpm.open_sealed(WHAT, &damaged).is_err(), "private, byte {at}");
    }
    for at in 0..sealed.public.0.len() {
        let mut damaged = sealed.clone();
        damaged.public.0[at] ^= 1;
        assert!(tpm.open_sealed(WHAT, &damaged).is_err(), "public, byte {at}");
        damaged.public.0.truncate(at);
        assert!(tpm.open_sealed(WHAT, &damaged).is_err(), "public, cut at {at}");
    }
    let mut damaged = sealed.clone();
    damaged.boot.remove(&7);
    assert!(tpm.open_sealed(WHAT, &damaged).is_err(), "a register left out");
    assert_eq!(*tpm.open_sealed(WHAT, &sealed).expect("the TPM still serves"), SHARE);
}

#[test]
fn the_counter_only_counts_up() {
    let mut chip = Swtpm::new();
    let mut tpm = open(&chip);
    let first = tpm.count(false).expect("a counter");
    assert_eq!(tpm.count(false).expect("read"), first);
    assert_eq!(tpm.count(true).expect("up"), first + 1);
    drop(tpm);
    chip.reboot();
    assert_eq!(open(&chip).count(false).expect("kept"), first + 1);
}

#[test]
fn a_quote_speaks_for_one_machine_one_program_and_one_hello() {
    let mut chip = Swtpm::new();
    let mut tpm = open(&chip);
    let binding = [5; 32];
    let quoted = tpm.quote(&PROGRAM, &binding).expect("quoted");
    let evidence = |quoted: &strongroom_client::wire::sealing::TpmEvidence| Evidence::Tpm(quoted.clone()).encode();
    let bytes = evidence(&quoted);
    let policy = Policy::of(&bytes, &binding).expect("a policy of the first sight");
    assert_eq!(policy.appraise(&bytes, &binding, NOW), Ok(Claims::Tpm { program: PROGRAM }));
    assert_eq!(Policy::decode(&policy.encode()).expect("reads back"), policy);

    // An old one, or another channel's.
    assert_eq!(policy.appraise(&bytes, &[6; 32], NOW), Err(QuoteRefused::Binding.into()));
    assert_eq!(policy.appraise(&[], &binding, NOW), Err(NotAllowed::Missing));
    assert_eq!(policy.appraise(b"{}", &binding, NOW), Err(NotAllowed::Malformed));
    let nitro = Evidence::Nitro { document: Bytes::default() }.encode();
    assert_eq!(policy.appraise(&nitro, &binding, NOW), Err(NotAllowed::OtherKind));

    // What is shown is not what was quoted.
    let mut lies = quoted.clone();
    lies.program = Bytes::from(NEXT);
    assert_eq!(policy.appraise(&evidence(&lies), &binding, NOW), Err(QuoteRefused::Registers.into()));
    let mut lies = quoted.clone();
    lies.boot.insert(7, Bytes::from([7; 32]));
    assert_eq!(policy.appraise(&evidence(&lies), &binding, NOW), Err(QuoteRefused::Registers.into()));
    let mut lies = quoted.clone();
    lies.boot.remove(&7);
    assert_eq!(policy.appraise(&evidence(&lies), &binding, NOW), Err(QuoteRefused::Registers.into()));
    for at in 0..quoted.quote.0.len() {
        let mut lies = quoted.clone();
        lies.quote.0[at] ^= 1;
        assert_eq!(policy.appraise(&evidence(&lies), &binding, NOW), Err(QuoteRefused::Signature.into()), "byte {at}");
    }

    // An update: not before the member accepts it, and nothing older afterwards.
    let next = evidence(&tpm.quote(&NEXT, &binding).expect("quoted"));
    assert_eq!(policy.appraise(&next, &binding, NOW), Err(NotAllowed::Program { program: NEXT }));
    let mut accepted = policy.clone();
    accepted.allow_program(NEXT).expect("room");
    assert!(accepted.appraise(&next, &binding, NOW).is_ok() && accepted.appraise(&bytes, &binding, NOW).is_ok());
    assert!(accepted.only_program(NEXT));
    assert_eq!(accepted.appraise(&bytes, &binding, NOW), Err(NotAllowed::Program { program: PROGRAM }));

    // A changed boot, and another machine.
    drop(tpm);
    chip.reboot();
    chip.extend(4, [4; 32]);
    let changed = evidence(&open(&chip).quote(&PROGRAM, &binding).expect("quoted"));
    assert_eq!(policy.appraise(&changed, &binding, NOW), Err(NotAllowed::Boot { registers: vec![4] }));
    let other = Swtpm::new();
    let other = evidence(&open(&other).quote(&PROGRAM, &binding).expect("quoted"));
    assert_eq!(policy.appraise(&other, &binding, NOW), Err(NotAllowed::OtherMachine));
}
