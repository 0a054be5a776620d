//! The known answers, each with what it is about. Randomness comes from the name of the case, so that adding one changes no
//! other.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{hex, run};
use crate::{
    sign::{PublicKey, SigningKey},
    test_rng::TestRng,
};

/// Every case: its path below `vectors/`, and what the file holds.
pub(super) fn all() -> Vec<(String, Value)> {
    let mut book = Book::default();
    joining(&mut book);
    factors(&mut book);
    slots_and_keys(&mut book);
    headers(&mut book);
    tails(&mut book);
    credentials(&mut book);
    recovery(&mut book);
    statements(&mut book);
    acts(&mut book);
    channels(&mut book);
    log(&mut book);
    book.0
}

#[derive(Default)]
struct Book(Vec<(String, Value)>);

impl Book {
    /// A case that is taken; gives its output.
    fn good(&mut self, format: &str, name: &str, about: &str, input: &Value) -> Value {
        self.good_in(format, format, name, about, input)
    }

    /// A case in a folder of another name than its format's.
    fn good_in(&mut self, folder: &str, format: &str, name: &str, about: &str, input: &Value) -> Value {
        let output = run(format, input).unwrap_or_else(|reason| panic!("{format} {name}: {reason}"));
        let case = json!({ "format": format, "about": about, "input": input, "expect": "ok", "output": output });
        self.put(folder, name, case);
        output
    }

    /// A case that is refused for this reason.
    fn bad(&mut self, format: &str, name: &str, about: &str, input: &Value, reason: &str) {
        self.bad_in(format, format, name, about, input, reason);
    }

    fn bad_in(&mut self, folder: &str, format: &str, name: &str, about: &str, input: &Value, reason: &str) {
        assert_eq!(run(format, input), Err(reason.to_owned()), "{format} {name}");
        let expect = format!("refuse: {reason}");
        self.put(folder, name, json!({ "format": format, "about": about, "input": input, "expect": expect }));
    }

    fn put(&mut self, folder: &str, name: &str, case: Value) {
        let path = format!("{folder}/v1/{name}.json");
        assert!(self.0.iter().all(|(other, _)| *other != path), "two cases for {path}");
        self.0.push((path, case));
    }
}

fn joining(book: &mut Book) {
    let parts = json!([{"bytes": ""}, {"text": "héllo"}, {"u8": 7}, {"u32": 65536}, {"u64": "18446744073709551615"}]);
    book.good("tuple", "labelled", "a label and a part of each kind", &json!({ "purpose": "example", "parts": parts }));
    book.good("tuple", "empty", "no label and no part", &json!({ "parts": [] }));
    book.good("tuple", "split_one_way", "\"ab\" and \"c\"", &json!({ "parts": [{"text": "ab"}, {"text": "c"}] }));
    book.good("tuple", "split_another_way", "\"a\" and \"bc\"", &json!({ "parts": [{"text": "a"}, {"text": "bc"}] }));

    for (len, min) in
        [(0_usize, 0_u64), (0, 64), (5, 0), (60, 64), (61, 64), (252, 256), (253, 256), (1000, 64), (4500, 4096)]
    {
        let input = json!({ "content": "ab".repeat(len), "min": min });
        book.good("pad", &format!("{len}_bytes_to_at_least_{min}"), "content padded to its size class", &input);
    }
    let refused = [
        ("no_length", "", "nothing at all"),
        ("length_cut", "000000", "three bytes of a length"),
        ("length_beyond_end", "000000030102", "a length one more than what follows"),
        ("length_absurd", "ffffffff00", "a length of 4 GiB"),
        ("not_zero", "0000000101000100", "a byte after the content that is not zero"),
    ];
    for (name, padded, about) in refused {
        book.bad("pad", name, about, &json!({ "padded": padded }), "padding");
    }
}

