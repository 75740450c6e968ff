"""Keeping the outbox within its share of the disk, losing the least valuable first and never silently.

Order of what goes: delivered frames, oldest first; then undelivered history, thinned to one frame in four per node from
the oldest on, again and again if needed. Alarms, order results, gap records and each node's newest frame stay. When only those are
left and there is still no room, nothing more is accepted: unacknowledged, it stays on the nodes' own flash.
Every record dropped undelivered is in a loss row. Part of `outbox.Outbox`; runs on the writer thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from lamppost_gateway.migrations import Connection
from lamppost_gateway.outbox_rows import unpack

_STEP_ROWS = 4_000  # one step is one short commit; the daemon calls again while there is work
_KEEP_ONE_IN = 4  # deleting half of a page's rows frees no page of SQLite's tree, three quarters do
_SAMPLE_EVERY_MS = 30_000
_SAMPLES = 120  # an hour of growth


class BudgetTable:
    """Disk use, thinning and the forecast; works on the tables of the other parts."""

    _connection: Connection
    _limit_bytes: int
    _frames: int
    _unpublished: int
    _newest_of_node: dict[int, int] | None

    def add_loss(self, node: int, epoch: int, first_n: int, last_n: int, records: int, reason: str, at_ms: int) -> None:
        raise NotImplementedError

    def prune_frames(self, published_before_ms: int, limit: int = ...) -> int:
        raise NotImplementedError

    def _load_budget(self) -> None:
        self._newest_of_node = None
        self._thin_after_id = 0
        self._thin_counts: dict[int, int] = {}
        self._samples: list[tuple[int, int]] = []
        self._page_bytes = self._pragma("page_size")
        # the hard stop behind the budget: SQLite itself refuses, and the receiver acknowledges nothing
        self._connection.execute(f"PRAGMA max_page_count = {self._limit_bytes * 21 // 20 // self._page_bytes + 256}")

    def _pragma(self, name: str) -> int:
        for row in self._connection.execute(f"PRAGMA {name}"):
            return int(row[0])
        return 0

    def bytes_used(self) -> int:
        """Bytes of the file that hold data; free pages inside it count as free."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._page_bytes

    def enforce_budget(self, now_ms: int) -> tuple[int, bool]:
        """One step towards the budget: (records dropped undelivered, whether to call again soon)."""
        if self.bytes_used() <= self._limit_bytes:
            return 0, False
        if self.prune_frames(now_ms + 1, _STEP_ROWS):
            return 0, True
        return self._thin(now_ms)

    def _thin(self, now_ms: int) -> tuple[int, bool]:
        if self._newest_of_node is None:
            self._newest_of_node = {row[0]: row[1] for row in self._connection.execute("SELECT node, max(id) FROM frame GROUP BY node")}
        rows = list(
            self._connection.execute(
                "SELECT id, node, epoch, n, count, fresh FROM frame WHERE published_at_ms IS NULL AND alarm = 0"
                " AND id > ? ORDER BY id LIMIT ?",
                (self._thin_after_id, _STEP_ROWS),
            )
        )
        if not rows:
            wrapped = self._thin_after_id > 0
            self._thin_after_id = 0
            self._thin_counts.clear()
            return 0, wrapped
        doomed: list[int] = []
        lost: dict[tuple[int, int], list[int]] = {}
        for frame_id, node, epoch, n, count, fresh in rows:
            turn = self._thin_counts.get(node, 0)
            self._thin_counts[node] = turn + 1
            if turn % _KEEP_ONE_IN == 0 or self._newest_of_node.get(node) == frame_id:
                continue
            doomed.append(frame_id)
            loss = lost.setdefault((node, epoch), [n, n, 0])
            loss[0] = min(loss[0], n)
            loss[1] = max(loss[1], n + count - 1)
            loss[2] += unpack(fresh).bit_count()
        self._thin_after_id = rows[-1][0]
        self._delete(doomed)
        for (node, epoch), (first_n, last_n, records) in lost.items():
            self.add_loss(node, epoch, first_n, last_n, records, "disk_budget", now_ms)
        return sum(records for _, _, records in lost.values()), True

    def _delete(self, ids: Sequence[int]) -> None:
        self._connection.executemany("DELETE FROM frame WHERE id = ?", [(frame_id,) for frame_id in ids])
        self._unpublished -= len(ids)
        if self._frames >= 0:
            self._frames -= len(ids)

    def sample_growth(self, now_ms: int) -> None:
        """Note the size for the forecast; keeps at most one sample per 30 s of the last hour."""
        if not self._samples or now_ms - self._samples[-1][0] >= _SAMPLE_EVERY_MS or now_ms < self._samples[-1][0]:
            self._samples = [*self._samples[-_SAMPLES + 1 :], (now_ms, self.bytes_used())]

    def full_in_h(self) -> float | None:
        """Hours until the budget is used up at the growth of the last hour; None when not growing or too early to tell."""
        if len(self._samples) < 2:
            return None
        (since_ms, before), (until_ms, now) = self._samples[0], self._samples[-1]
        if until_ms - since_ms < 2 * _SAMPLE_EVERY_MS or now <= before:
            return None
        bytes_per_h = (now - before) * 3_600_000 / (until_ms - since_ms)
        return max(0, self._limit_bytes - now) / bytes_per_h
