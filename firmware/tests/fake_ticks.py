"""A `time` module whose milliseconds move when a test says so, and wrap as a chip's do."""

PERIOD = 1 << 30


class FakeTicks:
    """`ticks_ms` and `ticks_diff` over a wrapping counter; `advance` moves it."""

    def __init__(self, start: int = PERIOD - 5000):
        self.now_ms = start

    def advance(self, ms: int) -> None:
        self.now_ms += ms

    def ticks_ms(self) -> int:
        return self.now_ms % PERIOD

    def ticks_diff(self, end: int, start: int) -> int:
        return (end - start + PERIOD // 2) % PERIOD - PERIOD // 2
