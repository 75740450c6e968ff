"""Releases over the air in virtual time: the gateway's air and its releases, real packets, nodes that listen by WIRE.md's letter."""

import asyncio
import hashlib
import itertools
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway.downlinks import Downlinks
from lamppost_gateway.links.base import Signal
from lamppost_gateway.release_store import ReleaseStore
from lamppost_gateway.releases import Releases
from lamppost_protocol import elision, releases, slip
from street.air_node import AirNode
from street.air_world import World, node_of, now_s, order_frame, play, told
from street.concentrator import Sent

SEED = int(os.environ.get("LAMPPOST_SEED", random.randrange(1 << 32)))
BODY = bytes(range(256)) * 9 + b"end"  # 2307 octets: twelve pieces, the last of 107
DIGEST = hashlib.sha256(BODY).digest()
NAME = DIGEST[: releases.NAME_BYTES]
#: A band of 1 %.
HUNDREDTH = {"downlink_hz": 868_300_000}


class Ordered:
    """Which nodes have an open update order for the body: what orders.py knows."""

    def __init__(self, nodes: Sequence[AirNode]) -> None:
        self.nodes = {node.sender.node for node in nodes}

    def manifest_of(self, node: int, release: bytes) -> releases.Manifest | None:
        is_named = node in self.nodes and DIGEST.startswith(release)
        return releases.Manifest(3, bytes(8), "0.2.0", 0, len(BODY), DIGEST) if is_named else None


class City(World):
    """A gateway that has the body; `ordered`: the nodes with an order for it."""

    def __init__(self, folder: Path, nodes: list[AirNode], ordered: Sequence[AirNode] = (), **changed: Any) -> None:
        super().__init__(folder, nodes, **changed)
        store = ReleaseStore(folder / "releases", lambda _: 1 << 40)
        (folder / "releases").mkdir(exist_ok=True)
        (folder / "releases" / DIGEST.hex()).write_bytes(BODY)
        downlinks = Downlinks()
        downlinks.add_link(self.air)
        self.releases = Releases(store, Ordered(ordered), downlinks, self.metrics)  # type: ignore[arg-type]
        self.releases.load()

    def heard(self, link: Any, message_type: int, body: bytes, received_at_ms: int, signal: Signal | None = None) -> None:
        if message_type == slip.WANT:
            self.releases.want_heard(link.name, releases.decode_want(body))
        else:
            super().heard(link, message_type, body, received_at_ms, signal)

    def sent(self) -> list[Sent]:
        return sorted((each for concentrator in self.concentrators for each in concentrator.sent), key=lambda each: each.begin_s)

    def pieces(self) -> list[Sent]:
        return [each for each in self.sent() if elision.decode_head(each.packet, self.registry.network).traffic == elision.TRAFFIC_PIECE]

    async def fetch(self, node: AirNode, wants: int, pause_s: float = 0.6) -> None:
        """A node that wants the first eight pieces again and again."""
        for _ in range(wants):
            self.speak(node, [node.want(NAME, 0, 8)])
            await asyncio.sleep(4.2)
            while node.heard and now_s() - node.heard[-1][0] < 5.6:
                await asyncio.sleep(0.5)
            await asyncio.sleep(pause_s)


@pytest.mark.parametrize(("snr_db", "window_s"), [(9.0, 1), (-5.0, 2), (-11.0, 4)])
def test_a_want_brings_pieces_each_in_a_window_behind_the_one_before(tmp_path: Path, snr_db: float, window_s: int) -> None:
    """The first in the window of the node's signal, the others a second behind each other; what was not asked for does not come."""

    async def story() -> None:
        node = node_of()
        city = City(tmp_path, [node], [node])

        async def run() -> None:
            end_s = now_s()
            city.speak(node, [node.want(NAME, 0, 8)], snr_db)
            await asyncio.sleep(25)
            pieces = node.pieces()
            assert [piece.offset for _, piece in pieces] == list(range(0, 1600, 200))
            assert abs(pieces[0][0] - end_s - window_s) < 1e-5
            sent = city.sent()
            assert len(sent) == 8
            assert all(abs(later.begin_s - earlier.end_s - 1) < 1e-4 for earlier, later in itertools.pairwise(sent))
            city.speak(node, [node.want(NAME, 1600, 8)], snr_db)
            await asyncio.sleep(25)
            assert b"".join(piece.octets for _, piece in node.pieces()) == BODY
            assert city.counted("radio_downlinks", kind="piece") == 12

        await told(city, run)

    play(story)


