"""One line a board while several are worked on; plain lines where nothing can redraw: a pipe, a narrow window, NO_COLOR, TERM=dumb."""

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from lamppost_tools.commission.steps import STEPS, Order
from lamppost_tools.terminal import harmless

_NARROWEST = 60
_BAR = 18


class Progress:
    """A context manager; `tell` from any thread."""

    def __init__(self, orders: Sequence[Order], console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._at: dict[str, tuple[str, str]] = {order.port: ("look", "") for order in orders}
        self._orders = orders
        self._begun_s = time.monotonic()
        is_able = console.is_terminal and not console.is_dumb_terminal and not console.no_color and console.width >= _NARROWEST
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._lines, transient=True) if is_able else None
        self._stack = ExitStack()

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._stack.enter_context(self._live)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def tell(self, order: Order, step: str, detail: str) -> None:
        """A board has come to a step, or to a part of it."""
        with self._lock:
            is_new = self._at[order.port][0] != step or not self._at[order.port][1]
            self._at[order.port] = (step, detail or step)
            if self._live is None and is_new:
                number = STEPS.index(step) + 1
                self._console.print(f"{harmless(order.asset)} ({order.port}): {number}/{len(STEPS)} {step}")

    def _lines(self) -> Text:
        lines = []
        with self._lock:
            for order in self._orders:
                step, detail = self._at[order.port]
                done = _BAR * STEPS.index(step) // len(STEPS)
                words = "" if detail == step else detail
                line = f"{harmless(order.asset)[:20]:<20} [{'#' * done}{'.' * (_BAR - done)}] {step:<9} {words}"
                lines.append(line[: self._console.width - 1])
        return Text("\n".join(lines))