fn factors(book: &mut Book) {
    let mut rng = TestRng::new("vectors: factors");
    let (vault, salt) = (id(&mut rng), id(&mut rng));
    let input = |passphrase: &str, memory_kib: u32, passes: u32, lanes: u32| {
        json!({
            "vault": vault, "passphrase": passphrase, "salt": salt, "memory_kib": memory_kib, "passes": passes, "lanes": lanes,
        })
    };
    let good = |passphrase| input(passphrase, 65_536, 3, 4);
    book.good("passphrase", "ascii", "plain letters", &good("correct horse battery staple"));
    book.good("passphrase", "decomposed", "NFC composes e and U+0301, A and U+030A", &good("cafe\u{301} A\u{30a}"));
    book.good("passphrase", "composed", "the same text typed on another keyboard", &good("caf\u{e9} \u{212b}"));
    book.good("passphrase", "four_passes", "more than the least", &input("correct horse battery staple", 65_537, 4, 4));
    book.bad("passphrase", "too_little_memory", "65,535 KiB", &input("p", 65_535, 3, 4), "params");
    book.bad("passphrase", "too_few_passes", "t = 2", &input("p", 65_536, 2, 4), "params");
    book.bad("passphrase", "other_lanes", "p = 1", &input("p", 65_536, 3, 1), "params");
    book.bad("passphrase", "too_much_memory", "1 GiB and 1 KiB", &input("p", 1_048_577, 3, 4), "params");
    book.bad("passphrase", "too_many_passes", "t = 17", &input("p", 65_536, 17, 4), "params");
    book.bad("passphrase", "empty", "no passphrase", &good(""), "length");
    let (long, decomposed) = ("x".repeat(1025), "e\u{301}".repeat(342));
    book.bad("passphrase", "too_long", "1,025 bytes", &good(&long), "length");
    book.bad("passphrase", "too_long_as_typed", "1,026 bytes, 684 of them after NFC", &good(&decomposed), "length");

    let abandon = |last: &str| format!("{} {last}", vec!["abandon"; 23].join(" "));
    let typed = |typed: String| json!({ "vault": vault, "typed": typed });
    book.good("phrase", "zeros", "all bits zero", &typed(abandon("art")));
    let words = "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol group space point ten exist slush involve unfold";
    book.good("phrase", "words", "a vector of BIP-39", &typed(words.to_owned()));
    let messy = format!("\n {}\t", words.to_uppercase().replace(' ', "  \t"));
    book.good("phrase", "messy", "the same words in capitals with tabs between", &typed(messy));
    book.bad("phrase", "checksum", "a wrong last word", &typed(abandon("zoo")), "checksum");
    book.bad(
        "phrase",
        "unknown_word",
        "word 4 has a letter too many",
        &typed(words.replace("suffer", "sufffer")),
        "word 4",
    );
    book.bad("phrase", "too_few", "23 words", &typed(words.replace(" unfold", "")), "count 23");
    book.bad("phrase", "too_many", "25 words", &typed(format!("{words} zoo")), "count 25");
    book.bad("phrase", "nothing", "no word", &typed(String::new()), "count 0");
    book.bad("phrase", "too_long", "4,097 bytes", &typed(format!("{words:4097}")), "length");
    let kelvin = words.replace("shoot", "\u{212a}angaroo");
    book.bad("phrase", "kelvin_sign", "word 9 begins with a sign whose lower case is k", &typed(kelvin), "word 9");
    let wide = words.replace(' ', "\u{3000}");
    book.good("phrase", "wide_spaces", "white space outside of ASCII", &typed(wide));
    let separator = words.replacen(' ', "\u{1f}", 1);
    book.bad("phrase", "unit_separator", "a control character that is no white space", &typed(separator), "word 1");

    for kind in ["passkey", "unattended", "guardian"] {
        let input = json!({ "vault": vault, "kind": kind, "secret": key(&mut TestRng::new(kind)) });
        book.good("factor", kind, "from 32 secret bytes to the keys of a slot", &input);
    }
}

fn slots_and_keys(book: &mut Book) {
    let mut rng = TestRng::new("vectors: slots");
    let input = json!({
        "vault": id(&mut rng), "slot": id(&mut rng), "kind": "passphrase", "generation": 1, "kem_seed": key(&mut rng),
    });
    let mut sealed = Value::Null;
    for kind in ["passphrase", "passkey", "recovery", "unattended", "guardian"] {
        let mut input = with(&input, &[("vault_key", json!(key(&mut rng))), ("randomness", json!(eseed(&mut rng)))]);
        input["kind"] = json!(kind);
        let output = book.good("slot", kind, "the vault key sealed to a slot", &input);
        if kind == "passphrase" {
            sealed = output["sealed"].clone();
        }
    }
    let open = with(&input, &[("sealed", sealed)]);
    book.good("slot", "open", "opened with the seed", &open);
    refuse_places(book, "slot", &open, "sealed", &["vault", "slot", "kem_seed"], "tag");
    let mut other = open.clone();
    other["generation"] = json!(2);
    book.bad("slot", "other_generation", "bound to another rotation", &other, "tag");
    other = open.clone();
    other["kind"] = json!("passkey");
    book.bad("slot", "other_kind", "bound to another kind", &other, "tag");

    for generation in [1_u32, 2, u32::MAX] {
        let mut rng = TestRng::new("vectors: keys");
        let input = json!({
            "vault_key": key(&mut rng), "share": key(&mut rng), "vault": id(&mut rng), "device": id(&mut rng),
            "generation": generation,
        });
        book.good("keys", &format!("generation_{generation}"), "what derives from the vault key and the share", &input);
    }

    let mut rng = TestRng::new("vectors: item keys");
    let place = json!({ "vault": id(&mut rng), "item": id(&mut rng), "generation": 1, "vault_key": key(&mut rng) });
    let input = with(&place, &[("item_key", json!(key(&mut rng))), ("randomness", json!(nonce(&mut rng)))]);
    let output = book.good("item-key", "wrap", "an item key wrapped by the vault key", &input);
    let open = with(&place, &[("wrapped", output["wrapped"].clone())]);
    book.good("item-key", "unwrap", "and unwrapped", &open);
    refuse_places(book, "item-key", &open, "wrapped", &["vault", "item", "vault_key"], "tag");
    refuse_shape(book, "item-key", &open, "wrapped");
    let mut other = open.clone();
    other["generation"] = json!(2);
    book.bad("item-key", "other_generation", "bound to another rotation", &other, "tag");

    let mut rng = TestRng::new("vectors: fields");
    let place = json!({
        "vault": id(&mut rng), "item": id(&mut rng), "field": "password", "version": 3, "item_key": key(&mut rng),
    });
    let mut sealed = Value::Null;
    for (name, value) in
        [("no_value", &b""[..]), ("short", b"hunter2"), ("61_bytes", &[0x5A; 61]), ("300_bytes", &[0xFE; 300])]
    {
        let input = with(&place, &[("value", json!(hex(value))), ("randomness", json!(nonce(&mut rng)))]);
        let output = book.good("field", name, "the value of a secret field", &input);
        if name == "short" {
            sealed = output["sealed"].clone();
        }
    }
    let input = with(
        &place,
        &[
            ("value", json!("00")),
            ("randomness", json!(nonce(&mut rng))),
            ("field", json!("größe")),
            ("version", json!("18446744073709551615")),
        ],
    );
    book.good("field", "extremes", "a field name in UTF-8 and the highest version", &input);
    let open = with(&place, &[("sealed", sealed)]);
    book.good("field", "open", "opened", &open);
    refuse_places(book, "field", &open, "sealed", &["vault", "item", "item_key"], "tag");
    refuse_shape(book, "field", &open, "sealed");
    let mut other = open.clone();
    other["version"] = json!(2);
    book.bad("field", "other_version", "an older value put back", &other, "tag");
    other = open;
    other["field"] = json!("passwords");
    book.bad("field", "other_field", "moved to another field", &other, "tag");
}

