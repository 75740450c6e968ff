"""A whole node on LoRa, from its bin to its antenna: the firmware's bytecode, the radio's driver on the chip's model, the air, and a city
that speaks WIRE.md. In virtual time; on this machine's interpreter here, on RISC-V in test_lora_node_rv32.py.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from bench.peripherals.ether import Emission, Station
from lamppost_protocol import orders
from lamppost_protocol.kinds import BIN, NODE
from street.lone_node import NETWORK, LoneAirNode

START_UNIX = 1_805_112_000
LORA = {"region": "EU868", "channels_hz": [868_100_000, 868_300_000, 868_500_000], "downlink_hz": 869_525_000, "spread_s": 20}
CONFIG = {"network": NETWORK, "report_s": 900, "health_s": 3600, "fixtures": [{"kind": "bin", "instance": 0}], "lora": LORA}
SEED = 20_261_126
Make = Callable[..., LoneAirNode]
#: By the chip that a node's radio has: what the configuration calls it, to the bench's wiring behind the kind of node.
CHIPS = {"sx1262": "radio", "sx1276": "sx1276"}
_FOREIGN = 15  # column of profile node


@pytest.fixture
def make(tmp_path: Path, lock_step_image: dict[str, bytes]) -> Make:
    def made(chip: str = "sx1262", **lora: object) -> LoneAirNode:
        config = {**CONFIG, "radio": chip, "lora": {**LORA, **lora}}
        return LoneAirNode(tmp_path / "node", lock_step_image, config, START_UNIX, SEED, on_vm=True, wiring=f"bin_{CHIPS[chip]}")

    return made


@pytest.mark.parametrize("chip", CHIPS)
def test_a_bin_reports_and_learns_the_time(make: Make, chip: str) -> None:
    """Hello, beacon, records dated and acknowledged, a fire as an alarm within seconds; no log line flies."""
    with make(chip, gather_s=60, listens_always=0) as node:
        node.board.power_on()
        node.run_until(lambda: node.citizen.hellos, 30, "hello")
        node.run_until(lambda: node.citizen.records, 120, "records")
        kinds = {record[0] for record in node.citizen.records.values()}
        assert {BIN, NODE} >= kinds
        node.run_until(lambda: node.citizen.heard[-1][1] > 1, 1000, "later records")
        node.cabinet.set_fault("fire", None, node.board.now_s)
        at_s = node.board.now_s
        node.run_until(lambda: any(record[0] == BIN and (record[5] or 0) & 2 for record in node.citizen.records.values()), 25, "alarm")
        assert node.board.now_s - at_s < 25
        node.run(node.board.now_s + 100)
        assert node.citizen.window.highest == max(node.citizen.records)
        assert node.air.refused == {}
        assert node.cabinet.radio is not None
        assert node.cabinet.radio.ignored == 0
        assert any("boot 1" in line for line in node.log())


@pytest.mark.parametrize("chip", CHIPS)
def test_an_order_reaches_it_in_a_window(make: Make, chip: str) -> None:
    """Behind an acknowledgement; what became of it flies with the next frame."""
    with make(chip, gather_s=0) as node:
        node.board.power_on()
        node.run_until(lambda: node.citizen.records, 60, "records")
        node.air.order(0x0A0B0C0D, 7, (START_UNIX - 10, START_UNIX + 9000), orders.RESEND, 0, [1, 1])
        node.run_until(lambda: any(r[:4] == [5, 0, 7, orders.APPLIED] for r in node.citizen.records.values()), 1500, "state of the order")


def test_silence_then_an_answer(make: Make) -> None:
    """Nobody answers for an hour: few packets, nothing lost; then all is acknowledged."""
    with make(gather_s=0, spreading_factor=8) as node:
        node.air.is_silent = True
        node.board.power_on()
        node.run(3600)
        heard = len(node.citizen.heard)
        assert 5 < heard < 60
        node.air.is_silent = False
        node.run_until(lambda: node.citizen.window.highest == max(node.citizen.records) >= 4, 3700, "acknowledged records")


@pytest.mark.parametrize(
    ("wrong", "paragraph"),
    [({"channels_hz": [869_300_000]}, "(all of EU868)"), ({"power_dbm": 20}, "(ETSI EN 300 220-2 V3.2.1, 4.3.3 and annex B, band M)")],
)
def test_an_unlawful_radio_stays_off(make: Make, wrong: dict, paragraph: str) -> None:
    """The paragraph stands in the log, nothing is on the air, and the node runs on."""
    with make(**wrong) as node:
        node.board.power_on()
        node.run(120)
        (line,) = [line for line in node.log() if line.startswith("radio off: unlawful")]
        assert paragraph in line
        assert node.citizen.heard == node.citizen.hellos == []
        assert node.cabinet.starts == 1


@pytest.mark.parametrize("chip", CHIPS)
def test_a_dead_radio_is_said_and_survived(make: Make, chip: str) -> None:
    """The radio does not answer: the log says what to look at, the node lives, and speaks when it does."""
    with make(chip, gather_s=0) as node:
        node.cabinet.set_fault("radio_unplugged", None, 0.0)
        node.board.power_on()
        node.run(300)
        assert any("radio: no_answer: check supply" in line for line in node.log())
        assert node.citizen.heard == []
        node.cabinet.clear_fault("radio_unplugged", node.board.now_s)
        node.run_until(lambda: node.citizen.heard, 3700, "frame")
        assert node.cabinet.starts == 1


def test_the_airtime_is_spent_and_an_alarm_passes(make: Make) -> None:
    """A chatty bin at SF12: within the hour's budget by the test's own account, records wait and say so, a fire does not wait."""
    with make(gather_s=0, spreading_factor=12, fastest_spreading_factor=12, spread_s=0) as node:
        sent: list[tuple[float, float]] = []
        begin = node.air.ether.begin

        def note(emission: Emission, now_s: float) -> None:
            if emission.station is not node.air.station:
                sent.append((emission.start_s, emission.end_s))
            begin(emission, now_s)

        node.air.ether.begin = note  # type: ignore[method-assign]
        node.board.power_on()
        node.run_until(lambda: any(waited_s for *_, waited_s in node.citizen.heard), 3 * 3600, "frame that waited for airtime")
        node.cabinet.set_fault("fire", None, node.board.now_s)
        node.run_until(lambda: any(record[0] == BIN and (record[5] or 0) & 2 for record in node.citizen.records.values()), 30, "alarm")
        node.run(node.board.now_s + 1800)
        for first_s, _ in sent:
            spent_s = sum(min(end_s, first_s + 3600) - start_s for start_s, end_s in sent if first_s <= start_s < first_s + 3600)
            assert spent_s <= 36.0


def test_foreign_packets_are_counted(make: Make) -> None:
    """A LoRaWAN downlink and another city's packet in its windows: counted in the node's own record, and nothing else happens."""
    with make(gather_s=0, spread_s=0) as node:
        modem, station, ether = node.air._modem, node.air.station, node.air.ether
        node.air.is_silent = True
        node.board.power_on()
        node.run_until(lambda: node.citizen.heard, 60, "frame")
        end_s = node.citizen.heard[0][0]
        for packet, after_s in ((bytes.fromhex("60f17dbe4900020001954378762b11ff0d"), 1), (bytes.fromhex("83ff00000001") + bytes(20), 2)):
            modem.packet_bytes = len(packet)
            ether.begin(modem.transmission(station, packet, 14.0, 0.0, end_s + after_s), node.board.now_s)
        node.run(node.board.now_s + 10)
        node.air.is_silent = False
        node.run_until(lambda: any(r[0] == NODE and r[2:][_FOREIGN] == 2 for r in node.citizen.records.values()), 4000, "count of two")


def test_a_jammed_channel_is_not_sent_on(make: Make) -> None:
    """While a jammer is louder than `busy_dbm` nothing is sent; when it falls silent all is."""
    with make(gather_s=0) as node:
        node.air.ether.add(Station("jammer", 310.0))
        noise = node.air.ether.jam(node.air.ether.stations[-1], 868_300_000, 600_000, 20, 0.0)
        node.board.power_on()
        node.run(200)
        assert node.citizen.heard == []
        node.air.ether.cut(noise, node.board.now_s)
        node.run_until(lambda: node.citizen.heard, 600, "frame")
