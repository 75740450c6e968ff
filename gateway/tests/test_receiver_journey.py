"""Heard, verified, stored, and only then acknowledged; refused by name; bounded (R06, R14, R17, R38)."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway import outbox as outbox_module
from lamppost_gateway.backoff import Backoff
from lamppost_gateway.downlinks import Downlinks
from lamppost_gateway.metrics import Metrics
from lamppost_gateway.outbox import Outbox
from lamppost_gateway.receiver import Receiver
from lamppost_gateway.registry import Registry
from lamppost_gateway.store import Store
from lamppost_gateway.verifier import VerifiedFrame, Verifier
from lamppost_protocol import kinds, slip
from lamppost_protocol.frames import frame_digest
from street.gateway_rig import NETWORK, City, SenderNode


class MemoryLink:
    """The lowest boundary: a link whose far end is a list."""

    def __init__(self, name: str = "line0") -> None:
        self._name = name
        self.sent: list[bytes] = []
        self.is_up = True
        self.is_paused = False
        self.arrived = asyncio.Event()

    @property
    def name(self) -> str:
        return self._name

    def send(self, message_type: int, body: bytes) -> bool:
        if not self.is_up:
            return False
        assert message_type == slip.FRAME
        self.sent.append(body)
        self.arrived.set()
        return True

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    async def run(self) -> None:
        await asyncio.Event().wait()


class Numbers(Metrics):
    """The real metrics; `value` reads one back."""

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"lamppost_gateway_{name}_total", labels) or 0.0


class Cabinet:
    """Receiver and all below it, real but for the link."""

    def __init__(self, city: City, folder: Path, connector: Any = outbox_module.connect) -> None:
        self.metrics = Numbers()
        self.store = Store(lambda: Outbox(folder / "outbox.db", connector=connector), 5, self.metrics)
        self.registry = Registry(NETWORK, city.folder / "registry.json", city.folder / "hop-keys.json", self.metrics)
        self.registry.load()
        self.downlinks = Downlinks()
        self.verifier = Verifier(self.registry)
        self.receiver = Receiver(self.registry, self.verifier, self.store, self.downlinks, self.metrics, backoff=Backoff(0.01, 0.02))
        self.link = MemoryLink()
        self.downlinks.add_link(self.link)
        self.committed: list[VerifiedFrame] = []
        self.receiver.on_committed.append(self.committed.extend)

    def hear(self, data: bytes, message_type: int = slip.FRAME, link: MemoryLink | None = None, at_ms: int | None = None) -> None:
        self.receiver.heard(link or self.link, message_type, data, int(time.time() * 1000) if at_ms is None else at_ms)

    async def acknowledgement(self, link: MemoryLink | None = None) -> bytes:
        link = link or self.link
        while not link.sent:
            link.arrived.clear()
            await asyncio.wait_for(link.arrived.wait(), 10)
        return link.sent.pop(0)

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not ready():
                await asyncio.sleep(0.005)

    async def rows(self) -> list[Any]:
        return await self.store.read(self.store.outbox.next_backfill, 1 << 60, 0, 100_000)


@contextlib.asynccontextmanager
async def running(cabinet: Cabinet) -> AsyncIterator[Cabinet]:
    await cabinet.store.open()
    await cabinet.receiver.load()
    writer = asyncio.create_task(cabinet.store.run())
    parts = [asyncio.create_task(cabinet.receiver.run()), asyncio.create_task(cabinet.receiver.run_ledger())]
    try:
        yield cabinet
    finally:
        for part in parts:
            part.cancel()
        await asyncio.wait(parts)
        cabinet.store.stop()
        await asyncio.wait_for(writer, 5)
        await cabinet.store.close()
        cabinet.verifier.close()
    assert cabinet.metrics.undeclared == frozenset()


@pytest.fixture
def node() -> SenderNode:
    return SenderNode(0x11, 1)


@pytest.fixture
def city(tmp_path: Path, node: SenderNode) -> City:
    return City(tmp_path / "city", [node, SenderNode(0x22, 1)])


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await story()

    asyncio.run(limited())


def test_a_frame_is_stored_before_it_is_acknowledged(city: City, node: SenderNode, tmp_path: Path) -> None:
    """The acknowledgement names the frame heard; at that instant another reader of the file sees the row."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            seen: list[int] = []
            real_send = cabinet.link.send

            def send(message_type: int, body: bytes) -> bool:
                other = sqlite3.connect(tmp_path / "outbox.db")
                seen.append(other.execute("SELECT count(*) FROM frame").fetchone()[0])
                other.close()
                return real_send(message_type, body)

            cabinet.link.send = send  # type: ignore[method-assign]
            data = node.frame(3)
            cabinet.hear(data)
            ack = node.acknowledged(await cabinet.acknowledgement())
            assert (ack.highest, ack.bitmap, ack.digest) == (3, 0, frame_digest(data))
            assert seen == [1]
            assert [(f.n, f.fresh, f.late) for f in cabinet.committed] == [(1, 0b111, False)]
            assert cabinet.metrics.value("records_stored") == 3
            assert cabinet.downlinks.link_of(0x11) == "line0"

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