fn headers(book: &mut Book) {
    let mut rng = TestRng::new("vectors: headers");
    let place = json!({ "vault": id(&mut rng), "share": key(&mut rng) });
    let mut file = |book: &mut Book, sequence: u64, sealed: &str| {
        let open = format!("{{\"v\":1,\"vault\":\"\",\"sequence\":{sequence},\"recovery_slots\":[]}}");
        let more = [
            ("sequence", json!(sequence)),
            ("open_part", json!(open)),
            ("sealed_part", json!(sealed)),
            ("randomness", json!(nonce(&mut rng))),
        ];
        let name = format!("sequence_{sequence}");
        book.good("header", &name, "a header file", &with(&place, &more))["file"].as_str().unwrap().to_owned()
    };
    let ten = file(book, 10, "{\"attempts\":0}");
    let eleven = file(book, 11, "{\"attempts\":1}");
    let twelve = file(book, 12, &format!("{{\"attempts\":2,\"notes\":\"{}\"}}", "x".repeat(5000)));
    let choice = |a: Option<&str>, b: Option<&str>| with(&place, &[("a", json!(a)), ("b", json!(b))]);
    let mut good = |name: &str, about: &str, a: Option<&str>, b: Option<&str>| {
        book.good_in("header", "header-choice", name, about, &choice(a, b));
    };
    good("choice_b_newer", "both copies are good", Some(&ten), Some(&eleven));
    good("choice_a_newer", "both copies are good", Some(&twelve), Some(&eleven));
    good("choice_b_missing", "attempts start at their limit", Some(&ten), None);
    good("choice_a_missing", "attempts start at their limit", None, Some(&eleven));
    good("choice_a_copied_over_b", "the older copy laid over the newer one", Some(&ten), Some(&ten));
    good("choice_b_changed", "one bit of the newer copy flipped", Some(&ten), Some(&flip(&eleven, 200)));
    let mut bad = |name: &str, about: &str, a: Option<&str>, b: Option<&str>, reason: &str| {
        book.bad_in("header", "header-choice", name, about, &choice(a, b), reason);
    };
    bad("none", "no file", None, None, "missing, missing");
    bad("swapped", "each copy in the other's file", Some(&eleven), Some(&ten), "wrong file, wrong file");
    bad("open_part_changed", "the open part is bound to the sealed one", Some(&flip(&ten, 20)), None, "tag, missing");
    bad("sequence_changed", "an old header made to look new", Some(&flip(&ten, 10)), None, "tag, missing");
    bad("other_version", "version 2", Some(&ten.replacen("5352484401", "5352484402", 1)), None, "version, missing");
    bad("other_magic", "not a header", Some(&ten.replacen("53524844", "53524845", 1)), None, "malformed, missing");
    bad("cut", "the last byte is missing", Some(&ten[..ten.len() - 2]), None, "malformed, missing");
    bad("left_over", "a byte too many", Some(&format!("{ten}00")), None, "malformed, missing");
    bad("absurd_length", "an open part of 4 GiB", Some(&format!("{}ffffffff", &ten[..26])), None, "malformed, missing");
    let mut other = choice(Some(&ten), None);
    other["share"] = json!(key(&mut TestRng::new("other share")));
    book.bad_in("header", "header-choice", "other_share", "a stolen folder on another host", &other, "tag, missing");
    // Out of step: an old copy of the right parity.
    let eight = run(
        "header",
        &with(
            &place,
            &[
                ("sequence", json!(8)),
                ("open_part", json!("{}")),
                ("sealed_part", json!("{}")),
                ("randomness", json!("00".repeat(24))),
            ],
        ),
    )
    .unwrap();
    let input = choice(eight["file"].as_str(), Some(&eleven));
    book.good_in(
        "header",
        "header-choice",
        "choice_out_of_step",
        "the older copy is older than the one before",
        &input,
    );
}

