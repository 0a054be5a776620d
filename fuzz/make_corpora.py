#!/usr/bin/env python3
"""Writes the seed corpora: fuzz/corpus/<target>/, a few small files each, from vectors/, the importers' fixtures and the
samples below. What a fuzzer found and a fix needs is put in by hand under `found-…`, and stays."""

import base64
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent / "vectors"
QUOTE = (HERE.parent / "crates/attest/tests/data/quote.json").read_text()
FIXTURES = HERE.parent / "crates/import/tests/data"
SEED_BYTES_MAX = 9 * 1024


def main():
    corpora = {**wire(), **attest(), **crypto(), **consumers(), **importers()}
    for target, seeds in corpora.items():
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            if not old.name.startswith("found-"):
                old.unlink()
        for number, seed in enumerate(seeds):
            seed = seed.encode() if isinstance(seed, str) else seed
            assert len(seed) <= SEED_BYTES_MAX, (target, number, len(seed))
            (folder / f"{number:02}").write_bytes(seed)


def wire():
    device = [json.dumps(body) for body in DEVICE_REQUESTS]
    guest = [json.dumps(body) for body in GUEST_REQUESTS]
    fresh = {"slot": ID, "challenge": b64(32), "signature": b64(64)}
    head = '{"stream":7,"id":"%s","fresh":%s,"credential":"%s","body":' % (ID, json.dumps(fresh), b64(40))
    refused = {"code": "reference_unknown", "rule": "no grant", "hint": "strongroom grant add", "retry_secs": 30}
    hello = [{"ping": {}}, {"new_vault": {}}, {"relay": {"vault": ID}}, {"rescue": {"vault": ID}}]
    hello += [{"pong": {"version": "0.1.0"}}, {"relay": {}}, {"refused": {"code": "vault_unknown"}}]
    leaf = b"\x01" + bytes(16)
    running = {"vault": ID, "life": "locked", "busy": False, "channels": 1, "pid": 9, "since_secs": 1, "used_secs": 0}
    operate = [{"status": {}}, {
        "version": "0.1.0", "pid": 8, "uptime_secs": 1, "vaults": 1, "memory_available_bytes": 1,
        "isolation": {"level": "spaces", "missing": ["own_user"]},
        "counters": {"started": 1, "crashed": 0, "evicted": 0, "start_us": 4000}, "running": [running],
    }]
    return {
        "wire_messages": [b"\x02" + framed(b"") + framed(b"a") + framed(b"hello"), b"\x05" + framed(b"x" * 65)],
        "wire_frame": [
            struct.pack(">IB", 7, 1) + b"data",
            struct.pack(">IB", 7, 2),
            struct.pack(">II", 7, 65536),
            b'\x03{"locked":{}}',
            b'\x03{"approvals":{}}',
        ],
        "wire_to_vault": [
            b"\x00" + text({"vault": ID, "share": b64(32), "memfd_secret": True}),
            b"\x01" + number(1),
            b"\x02" + number(1) + b"sealed",
            b"\x04" + number(1) + text({"address": "203.0.113.7:443"}),
            b"\x05" + number(1) + text(refused),
            b"\x06" + number(1) + b"tls",
            b"\x07" + number(1) + number(65536),
            b"\x0a",
            b"\x0b",
            b"\x0c",
            b"\x0d" + number(1) + QUOTE.encode(),
            b"\x0e" + text({"secret": {"sealed": SEALED, "secret": b64(9)}}),
        ],
        "wire_from_vault": [
            b"\x00" + text({"version": "0.1.0", "state": {"open": False, "busy": False}}),
            b"\x00" + text({"version": "0.1.0", "state": {"open": False, "busy": False}, "missing": ["own_user"]}),
            b"\x01" + number(1) + b"sealed",
            b"\x03" + number(1) + text({"to": "api.example:8443", "allow_private": False}),
            b"\x05" + number(1) + number(65536),
            b"\x08" + text({"open": True, "busy": True}),
            b"\x09" + text({"event": "vault.unlock_refused"}),
            b"\x0a",
            b"\x0b" + number(1) + bytes(32),
            b"\x0c" + text({"reseal": {"sealed": SEALED, "program": b64(32)}}),
        ],
        "wire_sealing": [json.dumps(body) for body in (
            {"begin": {"boot": [0, 7]}}, {"open": {"what": {"share": ID}, "sealed": SEALED}}, {"count": {"up": True}},
            {"refused": {"changed": {"pcrs": [4, 7]}}}, {"refused": {"other_tpm": {}}}, SEALED,
        )] + [QUOTE],
        "wire_operate": [json.dumps(body) for body in operate],
        "wire_relay": [json.dumps(body) for body in hello],
        "wire_envelope": [head + body + "}" for body in device[:4] + guest[:3]],
        "wire_device_request": device,
        "wire_guest_request": guest,
        "wire_answer": [
            json.dumps({"stream": 7, "result": {"Ok": body}, "body_follows": True}) for body in ANSWERS
        ] + [json.dumps({"stream": 7, "result": {"Err": refused}})],
        "wire_item": [json.dumps(ITEM), json.dumps(ITEM["policy"]), json.dumps(LIMITS), json.dumps(HMAC), json.dumps(AWS)],
        "wire_event_leaf": [leaf + text(event) for event in EVENTS],
        "wire_name": [
            ID, REFERENCE, "password", "api.example", "api.example:8443", "[2001:db8::1]:443", "b\u00fccher.example", "API Key (prod)",
        ],
        "wire_target": [
            "https://api.example/v1/now?city=Bern&n=1", "https://a.example:8443/a%20b/;c=d", "/v2/../x", "//other.example/",
            "https://u:p@a.example/", "https://a.example/%2e%2e/", "http://a.example\\x", "?q=%00",
        ],
        "bus_envelope": [
            bytes([1, kind, 1]) + bytes([3] * 16) + number(0) + number(9) + b"sealed" for kind in (1, 4, 9)
        ],
    }


