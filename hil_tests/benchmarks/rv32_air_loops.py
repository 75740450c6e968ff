"""Runs on the emulated board as its main.py: instructions of what LoRa adds to a frame; prints `name value` lines, then ends QEMU."""

import gc

import bench
import rv32_counting
from lamppost_node import identity
from lamppost_node.flash import Flash
from lamppost_protocol import elision, frames, kinds, records
from lamppost_protocol.fragments import MAX_OF_A_NODE, Reassembly

_TIMES = 64
_RECORD = [kinds.BIN, 0, kinds.GOOD, 834, 42, 215, 0]


def cost(name, work):
    """Instructions of one call, collections included, on average."""
    work()
    gc.collect()
    rv32_counting.begin()
    for _ in range(_TIMES):
        work()
    print(name, rv32_counting.counted() // _TIMES)


def main():
    """A bin's frame to its packet, and an acknowledgement's packet back."""
    who = identity.load(Flash("/lamppost"), b"")
    payload = records.encode_uplink(100_000, 0, 1_795_000_000, 2, [_RECORD])
    frame = frames.seal(who.signer, frames.UPLINK, who.network, who.node, who.epoch, who.node, 100_000, payload)
    cost("packet", lambda: elision.encode(frame, elision.TRAFFIC_UPLINK, who.network, who.node))
    acknowledgement = frames.seal_acknowledgement(who.hop_key, who.network, who.node, who.epoch, 100_000, 0, bytes(8))
    (flown,) = elision.encode(acknowledgement, elision.TRAFFIC_ACKNOWLEDGEMENT, who.network, who.node)
    heard = Reassembly(who.network, lambda traffic, node: node == who.node, MAX_OF_A_NODE)
    cost("heard", lambda: heard.feed(flown, 1000))


main()
bench.exit(77)
