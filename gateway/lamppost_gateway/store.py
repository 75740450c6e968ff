"""The asynchronous door to the outbox: one writer thread, writes of all rooms gathered into one durable commit.

A commit starts as soon as there is work, but not sooner than the window after the last one began (default 20 ms): that spares SD
cards, and batches grow by themselves when the disk is slow. `write` returns only after COMMIT returned.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from lamppost_gateway.errors import OutboxCorrupt, OutboxError, OutboxFull
from lamppost_gateway.log import Trouble, event, room
from lamppost_gateway.outbox import Outbox

T = TypeVar("T")
_LAZY_S = 0.5
_MAX_JOBS = 256  # of one commit; what is more waits for the next

_log = room("outbox")


class Metrics(Protocol):
    """What the receiving side needs of `metrics.py`."""

    def count(self, name: str, amount: int = 1, **labels: str) -> None: ...

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float) -> None: ...


class Store:
    """Runs outbox methods on the writer thread. `outbox` may be passed around, but is called only through here."""

    def __init__(self, opener: Callable[[], Outbox], window_ms: int, metrics: Metrics) -> None:
        self._opener = opener
        self._window_s = window_ms / 1000
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._pending: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._wake = asyncio.Event()
        self._lazy: asyncio.TimerHandle | None = None
        self._last_start_s = float("-inf")
        self._is_stopping = False
        self._trouble = Trouble(_log, "commit")
        self.on_renewed: list[Callable[[], None]] = []
        """Called after a torn file was replaced: whoever knows more than could be salvaged writes it again."""
        self.outbox: Outbox

    async def open(self) -> None:
        """Open the file on the writer thread. Raises OutboxNewer, OutboxFull."""
        self.outbox = await asyncio.get_running_loop().run_in_executor(self._thread, self._opener)
        if self.outbox.quarantined is not None:
            self._tell_quarantine()

    def next_slot_s(self) -> float:
        """Seconds until the next commit may start; 0 when it may start now."""
        return max(0.0, self._last_start_s + self._window_s - asyncio.get_running_loop().time())

    async def write(self, method: Callable[..., T], *args: Any, lazy: bool = False) -> T:
        """Run `method(*args)` in the next commit; return its result once that is durable.

        `lazy`: ride with the next commit, at the latest after 500 ms. Raises OutboxFull (try again later), OutboxError,
        or what the method raised for its own reason.
        """
        if self._is_stopping:
            raise OutboxError("the outbox is closing")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._pending.append((lambda: method(*args), future))
        if not lazy:
            self._wake.set()
        elif self._lazy is None:
            self._lazy = loop.call_later(_LAZY_S, self._wake.set)
        return await future

    async def read(self, method: Callable[..., T], *args: Any) -> T:
        """Run a reading method between commits. Raises OutboxError."""
        loop = asyncio.get_running_loop()
        try:
            result: T = await loop.run_in_executor(self._thread, self.outbox.read, lambda: method(*args))
        except OutboxCorrupt:
            await loop.run_in_executor(self._thread, self.outbox.quarantine)
            self._tell_quarantine()
            result = await loop.run_in_executor(self._thread, self.outbox.read, lambda: method(*args))
        return result

    async def run(self) -> None:
        """Commit for ever; after `stop`, returns once everything pending is committed."""
        loop = asyncio.get_running_loop()
        while not (self._is_stopping and not self._pending):
            if not self._pending:
                await self._wake.wait()
                self._wake.clear()
                continue
            if not self._is_stopping and (wait_s := self.next_slot_s()) > 0:
                await asyncio.sleep(wait_s)
            if self._lazy is not None:
                self._lazy.cancel()
                self._lazy = None
            self._wake.clear()
            batch, self._pending = self._pending[:_MAX_JOBS], self._pending[_MAX_JOBS:]
            self._last_start_s = loop.time()
            await self._commit(batch)
            if self._pending:
                self._wake.set()

    async def _commit(self, batch: Sequence[tuple[Callable[[], Any], asyncio.Future[Any]]]) -> None:
        loop = asyncio.get_running_loop()
        live = [(job, future) for job, future in batch if not future.done()]
        if not live:
            return
        try:
            results = await loop.run_in_executor(self._thread, self.outbox.transact, [job for job, _ in live])
        except OutboxError as error:
            if isinstance(error, OutboxCorrupt):
                await self._quarantine()
                error = OutboxFull("the outbox was torn and is renewed: try again")
            if isinstance(error, OutboxFull):
                self._metrics.count("outbox_full")
            self._trouble.failed(reason=str(error))
            for _, future in live:
                if not future.done():
                    future.set_exception(error)
            return
        self._trouble.recovered()
        self._metrics.count("commits")
        self._metrics.observe("commit_s", loop.time() - self._last_start_s)
        for (_, future), (result, own_error) in zip(live, results, strict=True):
            if future.done():
                continue
            if own_error is not None:
                future.set_exception(own_error)
            else:
                future.set_result(result)

    async def _quarantine(self) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self.outbox.quarantine)
        except OutboxError as error:
            self._trouble.failed(reason=str(error))
            return
        self._tell_quarantine()

    def _tell_quarantine(self) -> None:
        self._metrics.count("quarantined")
        event(
            _log,
            logging.ERROR,
            "outbox_torn",
            put_aside=self.outbox.quarantined,
            frames_carried_over=self.outbox.salvaged_frames,
            advice="the disk or its power is failing; keep the file for an expert",
        )
        for callback in self.on_renewed:
            callback()

    def stop(self) -> None:
        """Accept no more writes; `run` returns after the last commit."""
        self._is_stopping = True
        self._wake.set()

    async def close(self) -> None:
        """Close the file and end the writer thread; call after `run` returned."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self.outbox.close)
        finally:
            self._thread.shutdown(wait=False)
