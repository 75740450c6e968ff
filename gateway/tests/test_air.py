"""The air in virtual time: real packets, a forwarder's datagrams, the gateway's air above them, nodes that listen by WIRE.md's letter."""

import asyncio
import itertools
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_protocol import beacons, elision, frames, slip
from lamppost_protocol.es256_host import HostSigner
from street.air_world import ADDRESS, World, node_of, now_s, order_frame, play, told
from street.concentrator import PULL_ACK, PUSH_ACK
from street.gateway_rig import NETWORK

SEED = int(os.environ.get("LAMPPOST_SEED", random.randrange(1 << 32)))


@pytest.mark.parametrize(("snr_db", "window_s"), [(9.0, 1), (-2.5, 1), (-2.75, 2), (-9.5, 2), (-9.75, 4), (-14.0, 4)])
def test_an_answer_comes_in_the_window_of_its_signal(tmp_path: Path, snr_db: float, window_s: int) -> None:
    """At SF9, which needs -12.5 dB: 10 dB above it and more at 1 s, 3 dB at 2 s, less at 4 s, by the concentrator's own clock."""

    async def story() -> None:
        node = node_of()
        world = World(tmp_path, [node])

        async def run() -> None:
            end_s = now_s()
            frame = node.sender.frame(3)
            world.speak(node, node.uplink(frame, waited_s=41), snr_db)
            await asyncio.sleep(6)
            (sent,) = world.concentrators[0].sent
            assert abs(sent.begin_s - end_s - window_s) < 1e-5
            assert (sent.txpk["freq"], sent.txpk["datr"], sent.txpk["powe"]) == (869.525, "SF9BW125", 14)
            (ack,) = node.acknowledgements()
            assert (ack.highest, ack.digest) == (3, frames.frame_digest(frame))
            ((kind, body, signal),) = world.handed
            assert (kind, body) == (slip.FRAME, frame)
            assert signal is not None
            assert (signal.modem, signal.rssi_dbm, signal.snr_qdb, signal.waited_s) == ("roof0", -80, round(4 * snr_db), 41)
            assert world.counted("radio_sent", modem="roof0", result="sent") == 1
            assert world.air.signals()[node.sender.node].above_need_qdb == round(4 * (snr_db + 12.5))
            assert {PUSH_ACK, PULL_ACK} <= set(world.concentrators[0].acknowledged)

        await told(world, run)

    play(story)


def test_advice_is_sealed_into_the_acknowledgement(tmp_path: Path) -> None:
    """A weak node is told to slow down at once, a strong one to speed up after four frames."""

    async def story() -> None:
        node = node_of()
        world = World(tmp_path, [node])

        async def run() -> None:
            for snr_db in (-8.0, 9.0, 9.0, 9.0, 9.0):
                world.speak(node, node.uplink(node.sender.frame()), snr_db)
                await asyncio.sleep(8)
            assert [ack.steps for ack in node.acknowledgements()] == [-2, 0, 0, 0, 3]

        await told(world, run)

    play(story)


def test_one_packet_of_two_concentrators_is_one_frame_answered_by_the_better(tmp_path: Path) -> None:
    """The copy is counted, not handed on; the answer follows the better one's signal and clock, though the worse one came first."""

    async def story() -> None:
        node = node_of()
        world = World(tmp_path, [node], modems=2)

        async def run() -> None:
            world.speak(node, node.uplink(node.sender.frame()), [-11.0, 4.0])
            await asyncio.sleep(6)
            assert len(world.handed) == 1
            assert world.concentrators[0].sent == []
            assert len(node.acknowledgements()) == 1
            assert world.counted("radio_copies", modem="roof1") == 1
            # Later the same octets are a replay: of no use for anybody's windows.
            world.speak(node, [world.concentrators[1].sent[0].packet])
            await asyncio.sleep(1)
            assert world.counted("radio_refused", reason="unknown_node") == 1

        await told(world, run)

    play(story)


