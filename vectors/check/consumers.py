"""Section 10 of docs/cryptography.md: what `crypt` does with the keys that items hold."""

import base64
import hmac
import string

from notation import Refused, check, derive, hmac_sha256, label, open_, seal, tuple_, u32


def crypt(i):
    keys = {key["version"]: bytes.fromhex(key["secret"]) for key in i.text("keys")}
    if "ciphertext" in i:
        return {"plaintext": decrypt(i, keys)}
    if "tag" in i:
        return {"valid": verify(i, keys)}
    version = max(keys)
    return {"derived": derive(symmetric(keys[version]), "derive", i["item"], u32(version), i.text("purpose"), i["context"])}


def encrypt(key, item, version, context, plaintext, nonce):
    sealed = seal(key, associated_data(item, version, context), plaintext, nonce)
    return sealed[:1] + u32(version) + sealed[1:]


def decrypt(i, keys):
    ciphertext = i["ciphertext"]
    version = int.from_bytes(ciphertext[1:5], "big")
    check(len(ciphertext) >= 45 and ciphertext[0] == 1 and version in keys, "ciphertext_refused")
    key = symmetric(keys[version])
    try:
        # But for the version after its first byte it is the `seal` of section 1.
        plaintext = open_(key, associated_data(i["item"], version, i["context"]), ciphertext[:1] + ciphertext[5:])
    except Refused:
        raise Refused("ciphertext_refused") from None
    assert encrypt(key, i["item"], version, i["context"], plaintext, ciphertext[5:29]) == ciphertext
    return plaintext


def associated_data(item, version, context):
    return tuple_(label("crypt"), item, u32(version), context)


def mac(key, version, message):
    return b"\1" + u32(version) + hmac_sha256(key, message)


def verify(i, keys):
    tag = i["tag"]
    version = int.from_bytes(tag[1:5], "big")
    if len(tag) != 37 or tag[0] != 1 or version not in keys:
        return False
    return hmac.compare_digest(mac(symmetric(keys[version]), version, i["message"]), tag)


def symmetric(secret):
    """32 bytes, raw or as text."""
    if len(secret) == 32:
        check(any(not 0x20 <= byte < 0x7F for byte in secret), "key_malformed")
        return secret
    key = decode_text(b"".join(secret.split()))
    check(len(key) == 32, "key_malformed")
    return key


def decode_text(text):
    if len(text) == 64 and all(byte in string.hexdigits.encode() for byte in text):
        return bytes.fromhex(text.decode())
    unpadded = text.removesuffix(b"==" if text.endswith(b"==") else b"=")
    alphabet = b"-_" if any(byte in b"-_" for byte in unpadded) else b"+/"
    try:
        decoded = base64.b64decode(unpadded + b"=" * (-len(unpadded) % 4), alphabet, validate=True)
    except ValueError:
        raise Refused("key_malformed") from None
    # Bits left over at the end must be zero.
    check(base64.b64encode(decoded, alphabet).rstrip(b"=") == unpadded, "key_malformed")
    return decoded
