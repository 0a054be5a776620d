"""Section 8: both ends of a channel, message by message. `replace` puts other bytes in place of one on its way."""

import xwing
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

import ed25519
from formats import Input
from notation import Reader, Refused, check, hkdf, label, lp, pad, sha256, tuple_, u8, u16, u32, u64, unpad

ROLES = {"founder": 0, "device": 1, "guest": 2}
NO_CERTIFICATE = bytes(64)
EXPORT = label("channel").encode()
TO_VAULT, TO_DEVICE = 0, 1


def kem_info(side, digest):
    return tuple_(label("channel-kem"), side, digest)


def hello_message(hello1, unsigned):
    return tuple_(label("channel-hello"), hello1, unsigned)


def join_message(transcript, role, id_):
    return tuple_(label("channel-join"), transcript, u8(role), id_)


def read_hello1(hello1, vault):
    reader = Reader(hello1, "length")
    check(reader.integer(1) == 1, "version")
    found, nonce, key, count = reader.take(16), reader.take(32), reader.take(xwing.PUBLIC), reader.integer(2)
    check(1 <= count <= 16, "length")
    suites = [reader.integer(2) for _ in range(count)]
    reader.end()
    check(found == vault, "vault")
    check(xwing.public_is_reduced(key), "key")
    check(1 in suites, "suite")
    return nonce, key


def read_hello2(hello2):
    reader = Reader(hello2, "length")
    check(reader.integer(1) == 1, "version")
    reader.take(32)
    suite, start, enc, key = reader.integer(2), reader.take(xwing.PUBLIC), reader.take(xwing.ENC), reader.take(32)
    certificate, epoch, evidence = reader.take(64), reader.integer(4), reader.lp(64 * 1024)
    unsigned, signature = hello2[: reader.at], reader.take(64)
    reader.end()
    check(suite == 1, "suite")
    check(xwing.public_is_reduced(start), "key")
    ed25519.public_key(key, "key")
    return start, enc, key, certificate, epoch, evidence, unsigned, signature


def schedule(vault, transcript, secret_v, secret_d):
    keys = hkdf(transcript, secret_v + secret_d, tuple_(label("channel-keys"), vault), 112)
    return {TO_VAULT: keys[:32], TO_DEVICE: keys[32:64], "join": keys[64:96], "id": keys[96:]}


class Parties:
    """What both ends know before they speak."""

    def __init__(self, i):
        self.vault, self.start_seed = i["vault"], i["start_seed"]
        self.identity_seed, self.channel_seed = i["identity_seed"], i["channel_seed"]
        self.role, self.id, self.joiner_seed = ROLES[i.text("role")], i["id"], i["joiner_seed"]
        self.epoch = i.number("epoch") if "epoch" in i else None
        self.pin = i.number("pin") if "pin" in i else None
        self.roster_key = i["roster_key"] if "roster_key" in i else ed25519.public_of(self.joiner_seed)

    def certificate(self):
        if self.epoch is None:
            return NO_CERTIFICATE, 0
        message = tuple_(label("channel-identity"), self.vault, ed25519.public_of(self.channel_seed), u32(self.epoch))
        return ed25519.sign(self.identity_seed, message), self.epoch

    def check_certificate(self, key, certificate, epoch):
        if self.pin is None:
            check(certificate == NO_CERTIFICATE and epoch == 0, "founded")
            return
        message = tuple_(label("channel-identity"), self.vault, key, u32(epoch))
        ed25519.verify(ed25519.public_of(self.identity_seed), message, certificate, "certificate")
        check(epoch >= self.pin, "epoch")


