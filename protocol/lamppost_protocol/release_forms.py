"""Releases as a node reads them, and asks for them: manifest, body, want, piece. WIRE.md section 17; the other side is releases.py.

The manifest is believed for its signature, the body for the manifest's digest of it; a want and a piece are hints that move nothing by
themselves. Bodies are read as a stream, for a node never holds one.
"""

from collections import namedtuple

from . import cbor, cose, frames
from .errors import LocalError, ProtocolError, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .interfaces import VerifierLike

FORM = 1
BASE_BYTES = 8
DIGEST_BYTES = 32
#: By these first octets of the body's digest wants and pieces name a release.
NAME_BYTES = 8
#: Longest body: two slots of it, and the spool, fit the smallest flash we know (960 KiB for files).
MAX_BODY_BYTES = 262144
MAX_VERSION_TEXT = 16
MAX_FILE_NAME = 64
#: One piece fits a LoRa packet with its head.
PIECE_BYTES = 200
#: Pieces in one want: as many as there are windows behind a frame over the air (section 14.2).
MAX_COUNT = 8

#: An update order's own reasons, beside those of orders.py.
WRONG_BASE = 14
DOWNGRADE = 15
NO_ROOM = 16
BAD_RELEASE = 17
TRIAL_FAILED = 18
NOT_FETCHED = 19

#: Folders of a base and of a release.
PACKAGES = ("lamppost_node", "lamppost_protocol")
_SUFFIX = ".mpy"
_NEVER = "lamppost_node/slot.mpy"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"

#: sequence 1 .. MAX_TX; base 8 octets; version a short text; heap_bytes unsigned 32-bit; size_bytes of the body; digest 32 octets.
Manifest = namedtuple("Manifest", ("sequence", "base", "version", "heap_bytes", "size_bytes", "digest"))
#: network, node unsigned 32-bit; release 8 octets; first: an offset in octets; count 1 .. MAX_COUNT pieces.
Want = namedtuple("Want", ("network", "node", "release", "first", "count"))
#: release 8 octets; offset in octets, a multiple of PIECE_BYTES; octets 1 .. PIECE_BYTES of them.
Piece = namedtuple("Piece", ("release", "offset", "octets"))


def decode_manifest(sequence: int, payload: bytes) -> Manifest:
    """Return the Manifest in a payload whose signature has been verified; `sequence`: the frame's tx. Raises RemoteError("bad_payload")."""
    value = decode_list(payload)
    if not is_manifest(value):
        raise RemoteError("bad_payload", "not a manifest of form 1")
    return Manifest(sequence, value[1], value[2], value[3], value[4], value[5])


def open_manifest(data: bytes, verifier: "VerifierLike", network: int, issuer: int) -> Manifest:
    """Return the Manifest in a signed manifest once it is verified.

    Raises RemoteError: `unknown_issuer` (another kid), `bad_signature`, `bad_payload`, or as `cose.decode` does.
    """
    message = cose.decode(data)
    if message.kind != cose.SIGN1:
        raise RemoteError("bad_cose", "COSE_Sign1 expected")
    if message.kid != issuer:
        raise RemoteError("unknown_issuer")
    return decode_manifest(message.tx, frames.open_signed(message, verifier, frames.RELEASE, network, 0, 0))


def is_file_name(name: str) -> bool:
    """Return whether a release may hold a file of this name."""
    parts = name.split("/")
    if len(name) > MAX_FILE_NAME or len(parts) < 2 or parts[0] not in PACKAGES or not name.endswith(_SUFFIX):
        return False
    parts[-1] = parts[-1][: -len(_SUFFIX)]
    if parts[-1] == "__init__" or name == _NEVER:
        return False
    for part in parts:
        if not part:
            return False
        for letter in part:
            if letter not in _LETTERS:
                return False
    return True


def files_of(read: "Callable[[int], bytes]", size_bytes: int) -> "Iterator[tuple[str, int]]":
    """Give name and size in octets of each file of a body of `size_bytes`, as it comes.

    `read(n)` gives the next n octets, fewer only where there are no more. Before the next file is asked for, the caller must have read
    the content of this one, with the same `read`. Raises RemoteError("bad_payload") for whatever is no body.
    """
    at = 0
    before = ""
    while at < size_bytes:
        length = read(1)
        name_octets = read(length[0]) if length else b""
        size_octets = read(4)
        if not length or len(name_octets) != length[0] or len(size_octets) != 4:
            raise RemoteError("bad_payload", "body ends within a file's head")
        for octet in name_octets:
            if octet > 0x7F:
                raise RemoteError("bad_payload", "file name outside ASCII")
        name = name_octets.decode()
        size = int.from_bytes(size_octets, "big")
        at += 1 + len(name) + 4 + size
        if not is_file_name(name) or name <= before or at > size_bytes:
            raise RemoteError("bad_payload", "no file of a release")
        before = name
        yield name, size


def encode_want(want: Want) -> bytes:
    """Return the body of a type 9. Raises LocalError("bad_payload") for a value out of range."""
    if not is_want(want):
        raise LocalError("bad_payload", "want out of range")
    return cbor.encode(tuple(want))


def decode_piece(body: bytes) -> Piece:
    """Return what a type 10 brings. Raises RemoteError("bad_payload")."""
    value = decode_list(body)
    if not is_piece(value):
        raise RemoteError("bad_payload", "no piece")
    return Piece(*value)


def decode_list(data: bytes) -> "list[Any]":
    """Return the array in `data`. Raises RemoteError("bad_payload")."""
    try:
        value = cbor.decode(data)
    except ProtocolError as error:
        raise RemoteError("bad_payload", error.detail)
    if not isinstance(value, list):
        raise RemoteError("bad_payload", "not an array")
    return value


def is_manifest(value: "Any") -> bool:
    """Return whether a list is a manifest's payload."""
    if len(value) != 6 or value[0] is True or value[0] != FORM or not _are_octets(value[1], BASE_BYTES):
        return False
    version = value[2]
    if not isinstance(version, str) or not 1 <= len(version) <= MAX_VERSION_TEXT:
        return False
    for letter in version:
        if not 0x20 < ord(letter) < 0x7F:
            return False
    is_right = frames.is_uint(value[3], 0xFFFFFFFF) and frames.is_uint(value[4], MAX_BODY_BYTES) and value[4] > 0
    return is_right and _are_octets(value[5], DIGEST_BYTES)


def is_want(value: "Any") -> bool:
    """Return whether these are a want's items."""
    if len(value) != 5 or not (frames.is_uint(value[0], 0xFFFFFFFF) and frames.is_uint(value[1], 0xFFFFFFFF) and value[1] > 0):
        return False
    return _are_octets(value[2], NAME_BYTES) and _is_offset(value[3]) and frames.is_uint(value[4], MAX_COUNT) and value[4] > 0


def is_piece(value: "Any") -> bool:
    """Return whether these are a piece's items."""
    if len(value) != 3 or not _are_octets(value[0], NAME_BYTES) or not _is_offset(value[1]):
        return False
    return isinstance(value[2], bytes) and 1 <= len(value[2]) <= PIECE_BYTES


def _is_offset(value: "Any") -> bool:
    return frames.is_uint(value, MAX_BODY_BYTES - 1) and value % PIECE_BYTES == 0


def _are_octets(value: "Any", length: int) -> bool:
    return isinstance(value, bytes) and len(value) == length
