"""Heard, verified, stored, and only then acknowledged (R14, R17)."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway import outbox as outbox_module
from lamppost_protocol import kinds
from lamppost_protocol.frames import frame_digest
from street.gateway_rig import City, SenderNode
from street.receiving_cabinet import Cabinet, play, running


@pytest.fixture
def node() -> SenderNode:
    return SenderNode(0x11, 1)


@pytest.fixture
def city(tmp_path: Path, node: SenderNode) -> City:
    return City(tmp_path / "city", [node, SenderNode(0x22, 1)])


def test_a_frame_is_stored_before_it_is_acknowledged(city: City, node: SenderNode, tmp_path: Path) -> None:
    """The acknowledgement names the frame heard; at that instant another reader of the file sees the row."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            seen: list[int] = []
            real_send = cabinet.link.send

            def send(message_type: int, body: bytes, node: int = 0) -> bool:
                other = sqlite3.connect(tmp_path / "outbox.db")
                seen.append(other.execute("SELECT count(*) FROM frame").fetchone()[0])
                other.close()
                return real_send(message_type, body, node)

            cabinet.link.send = send  # type: ignore[method-assign]
            data = node.frame(3)
            cabinet.hear(data)
            ack = node.acknowledged(await cabinet.acknowledgement())
            assert (ack.highest, ack.bitmap, ack.digest) == (3, 0, frame_digest(data))
            assert seen == [1]
            assert [(f.n, f.fresh, f.late) for f in cabinet.committed] == [(1, 0b111, False)]
            assert cabinet.metrics.value("records_stored") == 3
            assert cabinet.downlinks.link_of(0x11) == "line0"
            heard = cabinet.downlinks.nodes()[0x11]
            took_s = cabinet.metrics.registry.get_sample_value("lamppost_gateway_acknowledge_seconds_sum")
            assert took_s is not None
            assert (heard.frames, heard.newest_n, heard.stored_in_ms) == (1, 3, round(took_s * 1000))

    play(story)


def test_one_acknowledgement_per_node_and_batch_covers_all(city: City, node: SenderNode, tmp_path: Path) -> None:
    """A burst out of order and with a hole: newest state, digest of the last frame heard."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            datas = [node.frame(n=n, behind=n - 1) for n in (1, 3, 2, 6)]
            for data in datas:
                cabinet.hear(data)
            ack = node.acknowledged(await cabinet.acknowledgement())
            assert (ack.highest, ack.bitmap, ack.digest) == (3, 0b100, frame_digest(datas[-1]))
            await asyncio.sleep(0.05)
            assert cabinet.link.sent == []
            assert [row.n for row in await cabinet.rows()] == [1, 3, 2, 6]

    play(story)


def test_frames_beyond_the_bitmap_are_each_acknowledged_by_their_digest(city: City, node: SenderNode, tmp_path: Path) -> None:
    """Live frames far ahead of a long back-fill: the 32-bit bitmap does not reach them, their digests do."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            datas = [node.frame(n=n, behind=n - 1) for n in (1_000, 1_001, 2, 1_002)]
            for data in datas:
                cabinet.hear(data)
            await cabinet.until(lambda: len(cabinet.link.sent) == 3)
            acks = [node.acknowledged(data) for data in cabinet.link.sent]
            assert {(ack.highest, ack.bitmap) for ack in acks} == {(0, 0b10)}
            assert [ack.digest for ack in acks] == [frame_digest(datas[i]) for i in (0, 1, 3)]

    play(story)


