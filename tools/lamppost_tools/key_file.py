"""A signing key on disk: PKCS #8, encrypted under a passphrase (PBES2 with scrypt and AES-256-CBC), or plain with mode 0600.

The encrypted form is the standard one, so `openssl pkey` reads it. cryptography writes PKCS #8 with PBKDF2 at 2048 rounds only,
too few for a key that commands a city's lamps, hence the few lines of DER here. Nothing here ever prints a key: errors name files.
Ref: RFC 8018 section 6.2 (PBES2), RFC 7914 section 7 (scrypt-params), RFC 5958 section 3 (EncryptedPrivateKeyInfo).
"""

import os
from base64 import b64encode
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7

from lamppost_tools.durable import OWNER_ONLY_MODE, require_owner_only, write_file
from lamppost_tools.errors import MissingError, RefusedError

_OID_PBES2 = bytes.fromhex("2a864886f70d01050d")
_OID_SCRYPT = bytes.fromhex("2b06010401da47040b")
_OID_AES256_CBC = bytes.fromhex("60864801650304012a")
_SCRYPT_N = 1 << 14  # 16 MB with r = 8: the most that `openssl pkey` opens without raising its own limit
_SCRYPT_R = 8
_SCRYPT_P = 5
_KEY_BYTES = 32
_SALT_BYTES = 16
_MIN_PASSPHRASE_BYTES = 12


def read_passphrase(path: Path) -> bytes:
    """The passphrase in an owner-only file, without its final newline. Raises RefusedError when wide open or short."""
    require_owner_only(path)
    passphrase = path.read_bytes().rstrip(b"\r\n")
    if len(passphrase) < _MIN_PASSPHRASE_BYTES:
        raise RefusedError(
            f"the passphrase in {path} has fewer than {_MIN_PASSPHRASE_BYTES} bytes",
            f"make one nobody has to remember: (umask 077; head -c 24 /dev/urandom | base64 > {path})",
        )
    return passphrase


def save_key(path: Path, private_key: bytes, passphrase: bytes | None) -> None:
    """Write the 32-byte P-256 private key, mode 0600, encrypted when there is a passphrase. Refuses to replace a key."""
    if path.exists():
        raise RefusedError(
            f"{path} already holds a key",
            "a key is never replaced in place: give another --state folder, or move this one away first",
        )
    key = ec.derive_private_key(int.from_bytes(private_key, "big"), ec.SECP256R1())
    plain = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    if passphrase is None:
        write_file(path, _pem(b"PRIVATE KEY", plain), OWNER_ONLY_MODE)
    else:
        write_file(path, _pem(b"ENCRYPTED PRIVATE KEY", _encrypt(plain, passphrase)), OWNER_ONLY_MODE)


def load_key(path: Path, passphrase: bytes | None) -> bytes:
    """The 32-byte private key. Raises MissingError, or RefusedError for a wide mode, wrong passphrase or wrong curve."""
    require_owner_only(path)
    data = path.read_bytes()
    if b"BEGIN ENCRYPTED PRIVATE KEY" in data and passphrase is None:
        raise MissingError(f"{path} is encrypted and no passphrase file was given", "add --passphrase-file FILE")
    try:
        key = serialization.load_pem_private_key(data, passphrase if b"BEGIN ENCRYPTED PRIVATE KEY" in data else None)
    except Exception:
        raise RefusedError(f"{path} could not be opened", "check that the passphrase file belongs to this key") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RefusedError(
            f"{path} does not hold a P-256 key", "see `lamppost authority init`, `lamppost kit init-key` and `lamppost technician init`"
        )
    return key.private_numbers().private_value.to_bytes(_KEY_BYTES, "big")


def _encrypt(plain: bytes, passphrase: bytes) -> bytes:
    salt = os.urandom(_SALT_BYTES)
    vector = os.urandom(16)
    derived = Scrypt(salt=salt, length=_KEY_BYTES, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P).derive(passphrase)
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(derived), modes.CBC(vector)).encryptor()
    sealed = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    scrypt_parameters = _sequence(_der(0x04, salt), _integer(_SCRYPT_N), _integer(_SCRYPT_R), _integer(_SCRYPT_P), _integer(_KEY_BYTES))
    key_derivation = _sequence(_der(0x06, _OID_SCRYPT), scrypt_parameters)
    encryption = _sequence(_der(0x06, _OID_AES256_CBC), _der(0x04, vector))
    algorithm = _sequence(_der(0x06, _OID_PBES2), _sequence(key_derivation, encryption))
    return _sequence(algorithm, _der(0x04, sealed))


def _pem(label: bytes, der: bytes) -> bytes:
    text = b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"-----BEGIN " + label + b"-----\n" + b"\n".join(lines) + b"\n-----END " + label + b"-----\n"


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    size_bytes = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size_bytes)]) + size_bytes + content


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, b"".join(parts))


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))
