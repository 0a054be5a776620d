"""Each format of docs/cryptography.md but the channel: from a case's input to its output, or a refusal."""

import base64
import re
import unicodedata

import blake3
from argon2.low_level import Type, hash_secret_raw
from mnemonic import Mnemonic

import ed25519
import xwing
from notation import (
    Reader,
    Refused,
    check,
    derive,
    hmac_sha256,
    label,
    lp,
    open_,
    pad,
    seal,
    sha256,
    tuple_,
    u8,
    u32,
    u64,
    unpad,
)

MIB = 1 << 20
WHITE_SPACE = "[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"


class Input:
    """The input of a case; bytes are hexadecimal, large numbers text."""

    def __init__(self, fields):
        self.fields = fields

    def __contains__(self, name):
        return self.fields.get(name) is not None

    def __getitem__(self, name):
        return bytes.fromhex(self.fields[name])

    def get(self, name):
        return self[name] if name in self else None

    def text(self, name):
        return self.fields[name]

    def number(self, name):
        return int(self.fields[name])


# Section 1


def tuple_case(i):
    parts = [label(i.text("purpose"))] if "purpose" in i else []
    for part in i.text("parts"):
        ((kind, value),) = part.items()
        width = {"u8": 1, "u32": 4, "u64": 8}.get(kind)
        parts.append(
            int(value).to_bytes(width, "big") if width else value if kind == "text" else bytes.fromhex(value)
        )
    return {"bytes": tuple_(*parts)}


def pad_case(i):
    if "padded" in i:
        return {"content": unpad(i["padded"])}
    padded = pad(i["content"], i.number("min"))
    assert unpad(padded) == i["content"]
    return {"padded": padded}


# Section 2


def argon2id(password, salt, memory_kib, passes, lanes):
    return hash_secret_raw(password, salt, passes, memory_kib, lanes, 32, Type.ID, version=0x13)


def slot_keys(root, vault, with_psk):
    kem_seed = derive(root, "slot-kem", vault)
    sign_seed = derive(root, "slot-sign", vault)
    output = {
        "root": root,
        "kem_seed": kem_seed,
        "kem_public": xwing.public_of(kem_seed),
        "sign_public": ed25519.public_of(sign_seed),
    }
    if with_psk:
        output["psk"] = derive(root, "recovery-psk", vault)
    return output


def passphrase(i):
    memory, passes, lanes = i.number("memory_kib"), i.number("passes"), i.number("lanes")
    check(65536 <= memory <= 1 << 20 and 3 <= passes <= 16 and lanes == 4, "params")
    typed = i.text("passphrase")
    normalised = unicodedata.normalize("NFC", typed).encode()
    check(len(typed.encode()) <= 1024 and 1 <= len(normalised) <= 1024, "length")
    return slot_keys(argon2id(normalised, i["salt"], memory, passes, lanes), i["vault"], False)


def lower(text):
    """ASCII letters alone: the Kelvin sign is no k."""
    return text.encode().lower().decode()


def split(text):
    """At Unicode's White_Space, which is not what str.split takes for white space."""
    return [word for word in re.split(WHITE_SPACE, text) if word]


def phrase(i):
    check(len(i.text("typed").encode()) <= 4096, "length")
    words = split(lower(i.text("typed")))
    english = Mnemonic("english")
    for number, word in enumerate(words, 1):
        check(word in english.wordlist, f"word {number}")
    check(len(words) == 24, f"count {len(words)}")
    joined = " ".join(words)
    check(english.check(joined), "checksum")
    root = argon2id(joined.encode(), b"strongroom/v1/rp", 65536, 3, 4)
    return slot_keys(root, i["vault"], True) | {"words": joined}


def factor(i):
    kind, vault = i.text("kind"), i["vault"]
    root = derive(i["secret"], kind + "-root", vault)
    output = slot_keys(root, vault, kind == "guardian")
    if kind == "passkey":
        output["prf_input"] = tuple_(label("passkey-prf"), vault)
    return output


def hpke_case(i, info, seed, name):
    """Opens `sealed` where the case has it, else seals what is called `name` and opens that."""
    if "sealed" in i:
        return {name: xwing.hpke_open(seed, info, i["sealed"])}
    sealed = xwing.hpke_seal(xwing.public_of(seed), info, i[name], i["randomness"])
    assert xwing.hpke_open(seed, info, sealed) == i[name]
    return {"sealed": sealed}


