"""Milliseconds and microseconds on both runtimes: the names of MicroPython, given to CPython by the running event loop.

Tests on the host therefore decide the time by the loop they run under; on CPython nothing here may be called outside a running
loop. Values are opaque: subtract them with `ticks_diff` only, never compare them (they wrap on the chip).
"""

TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Awaitable

try:
    from asyncio import sleep_ms  # type: ignore[attr-defined, unused-ignore]
    from time import ticks_add, ticks_diff, ticks_ms, ticks_us  # type: ignore[attr-defined, unused-ignore]
except ImportError:
    import asyncio

    def sleep_ms(delay_ms: int) -> "Awaitable[None]":
        """Pause this task for at least `delay_ms` milliseconds; other tasks run."""
        return asyncio.sleep(delay_ms / 1000)

    def ticks_ms() -> int:
        """Now, in milliseconds of the running loop's clock."""
        return round(asyncio.get_running_loop().time() * 1000)

    def ticks_us() -> int:
        """Now, in microseconds of the running loop's clock."""
        return round(asyncio.get_running_loop().time() * 1000000)

    def ticks_add(ticks: int, delta: int) -> int:
        """The reading `delta` later, earlier when it is negative."""
        return ticks + delta

    def ticks_diff(later: int, earlier: int) -> int:
        """Milliseconds or microseconds from `earlier` to `later`, negative when they are the other way round."""
        return later - earlier


__all__ = ["sleep_ms", "ticks_add", "ticks_diff", "ticks_ms", "ticks_us"]
