"""The link over the air: acknowledged within its windows, patient in silence, within the law, and alarms ahead of everything."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from air_parts import NETWORK, UNIX, AirNode, air_city, loop_s, overdrawn_us, run_air
from lamppost_protocol import orders, releases, slip
from street.air_city import AirCity

SEED = 20_261_126
BIN = [600, 47, 185, 0]


def run(story: Callable[[AirCity], Coroutine[Any, Any, None]], downlink_hz: int = 869_525_000) -> None:
    run_air(story(air_city(SEED, downlink_hz)), SEED)


async def until(condition: Callable[[], object], deadline_s: float) -> None:
    end_s = loop_s() + deadline_s
    while not condition():
        assert loop_s() < end_s, "not in time"
        await asyncio.sleep(0.5)


def test_records_gather_and_an_acknowledgement_frees_them() -> None:
    """Four readings fly together when the oldest has waited its time; acknowledged, they are never sent again."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, gather_s=3600)
        for _ in range(4):
            node.emit(BIN)
            await asyncio.sleep(900)
        await until(lambda: node.spool.owed() == 0, 60)
        await asyncio.sleep(7200)
        assert [(n, count, waited_s) for _, n, count, waited_s in node.citizen.heard] == [(1, 4, 0)]
        assert len(node.radio.sent) == 1

    run(story)


def test_what_was_lost_does_not_wait_for_newer_records_to_gather() -> None:
    """A frame that nobody heard comes again after its own wait, alone; the record that was made meanwhile waits its hour."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, gather_s=3600)
        city.loses = lambda: True
        node.emit(BIN)
        await until(lambda: node.radio.sent, 3700)
        node.emit(BIN)
        await asyncio.sleep(5)
        city.loses = lambda: False
        await until(lambda: node.citizen.heard, 60)
        assert node.citizen.heard[0][1:3] == (1, 1)
        await asyncio.sleep(3000)
        assert len(node.citizen.heard) == 1
        await until(lambda: node.spool.owed() == 0, 700)
        assert [heard[1:3] for heard in node.citizen.heard] == [(1, 1), (2, 1)]

    run(story)


def test_an_end_noticed_late_moves_no_window() -> None:
    """The program signed something else as the packet ended, and heard of it half a second later: the answer is heard all the same."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, gather_s=0)
        send = node.radio.send

        async def busy(packet: bytes) -> int:
            lasts_us = await send(packet)
            await asyncio.sleep(0.5)
            return lasts_us

        node.radio.send = busy  # type: ignore[method-assign]
        node.emit(BIN)
        await until(lambda: node.spool.owed() == 0, 60)
        await asyncio.sleep(60)
        assert len(node.radio.sent) == 1

    run(story)


def test_an_alarm_flies_at_once_and_alone() -> None:
    """While records gather, and while another frame waits for its answer: within seconds."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1)
        node.emit(BIN)
        await asyncio.sleep(60)
        n = node.emit(BIN, True)
        await until(lambda: n in node.citizen.records, 3)
        assert node.citizen.heard[0][1:3] == (n, 1)
        await until(lambda: not node.uplink._window.is_owed(n), 3)
        city.is_silent = True
        await asyncio.sleep(900)
        assert len(node.citizen.heard) > 1
        second = node.emit(BIN, True)
        await until(lambda: second in node.citizen.records, 3)

    run(story)


def test_in_silence_it_tries_ever_more_rarely() -> None:
    """Nobody answers: the waits grow up to an hour, an alarm's up to ten minutes, from the slowest spreading factor at full power."""
    for is_alarm, most_s in ((False, 3600), (True, 600)):

        async def story(city: AirCity, is_alarm: bool = is_alarm, most_s: int = most_s) -> None:
            city.is_silent = True
            node = AirNode(city, 1, gather_s=0, spreading_factor=10)
            node.emit(BIN, is_alarm)
            await asyncio.sleep(2 * 86400)
            starts = [sent.start_s for sent in node.radio.sent]
            gaps = [after - before for before, after in itertools.pairwise(starts)]
            assert 4.1 < gaps[0] < 40
            assert max(gaps) < most_s + 60
            assert max(gaps) > most_s / 2
            assert [sent.spreading_factor for sent in node.radio.sent[4:]] == [10] * (len(starts) - 4)
            assert (node.link.ladder.place(), node.radio.sent[-1].power_dbm) == (0, 14)

        run(story)


