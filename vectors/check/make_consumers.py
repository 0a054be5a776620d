#!/usr/bin/env python3
"""Makes the known answers of the consumers from section 10 of docs/cryptography.md: make_consumers.py <folder of vectors>.

The vault's own code is held against the files and makes none of them. A case must give what it says it gives before it is
written, and it comes out the same, byte for byte, each time.
"""

import base64
import hashlib
import json
import pathlib
import sys

from check import fault
from consumers import encrypt, mac
from notation import derive, seal, u32


def material(name, length=32):
    return hashlib.shake_256(b"strongroom vectors crypt v1 " + name.encode()).digest(length)


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def flip(data, at, mask=1):
    changed = bytearray(data)
    changed[at] ^= mask
    return bytes(changed)


ITEM, OTHER_ITEM = material("item", 16), material("other item", 16)
OLD, NEW = material("key 1"), material("key 2")
# The newest is stored raw, the older as text.
KEYS = {2: NEW, 1: b64url(OLD)}
CONTEXT, PLAINTEXT, MESSAGE = b"table:users/7", b"the plaintext, 24 bytes!", b"the message"


class Cases:
    def __init__(self, folder):
        self.folder = folder

    def put(self, name, about, keys, item, fields, expect, output):
        stored = [{"version": version, "secret": secret.hex()} for version, secret in keys.items()]
        case = {
            "about": about,
            "expect": expect,
            "format": "crypt",
            "input": {"item": item.hex(), "keys": stored} | fields,
        }
        if output is not None:
            case["output"] = output
        wrong = fault(case)
        assert wrong is None, f"{name}: {wrong}"
        (self.folder / f"{name}.json").write_text(json.dumps(case, indent=2) + "\n", encoding="utf-8")

    def opens(self, name, about, ciphertext, plaintext, context=CONTEXT, keys=KEYS):
        fields = {"context": context.hex(), "ciphertext": ciphertext.hex()}
        self.put(name, about, keys, ITEM, fields, "ok", {"plaintext": plaintext.hex()})

    def refused(self, name, about, ciphertext, context=CONTEXT, item=ITEM, keys=KEYS, code="ciphertext_refused"):
        fields = {"context": context.hex(), "ciphertext": ciphertext.hex()}
        self.put(name, about, keys, item, fields, f"refuse: {code}", None)

    def tag(self, name, about, tag, valid, message=MESSAGE):
        self.put(name, about, KEYS, ITEM, {"message": message.hex(), "tag": tag.hex()}, "ok", {"valid": valid})

    def derives(self, name, about, purpose, context):
        derived = derive(NEW, "derive", ITEM, u32(2), purpose, context)
        fields = {"context": context.hex(), "purpose": purpose}
        self.put(name, about, KEYS, ITEM, fields, "ok", {"derived": derived.hex()})


def ciphertexts(cases):
    def new(name, plaintext=PLAINTEXT, context=CONTEXT):
        return encrypt(NEW, ITEM, 2, context, plaintext, material(name, 24))

    good, long = new("nonce"), material("long", 1000)
    cases.opens("decrypt_newest", "made by the newest version", good, PLAINTEXT)
    old = encrypt(OLD, ITEM, 1, CONTEXT, PLAINTEXT, material("nonce 1", 24))
    cases.opens("decrypt_older", "made by an older version, whose key is stored as base64url text", old, PLAINTEXT)
    cases.opens("decrypt_empty", "no plaintext and no context", new("nonce e", b"", b""), b"", context=b"")
    cases.opens("decrypt_long", "more than one block", new("nonce l", long), long)
    seventh = encrypt(material("key 7"), ITEM, 7, CONTEXT, PLAINTEXT, material("nonce", 24))
    stored = {7: material("key 7").hex().upper().encode()}
    cases.opens("decrypt_hex_key", "the key is stored as hexadecimal", seventh, PLAINTEXT, keys=stored)

    cases.refused("other_item", "bound to another item", good, item=OTHER_ITEM)
    cases.refused("other_context", "bound to another context", good, context=b"table:users/8")
    cases.refused("context_moved", "the split between version and context is bound as well", good, context=b"")
    cases.refused("other_version", "names a version that there is, but that did not make it", flip(good, 4, 3))
    cases.refused("version_gone", "names a version that there is not", flip(good, 1))
    cases.refused("format_unknown", "the first byte is not 1", flip(good, 0, 3))
    cases.refused("nonce_flipped", "a bit of the nonce", flip(good, 5))
    cases.refused("ciphertext_flipped", "a bit of the ciphertext", flip(good, 29, 0x80))
    cases.refused("tag_flipped", "the last bit of the tag", flip(good, len(good) - 1))
    cases.refused("truncated_tag", "one byte short", good[:-1])
    cases.refused("truncated_nonce", "ends inside of the nonce", good[:20])
    cases.refused("appended", "one byte too many", good + b"\0")
    cases.refused("empty", "nothing", b"")
    bare = seal(NEW, b"", PLAINTEXT, good[5:29])
    cases.refused("unbound", "sealed without associated data", good[:5] + bare[1:])
    cases.refused("key_short", "the key has 31 bytes", good, keys={2: b64url(NEW[:31])}, code="key_malformed")
    password = {2: b"correct horse battery staple yes"}
    about = "32 printable characters are a password, not a key"
    cases.refused("key_printable", about, good, keys=password, code="key_malformed")


def tags(cases):
    tag = mac(NEW, 2, MESSAGE)
    cases.tag("mac_newest", "made by the newest version", tag, True)
    cases.tag("mac_older", "made by an older version", mac(OLD, 1, MESSAGE), True)
    cases.tag("mac_empty", "no message", mac(NEW, 2, b""), True, message=b"")
    cases.tag("mac_other_message", "another message", tag, False, message=b"the messagf")
    cases.tag("mac_other_version", "names a version that did not make it", flip(tag, 4, 3), False)
    cases.tag("mac_version_gone", "names a version that there is not", flip(tag, 1), False)
    cases.tag("mac_format_unknown", "the first byte is not 1", flip(tag, 0, 3), False)
    cases.tag("mac_flipped", "a bit of the tag", flip(tag, 36), False)
    cases.tag("mac_truncated", "16 bytes of the tag", tag[:21], False)
    cases.tag("mac_bare", "the tag without format and version", tag[5:], False)


def derived_keys(cases):
    cases.derives("derive_encrypt", "a key to encrypt with", "encrypt", CONTEXT)
    cases.derives("derive_mac", "the same context, another purpose, another key", "mac", CONTEXT)
    cases.derives("derive_no_context", "no context", "encrypt", b"")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1]) / "consumers" / "crypt" / "v1"
    folder.mkdir(parents=True, exist_ok=True)
    cases = Cases(folder)
    ciphertexts(cases)
    tags(cases)
    derived_keys(cases)


if __name__ == "__main__":
    main()
