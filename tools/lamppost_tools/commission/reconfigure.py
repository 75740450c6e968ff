"""A node's configuration as it lies on its board: the file may stand behind its checksum, which the node adds."""

import binascii
from dataclasses import dataclass
from typing import Any

from lamppost_protocol import cbor
from lamppost_protocol.errors import ProtocolError

from lamppost_tools.board.installer import digest_on_board
from lamppost_tools.board.repl import Board
from lamppost_tools.commission.clearing import STATE

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