@pytest.mark.parametrize("error", ["TOO_LATE", "TOO_EARLY", "COLLISION_PACKET", "COLLISION_BEACON", "GPS_UNLOCKED", "NEW_ERROR"])
def test_what_is_not_sent_comes_in_the_next_window(tmp_path: Path, error: str) -> None:
    async def story() -> None:
        node = node_of()
        world = World(tmp_path, [node])

        async def run() -> None:
            world.concentrators[0].refuses = [error, error]
            end_s = now_s()
            world.speak(node, node.uplink(node.sender.frame()))
            await asyncio.sleep(7)
            (sent,) = world.concentrators[0].sent
            assert abs(sent.begin_s - end_s - 4) < 1e-5
            assert len(node.acknowledgements()) == 1

        await told(world, run)

    play(story)


def test_a_lost_result_is_taken_for_sent(tmp_path: Path) -> None:
    """Nothing is sent twice; the conversation goes on, and what comes next opens anew."""

    async def story() -> None:
        node = node_of()
        world = World(tmp_path, [node])

        async def run() -> None:
            world.concentrators[0].answers = False
            for _ in range(2):
                world.speak(node, node.uplink(node.sender.frame()))
                await asyncio.sleep(8)
            assert len(world.concentrators[0].sent) == 2
            assert len(node.acknowledgements()) == 2
            assert world.counted("radio_sent", modem="roof0", result="unanswered") == 2

        await told(world, run)

    play(story)


def test_orders_follow_the_acknowledgement_and_beacons_follow_orders(tmp_path: Path) -> None:
    """Two orders and a beacon behind the acknowledgement, each packet opening the windows anew, and all of it is heard."""

    async def story() -> None:
        node = node_of()
        world = World(tmp_path, [node])
        number = node.sender.node

        def after_commit(whose: int) -> None:
            if not world.concentrators[0].sent:
                beacon = frames.seal(
                    HostSigner(bytes(31) + b"\x02"), frames.BEACON, NETWORK, number, 1, 9, 8, beacons.encode_beacon(9, bytes(8))
                )  # fmt: skip
                assert world.air.send(slip.FRAME, beacon, number)
                assert world.air.send(slip.FRAME, order_frame(number, 7), number)
                assert world.air.send(slip.FRAME, order_frame(number, 7), number)
                assert world.air.send(slip.FRAME, order_frame(number, 6), number)

        world.after_commit = after_commit

        async def run() -> None:
            assert not world.air.send(slip.FRAME, order_frame(number), number)
            world.speak(node, node.uplink(node.sender.frame()))
            await asyncio.sleep(15)
            down, ack = elision.TRAFFIC_DOWNLINK, elision.TRAFFIC_ACKNOWLEDGEMENT
            assert [traffic for _, traffic, _ in node.heard] == [ack, down, down, down]
            assert [frame for _, _, frame in node.heard[1:3]] == [order_frame(number, 7), order_frame(number, 6)]
            assert len(world.concentrators[0].sent) == 4
            assert not world.air.send(slip.FRAME, order_frame(number), number)

        await told(world, run)

    play(story)


def test_a_node_that_listens_always_is_answered_first_and_told_at_any_time(tmp_path: Path) -> None:
    """Acknowledgement, then orders; hours later an order goes out at once; a broadcast now and then."""

    async def story() -> None:
        node = node_of(listens_always=True)
        world = World(tmp_path, [node])
        number = node.sender.node

        def after_commit(whose: int) -> None:
            assert world.air.send(slip.FRAME, order_frame(number), number)

        world.after_commit = after_commit

        async def run() -> None:
            assert not world.air.send(slip.FRAME, order_frame(number), number)  # never heard yet: nobody knows by which modem
            world.speak(node, node.uplink(node.sender.frame()))
            await asyncio.sleep(10)
            assert [traffic for _, traffic, _ in node.heard] == [elision.TRAFFIC_ACKNOWLEDGEMENT, elision.TRAFFIC_DOWNLINK]
            await asyncio.sleep(7200)
            for order_id, refused, limit_s in ((8, [], 0.5), (9, ["COLLISION_PACKET"], 1.2)):
                begin_s = now_s()
                world.concentrators[0].refuses = refused
                assert world.air.send(slip.FRAME, order_frame(number, order_id), number)
                await asyncio.sleep(3)
                assert node.heard[-1][2] == order_frame(number, order_id)
                assert node.heard[-1][0] - begin_s < limit_s
            for count, pause_s in ((1, 300), (1, 301), (2, 1)):
                beacon = frames.seal(HostSigner(bytes(31) + b"\x02"), frames.BEACON, NETWORK, 0, 0, 9, 8, beacons.encode_beacon(9, None))
                world.air.send(slip.FRAME, beacon)
                await asyncio.sleep(pause_s)
                assert sum(1 for _, _, frame in node.heard if frame == beacon) == count

        await told(world, run)

    play(story)


