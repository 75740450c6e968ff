"""The bridge over virtual time: a real driver on the register-level model, a node across the street, a gateway's end of the line."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bench.peripherals.ether import Ether, Station
from fake_buses import never_longer, run_virtual
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_node.bridge import Bridge
from lamppost_node.log_lines import LogLines
from lamppost_protocol import modem, slip
from lamppost_protocol.airtime import time_on_air_us
from radio_bench import Radio

UP_HZ, DOWN_HZ = 868_100_000, 869_525_000
LISTEN = modem.Listen(UP_HZ, 9, 125000)
PACKET = bytes(range(98))
ANSWER = bytes(range(31))


class Line:
    """The bridge's line: what it was told, by type, in order, each in 10 ms of the virtual clock."""

    def __init__(self) -> None:
        self.told: list[tuple[float, int, Any]] = []
        self.news = asyncio.Event()

    async def send(self, message_type: int, body: bytes) -> bool:
        name = {slip.RADIO_RECEIVED: "received", slip.RADIO_SENT: "sent", slip.MODEM: "state"}[message_type]
        self.told.append((asyncio.get_running_loop().time(), message_type, getattr(modem, f"decode_{name}")(body)))
        self.news.set()
        await asyncio.sleep(0.01)
        return True

    def of(self, message_type: int) -> list[Any]:
        return [message for _, kind, message in self.told if kind == message_type]

    async def wait(self, message_type: int, count: int = 1, limit_s: float = 60) -> Any:
        """The count-th message of a type."""

        async def wait() -> Any:
            while len(self.of(message_type)) < count:
                self.news.clear()
                await self.news.wait()
            return self.of(message_type)[count - 1]

        return await never_longer(wait(), limit_s)


class World:
    """A bridge that listens, a node's radio 500 m away, and the clock between the bridge and the ether."""

    def __init__(self) -> None:
        self.ether = Ether(1)
        self.radio, self.node = Radio("bridge", self.ether), Radio("node", self.ether, 500)
        self.line = Line()
        self.logs = LogLines()
        self.alive: dict[str, float] = {}
        self.bridge = Bridge(self.line, self.radio.driver, self.logs, "0.1.0", self._alive)
        self.tasks = [asyncio.create_task(run()) for run in (self.bridge.run_radio, self.bridge.run_tell, self.bridge.run_state)]

    def _alive(self, name: str) -> None:
        self.alive[name] = asyncio.get_running_loop().time()

    async def listen(self, settings: modem.Listen = LISTEN) -> None:
        await self.bridge.take(slip.RADIO_LISTEN, modem.encode_listen(settings))
        while not self.line.of(slip.MODEM) or not self.line.of(slip.MODEM)[-1].is_listening:
            await asyncio.sleep(0.05)

    async def transmit(
        self, token: int, at_us: "int | None", packet: bytes = ANSWER, power_dbm: int = 14, listen_ms: int = 0, busy_dbm: int = -80
    ) -> None:
        request = modem.Transmit(token, at_us, DOWN_HZ, 9, 125000, power_dbm, listen_ms, busy_dbm, packet)
        await self.bridge.take(slip.RADIO_TRANSMIT, modem.encode_transmit(request))

    def clock_us(self, at_s: float) -> int:
        """The bridge's clock at an instant of the ether."""
        return round(self.bridge.now_us() + (at_s - asyncio.get_running_loop().time()) * 1e6) % modem.CLOCK_US


def world(story: Callable[[World], Awaitable[None]], settings: "modem.Listen | None" = LISTEN) -> None:
    async def work() -> None:
        made = World()
        await made.node.driver.configure(UP_HZ, 9, 125000)
        if settings is not None:
            await made.listen(settings)
        await story(made)
        assert made.radio.model.ignored == 0
        for task in made.tasks:
            assert not task.done()
            task.cancel()

    run_virtual(work())


def test_a_packet_is_told_with_its_end_and_answered_in_the_first_window() -> None:
    """Uplink, its end by the bridge's clock, an answer one second later: the node, listening as WIRE.md 14.2 has it, hears it."""

    async def story(made: World) -> None:
        await made.node.driver.send(PACKET)
        received = await made.line.wait(slip.RADIO_RECEIVED)
        sent = made.node.model.sent[-1]
        assert received.packet == PACKET
        assert (received.frequency_hz, received.spreading_factor, received.bandwidth_hz) == LISTEN
        assert 0 <= received.at_us - made.clock_us(sent.end_s) <= 1e6 * sent.symbol_s + 1000
        at_us = (received.at_us + 1_000_000) % modem.CLOCK_US
        await made.transmit(7, at_us)
        await made.node.driver.configure(DOWN_HZ, 9, 125000, is_iq_inverted=True)
        window_s = sent.end_s + 0.95
        await asyncio.sleep(window_s - asyncio.get_running_loop().time())
        found = await made.node.driver.receive(150)
        assert found is not None
        assert found.packet == ANSWER
        assert abs(made.clock_us(made.radio.model.sent[-1].start_s) - at_us) <= 50
        assert made.radio.model.sent[-1].is_iq_inverted
        assert await made.line.wait(slip.RADIO_SENT) == modem.Sent(7, modem.SENT, time_on_air_us(len(ANSWER), 9, 125000))

    world(story)


