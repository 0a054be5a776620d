//! The member's own uses of a secret, each result compared with a computation of its own.
#![forbid(unsafe_code)]

use std::fs;
use std::time::UNIX_EPOCH;

use data_encoding::{BASE32, BASE64URL_NOPAD};
use ed25519_dalek::pkcs8::DecodePublicKey as _;
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha1::Sha1;
use strongroom_e2e::Place;

/// RFC 6238 with SHA-1, 30 seconds and 6 digits.
fn code_at(secret: &str, step: u64) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(&BASE32.decode(secret.as_bytes()).expect("base32")).expect("a key");
    mac.update(&step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash[19] & 15);
    let number = u32::from_be_bytes([hash[at] & 0x7f, hash[at + 1], hash[at + 2], hash[at + 3]]);
    format!("{:06}", number % 1_000_000)
}

#[allow(clippy::disallowed_methods, reason = "what is compared is a code of this moment")]
fn step() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / 30
}

fn public_key(place: &Place, item: &str) -> VerifyingKey {
    let shown = place.run(["item", "show", item]).json();
    let fields = shown["fields"].as_array().expect("fields");
    let key = fields.iter().find(|field| field["name"] == "public_key").expect("a public key");
    VerifyingKey::from_public_key_pem(key["value"].as_str().expect("it is shown")).expect("PEM")
}

#[test]
fn one_time_codes_are_those_of_the_standard() {
    let place = Place::with_vault();
    let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    assert_eq!(code_at(secret, 1), "287082", "RFC 6238, appendix B, the last six digits");
    place.say("item add totp Bank --stdin").stdin(format!("otpauth://totp/Bank:me?secret={secret}&issuer=Bank")).ok();
    let before = step();
    let code = place.say("totp Bank").ok();
    assert!((before..=step()).any(|step| code_at(secret, step) == code.trim()), "{code}");
    place.say("guest add helper").ok();
    place.say("grant add --guest helper Bank totp --mode always --uses 1").ok();
    let code = place.say("use --guest helper totp Bank").ok();
    assert!((before..=step()).any(|step| code_at(secret, step) == code.trim()), "{code}");
    place.say("use --guest helper totp Bank").refused(1, "limit_uses");
}

#[test]
fn signatures_hold_under_the_public_key() {
    let place = Place::with_vault();
    place.run(["item", "add", "signing_key", "Release", "--generate"]).ok();
    place.run(["item", "add", "signing_key", "Tokens", "--purpose", "jwt", "--generate"]).ok();
    place.run(["item", "add", "ssh_key", "Git", "--generate"]).ok();
    let key = public_key(&place, "Release");
    let text = place.say("sign Release").stdin("release: 1.0").ok();
    let signature = Signature::from_slice(&BASE64URL_NOPAD.decode(text.trim().as_bytes()).unwrap()).unwrap();
    key.verify(b"release: 1.0", &signature).unwrap();
    assert!(key.verify(b"release: 1.1", &signature).is_err());

    let token = place.say("sign Tokens --jwt {\"sub\":\"me\"} --key-id k1").ok();
    let (signed, signature) = token.trim().rsplit_once('.').unwrap();
    let signature = Signature::from_slice(&BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap()).unwrap();
    public_key(&place, "Tokens").verify(signed.as_bytes(), &signature).unwrap();
    let claims = BASE64URL_NOPAD.decode(signed.split('.').nth(1).unwrap().as_bytes()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert!(claims["sub"] == "me" && claims["exp"].as_u64() > claims["iat"].as_u64(), "{claims}");
    let ssh = place.say("sign Git --namespace git").stdin("commit").ok();
    assert!(ssh.starts_with("-----BEGIN SSH SIGNATURE-----"));

    // A guest signs what the grant describes, and nothing else.
    place.say("guest add deploy").ok();
    place.say("grant add --guest deploy Release sign --prefix release: --message 64 --mode always").ok();
    let text = place.say("use --guest deploy sign Release").stdin("release: 2.0").ok();
    let signature = Signature::from_slice(&BASE64URL_NOPAD.decode(text.trim().as_bytes()).unwrap()).unwrap();
    key.verify(b"release: 2.0", &signature).unwrap();
    place.say("use --guest deploy sign Release").stdin("pay: 1000").refused(1, "limit_operation");
    place.say("use --guest deploy sign Release").stdin(format!("release: {:80}", 1)).refused(1, "limit_bytes");
}

#[test]
fn what_is_encrypted_comes_back_under_its_context_alone() {
    let place = Place::with_vault();
    place.run(["item", "add", "crypt_key", "Archive", "--generate"]).ok();
    place.run(["item", "add", "crypt_key", "Seal", "--purpose", "mac", "--generate"]).ok();
    place.run(["item", "add", "crypt_key", "Root", "--purpose", "derive", "--generate"]).ok();
    let plain = "a plain text, äöü\n";
    let cipher = place.say("crypt Archive encrypt --context a").stdin(plain).ok();
    assert_eq!(place.say("crypt Archive decrypt --context a").stdin(cipher.clone()).ok(), plain);
    place.say("crypt Archive decrypt --context b").stdin(cipher.clone()).refused(1, "ciphertext_refused");
    place.run(["item", "edit", "Archive", "--generate"]).ok();
    let newer = place.say("crypt Archive rewrap --context a").stdin(cipher.clone()).ok();
    assert_ne!(newer, cipher);
    for cipher in [cipher, newer] {
        assert_eq!(place.say("crypt Archive decrypt --context a").stdin(cipher).ok(), plain);
    }
    let tag = place.say("crypt Seal mac").stdin("message").ok();
    let checked = |message: &str| place.run(["crypt", "Seal", "verify-mac", "--tag", tag.trim()]).stdin(message);
    checked("message").ok();
    checked("massage").refused(1, "tag_refused");
    let reference = place.say("crypt Root derive --context invoices --purpose mac").ok();
    assert!(reference.starts_with("vault://"), "{reference}");
    let derived = place.run(["crypt", reference.trim(), "mac"]).stdin("message").ok();
    assert_ne!(derived, tag);
    place.say("crypt Archive mac").stdin("x").refused(1, "policy_missing");
}

#[test]
fn a_child_gets_the_values_and_nobody_else() {
    let place = Place::with_vault();
    place.say("item add login Database --stdin --set username=app").stdin("database-password-77aa01").ok();
    let out = place.path("child");
    let script = format!("printf '%s %s' \"$P\" \"$U\" > {}; cat >> {}; exit 9", out.display(), out.display());
    let ran =
        place.say("exec --env P=Database --env U=Database/username --stdin Database -- sh -c").args([script]).run();
    assert_eq!((ran.code, ran.stdout.as_slice(), ran.stderr.as_slice()), (Some(9), &b""[..], &b""[..]), "{ran}");
    assert_eq!(fs::read_to_string(out).unwrap(), "database-password-77aa01 appdatabase-password-77aa01");
    place.say("exec --env P=Nothing -- true").refused(1, "item_unknown");
    place.say("exec --env P=Database -- /nonexistent/program").refused(8, "exec_failed");
    // No clipboard here: said before the value leaves the vault.
    place.say("copy Database").refused(8, "no_clipboard");
    let log = place.say("audit list --count 100").ok();
    assert!(log.contains("exec") && !log.contains("clipboard"), "{log}");
}
