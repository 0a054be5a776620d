//! The attacker has the data folder and the host share, and no factor: what is lost, as docs/threat-model.md says it, and what is
//! not.

use std::fs;

use serde_json::Value;
use strongroom_client::crypto::channel::{ChannelCertificate, ChannelIdentity, DeviceHandshake, Pin, VaultHandshake};
use strongroom_client::crypto::factor::{FactorKind, FactorRoot, KdfParams};
use strongroom_client::crypto::kem::{PerStartKey, SlotSecret};
use strongroom_client::crypto::os_rng;
use strongroom_client::crypto::seal::{HeaderFile, seal_header};
use strongroom_client::crypto::secret::{HeaderKey, HostShare};
use strongroom_client::crypto::sign::SigningKey;
use strongroom_client::crypto::slot::{SlotPlace, open_vault_key};
use strongroom_client::wire::{Bytes, SecretValue, SlotId, VaultId};
use strongroom_e2e::Place;
use strongroom_e2e::canaries::Canaries;
use strongroom_e2e::place::PASSPHRASE;

use crate::files::{Files, read, write};
use crate::network::device;

/// What a thief of disk and share reads out of the newer copy of the header.
struct Stolen {
    vault: VaultId,
    key: HeaderKey,
    name: String,
    sequence: u64,
    open_part: Vec<u8>,
    sealed_part: Value,
}

impl Stolen {
    fn read(place: &Place, files: &Files) -> Self {
        let folder = place.vault_folder();
        let vault: VaultId = folder.file_name().and_then(|name| name.to_str()).expect("an id").parse().expect("an id");
        let text = fs::read_to_string(place.share()).expect("the share");
        let share = data_encoding::HEXLOWER.decode(text.trim().as_bytes()).expect("hexadecimal");
        let key = HostShare::from_bytes(&share.try_into().expect("32 bytes")).derive_header_key(vault.as_bytes());
        let copies = ["header.a", "header.b"].map(|name| (name, &files[std::path::Path::new(name)]));
        let parsed = copies.map(|(name, bytes)| (name, HeaderFile::parse(bytes).expect("a header")));
        let (name, file) = parsed.into_iter().max_by_key(|(_, file)| file.sequence()).expect("two copies");
        let opened = file.open(&key, vault.as_bytes()).expect("the share opens it");
        let sealed_part = serde_json::from_slice(opened.expose()).expect("JSON");
        let (sequence, open_part) = (file.sequence(), file.open_part().to_vec());
        Self { vault, key, name: name.to_owned(), sequence, open_part, sealed_part }
    }

    /// The header again, with its sealed part as the attacker wants it.
    fn forged(&self, files: &Files) -> Files {
        let sealed = serde_json::to_vec(&self.sealed_part).expect("JSON");
        let (vault, mut rng) = (self.vault.as_bytes(), os_rng());
        let file = seal_header(&self.key, vault, self.sequence, &self.open_part, &sealed, &mut rng).expect("it fits");
        let mut files = files.clone();
        files.insert(self.name.clone().into(), file);
        files
    }

    fn bytes(value: &Value) -> Vec<u8> {
        serde_json::from_value::<Bytes>(value.clone()).expect("bytes").0
    }

    /// Whether a passphrase opens the slot, found out without the vault and without a limit.
    fn opens_with(&self, guess: &str) -> bool {
        let slot = &self.sealed_part["slots"][0];
        let number = |name: &str| u32::try_from(slot["kdf"][name].as_u64().expect("a number")).expect("a small one");
        let params = KdfParams {
            salt: Self::bytes(&slot["kdf"]["salt"]).try_into().expect("16 bytes"),
            memory_kib: number("memory_kib"),
            passes: number("passes"),
            lanes: number("lanes"),
        };
        let root = FactorRoot::from_passphrase(guess, &params).expect("the parameters are good");
        self.slot_opens(&root.slot_secret(self.vault.as_bytes()))
    }

    fn slot_opens(&self, secret: &SlotSecret) -> bool {
        let slot = &self.sealed_part["slots"][0];
        let id: SlotId = serde_json::from_value(slot["id"].clone()).expect("an id");
        let generation = u32::try_from(slot["generation"].as_u64().expect("a number")).expect("a small one");
        let place =
            SlotPlace { vault: self.vault.as_bytes(), slot: id.as_bytes(), kind: FactorKind::Passphrase, generation };
        open_vault_key(secret, &place, &Self::bytes(&slot["sealed"])).is_ok()
    }
}

