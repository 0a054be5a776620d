//! From a passphrase, a recovery phrase or a passkey to what unlocks a vault and answers its challenges (section 2). All of it
//! runs on the member's device.

use bip39::{Language, Mnemonic};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::{
    CryptoRng, Id,
    kem::{KemSecret, SlotSecret},
    secret::{Key32, derive},
    sign::{Act, PublicKey, Signature, SigningKey, Statement},
    tuple::Tuple,
};

/// What opens a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FactorKind {
    /// Something the member knows.
    Passphrase,
    /// The PRF output of a WebAuthn credential.
    Passkey,
    /// The 24 words.
    Recovery,
    /// A secret that hardware releases to a machine in a known state.
    Unattended,
    /// A secret that enough of the member's guardians can put together.
    Guardian,
}

impl FactorKind {
    /// The name under which a slot is stored and bound.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::Passkey => "passkey",
            Self::Recovery => "recovery",
            Self::Unattended => "unattended",
            Self::Guardian => "guardian",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Passphrase, Self::Passkey, Self::Recovery, Self::Unattended, Self::Guardian]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// How a passphrase is stretched: Argon2id version 0x13 (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfParams {
    /// Random for each slot.
    pub salt: [u8; 16],
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes; always 4.
    pub lanes: u32,
}

impl KdfParams {
    /// The parameters of a new slot: a fresh salt and RFC 9106's second recommended option (64 MiB, 3 passes, 4 lanes).
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        Self { salt, memory_kib: MEMORY_KIB_MIN, passes: PASSES_MIN, lanes: LANES }
    }

    /// What a device checks before it spends memory on parameters it was sent.
    ///
    /// # Errors
    /// When they are weaker than the least we accept, or would exhaust the device.
    pub fn check(&self) -> Result<(), KdfParamsRefused> {
        let Self { memory_kib, passes, lanes, .. } = *self;
        let weak = memory_kib < MEMORY_KIB_MIN || passes < PASSES_MIN || lanes != LANES;
        let exhausting = memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX;
        if weak || exhausting { Err(KdfParamsRefused { memory_kib, passes, lanes }) } else { Ok(()) }
    }
}

/// Parameters that a device does not use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{memory_kib} KiB, {passes} passes and {lanes} lanes are outside 64 MiB to 1 GiB, 3 to 16 passes and 4 lanes")]
pub struct KdfParamsRefused {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// Why a passphrase gave no root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// It is empty or longer than 1,024 bytes after normalisation.
    #[error("a passphrase has 1 to 1,024 bytes")]
    Length,
    /// The parameters are out of bounds.
    #[error("the slot's parameters are refused")]
    Params(#[from] KdfParamsRefused),
    /// The device has not the memory that the parameters ask for.
    #[error("there is not enough memory to derive the key")]
    Memory,
}

/// The 24 words of the recovery phrase: 256 random bits in locked memory.
pub struct Phrase(Key32);

impl Phrase {
    /// A fresh phrase.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Key32::generate(rng))
    }

    /// The phrase as a person typed it: case and white space do not count.
    ///
    /// # Errors
    /// With the number of the first word that is not in the list, the count of words, or that the checksum is wrong: words
    /// swapped, or one that is in the list in place of another.
    pub fn parse(text: &str) -> Result<Self, PhraseError> {
        if text.len() > PHRASE_INPUT_BYTES_MAX {
            return Err(PhraseError::Length);
        }
        let text = Zeroizing::new(text.to_ascii_lowercase());
        for (index, word) in text.split_whitespace().enumerate() {
            if Language::English.find_word(word).is_none() {
                return Err(PhraseError::UnknownWord { number: index + 1 });
            }
        }
        let count = text.split_whitespace().count();
        if count != PHRASE_WORDS {
            return Err(PhraseError::WordCount { count });
        }
        let mnemonic = Mnemonic::parse_in_normalized(Language::English, &text).map_err(|_| PhraseError::Checksum)?;
        let (mut entropy, _) = mnemonic.to_entropy_array();
        let phrase = Self(Key32::filled(|out| out.copy_from_slice(&entropy[..32])));
        entropy.zeroize();
        Ok(phrase)
    }