@pytest.mark.parametrize("at_once", [False, True])
def test_told_to_listen_it_sends_into_a_free_channel_only(at_once: bool) -> None:
    """A jammer on the answers' channel: nothing is sent and the result is `busy`; told not to listen, or once it is quiet, it sends, at its
    instant, as ever.
    """

    async def story(made: World) -> None:
        loop = asyncio.get_running_loop()
        noise = made.ether.jam(made.ether.add(Station("jammer", 100.0)), DOWN_HZ, 125000, 14, loop.time())

        async def ask(token: int, listen_ms: int) -> modem.Sent:
            at_us = None if at_once else (made.bridge.now_us() + 400_000) % modem.CLOCK_US
            await made.transmit(token, at_us, listen_ms=listen_ms)
            sent: modem.Sent = await made.line.wait(slip.RADIO_SENT, token)
            if sent.result == modem.SENT and at_us is not None:
                assert abs(made.clock_us(made.radio.model.sent[-1].start_s) - at_us) <= 50
            return sent

        assert await ask(1, 5) == modem.Sent(1, modem.BUSY, 0)
        assert made.radio.model.sent == []
        assert (await ask(2, 0)).result == modem.SENT
        made.ether.cut(noise, loop.time())
        assert (await ask(3, 100)).result == modem.SENT
        assert len(made.radio.model.sent) == 2

    world(story)


def test_it_listens_again_after_it_has_sent() -> None:
    """The next packet on the uplink channel arrives, ten times over."""

    async def story(made: World) -> None:
        for round_number in range(10):
            await made.transmit(round_number, None)
            await made.line.wait(slip.RADIO_SENT, round_number + 1)
            await asyncio.sleep(0.1)
            await made.node.driver.send(bytes([round_number]) * 20)
            assert (await made.line.wait(slip.RADIO_RECEIVED, round_number + 1)).packet == bytes([round_number]) * 20

    world(story)


def test_instants_it_cannot_keep_are_refused_and_the_radio_listens_on() -> None:
    """Past, too far ahead, overlapping another's time: each by its own result, nothing of it on the air."""

    async def story(made: World) -> None:
        now_us = made.bridge.now_us()
        await made.transmit(1, (now_us - 1000) % modem.CLOCK_US)
        await made.transmit(2, now_us + modem.MOST_AHEAD_US + 100_000)
        await made.transmit(3, now_us + 2_000_000)
        await made.transmit(4, now_us + 2_100_000)
        await made.transmit(5, now_us + 1_900_000)
        assert await made.line.wait(slip.RADIO_SENT, 5) is not None
        airtime_us = time_on_air_us(len(ANSWER), 9, 125000)
        assert sorted(made.line.of(slip.RADIO_SENT)) == [
            (1, modem.TOO_LATE, 0), (2, modem.TOO_EARLY, 0), (3, modem.SENT, airtime_us), (4, modem.TAKEN, 0), (5, modem.TAKEN, 0),
        ]  # fmt: skip
        assert len(made.radio.model.sent) == 1

    world(story)


def test_what_is_no_request_is_answered_by_its_token() -> None:
    """A power that the radio does not have, a message of another version, noise: nothing of it goes out, nothing ends."""

    async def story(made: World) -> None:
        await made.transmit(6, None, power_dbm=30)
        for body in (b"\x82\x07\xf6", b"\x80", b"", b"\xff" * 20):
            await made.bridge.take(slip.RADIO_TRANSMIT, body)
            await made.bridge.take(slip.RADIO_LISTEN, body)
            await made.bridge.take(slip.FRAME, body)
        assert await made.line.wait(slip.RADIO_SENT, 2) is not None
        assert sorted(made.line.of(slip.RADIO_SENT)) == [(6, modem.BAD_REQUEST, 0), (7, modem.BAD_REQUEST, 0)]
        assert made.radio.model.sent == []

    world(story)


def test_pieces_follow_one_another_within_50_ms() -> None:
    """Four packets, each 30 ms after the one before: begun at their instants, with the radio not listening in between."""

    async def story(made: World) -> None:
        at_us = made.bridge.now_us() + 500_000
        for token in range(4):
            await made.transmit(token, at_us % modem.CLOCK_US)
            at_us += time_on_air_us(len(ANSWER), 9, 125000) + 30_000
        await made.line.wait(slip.RADIO_SENT, 4)
        assert [answer.result for answer in made.line.of(slip.RADIO_SENT)] == [modem.SENT] * 4
        sent = made.radio.model.sent
        assert [round(later.start_s - earlier.end_s, 3) for earlier, later in itertools.pairwise(sent)] == [0.03] * 3

    world(story)


