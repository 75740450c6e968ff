"""Step 7 of a frame's journey: octets to a `VerifiedFrame`, or a named rejection.

Cheapest check first: length, COSE shape, known node, not revoked, replay window, and only then the signature, the one check that
costs. The window is only looked at here; it moves in `receiver.py` once the signature has passed and the row is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from lamppost_protocol import cose, frames, kinds, profiles, records
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.limits import MAX_FRAME_BYTES
from lamppost_protocol.replay import ReplayWindow

from lamppost_gateway.registry import NodeEntry, NodeKey, Registry

_POOL_THREADS = 2
_BURST = 4  # below this, handing over to a thread costs more than it saves
_KEEP_LAST_FLAGS = {
    (kinds.LAMP, "faults"): (1 << len(profiles.LAMP_FAULTS)) - 1,
    (kinds.BIN, "flags"): 1 << profiles.BIN_FLAGS.index("fire") | 1 << profiles.BIN_FLAGS.index("tilt"),
}


class Rejection(Exception):  # noqa: N818 - not our error: what became of a peer's frame
    """A frame is refused; `reason` is one of lamppost_protocol.errors.REASONS, `node` what it claims to be, if read."""

    def __init__(self, reason: str, node: int | None = None, detail: str = "") -> None:
        super().__init__(reason, node, detail)
        self.reason = reason
        self.node = node
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Candidate:
    """A frame that passed every cheap check; nothing in it may be believed yet. `key`: the one it is tried with."""

    entry: NodeEntry
    key: NodeKey
    message: Any  # cose.Message
    data: bytes
    link: str
    received_at_ms: int

    def older(self) -> Candidate | None:
        """The same frame tried with the node's older key, None unless it is being re-keyed: a frame does not name its epoch."""
        key = self.entry.keys[-1]
        return None if key is self.key else replace(self, key=key)


@dataclass(slots=True)
class VerifiedFrame:
    """A frame whose signature is its node's. `fresh`: bit i = record n+i was new and is stored; 0 for a pure resend.
    `resent`: some of its records came before, though an order may have asked for them again.

    t: unix s of the base time, or None; clock: largest uncertainty in s, None with t; records: [kind, dt, q, v1 ..] lists.
    """

    node: int
    epoch: int
    tx: int
    n: int
    count: int
    behind: int
    t: int | None
    clock: int | None
    records: list[Any]
    data: bytes
    link: str
    received_at_ms: int
    fresh: int = 0
    late: bool = False
    resent: bool = False

    def newest_at_s(self) -> int | None:
        """Unix s of the youngest record by the node's clock, or by the time of receipt where that was never set."""
        offsets = [record[1] for record in self.records if record[1] is not None]
        if not offsets:
            return None
        return (self.t if self.t is not None else self.received_at_ms // 1000) + int(max(offsets))

    def is_alarm(self) -> bool:
        """Whether it outlives thinned history: an order's result, a gap, a lamp fault, fire or tilt at a bin."""
        for record in self.records:
            profile_id, _ = kinds.split_kind(record[0])
            if profile_id in (kinds.ORDER_STATE, kinds.GAP):
                return True
            profile = profiles.PROFILES.get(profile_id)
            for column, value in zip(profile.columns if profile else (), record[3:], strict=False):
                if value and value & _KEEP_LAST_FLAGS.get((profile_id, column.name), 0):
                    return True
        return False


class Verifier:
    """Checks uplink frames against the registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="verify")
        self._contexts: dict[tuple[int, int], bytes] = {}

    def screen(self, data: bytes, link: str, received_at_ms: int) -> Candidate:
        """All checks that need neither the window nor the key. Raises Rejection."""
        if len(data) > MAX_FRAME_BYTES:
            raise Rejection("too_long")
        try:
            message = cose.decode(data)
        except RemoteError as error:
            raise Rejection(error.reason, None, error.detail) from None
        if message.kind != cose.SIGN1:
            raise Rejection("bad_cose", None, "uplink frames are COSE_Sign1")
        entry = self._registry.node(message.kid)
        if entry is None:
            raise Rejection("unknown_node", message.kid)
        if entry.revoked:
            raise Rejection("revoked_node", message.kid)
        return Candidate(entry, entry.keys[0], message, data, link, received_at_ms)

    def check_window(self, candidate: Candidate, window: ReplayWindow) -> None:
        """Whether the frame's `tx` may still come. Raises Rejection; changes nothing."""
        try:
            window.check(candidate.message.tx)
        except RemoteError as error:
            raise Rejection(error.reason, candidate.entry.node, error.detail) from None

    async def check_signatures(self, candidates: Sequence[Candidate]) -> list[Rejection | None]:
        """Each candidate's verdict, in order. Few are checked at once, a burst on two threads (OpenSSL frees the GIL)."""
        if len(candidates) < _BURST:
            return [self._check_signature(candidate) for candidate in candidates]
        loop = asyncio.get_running_loop()
        share = -(-len(candidates) // _POOL_THREADS)
        parts = await asyncio.gather(
            *(
                loop.run_in_executor(self._pool, self._check_many, candidates[start : start + share])
                for start in range(0, len(candidates), share)
            )
        )
        return [verdict for part in parts for verdict in part]

    def _check_many(self, candidates: Sequence[Candidate]) -> list[Rejection | None]:
        return [self._check_signature(candidate) for candidate in candidates]

    def _check_signature(self, candidate: Candidate) -> Rejection | None:
        entry, key, message = candidate.entry, candidate.key, candidate.message
        place = (entry.node, key.epoch)
        context = self._contexts.get(place)
        if context is None:
            context = frames.external_aad(frames.UPLINK, self._registry.network, entry.node, key.epoch)
            self._contexts[place] = context
        try:
            key.verifier.verify(cose.signature_input(message.protected, context, message.payload), message.proof)
        except RemoteError as error:
            return Rejection(error.reason, entry.node, error.detail)
        return None

    def read(self, candidate: Candidate) -> VerifiedFrame:
        """The content of a candidate whose signature has passed. Raises Rejection (`bad_payload`)."""
        try:
            uplink = records.decode_uplink(candidate.message.payload)
        except RemoteError as error:
            raise Rejection(error.reason, candidate.entry.node, error.detail) from None
        return VerifiedFrame(
            candidate.entry.node,
            candidate.key.epoch,
            candidate.message.tx,
            uplink.n,
            len(uplink.records),
            uplink.behind,
            uplink.t,
            uplink.clock,
            uplink.records,
            candidate.data,
            candidate.link,
            candidate.received_at_ms,
        )

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False)
