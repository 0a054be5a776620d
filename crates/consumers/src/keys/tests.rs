use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::fuzz;

const ALGORITHMS: [KeyAlgorithm; 5] = [
    KeyAlgorithm::Ed25519,
    KeyAlgorithm::EcdsaP256,
    KeyAlgorithm::EcdsaSecp256k1,
    KeyAlgorithm::RsaPssSha256,
    KeyAlgorithm::RsaPkcs1Sha256,
];

macro_rules! testdata {
    ($name:literal) => {
        include_bytes!(concat!("../../testdata/", $name)).as_slice()
    };
}

fn message_key(algorithm: KeyAlgorithm) -> KeyPolicy {
    KeyPolicy { purpose: KeyPurpose::Message, algorithm }
}

/// The algorithms that take this secret.
fn taken_by(secret: &[u8]) -> Vec<KeyAlgorithm> {
    ALGORITHMS.into_iter().filter(|algorithm| check_key(secret, message_key(*algorithm)).is_ok()).collect()
}

fn public(secret: &[u8], algorithm: KeyAlgorithm) -> String {
    public_key(secret, message_key(algorithm)).expect("a key that is read has a public half")
}

#[test]
fn each_container_is_read_for_its_algorithm_alone() {
    use KeyAlgorithm as A;
    let rsa = vec![A::RsaPssSha256, A::RsaPkcs1Sha256];
    for (secret, expected) in [
        (testdata!("ed25519.pkcs8.pem"), vec![A::Ed25519]),
        (testdata!("ed25519.openssh.pem"), vec![A::Ed25519]),
        (testdata!("p256.sec1.pem"), vec![A::EcdsaP256]),
        (testdata!("p256.pkcs8.pem"), vec![A::EcdsaP256]),
        (testdata!("p256.openssh.pem"), vec![A::EcdsaP256]),
        (testdata!("secp256k1.sec1.pem"), vec![A::EcdsaSecp256k1]),
        (testdata!("secp256k1.pkcs8.pem"), vec![A::EcdsaSecp256k1]),
        (testdata!("rsa_2048.pkcs1.pem"), rsa.clone()),
        (testdata!("rsa_2048.pkcs8.pem"), rsa.clone()),
        (testdata!("rsa_2048.openssh.pem"), rsa.clone()),
        (testdata!("rsa_3072.pkcs8.pem"), rsa.clone()),
        (testdata!("rsa_4096.pkcs8.pem"), rsa.clone()),
        (testdata!("rfc7515_a2.pkcs8.pem"), rsa.clone()),
        (testdata!("rsa_primes_swapped.pkcs1.pem"), rsa.clone()),
        (testdata!("rsa_1024.pkcs8.pem"), vec![]),
        (testdata!("rsa_4608.pkcs8.pem"), vec![]),
        (testdata!("rsa_2048_e3.pkcs8.pem"), vec![]),
        (testdata!("rsa_2048_three_primes.pkcs8.pem"), vec![]),
        (testdata!("rsa_wrong_dp.pkcs1.pem"), vec![]),
        (testdata!("rsa_wrong_modulus.pkcs1.pem"), vec![]),
        (testdata!("p384.pkcs8.pem"), vec![]),
        (testdata!("p256_explicit.pkcs8.pem"), vec![]),
        (testdata!("x25519.pkcs8.pem"), vec![]),
        (testdata!("ed25519_encrypted.openssh.pem"), vec![]),
        (testdata!("p256_encrypted.pkcs8.pem"), vec![]),
        (testdata!("p256_encrypted.sec1.pem"), vec![]),
    ] {
        assert_eq!(taken_by(secret), expected, "{}", String::from_utf8_lossy(secret));
    }
}

#[test]
fn every_container_holds_the_same_key() {
    let rsa = public(testdata!("rsa_2048.pkcs8.pem"), KeyAlgorithm::RsaPssSha256);
    assert_eq!(public(testdata!("rsa_2048.pkcs1.pem"), KeyAlgorithm::RsaPssSha256), rsa);
    assert_eq!(public(testdata!("rsa_2048.openssh.pem"), KeyAlgorithm::RsaPssSha256), rsa);
    let p256 = public(testdata!("p256.pkcs8.pem"), KeyAlgorithm::EcdsaP256);
    assert_eq!(public(testdata!("p256.sec1.pem"), KeyAlgorithm::EcdsaP256), p256);
    assert_eq!(public(testdata!("p256.openssh.pem"), KeyAlgorithm::EcdsaP256), p256);
    let secp256k1 = public(testdata!("secp256k1.pkcs8.pem"), KeyAlgorithm::EcdsaSecp256k1);
    assert_eq!(public(testdata!("secp256k1.sec1.pem"), KeyAlgorithm::EcdsaSecp256k1), secp256k1);
}

