"""What was refused and what was lost, kept in the outbox where an operator finds it.

Part of `outbox.Outbox`; runs on the writer thread, inside its transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamppost_gateway.migrations import Connection
from lamppost_gateway.outbox_rows import Loss, Reject

_LOSS_COLUMNS = "id, node, epoch, first_n, last_n, records, reason, at_ms"
MAX_REJECT_BYTES = 2_048  # twice the largest frame: what is longer is cut, its beginning tells enough


class LedgerTable:
    """The tables reject and loss."""

    _connection: Connection
    _reject_limit: int
    _rejects: int
    _losses: int

    def _load_ledger(self) -> None:
        for row in self._connection.execute("SELECT (SELECT count(*) FROM reject), (SELECT count(*) FROM loss)"):
            self._rejects, self._losses = int(row[0]), int(row[1])

    def add_reject(self, reason: str, node: int | None, link: str, at_ms: int, data: bytes, signal: str | None = None) -> None:
        """Keep one refused frame; the oldest goes when the count is at its limit."""
        self._connection.execute(
            "INSERT INTO reject (reason, node, link, at_ms, data, signal) VALUES (?, ?, ?, ?, ?, ?)",
            (reason, node, link, at_ms, data[:MAX_REJECT_BYTES], signal),
        )
        self._rejects += 1
        if self._rejects > self._reject_limit:
            extra = max(self._rejects - self._reject_limit, self._reject_limit // 50)
            self._delete_rejects("id IN (SELECT id FROM reject ORDER BY id LIMIT ?)", (extra,))

    def add_rejects(self, rejects: Sequence[tuple[str, int | None, str, int, bytes, str | None]]) -> None:
        """Keep several refused frames, each as the arguments of `add_reject`."""
        for reject in rejects:
            self.add_reject(*reject)

    def prune_rejects(self, before_ms: int) -> None:
        """Forget what was refused before then."""
        self._delete_rejects("at_ms < ?", (before_ms,))

    def _delete_rejects(self, where: str, parameters: Sequence[Any]) -> None:
        rows = self._connection.execute(f"DELETE FROM reject WHERE {where} RETURNING id", tuple(parameters))
        self._rejects -= sum(1 for _ in rows)

    def rejects(self, limit: int, after_id: int = 0) -> list[Reject]:
        """Refused frames, id above `after_id`, ascending; with `after_id` 0 the newest `limit` of all."""
        if after_id == 0:
            sql = "SELECT * FROM (SELECT id, reason, node, link, at_ms, data, signal FROM reject ORDER BY id DESC LIMIT ?) ORDER BY id"
            rows = self._connection.execute(sql, (limit,))
        else:
            sql = "SELECT id, reason, node, link, at_ms, data, signal FROM reject WHERE id > ? ORDER BY id LIMIT ?"
            rows = self._connection.execute(sql, (after_id, limit))
        return [Reject(row[0], row[1], row[2], row[3], row[4], bytes(row[5]), row[6]) for row in rows]

    def add_loss(self, node: int, epoch: int, first_n: int, last_n: int, records: int, reason: str, at_ms: int) -> None:
        """Note that records will never be published."""
        self._connection.execute(
            "INSERT INTO loss (node, epoch, first_n, last_n, records, reason, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (node, epoch, first_n, last_n, records, reason, at_ms),
        )
        self._losses += 1

    def losses(self, limit: int) -> list[Loss]:
        """The newest losses, newest first."""
        rows = self._connection.execute(f"SELECT {_LOSS_COLUMNS} FROM loss ORDER BY id DESC LIMIT ?", (limit,))
        return [Loss(*row) for row in rows]

    def pending_losses(self, limit: int) -> list[Loss]:
        """Losses not yet confirmed by the broker, oldest first."""
        rows = self._connection.execute(f"SELECT {_LOSS_COLUMNS} FROM loss WHERE published = 0 ORDER BY id LIMIT ?", (limit,))
        return [Loss(*row) for row in rows]

    def losses_published(self, ids: Sequence[int]) -> None:
        """The broker confirmed these losses."""
        self._connection.executemany("UPDATE loss SET published = 1 WHERE id = ?", [(i,) for i in ids])