def crypto():
    channels = [case("channel/v1/" + name)["output"] for name in ("device", "guest", "founder")]
    return {
        "crypto_hello1": [raw(made["hello1"]) for made in channels[:2]],
        "crypto_hello2": [raw(made["hello2"]) for made in channels[:1]],
        "crypto_hello3": [raw(made["hello3"]) for made in channels],
        "crypto_frame": [raw(frame) for made in channels[:2] for frame in made["frames"][:2]],
        "crypto_header": [raw(case("header/v1/choice_a_newer")["input"]["a"])],
        "crypto_recovery_blob": inputs("recovery-blob", "sealed", "open", "too_short", "version"),
        "crypto_credential": inputs("credential", "sealed", "open", "too_short", "version"),
        "crypto_phrase": [case("phrase/v1/" + name)["input"]["typed"] for name in ("words", "messy", "checksum", "too_few")],
        "crypto_fingerprint": [case("fingerprint/v1/" + name)["input"]["typed"] for name in ("typed", "short", "not_base32")],
        "crypto_padding": [raw(case("pad/v1/60_bytes_to_at_least_64")["output"]["padded"])]
        + inputs("pad", "padded", "length_absurd", "length_beyond_end", "not_zero"),
    }


def attest():
    quote = json.loads(QUOTE)["tpm"]
    policy = {"tpm": {"key": quote["key"], "boot": [quote["boot"]], "programs": [quote["program"]]}}
    return {
        "attest_evidence": [QUOTE, json.dumps({"nitro": {"document": b64(9)}})],
        "nitro_document": [(HERE.parent / "crates/nitro/tests/data/attestation.cose").read_bytes()],
        "attest_policy": [json.dumps(policy), json.dumps({"none": {}})],
    }