    /// The words in lower case, joined by single spaces, to be shown once and printed on the kit.
    pub fn expose_words(&self) -> Zeroizing<String> {
        // EXPOSE: turned into words for the member; the library's copy wipes itself.
        let mnemonic = Mnemonic::from_entropy_in(Language::English, self.0.expose()).expect("24 words hold 32 bytes");
        let mut words = Zeroizing::new(String::with_capacity(PHRASE_WORDS * 9));
        for (i, word) in mnemonic.words().enumerate() {
            if i > 0 {
                words.push(' ');
            }
            words.push_str(word);
        }
        words
    }
}

/// Why words are not a recovery phrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhraseError {
    /// More text than any phrase has.
    #[error("that is too long for a recovery phrase")]
    Length,
    /// Not 24 words.
    #[error("a recovery phrase has 24 words, not {count}")]
    WordCount {
        /// How many there were.
        count: usize,
    },
    /// A word that is not in the list.
    #[error("word {number} is not in the list")]
    UnknownWord {
        /// Counted from 1.
        number: usize,
    },
    /// All words are in the list, but they do not belong together.
    #[error("a word is wrong or in the wrong place")]
    Checksum,
}

/// What a factor comes down to: 32 bytes that never leave the device.
pub struct FactorRoot {
    root: Key32,
    kind: FactorKind,
}

impl FactorRoot {
    /// Stretches a passphrase. Takes the memory that `params` names, and as many threads as there are lanes and cores.
    ///
    /// # Errors
    /// When the passphrase or the parameters are refused, or memory is short.
    pub fn from_passphrase(passphrase: &str, params: &KdfParams) -> Result<Self, PassphraseError> {
        params.check()?;
        if passphrase.len() > PASSPHRASE_BYTES_MAX {
            return Err(PassphraseError::Length);
        }
        let normalised = nfc(passphrase);
        if normalised.is_empty() || normalised.len() > PASSPHRASE_BYTES_MAX {
            return Err(PassphraseError::Length);
        }
        let root = argon2id(normalised.as_bytes(), params).ok_or(PassphraseError::Memory)?;
        Ok(Self { root, kind: FactorKind::Passphrase })
    }

    /// Stretches a recovery phrase with the salt and parameters that the format fixes.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn from_phrase(phrase: &Phrase) -> Result<Self, PassphraseError> {
        let params = KdfParams { salt: *PHRASE_SALT, memory_kib: MEMORY_KIB_MIN, passes: PASSES_MIN, lanes: LANES };
        let root = argon2id(phrase.expose_words().as_bytes(), &params).ok_or(PassphraseError::Memory)?;
        Ok(Self { root, kind: FactorKind::Recovery })
    }

    /// The root of a passkey, from the PRF output of its credential. The caller wipes `prf_output`.
    pub fn from_passkey(prf_output: &[u8; 32], vault: &Id) -> Self {
        Self { root: derive(&Key32::copy_of(prf_output), "passkey-root", &[vault]), kind: FactorKind::Passkey }
    }

    /// The root of a secret that hardware keeps for this machine. The caller wipes `secret`.
    pub fn from_unattended(secret: &[u8; 32], vault: &Id) -> Self {
        Self { root: derive(&Key32::copy_of(secret), "unattended-root", &[vault]), kind: FactorKind::Unattended }
    }

    /// The root of the guardians' secret. The caller wipes `secret`.
    pub fn from_guardian(secret: &[u8; 32], vault: &Id) -> Self {
        Self { root: derive(&Key32::copy_of(secret), "guardian-root", &[vault]), kind: FactorKind::Guardian }
    }

    #[cfg(test)]
    pub(crate) fn expose_for_vectors(&self) -> &[u8; 32] {
        self.root.expose()
    }

    /// What kind of factor it is.
    pub fn kind(&self) -> FactorKind {
        self.kind
    }

    /// The secret half of this factor's slot: what the device sends to unlock.
    pub fn slot_secret(&self, vault: &Id) -> SlotSecret {
        SlotSecret(KemSecret(derive(&self.root, "slot-kem", &[vault])))
    }

    /// The key that answers the vault's challenges; it never leaves the device.
    pub fn signer(&self, vault: &Id) -> FactorSigner {
        FactorSigner(SigningKey::new(derive(&self.root, "slot-sign", &[vault])))
    }

    /// The shared key of the recovery blob; `None` for a factor that opens none.
    pub fn recovery_psk(&self, vault: &Id) -> Option<RecoveryPsk> {
        match self.kind {
            FactorKind::Recovery | FactorKind::Guardian => {
                Some(RecoveryPsk(derive(&self.root, "recovery-psk", &[vault])))
            }
            FactorKind::Passphrase | FactorKind::Passkey | FactorKind::Unattended => None,
        }
    }
}

