"""Frames and node windows in the outbox: stored once, read in two lanes, kept for the retention after delivery.

Part of `outbox.Outbox`; runs on the writer thread, inside its transactions. Every id is given here and only ascends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lamppost_gateway.migrations import Connection
from lamppost_gateway.outbox_rows import NewFrame, NodeState, StoredFrame, pack, unpack

_COLUMNS = "id, node, epoch, tx, n, count, fresh, received_at_ms, link, late, data"
_PRUNE_ROWS = 2_000  # per call, so that one housekeeping commit stays short
_PRUNE_LOOK_ROWS = 20_000  # 10 s of the largest cabinet's traffic, so that pruning keeps up
MAX_RESEND_RECORDS = 65_536


class _Range:
    """Record numbers an order asked for again, with a bit for each that came."""

    def __init__(self, row_id: int, first_n: int, last_n: int, until_ms: int, taken: int) -> None:
        self.row_id = row_id
        self.first_n = first_n
        self.last_n = last_n
        self.until_ms = until_ms
        self.taken = taken


class FrameTable:
    """The tables frame, node_state and resend."""

    _connection: Connection
    _next_id: int
    _frames: int
    _unpublished: int

    def _load_frames(self) -> None:
        self._next_id = max(getattr(self, "_next_id", 1), 1 + self._one("SELECT coalesce(max(id), 0) FROM frame"))
        self._unpublished = self._one("SELECT count(*) FROM frame WHERE published_at_ms IS NULL")
        self._prune_after_id = 0
        self._frames = -1  # counted only when asked for: a million rows take a third of a second
        self._resend: dict[tuple[int, int], list[_Range]] = {}
        for row in self._connection.execute("SELECT id, node, epoch, first_n, last_n, until_ms, taken FROM resend"):
            self._resend.setdefault((row[1], row[2]), []).append(_Range(row[0], row[3], row[4], row[5], unpack(row[6])))

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        for row in self._connection.execute(sql, parameters):
            return int(row[0] or 0)
        return 0

    def commit_frames(self, frames: Sequence[NewFrame], states: Sequence[NodeState]) -> list[int]:
        """Store frames and windows in the running transaction; return for each frame the mask of records stored.

        A frame without a fresh record is stored only when an order asked for its records again; its windows are kept.
        """
        stored: list[int] = []
        rows: list[tuple[Any, ...]] = []
        for frame in frames:
            fresh = frame.fresh
            if self._resend and fresh != (1 << frame.count) - 1:
                fresh |= self._take_resent(frame)
            stored.append(fresh)
            if fresh:
                rows.append(
                    (
                        self._next_id,
                        frame.node,
                        frame.epoch,
                        frame.tx,
                        frame.n,
                        frame.count,
                        pack(fresh),
                        frame.received_at_ms,
                        frame.link,
                        int(frame.late),
                        int(frame.alarm),
                        frame.data,
                    )
                )
                self._next_id += 1
        if rows:
            self._connection.executemany(
                "INSERT INTO frame (id, node, epoch, tx, n, count, fresh, received_at_ms, link, late, alarm, data)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._unpublished += len(rows)
            if self._frames >= 0:
                self._frames += len(rows)
        if states:
            self._connection.executemany(
                "INSERT OR REPLACE INTO node_state (node, epoch, tx_highest, tx_bitmap, n_highest, n_bitmap) VALUES (?, ?, ?, ?, ?, ?)",
                [(s.node, s.epoch, s.tx_highest, pack(s.tx_bitmap), s.n_highest, pack(s.n_bitmap)) for s in states],
            )
        return stored

    def node_states(self) -> list[NodeState]:
        """All windows, for the receiver's start."""
        rows = self._connection.execute("SELECT node, epoch, tx_highest, tx_bitmap, n_highest, n_bitmap FROM node_state")
        return [NodeState(row[0], row[1], row[2], unpack(row[3]), row[4], unpack(row[5])) for row in rows]

    def expect_resend(self, node: int, epoch: int, first_n: int, last_n: int, until_ms: int) -> None:
        """A resend order left: take records first_n .. last_n of `node` once more until `until_ms`.

        The node's window already counts them as received, so without this they would be taken for duplicates.
        Raises ValueError for an empty range or one above MAX_RESEND_RECORDS.
        """
        if not 1 <= first_n <= last_n or last_n - first_n >= MAX_RESEND_RECORDS:
            raise ValueError("resend range")
        row_id = 1 + self._one("SELECT coalesce(max(id), 0) FROM resend")
        self._connection.execute(
            "INSERT INTO resend (id, node, epoch, first_n, last_n, until_ms, taken) VALUES (?, ?, ?, ?, ?, ?, x'')",
            (row_id, node, epoch, first_n, last_n, until_ms),
        )
        self._resend.setdefault((node, epoch), []).append(_Range(row_id, first_n, last_n, until_ms, 0))

    def _take_resent(self, frame: NewFrame) -> int:
        wanted = 0
        for asked in self._resend.get((frame.node, frame.epoch), ()):
            if frame.received_at_ms > asked.until_ms:
                continue
            before = asked.taken
            for i in range(frame.count):
                n = frame.n + i
                if asked.first_n <= n <= asked.last_n and not asked.taken >> (n - asked.first_n) & 1:
                    asked.taken |= 1 << (n - asked.first_n)
                    if not frame.fresh >> i & 1:
                        wanted |= 1 << i
            if asked.taken != before:
                self._connection.execute("UPDATE resend SET taken = ? WHERE id = ?", (pack(asked.taken), asked.row_id))
        return wanted

    def newest_id(self) -> int:
        """The id of the newest frame ever stored; 0 when there was none."""
        return self._next_id - 1

    def next_live(self, after_id: int, limit: int) -> list[StoredFrame]:
        """Unpublished frames that came in time, id above `after_id`, ascending."""
        return _stored(
            self._connection.execute(
                f"SELECT {_COLUMNS} FROM frame WHERE published_at_ms IS NULL AND late = 0 AND id > ? ORDER BY id LIMIT ?",
                (after_id, limit),
            )
        )

    def next_backfill(self, up_to_id: int, after_id: int, limit: int) -> list[StoredFrame]:
        """Unpublished frames that came late or have an id up to `up_to_id`; id above `after_id`, ascending."""
        return _stored(
            self._connection.execute(
                f"SELECT * FROM (SELECT {_COLUMNS} FROM frame WHERE published_at_ms IS NULL AND late = 0"
                " AND id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3)"
                f" UNION ALL SELECT * FROM (SELECT {_COLUMNS} FROM frame WHERE published_at_ms IS NULL AND late = 1"
                " AND id > ?1 ORDER BY id LIMIT ?3) ORDER BY 1 LIMIT ?3",
                (after_id, up_to_id, limit),
            )
        )

    def mark_published(self, ids: Sequence[int], at_ms: int) -> None:
        """The broker confirmed all messages of these frames."""
        for start in range(0, len(ids), 500):
            part = ids[start : start + 500]
            marks = ",".join("?" * len(part))
            rows = self._connection.execute(
                f"UPDATE frame SET published_at_ms = ? WHERE published_at_ms IS NULL AND id IN ({marks}) RETURNING id",
                (at_ms, *part),
            )
            self._unpublished -= sum(1 for _ in rows)

    def unpublish_since(self, published_at_ms: int) -> int:
        """The broker forgot: put kept frames that it confirmed since then back into the queue; return how many."""
        rows = self._connection.execute(
            "UPDATE frame SET published_at_ms = NULL WHERE published_at_ms >= ? RETURNING id",
            (published_at_ms,),
        )
        count = sum(1 for _ in rows)
        self._unpublished += count
        return count

    def prune_frames(self, published_before_ms: int, limit: int = _PRUNE_ROWS) -> int:
        """Delete the oldest delivered frames published before then, at most `limit`; the newest row always stays."""
        return self._delete_published("id < ?", published_before_ms, (self._newest_row(),), limit)

    def prune_next_frames(self, published_before_ms: int) -> int:
        """As `prune_frames`, but looks at a bounded stretch and goes on where the last call ended.

        Behind a long outage's backlog the delivered rows stand far back; looking for them must not hold up a commit.
        """
        last = 0
        for row in self._connection.execute(
            "SELECT max(id) FROM (SELECT id FROM frame WHERE id > ? ORDER BY id LIMIT ?)", (self._prune_after_id, _PRUNE_LOOK_ROWS)
        ):
            last = row[0] or 0
        upto = min(last, self._newest_row() - 1)
        count = self._delete_published("id > ? AND id <= ?", published_before_ms, (self._prune_after_id, upto), _PRUNE_LOOK_ROWS)
        self._prune_after_id = last if last < self._newest_row() else 0
        return count

    def _delete_published(self, where: str, published_before_ms: int, parameters: Sequence[Any], limit: int) -> int:
        rows = self._connection.execute(
            f"DELETE FROM frame WHERE id IN (SELECT id FROM frame WHERE {where} AND published_at_ms < ? ORDER BY id LIMIT ?) RETURNING id",
            (*parameters, published_before_ms, limit),
        )
        count = sum(1 for _ in rows)
        if self._frames >= 0:
            self._frames -= count
        return count

    def _newest_row(self) -> int:
        return self._one("SELECT coalesce(max(id), 0) FROM frame")

    def prune_resends(self, now_ms: int) -> None:
        """Forget resend orders whose time is over."""
        self._connection.execute("DELETE FROM resend WHERE until_ms < ?", (now_ms,))
        for key, ranges in list(self._resend.items()):
            ranges[:] = [asked for asked in ranges if asked.until_ms >= now_ms]
            if not ranges:
                del self._resend[key]


def _stored(rows: Iterable[Any]) -> list[StoredFrame]:
    return [StoredFrame(r[0], r[1], r[2], r[3], r[4], r[5], unpack(r[6]), r[7], r[8], bool(r[9]), bytes(r[10])) for r in rows]
