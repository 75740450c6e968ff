"""The demo's city: an ordinary MQTT subscriber that believes nothing it has not checked.

It verifies every raw frame itself with the registry's public keys, and compares the decoded JSON the gateway publishes
with what the frame really says. It runs in a thread of its own and comes back when the broker does.
"""

import asyncio
import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lamppost_protocol import cose, profiles, records

from lamppost_tools.broker import BrokerLostError, BrokerSettings, Topics, connect
from lamppost_tools.demo.street import WITNESS_ID
from lamppost_tools.errors import MissingError
from lamppost_tools.frame.decode import KeyRing, decode_frame

_RETRY_S = 0.1
_CANCELS = 3  # Python 3.11's `wait_for`, within the library, may swallow one (CPython #86296)
_KEPT_REJECTS = 100
_KEPT_SIGNED = 10_000  # a live view may run for days


@dataclass
class Seen:
    """What the city has seen so far. Read it through `Witness.look`."""

    records: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # newest JSON by (node, fixture)
    good: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)  # newest one of quality good
    numbers: dict[str, set[int]] = field(default_factory=dict)  # record numbers in frames verified here, by node
    signed: dict[tuple[str, int], list[Any]] = field(default_factory=dict)  # (node, n) -> record as signed
    orders: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    rejects: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_KEPT_REJECTS))
    health: dict[str, Any] = field(default_factory=dict)
    unverified: int = 0
    mismatched: int = 0
    messages: int = 0
    is_connected: bool = False


class Witness:
    """Subscribes to the whole network. `start` returns once it listens; `stop` ends its thread."""

    def __init__(self, broker: BrokerSettings, network: int, ring: KeyRing) -> None:
        self._broker = broker
        self._topics = Topics(network)
        self._ring = ring
        self._since = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._seen = Seen()
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="witness", daemon=True)

    def start(self, deadline_s: float) -> bool:
        """Start the thread; whether it listened in time."""
        self._thread.start()
        return self.wait(lambda seen: seen.is_connected, deadline_s)

    def stop(self) -> None:
        """End the thread."""
        for _ in range(_CANCELS):
            if self._loop is not None and self._task is not None:
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(2)
            if not self._thread.is_alive():
                return

    def wait(self, is_so: Callable[[Seen], Any], deadline_s: float) -> bool:
        """Wait until `is_so` of what was seen; whether it became so in time."""
        end_s = time.monotonic() + deadline_s
        with self._changed:
            while not is_so(self._seen):
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(min(left_s, 0.5))
        return True

    def look(self, what: Callable[[Seen], Any]) -> Any:
        """Something computed from what was seen, consistently."""
        with self._changed:
            return what(self._seen)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        try:
            while True:
                try:
                    async with connect(self._broker, WITNESS_ID) as client:
                        await client.subscribe(self._topics.everything, qos=1)
                        self._note_connected(True)
                        async for message in client.messages:
                            self._take(str(message.topic), message.payload if isinstance(message.payload, bytes) else b"")
                except (MissingError, BrokerLostError):
                    self._note_connected(False)
                    await asyncio.sleep(_RETRY_S)
        except asyncio.CancelledError:
            pass

    def _note_connected(self, is_connected: bool) -> None:
        with self._changed:
            self._seen.is_connected = is_connected
            self._changed.notify_all()

    def _take(self, topic: str, payload: bytes) -> None:
        parts = topic.removeprefix(self._topics.root + "/").split("/")
        with self._changed:
            self._seen.messages += 1
            match parts:
                case ["node", node, "frame"]:
                    self._take_frame(node, payload)
                case ["node", node, "record", fixture]:
                    self._take_record(node, fixture, payload)
                case ["order", order_id, "state"] if order_id.isdecimal():
                    self._seen.orders.setdefault(int(order_id), []).append(_document(payload))
                case ["gateway", _, "reject"]:
                    self._seen.rejects.append(_document(payload))
                case ["gateway", _, "health"]:
                    self._seen.health = _document(payload)
            self._changed.notify_all()

    def _take_frame(self, node: str, payload: bytes) -> None:
        found = decode_frame(payload, self._ring)
        if found["verdict"] != "valid" or found.get("node") != node:
            self._seen.unverified += 1
            return
        uplink = records.decode_uplink(cose.decode(payload).payload)
        for index, record in enumerate(uplink.records):
            self._seen.numbers.setdefault(node, set()).add(uplink.n + index)
            self._seen.signed[(node, uplink.n + index)] = record
        while len(self._seen.signed) > _KEPT_SIGNED:
            del self._seen.signed[next(iter(self._seen.signed))]

    def _take_record(self, node: str, fixture: str, payload: bytes) -> None:
        document = _document(payload)
        n = document.get("n")
        if not isinstance(n, int):
            self._seen.mismatched += 1
            return
        if str(document.get("received_at")) < self._since:
            return  # of an earlier run of this street: true, but no proof of this one
        for newest in (self._seen.records, self._seen.good) if document.get("quality") == "good" else (self._seen.records,):
            if n > newest.get((node, fixture), {"n": 0})["n"]:
                newest[(node, fixture)] = document


def says_the_same(seen: Seen, document: dict[str, Any]) -> bool:
    """Whether a decoded record is exactly what a frame verified here says."""
    record = seen.signed.get((str(document.get("node")), int(document.get("n", 0))))
    if record is None or profiles.fixture_name(record[0]) != document.get("fixture"):
        return False
    profile = profiles.PROFILES[record[0] & 63]
    try:
        for column, value in zip(profile.columns, record[3:], strict=False):
            told = document["values"][column.name]["value"]
            expected = None if value is None else value * 10**column.scale
            if (told is None) != (expected is None) or (expected is not None and abs(told - expected) > 1e-9 * max(1, abs(expected))):
                return False
    except (KeyError, TypeError):
        return False
    return True


def is_contiguous(numbers: set[int]) -> bool:
    """Whether no number is missing between the lowest and the highest."""
    return bool(numbers) and len(numbers) == max(numbers) - min(numbers) + 1


def _document(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