def test_the_ladder_moves_by_what_the_city_heard() -> None:
    """A near node comes down from SF10 and full power to the fastest and weak; when it moves away it is heard again after four tries."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, x_m=40.0, gather_s=0, spreading_factor=10)
        for _ in range(12):
            node.emit(BIN)
            await asyncio.sleep(300)
        assert node.citizen.factors[0] == 10
        assert node.citizen.factors[-1] == 7
        assert node.radio.sent[-1].power_dbm < 14
        node.radio.station.x_m = 6000.0
        node.emit(BIN)
        await until(lambda: node.spool.owed() == 0, 3600)
        assert node.citizen.factors[-1] == 10

    run(story)


def test_a_channel_that_is_taken_is_waited_for_and_an_alarm_goes_all_the_same() -> None:
    """Noise above `busy_dbm` on every channel: records are given up and come again, an alarm is sent after eight looks."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, gather_s=0)
        noise = city.ether.jam(node.radio.station.__class__("jammer", 310.0), 868_300_000, 600_000, 20, loop_s())
        node.emit(BIN)
        await asyncio.sleep(120)
        assert node.radio.sent == []
        assert node.link.given_up >= 1
        assert node.link.busy >= 8
        node.emit(BIN, True)
        await until(lambda: node.radio.sent, 60)
        city.ether.cut(noise, loop_s())
        await until(lambda: node.spool.owed() == 0, 3700)

    run(story)


def test_when_the_airtime_is_spent_records_wait_and_an_alarm_passes() -> None:
    """At SF12 an hour's budget is soon gone: no window of an hour is overdrawn, the frames say how long they waited, the alarm did not."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, gather_s=0, spreading_factor=12, fastest_spreading_factor=12)
        for _ in range(240):
            node.emit(BIN)
            await asyncio.sleep(5)
        n = node.emit(BIN, True)
        await until(lambda: n in node.citizen.records, 10)
        assert next(heard[3] for heard in node.citizen.heard if heard[1] == n) == 0
        await until(lambda: node.spool.owed() == 0, 86400)
        assert max(heard[3] for heard in node.citizen.heard) > 60
        assert 20_000_000 < overdrawn_us(node.radio.sent) <= 36_000_000

    run(story)


def test_a_restart_does_not_give_the_airtime_back() -> None:
    """A node that restarts again and again stays within the hour's budget; one that lost its account is quiet for an hour."""

    async def story(city: AirCity) -> None:
        flash, sent = None, []
        for _ in range(25):
            node = AirNode(city, 1, flash=flash, gather_s=0, spreading_factor=12, fastest_spreading_factor=12)
            for _ in range(16):
                node.emit(BIN)
            await asyncio.sleep(60)
            await node.stop()
            sent += node.radio.sent
            flash = node.flash
        assert 10_000_000 < overdrawn_us(sent) <= 36_000_000
        del flash.files["settings/airtime.M"]
        node = AirNode(city, 1, flash=flash, gather_s=0)
        await asyncio.sleep(3500)
        assert node.radio.sent == []
        await until(lambda: node.radio.sent, 300)

    run(story)


def test_a_window_is_open_when_the_answer_comes() -> None:
    """Answers 45 ms early or late are heard, at 1, 2 and 4 s; one half a second late is not, and the frame comes again."""
    for late_s, is_heard in ((-0.045, True), (0.0, True), (0.045, True), (0.5, False)):
        for x_m in (100.0, 900.0, 1500.0):

            async def story(city: AirCity, late_s: float = late_s, is_heard: bool = is_heard, x_m: float = x_m) -> None:
                city.answers_late_s = late_s
                node = AirNode(city, 1, x_m=x_m, gather_s=0, spreading_factor=9)
                node.emit(BIN)
                await asyncio.sleep(6)
                assert node.citizen.heard
                assert (node.spool.owed() == 0) == is_heard, (late_s, x_m)

            run(story)


def test_an_order_comes_behind_an_acknowledgement() -> None:
    """An acknowledgement opens the windows anew; the order in them is obeyed, and its state does not wait for company."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, gather_s=900)
        node.clock.make_nonce(b"8 octets")
        assert node.clock.take_beacon(UNIX, b"8 octets")
        city.order(1, 7, (UNIX - 10, UNIX + 3600), orders.LEVEL, 1, [40, 0])
        node.emit(BIN)
        await until(lambda: node.fixture.obeyed, 910)
        await until(lambda: any(record[:4] == [5, 0, 7, orders.ACCEPTED] for record in node.citizen.records.values()), 30)

    run(story)


BODY = bytes(range(256)) * 12  # sixteen pieces, the last of 72


def want(city: AirCity, first: int = 0, count: int = 8) -> bytes:
    """The want of node 1 for pieces of a body that the city has."""
    city.bodies[bytes(8)] = BODY
    return bytes(releases.encode_want(releases.Want(NETWORK, 1, bytes(8), first, count)))


def fetching(city: AirCity, node: AirNode) -> list[releases.Piece]:
    """What comes to the node's update from now on, of a city that goes on speaking."""
    came: list[releases.Piece] = []

    async def speak() -> None:
        while True:
            city.advance(loop_s())
            await asyncio.sleep(0.3)

    node.tasks.append(asyncio.ensure_future(speak()))
    node.downlink.update = SimpleNamespace(take=lambda body: came.append(releases.decode_piece(body)))  # type: ignore[assignment]
    return came


