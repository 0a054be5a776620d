//! Known answers: `vectors/<format>/v1/*.json` at the top of the repository.
//!
//! [`run`] does what a case asks, from its input alone; the tests hold the result against the case's output or its reason for
//! refusal. [`cases`](cases::all) makes the files; `STRONGROOM_BLESS=1 cargo test -p strongroom-crypto bless_vectors` writes
//! them. `vectors/check/` computes the same answers from the document, in Python.

use std::{collections::BTreeSet, fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use crate::{
    Id,
    channel::{
        Channel, ChannelCertificate, ChannelError, ChannelIdentity, DeviceHandshake, Joiner, Pin, Role, VaultHandshake,
    },
    digest::leaf_hash,
    factor::{FactorKind, FactorRoot, KdfParams, PassphraseError, Phrase, PhraseError, RecoveryPsk, passkey_prf_input},
    kem::{DeviceKem, PerStartKey, SlotSecret},
    locked::SecretBytes,
    lthash::StateSum,
    seal::{
        Credential, FieldPlace, HeaderError, ItemPlace, MailPlace, OpenError, Other, RecoveryBlob, TailError, TailMac,
        append_tail, newest_header, open_chain, open_field, open_hand_over, open_mail, open_outcome, open_share_copy,
        read_tail, seal_chain, seal_credential, seal_field, seal_hand_over, seal_header, seal_mail, seal_outcome,
        seal_recovery_blob, seal_share_copy, unwrap_item_key, wrap_item_key,
    },
    secret::{ChainKey, CredentialKey, HostShare, ItemKey, Key32, StateKey, VaultKey},
    sign::{Act, Fingerprint, PublicKey, Request, SigningKey, Statement},
    slot::{SlotPlace, open_vault_key, seal_vault_key},
    test_rng::FixedRng,
    tuple::{Tuple, pad, unpad},
};

mod cases;

#[test]
fn every_case_gives_its_answer() {
    let mut count = 0;
    for (path, case) in on_disk() {
        let (format, input) = (case["format"].as_str().unwrap(), &case["input"]);
        let found = match run(format, input) {
            Ok(output) => {
                assert_eq!(output, case["output"], "{path}");
                "ok".to_owned()
            }
            Err(reason) => format!("refuse: {reason}"),
        };
        assert_eq!(found, case["expect"].as_str().unwrap(), "{path}");
        count += 1;
    }
    assert_eq!(count, cases::all().len(), "a case was removed, or one was added and not written");
}

#[test]
fn bless_vectors() {
    let cases = cases::all();
    if std::env::var_os("STRONGROOM_BLESS").is_some() {
        for (path, case) in &cases {
            let file = folder().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, serde_json::to_string_pretty(case).unwrap() + "\n").unwrap();
        }
    }
    for (path, case) in cases {
        let text = fs::read_to_string(folder().join(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), case, "{path}");
    }
}

/// What a case asks for: its output, or the reason it is refused.
fn run(format: &str, input: &Value) -> Result<Value, String> {
    let input = In(input);
    match format {
        "tuple" => Ok(json!({ "bytes": hex(input.tuple().as_bytes()) })),
        "pad" => run_pad(input),
        "passphrase" => run_passphrase(input),
        "phrase" => run_phrase(input),
        "factor" => run_factor(input),
        "slot" => run_slot(input),
        "keys" => Ok(run_keys(input)),
        "item-key" => run_item_key(input),
        "field" => run_field(input),
        "header" => run_header(input),
        "header-choice" => run_header_choice(input),
        "tail" => run_tail(input),
        "credential" => run_credential(input),
        "chain" => run_chain(input),
        "mail" => run_mail(input),
        "share-copy" => run_share_copy(input),
        "outcome" => run_outcome(input),
        "hand-over" => run_hand_over(input),
        "recovery-blob" => run_recovery_blob(input),
        "statement" => run_statement(input),
        "fingerprint" => run_fingerprint(input),
        "act" => Ok(json!({ "act": hex(input.act().as_bytes()) })),
        "request" => Ok(run_request(input)),
        "channel" => run_channel(input),
        "leaf" => Ok(run_leaf(input)),
        "checkpoint" => run_checkpoint(input),
        "state-root" => Ok(run_state_root(input)),
        other => panic!("unknown format {other}"),
    }
}

