"""The outbox's tables: each frame once, two lanes, orders that only move forward, bounded ledgers."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway.errors import OutboxNewer
from lamppost_gateway.migrations import STEPS, migrate, version
from lamppost_gateway.outbox import Outbox, connect, read_rejects
from lamppost_gateway.outbox_rows import NewFrame, NodeState, QueuedOrder, pack, unpack


@pytest.fixture
def outbox(tmp_path: Path) -> Any:
    box = Outbox(tmp_path / "outbox.db", reject_limit=100)
    yield box
    box.close()


def frame(n: int, *, node: int = 7, count: int = 1, fresh: int | None = None, late: bool = False, at_ms: int = 1_000) -> NewFrame:
    mask = (1 << count) - 1 if fresh is None else fresh
    return NewFrame(node, 1, n, n, count, mask, at_ms, "line0", late, False, b"frame %d" % n)


def write(box: Outbox, method: Any, *args: Any) -> Any:
    [(result, error)] = box.transact([lambda: method(*args)])
    if error is not None:
        raise error
    return result


def test_frames_come_back_as_stored_after_reopening(tmp_path: Path) -> None:
    """Rows and both windows, 64-bit bitmaps included, survive closing."""
    box = Outbox(tmp_path / "outbox.db")
    state = NodeState(7, 1, 5, (1 << 64) - 1, 9, (1 << 4_000) | 1)
    write(box, box.commit_frames, [frame(1, count=3, fresh=0b101)], [state])
    box.close()
    box = Outbox(tmp_path / "outbox.db")
    [row] = box.next_live(0, 10)
    assert (row.node, row.n, row.count, row.fresh, row.data) == (7, 1, 3, 0b101, b"frame 1")
    assert box.node_states() == [state]
    assert box.counts().unpublished == 1
    assert box.newest_id() == row.id
    box.close()


def test_pure_resend_stores_no_row_but_moves_the_windows(outbox: Outbox) -> None:
    """A frame without a fresh record leaves only its window."""
    assert write(outbox, outbox.commit_frames, [frame(1, fresh=0)], [NodeState(7, 1, 2, 3, 1, 0)]) == [0]
    assert outbox.next_live(0, 10) == []
    assert outbox.node_states()[0].tx_highest == 2


def test_lanes_split_by_lateness_and_by_the_moment_of_connecting(outbox: Outbox) -> None:
    """Back-fill is what came late or before the connection; live is the rest; both ascend."""
    write(outbox, outbox.commit_frames, [frame(1), frame(2, late=True), frame(3)], [])
    live_from = outbox.newest_id()
    write(outbox, outbox.commit_frames, [frame(4), frame(5, late=True), frame(6)], [])
    assert [row.n for row in outbox.next_live(live_from, 10)] == [4, 6]
    assert [row.n for row in outbox.next_backfill(live_from, 0, 10)] == [1, 2, 3, 5]
    assert [row.n for row in outbox.next_backfill(live_from, 0, 2)] == [1, 2]
    assert [row.n for row in outbox.next_backfill(live_from, 2, 2)] == [3, 5]


def test_published_frames_stay_for_the_retention_and_can_be_sent_again(outbox: Outbox) -> None:
    """A broker that forgot is refilled from kept rows; pruning takes only delivered ones past the retention."""
    write(outbox, outbox.commit_frames, [frame(n, at_ms=1_000 * n) for n in (1, 2, 3, 4)], [])
    write(outbox, outbox.mark_published, [1, 2], 10_000)
    write(outbox, outbox.mark_published, [3], 11_000)
    assert outbox.counts().unpublished == 1
    assert write(outbox, outbox.unpublish_since, 10_500) == 1
    assert [row.n for row in outbox.next_live(0, 10)] == [3, 4]
    assert write(outbox, outbox.prune, 20_000, 15_000, 1_000) == 0
    assert write(outbox, outbox.prune, 20_000, 5_000, 1_000) == 2
    assert [row.n for row in outbox.next_live(0, 10)] == [3, 4]
    assert outbox.counts().frames == 2


def test_pruning_finds_delivered_rows_behind_a_backlog_step_by_step(outbox: Outbox) -> None:
    """A bounded stretch a call, round and round; nothing undelivered goes."""
    for start in range(0, 60_000, 6_000):
        write(outbox, outbox.commit_frames, [frame(n, at_ms=n) for n in range(start + 1, start + 6_001)], [])
    write(outbox, outbox.mark_published, list(range(45_001, 59_001)), 5)
    taken = [write(outbox, outbox.prune, 1_000, 0, 0) for _ in range(4)]
    assert taken == [0, 0, 14_000, 0]
    assert outbox.counts().unpublished == outbox.counts().frames == 46_000
    write(outbox, outbox.mark_published, [10], 5)
    assert sum(write(outbox, outbox.prune, 1_000, 0, 0) for _ in range(4)) == 1


@pytest.mark.parametrize("jump_ms", [-10 * 365 * 86_400_000, 10 * 365 * 86_400_000])
def test_a_clock_that_jumps_costs_no_undelivered_frame(outbox: Outbox, jump_ms: int) -> None:
    """Ten years either way: what was not delivered stays, whatever the time claims to be (R20)."""
    now_ms = 1_700_000_000_000
    write(outbox, outbox.commit_frames, [frame(n, at_ms=now_ms + n) for n in range(1, 11)], [])
    write(outbox, outbox.mark_published, [1, 2], now_ms)
    write(outbox, outbox.put_order, order(1))
    for _ in range(3):
        write(outbox, outbox.prune, now_ms + jump_ms, 3_600_000, 3_600_000)
        write(outbox, outbox.enforce_budget, now_ms + jump_ms)
    assert [row.n for row in outbox.next_live(0, 100)] == list(range(3, 11))
    assert outbox.get_order(1) is not None


def test_ids_never_come_twice_even_when_everything_was_pruned(tmp_path: Path) -> None:
    """The newest row stays when delivered rows go, so that a cursor never sees an old id again."""
    box = Outbox(tmp_path / "outbox.db")
    write(box, box.commit_frames, [frame(1), frame(2)], [])
    write(box, box.mark_published, [1, 2], 1)
    write(box, box.prune, 1_000_000, 0, 0)
    box.close()
    box = Outbox(tmp_path / "outbox.db")
    write(box, box.commit_frames, [frame(3)], [])
    assert [row.id for row in box.next_live(0, 10)] == [3]
    box.close()


def test_records_an_order_asked_for_again_are_stored_once_more_and_only_once(outbox: Outbox) -> None:
    """A resend order opens its range; what comes twice, late or outside is a duplicate still."""
    write(outbox, outbox.expect_resend, 7, 1, 10, 12, 5_000)
    assert write(outbox, outbox.commit_frames, [frame(9, count=3, fresh=0)], []) == [0b110]
    assert write(outbox, outbox.commit_frames, [frame(10, count=3, fresh=0)], []) == [0b100]
    assert write(outbox, outbox.commit_frames, [frame(10, count=3, fresh=0)], []) == [0]
    write(outbox, outbox.expect_resend, 7, 1, 20, 20, 5_000)
    assert write(outbox, outbox.commit_frames, [frame(20, fresh=0, at_ms=5_001)], []) == [0]
    write(outbox, outbox.prune, 6_000, 0, 0)
    assert outbox._resend == {}
    with pytest.raises(ValueError, match="resend range"):
        write(outbox, outbox.expect_resend, 7, 1, 5, 4, 5_000)


def test_a_job_that_fails_for_its_own_reason_is_undone_alone(outbox: Outbox) -> None:
    """Other jobs of the same commit are stored, and the kept numbers stay right."""

    def broken() -> None:
        outbox.commit_frames([frame(2)], [])
        raise ValueError("own mistake")

    results = outbox.transact([lambda: outbox.commit_frames([frame(1)], []), broken, lambda: outbox.add_reject("x", None, "l", 1, b"")])
    assert [error is None for _, error in results] == [True, False, True]
    assert [row.n for row in outbox.next_live(0, 10)] == [1]
    assert outbox.counts().unpublished == 1
    assert outbox.counts().rejects == 1


def order(order_id: int, node: int = 7, state: int = 1) -> QueuedOrder:
    return QueuedOrder(order_id, node, 1, 100, 200, 1, b"signed", state, 5)


def test_orders_move_only_forward_and_every_step_is_an_event(outbox: Outbox) -> None:
    """An order known already changes nothing; states never go back; verified may still be reverted."""
    assert write(outbox, outbox.put_order, order(3)) is True
    assert write(outbox, outbox.put_order, order(3, state=2)) is False
    write(outbox, outbox.order_sent, 3, 77)
    for state, moved in ((2, True), (1, False), (4, True), (3, False), (5, True), (5, False), (6, True), (7, False)):
        assert write(outbox, outbox.set_order_state, 3, state, state, '{"a":1}') is moved
    assert write(outbox, outbox.set_order_state, 99, 2, 1) is False
    events = outbox.pending_order_events(10)
    assert [event.state for event in events] == [1, 2, 4, 5, 6]
    write(outbox, outbox.order_events_published, [event.id for event in events[:2]])
    assert [event.state for event in outbox.pending_order_events(10)] == [4, 5, 6]
    kept = outbox.get_order(3)
    assert kept is not None
    assert (kept.attempts, kept.sent_at_ms, kept.state) == (1, 77, 6)
    write(outbox, outbox.put_order, order(4, node=8))
    assert [o.order_id for o in outbox.open_orders()] == [4]
    assert outbox.open_orders(7) == []
    assert [o.order_id for o in outbox.recent_orders(5)] == [4, 3]


def test_ended_orders_are_forgotten_only_after_their_events_are_published(outbox: Outbox) -> None:
    """Pruning never takes an order whose end the city has not been told."""
    write(outbox, outbox.put_order, order(1))
    write(outbox, outbox.set_order_state, 1, 7, 10)
    write(outbox, outbox.prune, 10 * 86_400_000, 0, 0)
    assert outbox.get_order(1) is not None
    write(outbox, outbox.order_events_published, [event.id for event in outbox.pending_order_events(9)])
    write(outbox, outbox.prune, 10 * 86_400_000, 0, 0)
    assert outbox.get_order(1) is None


def test_rejects_are_bounded_by_count_and_age_and_readable_without_the_daemon(outbox: Outbox) -> None:
    """The newest stay; long ones are cut; the file can be read while no gateway runs."""
    for i in range(150):
        write(outbox, outbox.add_reject, "bad_cbor", None if i % 2 else 7, "line0", i, bytes(5_000))
    assert outbox.counts().rejects <= 100
    newest = outbox.rejects(3)
    assert [reject.at_ms for reject in newest] == [147, 148, 149]
    assert len(newest[0].data) == 2_048
    assert outbox.rejects(2, after_id=newest[0].id) == newest[1:]
    assert read_rejects(outbox.path, 3) == newest
    write(outbox, outbox.prune, 200, 0, 51)
    assert min(reject.at_ms for reject in outbox.rejects(1_000)) == 149


def test_losses_are_kept_and_published_once(outbox: Outbox) -> None:
    """A loss waits until the broker confirmed it and stays listed afterwards."""
    write(outbox, outbox.add_loss, 7, 1, 3, 9, 5, "disk_budget", 77)
    [loss] = outbox.pending_losses(10)
    write(outbox, outbox.losses_published, [loss.id])
    assert outbox.pending_losses(10) == []
    assert outbox.losses(10) == [loss]
    assert (loss.first_n, loss.last_n, loss.records) == (3, 9, 5)


def test_bitmaps_pack_both_ways() -> None:
    """Any width, zero included."""
    for bitmap in (0, 1, 255, 256, (1 << 64) - 1, 1 << 9_999):
        assert unpack(pack(bitmap)) == bitmap


def test_a_newer_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """Going back to an older program says so plainly and touches no row."""
    path = tmp_path / "outbox.db"
    box = Outbox(path)
    write(box, box.commit_frames, [frame(1)], [])
    migrate(box._connection, (*STEPS, ("CREATE TABLE later (id INTEGER)",)))
    box.close()
    before = path.read_bytes()
    with pytest.raises(OutboxNewer, match="newer program"):
        Outbox(path)
    assert path.read_bytes() == before
    assert list(tmp_path.glob("*.broken-*")) == []


def test_migrations_are_all_or_nothing(tmp_path: Path) -> None:
    """A step that fails leaves the old schema, its rows and its number."""
    path = tmp_path / "outbox.db"
    connection = connect(path)
    migrate(connection)
    connection.execute("INSERT INTO meta VALUES ('a', 'b')")
    bad = (*STEPS, ("CREATE TABLE later (id INTEGER)", "CREATE NONSENSE"))
    with pytest.raises(sqlite3.Error):
        migrate(connection, bad)
    assert version(connection) == len(STEPS)
    assert list(connection.execute("SELECT name FROM sqlite_master WHERE name = 'later'")) == []
    good = (*STEPS, ("CREATE TABLE later (id INTEGER)",), ("ALTER TABLE meta ADD COLUMN more TEXT",))
    assert migrate(connection, good) == 2
    assert migrate(connection, good) == 0
    assert list(connection.execute("SELECT * FROM meta")) == [("a", "b", None), ("schema", str(len(good)), None)]
    connection.close()
