"""Ed25519 (RFC 8032) with the strict verification of section 1, by hand; signing is PyNaCl's."""

import hashlib

from nacl.signing import SigningKey

from notation import Refused, check

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1)


def add(a, b):
    (x1, y1), (x2, y2) = a, b
    t = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + t, P - 2, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - t, P - 2, P)
    return x % P, y % P


def multiply(n, point):
    # Projective, for speed; RFC 8032, section 5.1.4.
    def ext_add(p, q):
        a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
        c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
        e, f, g, h = b - a, d - c, d + c, b + a
        return e * f % P, g * h % P, f * g % P, e * h % P

    result, power = (0, 1, 1, 0), (point[0], point[1], 1, point[0] * point[1] % P)
    while n:
        if n & 1:
            result = ext_add(result, power)
        power, n = ext_add(power, power), n >> 1
    inverse = pow(result[2], P - 2, P)
    return result[0] * inverse % P, result[1] * inverse % P


def decode(data):
    """The point, or None; an encoding that is not canonical is decoded all the same."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, (number & (2**255 - 1)) % P
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT % P
    if (x * x - square) % P:
        return None
    if x == 0 and sign:
        return None
    return (P - x if x & 1 != sign else x), y


def encode(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


BASE = decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def public_key(data, reason="public key"):
    """The key, refused unless it is the canonical encoding of a point that is not of small order."""
    check(len(data) == 32, reason)
    point = decode(data)
    check(point is not None and encode(point) == data, reason)
    check(multiply(8, point) != NEUTRAL, reason)
    return data


def public_of(seed):
    return bytes(SigningKey(seed).verify_key)


def sign(seed, message):
    return SigningKey(seed).sign(message).signature


def verify(public, message, signature, reason="signature"):
    check(len(signature) == 64, reason)
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    point_r, point_a = decode(r), decode(public)
    check(s < ORDER and point_r is not None and point_a is not None, reason)
    check(multiply(8, point_r) != NEUTRAL and multiply(8, point_a) != NEUTRAL, reason)
    k = int.from_bytes(hashlib.sha512(r + public + message).digest(), "little") % ORDER
    minus_a = (P - point_a[0]) % P, point_a[1]
    if encode(add(multiply(s, BASE), multiply(k, minus_a))) != r:
        raise Refused(reason)
