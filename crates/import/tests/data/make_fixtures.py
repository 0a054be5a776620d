#!/usr/bin/env python3
"""Makes the encrypted fixtures in this folder, out of the plain ones that lie beside them.

    python3 -m venv venv && venv/bin/pip install pykeepass cryptography argon2-cffi
    venv/bin/python make_fixtures.py

Made with pykeepass 4.2.0, cryptography 50.0.2 and argon2-cffi 25.1.0. Salts and keys are drawn anew on each run, so the
bytes differ each time; the content does not. Every value is made up. Password of all encrypted files: `made-up password ü`.
The costs of key derivation are small, so that tests are fast.
"""

import base64
import copy
import datetime
import hashlib
import json
import os
import pathlib
import uuid

from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives import hashes, hmac, padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from pykeepass import PyKeePass, create_database

HERE = pathlib.Path(__file__).parent
PASSWORD = "made-up password ü"


def enc_string(key, data):
    """Bitwarden's encString of type 2."""
    expand = lambda label: HKDFExpand(hashes.SHA256(), 32, label).derive(key)
    iv = os.urandom(16)
    pad = padding.PKCS7(128).padder()
    padded = pad.update(data) + pad.finalize()
    aes = Cipher(algorithms.AES(expand(b"enc")), modes.CBC(iv)).encryptor()
    ciphertext = aes.update(padded) + aes.finalize()
    mac = hmac.HMAC(expand(b"mac"), hashes.SHA256())
    mac.update(iv + ciphertext)
    b64 = lambda part: base64.b64encode(part).decode()
    return f"2.{b64(iv)}|{b64(ciphertext)}|{b64(mac.finalize())}"


def bitwarden(name, kdf):
    salt = base64.b64encode(os.urandom(16)).decode()
    if kdf["kdfType"] == 0:
        key = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt.encode(), kdf["kdfIterations"])
    else:
        key = hash_secret_raw(
            PASSWORD.encode(), hashlib.sha256(salt.encode()).digest(), kdf["kdfIterations"],
            kdf["kdfMemory"] * 1024, kdf["kdfParallelism"], 32, Type.ID,
        )
    export = {
        "encrypted": True,
        "passwordProtected": True,
        "salt": salt,
        **kdf,
        "encKeyValidation_DO_NOT_EDIT": enc_string(key, str(uuid.uuid4()).encode()),
        "data": enc_string(key, (HERE / "bitwarden.json").read_bytes()),
    }
    (HERE / name).write_text(json.dumps(export, indent=2) + "\n")


def keepass():
    path = HERE / "keepass.kdbx"
    kp = create_database(str(path), password=PASSWORD)
    params = kp.kdbx.header.value.dynamic_header.kdf_parameters.data.dict
    params.M.value, params.I.value, params.P.value = 1024 * 1024, 2, 2
    fill(kp)
    kp.save()

    # The same with a key file of version 2, and with the key derivation of older files.
    key = bytes(range(32))
    words = " ".join(key.hex().upper()[n:n + 8] for n in range(0, 64, 8))
    check = hashlib.sha256(key).hexdigest()[:8].upper()
    (HERE / "keepass.keyx").write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<KeyFile>\n\t<Meta>\n\t\t<Version>2.0</Version>\n\t</Meta>\n\t<Key>\n'
        f'\t\t<Data Hash="{check}">\n\t\t\t{words}\n\t\t</Data>\n\t</Key>\n</KeyFile>\n'
    )
    kp.keyfile = str(HERE / "keepass.keyx")
    kp.save(filename=str(HERE / "keepass-keyfile.kdbx"))


def fill(kp):
    root = kp.root_group
    web = kp.add_group(root, "Web")
    shops = kp.add_group(web, "Shops & more")
    bank = kp.add_entry(
        web, "Example Bank", "ada.example", "made-up-bank-password", url="https://bank.example/login",
        notes="First line\nSecond line with <tags> & ampersands", tags=["money", "important"],
    )
    bank.set_custom_property("PIN for phone", "made-up-0000", protect=True)
    bank.set_custom_property("Customer number", "made-up-4711", protect=False)
    bank.set_custom_property("KP2A_URL", "https://bank.example/app", protect=False)
    bank.set_custom_property("KP2A_URL_1", "https://bank.example/beta", protect=False)
    bank.otp = "otpauth://totp/Example%20Bank:ada?secret=GEZDGNBVGY3TQOJQ&issuer=Example%20Bank"
    for old in ("made-up-bank-password-1", "made-up-bank-password-2"):
        bank.save_history()
    statement = kp.add_binary(b"made-up statement", protected=True)
    bank.add_attachment(statement, "statement 2025.pdf")

    shop = kp.add_entry(shops, "Пример Shop 🛒", "ada@example.org", "made-up-пароль-🔑", url="https://shop.example")
    shop.set_custom_property("TOTP Seed", "GEZD GNBV GY3T QOJQ", protect=True)
    shop.set_custom_property("TOTP Settings", "60;8", protect=False)
    shop.expires, shop.expiry_time = True, datetime.datetime(2027, 1, 1, tzinfo=datetime.timezone.utc)

    forge = kp.add_entry(root, "Example Forge", "ada", "made-up-forge-password", url="https://forge.example")
    forge.set_custom_property("TimeOtp-Secret-Base32", "GEZDGNBVGY3TQOJQ", protect=True)
    forge.set_custom_property("TimeOtp-Algorithm", "HMAC-SHA-256", protect=False)
    forge.set_custom_property("TimeOtp-Length", "8", protect=False)
    forge.set_custom_property("пароль для входа", "made-up-recovery", protect=True)
    kp.add_entry(root, "Refers to the bank", "ada", "{REF:P@T:Example Bank}")
    kp.add_entry(root, "", "", "", url="")
    kp.add_entry(root, "Steam", "ada", "made-up-steam-password").set_custom_property("TOTP Seed", "GEZDGNBVGY3TQOJQ", True)
    kp.find_entries(title="Steam", first=True).set_custom_property("TOTP Settings", "30;S", False)
    thrown = kp.add_entry(root, "Thrown away", "ada", "made-up-old-password")
    kp.trash_entry(thrown)


if __name__ == "__main__":
    bitwarden("bitwarden-pbkdf2.json", {"kdfType": 0, "kdfIterations": 5000})
    bitwarden("bitwarden-argon2id.json",
              {"kdfType": 1, "kdfIterations": 2, "kdfMemory": 8, "kdfParallelism": 4})
    keepass()