fn run_pad(input: In<'_>) -> Result<Value, String> {
    if let Some(padded) = input.maybe("padded") {
        let content = unpad(&padded).map_err(|_| "padding")?;
        return Ok(json!({ "content": hex(content) }));
    }
    let padded = pad(&input.bytes("content"), usize::try_from(input.u64("min")).unwrap());
    assert_eq!(unpad(padded.expose()).unwrap(), input.bytes("content"));
    Ok(json!({ "padded": hex(padded.expose()) }))
}

fn run_passphrase(input: In<'_>) -> Result<Value, String> {
    let params = KdfParams {
        salt: input.array("salt"),
        memory_kib: input.u32("memory_kib"),
        passes: input.u32("passes"),
        lanes: input.u32("lanes"),
    };
    let root = FactorRoot::from_passphrase(input.text("passphrase"), &params).map_err(|e| match e {
        PassphraseError::Length => "length",
        PassphraseError::Params(_) => "params",
        PassphraseError::Memory => panic!("not enough memory for the tests"),
    })?;
    Ok(root_output(&root, &input.array("vault")))
}

fn run_phrase(input: In<'_>) -> Result<Value, String> {
    let phrase = Phrase::parse(input.text("typed")).map_err(|e| match e {
        PhraseError::Length => "length".to_owned(),
        PhraseError::WordCount { count } => format!("count {count}"),
        PhraseError::UnknownWord { number } => format!("word {number}"),
        PhraseError::Checksum => "checksum".to_owned(),
    })?;
    let mut output = root_output(&FactorRoot::from_phrase(&phrase).unwrap(), &input.array("vault"));
    output["words"] = json!(*phrase.expose_words());
    Ok(output)
}

fn run_factor(input: In<'_>) -> Result<Value, String> {
    let (vault, secret) = (input.array("vault"), input.array("secret"));
    let root = match FactorKind::parse(input.text("kind")).ok_or("kind")? {
        FactorKind::Passkey => FactorRoot::from_passkey(&secret, &vault),
        FactorKind::Unattended => FactorRoot::from_unattended(&secret, &vault),
        FactorKind::Guardian => FactorRoot::from_guardian(&secret, &vault),
        FactorKind::Passphrase | FactorKind::Recovery => panic!("these have formats of their own"),
    };
    let mut output = root_output(&root, &vault);
    if root.kind() == FactorKind::Passkey {
        output["prf_input"] = json!(hex(&passkey_prf_input(&vault)));
    }
    Ok(output)
}

fn root_output(root: &FactorRoot, vault: &Id) -> Value {
    let secret = root.slot_secret(vault);
    let mut output = json!({
        "root": hex(root.expose_for_vectors()),
        "kem_seed": hex(secret.expose_seed()),
        "kem_public": hex(secret.public().as_bytes()),
        "sign_public": hex(root.signer(vault).public().as_bytes()),
    });
    if let Some(psk) = root.recovery_psk(vault) {
        output["psk"] = json!(hex(psk.expose()));
    }
    output
}

fn run_slot(input: In<'_>) -> Result<Value, String> {
    let (vault, slot) = (input.array("vault"), input.array("slot"));
    let kind = FactorKind::parse(input.text("kind")).ok_or("kind")?;
    let place = SlotPlace { vault: &vault, slot: &slot, kind, generation: input.u32("generation") };
    let secret = SlotSecret::from_seed(&input.array("kem_seed"));
    let open = |sealed: &[u8]| open_vault_key(&secret, &place, sealed).map_err(|_| "tag".to_owned());
    if let Some(sealed) = input.maybe("sealed") {
        return Ok(json!({ "vault_key": hex(open(&sealed)?.0.expose()) }));
    }
    let key = VaultKey(input.key("vault_key"));
    let sealed = seal_vault_key(&secret.public(), &place, &key, &mut input.rng());
    assert_eq!(open(&sealed)?.0.expose(), key.0.expose());
    Ok(json!({ "sealed": hex(&sealed) }))
}