def test_without_an_order_nothing_is_said(tmp_path: Path) -> None:
    """No order, another release, behind the end: silent and counted; so is a stranger, and a want that is none."""

    async def story() -> None:
        node, other = node_of(0x11), node_of(0x12)
        city = City(tmp_path, [node, other], [other])

        async def run() -> None:
            for asked in (node.want(NAME, 0, 8), other.want(bytes(8), 0, 8), other.want(NAME, 2400, 8)):
                city.speak(node, [asked])
                await asyncio.sleep(8)
            assert city.counted("release_wants_refused", reason="no_order") == 2
            assert city.counted("release_wants_refused", reason="behind_end") == 1
            city.speak(node, [node_of(0x99).want(NAME, 0, 8)])
            await asyncio.sleep(8)
            assert city.counted("radio_refused", reason="unknown_node") == 1
            assert city.sent() == []

        await told(city, run)

    play(story)


def test_whatever_else_there_is_to_say_comes_before_the_next_piece(tmp_path: Path) -> None:
    """An order that comes while pieces do goes out in the next window, the pieces behind it."""

    async def story() -> None:
        node = node_of()
        city = City(tmp_path, [node], [node])

        async def run() -> None:
            city.speak(node, [node.want(NAME, 0, 4)])
            while len(node.pieces()) < 2:
                await asyncio.sleep(0.1)
            assert city.air.send(slip.FRAME, order_frame(node.sender.node), node.sender.node)
            await asyncio.sleep(20)
            piece, down = elision.TRAFFIC_PIECE, elision.TRAFFIC_DOWNLINK
            assert [traffic for _, traffic, _ in node.heard] == [piece, piece, down, piece, piece]

        await told(city, run)

    play(story)


def test_a_want_does_not_move_the_windows_of_a_frame(tmp_path: Path) -> None:
    """Anybody can say a want in a node's name: the acknowledgement comes in the frame's own window, and no piece does."""

    async def story() -> None:
        node = node_of()
        city = City(tmp_path, [node], [node])

        async def run() -> None:
            for after_s in (0.2, 0.5, 0.65):
                end_s = now_s()
                city.speak(node, node.uplink(node.sender.frame()))
                await asyncio.sleep(after_s)
                concentrator = city.concentrators[0]
                city.bring(concentrator, concentrator.push(node.want(NAME, 0, 8), now_s()))
                await asyncio.sleep(12 - after_s)
                assert [round(begin_s - end_s, 3) for begin_s, _, _ in node.heard] == [1.0]
                node.heard.clear()
            assert len(city.sent()) == 3
            # Its windows are over: now a want counts.
            city.speak(node, [node.want(NAME, 0, 1)])
            await asyncio.sleep(5)
            assert len(node.pieces()) == 1

        await told(city, run)

    play(story)


def test_a_frame_ends_the_pieces_that_were_asked_for_before(tmp_path: Path) -> None:
    """The node has something to say and is acknowledged as ever; the rest of the pieces is not sent where nobody waits for it."""

    async def story() -> None:
        node = node_of()
        city = City(tmp_path, [node], [node])

        async def run() -> None:
            city.speak(node, [node.want(NAME, 0, 8)])
            while len(node.pieces()) < 2:
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.1)
            end_s = now_s()
            city.speak(node, node.uplink(node.sender.frame()))
            await asyncio.sleep(20)
            assert len(node.acknowledgements()) == 1
            assert node.heard[-1][0] - end_s < 2.1
            assert len(city.pieces()) <= 3  # one was with the modem already
            # A new want takes the place of the one before.
            city.speak(node, [node.want(NAME, 0, 8)])
            await asyncio.sleep(0.3)
            city.speak(node, [node.want(NAME, 2000, 1)])
            await asyncio.sleep(20)
            assert [piece.offset for _, piece in node.pieces()][2:] == [2000]

        await told(city, run)

    play(story)


def test_nobody_waits_for_an_acknowledgement_because_of_pieces(tmp_path: Path) -> None:
    """One node fetches without rest; others, heard so weakly that they have one window, speak when they like: all are acknowledged."""

    async def story() -> None:
        fetching, others = node_of(0x11), [node_of(0x12 + number) for number in range(3)]
        city = City(tmp_path, [fetching, *others], [fetching])

        async def run() -> None:
            print("seed", SEED)
            draw = random.Random(SEED)
            busy = asyncio.ensure_future(city.fetch(fetching, 100))
            for count in range(60):
                other = others[count % 3]
                end_s = now_s()
                city.speak(other, other.uplink(other.sender.frame()), -11.0)
                await asyncio.sleep(6 + 3 * draw.random())
                assert len(other.acknowledgements()) == count // 3 + 1
                assert other.heard[-1][0] - end_s == pytest.approx(4.0, abs=1e-4)
            busy.cancel()
            assert len(fetching.pieces()) > 60
            assert city.counted("radio_postponed", reason="given_way") > 5

        await told(city, run)

    play(story)