#[test]
fn with_the_share_the_passphrase_can_be_guessed_and_nothing_is_read_without_it() {
    let mut place = Place::with_vault();
    let canaries = Canaries::default();
    for (kind, label) in [("login", "canary-label-1"), ("note", "canary-label-2"), ("wallet", "canary-label-3")] {
        place.run(["item", "add", kind, label, "--stdin"]).stdin(canaries.text(kind)).ok();
        canaries.add(label, label.as_bytes());
    }
    place.say("guest add canary-guest-1").ok();
    canaries.add("a guest's name", b"canary-guest-1");
    canaries.add("the passphrase", PASSPHRASE.as_bytes());
    place.say("lock").ok();
    place.stop();
    let files = read(&place.vault_folder());
    let stolen = Stolen::read(&place, &files);

    // Lost: the slot, and so the passphrase to whoever guesses it, at the price of the format for each guess.
    let kdf = &stolen.sealed_part["slots"][0]["kdf"];
    assert_eq!((kdf["memory_kib"].as_u64(), kdf["passes"].as_u64()), (Some(65_536), Some(3)));
    for guess in ["gravel sextant oboe marzipan", "password1234"] {
        assert!(!stolen.opens_with(guess), "{guess}");
    }
    assert!(stolen.opens_with(PASSPHRASE), "no counter is asked");
    // Lost as well: the key with which the vault proves itself while it is locked, so that another program can stand in its place.
    let seed: SecretValue = serde_json::from_value(stolen.sealed_part["channel_seed"].clone()).unwrap();
    let identity = ChannelIdentity {
        key: SigningKey::from_seed(seed.expose().try_into().unwrap()),
        certificate: Some(ChannelCertificate {
            signature: Stolen::bytes(&stolen.sealed_part["channel_certificate"]).try_into().unwrap(),
            epoch: 1,
        }),
    };
    let (profile, mut rng) = (device(&place, "default"), os_rng());
    let (handshake, hello1) = DeviceHandshake::start(stolen.vault.as_bytes(), &mut rng);
    let start = PerStartKey::generate(&mut rng);
    let (_, hello2) =
        VaultHandshake::answer(&hello1, stolen.vault.as_bytes(), &identity, &start, &[], &mut rng).unwrap();
    let pin = Pin::Identity { key: profile.identity(), epoch_min: 1 };
    assert!(handshake.read(&hello2, &pin).is_ok(), "an active host from the next unlock on");

    // Not lost: any secret, label or name, in the files, the share, and what the share opens.
    let searcher = canaries.searcher();
    assert_eq!(searcher.find_in_folder(&place.path("data"), &[]), []);
    assert_eq!(searcher.find_in_folder(&place.path("shares"), &[]), []);
    assert_eq!(searcher.find("the sealed part", stolen.sealed_part.to_string().as_bytes()), []);
    let known = [&seed.expose()[..32], &[0; 32]].map(|seed| SlotSecret::from_seed(seed.try_into().unwrap()));
    assert!(known.iter().all(|secret| !stolen.slot_opens(secret)), "the share has no key to a slot");
}

#[test]
fn with_the_share_counters_start_again_and_weakened_settings_are_refused() {
    let mut place = Place::with_vault();
    place.say("item add note Diary --stdin").stdin("dear diary").ok();
    place.say("lock").ok();
    place.stop();
    let (folder, wrong) = (place.vault_folder(), place.write("wrong", "not the passphrase at all\n"));
    let before = read(&folder);
    place.serve(&[]);
    for _ in 0..5 {
        place.say("unlock").passphrase(&wrong).refused(1, "factor_refused");
    }
    place.say("unlock").passphrase(&wrong).refused(1, "attempts_wait");
    place.stop();
    // Lost: whoever puts back the header of before may try again.
    write(&folder, &before);
    place.serve(&[]);
    place.say("unlock").passphrase(&wrong).refused(1, "factor_refused");
    place.stop();

    // Not lost: a header with weaker settings is refused by the device before it stretches anything, and counts nothing.
    for (name, value) in [("memory_kib", 1_024), ("memory_kib", 2 << 20), ("passes", 1), ("lanes", 1)] {
        let mut stolen = Stolen::read(&place, &before);
        stolen.sealed_part["slots"][0]["kdf"][name] = value.into();
        let forged = stolen.forged(&before);
        write(&folder, &forged);
        place.serve(&[]);
        place.say("unlock").refused(5, "kdf_refused");
        place.stop();
        let after = Stolen::read(&place, &read(&folder));
        assert_eq!(after.sealed_part["attempts"], stolen.sealed_part["attempts"], "{name}");
    }
    // Another salt gives another secret, which opens nothing.
    let mut stolen = Stolen::read(&place, &before);
    stolen.sealed_part["slots"][0]["kdf"]["salt"] = serde_json::to_value(Bytes::from([7; 16])).unwrap();
    write(&folder, &stolen.forged(&before));
    place.serve(&[]);
    place.say("unlock").refused(1, "factor_refused");
    place.stop();
    write(&folder, &before);
    place.serve(&[]);
    place.say("unlock").ok();
    assert_eq!(place.say("item list").json()[0]["label"], "Diary");
    place.say("audit verify").ok();
}
