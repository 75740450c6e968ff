"""When the disk is short: nothing unsaved is acknowledged, the least valuable goes first, nothing goes silently (R13, R14)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from lamppost_gateway.errors import OutboxError, OutboxFull
from lamppost_gateway.metrics import Metrics
from lamppost_gateway.outbox import Outbox, connect
from lamppost_gateway.outbox_rows import NewFrame
from lamppost_gateway.store import Store

LIMIT_BYTES = 600_000
T = TypeVar("T")


def frame(n: int, node: int = 1, alarm: bool = False) -> NewFrame:
    return NewFrame(node, 1, n, n, 2, 3, n, "line0", False, alarm, b"x" * 300)


def write(box: Outbox, method: Callable[..., T], *args: Any) -> T:
    [(result, error)] = box.transact([lambda: method(*args)])
    assert error is None
    return cast(T, result)


def settle(box: Outbox) -> int:
    """Work the budget as housekeeping does; return the records it cost."""
    lost = 0
    for _ in range(200):
        records, is_more = write(box, box.enforce_budget, 1_000_000)
        lost += records
        if not is_more:
            return lost
    raise AssertionError("the budget never settles")


def test_delivered_frames_go_before_undelivered_history(tmp_path: Path) -> None:
    """Kept rows are only a convenience; they make room first and cost no record."""
    box = Outbox(tmp_path / "outbox.db", limit_bytes=LIMIT_BYTES)
    write(box, box.commit_frames, [frame(n) for n in range(1, 1_001)], [])
    write(box, box.mark_published, list(range(1, 1_001)), 5)
    write(box, box.commit_frames, [frame(n) for n in range(1_001, 1_701)], [])
    assert settle(box) == 0
    assert box.bytes_used() <= LIMIT_BYTES
    assert box.counts().unpublished == 700
    assert len(box.next_backfill(1 << 60, 0, 10_000)) == 700
    box.close()


def test_history_is_thinned_while_alarms_and_newest_state_stay_and_each_loss_is_told(tmp_path: Path) -> None:
    """What is dropped adds up to what the loss rows say; a silent node keeps its last frame."""
    box = Outbox(tmp_path / "outbox.db", limit_bytes=LIMIT_BYTES)
    write(box, box.commit_frames, [frame(1, node=9)], [])
    for start in range(0, 2_000, 500):
        write(box, box.commit_frames, [frame(n, n % 4, alarm=n % 50 == 0) for n in range(start + 1, start + 501)], [])
        lost = settle(box)
    assert box.bytes_used() <= LIMIT_BYTES
    rows = box.next_backfill(1 << 60, 0, 10_000)
    numbers = {(row.node, row.n) for row in rows}
    assert (9, 1) in numbers
    assert {(n % 4, n) for n in range(50, 2_001, 50)} <= numbers
    assert {(n % 4, n) for n in range(1_997, 2_001)} <= numbers
    assert box.counts().unpublished == len(rows) < 2_001
    assert lost > 0
    losses = box.losses(10_000)
    assert sum(loss.records for loss in losses) == 2 * (2_001 - len(rows))
    assert {loss.reason for loss in losses} == {"disk_budget"}
    assert len(box.pending_losses(10_000)) == len(losses)
    box.close()


def test_thinning_frees_pages_that_new_frames_use(tmp_path: Path) -> None:
    """A year without a broker: the file stays within its budget while frames go on coming."""
    box = Outbox(tmp_path / "outbox.db", limit_bytes=LIMIT_BYTES)
    for start in range(0, 6_000, 250):
        write(box, box.commit_frames, [frame(n, n % 4) for n in range(start + 1, start + 251)], [])
        settle(box)
        assert box.bytes_used() <= LIMIT_BYTES
    newest = {row.n for row in box.next_backfill(1 << 60, 0, 100_000)}
    assert {5_997, 5_998, 5_999, 6_000} <= newest
    box.close()


def test_with_only_alarms_left_nothing_more_is_taken_and_nothing_is_lost(tmp_path: Path) -> None:
    """The hard stop behind the budget refuses; what is stored stays, and room made by delivery is used again."""
    box = Outbox(tmp_path / "outbox.db", limit_bytes=LIMIT_BYTES)
    stored = 0

    def store_alarms() -> None:
        nonlocal stored
        for start in range(0, 10_000, 20):
            write(box, box.commit_frames, [frame(n, alarm=True) for n in range(start + 1, start + 21)], [])
            stored += 20

    with pytest.raises(OutboxFull):
        store_alarms()
    assert settle(box) == 0
    assert box.counts().unpublished == stored
    write(box, box.mark_published, list(range(1, stored // 2)), 5)
    settle(box)
    write(box, box.commit_frames, [frame(50_000)], [])
    box.close()


def test_forecast_says_when_it_will_be_full(tmp_path: Path) -> None:
    """Growth of the last hour against what is left; nothing is said before a minute of growth."""
    now_ms = 0
    box = Outbox(tmp_path / "outbox.db", limit_bytes=LIMIT_BYTES, now_ms=lambda: now_ms)
    assert box.counts().full_in_h is None
    for minute in range(1, 11):
        now_ms = minute * 60_000
        write(box, box.commit_frames, [frame(n) for n in range(minute * 100, minute * 100 + 60)], [])
        counts = box.counts()
    assert counts.full_in_h is not None
    rate = counts.bytes_used / 10
    assert counts.full_in_h == pytest.approx((LIMIT_BYTES - counts.bytes_used) / rate / 60, rel=0.3)
    box.close()


@contextlib.asynccontextmanager
async def running(box: Callable[[], Outbox], window_ms: int = 0) -> AsyncIterator[Store]:
    store = Store(box, window_ms, Metrics())
    await store.open()
    task = asyncio.create_task(store.run())
    try:
        yield store
    finally:
        store.stop()
        await asyncio.wait_for(task, 5)
        await store.close()


class FailingConnection:
    """A real connection whose disk runs full at a chosen write, for as long as it is told."""

    def __init__(self, path: Path) -> None:
        self._real = connect(path)
        self.is_full = False

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        # the smallest page limit SQLite accepts is the present size: the next page it needs is ENOSPC to it
        if sql == "BEGIN IMMEDIATE":
            self._real.execute(f"PRAGMA max_page_count = {1 if self.is_full else 1 << 30}")
        return self._real.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any, /) -> Any:
        return self._real.executemany(sql, parameters)

    def close(self) -> None:
        self._real.close()


def test_store_refuses_while_full_and_serves_again_by_itself(tmp_path: Path) -> None:
    """A full disk fails the write, keeps the old rows, and the same store works once there is room."""
    made: list[FailingConnection] = []

    def connector(path: Path) -> FailingConnection:
        made.append(FailingConnection(path))
        return made[-1]

    async def story() -> None:
        async with running(lambda: Outbox(tmp_path / "outbox.db", connector=connector)) as store:
            box = store.outbox
            await store.write(box.commit_frames, [frame(n) for n in range(1, 51)], [])
            made[0].is_full = True
            with pytest.raises(OutboxFull):
                await store.write(box.commit_frames, [frame(n) for n in range(51, 101)], [])
            assert (await store.read(box.counts)).unpublished == 50
            made[0].is_full = False
            await store.write(box.commit_frames, [frame(n) for n in range(51, 101)], [])
            assert (await store.read(box.counts)).unpublished == 100

    asyncio.run(asyncio.wait_for(story(), 20))


def test_writes_of_one_window_share_one_commit_and_lazy_ones_ride_along(tmp_path: Path) -> None:
    """Fifty writers cost a commit or two; a lazy write waits for company, but not for ever."""

    async def story() -> None:
        async with running(lambda: Outbox(tmp_path / "outbox.db"), window_ms=50) as store:
            box = store.outbox
            commits: list[int] = []
            real = box.transact
            box.transact = lambda jobs: commits.append(len(jobs)) or real(jobs)  # type: ignore[method-assign, func-returns-value]
            lazy = asyncio.create_task(store.write(box.add_reject, "x", None, "l", 1, b"", lazy=True))
            await asyncio.sleep(0)
            await asyncio.gather(*(store.write(box.commit_frames, [frame(n)], []) for n in range(1, 51)))
            await lazy
            assert sum(commits) == 51
            assert len(commits) <= 2
            await asyncio.wait_for(store.write(box.add_reject, "y", None, "l", 1, b"", lazy=True), 5)

    asyncio.run(asyncio.wait_for(story(), 20))


def test_a_callers_mistake_reaches_the_caller_alone(tmp_path: Path) -> None:
    """Other writers of the same commit succeed."""

    async def story() -> None:
        async with running(lambda: Outbox(tmp_path / "outbox.db"), window_ms=20) as store:
            box = store.outbox
            good, bad = await asyncio.gather(
                store.write(box.commit_frames, [frame(1)], []),
                store.write(box.expect_resend, 1, 1, 5, 4, 0),
                return_exceptions=True,
            )
            assert good == [3]
            assert isinstance(bad, ValueError)

    asyncio.run(asyncio.wait_for(story(), 20))


def test_stopping_commits_what_is_pending_and_takes_no_more(tmp_path: Path) -> None:
    """A graceful end loses no write that was accepted."""

    async def story() -> None:
        store = Store(lambda: Outbox(tmp_path / "outbox.db"), 1_000, Metrics())
        await store.open()
        task = asyncio.create_task(store.run())
        await store.write(store.outbox.commit_frames, [frame(1)], [])
        late = asyncio.create_task(store.write(store.outbox.commit_frames, [frame(2)], [], lazy=True))
        await asyncio.sleep(0)
        store.stop()
        with pytest.raises(OutboxError):
            await store.write(store.outbox.commit_frames, [frame(3)], [])
        await asyncio.wait_for(task, 5)
        assert await late == [3]
        await store.close()

    asyncio.run(asyncio.wait_for(story(), 20))
    box = Outbox(tmp_path / "outbox.db")
    assert [row.n for row in box.next_live(0, 10)] == [1, 2]
    box.close()


def test_damage_met_while_running_renews_the_file_and_the_write_succeeds_on_retry(tmp_path: Path) -> None:
    """Torn pages under a running gateway: one failed write, then service on a fresh file with the rows carried over."""
    path = tmp_path / "outbox.db"

    async def story() -> None:
        async with running(lambda: Outbox(path)) as store:
            box = store.outbox
            await store.write(box.commit_frames, [frame(n) for n in range(1, 2_001)], [])
            for _ in await store.read(lambda: list(box._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)"))):
                pass
            data = bytearray(path.read_bytes())
            for at in range(len(data) // 2, len(data), 4096):
                data[at : at + 4096] = b"\xee" * 4096
            path.write_bytes(data[: len(data) // 2] + data[len(data) // 2 :])
            await store.read(lambda: box._connection.execute("PRAGMA shrink_memory").fetchall())  # type: ignore[attr-defined]
            with contextlib.suppress(OutboxError):
                for n in range(3_000, 3_050):
                    await store.write(box.commit_frames, [frame(n)], [])
                    await store.read(box.next_backfill, 1 << 60, 0, 10_000)
            await store.write(box.commit_frames, [frame(9_000)], [])
            rows = await store.read(box.next_backfill, 1 << 60, 0, 10_000)
            assert rows[-1].n == 9_000
            assert len(rows) > 500
            assert box.quarantined is not None

    asyncio.run(asyncio.wait_for(story(), 30))
