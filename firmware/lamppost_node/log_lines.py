"""Log lines on their way to the gateway: a bounded ring; what does not fit is counted, and never holds up a frame."""

import asyncio

from lamppost_protocol.limits import MAX_LOG_BYTES

_MAX_LINES = 16


class LogLines:
    """`put` from anywhere; one task takes. Text is cut to what a message may carry and to printable ASCII."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self.dropped = 0
        self.waiting = asyncio.Event()

    def put(self, text: str) -> None:
        """Queue one line; the oldest goes when the ring is full."""
        line = bytes([octet if 32 <= octet < 127 else 63 for octet in text.encode()[:MAX_LOG_BYTES]])
        if len(self._lines) >= _MAX_LINES:
            self._lines.pop(0)
            self.dropped += 1
        self._lines.append(line)
        self.waiting.set()

    def take(self) -> bytes | None:
        """The oldest line, None when there is none."""
        if not self._lines:
            self.waiting.clear()
            return None
        return self._lines.pop(0)
