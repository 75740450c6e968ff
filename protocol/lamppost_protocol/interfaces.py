"""Types of the objects that callers hand in. For type checkers only: MicroPython has no `typing` and never imports this file."""

from typing import Protocol


class SignerLike(Protocol):
    """Whatever holds a private key: bytecode, `cryptography`, a secure element."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-octet ES256 signature r || s, deterministic (RFC 6979), s in the lower half."""


class VerifierLike(Protocol):
    """Whatever holds a public key."""

    def verify(self, message: bytes, signature: bytes) -> None:
        """Return when the signature is right; else raise RemoteError("bad_signature")."""


class HopKeyLike(Protocol):
    """Whatever holds a hop key."""

    def tag(self, message: bytes) -> bytes:
        """Return the 8-octet tag."""

    def verify(self, message: bytes, tag: bytes) -> None:
        """Return when the tag is right; else raise RemoteError("bad_tag")."""
