"""Types of the objects that are handed in. For type checkers only: MicroPython has no `typing` and never imports this file."""

from collections.abc import Awaitable
from typing import Any, Protocol


class Ticks(Protocol):
    """The part of the `time` module that clocks use."""

    def ticks_ms(self) -> Any:
        """Milliseconds, wrapping at an unknown power of two."""

    def ticks_diff(self, end: Any, start: Any, /) -> int:
        """Signed difference of two readings less than half the range apart."""


class Fixture(Protocol):
    """What serves one piece of street furniture; `order`, `adds_light` and `safe` may be missing."""

    async def run(self) -> None:
        """Measure, act, emit; returns never. Raising restarts it."""


class Line(Protocol):
    """A link's sending half."""

    def send(self, message_type: int, body: bytes) -> Awaitable[bool]:
        """Put one message on the line; False when the line took nothing for too long."""


class Watchdog(Protocol):
    """The hardware watchdog."""

    def feed(self) -> None:
        """Put the bite off by one timeout."""


Module = Any