#[test]
fn text_forms_of_one_key() {
    let pem = testdata!("ed25519.pkcs8.pem");
    let expected = public(pem, KeyAlgorithm::Ed25519);
    let text = std::str::from_utf8(pem).expect("PEM is text");
    let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    assert_eq!(base64.len(), 64, "as long as a seed in hexadecimal, and yet not one");
    let mut der = [0; 48];
    <base64ct::Base64 as base64ct::Encoding>::decode(&base64, &mut der).expect("base64");
    let seed = &der[16..];
    let hex = base16ct::lower::encode_string(seed);
    let url = <base64ct::Base64Url as base64ct::Encoding>::encode_string(seed);
    let forms = [
        base64.clone(),
        format!("{} \n\t{}\n", &base64[..20], &base64[20..]),
        hex.to_uppercase(),
        hex,
        <base64ct::Base64 as base64ct::Encoding>::encode_string(seed),
        url.trim_end_matches('=').to_owned(),
        url,
        text.trim_end().to_owned(),
        text.replace('\n', "\r\n"),
        format!("\n  {text}\n\n"),
    ];
    for form in forms {
        assert_eq!(public(form.as_bytes(), KeyAlgorithm::Ed25519), expected, "{form}");
    }
}

#[test]
fn a_public_key_that_is_not_the_keys_own_is_refused() {
    // The public half is the last 32 bytes before padding in both places of an OpenSSH key; here both are another key's.
    let decode = |pem: &[u8]| open(pem).1;
    let der = decode(testdata!("ed25519.openssh.pem"));
    let own = ssh_key::PrivateKey::from_bytes(&der).expect("the key is well-formed");
    let public = own.public_key().key_data().ed25519().expect("it is Ed25519").0;
    let swapped: Vec<u8> = replace_all(&der, &public, &[0x58; 32]);
    assert_ne!(swapped, der);
    assert!(ssh_key::PrivateKey::from_bytes(&swapped).is_ok(), "the container alone does not tell");
    let pem = pem_rfc7468::encode_string("OPENSSH PRIVATE KEY", LineEnding::LF, &swapped).expect("PEM");
    assert_eq!(taken_by(pem.as_bytes()), []);

    let der = decode(testdata!("p256.pkcs8.pem"));
    let mut changed = der.clone();
    *changed.last_mut().expect("not empty") ^= 1;
    let pem = |der: &[u8]| pem_rfc7468::encode_string("PRIVATE KEY", LineEnding::LF, der).expect("PEM");
    assert_eq!(taken_by(pem(&der).as_bytes()), [KeyAlgorithm::EcdsaP256]);
    assert_eq!(taken_by(pem(&changed).as_bytes()), []);
}

#[test]
fn scalars_out_of_range_are_refused() {
    let order_p256 = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order_secp256k1 = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let zero = "0".repeat(64);
    for (algorithm, order) in [(KeyAlgorithm::EcdsaP256, order_p256), (KeyAlgorithm::EcdsaSecp256k1, order_secp256k1)] {
        for bad in [order, zero.as_str(), &"f".repeat(64)] {
            let refusal = check_key(bad.as_bytes(), message_key(algorithm)).expect_err("out of range");
            assert_eq!(refusal.code, Code::KeyMalformed);
        }
        let one = format!("{}1", "0".repeat(63));
        assert_eq!(check_key(one.as_bytes(), message_key(algorithm)), Ok(()));
        let below = order.strip_suffix('1').map(|start| format!("{start}0")).expect("both orders are odd");
        assert_eq!(check_key(below.as_bytes(), message_key(algorithm)), Ok(()));
    }
}

