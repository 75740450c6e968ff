"""A serial port listened to and never spoken to: the protocol's messages and a console's text, as they come."""

import time
from collections.abc import Iterator

from lamppost_protocol import slip
from lamppost_protocol.limits import MAX_LINE_BYTES

from lamppost_tools.board.ports import overhear
from lamppost_tools.frame.decode import KeyRing, LineReader
from lamppost_tools.frame.words import text_of_peer


class Listener:
    """Octets in, entries as `frame decode` makes them out; what is text on a console becomes `{"what": "console"}`."""

    def __init__(self, ring: KeyRing) -> None:
        self._reader = LineReader(ring)
        self._pending = b""

    def feed(self, data: bytes, now_ms: int = 0) -> list[dict[str, object]]:
        """What `data` completes. A message is octets between two ENDs; text before the first END is a console's."""
        found: list[dict[str, object]] = []
        self._pending += data
        while True:
            text, newline, rest = self._pending.partition(b"\n")
            end = self._pending.find(slip.END)
            if newline and (end < 0 or end > len(text)) and _is_text(text):
                self._pending = rest
                if text.strip():
                    found.append({"what": "console", "text": text_of_peer(text.decode("utf-8", "replace").rstrip("\r"))})
                continue
            if end < 0:
                break
            found.extend(self._reader.feed(self._pending[: end + 1], now_ms))
            self._pending = self._pending[end + 1 :]
        if len(self._pending) > MAX_LINE_BYTES:
            found.extend(self._reader.feed(self._pending, now_ms))
            self._pending = b""
        return found


def _is_text(octets: bytes) -> bool:
    return all(octet >= 0x20 or octet in b"\t\r\x1b" for octet in octets)


def listen(port: str, baud: int, ring: KeyRing) -> Iterator[dict[str, object]]:
    """Entries for ever. Raises MissingError where the port cannot be opened, is somebody else's, or goes away."""
    listener = Listener(ring)
    for data in overhear(port, baud):
        yield from listener.feed(data, time.monotonic_ns() // 1_000_000)
