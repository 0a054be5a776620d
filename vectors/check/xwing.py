"""X-Wing (draft-connolly-cfrg-xwing-kem) and HPKE over it (RFC 9180, draft-ietf-hpke-pq-03)."""

import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from kyber_py.ml_kem import ML_KEM_768
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base

from notation import Refused, check, hmac_sha256, u16

PUBLIC, ENC, TAG = 1216, 1120, 16
LABEL = bytes.fromhex("5c2e2f2f5e5c")
SUITE = b"HPKE" + u16(0x647A) + u16(0x0001) + u16(0x0003)


def expand(seed):
    expanded = hashlib.shake_256(seed).digest(96)
    public_m, secret_m = ML_KEM_768._keygen_internal(expanded[:32], expanded[32:64])
    # A second implementation must agree.
    other = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    assert other.public_key().public_bytes_raw() == public_m
    secret_x = expanded[64:]
    return other, secret_m, secret_x, public_m, crypto_scalarmult_base(secret_x)


def public_of(seed):
    _, _, _, public_m, public_x = expand(seed)
    return public_m + public_x


def public_is_reduced(public):
    """FIPS 203, section 7.2: twelve bits each, all below q = 3329."""
    for i in range(0, 1152, 3):
        a, b, c = public[i : i + 3]
        if a | (b & 15) << 8 >= 3329 or b >> 4 | c << 4 >= 3329:
            return False
    return len(public) == PUBLIC


def combine(shared_m, shared_x, enc_x, public_x):
    return hashlib.sha3_256(shared_m + shared_x + enc_x + public_x + LABEL).digest()


def encapsulate(public, eseed):
    assert len(eseed) == 64
    shared_m, enc_m = ML_KEM_768._encaps_internal(public[:1184], eseed[:32])
    enc_x = crypto_scalarmult_base(eseed[32:])
    shared_x = crypto_scalarmult(eseed[32:], public[1184:])
    return combine(shared_m, shared_x, enc_x, public[1184:]), enc_m + enc_x


def decapsulate(seed, enc):
    other, secret_m, secret_x, _, public_x = expand(seed)
    shared_m = ML_KEM_768.decaps(secret_m, enc[:1088])
    assert shared_m == other.decapsulate(enc[:1088])
    shared_x = crypto_scalarmult(secret_x, enc[1088:])
    return combine(shared_m, shared_x, enc[1088:], public_x)


def labeled_extract(salt, name, ikm):
    return hmac_sha256(salt, b"HPKE-v1" + SUITE + name + ikm)


def labeled_expand(prk, name, info, length):
    info = u16(length) + b"HPKE-v1" + SUITE + name + info
    out, block, count = b"", b"", 1
    while len(out) < length:
        block = hmac_sha256(prk, block + info + bytes([count]))
        out, count = out + block, count + 1
    return out[:length]


class Context:
    """RFC 9180, section 5.1: base mode, or PSK mode where a key is given."""

    def __init__(self, shared, info, psk=b"", psk_id=b""):
        mode = bytes([1 if psk else 0])
        context = mode + labeled_extract(b"", b"psk_id_hash", psk_id) + labeled_extract(b"", b"info_hash", info)
        secret = labeled_extract(shared, b"secret", psk)
        self.key = labeled_expand(secret, b"key", context, 32)
        self.nonce = labeled_expand(secret, b"base_nonce", context, 12)
        self.exporter = labeled_expand(secret, b"exp", context, 32)

    def export(self, exporter_context):
        return labeled_expand(self.exporter, b"sec", exporter_context, 32)


def hpke_seal(public, info, plaintext, eseed, psk=b"", psk_id=b""):
    shared, enc = encapsulate(public, eseed)
    context = Context(shared, info, psk, psk_id)
    return enc + ChaCha20Poly1305(context.key).encrypt(context.nonce, plaintext, b"")


def hpke_open(seed, info, sealed, psk=b"", psk_id=b""):
    check(len(sealed) >= ENC + TAG, "tag")
    context = Context(decapsulate(seed, sealed[:ENC]), info, psk, psk_id)
    try:
        return ChaCha20Poly1305(context.key).decrypt(context.nonce, sealed[ENC:], b"")
    except InvalidTag:
        raise Refused("tag") from None
