"""A whole lamp node whose link is an E22, from its meter to its antenna, and a board with an E22 on a gateway's line; in virtual time."""

from collections.abc import Callable
from pathlib import Path

import pytest
from bench.lock_step import LockStepBoard
from bench.peripherals.cabinet import Cabinet
from bench.peripherals.e22 import PREAMBLE_SYMBOLS, SYNC_WORD, unwrapped, wrapped
from bench.peripherals.ether import Emission, Ether, Station
from bench.peripherals.lora_modem import BANDWIDTHS_HZ, Modem
from bench.peripherals.street import Street
from lamppost_protocol import cbor, modem, orders, slip
from lamppost_protocol.airtime import packet_us
from lamppost_protocol.kinds import LAMP
from lamppost_protocol.radio_limits import E22_WRAP
from street.lone_node import NETWORK, LoneAirNode
from test_bridge_lock_step import Gateway

START_UNIX = 1_805_112_000
UP_HZ, DOWN_HZ = 866_125_000, 867_125_000
LORA = {
    "region": "EU868", "channels_hz": [UP_HZ], "downlink_hz": DOWN_HZ, "bandwidth_hz": 500_000, "downlink_bandwidth_hz": 500_000,
    "spreading_factor": 11, "fastest_spreading_factor": 11, "downlink_spreading_factor": 11, "power_dbm": 13, "least_power_dbm": 10,
    "spread_s": 20,
}  # fmt: skip
CONFIG = {
    "network": NETWORK, "report_s": 60, "health_s": 3600, "radio": "e22", "fixtures": [{"kind": "lamp", "instance": 0}], "lora": LORA,
}  # fmt: skip
SEED = 20_261_127
Make = Callable[..., LoneAirNode]


@pytest.fixture
def make(tmp_path: Path, lock_step_image: dict[str, bytes]) -> Make:
    def made(report_s: int = 60, **lora: object) -> LoneAirNode:
        config = {**CONFIG, "report_s": report_s, "lora": {**LORA, **lora}}
        return LoneAirNode(tmp_path / "node", lock_step_image, config, START_UNIX, SEED, on_vm=True, wiring="lamp_e22")

    return made


def sendings(node: LoneAirNode) -> list[tuple[float, float]]:
    """Begin and end of every packet of the node's from now on, by an account of the test's own."""
    sent: list[tuple[float, float]] = []
    begin = node.air.ether.begin

    def note(emission: Emission, now_s: float) -> None:
        if emission.station is not node.air.station:
            sent.append((emission.start_s, emission.end_s))
        begin(emission, now_s)

    node.air.ether.begin = note  # type: ignore[method-assign]
    return sent


@pytest.mark.parametrize("listens_always", [0, 1])
def test_a_lamp_reports_learns_the_time_and_obeys(make: Make, listens_always: int) -> None:
    """Hello, beacon, dated records, an order behind an acknowledgement that the meter proves; each heard in the window it was sent in."""
    with make(gather_s=0, listens_always=listens_always) as node:
        node.board.power_on()
        node.run_until(lambda: node.citizen.hellos and node.citizen.records, 60, "hello and records")
        node.run(60)
        assert len(node.citizen.hellos) == 1, "the beacon was not heard"
        unix = int(START_UNIX + node.board.now_s)
        node.air.order(0x0A0B0C0D, 7, (unix - 10, unix + 9000), orders.LEVEL, LAMP, [40, 0])
        node.run_until(lambda: [5, 0, 7, orders.VERIFIED] in [r[:4] for r in node.citizen.records.values()], 400, "verified order")
        assert node.cabinet.lamp is not None
        assert node.cabinet.lamp.log[-1][1] == 400
        node.run(node.board.now_s + 30)
        heard = [(n, count) for _, n, count, _ in node.citizen.heard]
        assert len(set(heard)) == len(heard), "a frame came again although it was answered"
        assert node.air.refused == {}
        assert node.cabinet.radio is not None
        assert node.cabinet.radio.ignored == 0
        assert not [line for line in node.log() if line.startswith("radio")]