def test_records_an_order_asked_for_again_are_stored_and_each_frame_acknowledged(city: City, node: SenderNode, tmp_path: Path) -> None:
    """The node clears a resend by digests alone, since the numbers are long acknowledged."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            cabinet.hear(node.frame(9, n=1))
            await cabinet.acknowledgement()
            outbox = cabinet.store.outbox
            await cabinet.store.write(outbox.expect_resend, 0x11, 1, 2, 7, 1 << 60)
            again = [node.frame(2, n=n) for n in (2, 4, 6)]
            for data in again:
                cabinet.hear(data)
            await cabinet.until(lambda: len(cabinet.link.sent) == 3)
            assert [node.acknowledged(data).digest for data in cabinet.link.sent] == [frame_digest(data) for data in again]
            assert [(row.n, row.fresh) for row in await cabinet.rows()] == [(1, (1 << 9) - 1), (2, 3), (4, 3), (6, 3)]

    play(story)


def test_a_resend_is_stored_no_second_time_and_acknowledged_again(city: City, node: SenderNode, tmp_path: Path) -> None:
    """The same records under a fresh tx: the first acknowledgement was lost on the way."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            cabinet.hear(node.frame(2, n=1))
            await cabinet.acknowledgement()
            again = node.frame(3, n=1)
            cabinet.hear(again)
            ack = node.acknowledged(await cabinet.acknowledgement())
            assert (ack.highest, ack.digest) == (3, frame_digest(again))
            cabinet.hear(node.frame(3, n=1))
            await cabinet.acknowledgement()
            assert [(row.n, row.fresh) for row in await cabinet.rows()] == [(1, 0b11), (1, 0b100)]
            assert cabinet.metrics.value("duplicates", link="line0") == 1

    play(story)


def test_two_gateways_hear_one_frame(city: City, node: SenderNode, tmp_path: Path) -> None:
    """Each stores and acknowledges it; the key (node, epoch, n) makes it one for the city (R17)."""

    async def story() -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
        async with running(Cabinet(city, tmp_path / "a")) as one, running(Cabinet(city, tmp_path / "b")) as two:
            datas = [node.frame() for _ in range(5)]
            for data in datas:
                one.hear(data)
            for data in datas[2:]:
                two.hear(data)
            assert node.acknowledged(await one.acknowledgement()).highest == 5
            late = node.acknowledged(await two.acknowledgement())
            assert (late.highest, late.bitmap) == (5, 0)
            keys = {(row.node, row.epoch, row.n) for cabinet in (one, two) for row in await cabinet.rows()}
            assert len(keys) == 5

    play(story)


def test_a_listening_gateway_without_the_hop_key_stores_and_stays_silent(city: City, node: SenderNode, tmp_path: Path) -> None:
    """It may not acknowledge for another."""
    (city.folder / "hop-keys.json").unlink()

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            cabinet.hear(node.frame())
            await cabinet.until(lambda: len(cabinet.committed) == 1)
            assert cabinet.link.sent == []

    play(story)


def test_nothing_is_acknowledged_while_the_disk_is_full_and_all_of_it_after(city: City, node: SenderNode, tmp_path: Path) -> None:
    """The batch waits in memory, the links go on being read, and service resumes by itself (R14)."""
    is_full = False

    class Connection:
        def __init__(self, path: Path) -> None:
            self._real = outbox_module.connect(path)

        @property
        def in_transaction(self) -> bool:
            return self._real.in_transaction

        def execute(self, sql: str, parameters: Any = (), /) -> Any:
            if sql == "BEGIN IMMEDIATE":
                self._real.execute(f"PRAGMA max_page_count = {1 if is_full else 1 << 30}")
            return self._real.execute(sql, parameters)

        def executemany(self, sql: str, parameters: Any, /) -> Any:
            return self._real.executemany(sql, parameters)

        def close(self) -> None:
            self._real.close()

    async def story() -> None:
        nonlocal is_full
        async with running(Cabinet(city, tmp_path, Connection)) as cabinet:
            cabinet.hear(node.frame(n=1))
            await cabinet.acknowledgement()
            is_full = True
            for n in range(2, 202):
                cabinet.hear(node.frame(n=n, items=[[kinds.LAMP, 0, 0, *[10**15] * 20]]))
            await cabinet.until(lambda: cabinet.metrics.value("outbox_full") >= 3)
            assert cabinet.link.sent == []
            assert len(cabinet.committed) == 1
            is_full = False
            await cabinet.until(lambda: len(cabinet.committed) == 201)
            assert node.acknowledged(cabinet.link.sent[-1]).highest == 201
            assert len(await cabinet.rows()) == 201

    play(story)


@pytest.mark.parametrize(("age_s", "is_late"), [(0, False), (100, False), (200, True), (-500, False)])
def test_old_records_are_back_fill(city: City, node: SenderNode, tmp_path: Path, age_s: int, is_late: bool) -> None:
    """Late is what was measured more than two minutes before it was heard."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            cabinet.hear(node.frame(t=1_700_000_000), at_ms=(1_700_000_000 + age_s) * 1_000)
            await cabinet.acknowledgement()
            assert [row.late for row in await cabinet.rows()] == [is_late]

    play(story)