@pytest.mark.parametrize("fault", ["radio_unplugged", "busy_stuck", "tcxo_dead"])
def test_a_dead_radio_is_told_and_found_again(fault: str) -> None:
    """Within seconds the state says that it does not listen; a request meanwhile fails by name; mended, it hears again."""

    async def story(made: World) -> None:
        made.radio.fault(fault)
        if fault == "tcxo_dead":
            made.radio.fault("brown_out")  # it shows at the next start only
        begin_s = asyncio.get_running_loop().time()
        while made.line.of(slip.MODEM)[-1].is_listening:
            await asyncio.sleep(0.1)
            assert asyncio.get_running_loop().time() < begin_s + 5
        await made.transmit(9, None)
        assert (await made.line.wait(slip.RADIO_SENT)).result == modem.RADIO_FAULT
        made.radio.clear(fault)
        while not made.line.of(slip.MODEM)[-1].is_listening:
            await asyncio.sleep(0.1)
            assert asyncio.get_running_loop().time() < begin_s + 15
        await asyncio.sleep(0.1)
        await made.node.driver.send(PACKET)
        assert (await made.line.wait(slip.RADIO_RECEIVED)).packet == PACKET
        assert made.logs.take() is not None

    world(story)


def test_settings_change() -> None:
    """Another channel and spreading factor are listened to once they are told, and the old ones no longer."""

    async def story(made: World) -> None:
        await made.listen(modem.Listen(868_300_000, 12, 125000))
        await asyncio.sleep(0.1)
        await made.node.driver.send(PACKET)
        await made.node.driver.configure(868_300_000, 12, 125000)
        await made.node.driver.send(ANSWER)
        assert (await made.line.wait(slip.RADIO_RECEIVED)).packet == ANSWER

    world(story)


def test_its_clock_and_its_life_signs_outlast_a_wrap() -> None:
    """Before anybody has told it what to listen to, 80 minutes long, in which 2^32 microseconds end; then it is told, and hears."""

    async def story(made: World) -> None:
        begin_s, begin_us = asyncio.get_running_loop().time(), made.bridge.now_us()
        for _ in range(80):
            await asyncio.sleep(60)
            now_s = asyncio.get_running_loop().time()
            assert {name: now_s - alive_s <= 31 for name, alive_s in made.alive.items()} == {"radio": True, "state": True}
        assert not made.line.of(slip.MODEM)[-1].is_listening
        assert made.bridge.now_us() == (begin_us + round((now_s - begin_s) * 1e6)) % modem.CLOCK_US
        await made.listen()
        await asyncio.sleep(0.1)
        await made.node.driver.send(PACKET)
        received = await made.line.wait(slip.RADIO_RECEIVED)
        assert 0 <= received.at_us - made.clock_us(made.node.model.sent[-1].end_s) < 6000

    world(story, None)


def test_a_bandwidth_it_does_not_have_leaves_it_deaf_and_told_so() -> None:
    """And the next settings are taken."""

    async def story(made: World) -> None:
        await made.bridge.take(slip.RADIO_LISTEN, modem.encode_listen(modem.Listen(UP_HZ, 9, 100_000)))
        await asyncio.sleep(1)
        assert not made.line.of(slip.MODEM)[-1].is_listening
        await made.listen()

    world(story)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-1_000_000, 9_000_000), st.integers(1, 255), st.integers(0, 400)), min_size=1, max_size=12))
def test_every_request_is_answered_once_and_no_two_overlap(asked: list[tuple[int, int, int]]) -> None:
    """Any instants and lengths: one answer each, those sent are on the air at their instant, one after the other."""

    async def story(made: World) -> None:
        wanted: dict[int, int] = {}
        for token, (ahead_us, size, pause_ms) in enumerate(asked):
            wanted[token] = (made.bridge.now_us() + ahead_us) % modem.CLOCK_US
            await made.transmit(token, wanted[token], bytes([token]) * size)
            await asyncio.sleep(pause_ms / 1000)
        await made.line.wait(slip.RADIO_SENT, len(asked), 100)
        await asyncio.sleep(1)
        answers = made.line.of(slip.RADIO_SENT)
        assert sorted(answer.token for answer in answers) == [*range(len(asked))]
        sent = made.radio.model.sent
        assert sorted(each.packet[0] for each in sent) == sorted(each.token for each in answers if each.result == modem.SENT)
        for each in sent:
            off_us = (made.clock_us(each.start_s) - wanted[each.packet[0]] + 2_000_000) % modem.CLOCK_US - 2_000_000
            assert -50 <= off_us <= 30_000
        for earlier, later in itertools.pairwise(sent):
            assert later.start_s > earlier.end_s

    world(story, modem.Listen(UP_HZ, 12, 125000))