def test_one_want_brings_eight_pieces_and_all_that_come_have_come_when_it_is_over() -> None:
    """Each piece opens the windows anew; the node listens no longer than that."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1)
        came = fetching(city, node)
        for first, offsets in ((0, range(0, 1600, 200)), (1600, range(1600, 3200, 200)), (3200, ())):
            begin_s = loop_s()
            assert await node.link.send(slip.WANT, want(city, first))
            assert [piece.offset for piece in came] == list(offsets)
            assert loop_s() - begin_s < 5 + 2.2 * len(offsets)
            came.clear()
        assert [asked.first for _, asked in node.citizen.wants] == [0, 1600, 3200]
        assert [place.spreading_factor for place in node.radio.sent] == [node.radio.sent[0].spreading_factor] * 3
        assert node.citizen.heard == []

    run(story)


def test_frames_do_not_wait_for_pieces() -> None:
    """An alarm and a record come while eight pieces do: they fly within a window's time, the rest of the pieces is not waited for."""
    for is_alarm in (True, False):

        async def story(city: AirCity, is_alarm: bool = is_alarm) -> None:
            node = AirNode(city, 1, gather_s=0)
            came = fetching(city, node)
            asked = asyncio.ensure_future(node.link.send(slip.WANT, want(city)))
            await until(lambda: len(came) == 2, 20)
            n = node.emit(BIN, is_alarm)
            await until(lambda: n in node.citizen.records, 4)
            assert asked.done()
            assert len(came) < 5
            await until(lambda: node.spool.owed() == 0, 5)
            # The other way round: a want that comes to a frame waits for it.
            node.emit(BIN)
            await asyncio.sleep(0.1)
            await node.link.send(slip.WANT, want(city))
            assert node.citizen.heard[-1][0] < node.citizen.wants[-1][0]

        run(story)


def test_wants_leave_airtime_for_everything_else() -> None:
    """As many as are let: twice the reserve is left, the records that come then do not wait, and an alarm finds the whole reserve."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, gather_s=0, spreading_factor=12, fastest_spreading_factor=12)
        while await node.link.send(slip.WANT, want(city, 3200)):
            pass
        assert 18_000_000 < overdrawn_us(node.radio.sent) <= 21_600_000
        assert node.link.given_up == 0
        assert node.log_lines.take() is None
        node.emit(BIN)
        await until(lambda: node.spool.owed() == 0, 20)
        assert node.citizen.heard[0][3] == 0
        assert overdrawn_us(node.radio.sent) <= 28_800_000

    async def hopping(city: AirCity) -> None:
        channels_hz = [902_300_000 + 200_000 * index for index in range(50)]
        node = AirNode(city, 1, region="US915", channels_hz=channels_hz, downlink_hz=923_300_000, spreading_factor=9)
        city.is_silent = True
        node.channels._free_ms = [0] * 50
        wants = 0
        while await node.link.send(slip.WANT, want(city)):
            wants += 1
            node.channels._free_ms = [max(free_ms, 1 << 40) if free_ms else 0 for free_ms in node.channels._free_ms]
        assert wants == 26

    run(story)
    run(hopping, 923_300_000)


def test_wants_that_bring_nothing_come_ever_more_rarely() -> None:
    """By chance, half to the whole of a time that doubles from `resend_s` to ten minutes."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, resend_s=30)
        for misses, most_s in ((0, 30), (1, 60), (4, 480), (5, 600), (40, 600)):
            waits_ms = [node.link.want_wait_ms(misses) for _ in range(200)]
            assert 500 * most_s <= min(waits_ms) < 560 * most_s
            assert 940 * most_s < max(waits_ms) <= 1000 * most_s

    run(story)


