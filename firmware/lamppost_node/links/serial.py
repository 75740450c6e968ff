"""The serial line: SLIP messages on a UART, through asyncio streams. Knows octets and message types, no frames, no keys.

The line has no flow control: what nobody reads is lost, and the ARQ above sends it again. A console that shares the line by mistake
costs noise, counted by the decoder.
"""

import asyncio

from lamppost_protocol import slip
from lamppost_protocol.arq import SERIAL_WAITS
from lamppost_protocol.limits import MAX_PAYLOAD_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from machine import UART

_READ_BYTES = 256
_IDLE_MS = 20
WRITE_S = 5
_FIRST_WANT_MS = 5_000
_LAST_WANT_MS = 600_000


class SerialLink:
    """One line. `port` is a `machine.UART` or its like; `decoder` counts what was dropped. A line is free, and nobody waits on it."""

    waits = SERIAL_WAITS
    gather_ms = 0
    spread_ms = 0
    alarm_spread_ms = 0
    pieces = 4  # with a frame beside them they fit the line's buffer while a signature is made
    has_windows = False

    def __init__(self, port: "UART"):
        self._reader = asyncio.StreamReader(port)
        self._writer = asyncio.StreamWriter(port, {})
        self._lock = asyncio.Lock()
        self.decoder = slip.Decoder()
        self.write_faults = 0

    def payload_bytes(self) -> int:
        """The longest payload of a frame."""
        return MAX_PAYLOAD_BYTES

    def delay_ms(self, payload_bytes: int, is_urgent: bool) -> int:
        """After how many milliseconds a frame may be sent: at once."""
        return 0

    def answered(self, digest: bytes, steps: int | None) -> None:
        """A line has one speed: nothing to learn from an acknowledgement."""

    def want_wait_ms(self, misses: int) -> int:
        """Behind a want that brings nothing, after `misses` of the kind: WIRE.md 17.3."""
        return min(_FIRST_WANT_MS << min(misses, 8), _LAST_WANT_MS)

    async def send(self, message_type: int, body: bytes, is_urgent: bool = False, waited_s: int = 0) -> bool:
        """Put one message on the line, whole; False when the line did not take it within 5 s (counted, not retried)."""
        async with self._lock:
            self._writer.write(slip.encode(message_type, body))
            try:
                await asyncio.wait_for(self._writer.drain(), WRITE_S)
            except (asyncio.TimeoutError, OSError):
                self.write_faults += 1
                self._writer.out_buf = b""  # type: ignore[attr-defined]  # kept by MicroPython, with the next message added to it, for ever
                return False
        return True

    async def run_receive(self, take: "Callable[[int, bytes], Awaitable[None]]", alive: "Callable[[], None] | None" = None) -> None:
        """Hand every whole message to `take(type, body)`, one after the other. Returns never; raises OSError when the port fails.

        Without `alive` it waits for the line alone, which costs less heap.
        """
        while True:
            data: bytes | None
            if alive is None:
                data = await self._reader.read(_READ_BYTES)
            else:
                alive()
                try:
                    data = await asyncio.wait_for(self._reader.read(_READ_BYTES), 30)
                except asyncio.TimeoutError:
                    continue
            if not data:
                await asyncio.sleep(_IDLE_MS / 1000)  # an unplugged line reads nothing at once
                continue
            for message_type, body in self.decoder.feed(data):
                await take(message_type, body)