def test_a_late_beacon_finds_the_second_window_of_a_hello(tmp_path: Path) -> None:
    """The authority's answer takes 1.2 s: too late for the first window, in time for the one at 2 s."""

    async def story() -> None:
        node = node_of()
        world = World(tmp_path, [node])
        number = node.sender.node

        async def run() -> None:
            end_s = now_s()
            world.speak(node, [node.hello(bytes(8))])
            await asyncio.sleep(1.2)
            assert [kind for kind, _, _ in world.handed] == [slip.HELLO]
            beacon = frames.seal(
                HostSigner(bytes(31) + b"\x02"), frames.BEACON, NETWORK, number, 1, 9, 8, beacons.encode_beacon(9, bytes(8))
            )
            assert world.air.send(slip.FRAME, beacon, number)
            await asyncio.sleep(5)
            assert [(round(begin_s - end_s, 3), frame) for begin_s, _, frame in node.heard] == [(2.0, beacon)]

        await told(world, run)

    play(story)


def test_pieces_come_by_whichever_modem_heard_them_and_go_down_in_pieces(tmp_path: Path) -> None:
    """Half of a frame heard by each of two concentrators; where 400 ms are the law the answer and an order travel in pieces too."""

    async def story() -> None:
        node = node_of()
        world = World(
            tmp_path,
            [node],
            modems=2,
            region="AS923",
            uplink_channels_hz=[923_200_000],
            downlink_hz=923_400_000,
            downlink_spreading_factor=9,
        )
        number = node.sender.node
        world.after_commit = lambda whose: world.air.send(slip.FRAME, order_frame(number), number) and None

        async def run() -> None:
            frame = node.sender.frame(4)
            packets = node.uplink(frame, most_bytes=66)
            assert len(packets) > 2
            for index, packet in enumerate(packets):
                world.speak(node, [packet], at=[index % 2])
                await asyncio.sleep(0.4)
            node.ended(now_s() - 0.4)
            await asyncio.sleep(12)
            assert [body for _, body, _ in world.handed] == [frame]
            assert [each for _, _, each in node.heard[1:]] == [order_frame(number)]
            assert len(node.acknowledgements()) == 1
            sent = sorted((each for c in world.concentrators for each in c.sent), key=lambda each: each.begin_s)
            assert len(sent) == 3
            assert 0.1 <= sent[2].begin_s - sent[1].end_s <= 0.15
            assert all(each.end_s - each.begin_s <= 0.4 for each in sent)

        await told(world, run)

    play(story)


def test_a_transmitter_that_is_taken_answers_in_the_next_window(tmp_path: Path) -> None:
    """Three nodes at once by one concentrator: nothing overlaps, everybody is answered in a window of his own."""

    async def story() -> None:
        nodes = [node_of(number) for number in (0x11, 0x12, 0x13)]
        world = World(tmp_path, nodes)

        async def run() -> None:
            for node in nodes:
                world.speak(node, node.uplink(node.sender.frame()))
            await asyncio.sleep(8)
            assert [len(node.acknowledgements()) for node in nodes] == [1, 1, 1]
            assert world.counted("radio_postponed", reason="taken") == 3
            assert world.counted("radio_sent", modem="roof0", result="taken") == 0

        await told(world, run)

    play(story)


