"""The durable queue between links and broker: what was acknowledged is in here. The only SQLite code (with migrations.py).

Plain synchronous code on one writer thread, reached through `store.Store`. WAL with synchronous=FULL: when `transact` returns, the
jobs' rows survive a power cut. A torn file is put aside with all that can be read carried over; it never stops the gateway.
Known gap: a disk that lies about flushing breaks the promise, and nothing here can tell.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lamppost_gateway import outbox_salvage
from lamppost_gateway.errors import OutboxCorrupt, OutboxError, OutboxFull, OutboxNewer
from lamppost_gateway.migrations import Connection, migrate
from lamppost_gateway.outbox_budget import BudgetTable
from lamppost_gateway.outbox_frames import FrameTable
from lamppost_gateway.outbox_ledger import LedgerTable
from lamppost_gateway.outbox_orders import OrderTable
from lamppost_gateway.outbox_rows import NewFrame, OutboxCounts, Reject

_CHECK_BYTES = 32 << 20  # a larger file would delay the start; damage in it is met when its page is read
_BUSY_S = 2.0  # an operator's sqlite3 shell may hold a read lock for a moment

Job = Callable[[], Any]


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for the writer thread, in autocommit mode, with the settings that promise durability."""
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        configure(connection)
        os.chmod(path, 0o640)
    except BaseException:
        connection.close()
        raise
    return connection


def configure(connection: Connection, synchronous: str = "FULL") -> None:
    """The settings every connection needs; `synchronous` is changed only by the test that shows why it is FULL."""
    for pragma in (
        "page_size = 1024",  # a commit of few frames touches many small rows: 2.5 kB written per frame instead of 4.2
        "journal_mode = WAL",
        f"synchronous = {synchronous}",  # NORMAL loses the last commits, acknowledged ones, when the power fails
        "journal_size_limit = 8388608",  # the log shrinks back after a burst
        "wal_autocheckpoint = 4000",  # 4 MB: hot pages reach the file less often
        "cache_size = -2048",
        "temp_store = MEMORY",
    ):
        for _ in connection.execute(f"PRAGMA {pragma}"):
            pass


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except UnicodeDecodeError as error:  # a torn name in the schema, or in SQLite's message about it
        raise OutboxCorrupt("text is not text") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        primary = code & 0xFF if code is not None else None
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise OutboxCorrupt(f"{name}: {error}") from error
        if primary in (
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_READONLY,
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_NOMEM,
        ):
            raise OutboxFull(f"{name}: {error}") from error
        raise OutboxError(f"{name}: {error}") from error


