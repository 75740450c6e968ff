"""What `lamppost frame decode` was given: hex text, a file (hex or raw octets), or standard input; and the keys to check with."""

import binascii
import json
import re
import sys
from pathlib import Path
from typing import Any

from lamppost_tools.durable import read_json, require_owner_only
from lamppost_tools.errors import MissingError, RefusedError, UsageError
from lamppost_tools.frame_decode import KeyRing
from lamppost_tools.registry import Registry

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
        public = read_json(authority_key, "give the authority-public.json that `lamppost authority init` wrote")
        try:
            ring.authority_key = bytes.fromhex(public["public_key"])
            ring.issuer = int(public["issuer"], 16)
            ring.network = int(public["network"], 16) if ring.network is None else ring.network
        except (KeyError, TypeError, ValueError):
            raise RefusedError(f"{authority_key} is not an authority's public file", "look for authority-public.json") from None
    if hop_keys is not None:
        require_owner_only(hop_keys)
        keys: dict[str, Any] = read_json(hop_keys, "the gateway's hop-keys.json is meant")
        ring.hop_keys = {int(name, 16): bytes.fromhex(key) for name, key in keys.items()}
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