def test_airtime_is_kept_through_restarts_and_runs_out(tmp_path: Path) -> None:
    """A modem without an account is silent; one that has used its share up answers nobody for an hour; a restart gives nothing back."""

    async def story() -> None:
        node = node_of()
        silent = World(tmp_path, [node], is_unspent=False)

        async def run_silent() -> None:
            silent.speak(node, node.uplink(node.sender.frame()))
            await asyncio.sleep(8)
            assert silent.concentrators[0].sent == []
            assert silent.counted("radio_postponed", reason="no_airtime") > 0
            assert silent.counted("radio_unsent", kind="acknowledgement", reason="no_window") == 1

        await told(silent, run_silent)
        slow = {"downlink_spreading_factor": 12, "downlink_hz": 868_300_000}  # 1 %: 36 s an hour, an answer takes 1.6 s
        spent_s = 0.0
        begin_s = now_s()
        for life in range(4):
            world = World(tmp_path, [node], is_unspent=life == 0, **slow)

            async def run(world: World = world) -> None:
                for _ in range(10):
                    world.speak(node, node.uplink(node.sender.frame()))
                    await asyncio.sleep(10)

            await told(world, run)
            spent_s += sum(each.end_s - each.begin_s for each in world.concentrators[0].sent)
        assert now_s() - begin_s < 3600
        assert 20 < spent_s <= 36
        await asyncio.sleep(3800)
        world = World(tmp_path, [node], is_unspent=False, **slow)
        await asyncio.sleep(3800)

        async def run_again() -> None:
            world.speak(node, node.uplink(node.sender.frame()))
            await asyncio.sleep(8)
            assert len(world.concentrators[0].sent) == 1

        await told(world, run_again)

    play(story)


FOREIGN = {
    "foreign_packet": [
        "00dc0000d07ed5b3701e6fedf57ceeaf0085cc587fe913", "40f17dbe4900020001954378762b11ff0d", "ffffffff785634127b000000" + "5a" * 24,
    ],
    "foreign_network": ["81ff0a0b0c0d" + "46" * 80],
    "unknown_node": [f"81{NETWORK >> 24 ^ NETWORK >> 16 & 255 ^ NETWORK >> 8 & 255 ^ NETWORK & 255:02x}000000ff" + "46" * 80],
}  # fmt: skip


def test_what_is_not_ours_is_counted_and_goes_no_further(tmp_path: Path) -> None:
    """LoRaWAN, Meshtastic, another city's, a stranger's; wrong CRC, FSK, torn JSON, other versions, addresses, concentrators."""

    async def story() -> None:
        node = node_of()
        world = World(tmp_path, [node])
        (concentrator,) = world.concentrators
        modem = world.modems[id(concentrator)]

        async def run() -> None:
            for reason, packets in FOREIGN.items():
                for packet in packets:
                    world.bring(concentrator, concentrator.push(bytes.fromhex(packet), now_s()))
                await asyncio.sleep(0.1)
                assert world.counted("radio_refused", reason=reason) == len(packets)
            (packet,) = node.uplink(node.sender.frame())
            good = concentrator.push(packet, now_s())
            for reason, datagram in (
                ("bad_crc", concentrator.push(packet, now_s(), stat=-1)), ("bad_crc", concentrator.push(packet, now_s(), stat=0)),
                ("foreign_modulation", concentrator.push(packet, now_s(), modu="FSK", datr=50_000)),
                ("bad_json", good[:-1]), ("bad_json", good[:12]), ("bad_json", good[:12] + b"[]"), ("bad_json", good[:12] + b"[" * 9000),
                ("bad_json", good.replace(b"868.1", b"NaN")),
                ("bad_json", concentrator.push(packet, now_s(), lsnr=None)),
                ("bad_json", concentrator.push(packet, now_s(), size=1)), ("bad_json", concentrator.push(packet, now_s(), data="*")),
                ("bad_json", concentrator.push(packet, now_s(), tmst=-1)),
                ("bad_json", concentrator.push(packet, now_s(), datr="SF13BW125")),
                ("bad_json", concentrator.push_document({"rxpk": [7]})), ("bad_json", concentrator.push_document({"rxpk": {}})),
                ("foreign_version", b"\x01" + good[1:]), ("foreign_version", b"\x03" + good[1:]),
                ("too_short", good[:11]), ("too_short", b""),
                ("bad_type", good[:3] + b"\x03" + good[4:]), ("bad_type", good[:3] + b"\x99" + good[4:]),
                ("foreign_eui", good[:4] + b"\xee" * 8 + good[12:]),
            ):  # fmt: skip
                before = world.counted("modem_errors", modem="roof0", reason=reason)
                modem.datagram_received(datagram, ADDRESS)
                assert world.counted("modem_errors", modem="roof0", reason=reason) == before + 1, (reason, datagram[:60])
            modem.datagram_received(good, ("192.0.2.1", 1))
            assert world.counted("modem_errors", modem="roof0", reason="foreign_address") == 1
            modem.datagram_received(concentrator.push_document({"stat": {"rxnb": 5, "rxok": 4, "dwnb": "x", "txnb": -1}}), ADDRESS)
            assert {"rxnb": 5, "rxok": 4}.items() <= modem.describe().items()
            source = random.Random(SEED)
            print("seed", SEED)
            for _ in range(3000):
                spoilt = bytearray(good)
                for _ in range(source.randrange(1, 4)):
                    spoilt[source.randrange(len(spoilt))] = source.randrange(256)
                modem.datagram_received(bytes(spoilt[: source.choice((len(spoilt), source.randrange(len(spoilt))))]), ADDRESS)
            await asyncio.sleep(0.1)
            world.speak(node, node.uplink(node.sender.frame(2)))
            await asyncio.sleep(6)
            assert node.acknowledgements()[-1].highest == 3
            assert [kind for kind, _, _ in world.handed if kind != slip.FRAME] == []

        await told(world, run)

    play(story)


