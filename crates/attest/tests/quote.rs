//! A quote that a software TPM made, taken apart and put together in every wrong way. `crates/e2e/tests/tpm.rs` asks a TPM for new
//! ones.

use strongroom_attest::{Claims, NotAllowed, Policy, QuoteRefused};
use strongroom_wire::Bytes;
use strongroom_wire::sealing::Evidence;

const QUOTE: &[u8] = include_bytes!("data/quote.json");
const BINDING: [u8; 32] = [5; 32];
const PROGRAM: [u8; 32] = [0x11; 32];

#[test]
fn a_quote_that_was_made_elsewhere_holds() {
    let policy = Policy::of(QUOTE, &BINDING).expect("it holds");
    assert_eq!(policy.appraise(QUOTE, &BINDING), Ok(Claims::Tpm { program: PROGRAM }));
    assert_eq!(policy.appraise(QUOTE, &[0; 32]), Err(QuoteRefused::Binding.into()));
}

#[test]
fn what_is_cut_or_changed_anywhere_is_refused() {
    let policy = Policy::of(QUOTE, &BINDING).expect("it holds");
    for cut in 0..QUOTE.len() {
        assert!(policy.appraise(&QUOTE[..cut], &BINDING).is_err(), "cut at {cut}");
    }
    let Ok(Evidence::Tpm(quote)) = Evidence::decode(QUOTE) else { panic!("a quote") };
    for at in 0..quote.signature.0.len() {
        let mut changed = quote.clone();
        changed.signature.0[at] ^= 0x80;
        let changed = Evidence::Tpm(changed).encode();
        assert_eq!(policy.appraise(&changed, &BINDING), Err(QuoteRefused::Signature.into()), "byte {at}");
    }
    let mut other = quote.clone();
    other.key.0[64] ^= 1;
    assert_eq!(policy.appraise(&Evidence::Tpm(other).encode(), &BINDING), Err(NotAllowed::OtherMachine));
    // A register more than was quoted, and the program's own among those of the boot.
    for register in [1, 23] {
        let mut more = quote.clone();
        more.boot.insert(register, Bytes::from([0; 32]));
        let more = Evidence::Tpm(more).encode();
        assert_eq!(policy.appraise(&more, &BINDING), Err(QuoteRefused::Registers.into()), "{register}");
    }
    let long = vec![b' '; strongroom_wire::limits::EVIDENCE_BYTES_MAX + 1];
    assert_eq!(policy.appraise(&long, &BINDING), Err(NotAllowed::Malformed));
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
