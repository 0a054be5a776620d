use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;
use strongroom_wire::policy::KeyAlgorithm;

use super::*;

const ITEM: ItemId = ItemId([7; 16]);
const ENCRYPT: KeyPolicy = KeyPolicy { purpose: KeyPurpose::Encrypt, algorithm: KeyAlgorithm::Xchacha20Poly1305 };
const MAC: KeyPolicy = KeyPolicy { purpose: KeyPurpose::Mac, algorithm: KeyAlgorithm::HmacSha256 };
const DERIVE: KeyPolicy = KeyPolicy { purpose: KeyPurpose::Derive, algorithm: KeyAlgorithm::HkdfSha256 };
const OLD: (u32, &[u8]) = (1, &[0x81; 32]);
const NEW: (u32, &[u8]) = (2, &[0x82; 32]);

/// A known answer of `vectors/consumers/crypt/v1`.
#[derive(Deserialize)]
struct Case {
    expect: String,
    input: Input,
    output: Option<Output>,
}

/// Bytes are hexadecimal. A ciphertext is decrypted, a tag verified; with neither, a key is derived.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    item: String,
    keys: Vec<Key>,
    #[serde(default)]
    context: String,
    ciphertext: Option<String>,
    #[serde(default)]
    message: String,
    tag: Option<String>,
    purpose: Option<KeyPurpose>,
}

#[derive(Deserialize)]
struct Key {
    version: u32,
    secret: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Output {
    Plaintext(String),
    Derived(String),
    Valid(bool),
}

fn run(keys: &[(u32, &[u8])], item: ItemId, policy: KeyPolicy, call: &CryptCall) -> Result<Vec<u8>, Code> {
    let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
    match crypt(Versions(keys), item, policy, call, &mut rng).map_err(|refusal| refusal.code)? {
        CryptOutput::Derived(key) => Ok(key.to_vec()),
        CryptOutput::Answer(UseResult::Ciphertext { ciphertext: bytes } | UseResult::Tag { tag: bytes }) => Ok(bytes.0),
        CryptOutput::Answer(UseResult::Plaintext { plaintext }) => Ok(plaintext.0),
        CryptOutput::Answer(UseResult::Verified { valid }) => Ok(vec![u8::from(valid)]),
        CryptOutput::Answer(other) => panic!("{other:?}"),
    }
}

fn encrypted(keys: &[(u32, &[u8])], plaintext: &[u8], context: &[u8]) -> Vec<u8> {
    let call = CryptCall::Encrypt { plaintext: plaintext.into(), context: context.into() };
    run(keys, ITEM, ENCRYPT, &call).expect("encrypts")
}

fn decrypted(keys: &[(u32, &[u8])], item: ItemId, ciphertext: &[u8], context: &[u8]) -> Result<Vec<u8>, Code> {
    run(keys, item, ENCRYPT, &CryptCall::Decrypt { ciphertext: ciphertext.into(), context: context.into() })
}

fn rewrapped(keys: &[(u32, &[u8])], ciphertext: &[u8], context: &[u8]) -> Result<Vec<u8>, Code> {
    run(keys, ITEM, ENCRYPT, &CryptCall::Rewrap { ciphertext: ciphertext.into(), context: context.into() })
}

#[test]
fn known_answers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/consumers/crypt/v1");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the vectors are checked in") {
        let path = entry.expect("the folder can be listed").path();
        let json = std::fs::read(&path).expect("the file can be read");
        let case: Case = serde_json::from_slice(&json).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let found = answer(&case.input);
        let expect = found.as_ref().map_or_else(|code| format!("refuse: {code}"), |_| "ok".to_owned());
        assert_eq!(expect, case.expect, "{}", path.display());
        let output = case.output.map(|output| match output {
            Output::Plaintext(bytes) | Output::Derived(bytes) => hex(&bytes),
            Output::Valid(valid) => vec![u8::from(valid)],
        });
        assert_eq!(found.ok(), output, "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 34, "a case was removed, or one was added and not counted");
}

fn answer(input: &Input) -> Result<Vec<u8>, Code> {
    let keys: Vec<(u32, Vec<u8>)> = input.keys.iter().map(|key| (key.version, hex(&key.secret))).collect();
    let keys: Vec<(u32, &[u8])> = keys.iter().map(|(version, secret)| (*version, secret.as_slice())).collect();
    let item = ItemId(hex(&input.item).try_into().expect("an id has 16 bytes"));
    let context = Bytes(hex(&input.context));
    let (policy, call) = match (&input.ciphertext, &input.tag) {
        (Some(ciphertext), _) => (ENCRYPT, CryptCall::Decrypt { ciphertext: Bytes(hex(ciphertext)), context }),
        (None, Some(tag)) => (MAC, CryptCall::VerifyMac { message: Bytes(hex(&input.message)), tag: Bytes(hex(tag)) }),
        (None, None) => (DERIVE, CryptCall::Derive { context, purpose: input.purpose.expect("it says for what") }),
    };
    run(&keys, item, policy, &call)
}

fn hex(text: &str) -> Vec<u8> {
    base16ct::lower::decode_vec(text).expect("the vectors write hexadecimal")
}

#[test]
fn rewrap_moves_to_the_newest_version() {
    let old = encrypted(&[OLD], b"text", b"context");
    let new = rewrapped(&[NEW, OLD], &old, b"context").expect("rewraps");
    assert_eq!(new[..5], [1, 0, 0, 0, 2]);
    assert_eq!(decrypted(&[NEW], ITEM, &new, b"context"), Ok(b"text".to_vec()));
    assert_eq!(decrypted(&[NEW], ITEM, &old, b"context"), Err(Code::CiphertextRefused));
    assert_eq!(rewrapped(&[NEW, OLD], &old, b"other"), Err(Code::CiphertextRefused));
    let again = rewrapped(&[NEW, OLD], &new, b"context").expect("rewraps");
    assert_ne!(again, new, "a fresh nonce");
}

#[test]
fn tags_name_their_version_and_are_plain_hmac() {
    let tag = run(&[NEW, OLD], ITEM, MAC, &CryptCall::Mac { message: b"m".as_slice().into() }).expect("a tag");
    assert_eq!(tag[..5], [1, 0, 0, 0, 2]);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, NEW.1);
    assert_eq!(ring::hmac::verify(&key, b"m", &tag[5..]), Ok(()));
    let verify = |keys: &[(u32, &[u8])], message: &[u8], tag: &[u8]| {
        run(keys, ITEM, MAC, &CryptCall::VerifyMac { message: message.into(), tag: tag.into() })
    };
    assert_eq!(verify(&[NEW, OLD], b"m", &tag), Ok(vec![1]));
    assert_eq!(verify(&[OLD], b"m", &tag), Ok(vec![0]));
    for length in 0..tag.len() {
        assert_eq!(verify(&[NEW], b"m", &tag[..length]), Ok(vec![0]), "{length}");
    }
}

