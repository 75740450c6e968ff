"""Runs on the emulated board as its main.py: counts instructions of the firmware's steps and prints `name value` lines, then ends QEMU.

What rv32_counting.py leaves out is not counted.
"""

import asyncio
import asyncio.core
import gc
import time

import bench
import machine
import machine_models
import rv32_counting
from lamppost_node import identity
from lamppost_node.clock import Clock
from lamppost_node.flash import Flash
from lamppost_node.framer import Framer
from lamppost_node.links.serial import SerialLink
from lamppost_node.sequence_store import SequenceStore
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_protocol import frames, p256, slip
from lamppost_protocol.p256_tables import build_table

_VALUES = (100, 100, 471, 2301, 210, 950, 12345, 3, 0)
_FRAMES = 12


def tell(name, value):
    """One figure."""
    print(name, value)


def cost(name, work, count):
    """Instructions of one call of `work`, collections included, on average; and what it allocates."""
    work()
    gc.collect()
    rv32_counting.begin()
    for _ in range(count):
        work()
    tell(name, rv32_counting.counted() // count)
    gc.collect()
    gc.disable()
    try:
        before = gc.mem_alloc()
        work()
        tell(name + "_churn", gc.mem_alloc() - before)
    except MemoryError:
        pass  # this heap is too small to see it whole
    gc.enable()


async def _nothing():
    pass


def main():
    """All figures of one table size."""
    flash = Flash("/lamppost")
    flash.make_folder("settings")
    settings = Settings(flash)
    who = identity.load(flash, b"")
    spool = Spool(flash, settings, who.epoch, 65536, bytearray(4096))
    spool.open()
    clock = Clock(time, settings)
    framer = Framer(who, SequenceStore(flash, who.epoch), spool, clock, 1)
    gc.collect()
    gc.threshold(max(8192, gc.mem_free()))
    cost("record", lambda: spool.append(1, 1_795_000_000, 1000, 2, 0, 1, 0, _VALUES), 64)
    n = spool.next_n - 1
    cost("read", lambda: spool.read_from(n), 32)
    record = spool.read_from(n)
    cost("frame", lambda: framer.build(framer.draft(record, 1), 1), _FRAMES)
    message = bytes(120)
    cost("sign", lambda: who.signer.sign(message), _FRAMES)
    # A technician whose private key is 1: his public key is the generator.
    x, y = p256.GENERATOR_X, p256.GENERATOR_Y
    cost("holder", lambda: build_table(x, y, 4, 1), 2)
    one = p256.Signer(bytes(31) + b"\x01", flash.read(identity.GENERATOR_TABLE))
    signature = one.sign(message)
    verifier = p256.Verifier(x.to_bytes(32, "big") + y.to_bytes(32, "big"), who.signer.comb, build_table(x, y, 4, 1))
    cost("request", lambda: verifier.verify(message, signature), 4)
    frame = framer.build(framer.draft(record, 1), 1).data
    acknowledgement = frames.seal_acknowledgement(who.hop_key, who.network, who.node, who.epoch, 100_000, 0, bytes(8))
    reader = frames.AcknowledgementReader(who.hop_key, who.network, who.node, who.epoch)
    cost("acknowledgement", lambda: reader.open(acknowledgement), 64)
    machine_models.ask = machine.ask = rv32_counting.left_out(machine.ask)
    link = SerialLink(machine.UART(1, 115200))
    asyncio.core._io_queue = rv32_counting.Waits(asyncio.core._io_queue)
    cost("send", lambda: asyncio.run(link.send(slip.FRAME, frame)), 16)
    cost("event_loop", lambda: asyncio.run(_nothing()), 16)


main()
bench.exit(77)
