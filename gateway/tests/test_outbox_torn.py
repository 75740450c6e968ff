"""A torn database never stops the gateway: it opens, or is put aside and what can be read lives on (R21)."""

import random
import shutil
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway.errors import OutboxCorrupt, OutboxFull
from lamppost_gateway.outbox import Outbox, connect
from lamppost_gateway.outbox_rows import NewFrame, NodeState, QueuedOrder

FRAMES = 120


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database of a few dozen pages, and its state before the checkpoint beside it."""
    folder = tmp_path_factory.mktemp("good")
    box = Outbox(folder / "outbox.db")
    for n in range(1, FRAMES + 1):
        frame = NewFrame(n % 3 + 1, 1, n, n, 1, 1, n, "line0", False, False, bytes([n % 256]) * 300)
        box.transact([partial(box.commit_frames, [frame], [NodeState(frame.node, 1, frame.tx, 1, frame.n, 0)])])
    box.transact([lambda: box.put_order(QueuedOrder(5, 1, 1, 1, 2, 1, b"order", 1, 3))])
    hot = folder / "hot"
    hot.mkdir()
    for ending in ("", "-wal"):
        shutil.copy(f"{box.path}{ending}", hot)
    box.close()
    return folder


def reopen(path: Path) -> Outbox:
    """Open, store one more frame and read everything: nothing may raise."""
    box = Outbox(path)
    frame = NewFrame(9, 1, 1, 1, 1, 1, 1, "line0", False, False, b"after")
    try:
        box.transact([lambda: box.commit_frames([frame], [NodeState(9, 1, 1, 1, 1, 0)])])
        box.read(lambda: box.next_backfill(1 << 60, 0, 10_000))
    except OutboxCorrupt:  # damage that a quick look did not show: the store does the same
        box.quarantine()
        box.transact([lambda: box.commit_frames([frame], [NodeState(9, 1, 1, 1, 1, 0)])])
    assert any(row.data == b"after" for row in box.next_backfill(1 << 60, 0, 10_000))
    assert box.counts().unpublished >= 1
    return box


def test_truncated_anywhere_it_opens_or_is_put_aside(good: Path, tmp_path: Path) -> None:
    """The file cut at 70 places, header and page borders among them; a second start finds all in order."""
    data = (good / "outbox.db").read_bytes()
    source = random.Random(21)
    sizes = [0, 1, 15, 16, 99, 100, 511, 4095, 4096, 4097, 8192] + [source.randrange(len(data)) for _ in range(60)]
    for number, size in enumerate(sizes):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "outbox.db").write_bytes(data[:size])
        box = reopen(folder / "outbox.db")
        assert box.quarantined is not None or size < 512  # SQLite takes so little for a fresh file
        box.close()
        again = Outbox(folder / "outbox.db")
        assert again.quarantined is None
        again.close()


def test_flipped_octets_are_survived_and_intact_rows_kept(good: Path, tmp_path: Path) -> None:
    """A flipped octet costs at most the rows of a few pages, and never the start."""
    data = bytearray((good / "outbox.db").read_bytes())
    source = random.Random(22)
    for number in range(80):
        folder = tmp_path / str(number)
        folder.mkdir()
        torn = bytearray(data)
        for _ in range(source.choice((1, 1, 8))):
            torn[source.randrange(len(torn))] ^= 1 << source.randrange(8)
        (folder / "outbox.db").write_bytes(torn)
        reopen(folder / "outbox.db").close()


def test_truncated_log_keeps_every_commit_before_the_cut(good: Path, tmp_path: Path) -> None:
    """A write-ahead log cut anywhere opens without quarantine and shows a prefix of the commits."""
    hot = good / "hot"
    log = (hot / "outbox.db-wal").read_bytes()
    source = random.Random(23)
    last = 0
    for number, size in enumerate(sorted(source.randrange(len(log)) for _ in range(40))):
        folder = tmp_path / str(number)
        folder.mkdir()
        shutil.copy(hot / "outbox.db", folder)
        (folder / "outbox.db-wal").write_bytes(log[:size])
        box = Outbox(folder / "outbox.db")
        assert box.quarantined is None
        stored = [row.n for row in box.next_backfill(1 << 60, 0, 10_000)]
        assert stored == list(range(1, len(stored) + 1))
        assert len(stored) >= last
        last = len(stored)
        box.close()
    assert last > FRAMES // 2


def test_salvage_keeps_rows_on_both_sides_of_the_damage_and_the_windows(good: Path, tmp_path: Path) -> None:
    """One destroyed page of frames: the rest, the order and the windows are carried over, the loss is noted."""
    connection = sqlite3.connect(good / "outbox.db")
    [(page_bytes,)] = connection.execute("PRAGMA page_size")
    leaves = (
        [row[0] for row in connection.execute("SELECT pageno FROM dbstat WHERE name = 'frame' AND pagetype = 'leaf'")]
        if has_dbstat(connection)
        else []
    )
    connection.close()
    if not leaves:
        pytest.skip("this SQLite was built without dbstat")
    data = bytearray((good / "outbox.db").read_bytes())
    at = (leaves[len(leaves) // 2] - 1) * page_bytes
    data[at : at + page_bytes] = b"\xff" * page_bytes
    (tmp_path / "outbox.db").write_bytes(data)
    box = Outbox(tmp_path / "outbox.db")
    assert box.quarantined is not None
    assert box.quarantined.exists()
    stored = [row.n for row in box.next_backfill(1 << 60, 0, 10_000)]
    assert FRAMES - 30 < len(stored) < FRAMES
    assert {1, FRAMES} <= set(stored)
    assert box.salvaged_frames == len(stored)
    assert max(state.tx_highest for state in box.node_states()) == FRAMES
    assert [order.order_id for order in box.open_orders()] == [5]
    [loss] = box.losses(10)
    assert loss.reason == "quarantine"
    assert loss.records == FRAMES - len(stored)
    box.close()


def has_dbstat(connection: sqlite3.Connection) -> bool:
    """Whether pages can be listed by table."""
    return any(row[0] == "ENABLE_DBSTAT_VTAB" for row in connection.execute("PRAGMA compile_options"))


def test_without_window_rows_the_salvaged_frames_still_refuse_their_replay(good: Path, tmp_path: Path) -> None:
    """Windows are rebuilt from the frames when their own table is unreadable."""
    path = tmp_path / "outbox.db"
    shutil.copy(good / "outbox.db", path)
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE node_state")
    connection.commit()
    connection.close()
    box = Outbox(path)
    assert box.quarantined is not None
    assert len(box.next_backfill(1 << 60, 0, 10_000)) == FRAMES
    assert {state.node: state.tx_highest for state in box.node_states()} == {1: 120, 2: 118, 3: 119}
    assert all(state.tx_bitmap == (1 << 64) - 1 for state in box.node_states())
    box.close()


@pytest.mark.parametrize("number", [0, 257])
def test_a_flipped_schema_number_is_damage_and_not_a_newer_program(good: Path, tmp_path: Path, number: int) -> None:
    """The number is kept twice, so a flipped bit in the header costs nothing."""
    path = tmp_path / "outbox.db"
    shutil.copy(good / "outbox.db", path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {number}")
    connection.close()
    box = Outbox(path)
    assert box.quarantined is not None
    assert len(box.next_backfill(1 << 60, 0, 10_000)) == FRAMES
    box.close()


def test_a_salvage_that_found_no_room_is_made_up_for_before_anything_is_taken(good: Path, tmp_path: Path) -> None:
    """The fresh file serves only once the torn one's rows are in; in the same run and after a restart."""
    path = tmp_path / "outbox.db"
    data = bytearray((good / "outbox.db").read_bytes())
    data[-1024:] = b"\xee" * 1024
    is_full = True

    class Connection:
        def __init__(self, path: Path) -> None:
            self._real = connect(path)

        @property
        def in_transaction(self) -> bool:
            return self._real.in_transaction

        def execute(self, sql: str, parameters: Any = (), /) -> Any:
            if is_full and sql.startswith("INSERT INTO frame"):
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return self._real.execute(sql, parameters)

        def executemany(self, sql: str, parameters: Any, /) -> Any:
            return self._real.executemany(sql, parameters)

        def close(self) -> None:
            self._real.close()

    path.write_bytes(data[:-700])
    with pytest.raises(OutboxFull):
        Outbox(path, connector=Connection)
    assert len([f for f in tmp_path.glob("*.broken-*") if f.name.endswith("Z")]) == 1
    is_full = False
    box = Outbox(path, connector=Connection)
    assert box.salvaged_frames > FRAMES // 2
    assert max(state.tx_highest for state in box.node_states()) == FRAMES
    is_full = True
    with pytest.raises(OutboxFull):
        box.quarantine()
    with pytest.raises(OutboxFull):
        box.transact([lambda: None])
    is_full = False
    box.transact([lambda: None])
    assert len(box.next_backfill(1 << 60, 0, 10_000)) > FRAMES // 2
    box.close()
    again = Outbox(path)
    assert again.quarantined is None
    assert again.salvaged_frames == 0
    again.close()


def test_only_the_newest_torn_files_are_kept(tmp_path: Path) -> None:
    """A disk that tears again and again does not fill itself with the pieces."""
    path = tmp_path / "outbox.db"
    for _ in range(6):
        path.write_bytes(b"torn" * 100)
        Outbox(path).close()
    assert len([f for f in tmp_path.glob("*.broken-*") if not f.name.endswith(("-wal", "-shm"))]) == 3