class Outbox(FrameTable, OrderTable, LedgerTable, BudgetTable):
    """One open outbox. Used by one thread; writes only within `transact`."""

    def __init__(
        self,
        path: Path,
        *,
        limit_bytes: int = 1 << 30,
        reject_limit: int = 10_000,
        connector: Callable[[Path], Connection] = connect,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Open or create the file; a torn one is put aside first and `quarantined` says its new name.

        Raises OutboxNewer (left untouched), OutboxFull when the folder cannot be written.
        """
        self.path = path
        self.quarantined: Path | None = None
        self.salvaged_frames = 0
        self._limit_bytes = limit_bytes
        self._reject_limit = reject_limit
        self._connector = connector
        self._now_ms = now_ms
        self._is_ready = False
        self._is_open = False
        try:
            self._ready()
        except BaseException:
            if self._is_open:
                self._connection.close()
            raise

    def _ready(self) -> None:
        """Open the file if it is not, put a torn one aside, carry over what that held. Raises OutboxNewer, OutboxFull.

        Until what a torn file held is carried over, nothing is taken: without its windows a replay would be accepted.
        """
        if not self._is_open:
            try:
                self._open()
            except OutboxCorrupt:
                self.quarantined = outbox_salvage.move_aside(self.path, self._now_ms())
                self._open()
        torn = outbox_salvage.newest_torn(self.path)
        if torn is not None and not outbox_salvage.is_carried_over(torn, self._connection):
            self.salvaged_frames = self._carry_over(torn)
        self._is_ready = True

    def _carry_over(self, torn: Path) -> int:
        source = sqlite3.connect(f"{torn.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
        unreadable = (sqlite3.Error, UnicodeDecodeError)  # text torn apart is met when Python decodes it
        refused = (sqlite3.IntegrityError, sqlite3.DataError)
        try:
            with translated():
                return outbox_salvage.carry_over(outbox_salvage.Torn(torn, source, unreadable, refused), self, self._now_ms())
        finally:
            source.close()

    def _open(self) -> None:
        is_small = self.path.exists() and self.path.stat().st_size <= _CHECK_BYTES
        with translated():
            self._connection = self._connector(self.path)
        try:
            with translated():
                if is_small:
                    self._check_integrity()
                migrate(self._connection)
                self._load()
        except (OutboxFull, OutboxNewer):
            self._connection.close()
            raise
        except OutboxError as error:  # whatever else fails now fails for what is in the file
            self._connection.close()
            raise OutboxCorrupt(str(error)) from error
        except BaseException:
            self._connection.close()
            raise
        self._is_open = True

    def _check_integrity(self) -> None:
        for row in self._connection.execute("PRAGMA integrity_check(1)"):
            if row[0] != "ok":
                raise OutboxCorrupt(str(row[0]))

    def _load(self) -> None:
        self._load_frames()
        self._load_ledger()
        self._load_budget()

    def quarantine(self) -> None:
        """Put a torn file aside, start a fresh one and carry over what can be read. Raises OutboxFull: then try again."""
        self._is_ready = self._is_open = False
        try:
            self._connection.close()
        except sqlite3.Error:
            pass  # too torn even to close: the file is moved either way
        self.quarantined = outbox_salvage.move_aside(self.path, self._now_ms())
        self._ready()

    def transact(self, jobs: Sequence[Job]) -> list[tuple[Any, Exception | None]]:
        """Run all jobs in one durable transaction; return each job's (result, own error).

        A job that fails for its own reason (a caller's mistake) is undone alone. Raises OutboxFull, OutboxCorrupt or
        OutboxError when the file fails: then nothing of any job is stored.
        """
        if not self._is_ready:
            self._ready()
        results: list[tuple[Any, Exception | None]] = []
        is_undone = False
        try:
            with translated():
                self._connection.execute("BEGIN IMMEDIATE")
                for job in jobs:
                    if len(jobs) > 1:
                        self._connection.execute("SAVEPOINT job")
                    try:
                        results.append((job(), None))
                    except (sqlite3.Error, OutboxError):
                        raise
                    except Exception as error:
                        is_undone = True
                        if len(jobs) > 1:
                            self._connection.execute("ROLLBACK TO job")
                        else:
                            self._connection.execute("ROLLBACK")
                        results.append((None, error))
                    if len(jobs) > 1:
                        self._connection.execute("RELEASE job")
                if self._connection.in_transaction:
                    self._connection.execute("COMMIT")
        except BaseException:
            self._undo()
            raise
        if is_undone:
            with translated():
                self._load()
        return results

    def _undo(self) -> None:
        """Roll back whatever is open and read the kept numbers again; the first error is the one that counts."""
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._load()
        except sqlite3.Error:
            pass

    def read(self, job: Job) -> Any:
        """Run a reading job between transactions. Raises as `transact`."""
        if not self._is_ready:
            self._ready()
        with translated():
            return job()

    def commit_frames(self, frames: Sequence[NewFrame], states: Sequence[Any]) -> list[int]:
        stored = super().commit_frames(frames, states)
        if self._newest_of_node is not None:
            newest = self._next_id - 1 - sum(1 for mask in stored if mask)
            for frame, mask in zip(frames, stored, strict=True):
                if mask:
                    newest += 1
                    self._newest_of_node[frame.node] = newest
        return stored

    def prune(self, now_ms: int, retention_ms: int, reject_keep_ms: int) -> int:
        """Housekeeping: what was delivered and kept long enough goes; return how many frames went."""
        self.prune_resends(now_ms)
        self.prune_rejects(now_ms - reject_keep_ms)
        self.prune_orders(now_ms - max(retention_ms, 86_400_000))
        return self.prune_next_frames(now_ms - retention_ms)

    def counts(self) -> OutboxCounts:
        """Numbers for status and metrics; a frame count over a million rows is made once, then kept."""
        if self._frames < 0:
            self._frames = self._one("SELECT count(*) FROM frame")
        oldest = None
        sql = "SELECT received_at_ms FROM frame WHERE published_at_ms IS NULL AND late = {} ORDER BY id LIMIT 1"
        for late in (0, 1):
            for row in self._connection.execute(sql.format(late)):
                oldest = row[0] if oldest is None else min(oldest, row[0])
        self.sample_growth(self._now_ms())
        return OutboxCounts(
            frames=self._frames,
            unpublished=self._unpublished,
            oldest_unpublished_at_ms=oldest,
            rejects=self._rejects,
            open_orders=self._one("SELECT count(*) FROM order_queue WHERE state < 5"),
            losses=self._losses,
            bytes_used=self.bytes_used(),
            bytes_limit=self._limit_bytes,
            full_in_h=self.full_in_h(),
        )

    def close(self) -> None:
        """Close the file; the log is checkpointed on the way."""
        self._is_ready = self._is_open = False
        with translated():
            self._connection.close()


def read_rejects(path: Path, limit: int) -> list[Reject]:
    """The newest refused frames of a gateway that may not be running; opens the file read-only. Raises OutboxError."""
    with translated():
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
        try:
            rows = connection.execute("SELECT id, reason, node, link, at_ms, data, signal FROM reject ORDER BY id DESC LIMIT ?", (limit,))
            return [Reject(row[0], row[1], row[2], row[3], row[4], bytes(row[5]), row[6]) for row in rows][::-1]
        finally:
            connection.close()