fn tails(book: &mut Book) {
    let mut rng = TestRng::new("vectors: tails");
    let place = json!({ "vault": id(&mut rng), "share": key(&mut rng), "first": 0 });
    let entries = json!([hex(b"{\"action\":\"unlock\"}"), "", hex(&[7; 100])]);
    let first = book.good("tail", "from_the_start", "three entries", &with(&place, &[("entries", entries)]));
    let later = [("first", json!(3)), ("previous", first["last_mac"].clone())];
    let goes_on = with(&with(&place, &later), &[("entries", json!(["ff"]))]);
    let second = book.good("tail", "goes_on", "index and mac go on after a merge", &goes_on);
    book.good("tail", "empty", "no entry", &with(&place, &[("entries", json!([]))]));
    let whole = first["tail"].as_str().unwrap();
    let read = |tail: &str| with(&place, &[("tail", json!(tail))]);
    book.good("tail", "read", "the three entries read", &read(whole));
    let after_first = &whole[(4 + 19 + 32) * 2..];
    let mut bad =
        |name: &str, about: &str, tail: &str, reason: &str| book.bad("tail", name, about, &read(tail), reason);
    bad("first_removed", "the first entry is gone", after_first, "mac 0");
    bad("entry_changed", "a bit of the first entry flipped", &flip(whole, 8), "mac 0");
    bad("mac_changed", "a bit of the last mac flipped", &flip(whole, whole.len() / 2 - 1), "mac 2");
    bad("cut", "the last byte is missing", &whole[..whole.len() - 2], "truncated 2");
    bad("absurd_length", "an entry of 4 GiB", "ffffffff", "truncated 0");
    bad("too_long", "an entry of 65,537 bytes", &format!("00010001{}", "00".repeat(65_537 + 32)), "truncated 0");
    let replay = with(&with(&place, &later), &[("tail", json!(whole))]);
    book.bad("tail", "replayed", "the tail from before the merge put back", &replay, "mac 3");
    let wrong_start = with(&place, &[("tail", second["tail"].clone())]);
    book.bad("tail", "wrong_start", "a later tail read as the first", &wrong_start, "mac 0");
}

fn credentials(book: &mut Book) {
    let mut rng = TestRng::new("vectors: credentials");
    let (vault, device) = (id(&mut rng), id(&mut rng));
    let place = json!({ "vault": vault, "credential_key": key(&mut rng) });
    let contents = json!({ "identity": "", "critical": [], "backup_keys": [] }).to_string();
    let seal = [
        ("device", json!(device)),
        ("number", json!(7)),
        ("json", json!(hex(contents.as_bytes()))),
        ("randomness", json!(nonce(&mut rng))),
    ];
    let output = book.good("credential", "seal", "blob 7 of a device", &with(&place, &seal));
    let open = with(&place, &[("sealed", output["sealed"].clone())]);
    book.good("credential", "open", "opened", &open);
    refuse_places(book, "credential", &open, "sealed", &["vault", "credential_key"], "tag");
    refuse_shape(book, "credential", &open, "sealed");
    let sealed = output["sealed"].as_str().unwrap();
    let changed = |at| with(&open, &[("sealed", json!(flip(sealed, at)))]);
    book.bad("credential", "other_device", "the device's id changed", &changed(1), "tag");
    book.bad("credential", "other_number", "the number changed", &changed(24), "tag");

    let place = json!({ "vault": vault, "device": device, "chain_key": key(&mut rng) });
    let seal = [("json", json!(hex(b"{\"sequence\":4,\"keys\":[]}"))), ("randomness", json!(nonce(&mut rng)))];
    let output = book.good("chain", "seal", "a chain file", &with(&place, &seal));
    let open = with(&place, &[("sealed", output["sealed"].clone())]);
    book.good("chain", "open", "opened", &open);
    refuse_places(book, "chain", &open, "sealed", &["vault", "device", "chain_key"], "tag");
    refuse_shape(book, "chain", &open, "sealed");

    let kem = json!({ "vault": vault, "device": device, "kem_seed": key(&mut rng) });
    let mut sealed_to = |format: &str, about: &str, place: &Value, name: &str, plain: String, places: &[&str]| {
        let seal = [(name, json!(plain)), ("randomness", json!(eseed(&mut rng)))];
        let output = book.good(format, "seal", about, &with(place, &seal));
        let open = with(place, &[("sealed", output["sealed"].clone())]);
        book.good(format, "open", "opened", &open);
        refuse_places(book, format, &open, "sealed", places, "tag");
        let short = with(place, &[("sealed", json!(&output["sealed"].as_str().unwrap()[..2270]))]);
        book.bad(format, "too_short", "shorter than an encapsulation and a tag", &short, "tag");
    };
    let mail = with(&kem, &[("number", json!(8))]);
    sealed_to(
        "mail",
        "a next blob left for another device",
        &mail,
        "blob",
        "01".repeat(80),
        &["vault", "device", "kem_seed"],
    );
    let share = "5c".repeat(32);
    sealed_to(
        "share-copy",
        "a device's copy of the host share",
        &kem,
        "share",
        share,
        &["vault", "device", "kem_seed"],
    );
    let outcome = with(&kem, &[("request", json!("0e".repeat(16)))]);
    let places = ["vault", "device", "request", "kem_seed"];
    sealed_to("outcome", "the outcome of a request", &outcome, "json", hex(b"{\"status\":200}"), &places);
    let start = json!({ "vault": vault, "generation": 2, "start_seed": key(&mut TestRng::new("start")) });
    let places = ["vault", "start_seed"];
    sealed_to("hand-over", "the vault key for the next process", &start, "vault_key", "c5".repeat(32), &places);
}