def test_a_node_that_always_listens_hears_an_order_between_its_frames() -> None:
    """Said at any time, it is obeyed within seconds; its own frames go out as ever."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, gather_s=0, listens_always=1)
        node.clock.make_nonce(b"8 octets")
        assert node.clock.take_beacon(UNIX, b"8 octets")
        await asyncio.sleep(100)
        city.order(1, 7, (UNIX - 10, UNIX + 3600), orders.LEVEL, 1, [40, 0])
        frame = node.citizen.waiting.pop()
        city._say(frame, 2, 1, loop_s() + 1, loop_s())
        await until(lambda: node.fixture.obeyed, 40)
        await until(lambda: node.citizen.records, 40)
        for _ in range(5):
            node.emit(BIN)
            await asyncio.sleep(100)
        assert node.spool.owed() == 0

    run(story)


def test_foreign_packets_are_counted() -> None:
    """Another make's packet in a window, or another city's, is counted and costs nothing."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, gather_s=0, x_m=100.0)
        foreign = [bytes.fromhex("40f17dbe4900020001954378762b11ff0d"), bytes.fromhex("83ff00000001") + bytes(20)]
        city.is_silent = True
        node.emit(BIN)
        await until(lambda: node.radio.sent, 10)
        for packet, after_s in zip(foreign, (1.0, 2.0), strict=True):
            city._modem.packet_bytes = len(packet)
            city.ether.begin(city._modem.transmission(city.station, packet, 14.0, 0.0, node.radio.sent[0].end_s + after_s), loop_s())
        await asyncio.sleep(5)
        assert node.link.values()[2] == 2
        city.is_silent = False
        await until(lambda: node.spool.owed() == 0, 600)

    run(story)


def test_a_dead_radio_is_told_once_and_tried_again() -> None:
    """No answer on the bus: nothing is lost, the log says so once with what to look at, and again when it sends."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, gather_s=0)
        node.radio.is_dead = True
        node.emit(BIN)
        await asyncio.sleep(7200)
        assert node.link.faults > 3
        node.radio.is_dead = False
        await until(lambda: node.spool.owed() == 0, 4000)
        lines = []
        while (line := node.log_lines.take()) is not None:
            lines.append(line.decode())
        assert lines == ["radio: no_answer: check supply, NRESET and the SPI wires", "radio: sends again"]

    run(story)


@pytest.mark.parametrize(
    ("lora", "paragraph"),
    [
        ({"channels_hz": [869_300_000]}, "EU868"),
        ({"power_dbm": 20}, "band M"),
        ({"region": "US915", "channels_hz": [902_300_000], "downlink_hz": 923_300_000}, "47 CFR 15.247 (a)(1)(i)"),
        ({"channels_hz": [864_000_000], "spreading_factor": 12}, "band K"),
    ],
)
def test_what_the_law_does_not_allow_is_refused(lora: dict, paragraph: str) -> None:
    """Before anything is sent, with the paragraph and what to change."""

    async def story(city: AirCity) -> None:
        with pytest.raises(Exception, match="unlawful") as caught:
            AirNode(city, 1, **lora)
        assert paragraph in str(caught.value)

    run(story)


def test_pieces_where_the_law_is_short() -> None:
    """In AS923 at SF9 a frame takes several packets of at most 400 ms; they are received, and the whole is acknowledged."""

    async def story(city: AirCity) -> None:
        lora = {"region": "AS923", "channels_hz": [923_200_000, 923_400_000], "downlink_hz": 923_300_000}
        node = AirNode(city, 1, gather_s=0, spreading_factor=9, fastest_spreading_factor=9, **lora)
        for _ in range(8):
            node.emit(BIN)
        await until(lambda: node.spool.owed() == 0, 600)
        assert all(sent.end_s - sent.start_s <= 0.4 for sent in node.radio.sent)
        assert len(node.radio.sent) > 2 * len(node.citizen.heard)

    run(story, 923_300_000)


def test_an_order_that_takes_several_packets_is_heard_in_one_window() -> None:
    """Its second piece comes 30 ms behind the first, and not when the next window opens."""

    async def story(city: AirCity) -> None:
        node = AirNode(city, 1, gather_s=0)
        node.emit(BIN)
        await until(lambda: node.citizen.heard, 60)
        city.order(1, 7, (UNIX - 10, UNIX + 3600), orders.CONFIGURE, 0, [bytes(600)])
        node.emit(BIN)
        await until(lambda: any(record[:4] == [5, 0, 7, orders.REFUSED] for record in node.citizen.records.values()), 60)

    run(story)


def test_hopping_channels_rest_between_packets() -> None:
    """Fifty channels in the United States: no packet above 400 ms, and none on a channel that carried one within 20 s."""

    async def story(city: AirCity) -> None:
        channels_hz = [902_300_000 + 200_000 * index for index in range(50)]
        node = AirNode(city, 1, gather_s=0, region="US915", channels_hz=channels_hz, downlink_hz=923_300_000, spreading_factor=9)
        for _ in range(400):
            node.emit(BIN)
            await asyncio.sleep(5)
        await until(lambda: node.spool.owed() == 0, 3600)
        assert len({sent.frequency_hz for sent in node.radio.sent}) > 40
        assert all(sent.end_s - sent.start_s <= 0.4 for sent in node.radio.sent)
        for channel_hz in channels_hz:
            times = [(sent.start_s, sent.end_s) for sent in node.radio.sent if sent.frequency_hz == channel_hz]
            assert all(later[0] - earlier[1] >= 20 for earlier, later in itertools.pairwise(times))

    run(story, 923_300_000)
