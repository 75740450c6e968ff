"""The lowest boundary of the node's tests on the host: buses that replay datasheet bytes, and a loop that jumps over its waits."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import looptime

T = TypeVar("T")


def run_virtual(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` on a loop that jumps over its waits: an hour of virtual time costs nothing."""
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        return runner.run(work)


def now_ms() -> int:
    """The running loop's clock in milliseconds."""
    return round(asyncio.get_running_loop().time() * 1000)


class FakeUart:
    """A UART whose far end is `answer(request) -> bytes` and a script of (at_ms, bytes) arriving by itself."""

    def __init__(
        self,
        script: "list[tuple[int, bytes]] | None" = None,
        answer: "Callable[[bytes], bytes] | None" = None,
        most: int = 32,
    ):
        self.script = sorted(script or [])
        self.answer = answer
        self.most = most  # bytes handed over by one call, to split frames
        self.waiting = bytearray()
        self.written: list[bytes] = []

    def _arrive(self) -> None:
        while self.script and self.script[0][0] <= now_ms():
            self.waiting += self.script.pop(0)[1]
        del self.waiting[:-256]

    def any(self) -> int:
        self._arrive()
        return len(self.waiting)

    def readinto(self, buffer: bytearray) -> "int | None":
        self._arrive()
        count = min(len(self.waiting), len(buffer), self.most)
        if not count:
            return None
        buffer[:count] = self.waiting[:count]
        del self.waiting[:count]
        return count

    def write(self, data: bytes) -> int:
        self._arrive()  # what came before the question lies before its answer
        self.written.append(bytes(data))
        if self.answer is not None:
            self.waiting += self.answer(bytes(data))
        return len(data)


class FakeI2c:
    """One bus; each chip is an object with `write(data)` and `read(count) -> bytes`; both may raise OSError (not acknowledged)."""

    def __init__(self, chips: dict[int, Any]):
        self.chips = chips

    def _chip(self, address: int) -> Any:
        if address not in self.chips:
            raise OSError(19)
        return self.chips[address]

    def writeto(self, address: int, data: bytes) -> int:
        self._chip(address).write(bytes(data))
        return len(data)

    def readfrom_into(self, address: int, buffer: bytearray) -> None:
        buffer[:] = self._chip(address).read(len(buffer))

    def readfrom_mem_into(self, address: int, register: int, buffer: bytearray) -> None:
        self._chip(address).write(bytes([register]))
        buffer[:] = self._chip(address).read(len(buffer))

    def writeto_mem(self, address: int, register: int, data: bytes) -> None:
        self._chip(address).write(bytes([register]) + bytes(data))


async def never_longer(work: "Awaitable[T]", limit_s: float) -> T:
    """A wait with its deadline: a driver that hangs fails its test instead of the run."""
    return await asyncio.wait_for(work, limit_s)


class StreamUart(FakeUart):
    """A sensor that speaks by itself: `make(ms)` gives the bytes it sends every `period_ms`; it hears nothing."""

    def __init__(self, period_ms: int, make: Callable[[int], bytes]):
        super().__init__()
        self.period_ms = period_ms
        self.make = make
        self.turn = 0

    def _arrive(self) -> None:
        while self.turn * self.period_ms <= now_ms():
            self.waiting += self.make(self.turn * self.period_ms)
            self.turn += 1
        del self.waiting[256:]


class FakeNode:
    """The services a fixture sees, on the running loop's clock: what it emitted, logged and stored can be read afterwards."""

    def __init__(self) -> None:
        self.clock = self
        self.settings = self
        self.config = {"report_s": 900}
        self.records: list[tuple[int, int, int, tuple[Any, ...], bool]] = []
        self.lines: list[str] = []
        self.stored: dict[str, Any] = {}
        self.saves: list[tuple[int, str, Any]] = []
        self.alive_ms: list[int] = []
        self.refuse_flash = False

    def monotonic_ms(self) -> int:
        return now_ms()

    def emit(self, kind: int, q: int, values: tuple[Any, ...], alarm: bool = False) -> int:
        if self.refuse_flash:
            return 0
        self.records.append((now_ms(), kind, q, tuple(values), alarm))
        return len(self.records)

    def load(self, name: str) -> Any:
        return self.stored.get(name)

    def save(self, name: str, value: Any) -> None:
        if self.refuse_flash:
            raise OSError(5)
        self.stored[name] = value
        self.saves.append((now_ms(), name, value))

    def log(self, text: str) -> None:
        self.lines.append(text)

    def alive(self, name: str) -> None:
        self.alive_ms.append(now_ms())


def run_fixture(make: Callable[[], Any], for_s: float) -> None:
    """Run the fixture `make()` builds for `for_s` virtual seconds; it must still be running then."""

    async def work() -> None:
        task = asyncio.get_running_loop().create_task(make().run())
        await asyncio.wait((task,), timeout=for_s)
        assert not task.done(), task
        task.cancel()

    run_virtual(work())
