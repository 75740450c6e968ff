"""The LoRa radios' drivers on every target: two devices, each with the board's own pins, exchange a frame over the bench's ether."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from bench.peripherals.client import Bench
from bench.targets.target import Device, Setup, Target
from lamppost_protocol.airtime import packet_us
from lamppost_protocol.radio_limits import E22_WRAP
from street.node_device import Image

#: A signed uplink of WIRE.md 12, as it flies: 106 octets, at SF7 8 + 4.25 + 8 + 5 x 31 symbols of 1.024 ms.
PACKET = (
    "81a30a0b0c0d4686191267031a6ae87b40182887020000190276182f18b900870219038402f6f618b800"
    "c4e0c842e3b3846880b73abdd76cc90eafc0e9f55a07a122ddfe0d5740de06a869c4494b6506f9109221a3d25ebda66a969768fc5d5093ecc63a9451111bc975"
)
AIRTIME_US = 179456
E22_AIRTIME_US = packet_us(E22_WRAP, len(PACKET) // 2, 11, 500_000)
BEGIN = """
import asyncio
from lamppost_node.board import Board
from lamppost_node.drivers.errors import RadioFault
from lamppost_protocol import elision
CHIP
async def attempt(work):
    try:
        return await work
    except RadioFault as fault:
        return str(fault)
asyncio.run(attempt(radio.configure(SETTINGS)))
"""
_SPI = "spi, nss, nreset, busy, dio = Board().radio()\n"
#: How radios.py makes each.
MAKE = {
    "radio": _SPI + "from lamppost_node.drivers.sx126x import SX126x\nradio = SX126x(spi, nss, nreset, busy, dio, tcxo_mv=1800)",
    "sx1276": _SPI + "from lamppost_node.drivers.sx127x import SX127x\nradio = SX127x(spi, nss, nreset, dio)",
    "e22": "from lamppost_node.drivers.e22 import E22\nradio = E22(*Board().radio_module())",
}
RECEIVE = """
async def work():
    print("listening")
    found = await radio.receive(120000)
    head = elision.decode_head(found.packet, 0xA3000000)
    frame = elision.decode_body(head, found.packet[6:]).frame
    print("received", found.packet.hex(), "%08x" % head.node, len(frame), found.rssi_dbm, found.snr_qdb, abs(found.frequency_error_hz))
    print("then", await radio.receive(50), radio.crc_errors, radio.header_errors, radio.restarts)
asyncio.run(work())
"""


def begin(wiring: str) -> str:
    """The driver of this wiring's chip, configured."""
    settings = "866125000, 11, 500000" if wiring == "e22" else "868100000, 7, 125000"
    return BEGIN.replace("CHIP", MAKE[wiring]).replace("SETTINGS", settings)


