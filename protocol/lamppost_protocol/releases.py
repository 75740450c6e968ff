"""Releases as the authority and a gateway make and serve them, and all of release_forms.py. WIRE.md section 17."""

from hashlib import sha256

from . import cbor, frames
from .errors import LocalError, RemoteError
from .release_forms import (
    BAD_RELEASE,
    BASE_BYTES,
    DIGEST_BYTES,
    DOWNGRADE,
    FORM,
    MAX_BODY_BYTES,
    MAX_COUNT,
    MAX_FILE_NAME,
    MAX_VERSION_TEXT,
    NAME_BYTES,
    NO_ROOM,
    NOT_FETCHED,
    PACKAGES,
    PIECE_BYTES,
    TRIAL_FAILED,
    WRONG_BASE,
    Manifest,
    Piece,
    Want,
    decode_list,
    decode_manifest,
    decode_piece,
    encode_want,
    files_of,
    is_file_name,
    is_manifest,
    is_piece,
    is_want,
    open_manifest,
)

#: Reason of nodes whose firmware took no releases over the air; not to be used again.
NO_LINE = 20

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .interfaces import SignerLike

__all__ = [
    "BAD_RELEASE",
    "BASE_BYTES",
    "DIGEST_BYTES",
    "DOWNGRADE",
    "FORM",
    "MAX_BODY_BYTES",
    "MAX_COUNT",
    "MAX_FILE_NAME",
    "MAX_VERSION_TEXT",
    "NAME_BYTES",
    "NOT_FETCHED",
    "NO_LINE",
    "NO_ROOM",
    "PACKAGES",
    "PIECE_BYTES",
    "TRIAL_FAILED",
    "WRONG_BASE",
    "Manifest",
    "Piece",
    "Want",
    "base_of",
    "decode_list",
    "decode_manifest",
    "decode_piece",
    "decode_want",
    "encode_body",
    "encode_manifest",
    "encode_piece",
    "encode_want",
    "files_of",
    "is_file_name",
    "is_manifest",
    "is_piece",
    "is_want",
    "open_manifest",
    "seal_manifest",
]


def encode_manifest(manifest: Manifest) -> bytes:
    """Return a manifest's payload; `sequence` travels as the frame's tx. Raises LocalError("bad_payload") for a value out of range."""
    value = [FORM]
    value.extend(manifest[1:])
    if not is_manifest(value):
        raise LocalError("bad_payload", "manifest out of range")
    return cbor.encode(value)


def seal_manifest(signer: "SignerLike", network: int, issuer: int, manifest: Manifest) -> bytes:
    """Return the signed manifest. Raises LocalError: `bad_payload`, `bad_cose` (issuer or sequence out of range)."""
    return frames.seal(signer, frames.RELEASE, network, 0, 0, issuer, manifest.sequence, encode_manifest(manifest))


def base_of(files: "Iterable[tuple[str, bytes]]") -> bytes:
    """Return the 8 octets that name a base. `files`: name and SHA-256 (32 octets) of each, sorted by name."""
    whole = sha256()
    for name, digest in files:
        encoded = name.encode()
        whole.update(bytes((len(encoded),)))
        whole.update(encoded)
        whole.update(digest)
    return whole.digest()[:BASE_BYTES]


def encode_body(files: "Iterable[tuple[str, bytes]]") -> bytes:
    """Return the body with these files, (name, content) in any order. Raises LocalError: `bad_payload` (a name), `too_long`."""
    body = bytearray()
    before = ""
    for name, content in sorted(files):
        if not is_file_name(name) or name == before:
            raise LocalError("bad_payload", "no file of a release: " + name)
        before = name
        body.append(len(name))
        body.extend(name.encode())
        body.extend(len(content).to_bytes(4, "big"))
        body.extend(content)
    if not 1 <= len(body) <= MAX_BODY_BYTES:
        raise LocalError("too_long" if body else "bad_payload", str(len(body)) + " octets of body")
    return bytes(body)


def decode_want(body: bytes) -> Want:
    """Return what a type 9 asks for. Raises RemoteError("bad_payload")."""
    value = decode_list(body)
    if not is_want(value):
        raise RemoteError("bad_payload", "no want")
    return Want(*value)


def encode_piece(piece: Piece) -> bytes:
    """Return the body of a type 10. Raises LocalError("bad_payload") for a value out of range."""
    if not is_piece(piece):
        raise LocalError("bad_payload", "piece out of range")
    return cbor.encode(tuple(piece))