def slot(i):
    info = tuple_(label("slot"), i["vault"], i["slot"], i.text("kind"), u32(i.number("generation")))
    return hpke_case(i, info, i["kem_seed"], "vault_key")


# Section 3


def keys(i):
    key, share, vault, generation = i["vault_key"], i["share"], i["vault"], u32(i.number("generation"))
    database = derive(key, "database", vault, generation) + derive(key, "database-salt", vault, generation)[:16]
    return {
        "database": database,
        "state": derive(key, "state", vault, generation),
        "chain": derive(key, "chain", vault, i["device"]),
        "header": derive(share, "header", vault),
        "log_tail": derive(share, "log-tail", vault),
    }


def item_key(i):
    ad = tuple_(label("item-key"), i["vault"], i["item"], u32(i.number("generation")))
    if "wrapped" in i:
        return {"item_key": open_(i["vault_key"], ad, i["wrapped"])}
    return {"wrapped": seal(i["vault_key"], ad, i["item_key"], i["randomness"])}


def padded_case(i, key, ad, name, minimum):
    if "sealed" in i:
        return {name: unpad(open_(key, ad, i["sealed"]))}
    return {"sealed": seal(key, ad, pad(i[name], minimum), i["randomness"])}


def field(i):
    ad = tuple_(label("field"), i["vault"], i["item"], i.text("field"), u64(i.number("version")))
    return padded_case(i, i["item_key"], ad, "value", 64)


def hand_over(i):
    info = tuple_(label("hand-over"), i["vault"], u32(i.number("generation")))
    return hpke_case(i, info, i["start_seed"], "vault_key")


def share_copy(i):
    return hpke_case(i, tuple_(label("share-copy"), i["vault"], i["device"]), i["kem_seed"], "share")


# Section 4


def header_ad(vault, sequence, open_part):
    return tuple_(label("header"), vault, u64(sequence), sha256(open_part))


def header(i):
    key, sequence = derive(i["share"], "header", i["vault"]), i.number("sequence")
    open_part, sealed_part = i.text("open_part").encode(), i.text("sealed_part").encode()
    sealed = seal(key, header_ad(i["vault"], sequence, open_part), pad(sealed_part, 4096), i["randomness"])
    return {"file": b"SRHD" + u8(1) + u64(sequence) + lp(open_part) + lp(sealed)}


def read_header(file, parity, share, vault):
    check(file is not None, "missing")
    check(len(file) <= 8 * MIB, "malformed")
    reader = Reader(file, "malformed")
    check(reader.take(4) == b"SRHD", "malformed")
    check(reader.integer(1) == 1, "version")
    sequence, open_part, sealed = reader.integer(8), reader.lp(MIB), reader.lp(8 * MIB)
    reader.end()
    check(sequence % 2 == parity, "wrong file")
    opened = open_(derive(share, "header", vault), header_ad(vault, sequence, open_part), sealed)
    return {"sequence": sequence, "open_part": open_part.decode(), "sealed_part": unpad(opened).decode()}


def header_choice(i):
    copies, reasons = [], []
    for parity, name in enumerate("ab"):
        try:
            copies.append(read_header(i.get(name), parity, i["share"], i["vault"]))
        except Refused as refused:
            reasons.append(str(refused))
    check(copies, ", ".join(reasons))
    copies.sort(key=lambda copy: copy["sequence"])
    if len(copies) == 1:
        other = reasons[0]
    else:
        other = "intact" if copies[1]["sequence"] - copies[0]["sequence"] == 1 else "out of step"
    return copies[-1] | {"other": other}


def tail_mac(i, index, previous, entry):
    message = tuple_(label("log-tail"), i["vault"], u64(index), previous, entry)
    return hmac_sha256(derive(i["share"], "log-tail", i["vault"]), message)


