use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde_json::{Value, json};
use strongroom_wire::Code;
use strongroom_wire::policy::{JwtTemplate, KeyAlgorithm, KeyPurpose};

use super::*;
use crate::keys::public_key;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

macro_rules! testdata {
    ($name:literal) => {
        include_bytes!(concat!("../../testdata/", $name)).as_slice()
    };
}

/// A key of each algorithm that signs messages.
const KEYS: [(&[u8], KeyAlgorithm); 7] = [
    (testdata!("ed25519.pkcs8.pem"), KeyAlgorithm::Ed25519),
    (testdata!("ed25519.openssh.pem"), KeyAlgorithm::Ed25519),
    (testdata!("p256.sec1.pem"), KeyAlgorithm::EcdsaP256),
    (testdata!("secp256k1.sec1.pem"), KeyAlgorithm::EcdsaSecp256k1),
    (testdata!("rsa_2048.openssh.pem"), KeyAlgorithm::RsaPssSha256),
    (testdata!("rsa_2048.openssh.pem"), KeyAlgorithm::RsaPkcs1Sha256),
    (testdata!("rsa_4096.pkcs8.pem"), KeyAlgorithm::RsaPssSha256),
];

fn policy(purpose: KeyPurpose, algorithm: KeyAlgorithm) -> KeyPolicy {
    KeyPolicy { purpose, algorithm }
}

fn sign_message(secret: &[u8], algorithm: KeyAlgorithm, message: &[u8]) -> Vec<u8> {
    let call = SignCall::Message { message: message.into() };
    match sign(secret, policy(KeyPurpose::Message, algorithm), &call, None, true, NOW) {
        Ok(UseResult::Signature { signature, algorithm: named }) if named == algorithm => signature.0,
        other => panic!("{other:?}"),
    }
}

fn hex(text: &str) -> Vec<u8> {
    base16ct::mixed::decode_vec(text).expect("a test writes hexadecimal")
}

fn from_base64url(text: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(text).expect("a test writes base64url")
}

#[test]
fn rfc_8032_section_7_1() {
    for (seed, message, expected) in [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ),
        (
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
        ),
    ] {
        let made = sign_message(seed.as_bytes(), KeyAlgorithm::Ed25519, &hex(message));
        assert_eq!(base16ct::lower::encode_string(&made), expected);
    }
}

#[test]
fn rfc_8037_appendix_a_4() {
    let input = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let made = sign_message(b"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", KeyAlgorithm::Ed25519, input);
    let expected = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(Base64UrlUnpadded::encode_string(&made), expected);
}

#[test]
fn rfc_7515_appendix_a_2() {
    let input = b"eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let made = sign_message(testdata!("rfc7515_a2.pkcs8.pem"), KeyAlgorithm::RsaPkcs1Sha256, input);
    let expected = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    assert_eq!(Base64UrlUnpadded::encode_string(&made), expected);
}

#[test]
fn rfc_6979_appendix_a_2_5_with_low_s() {
    let key = b"C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721";
    // The published s of "sample" is F7CB1C94…3ACDA8, above half of the order; ours is the order less it.
    let sample = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf37160834e36ad29a83bf2bc9385e491d6099c8fdf9d1ed67aa7ea5f51f93782857a9";
    // That of "test" is low as it is.
    let test = "f1abb023518351cd71d881567b1ea663ed3efcf6c5132b354f28d3b0b7d38367019f4113742a2b14bd25926b49c649155f267e60d3814b4c0cc84250e46f0083";
    for (message, expected) in [(b"sample".as_slice(), sample), (b"test", test)] {
        let made = sign_message(key, KeyAlgorithm::EcdsaP256, message);
        assert_eq!(base16ct::lower::encode_string(&made), expected);
    }
}

#[test]
fn secp256k1_known_answers() {
    // The deterministic signatures that Bitcoin implementations share.
    let one = format!("{}1", "0".repeat(63));
    for (message, expected) in [
        (
            "Satoshi Nakamoto",
            "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d82442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5",
        ),
        (
            "All those moments will be lost in time, like tears in rain. Time to die...",
            "8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b547fe64427496db33bf66019dacbf0039c04199abb0122918601db38a72cfc21",
        ),
    ] {
        let made = sign_message(one.as_bytes(), KeyAlgorithm::EcdsaSecp256k1, message.as_bytes());
        assert_eq!(base16ct::lower::encode_string(&made), expected);
    }
}

