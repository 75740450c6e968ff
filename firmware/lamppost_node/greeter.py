"""Hellos: who is here, and what time is it. WIRE.md sections 7 and 10.

Over the air a street that gets its power back must not speak at once: the first hello waits like the first frame, and they grow rare.
"""

import asyncio
import os

from lamppost_protocol import hello, slip

from lamppost_node import health
from lamppost_node.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamppost_node.downlink import Downlink
    from lamppost_node.identity import Identity
    from lamppost_node.interfaces import Link
    from lamppost_node.sequence_store import SequenceStore
    from lamppost_node.services import Services
    from lamppost_node.spool import Spool
    from lamppost_node.uplink import Uplink

_NAME = "hello"
_FIRST_S = 5
#: A hello's airtime is asked for as that of a frame with so much payload; it is less.
_PAYLOAD_BYTES = 64


class Greeter:
    """Says hello soon and often while the time is unknown (up to `hello_s` apart), then every `beacon_s`."""

    def __init__(
        self,
        node: "Services",
        identity: "Identity",
        sequence: "SequenceStore",
        spool: "Spool",
        uplink: "Uplink",
        downlink: "Downlink",
        link: "Link",
        hello_s: int,
        beacon_s: int,
    ):
        self._node = node
        self._identity = identity
        self._sequence = sequence
        self._spool = spool
        self._uplink = uplink
        self._downlink = downlink
        self._link = link
        self._hello_s = hello_s
        self._beacon_s = beacon_s
        self._first_s = self._wait_s = max(_FIRST_S, link.waits.resend_ms // 1000)
        self._due_ms = node.clock.monotonic_ms() + _by_chance(link.spread_ms)
        node.rest.busy(_NAME)

    def state(self) -> "list[int]":
        """What `resume` takes after a deep sleep."""
        return [self._due_ms, self._wait_s]

    def resume(self, state: "list[int]") -> None:
        """Go on with what was due; an answer that has not come by now never will."""
        self._due_ms, self._wait_s = state

    async def run(self) -> None:
        """Returns never."""
        link, clock, rest, time_set = self._link, self._node.clock, self._node.rest, self._downlink.time_set
        is_asked = False
        while True:
            wait_ms = self._due_ms - clock.monotonic_ms()
            if wait_ms > 0:
                rest.until(_NAME, self._due_ms)
                try:
                    await (asyncio.wait_for(time_set.wait(), wait_ms / 1000) if is_asked else asyncio.sleep(wait_ms / 1000))
                    if is_asked:
                        self._wait_s = self._first_s
                        self._due_ms = clock.monotonic_ms() + self._beacon_s * 1000
                except asyncio.TimeoutError:
                    pass
                is_asked = False
                continue
            rest.busy(_NAME)
            delay_ms = link.delay_ms(_PAYLOAD_BYTES, False)
            if delay_ms:
                self._due_ms = clock.monotonic_ms() + delay_ms
                continue
            time_set.clear()
            await self._send()
            # Over the air, who spoke at the same time must not do so again.
            extra_ms = _by_chance(self._wait_s * 1000) if link.spread_ms else 0
            self._due_ms = clock.monotonic_ms() + self._wait_s * 1000 + extra_ms
            self._wait_s = min(2 * self._wait_s, self._hello_s)
            is_asked = True

    async def _send(self) -> None:
        who = self._identity
        state = health.hello_state(self._node.is_safe_mode, self._sequence.is_lost)
        nonce = self._node.clock.make_nonce(os.urandom(8))
        body = hello.encode_hello(
            hello.Hello(who.network, who.node, who.epoch, state, nonce, self._uplink.oldest_owed(), self._spool.next_n, VERSION)
        )
        await self._link.send(slip.HELLO, body)


def _by_chance(most_ms: int) -> int:
    return most_ms * int.from_bytes(os.urandom(2), "big") // 65536