def fullest_s(sent: list[Sent], window_s: float) -> float:
    """The most airtime in any window, which begins with a packet."""
    ends = [(each.begin_s, each.end_s) for each in sent]
    return max(
        sum(min(end_s, first_s + window_s) - begin_s for begin_s, end_s in ends if first_s <= begin_s < first_s + window_s)
        for first_s, _ in ends
    )


@pytest.mark.parametrize(
    ("changed", "least_s", "share_s"),
    [
        (HUNDREDTH, 12.0, 14.4),
        ({}, 130.0, 144.0),
        (
            {
                "region": "US915", "uplink_channels_hz": [902_300_000], "uplink_spreading_factors": [8], "uplink_bandwidth_hz": 500_000,
                "downlink_hz": 923_300_000, "downlink_bandwidth_hz": 500_000, "downlink_spreading_factor": 9,
            },
            200.0,
            360.0,
        ),
    ],
    ids=["1 percent", "10 percent", "no bound"],
)  # fmt: skip
def test_pieces_have_a_share_of_the_airtime_and_acknowledgements_the_rest(
    tmp_path: Path, changed: dict[str, Any], least_s: float, share_s: float
) -> None:
    """Two nodes fetch for more than an hour without rest: pieces never take more than their share, and a third is answered at any time."""

    async def story() -> None:
        nodes = [node_of(0x11), node_of(0x12), node_of(0x13)]
        city = City(tmp_path, nodes, nodes[:2], **changed)

        async def run() -> None:
            begin_s = now_s()
            busy = [asyncio.ensure_future(city.fetch(node, 10_000)) for node in nodes[:2]]
            count = 0
            while now_s() - begin_s < 4_500:
                count += 1
                city.speak(nodes[2], nodes[2].uplink(nodes[2].sender.frame()))
                await asyncio.sleep(90)
                assert len(nodes[2].acknowledgements()) == count
            for task in busy:
                task.cancel()
            most_s = fullest_s(city.pieces(), 3_600)
            print(f"{len(city.pieces())} pieces, {most_s:.1f} s in the fullest hour, {fullest_s(city.sent(), 3_600):.1f} s with all else")
            assert least_s < most_s <= share_s

        await told(city, run)

    play(story)


def test_pieces_never_touch_what_is_kept_for_acknowledgements(tmp_path: Path) -> None:
    """With the rest of the hour spent by orders no piece goes out, and an acknowledgement does."""

    async def story() -> None:
        node, other = node_of(0x11), node_of(0x12)
        city = City(tmp_path, [node, other], [node], **HUNDREDTH)

        async def run() -> None:
            numbers = itertools.count(7)
            city.after_commit = lambda whose: city.air.send(slip.FRAME, order_frame(whose, next(numbers)), whose) and None
            while city.counted("radio_postponed", reason="no_airtime") == 0:
                city.speak(other, other.uplink(other.sender.frame()))
                await asyncio.sleep(8)
            city.after_commit = lambda whose: None
            before = len(city.sent())
            city.speak(node, [node.want(NAME, 0, 8)])
            await asyncio.sleep(8)
            assert len(city.sent()) == before
            city.speak(node, node.uplink(node.sender.frame()))
            await asyncio.sleep(8)
            assert len(node.acknowledgements()) == 1

        await told(city, run)

    play(story)


def test_the_modem_that_heard_it_best_answers_a_want_and_where_the_law_is_short_in_parts(tmp_path: Path) -> None:
    """Two modems, packets of 400 ms at most: a piece of a release travels in several, one behind the other, by one of them."""

    async def story() -> None:
        node = node_of()
        short = {"region": "AS923", "uplink_channels_hz": [923_200_000], "downlink_hz": 923_400_000, "downlink_spreading_factor": 9}
        city = City(tmp_path, [node], [node], modems=2, **short)

        async def run() -> None:
            city.speak(node, [node.want(NAME, 200, 2)], [-9.0, 3.0])
            await asyncio.sleep(12)
            assert [piece.offset for _, piece in node.pieces()] == [200, 400]
            assert city.concentrators[0].sent == []
            assert len(city.sent()) == 8
            assert all(each.end_s - each.begin_s <= 0.4 for each in city.sent())

        await told(city, run)

    play(story)