#[test]
fn symmetric_keys() {
    let policy = KeyPolicy { purpose: KeyPurpose::Encrypt, algorithm: KeyAlgorithm::Xchacha20Poly1305 };
    let mut raw = [0xfb; 32];
    raw[0] = 0;
    let hex = base16ct::lower::encode_string(&raw);
    let base64 = <base64ct::Base64 as base64ct::Encoding>::encode_string(&raw);
    let url = <base64ct::Base64UrlUnpadded as base64ct::Encoding>::encode_string(&raw);
    for good in [raw.as_slice(), hex.as_bytes(), base64.as_bytes(), url.as_bytes(), format!("{url}\n").as_bytes()] {
        assert_eq!(symmetric_key(good).as_deref(), Ok(&raw));
        assert_eq!(check_key(good, policy), Ok(()));
    }
    for bad in [
        b"".as_slice(),
        &raw[..31],
        &[raw.as_slice(), b"\0"].concat(),
        b"0123456789abcdef0123456789abcdef",
        b"correct horse battery staple yes",
        &hex.as_bytes()[..62],
        &url.as_bytes()[..42],
        b"not base64 at all! not base64 at all! not ba",
    ] {
        assert_eq!(symmetric_key(bad).map_err(|refusal| refusal.code), Err(Code::KeyMalformed));
    }
}

#[test]
fn generated_keys_are_read_back() {
    let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
    for purpose in KeyPurpose::ALL {
        for algorithm in KeyAlgorithm::ALL {
            let policy = KeyPolicy { purpose: *purpose, algorithm: *algorithm };
            let made = generate_key(policy, &mut rng);
            match algorithm {
                _ if !policy.fits() => assert_eq!(made.map_err(|refusal| refusal.code), Err(Code::PolicyMissing)),
                KeyAlgorithm::RsaPssSha256 | KeyAlgorithm::RsaPkcs1Sha256 => {
                    assert_eq!(made.map_err(|refusal| refusal.code), Err(Code::ValueRefused));
                }
                _ => {
                    let made = made.expect("the policy fits");
                    assert_eq!(check_key(made.as_bytes(), policy), Ok(()));
                    assert_eq!(public_key(made.as_bytes(), policy).is_ok(), !is_symmetric(*purpose));
                    assert_ne!(made, generate_key(policy, &mut rng).expect("again"));
                }
            }
        }
    }
}

#[test]
fn generated_keys_are_read_by_others() {
    let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
    let path = std::env::temp_dir().join(format!("strongroom-keys-{}", std::process::id()));
    for (program, arguments, purpose) in [
        ("openssl", ["pkey", "-pubout", "-in"].as_slice(), KeyPurpose::Message),
        ("ssh-keygen", &["-y", "-f"], KeyPurpose::Ssh),
    ] {
        for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaSecp256k1] {
            let policy = KeyPolicy { purpose, algorithm };
            let Ok(made) = generate_key(policy, &mut rng) else { continue };
            let expected = public_key(made.as_bytes(), policy).expect("it has one");
            write_private(&path, made.as_bytes());
            let Ok(output) = Command::new(program).args(arguments).arg(&path).output() else { continue };
            let shown = String::from_utf8_lossy(&output.stdout);
            assert_eq!(shown.trim(), expected.trim(), "{algorithm} {}", String::from_utf8_lossy(&output.stderr));
        }
    }
    let _ = std::fs::remove_file(path);
}

/// ssh-keygen reads no key that others may read.
fn write_private(path: &Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).and_then(|mut file| file.write_all(bytes)).expect("the temporary folder can be written");
}

#[test]
fn openssh_lines() {
    let line = |secret: &[u8], algorithm| public_key(secret, KeyPolicy { purpose: KeyPurpose::Ssh, algorithm });
    assert!(
        line(testdata!("ed25519.openssh.pem"), KeyAlgorithm::Ed25519).is_ok_and(|l| l.starts_with("ssh-ed25519 AAAA"))
    );
    assert!(
        line(testdata!("p256.sec1.pem"), KeyAlgorithm::EcdsaP256)
            .is_ok_and(|l| l.starts_with("ecdsa-sha2-nistp256 AAAA"))
    );
    assert!(
        line(testdata!("rsa_2048.pkcs8.pem"), KeyAlgorithm::RsaPkcs1Sha256)
            .is_ok_and(|l| l.starts_with("ssh-rsa AAAA"))
    );
    assert!(line(testdata!("rsa_2048.pkcs8.pem"), KeyAlgorithm::RsaPssSha256).is_err());
}