def test_a_silent_concentrator_is_down_and_its_link_with_it(tmp_path: Path) -> None:
    """Polls stop: within a minute nothing is accepted for the air; they come back: it is up again."""

    async def story() -> None:
        node = node_of(listens_always=True)
        world = World(tmp_path, [node])
        modem = world.modems[id(world.concentrators[0])]
        running = asyncio.create_task(asyncio.sleep(0))
        await running
        await asyncio.sleep(0.1)
        assert world.links == [True]
        world.speak(node, node.uplink(node.sender.frame()))
        await asyncio.sleep(60)
        assert not world.air.is_up
        modem._note_change()
        assert world.links == [True, False]
        assert not world.air.send(slip.FRAME, order_frame(node.sender.node), node.sender.node)
        world.bring(world.concentrators[0], world.concentrators[0].pull())
        await asyncio.sleep(0.1)
        assert world.links == [True, False, True]

    play(story)


UPLINKS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4000), st.sampled_from((9.0, -5.0, -11.0)), st.booleans(), st.booleans()),
    min_size=1, max_size=14,
)  # fmt: skip


@settings(max_examples=60)
@given(UPLINKS, st.lists(st.sampled_from(("", "TOO_LATE", "COLLISION_PACKET", "lost")), max_size=20))
def test_nothing_overlaps_and_everything_said_is_heard(
    tmp_path_factory: pytest.TempPathFactory, uplinks: list[Any], fates: list[str]
) -> None:
    """Four nodes speak when they like, two concentrators hear all or one of it and refuse some answers: none sends two packets at once, and
    what was on the air for a node met a window of its, unless the node had spoken again.
    """
    folder = tmp_path_factory.mktemp("air")

    async def story() -> None:
        nodes = [node_of(0x11 + number, listens_always=number == 3) for number in range(4)]
        world = World(folder, nodes, modems=2)

        async def run() -> None:
            for fate, concentrator in zip(fates, world.concentrators * 10, strict=False):
                if fate and fate != "lost":
                    concentrator.refuses.append(fate)
            spoken: dict[int, list[float]] = {}
            for index, pause_ms, snr_db, is_first, has_order in uplinks:
                node = nodes[index]
                spoken.setdefault(index, []).append(now_s())
                if has_order:
                    world.after_commit = lambda whose: world.air.send(slip.FRAME, order_frame(whose), whose) and None
                world.speak(node, node.uplink(node.sender.frame()), snr_db, None if is_first else [index % 2])
                await asyncio.sleep(pause_ms / 1000)
            await asyncio.sleep(40)
            for concentrator in world.concentrators:
                sent = sorted(concentrator.sent, key=lambda each: each.begin_s)
                assert all(earlier.end_s < later.begin_s for earlier, later in itertools.pairwise(sent))
            on_air = sum(len(concentrator.sent) for concentrator in world.concentrators)
            heard = sum(len(node.heard) for node in nodes)
            if all(len(times) == 1 for times in spoken.values()):
                assert heard == on_air
            assert on_air == world.counted("radio_downlinks", kind="acknowledgement") + world.counted("radio_downlinks", kind="order")

        await told(world, run)

    play(story)