#[test]
fn s_is_never_high() {
    for (secret, algorithm, half) in [
        (
            testdata!("p256.sec1.pem"),
            KeyAlgorithm::EcdsaP256,
            "7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8",
        ),
        (
            testdata!("secp256k1.sec1.pem"),
            KeyAlgorithm::EcdsaSecp256k1,
            "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0",
        ),
    ] {
        let half = hex(half);
        for message in 0_u32..64 {
            let made = sign_message(secret, algorithm, &message.to_be_bytes());
            assert!(made.len() == 64 && made[32..] <= half[..], "{message}");
            assert_eq!(made, sign_message(secret, algorithm, &message.to_be_bytes()), "deterministic");
        }
    }
}

#[test]
fn ring_verifies_what_it_knows() {
    for (secret, algorithm) in KEYS {
        let verifier: &dyn VerificationAlgorithm = match algorithm {
            KeyAlgorithm::Ed25519 => &ED25519,
            KeyAlgorithm::EcdsaP256 => &ECDSA_P256_SHA256_FIXED,
            KeyAlgorithm::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
            KeyAlgorithm::RsaPkcs1Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            _ => continue,
        };
        let pem = public_key(secret, policy(KeyPurpose::Message, algorithm)).expect("it has one");
        let mut der = Vec::new();
        pem_rfc7468::Decoder::new(pem.as_bytes())
            .and_then(|mut pem| pem.decode_to_end(&mut der).map(drop))
            .expect("PEM");
        // What ring takes is the content of the BIT STRING, which ends the SPKI.
        let length = match algorithm {
            KeyAlgorithm::Ed25519 => 32,
            KeyAlgorithm::EcdsaP256 => 65,
            _ => der.len() - 24,
        };
        let key = UnparsedPublicKey::new(verifier, &der[der.len() - length..]);
        for message in [b"".as_slice(), b"m", &[0xa5; 5_000]] {
            let made = sign_message(secret, algorithm, message);
            assert_eq!(key.verify(message, &made), Ok(()), "{algorithm}");
            for bit in [0, made.len() * 4, made.len() * 8 - 1] {
                let mut changed = made.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(key.verify(message, &changed).is_err(), "{algorithm} {bit}");
            }
        }
    }
}