def tail(i):
    index, mac = i.number("first"), i.get("previous") or b""
    if "tail" in i:
        reader, entries = Reader(i["tail"], None), []
        while reader.at < len(reader.data):
            reader.reason = f"truncated {index}"
            entry, found = reader.lp(64 * 1024), reader.take(32)
            mac = tail_mac(i, index, mac, entry)
            check(found == mac, f"mac {index}")
            entries.append(entry)
            index += 1
        return {"entries": entries}
    out = b""
    for entry in map(bytes.fromhex, i.text("entries")):
        mac = tail_mac(i, index, mac, entry)
        out += lp(entry) + mac
        index += 1
    return {"tail": out, "last_mac": mac or None}


# Section 5


def credential(i):
    if "sealed" in i:
        reader = Reader(i["sealed"], "length")
        check(reader.integer(1) == 1, "version")
        check(len(reader.data) <= MIB, "length")
        device, number, sealed = reader.take(16), reader.take(8), reader.rest()
        check(len(sealed) >= 41, "length")
        ad = tuple_(label("credential"), i["vault"], device, number)
        return {"json": unpad(open_(i["credential_key"], ad, sealed))}
    number = u64(i.number("number"))
    ad = tuple_(label("credential"), i["vault"], i["device"], number)
    return {"sealed": u8(1) + i["device"] + number + seal(i["credential_key"], ad, pad(i["json"], 1024), i["randomness"])}


def chain(i):
    ad = tuple_(label("chain"), i["vault"], i["device"])
    if "sealed" in i:
        return {"json": open_(i["chain_key"], ad, i["sealed"])}
    return {"sealed": seal(i["chain_key"], ad, i["json"], i["randomness"])}


def mail(i):
    info = tuple_(label("mail"), i["vault"], i["device"], u64(i.number("number")))
    return hpke_case(i, info, i["kem_seed"], "blob")


def outcome(i):
    info = tuple_(label("outcome"), i["vault"], i["device"], i["request"])
    return hpke_case(i, info, i["kem_seed"], "json")


def recovery_blob(i):
    psk_id = label("recovery").encode()
    if "sealed" in i:
        identity = ed25519.public_key(i["identity_public"])
        blob = i["sealed"]
        reader = Reader(blob, "length")
        check(reader.integer(1) == 1, "version")
        check(1 + 16 + 8 + xwing.ENC + xwing.TAG + 64 <= len(blob) <= MIB, "length")
        vault, sequence = reader.take(16), reader.take(8)
        body, signature = blob[:-64], blob[-64:]
        ed25519.verify(identity, tuple_(label("recovery-blob"), body), signature)
        info = tuple_(label("recovery-blob"), vault, sequence)
        json = unpad(xwing.hpke_open(i["kem_seed"], info, body[25:], i["psk"], psk_id))
        return {"vault": vault, "sequence": int.from_bytes(sequence, "big"), "json": json}
    sequence = u64(i.number("sequence"))
    info = tuple_(label("recovery-blob"), i["vault"], sequence)
    public = xwing.public_of(i["kem_seed"])
    sealed = xwing.hpke_seal(public, info, pad(i["json"], 1024), i["randomness"], i["psk"], psk_id)
    body = u8(1) + i["vault"] + sequence + sealed
    signature = ed25519.sign(i["identity_seed"], tuple_(label("recovery-blob"), body))
    return {"sealed": body + signature, "identity_public": ed25519.public_of(i["identity_seed"])}


# Sections 6 and 7


def act_of(i):
    return sha256(tuple_(label("act"), i["vault"], i["device"], i["challenge"], i["body"]))


def statement(i):
    kind = i.text("kind")
    if "subject" in i:
        ed25519.public_key(i["subject"])
    if kind in ("roster", "manifest", "revocation"):
        parts = [i["vault"], i["body"]]
    elif kind in ("channel-identity", "audit-identity", "manifest-identity"):
        parts = [i["vault"], i["subject"], u32(i.number("number"))]
    elif kind == "succession":
        parts = [i["vault"], u32(i.number("number")), i["old"], i["subject"]]
    elif kind == "control":
        parts = [i["vault"], u64(i.number("sequence")), u64(i.number("time")), i["nonce"], i["body"]]
    else:
        parts = [act_of(i)]
    message = tuple_(label(kind), *parts)
    if "signature" in i:
        ed25519.verify(ed25519.public_key(i["public"]), message, i["signature"])
        return {}
    signature = ed25519.sign(i["seed"], message)
    public = ed25519.public_of(i["seed"])
    ed25519.verify(ed25519.public_key(public), message, signature)
    return {"public": public, "signature": signature}