fn run_keys(input: In<'_>) -> Value {
    let (vault, device, generation) = (input.array("vault"), input.array("device"), input.u32("generation"));
    let key = VaultKey(input.key("vault_key"));
    let share = HostShare(input.key("share"));
    json!({
        "database": *key.derive_database_key(&vault, generation).expose_hex(),
        "state": hex(key.derive_state_key(&vault, generation).0.expose()),
        "chain": hex(key.derive_chain_key(&vault, &device).0.expose()),
        "header": hex(share.derive_header_key(&vault).0.expose()),
        "log_tail": hex(share.derive_tail_key(&vault).0.expose()),
    })
}

fn run_item_key(input: In<'_>) -> Result<Value, String> {
    let (vault, item) = (input.array("vault"), input.array("item"));
    let place = ItemPlace { vault: &vault, item: &item, generation: input.u32("generation") };
    let key = VaultKey(input.key("vault_key"));
    if let Some(wrapped) = input.maybe("wrapped") {
        let item_key = unwrap_item_key(&key, &place, &wrapped).map_err(open_reason)?;
        return Ok(json!({ "item_key": hex(item_key.0.expose()) }));
    }
    let item_key = ItemKey(input.key("item_key"));
    let wrapped = wrap_item_key(&key, &place, &item_key, &mut input.rng());
    assert_eq!(unwrap_item_key(&key, &place, &wrapped).unwrap().0.expose(), item_key.0.expose());
    Ok(json!({ "wrapped": hex(&wrapped) }))
}

fn run_field(input: In<'_>) -> Result<Value, String> {
    let (vault, item) = (input.array("vault"), input.array("item"));
    let place = FieldPlace { vault: &vault, item: &item, field: input.text("field"), version: input.u64("version") };
    let key = ItemKey(input.key("item_key"));
    let seal = |value: &[u8]| seal_field(&key, &place, value, &mut input.rng());
    input.seal_or_open("value", seal, |sealed| open_field(&key, &place, sealed))
}

fn run_header(input: In<'_>) -> Result<Value, String> {
    let vault = input.array("vault");
    let key = HostShare(input.key("share")).derive_header_key(&vault);
    let (open_part, sealed_part) = (input.text("open_part"), input.text("sealed_part"));
    let file = seal_header(
        &key,
        &vault,
        input.u64("sequence"),
        open_part.as_bytes(),
        sealed_part.as_bytes(),
        &mut input.rng(),
    );
    Ok(json!({ "file": hex(&file.unwrap()) }))
}

fn run_header_choice(input: In<'_>) -> Result<Value, String> {
    let vault = input.array("vault");
    let key = HostShare(input.key("share")).derive_header_key(&vault);
    let newest = newest_header(&key, &vault, input.maybe("a").as_deref(), input.maybe("b").as_deref())
        .map_err(|(a, b)| format!("{}, {}", header_reason(a), header_reason(b)))?;
    let other = match newest.other {
        Other::Intact => "intact",
        Other::OutOfStep => "out of step",
        Other::Refused(error) => header_reason(error),
    };
    Ok(json!({
        "sequence": newest.sequence,
        "open_part": str::from_utf8(&newest.open_part).unwrap(),
        "sealed_part": str::from_utf8(newest.sealed_part.expose()).unwrap(),
        "other": other,
    }))
}

fn run_tail(input: In<'_>) -> Result<Value, String> {
    let vault = input.array("vault");
    let key = HostShare(input.key("share")).derive_tail_key(&vault);
    let (first, previous) = (input.u64("first"), input.maybe("previous"));
    let previous: Option<TailMac> = previous.map(|mac| mac.try_into().unwrap());
    if let Some(bytes) = input.maybe("tail") {
        let tail = read_tail(&key, &vault, first, previous.as_ref(), &bytes).map_err(|e| match e {
            TailError::Truncated { index, .. } => format!("truncated {index}"),
            TailError::Mac { index } => format!("mac {index}"),
        })?;
        return Ok(json!({ "entries": tail.entries.iter().map(|entry| hex(entry)).collect::<Vec<_>>() }));
    }
    let (mut bytes, mut last) = (Vec::new(), previous);
    for (index, entry) in (first..).zip(input.list("entries")) {
        last = Some(append_tail(&key, &vault, index, last.as_ref(), &unhex(entry), &mut bytes));
    }
    assert_eq!(read_tail(&key, &vault, first, previous.as_ref(), &bytes).unwrap().last_mac, last);
    Ok(json!({ "tail": hex(&bytes), "last_mac": last.map(|mac| hex(&mac)) }))
}