def exchange(parties, randomness, evidence, replace, again):
    """The three messages and the keys; `again` for an exchange inside a channel."""
    device, vault, join = (randomness[name + "_randomness"] for name in ("device", "vault", "join"))

    # the device
    nonce_d, seed_d = device[:32], device[32:]
    hello1 = u8(1) + parties.vault + nonce_d + xwing.public_of(seed_d) + u16(1) + u16(1)
    sent1, hello1 = hello1, replace.get("hello1", hello1)

    # the vault
    _, public_d = read_hello1(hello1, parties.vault)
    shared, enc_v = xwing.encapsulate(public_d, vault[32:])
    vault_secret_v = xwing.Context(shared, kem_info("vault", sha256(hello1))).export(EXPORT)
    start_public, channel_public = xwing.public_of(parties.start_seed), ed25519.public_of(parties.channel_seed)
    certificate, epoch = parties.certificate()
    unsigned = u8(1) + vault[:32] + u16(1) + start_public + enc_v + channel_public + certificate + u32(epoch)
    unsigned += lp(evidence)
    hello2 = unsigned + ed25519.sign(parties.channel_seed, hello_message(hello1, unsigned))
    sent2, hello2 = hello2, replace.get("hello2", hello2)

    # the device
    start, enc, key, certificate, epoch, evidence, unsigned, signature = read_hello2(hello2)
    if again:
        check(key == channel_public, "certificate")
    else:
        parties.check_certificate(key, certificate, epoch)
    ed25519.verify(key, hello_message(sent1, unsigned), signature)
    secret_v = xwing.Context(xwing.decapsulate(seed_d, enc), kem_info("vault", sha256(sent1))).export(EXPORT)
    binding = sha256(tuple_(label("evidence"), parties.vault, nonce_d, start, key))
    shared, enc_d = xwing.encapsulate(start, join)
    secret_d = xwing.Context(shared, kem_info("device", sha256(sent1, hello2))).export(EXPORT)
    transcript = sha256(sent1, hello2, enc_d)
    device_keys = schedule(parties.vault, transcript, secret_v, secret_d)
    plain = u8(parties.role) + parties.id + ed25519.public_of(parties.joiner_seed)
    plain += ed25519.sign(parties.joiner_seed, join_message(transcript, parties.role, parties.id))
    hello3 = enc_d + ChaCha20Poly1305(device_keys["join"]).encrypt(bytes(12), plain, transcript)
    hello3 = replace.get("hello3", hello3)

    # the vault
    check(len(hello3) == 1249, "length")
    shared = xwing.decapsulate(parties.start_seed, hello3[: xwing.ENC])
    secret_d = xwing.Context(shared, kem_info("device", sha256(hello1, sent2))).export(EXPORT)
    transcript = sha256(hello1, sent2, hello3[: xwing.ENC])
    vault_keys = schedule(parties.vault, transcript, vault_secret_v, secret_d)
    try:
        plain = ChaCha20Poly1305(vault_keys["join"]).decrypt(bytes(12), hello3[xwing.ENC :], transcript)
    except InvalidTag:
        raise Refused("refused") from None
    role, id_, sent_key, signature = plain[0], plain[1:17], plain[17:49], plain[49:]
    if role == 0:
        check(again or parties.epoch is None, "refused")
        known = sent_key
    else:
        check(id_ == parties.id, "refused")
        known = parties.roster_key
    ed25519.public_key(known, "refused")
    ed25519.verify(known, join_message(transcript, role, id_), signature, "refused")
    assert device_keys == vault_keys
    return hello1, hello2, hello3, binding, device_keys


class Channel:
    """Frames in both directions under one set of keys."""

    def __init__(self, keys):
        self.keys = keys
        self.sent, self.opened = [0, 0], [0, 0]

    def ad(self, direction, counter):
        return tuple_(label("frame"), self.keys["id"], u8(direction), u64(counter))

    def seal(self, direction, kind, payload):
        counter = self.sent[direction]
        self.sent[direction] += 1
        cipher = ChaCha20Poly1305(self.keys[direction])
        plain = u8(kind) + pad(payload, 256)
        return u64(counter) + cipher.encrypt(u32(0) + u64(counter), plain, self.ad(direction, counter))

    def open(self, direction, frame):
        check(8 + 1 + 256 + 16 <= len(frame), "length")
        counter = int.from_bytes(frame[:8], "big")
        check(counter == self.opened[direction], "counter")
        try:
            cipher = ChaCha20Poly1305(self.keys[direction])
            plain = cipher.decrypt(u32(0) + u64(counter), frame[8:], self.ad(direction, counter))
        except InvalidTag:
            raise Refused("tag") from None
        self.opened[direction] += 1
        return plain[0], unpad(plain[1:])

    def carry(self, direction, kind, payload, replaced=None):
        """Seals a frame, opens what arrives, and gives that."""
        frame = self.seal(direction, kind, payload)
        frame = frame if replaced is None else replaced
        found, opened = self.open(direction, frame)
        check((found == 0) == (direction == TO_DEVICE and self.opened[direction] == 1), "type")
        assert (found, opened) == (kind, payload)
        return frame


def channel(i):
    parties = Parties(i)
    replace = {name: bytes.fromhex(value) for name, value in (i.fields.get("replace") or {}).items()}
    hello1, hello2, hello3, binding, keys = exchange(parties, i, i["evidence"], replace, again=False)
    opened, first_id, frames = Channel(keys), keys["id"], []
    for at, step in enumerate(map(Input, i.text("steps"))):
        if "rekey" in step:
            *hellos, _, keys = exchange(parties, step, b"", {}, again=True)
            for kind, direction, hello in zip((5, 6, 7), (TO_VAULT, TO_DEVICE, TO_VAULT), hellos):
                frames.append(opened.carry(direction, kind, hello))
            opened = Channel(keys)
            continue
        direction = TO_VAULT if step.text("from") == "device" else TO_DEVICE
        replaced = replace.get(f"frame {at}")
        frames.append(opened.carry(direction, step.number("type"), step["payload"], replaced))
    return {
        "hello1": hello1,
        "hello2": hello2,
        "hello3": hello3,
        "evidence_binding": binding,
        "channel_id": first_id,
        "frames": frames,
    }