#[test]
fn derived_keys_differ_in_every_part() {
    let derive = |keys: &[(u32, &[u8])], item, context: &[u8], purpose| {
        run(keys, item, DERIVE, &CryptCall::Derive { context: context.into(), purpose }).expect("derives")
    };
    let made = [
        derive(&[NEW], ITEM, b"a", KeyPurpose::Encrypt),
        derive(&[NEW], ITEM, b"b", KeyPurpose::Encrypt),
        derive(&[NEW], ITEM, b"a", KeyPurpose::Mac),
        derive(&[NEW], ItemId([8; 16]), b"a", KeyPurpose::Encrypt),
        derive(&[OLD], ITEM, b"a", KeyPurpose::Encrypt),
        derive(&[(3, NEW.1)], ITEM, b"a", KeyPurpose::Encrypt),
    ];
    for (at, one) in made.iter().enumerate() {
        assert!(made[at + 1..].iter().all(|other| other != one), "{at}");
    }
    assert_eq!(made[0], derive(&[NEW, OLD], ITEM, b"a", KeyPurpose::Encrypt), "the newest version counts");
}

#[test]
fn a_key_that_is_none_is_refused() {
    let call = CryptCall::Mac { message: b"m".as_slice().into() };
    assert_eq!(run(&[], ITEM, MAC, &call), Err(Code::KeyMalformed));
    assert_eq!(run(&[(1, b"short")], ITEM, MAC, &call), Err(Code::KeyMalformed));
    let crossed = KeyPolicy { purpose: KeyPurpose::Mac, algorithm: KeyAlgorithm::HkdfSha256 };
    assert_eq!(run(&[NEW], ITEM, crossed, &call), Err(Code::PolicyMissing));
    assert_eq!(run(&[NEW], ITEM, ENCRYPT, &call), Err(Code::PolicyMissing));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn decrypt_undoes_encrypt(plaintext in proptest::collection::vec(any::<u8>(), 0..300), context in proptest::collection::vec(any::<u8>(), 0..50)) {
        let sealed = encrypted(&[NEW, OLD], &plaintext, &context);
        prop_assert_eq!(sealed.len(), plaintext.len() + strongroom_wire::template::CRYPT_OVERHEAD_BYTES);
        prop_assert_eq!(decrypted(&[NEW, OLD], ITEM, &sealed, &context), Ok(plaintext));
        prop_assert_eq!(decrypted(&[NEW, OLD], ItemId([8; 16]), &sealed, &context), Err(Code::CiphertextRefused));
    }

    #[test]
    fn any_flipped_bit_is_refused(plaintext in proptest::collection::vec(any::<u8>(), 0..24)) {
        let sealed = encrypted(&[NEW, OLD], &plaintext, b"context");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decrypted(&[NEW, OLD], ITEM, &changed, b"context"), Err(Code::CiphertextRefused), "bit {}", bit);
        }
        for length in 0..sealed.len() {
            prop_assert_eq!(decrypted(&[NEW, OLD], ITEM, &sealed[..length], b"context"), Err(Code::CiphertextRefused));
        }
    }

    #[test]
    fn any_flipped_bit_of_a_tag_fails(message in proptest::collection::vec(any::<u8>(), 0..100), bit in 0_usize..37 * 8) {
        let tag = run(&[NEW, OLD], ITEM, MAC, &CryptCall::Mac { message: message.as_slice().into() });
        let mut tag = tag.expect("a tag");
        tag[bit / 8] ^= 1 << (bit % 8);
        let call = CryptCall::VerifyMac { message: message.into(), tag: tag.into() };
        prop_assert_eq!(run(&[NEW, OLD], ITEM, MAC, &call), Ok(vec![0]));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(decrypted(&[NEW, OLD], ITEM, &bytes, b""), Err(Code::CiphertextRefused));
        let call = CryptCall::VerifyMac { message: Bytes::default(), tag: bytes.into() };
        prop_assert_eq!(run(&[NEW, OLD], ITEM, MAC, &call), Ok(vec![0]));
    }
}