fn run_credential(input: In<'_>) -> Result<Value, String> {
    let vault = input.array("vault");
    let key = CredentialKey(input.key("credential_key"));
    let open = |blob: &[u8]| Credential::parse(blob)?.open(&key, &vault);
    let seal = |json: &[u8]| {
        seal_credential(&key, &vault, &input.array("device"), input.u64("number"), json, &mut input.rng())
    };
    input.seal_or_open("json", seal, open)
}

fn run_chain(input: In<'_>) -> Result<Value, String> {
    let (vault, device) = (input.array("vault"), input.array("device"));
    let key = ChainKey(input.key("chain_key"));
    let seal = |json: &[u8]| seal_chain(&key, &vault, &device, json, &mut input.rng());
    input.seal_or_open("json", seal, |file| open_chain(&key, &vault, &device, file))
}

fn run_mail(input: In<'_>) -> Result<Value, String> {
    let (vault, device) = (input.array("vault"), input.array("device"));
    let place = MailPlace { vault: &vault, device: &device, number: input.u64("number") };
    let kem = DeviceKem::from_seed(&input.array("kem_seed"));
    let seal = |blob: &[u8]| seal_mail(&kem.public(), &place, blob, &mut input.rng());
    input.seal_or_open("blob", seal, |mail| open_mail(&kem, &place, mail))
}

fn run_share_copy(input: In<'_>) -> Result<Value, String> {
    let (vault, device) = (input.array("vault"), input.array("device"));
    let kem = DeviceKem::from_seed(&input.array("kem_seed"));
    let seal = |share: &[u8]| {
        let share = HostShare::from_bytes(share.try_into().unwrap());
        seal_share_copy(&kem.public(), &vault, &device, &share, &mut input.rng())
    };
    let open =
        |copy: &[u8]| open_share_copy(&kem, &vault, &device, copy).map(|share| SecretBytes::copy_of(share.expose()));
    input.seal_or_open("share", seal, open)
}

fn run_outcome(input: In<'_>) -> Result<Value, String> {
    let (vault, device, request) = (input.array("vault"), input.array("device"), input.array("request"));
    let kem = DeviceKem::from_seed(&input.array("kem_seed"));
    let seal = |json: &[u8]| seal_outcome(&kem.public(), &vault, &device, &request, json, &mut input.rng());
    input.seal_or_open("json", seal, |sealed| open_outcome(&kem, &vault, &device, &request, sealed))
}

fn run_hand_over(input: In<'_>) -> Result<Value, String> {
    let (vault, generation) = (input.array("vault"), input.u32("generation"));
    let start = input.start_key();
    let seal = |key: &[u8]| {
        let key = VaultKey(Key32::copy_of(key.try_into().unwrap()));
        seal_hand_over(&start.public(), &vault, generation, &key, &mut input.rng())
    };
    let open = |sealed: &[u8]| {
        open_hand_over(&start, &vault, generation, sealed).map(|key| SecretBytes::copy_of(key.0.expose()))
    };
    input.seal_or_open("vault_key", seal, open)
}

fn run_recovery_blob(input: In<'_>) -> Result<Value, String> {
    let secret = SlotSecret::from_seed(&input.array("kem_seed"));
    let psk = RecoveryPsk::from_bytes(&input.array("psk"));
    if let Some(blob) = input.maybe("sealed") {
        let identity = input.public_key("identity_public")?;
        let parsed = RecoveryBlob::parse(&blob).map_err(open_reason)?;
        let verified = parsed.verify(&identity).map_err(|_| "signature")?;
        let json = verified.open(&secret, &psk).map_err(open_reason)?;
        return Ok(json!({
            "vault": hex(verified.vault()), "sequence": verified.sequence(), "json": hex(json.expose()),
        }));
    }
    let identity = SigningKey::from_seed(&input.array("identity_seed"));
    let blob = seal_recovery_blob(
        &secret.public(),
        &psk,
        &input.array("vault"),
        input.u64("sequence"),
        &input.bytes("json"),
        &identity,
        &mut input.rng(),
    );
    Ok(json!({ "sealed": hex(&blob), "identity_public": hex(identity.public().as_bytes()) }))
}

