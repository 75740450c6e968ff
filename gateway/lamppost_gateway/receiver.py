"""Steps 6 to 9 of a frame's journey: heard, verified, stored, and only then acknowledged.

One batch at a time: what arrived during a commit window is screened, its signatures checked, its rows and both windows
committed together, and after the commit returned each node gets one acknowledgement of its newest state. Windows in memory
move after the commit too, so memory never knows more than the disk. When the disk is full nothing is acknowledged and the
batch is tried again until it fits. When the queue is full the links stop reading. Nothing a peer sends raises past this file.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from lamppost_protocol import frames as protocol_frames
from lamppost_protocol import slip
from lamppost_protocol.arq import BITMAP_BITS, ReceiveWindow
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.replay import ReplayWindow

from lamppost_gateway.backoff import Backoff
from lamppost_gateway.downlinks import Downlinks
from lamppost_gateway.errors import OutboxError
from lamppost_gateway.links.base import Link, Signal
from lamppost_gateway.log import Trouble, event, room
from lamppost_gateway.old_copies import OldCopies
from lamppost_gateway.outbox_rows import NewFrame
from lamppost_gateway.registry import Registry
from lamppost_gateway.rejects import RejectSample
from lamppost_gateway.store import Metrics, Store
from lamppost_gateway.unsigned import Unsigned
from lamppost_gateway.verifier import Candidate, Rejection, VerifiedFrame, Verifier
from lamppost_gateway.windows import Windows

_QUEUE_HIGH = 4_096  # frames waiting; about 1 MB, and half a second of work when saturated
_QUEUE_LOW = 1_024
_BATCH = 512
_MAX_AHEAD = 65_536  # records a frame may be ahead of the oldest one owed: bounds the bitmap one node can grow

_log = room("receiver")


class Heard(NamedTuple):
    """One frame as a link brought it; `at_s` is the loop's clock, for the time to acknowledgement."""

    link: Link
    data: bytes
    received_at_ms: int
    at_s: float
    signal: Signal | None = None