def test_replays_are_refused_in_the_run_in_the_batch_and_after_a_restart(city: City, node: SenderNode, tmp_path: Path) -> None:
    """A thousand recorded frames, played again every way: none accepted, none acknowledged (R06)."""
    recorded = [node.frame() for _ in range(1_000)]

    async def first() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            for data in recorded:
                cabinet.hear(data)
                if data is recorded[7]:
                    cabinet.hear(data)
            await cabinet.until(lambda: len(cabinet.committed) == 1_000)
            assert cabinet.metrics.value("rejected", reason="replayed") == 1
            for data in recorded:
                cabinet.hear(data)
            await cabinet.until(lambda: refused(cabinet) == 1_001)
            assert len(cabinet.committed) == 1_000

    async def second() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            for data in reversed(recorded):
                cabinet.hear(data)
            await cabinet.until(lambda: refused(cabinet) == 1_000)
            assert cabinet.committed == []
            assert cabinet.link.sent == []
            assert len(await cabinet.rows()) == 1_000
            cabinet.hear(node.frame())
            await cabinet.acknowledgement()

    def refused(cabinet: Cabinet) -> float:
        return cabinet.metrics.value("rejected", reason="replayed") + cabinet.metrics.value("rejected", reason="too_old")

    play(first)
    play(second)


def test_forgeries_move_no_window_and_keep_no_good_frame_out(city: City, node: SenderNode, tmp_path: Path) -> None:
    """A forged frame with a huge tx before, and with the same tx beside the true one."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            forger = SenderNode(0x22, 1).signer
            cabinet.hear(node.frame(n=1, tx=0xFFFF0000, signer=forger))
            cabinet.hear(node.frame(n=1, tx=1, signer=forger))
            cabinet.hear(node.frame(n=1, tx=1))
            ack = node.acknowledged(await cabinet.acknowledgement())
            assert ack.highest == 1
            assert cabinet.metrics.value("rejected", reason="bad_signature") == 2
            cabinet.hear(node.frame(n=2, tx=2))
            assert node.acknowledged(await cabinet.acknowledgement()).highest == 2

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


def test_windows_outlive_a_file_torn_beyond_salvage(city: City, node: SenderNode, tmp_path: Path) -> None:
    """What the running gateway knows is written into the fresh file, so a replay is refused even after a restart."""
    recorded = node.frame()
    other = city.nodes[0x22]

    async def first() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            cabinet.hear(recorded)
            await cabinet.acknowledgement()
            await cabinet.store.read(lambda: list(cabinet.store.outbox._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")))
            (tmp_path / "outbox.db").write_bytes(b"\xee" * 50_000)
            await cabinet.store.read(lambda: list(cabinet.store.outbox._connection.execute("PRAGMA shrink_memory")))
            cabinet.hear(other.frame())
            assert other.acknowledged(await cabinet.acknowledgement()).highest == 1
            assert cabinet.store.outbox.quarantined is not None

    async def second() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            cabinet.hear(recorded)
            await cabinet.until(lambda: cabinet.metrics.value("rejected", reason="replayed") == 1)

    play(first)
    play(second)


def test_a_full_queue_pauses_the_links_and_a_worked_off_one_resumes_them(city: City, node: SenderNode, tmp_path: Path) -> None:
    """Memory stays bounded under a flood, and nothing heard is dropped."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            stranger = SenderNode(0x99, 1).frame()
            count = 0
            while not cabinet.link.is_paused:
                cabinet.hear(stranger)
                count += 1
                assert count <= 5_000
            late = MemoryLink("line1")
            cabinet.receiver.link_changed(late)
            assert late.is_paused
            await cabinet.until(lambda: not cabinet.link.is_paused)
            await cabinet.until(lambda: cabinet.metrics.value("rejected", reason="unknown_node") == count)
            cabinet.hear(node.frame())
            await cabinet.acknowledgement()
            assert len(await cabinet.store.read(cabinet.store.outbox.rejects, 1_000)) <= 60

    play(story)