fn recovery(book: &mut Book) {
    let mut rng = TestRng::new("vectors: recovery");
    let keys = json!({ "kem_seed": key(&mut rng), "psk": key(&mut rng) });
    let seal = [
        ("vault", json!(id(&mut rng))),
        ("sequence", json!(5)),
        ("json", json!(hex(b"{\"identity\":\"\",\"critical\":[],\"backup_keys\":[]}"))),
        ("identity_seed", json!(key(&mut rng))),
        ("randomness", json!(eseed(&mut rng))),
    ];
    let output = book.good("recovery-blob", "seal", "sealed in PSK mode and signed", &with(&keys, &seal));
    let sealed = output["sealed"].as_str().unwrap();
    let public = ("identity_public", output["identity_public"].clone());
    let open = with(&keys, &[("sealed", json!(sealed)), public.clone()]);
    book.good("recovery-blob", "open", "verified and opened", &open);
    let changed = |sealed: String| with(&keys, &[("sealed", json!(sealed)), public.clone()]);
    let mut bad =
        |name: &str, about: &str, input: &Value, reason: &str| book.bad("recovery-blob", name, about, input, reason);
    bad("version", "version 2", &changed(format!("02{}", &sealed[2..])), "version");
    bad("empty", "nothing", &changed(String::new()), "length");
    bad("too_short", "no room for a seal", &changed(sealed[..2 * (1 + 16 + 8 + 1135 + 64)].to_owned()), "length");
    bad("sequence_changed", "made to look newer", &changed(flip(sealed, 24)), "signature");
    bad("vault_changed", "of another vault", &changed(flip(sealed, 1)), "signature");
    bad("sealed_changed", "a bit of the ciphertext flipped", &changed(flip(sealed, 1300)), "signature");
    bad("left_over", "a byte too many", &changed(format!("{sealed}00")), "signature");
    let mut other = open.clone();
    other["identity_public"] = json!(hex(SigningKey::from_seed(&[9; 32]).public().as_bytes()));
    bad("other_identity", "signed by another identity", &other, "signature");
    other = open.clone();
    other["psk"] = json!("00".repeat(32));
    bad("other_psk", "the key pair without its shared key", &other, "tag");
    other = open.clone();
    other["kem_seed"] = json!("00".repeat(32));
    bad("other_key", "another phrase", &other, "tag");
    other = open;
    other["identity_public"] = json!(SMALL_ORDER);
    bad("weak_identity", "an identity of small order", &other, "public key");
}

