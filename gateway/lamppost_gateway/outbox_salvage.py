"""A torn outbox file: put aside under a dated name, and every row that can still be read carried into the fresh one.

The windows matter most: without them a recorded frame would be accepted again. Where a window row is unreadable it is
rebuilt from the frames that are: everything up to their largest `tx` is then refused.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from lamppost_protocol.arq import ReceiveWindow
from lamppost_protocol.limits import REPLAY_WINDOW

from lamppost_gateway.migrations import Connection
from lamppost_gateway.outbox_rows import NodeState, pack, unpack

_KEEP_FILES = 3  # torn files kept for an expert; older ones go, or a failing disk would fill itself
_PAGE_ROWS = 100
_WINDOW_FULL = (1 << REPLAY_WINDOW) - 1
_COPIED = ("frame", "order_queue", "order_event", "reject", "loss", "resend")


Errors = tuple[type[Exception], ...]


class _Target(Protocol):
    _connection: Connection

    def _load(self) -> None: ...

    def add_loss(self, node: int, epoch: int, first_n: int, last_n: int, records: int, reason: str, at_ms: int) -> None: ...


def move_aside(path: Path, now_ms: int) -> Path:
    """Rename the file and its log; return the new name. Older torn files beyond the newest few are deleted."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_ms // 1000))
    aside = path.with_name(f"{path.name}.broken-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.broken-{stamp}-{number}")
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}{ending}", f"{aside}{ending}")
    os.utime(aside)  # the newest is the one put aside last, whenever it was written
    names = _torn_files(path)
    for old in names[:-_KEEP_FILES]:
        for ending in ("", "-wal", "-shm"):
            Path(f"{old}{ending}").unlink(missing_ok=True)
    return aside


def newest_torn(path: Path) -> Path | None:
    """The torn file put aside last, None when there is none."""
    names = _torn_files(path)
    return names[-1] if names else None


def is_carried_over(torn: Path, connection: Connection) -> bool:
    """Whether the open file notes that `torn` was carried over; noted in the same transaction as its rows."""
    return any(True for _ in connection.execute("SELECT 1 FROM meta WHERE key = ?", (f"carried {torn.name}",)))


def _torn_files(path: Path) -> list[Path]:
    names = [f for f in path.parent.glob(f"{path.name}.broken-*") if not f.name.endswith(("-wal", "-shm"))]
    return sorted(names, key=lambda f: (f.stat().st_mtime_ns, f.name))


class Torn:
    """A torn file open for reading: whatever of it can be read, and nothing raised for the rest."""

    def __init__(self, path: Path, connection: Connection, unreadable: Errors, refused: Errors) -> None:
        """`unreadable`: what reading damage raises; `refused`: what writing a damaged row elsewhere raises."""
        self.name = path.name
        self.connection = connection
        self.unreadable = unreadable
        self.refused = refused


def carry_over(torn: Torn, target: _Target, now_ms: int) -> int:
    """Copy what can be read of `torn` into the open, fresh `target` in one transaction; return the number of frames."""
    frames = 0
    connection = target._connection
    connection.execute("BEGIN IMMEDIATE")
    try:
        states = {(s.node, s.epoch): s for s in _read_states(torn)}
        derived: dict[tuple[int, int], tuple[int, ReceiveWindow]] = {}
        for table in _COPIED:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
            hole = [0]
            for row in _readable(torn, table, columns, hole):
                with contextlib.suppress(*torn.refused):
                    connection.execute(insert, row)
                    if table == "frame":
                        frames += 1
                        _derive(derived, dict(zip(columns, row, strict=True)))
            if table == "frame" and hole[0]:
                target.add_loss(0, 0, 0, 0, hole[0], "quarantine", now_ms)
        for key, (tx_highest, window) in derived.items():
            known = states.get(key)
            if known is None or known.tx_highest < tx_highest:
                states[key] = NodeState(*key, tx_highest, _WINDOW_FULL, window.highest, window.bitmap)
        connection.executemany(
            "INSERT OR REPLACE INTO node_state (node, epoch, tx_highest, tx_bitmap, n_highest, n_bitmap) VALUES (?, ?, ?, ?, ?, ?)",
            [(s.node, s.epoch, s.tx_highest, pack(s.tx_bitmap), s.n_highest, pack(s.n_bitmap)) for s in states.values()],
        )
        connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (f"carried {torn.name}", str(frames)))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    target._load()
    return frames


def _read_states(torn: Torn) -> Iterator[NodeState]:
    try:
        for row in torn.connection.execute("SELECT node, epoch, tx_highest, tx_bitmap, n_highest, n_bitmap FROM node_state"):
            try:
                yield NodeState(int(row[0]), int(row[1]), int(row[2]), unpack(row[3]), int(row[4]), unpack(row[5]))
            except (TypeError, ValueError):
                continue
    except torn.unreadable:
        return


def _readable(torn: Torn, table: str, columns: list[str], hole: list[int]) -> Iterator[tuple[Any, ...]]:
    """Rows from the front until damage is met, then from the back; `hole` gets the number of ids in between."""
    key, names = columns[0], ", ".join(columns)
    position = -1
    try:
        while True:
            rows = torn.connection.execute(f"SELECT {names} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT {_PAGE_ROWS}", (position,))
            count = 0
            for row in rows:
                count += 1
                position = row[0]
                yield row
            if count < _PAGE_ROWS:
                return
    except torn.unreadable:
        pass
    end = 1 << 62
    try:
        while True:
            rows = torn.connection.execute(
                f"SELECT {names} FROM {table} WHERE {key} > ? AND {key} < ? ORDER BY {key} DESC LIMIT {_PAGE_ROWS}",
                (position, end),
            )
            count = 0
            for row in rows:
                count += 1
                end = row[0]
                yield row
            if count < _PAGE_ROWS:
                break
    except torn.unreadable:
        pass
    if end < 1 << 62:
        hole[0] = max(0, end - position - 1)


def _derive(derived: dict[tuple[int, int], tuple[int, ReceiveWindow]], row: dict[str, Any]) -> None:
    key = (row["node"], row["epoch"])
    tx_highest, window = derived.get(key, (0, ReceiveWindow(row["n"] - 1)))
    if 0 <= row["n"] - window.highest <= 65_536:
        window.note(row["n"], row["count"], max(0, row["n"] - 1 - window.highest))
    derived[key] = (max(tx_highest, row["tx"]), window)