fn run_statement(input: In<'_>) -> Result<Value, String> {
    let vault: Id = input.maybe("vault").map_or([0; 16], |vault| vault.try_into().unwrap());
    let body = input.maybe("body").unwrap_or_default();
    let subject =
        input.maybe("subject").map(|key| PublicKey::from_bytes(&key).map_err(|_| "public key")).transpose()?;
    let old = input.maybe("old").map(|key| PublicKey::from_bytes(&key).map_err(|_| "public key")).transpose()?;
    let number = || input.u32("number");
    let nonce = input.maybe("nonce").map_or([0; 16], |nonce| nonce.try_into().unwrap());
    let act = input.maybe("challenge").map(|_| input.act());
    let statement = match input.text("kind") {
        "roster" => Statement::RosterEntry { vault: &vault, body: &body },
        "channel-identity" => {
            Statement::ChannelCertificate { vault: &vault, channel_key: subject.as_ref().unwrap(), epoch: number() }
        }
        "audit-identity" => {
            Statement::AuditCertificate { vault: &vault, audit_key: subject.as_ref().unwrap(), epoch: number() }
        }
        "manifest-identity" => {
            Statement::ManifestCertificate { vault: &vault, manifest_key: subject.as_ref().unwrap(), epoch: number() }
        }
        "manifest" => Statement::Manifest { vault: &vault, body: &body },
        "succession" => Statement::Succession {
            vault: &vault,
            number: number(),
            old: old.as_ref().unwrap(),
            new: subject.as_ref().unwrap(),
        },
        "revocation" => Statement::Revocation { vault: &vault, body: &body },
        "control" => Statement::Control {
            vault: &vault,
            sequence: input.u64("sequence"),
            time: input.u64("time"),
            nonce: &nonce,
            command: &body,
        },
        "fresh" => Statement::Fresh { act: act.as_ref().unwrap() },
        other => panic!("unknown statement {other}"),
    };
    if let Some(signature) = input.maybe("signature") {
        let public = input.public_key("public")?;
        public.verify(&statement, &signature).map_err(|_| "signature")?;
        return Ok(json!({}));
    }
    let key = SigningKey::from_seed(&input.array("seed"));
    let signature = key.sign(&statement);
    assert!(key.public().verify(&statement, &signature).is_ok());
    Ok(json!({ "public": hex(key.public().as_bytes()), "signature": hex(&signature) }))
}

fn run_fingerprint(input: In<'_>) -> Result<Value, String> {
    if let Some(typed) = input.0.get("typed") {
        let fingerprint = Fingerprint::parse(typed.as_str().unwrap()).map_err(|_| "fingerprint")?;
        return Ok(json!({ "bytes": hex(fingerprint.as_bytes()) }));
    }
    let fingerprint = Fingerprint::of(&input.array("vault"), &input.public_key("identity")?);
    Ok(json!({ "bytes": hex(fingerprint.as_bytes()), "text": fingerprint.to_string() }))
}

fn run_request(input: In<'_>) -> Value {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> =
        input.list("headers").iter().map(|pair| (text(&pair[0]).into(), text(&pair[1]).into())).collect();
    let headers: Vec<(&[u8], &[u8])> = pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    let body_hash = input.maybe("body_hash").map(|hash| <[u8; 32]>::try_from(hash).unwrap());
    let request = Request {
        vault: &input.array("vault"),
        guest: &input.array("guest"),
        reference: input.text("reference"),
        field_version: input.u64("field_version"),
        consumer: input.text("consumer"),
        method: input.text("method"),
        url: input.text("url"),
        headers: &headers,
        body_hash: body_hash.as_ref(),
        policy_version: input.u64("policy_version"),
        nonce: &input.array("nonce"),
    };
    json!({ "hash": hex(&request.hash()) })
}