class Receiver:
    """Listens to all links. Callbacks are set by `daemon.py`; they run on the loop and must not block."""

    def __init__(
        self,
        registry: Registry,
        verifier: Verifier,
        store: Store,
        downlinks: Downlinks,
        metrics: Metrics,
        late_s: int = 120,
        backoff: Backoff | None = None,
    ) -> None:
        self._registry = registry
        self._verifier = verifier
        self._store = store
        self._downlinks = downlinks
        self._metrics = metrics
        self._late_ms = late_s * 1000
        self._backoff = backoff or Backoff(0.5, 5.0)
        self._queue: deque[Heard] = deque()
        self._wake = asyncio.Event()
        self._is_paused = False
        self._windows: dict[tuple[int, int], Windows] = {}
        self._sample = RejectSample()
        self.unsigned = Unsigned(registry, downlinks, metrics)
        self.unsigned.on_hello.append(OldCopies(self._windows, metrics).hello_heard)
        self._trouble = Trouble(_log, "store")
        self._must_store_all = False
        self.on_committed: list[Callable[[Sequence[VerifiedFrame]], None]] = []
        self.on_reject: list[Callable[[str, int | None, str, int, bytes], None]] = []

    async def load(self) -> None:
        """Read all windows; call once, after the store is open and before any link runs."""
        self._store.on_renewed.append(self._outbox_renewed)
        for state in await self._store.read(self._store.outbox.node_states):
            self._windows[(state.node, state.epoch)] = Windows(state)

    def _outbox_renewed(self) -> None:
        """The file was torn: its windows may be lost there, but not here; the next commit writes them all."""
        self._must_store_all = True

    def heard(self, link: Link, message_type: int, body: bytes, received_at_ms: int, signal: Signal | None = None) -> None:
        """One intact message; never raises, never blocks."""
        if message_type == slip.FRAME:
            self._queue.append(Heard(link, body, received_at_ms, asyncio.get_running_loop().time(), signal))
            self._metrics.count("frames_received", link=link.name)
            if len(self._queue) >= _QUEUE_HIGH:
                self._pause()
            self._wake.set()
        else:
            try:
                self.unsigned.heard(link, message_type, body, received_at_ms)
            except Rejection as rejection:
                self._reject(rejection, Heard(link, body, received_at_ms, 0.0, signal))

    def link_changed(self, link: Link) -> None:
        """A link came up or went down; one that comes up while the queue is full waits like the others."""
        if self._is_paused and link.is_up:
            link.pause()

    async def run(self) -> None:
        """Work through what is heard, for ever."""
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
            if (wait_s := self._store.next_slot_s()) > 0:
                await asyncio.sleep(wait_s)
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            self._metrics.gauge("receive_queue", len(self._queue))
            if self._is_paused and len(self._queue) <= _QUEUE_LOW:
                self._resume()
            await self._process(batch)

    async def run_ledger(self) -> None:
        """Store the sampled refusals about once a second, for ever; a full disk costs the sample, nothing else."""
        while True:
            await asyncio.sleep(1.0)
            if rejects := self._sample.take():
                try:
                    await self._store.write(self._store.outbox.add_rejects, rejects, lazy=True)
                except OutboxError:
                    pass  # counted by the store; the refusals themselves are counted in the metrics

    async def _process(self, batch: Sequence[Heard]) -> None:
        candidates: list[tuple[Heard, Candidate]] = []
        seen: set[bytes] = set()
        for heard in batch:
            try:
                candidate = self._in_window(self._verifier.screen(heard.data, heard.link.name, heard.received_at_ms))
                if heard.data in seen:
                    raise Rejection("replayed", candidate.entry.node)
            except Rejection as rejection:
                self._reject(rejection, heard)
                continue
            seen.add(heard.data)
            candidates.append((heard, candidate))
        if not candidates:
            return
        verdicts = await self._verifier.check_signatures([candidate for _, candidate in candidates])
        tried: dict[tuple[int, int], Windows] = {}
        accepted: list[tuple[Heard, VerifiedFrame]] = []
        for (heard, candidate), verdict in zip(candidates, verdicts, strict=True):
            try:
                if verdict is not None:
                    candidate = await self._under_the_older_key(candidate, verdict)
                frame = self._account(candidate, tried)
            except Rejection as rejection:
                self._reject(rejection, heard)
                continue
            accepted.append((heard, frame))
        if accepted:
            await self._commit([frame for _, frame in accepted], tried)
            self._windows.update(tried)
            self._acknowledge(accepted)

    def _in_window(self, candidate: Candidate) -> Candidate:
        """The candidate, under the newest of its node's keys in whose window its `tx` may still come. Raises Rejection; changes nothing."""
        try:
            self._verifier.check_window(candidate, self._committed(candidate))
        except Rejection:
            older = candidate.older()
            if older is None or self._has_begun(candidate):
                raise
            self._verifier.check_window(older, self._committed(older))
            return older
        return candidate

    async def _under_the_older_key(self, candidate: Candidate, verdict: Rejection) -> Candidate:
        """A candidate that its node's newer key did not sign, when the older one did and may still. Raises Rejection."""
        older = candidate.older()
        if older is None:
            raise verdict
        [is_not_signed] = await self._verifier.check_signatures([older])
        if is_not_signed is not None:
            raise verdict
        if self._has_begun(candidate):
            raise Rejection("wrong_epoch", candidate.entry.node, f"epoch {candidate.key.epoch} has begun")
        self._verifier.check_window(older, self._committed(older))
        return older

    def _has_begun(self, candidate: Candidate) -> bool:
        """Whether a frame of the candidate's epoch is committed: then the one before has ended (WIRE.md 16)."""
        return (candidate.entry.node, candidate.key.epoch) in self._windows

    def _committed(self, candidate: Candidate) -> ReplayWindow:
        windows = self._windows.get((candidate.entry.node, candidate.key.epoch))
        return windows.replay if windows is not None else ReplayWindow()

    def _account(self, candidate: Candidate, tried: dict[tuple[int, int], Windows]) -> VerifiedFrame:
        """Move copies of the node's windows over a frame whose signature has passed. Raises Rejection."""
        frame = self._verifier.read(candidate)
        key = (frame.node, frame.epoch)
        windows = tried.get(key)
        if windows is None:
            known = self._windows.get(key)
            windows = known.copy() if known is not None else Windows()
        base = max(windows.records.highest, frame.n - frame.behind - 1)
        if frame.n + frame.count - base > _MAX_AHEAD:
            raise Rejection("bad_payload", frame.node, "too far ahead of what is owed")
        try:
            windows.replay.accept(frame.tx)
        except RemoteError as error:
            raise Rejection(error.reason, frame.node, error.detail) from None
        frame.fresh = windows.records.note(frame.n, frame.count, frame.behind)
        frame.resent = frame.fresh != (1 << frame.count) - 1
        tried[key] = windows
        newest_at_s = frame.newest_at_s()
        frame.late = newest_at_s is None or frame.received_at_ms - newest_at_s * 1000 > self._late_ms
        return frame

    async def _commit(self, frames: Sequence[VerifiedFrame], tried: dict[tuple[int, int], Windows]) -> None:
        """Store until it is durable, however long the disk takes to recover."""
        rows = [
            NewFrame(
                f.node,
                f.epoch,
                f.tx,
                f.n,
                f.count,
                f.fresh,
                f.received_at_ms,
                f.link,
                f.late,
                f.is_alarm(),
                f.data,
            )
            for f in frames
        ]
        while True:
            is_all = self._must_store_all
            windows = {**self._windows, **tried} if is_all else tried
            states = [window.state(node, epoch) for (node, epoch), window in windows.items()]
            try:
                stored = await self._store.write(self._store.outbox.commit_frames, rows, states)
                break
            except OutboxError as error:
                self._trouble.failed(reason=error, advice="nothing is acknowledged until there is room; free disk space")
                await asyncio.sleep(self._backoff.next_s())
        if is_all:
            self._must_store_all = False
        self._trouble.recovered()
        self._backoff.reset()
        for frame, mask in zip(frames, stored, strict=True):
            frame.fresh = mask
        self._metrics.observe("batch_frames", len(frames))
        self._metrics.count("frames_stored", sum(1 for mask in stored if mask))
        self._metrics.count("records_stored", sum(mask.bit_count() for mask in stored))

    def _acknowledge(self, accepted: Sequence[tuple[Heard, VerifiedFrame]]) -> None:
        """One acknowledgement per node: its newest state and the digest of the last frame heard.

        A frame that this state does not speak for gets one of its own: far above the oldest record owed, or sent once more.
        """
        last: dict[int, VerifiedFrame] = {}
        now_s = asyncio.get_running_loop().time()
        for heard, frame in accepted:
            last[frame.node] = frame
            stored_in_ms = round((now_s - heard.at_s) * 1000)
            self._downlinks.heard(frame.node, heard.link.name, heard.received_at_ms, frame.n + frame.count - 1, stored_in_ms)
            if not frame.fresh:
                self._metrics.count("duplicates", link=heard.link.name)
        for heard, frame in accepted:
            window = self._windows[(frame.node, frame.epoch)].records
            is_beyond = frame.n + frame.count - 1 > window.highest + BITMAP_BITS
            if frame is last[frame.node] or is_beyond or frame.resent:
                self._send_acknowledgement(heard, frame, window, now_s)
        frames = [frame for _, frame in accepted]
        for callback in self.on_committed:
            callback(frames)

    def _send_acknowledgement(self, heard: Heard, frame: VerifiedFrame, window: ReceiveWindow, now_s: float) -> None:
        hop_key = self._registry.hop_key(frame.node, frame.epoch)
        if hop_key is None:
            return  # heard, but served by another gateway
        digest = protocol_frames.frame_digest(frame.data)
        steps = heard.link.steps(frame.node, digest)
        data = protocol_frames.seal_acknowledgement(
            hop_key, self._registry.network, frame.node, frame.epoch, window.highest, window.bitmap32(), digest, steps
        )
        if heard.link.send(slip.FRAME, data, frame.node):
            self._metrics.count("acknowledgements", link=heard.link.name)
            self._metrics.observe("acknowledge_s", now_s - heard.at_s)
        else:
            self._metrics.count("acknowledgements_dropped", link=heard.link.name)

    def _reject(self, rejection: Rejection, heard: Heard) -> None:
        link, at_ms, data = heard.link.name, heard.received_at_ms, heard.data
        signal = None if heard.signal is None else str(heard.signal)
        self._metrics.count("rejected", reason=rejection.reason)
        if self._sample.offer((rejection.reason, rejection.node, link, at_ms, data, signal)):
            node = f"{rejection.node:08x}" if rejection.node is not None else "-"
            event(_log, logging.INFO, "rejected", reason=rejection.reason, node=node, link=link, bytes=len(data))
            for callback in self.on_reject:
                callback(rejection.reason, rejection.node, link, at_ms, data)

    def _pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            event(_log, logging.WARNING, "links_paused", waiting=len(self._queue))
            self._metrics.gauge("links_paused", 1)
            for link in self._links():
                link.pause()

    def _resume(self) -> None:
        self._is_paused = False
        event(_log, logging.INFO, "links_resumed", waiting=len(self._queue))
        self._metrics.gauge("links_paused", 0)
        for link in self._links():
            link.resume()

    def _links(self) -> Iterable[Link]:
        return list(self._downlinks.links().values())