def fingerprint(i):
    if "typed" in i:
        check(len(i.text("typed").encode()) <= 256, "fingerprint")
        typed = lower("".join(split(i.text("typed")))).replace("-", "")
        check(len(typed) == 32 and typed.isascii(), "fingerprint")
        try:
            return {"bytes": base64.b32decode(typed.upper())}
        except ValueError:
            raise Refused("fingerprint") from None
    short = sha256(tuple_(label("fingerprint"), i["vault"], ed25519.public_key(i["identity"])))[:20]
    text = base64.b32encode(short).decode()
    return {"bytes": short, "text": "-".join(text[n : n + 4] for n in range(0, 32, 4))}


def act(i):
    return {"act": act_of(i)}


def request(i):
    headers = tuple_(*(part for pair in i.text("headers") for part in pair))
    parts = [
        i["vault"],
        i["guest"],
        i.text("reference"),
        u64(i.number("field_version")),
        i.text("consumer"),
        i.text("method"),
        i.text("url"),
        headers,
        i.get("body_hash") or b"",
        u64(i.number("policy_version")),
        i["nonce"],
    ]
    return {"hash": sha256(tuple_(label("request"), *parts))}


# Section 9


def leaf(i):
    data = u8(1) + i["salt"] + i.text("event").encode()
    return {"leaf": data, "hash": sha256(b"\0", data)}


def note_key_id(name, public):
    return sha256(name.encode(), b"\n", b"\1", public)[:4]


def checkpoint(i):
    if "note" in i:
        public = ed25519.public_key(i["public"])
        text, gap, last = i.text("note").partition("\n\n")
        check(gap, "malformed")
        parts = last.split()
        check(len(parts) == 3 and parts[0] == "\u2014", "malformed")
        try:
            raw = base64.b64decode(parts[2], validate=True)
        except ValueError:
            raise Refused("malformed") from None
        check(text.split("\n")[0] == parts[1] and raw[:4] == note_key_id(parts[1], public), "key")
        ed25519.verify(public, (text + "\n").encode(), raw[4:])
        return {}
    origin = "strongroom/vault/" + base64.b32encode(i["vault"]).decode().lower().rstrip("=")
    root = base64.b64encode(i["root"]).decode()
    text = f"{origin}\n{i.number('size')}\n{root}\n"
    public = ed25519.public_of(i["seed"])
    signature = base64.b64encode(note_key_id(origin, public) + ed25519.sign(i["seed"], text.encode())).decode()
    return {"public": public, "note": f"{text}\n\u2014 {origin} {signature}\n"}


def state_root(i):
    key, lanes = i["state_key"], [0] * 1024
    for step in i.text("steps"):
        record = tuple_(label("state"), step["table"], bytes.fromhex(step["key"]), bytes.fromhex(step["record"]))
        expanded = blake3.blake3(record, key=key).digest(length=2048)
        sign = 1 if step["do"] == "add" else -1
        for lane in range(1024):
            value = int.from_bytes(expanded[2 * lane : 2 * lane + 2], "little")
            lanes[lane] = (lanes[lane] + sign * value) % 65536
    state = b"".join(lane.to_bytes(2, "little") for lane in lanes)
    return {"state": state, "root": blake3.blake3(tuple_(label("state-root"), state), key=key).digest()}


FORMATS = {
    "tuple": tuple_case,
    "pad": pad_case,
    "passphrase": passphrase,
    "phrase": phrase,
    "factor": factor,
    "slot": slot,
    "keys": keys,
    "item-key": item_key,
    "field": field,
    "hand-over": hand_over,
    "share-copy": share_copy,
    "header": header,
    "header-choice": header_choice,
    "tail": tail,
    "credential": credential,
    "chain": chain,
    "mail": mail,
    "outcome": outcome,
    "recovery-blob": recovery_blob,
    "statement": statement,
    "fingerprint": fingerprint,
    "act": act,
    "request": request,
    "leaf": leaf,
    "checkpoint": checkpoint,
    "state-root": state_root,
}