/// The whole exchange, both ends. `replace` puts other bytes in place of a message on its way.
fn run_channel(input: In<'_>) -> Result<Value, String> {
    let vault: Id = input.array("vault");
    let identity = SigningKey::from_seed(&input.array("identity_seed"));
    let key = SigningKey::from_seed(&input.array("channel_seed"));
    let certificate = input.0.get("epoch").map(|_| {
        let epoch = input.u32("epoch");
        let statement = Statement::ChannelCertificate { vault: &vault, channel_key: &key.public(), epoch };
        ChannelCertificate { signature: identity.sign(&statement), epoch }
    });
    let pinned = identity.public();
    let pin = match input.0.get("pin") {
        Some(epoch_min) => {
            Pin::Identity { key: &pinned, epoch_min: u32::try_from(epoch_min.as_u64().unwrap()).unwrap() }
        }
        None => Pin::Founding,
    };
    let ours = ChannelIdentity { key, certificate };
    let start = input.start_key();
    let joiner = SigningKey::from_seed(&input.array("joiner_seed"));
    let known = input.maybe("roster_key").map_or(Some(joiner.public()), |key| PublicKey::from_bytes(&key).ok());
    let (role, id) = (role(input.text("role")), input.array("id"));
    let me = Joiner { role, id: &id, key: &joiner };
    let replaced = |name: &str, original: Vec<u8>| input.0["replace"].get(name).map_or(original, unhex);

    let (device, hello1) = DeviceHandshake::start(&vault, &mut input.rng_named("device_randomness"));
    let hello1 = replaced("hello1", hello1);
    let mut rng = input.rng_named("vault_randomness");
    let answered = VaultHandshake::answer(&hello1, &vault, &ours, &start, &input.bytes("evidence"), &mut rng);
    // A hello that is refused draws nothing.
    rng.0.clear();
    let (waiting, hello2) = answered.map_err(channel_reason)?;
    let hello2 = replaced("hello2", hello2);
    let offer = device.read(&hello2, &pin).map_err(channel_reason)?;
    let binding = hex(offer.evidence_binding());
    let (mut device, hello3) = offer.join(&me, 0, &mut input.rng_named("join_randomness"));
    let hello3 = replaced("hello3", hello3);
    let accepted =
        waiting.accept(&hello3, &start, 0, |found, found_id| known.filter(|_| found == role && *found_id == id));
    let (mut vault_end, _) = accepted.map_err(channel_reason)?;
    let channel_id = hex(&device.id().unwrap());

    let mut frames = Vec::new();
    for (at, step) in input.list("steps").iter().enumerate() {
        let step = In(step);
        if step.0.get("rekey").is_some() {
            frames.extend(run_rekey(step, &mut device, &mut vault_end, &ours, &start, &me)?);
            continue;
        }
        let (from, to) = match step.text("from") {
            "device" => (&mut device, &mut vault_end),
            _ => (&mut vault_end, &mut device),
        };
        let kind = u8::try_from(step.u64("type")).unwrap();
        let payload = step.bytes("payload");
        let frame = from.seal_frame(kind, &payload).map_err(channel_reason)?;
        let frame = replaced(&format!("frame {at}"), frame);
        let (opened_kind, opened) = to.open_frame(&frame).map_err(channel_reason)?;
        assert_eq!((opened_kind, &opened[..]), (kind, &payload[..]));
        frames.push(hex(&frame));
    }
    Ok(json!({
        "hello1": hex(&hello1),
        "hello2": hex(&hello2),
        "hello3": hex(&hello3),
        "evidence_binding": binding,
        "channel_id": channel_id,
        "frames": frames,
    }))
}

