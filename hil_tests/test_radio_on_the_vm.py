"""The LoRa radio's driver on the real MicroPython: two programs on the board's own pins exchange a frame over the bench's ether."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.peripherals.client import Bench, Program, find_micropython

REPOSITORY = Path(__file__).resolve().parents[1]
#: A signed uplink of WIRE.md 12, as it flies.
PACKET = (
    "81a30a0b0c0d4686191267031a6ae87b40182887020000190276182f18b900870219038402f6f618b800"
    "c4e0c842e3b3846880b73abdd76cc90eafc0e9f55a07a122ddfe0d5740de06a869c4494b6506f9109221a3d25ebda66a969768fc5d5093ecc63a9451111bc975"
)
PROGRAM = """
import asyncio, sys
sys.path[1:1] = ["%s/firmware", "%s/protocol"]
from lamppost_node.board import Board
from lamppost_node.drivers.errors import RadioFault
from lamppost_node.drivers.sx126x import SX126x
from lamppost_protocol import elision
radio = SX126x(*Board().radio(), tcxo_mv=1800)
async def work():
    await radio.configure(868100000, 7, 125000)
%s
asyncio.run(work())
"""
SEND = """
    print(radio.time_on_air_us(%d), await radio.is_channel_active(), await radio.channel_rssi_dbm(5) < -100)
    print(await radio.send(bytes.fromhex("%s")))
    await radio.sleep()
    print("asleep")
"""
RECEIVE = """
    print("listening")
    found = await radio.receive(20000)
    head = elision.decode_head(found.packet, 0xA3000000)
    frame = elision.decode_body(head, found.packet[6:]).frame
    print(found.packet.hex(), "%08x" % head.node, len(frame), found.rssi_dbm, found.snr_db, abs(found.frequency_error_hz) < 4000)
    print(await radio.receive(50), radio.crc_errors, radio.header_errors, radio.restarts)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    try:
        find_micropython()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    made = Bench(tmp_path, "one:radio", "other:radio")
    with contextlib.closing(made):
        assert made.order(op="set", node="other", what="x_m", value=300)["ok"]
        yield made


def run(bench: Bench, node: str, body: str) -> Program:
    return bench.run(node, PROGRAM % (REPOSITORY, REPOSITORY, body))


def test_a_frame_flies_between_two_programs(bench: Bench) -> None:
    """Configured, sent, received, rebuilt: the octets, the place of the sender in the figures, and nothing counted as an error."""
    receiver = run(bench, "other", RECEIVE)
    assert receiver.line() == "listening"
    sender = run(bench, "one", SEND % (len(PACKET) // 2, PACKET))
    size_us = 179456  # 106 octets at SF7: 8 + 4.25 + 8 + 5 x 31 symbols of 1.024 ms
    assert sender.line() == f"{size_us} False True"
    assert sender.line() == str(size_us)
    packet, node, frame_bytes, rssi_dbm, snr_db, is_near = receiver.line().split()
    assert (packet, node, is_near) == (PACKET, "0a0b0c0d", "True")
    assert int(frame_bytes) > len(PACKET) // 2
    assert abs(int(rssi_dbm) - (14 - 31.2 - 74.3)) <= 1
    assert int(snr_db) == 12
    assert receiver.line() == "None 0 0 0"
    assert sender.line() == "asleep"
    assert sender.wait() == receiver.wait() == 0


def test_faults_are_named_there_too(bench: Bench) -> None:
    """The exceptions, deadlines and clocks of MicroPython give the same reasons as the host's."""
    for fault, reason in (("radio_unplugged", "no_answer"), ("busy_stuck", "busy_stuck"), ("tcxo_dead", "no_oscillator")):
        assert bench.order(op="fault", node="one", fault=fault)["ok"]
        program = bench.run(
            "one",
            (PROGRAM % (REPOSITORY, REPOSITORY, "")).replace(
                "asyncio.run(work())", "try:\n    asyncio.run(work())\nexcept RadioFault as fault:\n    print(fault.reason, '|', fault)"
            ),
        )
        assert program.line().startswith(f"{reason} | {reason}: check ")
        assert program.wait() == 0
        assert bench.order(op="clear", node="one")["ok"]
    assert run(bench, "one", SEND % (1, "00")).line().endswith("False True")
