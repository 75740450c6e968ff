"""The end of a node's service, asked for from the console; a running node never loads it.

From its next start on the node keeps no new record, so that what it owes comes to an end; its lamp goes on as before.
"""

import json

from lamppost_node import identity
from lamppost_node.flash import Flash
from lamppost_node.sampler import LEAVING
from lamppost_node.sequence_store import SequenceStore
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool

_SEGMENT_BYTES = 4096  # main.py's spool buffer


def leave(flash: Flash, segment_bytes: int = _SEGMENT_BYTES) -> tuple[int, int]:
    """Keep nothing new from the next start on; (next number, highest number known to be acknowledged). Writes flash.

    The node keeps its cursor lazily, so the gateway may have more than the second number says. Raises OSError, IdentityError.
    """
    settings = Settings(flash)
    settings.save(LEAVING, 1)
    epoch = identity.epoch_of(flash, identity.FILE)
    spool = Spool(flash, settings, epoch, 0, bytearray(segment_bytes))
    spool.open((SequenceStore(flash, epoch).reserved or 0) * 64 + 1)
    return spool.next_n, spool.cursor


def main() -> None:
    """The same on this board; says the two numbers."""
    from lamppost_node.board import Board

    print(json.dumps(leave(Flash(Board().flash_root()))))
