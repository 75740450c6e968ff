"""Runs on MicroPython: `node_loops.py frame|acknowledgement COUNT FLASH`, COUNT times what the firmware does, and nothing else.

FLASH is a provisioned flash folder. Whoever counts instructions takes the difference of two counts, so start-up falls out.
"""

import gc
import sys
import time

from lamppost_node import identity
from lamppost_node.clock import Clock
from lamppost_node.flash import Flash
from lamppost_node.framer import Framer
from lamppost_node.sequence_store import SequenceStore
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_protocol import frames

_VALUES = (100, 100, 471, 2301, 210, 950, 12345, 3, 0)


def run_frames(count, flash, who):
    """One lamp record, read from the spool, becomes a signed frame, again and again; the counter is reserved as on the node."""
    settings = Settings(flash)
    flash.make_folder("settings")
    spool = Spool(flash, settings, who.epoch, 65536, bytearray(4096))
    spool.open()
    clock = Clock(time, settings)
    framer = Framer(who, SequenceStore(flash, who.epoch), spool, clock, 1)
    n = spool.append(1, 1_795_000_000, 1000, 2, 0, 1, 0, _VALUES)
    gc.collect()
    for _ in range(count):
        framer.build(framer.draft(spool.read_from(n), 1), 1)


def run_acknowledgements(count, who):
    """The octets of one acknowledgement from the line to its checked content."""
    reader = frames.AcknowledgementReader(who.hop_key, who.network, who.node, who.epoch)
    data = frames.seal_acknowledgement(who.hop_key, who.network, who.node, who.epoch, 100_000, 0, bytes(8))
    gc.collect()
    for _ in range(count):
        reader.open(data)


def main():
    """Pick the work."""
    flash = Flash(sys.argv[3])
    who = identity.load(flash, b"")
    if sys.argv[1] == "frame":
        run_frames(int(sys.argv[2]), flash, who)
    else:
        run_acknowledgements(int(sys.argv[2]), who)


main()
