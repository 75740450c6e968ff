"""What `lamppost frame decode` was given: hex text, a file (hex or raw octets), or standard input; and the keys to check with."""

import binascii
import json
import re
import sys
from pathlib import Path

from lamppost_tools.authority.public import read_authority_public
from lamppost_tools.errors import MissingError, UsageError
from lamppost_tools.frame.decode import KeyRing
from lamppost_tools.node.registry import Registry, load_hop_keys

_MAX_INPUT_BYTES = 1 << 20
_HEX_TEXT = re.compile(rb"^(?:0x)?[0-9A-Fa-f\s:]*$")


def read_octets(given: str) -> bytes:
    """Octets of HEX, `-` or a file. Raises UsageError or MissingError."""
    if given == "-":
        return octets_of(sys.stdin.buffer.read(_MAX_INPUT_BYTES))
    if _HEX_TEXT.match(given.encode()) and not Path(given).exists():
        return octets_of(given.encode())
    try:
        with Path(given).open("rb") as file:
            return octets_of(file.read(_MAX_INPUT_BYTES))
    except (OSError, ValueError):
        raise MissingError(
            f"{given[:80]!r} is neither hex nor a file that can be read",
            "give hex (spaces and colons are fine), a file name, or - for standard input",
        ) from None


def octets_of(data: bytes) -> bytes:
    """Raw octets as they are; hex text decoded; a JSON document with a "frame" or "bytes" member: that one's hex."""
    text = data.strip()
    if text.startswith(b"{"):
        text = _frame_member(text) or text
    if text and _HEX_TEXT.match(text):
        digits = re.sub(rb"[\s:]", b"", text.removeprefix(b"0x"))
        try:
            return binascii.unhexlify(digits)
        except binascii.Error:
            raise UsageError(f"{len(digits)} hex digits: an odd number", "a digit is missing; copy it again") from None
    return data


def load_ring(registry: Path | None, authority_key: Path | None, hop_keys: Path | None) -> KeyRing:
    """Keys from the given files, each optional. Raises ToolError for files that cannot be used."""
    ring = KeyRing()
    if registry is not None:
        document = Registry(registry).load()
        ring.network = int(document["network"], 16)
        ring.nodes = {int(name, 16): entry for name, entry in document["nodes"].items()}
    if authority_key is not None:
        public = read_authority_public(authority_key)
        ring.authority_key, ring.issuer = public.public_key, public.issuer
        ring.network = public.network if ring.network is None else ring.network
    if hop_keys is not None:
        ring.hop_keys = {name: bytes.fromhex(key) for name, key in load_hop_keys(hop_keys).items()}
    return ring


def _frame_member(text: bytes) -> bytes | None:
    try:
        document = json.loads(text)
    except ValueError:
        return None
    for name in ("frame", "bytes"):
        if isinstance(document, dict) and isinstance(document.get(name), str):
            return str(document[name]).encode("ascii", "replace")
    return None
