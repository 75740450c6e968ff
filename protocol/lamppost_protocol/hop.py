"""The hop key: HMAC 256/64 over acknowledgements (RFC 2104, RFC 9053 section 3.1). It moves a node's send cursor, nothing else."""

from hashlib import sha256

from .cose import TAG_BYTES
from .errors import LocalError, RemoteError

_KEY_BYTES = 32
_BLOCK_BYTES = 64
_IPAD = int.from_bytes(b"\x36" * _BLOCK_BYTES, "big")
_OPAD = int.from_bytes(b"\x5c" * _BLOCK_BYTES, "big")


class HopKey:
    """One node's hop key with its pads computed once. Never shows the key."""

    def __init__(self, key: bytes) -> None:
        """Take 32 octets of key. Raises LocalError("bad_tag") for another length."""
        if len(key) != _KEY_BYTES:
            raise LocalError("bad_tag", "a hop key has 32 octets")
        padded = int.from_bytes(key + bytes(_BLOCK_BYTES - _KEY_BYTES), "big")
        self._inner = (padded ^ _IPAD).to_bytes(_BLOCK_BYTES, "big")
        self._outer = (padded ^ _OPAD).to_bytes(_BLOCK_BYTES, "big")

    def __repr__(self) -> str:
        return "HopKey()"

    def tag(self, message: bytes) -> bytes:
        """Return the first 8 octets of HMAC-SHA-256 over `message`."""
        inner = sha256(self._inner)
        inner.update(message)
        outer = sha256(self._outer)
        outer.update(inner.digest())
        return outer.digest()[:TAG_BYTES]

    def verify(self, message: bytes, tag: bytes) -> None:
        """Return when `tag` is the tag of `message`, else raise RemoteError("bad_tag"). Compares without early exit."""
        expected = self.tag(message)
        if len(tag) != TAG_BYTES:
            raise RemoteError("bad_tag", "wrong length")
        difference = 0
        for i in range(TAG_BYTES):
            difference |= expected[i] ^ tag[i]
        if difference:
            raise RemoteError("bad_tag")