def test_refusals_are_kept_with_reason_link_and_octets(city: City, node: SenderNode, tmp_path: Path) -> None:
    """What `lamppost-gateway rejects` shows."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            told: list[Any] = []
            cabinet.receiver.on_reject.append(lambda *reject: told.append(reject))
            stranger = SenderNode(0x99, 1).frame()
            cabinet.hear(stranger, at_ms=77)
            cabinet.hear(b"\xff", at_ms=78)
            cabinet.hear(b"?", message_type=slip.RADIO_RECEIVED, at_ms=79)
            await cabinet.until(lambda: len(told) == 3)
            kept: list[Any] = []
            async with asyncio.timeout(10):
                while len(kept) < 3:
                    kept = await cabinet.store.read(cabinet.store.outbox.rejects, 10)
                    await asyncio.sleep(0.05)
            assert [(r.reason, r.node, r.link, r.at_ms, r.data) for r in sorted(kept, key=lambda r: r.at_ms)] == [
                ("unknown_node", 0x99, "line0", 77, stranger),
                ("bad_cose", None, "line0", 78, b"\xff"),
                ("bad_type", None, "line0", 79, b"?"),
            ]

    play(story)


def test_hello_and_log_lines_are_handed_on_but_bounded_and_never_believed(city: City, node: SenderNode, tmp_path: Path) -> None:
    """A hello gives a route only where no signed frame gave one; strangers and other networks give none."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            hellos: list[Any] = []
            logs: list[Any] = []
            cabinet.receiver.on_hello.append(lambda link, hello: hellos.append((link, hello.node)))
            cabinet.receiver.on_log.append(lambda link, text: logs.append(text))
            other = MemoryLink("line1")
            cabinet.downlinks.add_link(other)
            cabinet.hear(node.hello(), slip.HELLO, other)
            assert hellos == [("line1", 0x11)]
            assert cabinet.downlinks.link_of(0x11) == "line1"
            assert cabinet.downlinks.heard_at_ms(0x11) is None
            cabinet.hear(node.frame())
            await cabinet.acknowledgement()
            cabinet.hear(node.hello(), slip.HELLO, other)
            assert cabinet.downlinks.link_of(0x11) == "line0"
            assert cabinet.downlinks.send(0x11, b"down")
            assert cabinet.link.sent == [b"down"]
            cabinet.link.is_up = False
            cabinet.hear(node.hello(), slip.HELLO, other)
            assert cabinet.downlinks.link_of(0x11) == "line1"
            cabinet.hear(SenderNode(0x99, 1).hello(), slip.HELLO)
            cabinet.hear(node.hello(network=5), slip.HELLO)
            cabinet.hear(b"\xff", slip.HELLO)
            assert [cabinet.metrics.value("rejected", reason=r) for r in ("unknown_node", "foreign_network", "bad_payload")] == [1] * 3
            assert cabinet.downlinks.link_of(0x99) is None
            for _ in range(100):
                cabinet.hear(b"boot \x1b[31mred\n" + bytes(300), slip.LOG, other)
            assert 10 < len(logs) <= 20
            assert "\x1b" not in logs[0]
            assert "\n" not in logs[0]

    play(story)


def test_a_frame_far_ahead_is_refused_before_it_grows_the_bitmap(city: City, node: SenderNode, tmp_path: Path) -> None:
    """A node gone mad, or its key stolen, cannot make the gateway hold a bitmap of 2^47 bits."""

    async def story() -> None:
        async with running(Cabinet(city, tmp_path)) as cabinet:
            cabinet.hear(node.frame(n=1 << 47, behind=(1 << 47) - 1))
            cabinet.hear(node.frame(n=70_000, behind=69_999))
            await cabinet.until(lambda: cabinet.metrics.value("rejected", reason="bad_payload") == 2)
            cabinet.hear(node.frame(n=60_000, behind=59_999))
            await cabinet.acknowledgement()
            cabinet.hear(node.frame(n=1 << 47, behind=10))
            ack = node.acknowledged(await cabinet.acknowledgement())
            assert (ack.highest, ack.bitmap) == ((1 << 47) - 11, 1 << 10)

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