def consumers():
    template = {"lifetime_secs_max": 60, "free": ["sub"], "fixed": {"iss": "vault"}}
    # RFC 8032, test 1, and the generator of secp256k1: no key of anybody.
    ed25519 = raw("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    pkcs8 = raw("302e020100300506032b657004220420") + ed25519
    pem = b"-----BEGIN PRIVATE KEY-----\n" + base64.b64encode(pkcs8) + b"\n-----END PRIVATE KEY-----\n"
    return {
        "consumers_private_key": [ed25519, pkcs8, pem, bytes(31) + b"\x01", base64.b64encode(ed25519), b64(32)],
        "consumers_otpauth": [
            "otpauth://totp/ACME:ann?secret=JBSWY3DPEHPK3PXP&issuer=ACME&algorithm=SHA256&digits=8&period=60",
            "otpauth://hotp/x?secret=JBSWY3DPEHPK3PXP&counter=5",
            "JBSW Y3DP EHPK 3PXP",
            "otpauth://totp/x?secret=&digits=99",
        ],
        "consumers_jwt_template": [
            json.dumps({"template": template, "claims": {"sub": "a", "exp": 1700000001}}),
            json.dumps({"template": template, "claims": {"iss": "me"}, "key_id": "k"}),
            '{"template":{"lifetime_secs_max":60},"claims":{"exp":1e400}}',
        ],
        "consumers_mask": [
            b'\x08\x03secret-1{"a":"secret-1","b":"c2VjcmV0LTE="}',
            b"\x10\x00abcdefghijklmnopabc%61bcdefghijklmnop6162636465666768696a6b6c6d6e6f70",
        ],
    }


def importers():
    fixture = lambda name: (FIXTURES / name).read_bytes()
    envs = fixture("settings.env")
    head = text({"file_bytes": len(envs), "kind": "env", "scope": "s"})
    item = {"type": "login", "label": "l", "fields": [], "origin": {"source": "env", "id": "1"}}
    done = {"kind": "env", "items": 1, "not_carried": 0, "bad_rows": 0}
    records = [{"item": item}, {"progress": {"done": 1, "total": 2}}, {"done": done}]
    entry = "<String><Key>Title</Key><Value>t</Value></String><String><Key>Password</Key><Value>p</Value></String>"
    group = "<Group><UUID>AQEBAQEBAQEBAQEBAQEBAQ==</UUID><Entry><UUID>AgICAgICAgICAgICAgICAg==</UUID>%s</Entry></Group>"
    return {
        "import_detect": [fixture(name)[:600] for name in ("bitwarden.json", "chrome.csv", "safari.csv", "keepass.kdbx")],
        "import_bitwarden": [
            fixture(name)
            for name in ("bitwarden.json", "bitwarden-account.json", "bitwarden-organisation.json")
        ],
        "import_keepass": [fixture("keepass.kdbx"), fixture("keepass.kdbx")[:253]],
        "import_keepass_document": [
            "<KeePassFile><Meta/><Root>%s</Root></KeePassFile>" % (group % entry),
            "<KeePassFile><Root><Group><Entry><History><Entry/></History></Entry></Group></Root></KeePassFile>",
            "<!DOCTYPE x [<!ENTITY a \"aa\">]><KeePassFile><Root>&a;</Root></KeePassFile>",
        ],
        "import_chrome": [fixture("chrome.csv")],
        "import_firefox": [fixture("firefox.csv")],
        "import_safari": [fixture("safari.csv")],
        "import_env": [envs, "export A='b c'\nB=\"x\\ny\"\n# c\nC=d # e\n"],
        "import_request": [framed(head) + envs, framed(b"{}")],
        "import_records": [b"".join(framed(text(record)) for record in records)],
    }


def case(name):
    return json.loads((VECTORS / (name + ".json")).read_text())


def inputs(format_name, field, *names):
    return [raw(case(f"{format_name}/v1/{name}")["input"][field]) for name in names]


def raw(hexadecimal):
    return bytes.fromhex(hexadecimal)


def b64(length):
    return base64.urlsafe_b64encode(bytes(length)).rstrip(b"=").decode()


def text(body):
    return json.dumps(body).encode()


def number(value):
    return struct.pack(">I", value)


def framed(message):
    return number(len(message)) + message


ID = "a" * 26
REFERENCE = f"vault://{ID}/api_key"
LIMITS = {
    "http": {"hosts": ["api.example"], "methods": ["GET"], "path_prefixes": ["/v1"], "body_bytes_max": 1024, "set_cookie": True},
    "sign": {"prefix": b64(4), "ssh_namespaces": ["git"], "jwt": {"fixed": {"iss": "v"}, "free": ["sub"], "lifetime_secs_max": 60}},
    "crypt": ["encrypt", "verify_mac"],
    "uses_max": 3,
    "calls_per_minute_max": 5,
    "expires_at": 1700000000000,
    "hours": {"from_minute": 1380, "to_minute": 60},
}
ITEM = {
    "type": "api_key",
    "label": "Weather",
    "tags": ["a"],
    "fields": [{"name": "api_key", "class": "secret", "value": b64(20)}],
    "policy": {"http": {"hosts": ["api.example", "b.example:8443"], "placement": {"header": {"name": "x-key", "prefix": "k "}}}},
    "origin": {"source": "bitwarden", "id": "1"},
}
HMAC = {"http": {"hosts": ["a.example"], "placement": {"hmac": {
    "hash": "sha256", "header": "x-signature", "encoding": "hex", "parts": ["method", "path", "timestamp", "body_sha256"],
    "timestamp_header": "x-time"}}, "allow_private": True}, "key": {"purpose": "mac", "algorithm": "hmac_sha256"}}
AWS = {"http": {"hosts": ["s3.example"], "placement": {
    "aws_sig_v4": {"access_key_id": "AKIDEXAMPLE", "region": "eu-central-1", "service": "s3"}}}}
CALL = {"reference": REFERENCE, "do": {"http": {
    "method": "POST", "url": "https://api.example/v1/now", "headers": [["accept", "*/*"]], "body": {"inline": b64(3)}}}}
GRANT = {"guest": ID, "reference": REFERENCE, "consumer": "http", "limits": LIMITS, "mode": "ask"}
POSITION = {"size": 3, "root": b64(32)}
CHECKPOINT = {"note": "strongroom/log\n3\nAAAA\n", "audit_key": b64(32), "audit_certificate": b64(64), "from_size": 0, "consistency": [b64(32)]}
DEVICE_REQUESTS = [
    {"status": {}},
    {"unlock": {"slot": ID, "seed": b64(32), "seen": POSITION, "device_time": 1700000000000, "open_secs": 3600}},
    {"item_add": ITEM},
    {"item_import": {"drafts": [ITEM], "dry_run": True}},
    {"item_list": {"search": "x"}},
    {"item_restore": {"item": ID, "version": ["password", 3]}},
    {"guest_add": {"name": "helper", "kind": "agent", "public_key": b64(32)}},
    {"grant_add": GRANT},
    {"approval_list": {"after": 1, "wait_secs": 60}},
    {"approval_answer": {"approval": ID, "request_hash": b64(32), "allow": True, "grant": GRANT}},
    {"use": CALL},
    {"deliver": {"consumer": "exec", "references": [REFERENCE], "program": "env"}},
    {"audit_hashes": {"from": 0, "count": 16384}},
    {"update_accept": {"program": b64(32)}},
    {"unattended_set": {"on": True}},
    {"rescue": {"by": {"phrase": {"seed": b64(32), "identity": b64(32)}}, "device": ID}},
    {"vault_delete": {"vault": ID}},
]
SEALED = {"parent": b64(34), "private": b64(40), "public": b64(40), "program": b64(32), "boot": {"7": b64(32)}}
GUEST_REQUESTS = [
    {"list": {}},
    {"request": {"subject": REFERENCE, "reason": "the weather", "consumer": "http", "host": "api.example"}},
    {"use": {"call": CALL, "reason": "now"}},
    {"use": {"handle": ID}},
    {"use": {"call": {"reference": REFERENCE, "do": {"sign": {"jwt": {"claims": {"sub": [1, {"a": None}]}, "key_id": "k"}}}}}},
    {"use": {"call": {"reference": REFERENCE, "do": {"sign": {"ssh": {"namespace": "git", "message": b64(9)}}}}}},
    {"use": {"call": {"reference": REFERENCE, "do": {"totp": {}}}}},
    {"use": {"call": {"reference": REFERENCE, "do": {"crypt": {"derive": {"context": b64(4), "purpose": "mac"}}}}}},
    {"poll": {"approval": ID, "wait_secs": 10}},
]
ANSWERS = [
    {"done": {}},
    {"challenge": {"challenge": b64(32)}},
    {"unlocked": {"session_until": 1, "open_until": 2, "checkpoint": CHECKPOINT}},
    {"hashes": {"hashes": b64(64)}},
    {"used": {"http": {"status": 200, "headers": [["a", "b"]], "url": "https://api.example/"}}},
    {"list": {"granted": [{
        "grant": ID, "reference": REFERENCE, "label": "l", "type": "api_key", "consumer": "http", "limits": {}, "mode": "always"}]}},
    {"pending": {"approval": ID, "expires_at": 5}},
    {"polled": {"approved": {"handle": ID, "expires_at": 5}}},
    {"used": {"code": {"code": "123456", "valid_secs": 20}}},
]
EVENTS = [
    {"v": 1, "at": 1700000000000, "actor": "founder", "action": "vault.create", "state": b64(32)},
    {"v": 1, "at": 1, "actor": {"guest": ID}, "action": "use.intent", "reference": REFERENCE, "field_version": 1, "consumer": "http",
     "destination": "GET api.example", "grant": ID, "state": b64(32)},
    {"v": 1, "at": 2, "actor": "vault", "action": "use.outcome", "intent": 1, "status": 200, "bytes": 9, "code": "host_failed", "state": ""},
]

if __name__ == "__main__":
    main()
