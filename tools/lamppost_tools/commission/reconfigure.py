"""What a node's configuration and schedules on its board are, beside what the site file now says: the difference, key by key, in words.

Only what differs in effect: a key that is left out is its default. The board's file may stand behind its checksum, which the node adds.
"""

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lamppost_protocol import cbor
from lamppost_protocol.errors import ProtocolError

from lamppost_tools.board.installer import digest_on_board
from lamppost_tools.board.repl import Board
from lamppost_tools.commission.clearing import STATE
from lamppost_tools.node.config_keys import FIXTURE_KEYS, LORA_KEYS, NODE_KEYS

CONFIG = f"{STATE}/config.cbor"
_CRC_BYTES = 4


@dataclass(frozen=True)
class OnBoard:
    """A configuration as it lies on a board: its octets, and its map; empty where there is none, or none that can be read."""

    data: bytes
    values: dict[str, Any]


def config_on(board: Board) -> OnBoard:
    """The board's configuration. Raises DeadlineError, MissingError."""
    if digest_on_board(board, CONFIG) is None:
        return OnBoard(b"", {})
    with board.in_words():
        data = bytes(board.transport.fs_readfile(CONFIG))
    is_checked = binascii.crc32(data[_CRC_BYTES:]) == int.from_bytes(data[:_CRC_BYTES], "big")
    try:
        values = cbor.decode(data[_CRC_BYTES:] if is_checked else data)
    except ProtocolError:
        return OnBoard(b"", {})
    return OnBoard(data, values if isinstance(values, dict) else {})


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line a key whose value is another one: `report_s: 60 -> 120`, `bin.depth_mm: none -> 900`; a fixture that comes or goes."""
    before, after = _flat(old), _flat(new)
    return [
        f"{key}: {_word(before.get(key))} -> {_word(after.get(key))}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Every value by its dotted key, defaults filled in."""
    flat = _filled(config, NODE_KEYS, "")
    for fixture in config.get("fixtures", ()):
        kind, instance = fixture.get("kind"), fixture.get("instance", 0)
        name = f"{kind}.{instance}" if instance else str(kind)
        flat[name] = "there"
        flat.update(_filled(fixture, FIXTURE_KEYS.get(str(kind), ()), f"{name}."))
    lora = config.get("lora")
    if lora is not None:
        flat["lora"] = "there"
        flat.update(_filled(lora, LORA_KEYS, "lora."))
    return flat


def _filled(values: Mapping[str, Any], keys: Any, prefix: str) -> dict[str, Any]:
    filled = {prefix + key.name: key.default for key in keys}
    filled.update({prefix + name: value for name, value in values.items() if name not in ("fixtures", "lora", "kind", "instance")})
    return filled


def _word(value: Any) -> str:
    return "none" if value is None else str(value)
