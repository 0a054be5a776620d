"""Section 1 of docs/cryptography.md: joining, padding, deriving, sealing."""

import hashlib
import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError


class Refused(Exception):
    """The bytes are refused; the argument is the reason as the vectors name it."""


def check(holds, reason):
    if not holds:
        raise Refused(reason)


def u8(n):
    return n.to_bytes(1, "big")


def u16(n):
    return n.to_bytes(2, "big")


def u32(n):
    return n.to_bytes(4, "big")


def u64(n):
    return n.to_bytes(8, "big")


def lp(x):
    return u32(len(x)) + x


def as_bytes(part):
    return part.encode() if isinstance(part, str) else part


def tuple_(*parts):
    return b"".join(lp(as_bytes(part)) for part in parts)


def label(purpose):
    return "strongroom/v1/" + purpose


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def hmac_sha256(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def hkdf(salt, ikm, info, length):
    return HKDF(hashes.SHA256(), length, salt, info).derive(ikm)


def derive(key, purpose, *parts):
    return hkdf(b"", key, tuple_(label(purpose), *parts), 32)


def padme(n):
    e = n.bit_length() - 1
    s = e.bit_length()
    step = 1 << (e - s)
    return (n + step - 1) // step * step


def pad(x, minimum):
    y = lp(x)
    return y.ljust(max(minimum, padme(len(y))), b"\0")


def unpad(padded):
    check(len(padded) >= 4, "padding")
    length = int.from_bytes(padded[:4], "big")
    check(4 + length <= len(padded), "padding")
    check(not any(padded[4 + length :]), "padding")
    return padded[4 : 4 + length]


def seal(key, ad, plaintext, nonce):
    return u8(1) + nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, ad, nonce, key)


def open_(key, ad, sealed):
    check(len(sealed) >= 1, "length")
    check(sealed[0] == 1, "version")
    check(len(sealed) >= 1 + 24 + 16, "length")
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(sealed[25:], ad, sealed[1:25], key)
    except CryptoError:
        raise Refused("tag") from None


class Reader:
    """Takes bytes apart; too few of them are refused for `reason`."""

    def __init__(self, data, reason):
        self.data, self.at, self.reason = data, 0, reason

    def take(self, length):
        check(length <= len(self.data) - self.at, self.reason)
        self.at += length
        return self.data[self.at - length : self.at]

    def integer(self, width):
        return int.from_bytes(self.take(width), "big")

    def lp(self, most):
        length = self.integer(4)
        check(length <= most, self.reason)
        return self.take(length)

    def rest(self):
        return self.take(len(self.data) - self.at)

    def end(self):
        check(self.at == len(self.data), self.reason)