def test_no_hour_has_more_airtime_than_the_law_gives(make: Make) -> None:
    """A lamp that says something every five seconds: records wait for airtime, and the account is the stricter one."""
    with make(report_s=5, gather_s=0, spread_s=0) as node:
        sent = sendings(node)
        node.board.power_on()
        node.run_until(lambda: any(waited_s for *_, waited_s in node.citizen.heard), 2 * 3600, "frame that waited for airtime")
        node.run(node.board.now_s + 120)
        for first_s, _ in sent:
            spent_s = sum(min(end_s, first_s + 3600) - start_s for start_s, end_s in sent if first_s <= start_s < first_s + 3600)
            assert spent_s <= 36.0
        assert sum(end_s - start_s for start_s, end_s in sent) > 10


def test_a_dead_module_is_said_and_survived(make: Make) -> None:
    """Its supply is gone: the log says what to look at, the lamp burns on, and it speaks when the module is back."""
    with make(gather_s=0) as node:
        node.cabinet.set_fault("radio_unplugged", None, 0.0)
        node.board.power_on()
        node.run(300)
        assert any("radio: no_answer: check supply" in line for line in node.log())
        assert node.citizen.heard == []
        node.cabinet.clear_fault("radio_unplugged", node.board.now_s)
        node.run_until(lambda: node.citizen.heard, 3700, "frame")
        assert node.cabinet.starts == 1


def test_an_unlawful_channel_stays_off(make: Make) -> None:
    """The maker's own channel crosses two bands at 500 kHz: the paragraph stands in the log and nothing is on the air."""
    with make(channels_hz=[868_125_000]) as node:
        node.board.power_on()
        node.run(60)
        assert any(line.startswith("radio off: unlawful: 868125000 Hz with 500000 Hz") for line in node.log()), node.log()
        assert node.citizen.heard == node.citizen.hellos == []


def test_a_board_with_an_e22_on_a_gateways_line(tmp_path: Path, lock_step_image: dict[str, bytes]) -> None:
    """It hears an uplink, tells its end within 12 ms, and begins the answer a second later to within a window; the airtime it tells is
    the upper bound."""
    street, ether, gateway = Street(1, START_UNIX), Ether(1), Gateway()
    node = ether.add(Station("node", 300.0))
    cabinet = Cabinet("bridge", "e22", street, 0.0, ether)
    files = {**lock_step_image, "/lamppost/config.cbor": cbor.encode({"bridge": 1, "radio": "e22", "fixtures": []})}
    bandwidth = next(each for each in BANDWIDTHS_HZ.values() if each == 500_000)
    packet, answer = bytes(range(98)), bytes(range(31))
    with LockStepBoard(tmp_path / "board", files, street, cabinet, gateway, on_vm=True) as board:
        board.power_on()
        assert board.run(5)
        gateway.listen(board.now_s, modem.Listen(UP_HZ, 11, 500_000))
        assert board.run(board.now_s + 6)
        assert gateway.states[-1].is_listening
        for token in (1, 2):
            flown = wrapped(bytes((98,)) + packet, 16, 76, 0)
            sender = Modem(
                UP_HZ, 11, bandwidth, has_low_data_rate=True, preamble_symbols=PREAMBLE_SYMBOLS, packet_bytes=len(flown),
                sync_word=SYNC_WORD,
            )  # fmt: skip
            sent = sender.transmission(node, flown, 13, 0.5, board.now_s)
            ether.begin(sent, board.now_s)
            gateway.quiet_limit_ms = 20
            assert board.run(board.now_s + 1)
            _, received = gateway.received[-1]
            assert (len(gateway.received), received.packet, received.frequency_hz) == (token, packet, UP_HZ)
            request = modem.Transmit(token, (received.at_us + 1_000_000) % modem.CLOCK_US, DOWN_HZ, 11, 500_000, 13, 0, -80, answer)
            gateway.say(board.now_s, slip.encode(slip.RADIO_TRANSMIT, modem.encode_transmit(request)))
            assert board.run(board.now_s + 3)
            assert gateway.sent[-1] == (token, modem.SENT, packet_us(E22_WRAP, len(answer), 11, 500_000))
            assert cabinet.radio is not None
            said = cabinet.radio.sent[-1]
            assert unwrapped(said.packet, 77, 0) == bytes((31,)) + answer
            assert said.frequency_hz // 1_000_000 == 867
            assert -0.002 <= said.start_s - (sent.end_s + 1) <= 0.030
        assert cabinet.radio.ignored == 0
        assert gateway.others == []
