"""The bridge's bytecode on this machine's interpreter, in lock-step with the radio's model: no identity, no key, a gateway on its line."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.lock_step import LineEnd, LockStepBoard
from bench.peripherals.cabinet import Cabinet
from bench.peripherals.ether import Ether, Station, Transmission
from bench.peripherals.lora_modem import Modem
from bench.peripherals.street import Street
from lamppost_protocol import cbor, modem, slip
from lamppost_protocol.airtime import time_on_air_us

START_UNIX_S = 1_805_112_000
UP_HZ, DOWN_HZ = 868_100_000, 869_525_000
PACKET, ANSWER = bytes(range(98)), bytes(range(31))


class Gateway(LineEnd):
    """A gateway's end of the line: what the bridge told, by type."""

    def __init__(self) -> None:
        super().__init__()
        self._decoder = slip.Decoder()
        self.received: list[tuple[float, modem.Received]] = []
        self.sent: list[modem.Sent] = []
        self.states: list[modem.State] = []
        self.logs: list[str] = []
        self.others: list[int] = []

    def command(self, data: bytes, now_s: float) -> None:
        for message_type, body in self._decoder.feed(data):
            if message_type == slip.RADIO_RECEIVED:
                self.received.append((now_s, modem.decode_received(body)))
            elif message_type == slip.RADIO_SENT:
                self.sent.append(modem.decode_sent(body))
            elif message_type == slip.MODEM:
                self.states.append(modem.decode_state(body))
            elif message_type == slip.LOG:
                self.logs.append(body.decode())
            else:
                self.others.append(message_type)

    def listen(self, now_s: float, settings: modem.Listen) -> None:
        self.say(now_s, slip.encode(slip.RADIO_LISTEN, modem.encode_listen(settings)))

    def transmit(self, now_s: float, token: int, at_us: "int | None") -> None:
        request = modem.Transmit(token, at_us, DOWN_HZ, 9, 125000, 14, 0, -80, ANSWER)
        self.say(now_s, slip.encode(slip.RADIO_TRANSMIT, modem.encode_transmit(request)))


class Bridge:
    """The board, its radio, and a station across the street that speaks without a chip."""

    def __init__(self, folder: Path, image: dict[str, bytes]) -> None:
        street = Street(1, START_UNIX_S)
        self.ether = Ether(1)
        self.node = self.ether.add(Station("node", 300.0))
        self.cabinet = Cabinet("bridge", "radio", street, 0.0, self.ether)
        self.gateway = Gateway()
        config = cbor.encode({"bridge": 1, "fixtures": []})
        files = {**image, "/lamppost/config.cbor": config}
        self.board = LockStepBoard(folder, files, street, self.cabinet, self.gateway, on_vm=True)
        assert self.cabinet.radio is not None
        self.radio = self.cabinet.radio

    def run(self, seconds: float) -> None:
        assert self.board.run(self.board.now_s + seconds), self.board.describe("power failed")

    def speak(self, packet: bytes = PACKET) -> Transmission:
        """An uplink at SF9, begun now."""
        sender = Modem(frequency_hz=UP_HZ, spreading_factor=9, packet_bytes=len(packet))
        sent = sender.transmission(self.node, packet, 14, 0.5, self.board.now_s)
        self.ether.begin(sent, self.board.now_s)
        return sent


@pytest.fixture
def bridge(tmp_path: Path, lock_step_image: dict[str, bytes]) -> Iterator[Bridge]:
    made = Bridge(tmp_path / "board", lock_step_image)
    with made.board:
        made.board.power_on()
        made.run(5)
        yield made


def hears(bridge: Bridge) -> Any:
    """It listens, hears an uplink and has told it: (the transmission, when it was told, what was told)."""
    sent = bridge.speak()
    count = len(bridge.gateway.received)
    bridge.run(1)
    assert len(bridge.gateway.received) == count + 1, bridge.board.describe("nothing heard")
    return sent, *bridge.gateway.received[-1]