@pytest.fixture(params=["radio-radio", "sx1276-radio", "e22-e22"])
def wirings(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Of the device "one" and of "other"."""
    one, _, other = request.param.partition("-")
    return one, other


@pytest.fixture
def bench(tmp_path: Path, wirings: tuple[str, str]) -> Iterator[Bench]:
    with closing(Bench(tmp_path, f"one:{wirings[0]}", f"other:{wirings[1]}")) as made:
        assert made.order(op="set", node="other", what="x_m", value=300)["ok"]
        yield made


@pytest.fixture
def device(target: Target, target_image: Image, bench: Bench) -> Iterator[Callable[[str], Device]]:
    """Makes and starts the device behind a node's models, with driver, board and protocol on it and no main.py."""
    files = {path: content for path, content in target_image.files.items() if path.startswith(target_image.library)}
    with ExitStack() as stack:

        def make(name: str) -> Device:
            setup = Setup(
                bench.folder / f"{name}.device", name, exchange=bench.folder / name, files=files, machine_files=target_image.machine_files
            )
            made = target.device(setup)
            stack.callback(made.close)
            made.start()
            return made

        yield make


@pytest.mark.needs("console", "models", "prepare")
def test_a_frame_flies_between_two_devices(target: Target, device: Callable[[str], Device], wirings: tuple[str, str]) -> None:
    """Configured, sent, received, rebuilt: the same octets, figures of the place 300 m away, and nothing counted as an error."""
    one, other = device("one"), device("other")
    with other.console.raw_repl(deadline_s=target.deadline_s()) as receiver:
        receiver.exec(begin(wirings[1]), target.deadline_s())
        receiver.run(RECEIVE)
        other.console.expect("listening", deadline_s=target.deadline_s())
        with one.console.raw_repl(deadline_s=target.deadline_s()) as sender:
            sender.exec(begin(wirings[0]), target.deadline_s())
            airtime_us = E22_AIRTIME_US if wirings[0] == "e22" else AIRTIME_US
            assert sender.exec(f"print(radio.time_on_air_us({len(PACKET) // 2}))") == f"{airtime_us}\n"
            assert sender.exec("print(asyncio.run(radio.is_channel_active()))", target.deadline_s()) == "False\n"
            assert int(sender.exec("print(asyncio.run(radio.channel_rssi_dbm(5)))", target.deadline_s())) < -110
            assert sender.exec(f"print(asyncio.run(radio.send(bytes.fromhex('{PACKET}'))))", target.deadline_s()) == f"{airtime_us}\n"
            sender.exec("asyncio.run(radio.sleep())", target.deadline_s())
        other.console.expect("then None 0 0 0", deadline_s=target.deadline_s())
        (line,) = [line for line in other.console.said().splitlines() if line.startswith("received ")]
        packet, node, frame_bytes, rssi_dbm, snr_qdb, error_hz = line.split()[1:]
        assert (packet, node) == (PACKET, "0a0b0c0d")
        assert int(frame_bytes) > len(PACKET) // 2
        assert abs(int(rssi_dbm) - ((13 if wirings[0] == "e22" else 14) - 31.2 - 74.3)) <= 1
        assert int(snr_qdb) == (40 if wirings[0] == "e22" else 48)
        assert int(error_hz) < (4000 if wirings[0] == "radio" else 11000)  # of two TCXOs, or of one and a crystal


@pytest.mark.needs("console", "models", "prepare")
def test_faults_have_names_there_too(target: Target, device: Callable[[str], Device], bench: Bench, wirings: tuple[str, str]) -> None:
    """Exceptions, deadlines and clocks of MicroPython give the host's reasons, with the next step; each fault over, the radio sends."""
    with device("one").console.raw_repl(deadline_s=target.deadline_s()) as repl:
        repl.exec(begin(wirings[0]), target.deadline_s())
        of_an_sx1262 = (("busy_stuck", "busy_stuck"), ("tcxo_dead", "no_oscillator")) if wirings[0] == "radio" else ()
        airtime_us = packet_us(E22_WRAP, 1, 11, 500_000) if wirings[0] == "e22" else 25856
        # An E22 says nothing while it sends; awake, one that is gone is found with the next setting.
        rest = "asyncio.run(radio.sleep())" if wirings[0] == "e22" else ""
        for fault, reason in (("radio_unplugged", "no_answer"), *of_an_sx1262):
            repl.exec(rest, target.deadline_s())
            assert bench.order(op="fault", node="one", fault=fault)["ok"]
            assert repl.exec("print(asyncio.run(attempt(radio.send(b'x'))))", target.deadline_s()).startswith(f"{reason}: check ")
            assert bench.order(op="clear", node="one")["ok"]
            assert repl.exec("print(asyncio.run(attempt(radio.send(b'x'))))", target.deadline_s()) == f"{airtime_us}\n"
        repl.exec(rest, target.deadline_s())
        assert bench.order(op="fault", node="one", fault="brown_out")["ok"]
        assert repl.exec("print(asyncio.run(attempt(radio.send(b'x'))), radio.restarts)", target.deadline_s()) == f"{airtime_us} 1\n"