/// Answers challenges with the key of one slot.
pub struct FactorSigner(SigningKey);

impl FactorSigner {
    /// The public half, stored with the slot.
    pub fn public(&self) -> PublicKey {
        self.0.public()
    }

    /// Agrees to one act.
    pub fn answer(&self, act: &Act) -> Signature {
        self.0.sign(&Statement::Fresh { act })
    }
}

/// The shared key of HPKE's PSK mode that a recovery blob is sealed with. The vault keeps it, so that it can renew the blob
/// without the phrase.
pub struct RecoveryPsk(pub(crate) Key32);

impl RecoveryPsk {
    /// The key as the vault keeps it or a device sent it. The caller wipes `bytes`.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(Key32::copy_of(bytes))
    }

    /// The bytes, to store them sealed or send them over the channel.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }
}

impl ZeroizeOnDrop for Phrase {}
impl ZeroizeOnDrop for FactorRoot {}
impl ZeroizeOnDrop for FactorSigner {}
impl ZeroizeOnDrop for RecoveryPsk {}

/// What a device passes to WebAuthn's PRF extension as `eval.first` for a slot of this vault.
pub fn passkey_prf_input(vault: &Id) -> Vec<u8> {
    Tuple::labelled("passkey-prf").bytes(vault).finish()
}

/// Unicode NFC, in memory that is wiped and never moved.
fn nfc(text: &str) -> Zeroizing<String> {
    // NFC makes no text more than three times as long (Unicode Standard Annex 15, section 9).
    let mut normalised = Zeroizing::new(String::with_capacity(text.len() * 3));
    normalised.extend(text.nfc());
    normalised
}

/// Argon2id version 0x13, 32 bytes out; `None` where the memory is not to be had.
fn argon2id(password: &[u8], params: &KdfParams) -> Option<Key32> {
    let KdfParams { memory_kib, passes, lanes, .. } = *params;
    let context = argon2::Params::new(memory_kib, passes, lanes, Some(32)).expect("the parameters were checked");
    let mut blocks = Vec::new();
    blocks.try_reserve_exact(context.block_count()).ok()?;
    blocks.resize(context.block_count(), argon2::Block::new());
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, context);
    let key = Key32::filled(|out| {
        argon2
            .hash_password_into_with_memory(password, &params.salt, out, &mut blocks[..])
            .expect("password, salt and output have lengths that Argon2 takes");
    });
    for block in &mut blocks {
        block.zeroize();
    }
    Some(key)
}