fn run_rekey(
    step: In<'_>,
    device: &mut Channel,
    vault: &mut Channel,
    identity: &ChannelIdentity,
    start: &PerStartKey,
    me: &Joiner<'_>,
) -> Result<[String; 3], String> {
    let first = device.begin_rekey(&mut step.rng_named("device_randomness")).map_err(channel_reason)?;
    let (_, hello1) = vault.open_frame(&first).map_err(channel_reason)?;
    let second = vault
        .answer_rekey(&hello1, identity, start, &[], &mut step.rng_named("vault_randomness"))
        .map_err(channel_reason)?;
    let (_, hello2) = device.open_frame(&second).map_err(channel_reason)?;
    let third = device.finish_rekey(&hello2, me, 0, &mut step.rng_named("join_randomness")).map_err(channel_reason)?;
    let (_, hello3) = vault.open_frame(&third).map_err(channel_reason)?;
    vault.accept_rekey(&hello3, start, 0).map_err(channel_reason)?;
    Ok([hex(&first), hex(&second), hex(&third)])
}

fn run_leaf(input: In<'_>) -> Value {
    let leaf = [&[1][..], &input.array::<16>("salt"), input.text("event").as_bytes()].concat();
    json!({ "leaf": hex(&leaf), "hash": hex(&leaf_hash(&leaf)) })
}

fn run_checkpoint(input: In<'_>) -> Result<Value, String> {
    if let Some(note) = input.0.get("note") {
        let public = input.public_key("public")?;
        let (body, last) = note.as_str().unwrap().split_once("\n\n").ok_or("malformed")?;
        let (name, signature) =
            last.strip_prefix("\u{2014} ").and_then(|line| line.trim_end().split_once(' ')).ok_or("malformed")?;
        let signature = STANDARD.decode(signature).map_err(|_| "malformed")?;
        let (key_id, signature) = signature.split_at_checked(4).ok_or("malformed")?;
        if key_id != public.note_key_id(name) || body.lines().next() != Some(name) {
            return Err("key".to_owned());
        }
        public.verify_checkpoint_note(format!("{body}\n").as_bytes(), signature).map_err(|_| "signature")?;
        return Ok(json!({}));
    }
    let key = SigningKey::from_seed(&input.array("seed"));
    let vault = data_encoding::BASE32_NOPAD.encode(&input.array::<16>("vault")).to_lowercase();
    let origin = format!("strongroom/vault/{vault}");
    let text = format!("{origin}\n{}\n{}\n", input.u64("size"), STANDARD.encode(input.bytes("root")));
    let line = [&key.public().note_key_id(&origin)[..], &key.sign_checkpoint_note(text.as_bytes())].concat();
    let note = format!("{text}\n\u{2014} {origin} {}\n", STANDARD.encode(line));
    Ok(json!({ "public": hex(key.public().as_bytes()), "note": note }))
}

fn run_state_root(input: In<'_>) -> Value {
    let key = StateKey(input.key("state_key"));
    let mut sum = StateSum::empty();
    for step in input.list("steps") {
        let step = In(step);
        let (table, record_key, record) = (step.text("table"), step.bytes("key"), step.bytes("record"));
        match step.text("do") {
            "add" => sum.add(&key, table, &record_key, &record),
            _ => sum.remove(&key, table, &record_key, &record),
        }
    }
    json!({ "state": hex(&sum.to_bytes()[..]), "root": hex(&sum.root(&key)) })
}

/// The input of a case: bytes are hexadecimal.
#[derive(Clone, Copy)]
struct In<'a>(&'a Value);

impl<'a> In<'a> {
    fn maybe(self, name: &str) -> Option<Vec<u8>> {
        self.0.get(name).filter(|value| !value.is_null()).map(unhex)
    }

    fn bytes(self, name: &str) -> Vec<u8> {
        self.maybe(name).unwrap_or_else(|| panic!("no {name}"))
    }

    fn array<const N: usize>(self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }

    fn key(self, name: &str) -> Key32 {
        Key32::copy_of(&self.array(name))
    }