def test_a_board_without_keys_is_a_radio(bridge: Bridge) -> None:
    """It tells that it is there and deaf, listens when told, hears an uplink, and answers a second after its end to within a window."""
    gateway = bridge.gateway
    assert [state.is_listening for state in gateway.states] == [False]
    assert "boot 1 cause 1, configuration file" in gateway.logs
    gateway.listen(bridge.board.now_s, modem.Listen(UP_HZ, 9, 125000))
    bridge.run(6)
    assert gateway.states[-1].is_listening
    gateway.quiet_limit_ms = 20
    bridge.run(1)
    sent, told_s, received = hears(bridge)
    assert (received.packet, received.frequency_hz, received.spreading_factor) == (PACKET, UP_HZ, 9)
    assert abs(received.rssi_dbm - bridge.ether.received_dbm(sent, bridge.radio.station)) <= 1
    gateway.transmit(told_s, 5, (received.at_us + 1_000_000) % modem.CLOCK_US)
    bridge.run(2)
    (answer,) = bridge.radio.sent
    assert gateway.sent == [(5, modem.SENT, time_on_air_us(len(ANSWER), 9, 125000))]
    assert answer.is_iq_inverted
    assert (answer.packet, answer.frequency_hz // 1000) == (ANSWER, DOWN_HZ // 1000)
    # The wire's window is 50 ms before to 50 ms and 12 symbols after; the tell of the end is late by a poll, 4 ms here, and no more.
    assert -0.001 <= answer.start_s - (sent.end_s + 1) <= 0.012
    assert hears(bridge)
    assert gateway.others == []


def test_its_watchdog_bites_nobody_and_power_may_fail(bridge: Bridge) -> None:
    """Twenty idle minutes without a restart, a state each 30 s; after a cut it says that it is deaf, and hears once it is told again."""
    gateway = bridge.gateway
    gateway.listen(bridge.board.now_s, modem.Listen(UP_HZ, 12, 125000))
    gateway.quiet_limit_ms = 60_000
    bridge.run(1200)
    assert bridge.cabinet.starts == 1
    assert bridge.cabinet.watchdog_kills == 0
    assert len(gateway.states) > 38
    bridge.board.cut_power()
    bridge.board.wait(3)
    gateway.states.clear()
    gateway.quiet_limit_ms = 1000
    bridge.board.power_on()
    bridge.run(5)
    assert [state.is_listening for state in gateway.states] == [False]
    gateway.listen(bridge.board.now_s, modem.Listen(UP_HZ, 9, 125000))
    bridge.run(6)
    assert hears(bridge)


def test_noise_on_the_line_and_a_dead_radio_end_nothing(bridge: Bridge) -> None:
    """Garbage, torn requests, every message with random octets; a radio unplugged and put back: it hears again, without a restart."""
    gateway, source = bridge.gateway, random.Random(7)
    for _ in range(60):
        kind = source.choice(slip.TYPES)
        line = slip.encode(kind, source.randbytes(source.randrange(80)))
        gateway.say(bridge.board.now_s, line[: source.randrange(1, len(line) + 1)])
        gateway.say(bridge.board.now_s, source.randbytes(source.randrange(20)))
    bridge.run(2)
    gateway.listen(bridge.board.now_s, modem.Listen(UP_HZ, 9, 125000))
    bridge.run(6)
    bridge.cabinet.set_fault("radio_unplugged", None, bridge.board.now_s)
    bridge.run(4)
    assert not gateway.states[-1].is_listening
    gateway.transmit(bridge.board.now_s, 9, None)
    bridge.run(2)
    assert gateway.sent[-1] == (9, modem.RADIO_FAULT, time_on_air_us(len(ANSWER), 9, 125000))
    assert any("no_answer: check supply" in text for text in gateway.logs)
    bridge.cabinet.clear_fault("radio_unplugged", bridge.board.now_s)
    bridge.run(4)
    assert gateway.states[-1].is_listening
    assert hears(bridge)
    assert bridge.cabinet.starts == 1
