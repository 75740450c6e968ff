"""ES256 on CPython through `cryptography`: the gateway's verifier, the authority's signer. The one door to that library.

Same interfaces, same bytes and same refusals as `p256.py`; never loaded on a node. Ref: RFC 6979, RFC 9053 2.1.
"""

import os

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from lamppost_protocol.errors import LocalError, RemoteError
from lamppost_protocol.p256 import ORDER

_HALF_ORDER = ORDER >> 1
_CURVE = ec.SECP256R1()
_VERIFY_ALGORITHM = ec.ECDSA(hashes.SHA256())
_SIGN_ALGORITHM = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


def generate_private_key() -> bytes:
    """A fresh private key from the operating system's generator: 32 bytes, uniform in 1..ORDER-1."""
    while True:
        candidate = os.urandom(32)
        if 0 < int.from_bytes(candidate, "big") < ORDER:
            return candidate


def _load_private_key(private_key32: bytes) -> ec.EllipticCurvePrivateKey:
    if len(private_key32) != 32 or not 0 < int.from_bytes(private_key32, "big") < ORDER:
        raise LocalError("bad_key", "private key")
    return ec.derive_private_key(int.from_bytes(private_key32, "big"), _CURVE)


def public_key(private_key32: bytes) -> bytes:
    """The 64 bytes x || y that belong to a private key. Raises LocalError("bad_key") unless it is 32 bytes, 1..ORDER-1."""
    numbers = _load_private_key(private_key32).public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


class HostSigner:
    """Signs with one private key; nothing it raises or shows contains it."""

    def __init__(self, private_key32: bytes) -> None:
        """Raises LocalError("bad_key") unless the key is 32 bytes, 1..ORDER-1."""
        self._key = _load_private_key(private_key32)

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes r || s: deterministic, low s, bit-equal to the node's signer."""
        r, s = decode_dss_signature(self._key.sign(message, _SIGN_ALGORITHM))
        if s > _HALF_ORDER:
            s = ORDER - s
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class HostVerifier:
    """Checks signatures of one public key. Keeps the parsed key: parsing costs a tenth of a check."""

    def __init__(self, public_key64: bytes) -> None:
        """Raises LocalError("bad_key") unless the key is x || y of a point on the curve."""
        if len(public_key64) != 64:
            raise LocalError("bad_key", "public key")
        try:
            self._key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, b"\x04" + public_key64)
        except ValueError:
            raise LocalError("bad_key", "public key") from None
        self._verify = self._key.verify

    def verify(self, message: bytes, signature: bytes) -> None:
        """Returns if `signature` (64 bytes, r || s, s in its low half) is the key's for `message`.

        Raises RemoteError("bad_signature") for every other signature. Releases the interpreter lock while it checks.
        """
        if len(signature) != 64:
            raise RemoteError("bad_signature", "length")
        r = int.from_bytes(signature[:32], "big")
        s = int.from_bytes(signature[32:], "big")
        if not 0 < r < ORDER or not 0 < s < ORDER:
            raise RemoteError("bad_signature", "range")
        if s > _HALF_ORDER:
            raise RemoteError("bad_signature", "high s")
        # DER by hand: INTEGERs are minimal and positive, so a set top bit takes one more (zero) byte.
        r_bytes = r.bit_length() // 8 + 1
        s_bytes = s.bit_length() // 8 + 1
        der = b"0%c\x02%c%b\x02%c%b" % (
            r_bytes + s_bytes + 4,
            r_bytes,
            r.to_bytes(r_bytes, "big"),
            s_bytes,
            s.to_bytes(s_bytes, "big"),
        )
        try:
            self._verify(der, message, _VERIFY_ALGORITHM)
        except InvalidSignature:
            raise RemoteError("bad_signature", "mismatch") from None