#[test]
fn truncated_keys_are_refused_at_each_length() {
    for secret in [
        testdata!("ed25519.pkcs8.pem"),
        testdata!("ed25519.openssh.pem"),
        testdata!("p256.sec1.pem"),
        testdata!("p256.openssh.pem"),
        testdata!("secp256k1.pkcs8.pem"),
        testdata!("rsa_2048.pkcs1.pem"),
        testdata!("rsa_2048.openssh.pem"),
    ] {
        for length in 0..secret.trim_ascii_end().len() {
            assert_eq!(taken_by(&secret[..length]), [], "{length}");
        }
        // And inside of a PEM that is whole.
        let (label, der) = open(secret);
        for length in 0..der.len() {
            let pem = pem_rfc7468::encode_string(label, LineEnding::LF, &der[..length]).expect("PEM");
            assert_eq!(taken_by(pem.as_bytes()), [], "{label} {length}");
        }
    }
}

#[test]
fn hostile_containers_are_refused() {
    let pem = |label: &str, der: &[u8]| pem_rfc7468::encode_string(label, LineEnding::LF, der).expect("PEM");
    let nested = (0_u8..60).fold(Vec::new(), |inner: Vec<u8>, depth| [&[0x30, 2 * depth], inner.as_slice()].concat());
    let endless: Vec<u8> = [0x30, 0x80].repeat(4_000);
    let claimed = [0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x02, 0x01, 0x00];
    let inner = pem("PRIVATE KEY", &nested);
    let ssh_claimed = [b"openssh-key-v1\0".as_slice(), &[0xff; 64]].concat();
    for label in
        ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "CERTIFICATE", "PUBLIC KEY"]
    {
        for der in [&nested, &endless, &claimed.to_vec(), &inner.clone().into_bytes(), &ssh_claimed, &Vec::new()] {
            assert_eq!(taken_by(pem(label, der).as_bytes()), [], "{label}");
        }
    }
    let huge = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", "A".repeat(1 << 20));
    let twice = [testdata!("ed25519.pkcs8.pem"), testdata!("ed25519.pkcs8.pem")].concat();
    let parameters_only = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n".to_vec();
    for bad in [huge.into_bytes(), twice, parameters_only, b"-----BEGIN ".to_vec(), b"-----BEGIN -----".to_vec()] {
        assert_eq!(taken_by(&bad), []);
    }
}

#[test]
fn refusals_hold_nothing_of_the_key() {
    for algorithm in ALGORITHMS {
        for secret in ["MARKERMARKERMARKER", "-----BEGIN MARKER-----\nMARKER\n-----END MARKER-----"] {
            let refusal = check_key(secret.as_bytes(), message_key(algorithm)).expect_err("not a key");
            assert!(!format!("{refusal:?} {refusal}").contains("MARKER"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz::private_key(&bytes);
    }

    #[test]
    fn no_changed_key_panics(at in 0_usize..2_000, to in any::<u8>(), which in 0_usize..5) {
        let secret = [
            testdata!("ed25519.openssh.pem"),
            testdata!("p256.sec1.pem"),
            testdata!("secp256k1.pkcs8.pem"),
            testdata!("rsa_2048.pkcs8.pem"),
            testdata!("rsa_2048.openssh.pem"),
        ][which];
        let (label, mut der) = open(secret);
        let at = at % der.len();
        der[at] = to;
        let pem = pem_rfc7468::encode_string(label, LineEnding::LF, &der).expect("PEM");
        fuzz::private_key(pem.as_bytes());
    }
}

fn open(pem: &[u8]) -> (&'static str, Vec<u8>) {
    let text = std::str::from_utf8(pem).expect("PEM is text");
    let label = ["OPENSSH PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY", "PRIVATE KEY"]
        .into_iter()
        .find(|label| text.contains(&format!("BEGIN {label}")))
        .expect("testdata holds private keys");
    let start = text.find(&format!("-----BEGIN {label}")).expect("just found");
    let mut decoder = pem_rfc7468::Decoder::new_detect_wrap(text[start..].trim().as_bytes()).expect("PEM");
    let mut der = Vec::new();
    decoder.decode_to_end(&mut der).expect("base64");
    (label, der)
}

fn replace_all(bytes: &[u8], from: &[u8; 32], to: &[u8; 32]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..=bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + from.len()].copy_from_slice(to);
        }
    }
    bytes
}
