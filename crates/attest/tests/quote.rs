//! A quote that a software TPM made, taken apart and put together in every wrong way. `crates/e2e/tests/tpm.rs` asks a TPM for new
//! ones.

use strongroom_attest::{Claims, NotAllowed, Policy, QuoteRefused};
use strongroom_nitro::document::NitroRefused;
use strongroom_wire::Bytes;
use strongroom_wire::sealing::Evidence;

const QUOTE: &[u8] = include_bytes!("data/quote.json");
const BINDING: [u8; 32] = [5; 32];
const PROGRAM: [u8; 32] = [0x11; 32];
/// A quote says nothing of the time.
const NOW: u64 = 0;

#[test]
fn a_quote_that_was_made_elsewhere_holds() {
    let policy = Policy::of(QUOTE, &BINDING).expect("it holds");
    assert_eq!(policy.appraise(QUOTE, &BINDING, NOW), Ok(Claims::Tpm { program: PROGRAM }));
    assert_eq!(policy.appraise(QUOTE, &[0; 32], NOW), Err(QuoteRefused::Binding.into()));
}

#[test]
fn what_is_cut_or_changed_anywhere_is_refused() {
    let policy = Policy::of(QUOTE, &BINDING).expect("it holds");
    for cut in 0..QUOTE.len() {
        assert!(policy.appraise(&QUOTE[..cut], &BINDING, NOW).is_err(), "cut at {cut}");
    }
    let Ok(Evidence::Tpm(quote)) = Evidence::decode(QUOTE) else { panic!("a quote") };
    for at in 0..quote.signature.0.len() {
        let mut changed = quote.clone();
        changed.signature.0[at] ^= 0x80;
        let changed = Evidence::Tpm(changed).encode();
        assert_eq!(policy.appraise(&changed, &BINDING, NOW), Err(QuoteRefused::Signature.into()), "byte {at}");
    }
    let mut other = quote.clone();
    other.key.0[64] ^= 1;
    assert_eq!(policy.appraise(&Evidence::Tpm(other).encode(), &BINDING, NOW), Err(NotAllowed::OtherMachine));
    // A register more than was quoted, and the program's own among those of the boot.
    for register in [1, 23] {
        let mut more = quote.clone();
        more.boot.insert(register, Bytes::from([0; 32]));
        let more = Evidence::Tpm(more).encode();
        assert_eq!(policy.appraise(&more, &BINDING, NOW), Err(QuoteRefused::Registers.into()), "{register}");
    }
    let long = vec![b' '; strongroom_wire::limits::EVIDENCE_BYTES_MAX + 1];
    assert_eq!(policy.appraise(&long, &BINDING, NOW), Err(NotAllowed::Malformed));
}

#[test]
fn a_policy_is_whole_or_refused() {
    let policy = Policy::of(QUOTE, &BINDING).expect("it holds");
    let text = String::from_utf8(policy.encode()).expect("JSON");
    assert_eq!(Policy::decode(text.as_bytes()), Ok(policy.clone()));
    assert_eq!(Policy::decode(br#"{"none":{}}"#), Ok(Policy::None {}));
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let changes = [
        ("/tpm/key", serde_json::json!("AA")),
        ("/tpm/programs", serde_json::json!([])),
        ("/tpm/programs", serde_json::json!(["AA"])),
        ("/tpm/boot", serde_json::json!([])),
        ("/tpm/boot", serde_json::json!([{}])),
        ("/tpm/boot/0/7", serde_json::json!("AA")),
        ("/tpm", serde_json::json!({})),
    ];
    for (pointer, to) in changes {
        let mut changed = value.clone();
        *changed.pointer_mut(pointer).expect("there") = to;
        assert!(Policy::decode(changed.to_string().as_bytes()).is_err(), "{pointer}");
    }
    let mut full = policy;
    let mut added = 1;
    while full.allow_program([added; 32]).is_ok() && added < 100 {
        added += 1;
    }
    assert!(added < 100, "a policy names a bounded number of programs");
}

#[test]
fn an_enclave_is_appraised_against_a_policy_and_never_trusted_at_first_sight() {
    // A real document, of a real enclave, from January 2025. It answers no hello of ours.
    let document = include_bytes!("../../nitro/tests/data/attestation.cose").as_slice();
    let evidence = Evidence::Nitro { document: document.into() }.encode();
    let then = 1_736_179_625_000;
    let policy = Policy::decode(
        serde_json::json!({ "nitro": { "pcrs": { "0": [Bytes::from([7; 48])] } } }).to_string().as_bytes(),
    );
    let policy = policy.expect("a policy");
    let refused = |now| policy.appraise(&evidence, &BINDING, now).expect_err("refused");
    assert_eq!(refused(then), NotAllowed::Nitro(NitroRefused::Nonce));
    assert!(matches!(refused(1_800_000_000_000), NotAllowed::Nitro(NitroRefused::Expired)));
    assert_eq!(policy.appraise(QUOTE, &BINDING, then), Err(NotAllowed::OtherKind));
    assert_eq!(policy.appraise(&[], &BINDING, then), Err(NotAllowed::Missing));
    assert_eq!(Policy::of(&evidence, &BINDING), Err(NotAllowed::PolicyNeeded));
    for whole in
        [r#"{"nitro":{"pcrs":{}}}"#, r#"{"nitro":{"pcrs":{"4":["AA"]}}}"#, r#"{"nitro":{"pcrs":{"0":["AA"]}}}"#]
    {
        assert!(Policy::decode(whole.as_bytes()).is_err(), "{whole}");
    }
}