    fn text(self, name: &str) -> &'a str {
        text(&self.0[name])
    }

    fn u64(self, name: &str) -> u64 {
        // Numbers beyond 2^53 are text, so that every JSON reader takes them.
        match &self.0[name] {
            Value::String(digits) => digits.parse().unwrap(),
            number => number.as_u64().unwrap_or_else(|| panic!("no {name}")),
        }
    }

    fn u32(self, name: &str) -> u32 {
        u32::try_from(self.u64(name)).unwrap()
    }

    fn list(self, name: &str) -> &'a [Value] {
        self.0[name].as_array().unwrap()
    }

    fn rng(self) -> FixedRng {
        self.rng_named("randomness")
    }

    fn rng_named(self, name: &str) -> FixedRng {
        FixedRng(self.bytes(name))
    }

    fn public_key(self, name: &str) -> Result<PublicKey, String> {
        PublicKey::from_bytes(&self.bytes(name)).map_err(|_| "public key".to_owned())
    }

    fn start_key(self) -> PerStartKey {
        PerStartKey::generate(&mut self.rng_named("start_seed"))
    }

    fn act(self) -> Act {
        Act::new(&self.array("vault"), &self.array("device"), &self.array("challenge"), &self.bytes("body"))
    }

    fn tuple(self) -> Tuple {
        let start = self.0.get("purpose").map_or_else(Tuple::of_parts, |purpose| Tuple::labelled(text(purpose)));
        self.list("parts").iter().fold(start, |tuple, part| {
            let part = In(part);
            match part.0.as_object().unwrap().keys().next().unwrap().as_str() {
                "bytes" => tuple.bytes(&part.bytes("bytes")),
                "text" => tuple.text(part.text("text")),
                "u8" => tuple.u8(u8::try_from(part.u64("u8")).unwrap()),
                "u32" => tuple.u32(part.u32("u32")),
                _ => tuple.u64(part.u64("u64")),
            }
        })
    }

    /// Opens `sealed` where the case has it; else seals `name` and opens that again.
    fn seal_or_open(
        self,
        name: &str,
        seal: impl FnOnce(&[u8]) -> Vec<u8>,
        open: impl Fn(&[u8]) -> Result<SecretBytes, OpenError>,
    ) -> Result<Value, String> {
        if let Some(sealed) = self.maybe("sealed") {
            return Ok(json!({ name: hex(open(&sealed).map_err(open_reason)?.expose()) }));
        }
        let plain = self.bytes(name);
        let sealed = seal(&plain);
        assert_eq!(open(&sealed).unwrap().expose(), plain);
        Ok(json!({ "sealed": hex(&sealed) }))
    }
}

fn role(name: &str) -> Role {
    match name {
        "founder" => Role::Founder,
        "device" => Role::Device,
        "guest" => Role::Guest,
        other => panic!("unknown role {other}"),
    }
}

fn open_reason(error: OpenError) -> &'static str {
    match error {
        OpenError::Length => "length",
        OpenError::Version => "version",
        OpenError::Tag => "tag",
        OpenError::Padding => "padding",
    }
}

fn header_reason(error: HeaderError) -> &'static str {
    match error {
        HeaderError::Missing => "missing",
        HeaderError::Malformed => "malformed",
        HeaderError::Version => "version",
        HeaderError::WrongFile => "wrong file",
        HeaderError::Sealed(error) => open_reason(error),
    }
}

fn channel_reason(error: ChannelError) -> &'static str {
    match error {
        ChannelError::Length => "length",
        ChannelError::Version => "version",
        ChannelError::Vault => "vault",
        ChannelError::Suite => "suite",
        ChannelError::Key => "key",
        ChannelError::Certificate => "certificate",
        ChannelError::Epoch => "epoch",
        ChannelError::Founded => "founded",
        ChannelError::Signature => "signature",
        ChannelError::Refused => "refused",
        ChannelError::Counter => "counter",
        ChannelError::Tag => "tag",
        ChannelError::Padding => "padding",
        ChannelError::FrameType(_) => "type",
        other => panic!("no vector asks for {other:?}"),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}"))
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn unhex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(text(value).as_bytes()).unwrap()
}

/// Every file in the folders that are ours.
fn on_disk() -> Vec<(String, Value)> {
    let ours: BTreeSet<PathBuf> =
        cases::all().iter().map(|(path, _)| folder().join(path).parent().unwrap().to_owned()).collect();
    let files = ours.iter().flat_map(|version| fs::read_dir(version).unwrap());
    files
        .map(|file| {
            let path = file.unwrap().path();
            let case = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            (path.display().to_string(), case)
        })
        .collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../vectors")
}