#[test]
fn openssl_verifies_every_algorithm() {
    if !installed("openssl") {
        return;
    }
    let folder = Folder::new("openssl");
    let message = folder.write("message", b"the whole message");
    for (secret, algorithm) in KEYS {
        let made = sign_message(secret, algorithm, b"the whole message");
        let pem = public_key(secret, policy(KeyPurpose::Message, algorithm)).expect("it has one");
        let key = folder.write("key.pem", pem.as_bytes());
        let der = match algorithm {
            KeyAlgorithm::EcdsaP256 => {
                p256::ecdsa::Signature::from_slice(&made).expect("64 bytes").to_der().as_bytes().to_vec()
            }
            KeyAlgorithm::EcdsaSecp256k1 => {
                k256::ecdsa::Signature::from_slice(&made).expect("64 bytes").to_der().as_bytes().to_vec()
            }
            _ => made,
        };
        let signature = folder.write("signature", &der);
        let mut command = Command::new("openssl");
        command.args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"]).arg(&key);
        command.arg("-in").arg(&message).arg("-sigfile").arg(&signature);
        match algorithm {
            KeyAlgorithm::Ed25519 => {}
            KeyAlgorithm::RsaPssSha256 => {
                command.args([
                    "-digest",
                    "sha256",
                    "-pkeyopt",
                    "rsa_padding_mode:pss",
                    "-pkeyopt",
                    "rsa_pss_saltlen:32",
                ]);
            }
            _ => {
                command.args(["-digest", "sha256"]);
            }
        }
        let output = command.output().expect("openssl runs");
        assert!(output.status.success(), "{algorithm} {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn ssh_keygen_verifies_signatures() {
    if !installed("ssh-keygen") {
        return;
    }
    for (secret, algorithm) in [
        (testdata!("ed25519.openssh.pem"), KeyAlgorithm::Ed25519),
        (testdata!("ed25519.pkcs8.pem"), KeyAlgorithm::Ed25519),
        (testdata!("p256.openssh.pem"), KeyAlgorithm::EcdsaP256),
        (testdata!("rsa_2048.openssh.pem"), KeyAlgorithm::RsaPkcs1Sha256),
        (testdata!("rsa_3072.pkcs8.pem"), KeyAlgorithm::RsaPkcs1Sha256),
    ] {
        let policy = policy(KeyPurpose::Ssh, algorithm);
        let message = b"tree 29ff16c9c14e2652b22f8b78bb08a5a07930c147\n".as_slice();
        let call = SignCall::Ssh { namespace: "git".into(), message: message.into() };
        let template = SignTemplate { ssh_namespaces: vec!["git".into()], ..SignTemplate::default() };
        let Ok(UseResult::SshSignature { armored }) = sign(secret, policy, &call, Some(&template), true, NOW) else {
            panic!("{algorithm} signs");
        };
        assert!(armored.starts_with("-----BEGIN SSH SIGNATURE-----\n"));
        let folder = Folder::new("ssh");
        let line = public_key(secret, policy).expect("it has one");
        let signers = folder.write("signers", format!("member@example.com {line}\n").as_bytes());
        let signature = folder.write("signature", armored.as_bytes());
        let verify = |namespace: &str, message: &[u8]| {
            let mut child = Command::new("ssh-keygen")
                .args(["-Y", "verify", "-I", "member@example.com", "-n", namespace, "-f"])
                .arg(&signers)
                .arg("-s")
                .arg(&signature)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("ssh-keygen starts");
            child.stdin.take().expect("piped").write_all(message).expect("ssh-keygen reads");
            child.wait().expect("ssh-keygen ends").success()
        };
        assert!(verify("git", message), "{algorithm}");
        assert!(!verify("file", message), "{algorithm}: the namespace is signed");
        assert!(!verify("git", b"another"), "{algorithm}: the message is signed");
    }
}

#[test]
fn tokens_carry_what_the_template_says() {
    let template = SignTemplate {
        jwt: Some(JwtTemplate {
            fixed: json!({"iss": "vault"}).as_object().cloned().unwrap_or_default(),
            free: vec!["sub".into()],
            lifetime_secs_max: 300,
        }),
        ..SignTemplate::default()
    };
    for (secret, algorithm, alg) in [
        (testdata!("ed25519.pkcs8.pem"), KeyAlgorithm::Ed25519, "EdDSA"),
        (testdata!("p256.pkcs8.pem"), KeyAlgorithm::EcdsaP256, "ES256"),
        (testdata!("rsa_2048.pkcs8.pem"), KeyAlgorithm::RsaPkcs1Sha256, "RS256"),
    ] {
        let claims = json!({"sub": "agent"}).as_object().cloned().unwrap_or_default();
        let call = SignCall::Jwt { claims, key_id: Some("k1".into()) };
        let policy = policy(KeyPurpose::Jwt, algorithm);
        let Ok(UseResult::Jwt { token }) = sign(secret, policy, &call, Some(&template), true, NOW) else {
            panic!("{algorithm} signs");
        };
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else { panic!("three parts") };
        let json = |part: &str| serde_json::from_slice::<Value>(&from_base64url(part)).expect("JSON");
        assert_eq!(json(header), json!({"alg": alg, "typ": "JWT", "kid": "k1"}));
        assert_eq!(json(claims), json!({"iss": "vault", "sub": "agent", "iat": 1_700_000_000, "exp": 1_700_000_300}));
        let signed = format!("{header}.{claims}");
        assert_eq!(from_base64url(signature), sign_message(secret, algorithm, signed.as_bytes()));
        let refused = sign(secret, policy, &call, None, true, NOW);
        assert_eq!(refused.map_err(|refusal| refusal.code), Err(Code::LimitOperation));
    }
}

#[test]
fn a_call_for_another_purpose_never_reaches_the_key() {
    let secret = testdata!("ed25519.pkcs8.pem");
    let call = SignCall::Message { message: b"eyJhbGciOiJFZERTQSJ9.e30".as_slice().into() };
    for purpose in [KeyPurpose::Jwt, KeyPurpose::Ssh] {
        let refused = sign(secret, policy(purpose, KeyAlgorithm::Ed25519), &call, None, false, NOW);
        assert_eq!(refused.map_err(|refusal| refusal.code), Err(Code::MessageRefused));
    }
    let crossed = sign(secret, policy(KeyPurpose::Message, KeyAlgorithm::EcdsaP256), &call, None, false, NOW);
    assert_eq!(crossed.map_err(|refusal| refusal.code), Err(Code::KeyMalformed));
}

fn installed(program: &str) -> bool {
    Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// A folder for one test, removed with it.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("strongroom-sign-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = Path::new(&self.0).join(name);
        std::fs::write(&path, bytes).expect("the temporary folder can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