const MEMORY_KIB_MIN: u32 = 64 * 1024;
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MIN: u32 = 3;
const PASSES_MAX: u32 = 16;
const LANES: u32 = 4;
const PASSPHRASE_BYTES_MAX: usize = 1024;
const PHRASE_SALT: &[u8; 16] = b"strongroom/v1/rp";
const PHRASE_WORDS: usize = 24;
const PHRASE_INPUT_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_rng::TestRng;

    #[test]
    fn argon2id_agrees_with_rfc_9106() {
        // Section 5.3, which also has a secret and associated data; our own parameters are checked against another
        // implementation by the vectors.
        let params = argon2::ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
            .build()
            .unwrap();
        let argon2 =
            argon2::Argon2::new_with_secret(&[3; 8], argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
                .unwrap();
        let mut tag = [0; 32];
        argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&tag),
            "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
        );
    }

    #[test]
    fn a_device_refuses_weak_and_exhausting_parameters() {
        let good = KdfParams::generate(&mut TestRng::new("params"));
        assert_eq!(good.check(), Ok(()));
        assert_eq!(KdfParams { memory_kib: 1024 * 1024, passes: 16, ..good }.check(), Ok(()));
        for bad in [
            KdfParams { memory_kib: 65_535, ..good },
            KdfParams { memory_kib: 1024 * 1024 + 1, ..good },
            KdfParams { passes: 2, ..good },
            KdfParams { passes: 17, ..good },
            KdfParams { lanes: 1, ..good },
            KdfParams { lanes: 5, ..good },
            KdfParams { memory_kib: u32::MAX, passes: u32::MAX, lanes: u32::MAX, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
            assert!(matches!(FactorRoot::from_passphrase("x", &bad), Err(PassphraseError::Params(_))));
        }
    }

    #[test]
    fn the_same_passphrase_typed_on_another_keyboard_gives_the_same_root() {
        let params = KdfParams::generate(&mut TestRng::new("nfc"));
        let composed = FactorRoot::from_passphrase("caf\u{e9} \u{212b}", &params).unwrap();
        let decomposed = FactorRoot::from_passphrase("cafe\u{301} A\u{30a}", &params).unwrap();
        assert_eq!(composed.root.expose(), decomposed.root.expose());
        assert!(composed.recovery_psk(&[0; 16]).is_none());
        assert!(matches!(FactorRoot::from_passphrase("", &params), Err(PassphraseError::Length)));
        assert!(matches!(FactorRoot::from_passphrase(&"x".repeat(1025), &params), Err(PassphraseError::Length)));
    }

    #[test]
    fn a_phrase_says_what_is_wrong_with_it() {
        let phrase = Phrase::generate(&mut TestRng::new("phrase"));
        let words = phrase.expose_words();
        let list: Vec<&str> = words.split(' ').collect();
        assert_eq!(list.len(), 24);

        let messy = format!("\n  {} ", list.join(" \t\n ").to_uppercase());
        assert_eq!(Phrase::parse(&messy).unwrap().0.expose(), phrase.0.expose());

        let mut typo = list.clone();
        typo[16] = "strongroom";
        assert_eq!(Phrase::parse(&typo.join(" ")).err(), Some(PhraseError::UnknownWord { number: 17 }));
        assert_eq!(Phrase::parse(&list[..23].join(" ")).err(), Some(PhraseError::WordCount { count: 23 }));
        assert_eq!(Phrase::parse("").err(), Some(PhraseError::WordCount { count: 0 }));
        assert_eq!(Phrase::parse(&" ".repeat(5000)).err(), Some(PhraseError::Length));
        let wrong = format!("{} zoo", vec!["abandon"; 23].join(" "));
        assert_eq!(Phrase::parse(&wrong).err(), Some(PhraseError::Checksum));
        let right = format!("{} art", vec!["abandon"; 23].join(" "));
        assert_eq!(Phrase::parse(&right).unwrap().0.expose(), &[0; 32]);
    }

    #[test]
    fn each_vault_gets_other_keys_from_one_factor() {
        let root = FactorRoot::from_passkey(&[5; 32], &[1; 16]);
        assert_ne!(root.slot_secret(&[1; 16]).expose_seed(), root.slot_secret(&[2; 16]).expose_seed());
        assert_ne!(root.signer(&[1; 16]).public(), root.signer(&[2; 16]).public());
        let guardian = FactorRoot::from_guardian(&[5; 32], &[1; 16]);
        assert_ne!(guardian.slot_secret(&[1; 16]).expose_seed(), root.slot_secret(&[1; 16]).expose_seed());
        assert!(guardian.recovery_psk(&[1; 16]).is_some());
        assert_eq!(FactorRoot::from_unattended(&[5; 32], &[1; 16]).kind(), FactorKind::Unattended);
    }

    #[test]
    fn a_signer_answers_the_act_it_was_asked() {
        let signer = FactorRoot::from_passkey(&[5; 32], &[1; 16]).signer(&[1; 16]);
        let (act, other) =
            (Act::new(&[1; 16], &[2; 16], &[3; 32], b"{}"), Act::new(&[1; 16], &[2; 16], &[4; 32], b"{}"));
        let answer = signer.answer(&act);
        assert!(signer.public().verify(&Statement::Fresh { act: &act }, &answer).is_ok());
        assert!(signer.public().verify(&Statement::Fresh { act: &other }, &answer).is_err());
    }

    #[test]
    fn the_names_of_kinds_are_fixed() {
        for name in ["passphrase", "passkey", "recovery", "unattended", "guardian"] {
            assert_eq!(FactorKind::parse(name).unwrap().as_str(), name);
        }
        assert_eq!(FactorKind::parse("pin"), None);
    }

    proptest! {
        #[test]
        fn words_give_their_phrase_back(seed in any::<[u8; 32]>()) {
            let phrase = Phrase(Key32::copy_of(&seed));
            let words = phrase.expose_words();
            let again = Phrase::parse(&words).unwrap();
            prop_assert_eq!(again.0.expose(), &seed);
        }

        #[test]
        fn normalising_never_outgrows_its_room(text in "\\PC{0,60}") {
            let normalised = nfc(&text);
            prop_assert!(normalised.len() <= text.len() * 3);
        }
    }
}