fn statements(book: &mut Book) {
    let mut rng = TestRng::new("vectors: statements");
    let (vault, seed) = (id(&mut rng), key(&mut rng));
    let subject = public(&mut rng);
    let own = hex(SigningKey::from_seed(&unhex32(&seed)).public().as_bytes());
    let body = hex(b"{\"kind\":\"device\",\"epoch\":1}");
    let challenge = key(&mut rng);
    let kinds = [
        ("roster", json!({ "body": body })),
        ("channel-identity", json!({ "subject": subject, "number": 3 })),
        ("audit-identity", json!({ "subject": subject, "number": 3 })),
        ("manifest-identity", json!({ "subject": subject, "number": 1 })),
        ("manifest", json!({ "body": body })),
        ("succession", json!({ "old": own, "subject": subject, "number": 1 })),
        ("revocation", json!({ "body": body })),
        ("control", json!({ "sequence": 12, "time": 1_790_000_000_u64, "nonce": id(&mut rng), "body": body })),
        ("fresh", json!({ "device": id(&mut rng), "challenge": challenge, "body": body })),
    ];
    let mut signatures = BTreeMap::new();
    for (kind, parts) in &kinds {
        let mut statement = with(parts, &[("kind", json!(kind)), ("vault", json!(vault))]);
        let output = book.good_in(
            kind,
            "statement",
            "sign",
            "a statement and its signature",
            &with(&statement, &[("seed", json!(seed))]),
        );
        let signed = [("public", output["public"].clone()), ("signature", output["signature"].clone())];
        let verify = with(&statement, &signed);
        book.good_in(kind, "statement", "verify", "verified", &verify);
        let signature = output["signature"].as_str().unwrap();
        let mut bad = |name: &str, about: &str, input: &Value, reason: &str| {
            book.bad_in(kind, "statement", name, about, input, reason);
        };
        bad(
            "signature_changed",
            "a bit of the signature flipped",
            &with(&verify, &[("signature", json!(flip(signature, 40)))]),
            "signature",
        );
        bad("signature_cut", "63 bytes", &with(&verify, &[("signature", json!(&signature[..126]))]), "signature");
        bad("other_key", "signed by another key", &with(&verify, &[("public", json!(subject))]), "signature");
        let scalar = with(&verify, &[("signature", json!(add_order(signature)))]);
        bad("large_scalar", "S plus the group order", &scalar, "signature");
        statement["vault"] = json!(flip(&vault, 3));
        bad("other_vault", "of another vault", &with(&statement, &signed), "signature");
        signatures.insert(*kind, (output, verify));
    }
    // The signature of one statement over the same parts under another label.
    let (roster, verify_roster) = &signatures["roster"];
    let (channel, _) = &signatures["channel-identity"];
    let (_, audit) = &signatures["audit-identity"];
    let (_, manifest) = &signatures["manifest"];
    for (kind, name, about, claimed, made) in [
        ("manifest", "roster_as_manifest", "a roster entry passed off as a manifest", manifest, roster),
        ("audit-identity", "channel_as_audit", "a channel certificate passed off as an audit key's", audit, channel),
    ] {
        let moved = with(claimed, &[("signature", made["signature"].clone())]);
        book.bad_in(kind, "statement", name, about, &moved, "signature");
    }
    let mut bad = |name: &str, about: &str, input: &Value, reason: &str| {
        book.bad_in("audit-identity", "statement", name, about, input, reason);
    };
    bad("other_epoch", "of another epoch", &with(audit, &[("number", json!(4))]), "signature");
    bad("other_subject", "of another audit key", &with(audit, &[("subject", json!(own))]), "signature");
    bad("weak_subject", "an audit key of small order", &with(audit, &[("subject", json!(SMALL_ORDER))]), "public key");
    for (name, about, bytes) in [
        ("small_order", "a key of order 8, for which anyone can sign", SMALL_ORDER),
        ("neutral", "the neutral point", "0100000000000000000000000000000000000000000000000000000000000000"),
        ("not_canonical", "y = p + 1", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        ("not_a_point", "no x for this y", "0200000000000000000000000000000000000000000000000000000000000000"),
    ] {
        let weak = with(verify_roster, &[("public", json!(bytes))]);
        book.bad_in("roster", "statement", &format!("key_{name}"), about, &weak, "public key");
    }
    // R of small order: with S = k·a the plain equation holds, and strict verification refuses it all the same.
    let small_r = with(verify_roster, &[("signature", json!(format!("{}{}", SMALL_ORDER, "00".repeat(32))))]);
    book.bad_in("roster", "statement", "small_order_r", "R of small order", &small_r, "signature");

    let input = json!({ "vault": vault, "identity": own });
    let text = book.good("fingerprint", "of_identity", "bytes and text", &input)["text"].as_str().unwrap().to_owned();
    let typed = |text: String| json!({ "typed": text });
    book.good(
        "fingerprint",
        "typed",
        "as a person types it",
        &typed(format!(" {} ", text.to_lowercase().replace('-', " "))),
    );
    book.bad("fingerprint", "short", "one character is missing", &typed(text[1..].to_owned()), "fingerprint");
    book.bad(
        "fingerprint",
        "not_base32",
        "a character that base32 has not",
        &typed(text.replacen(&text[..1], "1", 1)),
        "fingerprint",
    );
    book.bad("fingerprint", "empty", "nothing", &typed(String::new()), "fingerprint");
    book.bad("fingerprint", "too_long", "257 bytes", &typed(format!("{text:257}")), "fingerprint");
    let dotless = text.replacen('I', "\u{131}", 1);
    assert_ne!(dotless, text, "the fingerprint has an I to replace");
    book.bad("fingerprint", "dotless_i", "a letter whose upper case is I", &typed(dotless), "fingerprint");
}

fn acts(book: &mut Book) {
    let mut rng = TestRng::new("vectors: acts");
    let (vault, guest) = (id(&mut rng), id(&mut rng));
    let act = json!({
        "vault": vault, "device": id(&mut rng), "challenge": key(&mut rng), "body": hex(b"{\"act\":\"item.delete\"}"),
    });
    book.good_in("fresh", "act", "act", "what a challenge binds", &act);
    let request = json!({
        "vault": vault, "guest": guest, "reference": "vault://aaaaaaaaaaaaaaaaaaaaaaaaaa/token", "field_version": 2,
        "consumer": "http", "method": "POST", "url": "https://api.example.com/v1/things?a=b",
        "headers": [["content-type", "application/json"], ["x-note", ""]],
        "body_hash": key(&mut rng), "policy_version": 4, "nonce": id(&mut rng),
    });
    book.good("request", "http", "a request with a body that is shown", &request);
    let hidden = with(&request, &[("body_hash", Value::Null), ("headers", json!([]))]);
    book.good("request", "http_body_not_shown", "no headers, and a body that is not shown", &hidden);
    let sign = [
        ("consumer", json!("sign")),
        ("method", json!("ssh")),
        ("url", json!("")),
        ("body_hash", Value::Null),
        ("headers", json!([["namespace", "git"], ["algorithm", "ed25519"]])),
    ];
    book.good("request", "sign", "another consumer: operation and parameters", &with(&request, &sign));
    let moved = with(&request, &[("headers", json!([["content-typ", "eapplication/json"], ["x-note", ""]]))]);
    book.good("request", "header_moved", "a letter moved from name to value gives another hash", &moved);
}

fn channels(book: &mut Book) {
    let mut rng = TestRng::new("vectors: channels");
    let steps = json!([
        { "from": "vault", "type": 0, "payload": "" },
        { "from": "device", "type": 1, "payload": hex(b"{\"id\":1}") },
        { "from": "device", "type": 1, "payload": "00".repeat(253) },
        { "from": "vault", "type": 2, "payload": "ff".repeat(1500) },
    ]);
    let device = json!({
        "vault": id(&mut rng), "identity_seed": key(&mut rng), "channel_seed": key(&mut rng), "epoch": 3, "pin": 3,
        "start_seed": key(&mut rng), "evidence": hex(b"evidence"), "role": "device", "id": id(&mut rng),
        "joiner_seed": key(&mut rng), "device_randomness": hex(&rng.bytes::<64>()),
        "vault_randomness": hex(&rng.bytes::<96>()), "join_randomness": eseed(&mut rng), "steps": steps,
    });
    let output = book.good("channel", "device", "a device's channel, and four frames", &device);
    let guest = with(&device, &[("role", json!("guest")), ("evidence", json!("")), ("pin", json!(0))]);
    book.good("channel", "guest", "a guest's channel, without evidence", &guest);
    let mut founder = with(&device, &[("role", json!("founder"))]);
    for name in ["epoch", "pin"] {
        founder.as_object_mut().unwrap().remove(name);
    }
    book.good("channel", "founder", "the first device of a vault without an identity", &founder);
    let rekey = json!([
        { "from": "vault", "type": 0, "payload": "" },
        { "from": "device", "type": 1, "payload": "aa" },
        {
            "rekey": true, "device_randomness": hex(&rng.bytes::<64>()), "vault_randomness": hex(&rng.bytes::<96>()),
            "join_randomness": eseed(&mut rng),
        },
        { "from": "vault", "type": 0, "payload": "bb" },
        { "from": "device", "type": 1, "payload": "cc" },
    ]);
    book.good("channel", "rekey", "the exchange repeated inside the channel", &with(&device, &[("steps", rekey)]));

    let hello = |name: &str| output[name].as_str().unwrap().to_owned();
    let (hello1, hello2, hello3) = (hello("hello1"), hello("hello2"), hello("hello3"));
    let mut bad = |name: &str, about: &str, message: &str, bytes: String, reason: &str| {
        let input = with(&device, &[("replace", json!({ message: bytes }))]);
        book.bad("channel", name, about, &input, reason);
    };
    let hello1_suites = hello1.len() - 8;
    bad("hello1_empty", "nothing", "hello1", String::new(), "length");
    bad("hello1_version", "version 2", "hello1", format!("02{}", &hello1[2..]), "version");
    bad("hello1_cut", "the last byte is missing", "hello1", hello1[..hello1.len() - 2].to_owned(), "length");
    bad("hello1_left_over", "a byte too many", "hello1", format!("{hello1}00"), "length");
    bad("hello1_other_vault", "for another vault", "hello1", flip(&hello1, 1), "vault");
    bad("hello1_no_suite", "an empty list of suites", "hello1", format!("{}0000", &hello1[..hello1_suites]), "length");
    let many = format!("{}0011{}", &hello1[..hello1_suites], "0001".repeat(17));
    bad("hello1_many_suites", "17 suites", "hello1", many, "length");
    let foreign = format!("{}00010002", &hello1[..hello1_suites]);
    bad("hello1_foreign_suite", "only a suite that we have not", "hello1", foreign, "suite");
    let wild = format!("{}ffffff{}", &hello1[..98], &hello1[104..]);
    bad("hello1_key", "a key that is not reduced", "hello1", wild, "key");

    bad("hello2_empty", "nothing", "hello2", String::new(), "length");
    bad("hello2_version", "version 2", "hello2", format!("02{}", &hello2[2..]), "version");
    bad("hello2_cut", "the last byte is missing", "hello2", hello2[..hello2.len() - 2].to_owned(), "length");
    bad("hello2_left_over", "a byte too many", "hello2", format!("{hello2}00"), "length");
    let long = format!("{}ffffffff{}", &hello2[..2471 * 2], &hello2[2475 * 2..]);
    bad("hello2_absurd_evidence", "evidence of 4 GiB", "hello2", long, "length");
    bad("hello2_suite", "a suite that was not offered", "hello2", flip(&hello2, 33), "suite");
    let weak = format!("{}{SMALL_ORDER}{}", &hello2[..2371 * 2], &hello2[2403 * 2..]);
    bad("hello2_weak_key", "a channel key of small order", "hello2", weak, "key");
    bad("hello2_certificate", "the certificate changed", "hello2", flip(&hello2, 2410), "certificate");
    bad("hello2_epoch", "the epoch changed", "hello2", flip(&hello2, 2470), "certificate");
    bad("hello2_evidence", "the evidence changed", "hello2", flip(&hello2, 2475), "signature");
    bad("hello2_enc", "the encapsulation changed", "hello2", flip(&hello2, 1300), "signature");
    bad("hello2_start_key", "the per-start key changed", "hello2", flip(&hello2, 1200), "signature");
    bad("hello2_nonce", "the nonce changed", "hello2", flip(&hello2, 1), "signature");
    bad("hello2_signature", "the signature changed", "hello2", flip(&hello2, 2490), "signature");

    bad("hello3_cut", "the last byte is missing", "hello3", hello3[..hello3.len() - 2].to_owned(), "length");
    bad("hello3_left_over", "a byte too many", "hello3", format!("{hello3}00"), "length");
    bad("hello3_enc", "the encapsulation changed", "hello3", flip(&hello3, 10), "refused");
    bad("hello3_join", "the sealed join changed", "hello3", flip(&hello3, 1121), "refused");
    bad("hello3_tag", "its tag changed", "hello3", flip(&hello3, 1248), "refused");

    let frame = |at: usize| output["frames"][at].as_str().unwrap().to_owned();
    bad("frame_counter", "a counter that is not the next", "frame 1", flip(&frame(1), 7), "counter");
    bad("frame_repeated", "the frame before it once more", "frame 2", frame(1), "counter");
    bad("frame_skipped", "a frame is missing", "frame 1", frame(2), "counter");
    bad("frame_turned_round", "a frame sent back to its sender", "frame 1", frame(0), "tag");
    bad("frame_tag", "its tag changed", "frame 1", flip(&frame(1), 280), "tag");
    bad("frame_sealed", "a bit of the ciphertext flipped", "frame 1", flip(&frame(1), 8), "tag");
    bad("frame_short", "shorter than any frame", "frame 1", frame(1)[..560].to_owned(), "length");
    bad("frame_cut", "the last byte is missing", "frame 2", frame(2)[..frame(2).len() - 2].to_owned(), "tag");

    let mut bad = |name: &str, about: &str, more: &[(&str, Value)], reason: &str| {
        book.bad("channel", name, about, &with(&device, more), reason);
    };
    bad("pinned_epoch", "a certificate older than one seen before", &[("pin", json!(4))], "epoch");
    let other = hex(SigningKey::from_seed(&[9; 32]).public().as_bytes());
    bad("roster_other_key", "not the key of the roster", &[("roster_key", json!(other))], "refused");
    bad("roster_unknown", "an id that is not in the roster", &[("roster_key", json!("00".repeat(31)))], "refused");
    bad("founder_of_existing", "a founder where a vault exists", &[("role", json!("founder"))], "refused");
    let mut founding = device.clone();
    founding.as_object_mut().unwrap().remove("pin");
    book.bad("channel", "founding_existing", "a device that came to found finds a vault", &founding, "founded");
    let mut unfounded = device.clone();
    unfounded.as_object_mut().unwrap().remove("epoch");
    book.bad("channel", "pinned_but_unfounded", "no certificate where one is pinned", &unfounded, "certificate");
}

fn log(book: &mut Book) {
    let mut rng = TestRng::new("vectors: log");
    let leaf = json!({ "salt": id(&mut rng), "event": "{\"sequence\":0,\"action\":\"unlock\"}" });
    book.good("leaf", "event", "a leaf and its hash", &leaf);
    let root = key(&mut rng);
    let seed = key(&mut rng);
    let note = json!({ "vault": id(&mut rng), "seed": seed, "size": 1_000_000, "root": root });
    let output = book.good("checkpoint", "sign", "a signed note", &note);
    let text = output["note"].as_str().unwrap();
    let read = |note: String, public: &Value| json!({ "note": note, "public": public });
    book.good("checkpoint", "verify", "verified", &read(text.to_owned(), &output["public"]));
    let mut bad =
        |name: &str, about: &str, input: &Value, reason: &str| book.bad("checkpoint", name, about, input, reason);
    bad("size_changed", "another tree size", &read(text.replace("1000000", "1000001"), &output["public"]), "signature");
    bad("other_key", "signed by another key", &read(text.to_owned(), &json!(public(&mut rng))), "key");
    bad("no_blank_line", "no signature line", &read(text.replace("\n\n", "\n"), &output["public"]), "malformed");
    let cut = text.trim_end().to_owned();
    bad(
        "signature_cut",
        "a signature that is not base64",
        &read(cut[..cut.len() - 1].to_owned(), &output["public"]),
        "malformed",
    );

    let state_key = key(&mut rng);
    let step = |operation: &str, table: &str, key: &str, record: &[u8]| json!({ "do": operation, "table": table, "key": key, "record": hex(record) });
    let (one, two, three) = (
        step("add", "items", "01", b"one"),
        step("add", "items", "02", b"two"),
        step("add", "grants", "01", &[3; 3000]),
    );
    let mut state = |name: &str, about: &str, steps: Value| {
        book.good("state-root", name, about, &json!({ "state_key": state_key, "steps": steps }));
    };
    state("empty", "no record", json!([]));
    state("three", "three records", json!([one, two, three]));
    state("three_in_another_order", "the same root", json!([three, one, two]));
    let gone = step("remove", "items", "02", b"two");
    state("removed", "one of them removed", json!([one, two, three, gone]));
    state("never_added", "lanes wrap below zero", json!([gone]));
}

/// The same case moved: other values for what its seal is bound to, and a changed bit of it.
fn refuse_places(book: &mut Book, format: &str, open: &Value, sealed: &str, places: &[&str], reason: &str) {
    for place in places {
        let mut other = open.clone();
        other[*place] = json!(flip(other[*place].as_str().unwrap(), 5));
        let about = format!("opened with another {}", place.replace('_', " "));
        book.bad(format, &format!("other_{place}"), &about, &other, reason);
    }
    let bytes = open[sealed].as_str().unwrap();
    for (name, about, bytes) in [
        ("flipped_first", "a bit near the front flipped", flip(bytes, bytes.len() / 4)),
        ("flipped_last", "a bit of the tag flipped", flip(bytes, bytes.len() / 2 - 1)),
        ("cut", "the last byte is missing", bytes[..bytes.len() - 2].to_owned()),
        ("left_over", "a byte too many", format!("{bytes}00")),
    ] {
        book.bad(format, name, about, &with(open, &[(sealed, json!(bytes))]), reason);
    }
}

/// The same case with a version and lengths that sealed bytes cannot have.
fn refuse_shape(book: &mut Book, format: &str, open: &Value, sealed: &str) {
    let bytes = open[sealed].as_str().unwrap();
    let changed = |bytes: &str| with(open, &[(sealed, json!(bytes))]);
    book.bad(format, "version", "version 2", &changed(&format!("02{}", &bytes[2..])), "version");
    book.bad(format, "empty", "nothing", &changed(""), "length");
    book.bad(format, "too_short", "shorter than a nonce and a tag", &changed(&bytes[..2 * 40]), "length");
}

fn with(base: &Value, more: &[(&str, Value)]) -> Value {
    let mut all: Map<String, Value> = base.as_object().unwrap().clone();
    all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Value::Object(all)
}

/// The hexadecimal text with the lowest bit of one byte flipped.
fn flip(text: &str, byte: usize) -> String {
    let mut bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
    bytes[byte] ^= 1;
    hex(&bytes)
}

/// A signature whose scalar is larger by the order of the group.
fn add_order(signature: &str) -> String {
    let mut bytes = data_encoding::HEXLOWER.decode(signature.as_bytes()).unwrap();
    let order = unhex32("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0_u16;
    for (byte, add) in bytes[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    hex(&bytes)
}

fn unhex32(text: &str) -> [u8; 32] {
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
}

fn id(rng: &mut TestRng) -> String {
    hex(&rng.bytes::<16>())
}

fn key(rng: &mut TestRng) -> String {
    hex(&rng.bytes::<32>())
}

fn nonce(rng: &mut TestRng) -> String {
    hex(&rng.bytes::<24>())
}

/// What an encapsulation draws: 32 bytes for ML-KEM, then 32 for X25519.
fn eseed(rng: &mut TestRng) -> String {
    hex(&rng.bytes::<64>())
}

fn public(rng: &mut TestRng) -> String {
    let public: PublicKey = SigningKey::from_seed(&rng.bytes()).public();
    hex(public.as_bytes())
}

/// A point of order 8.
const SMALL_ORDER: &str = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
