"""Tasks that must not die silently: each runs on its own, is restarted with backoff when it fails, and is counted.

On MicroPython a task that raises prints and is gone while the rest runs on; here it says so to the log, its fixture goes to its safe
state, and it starts again. A task that hangs is not restarted: it stops saying that it lives, and the watchdog bites.
"""

import asyncio

from lamppost_node.health import TASK_LIMIT_MS, Counters, TaskWatch
from lamppost_node.log_lines import LogLines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_FIRST_BACKOFF_S = 1
_LAST_BACKOFF_S = 60
_MAX_TEXT = 80


class Supervisor:
    """Starts tasks and keeps them."""

    def __init__(self, watch: TaskWatch, counters: Counters, log_lines: LogLines):
        self._watch = watch
        self._counters = counters
        self._log_lines = log_lines
        self._tasks: dict[str, object] = {}  # by name, until they end

    def start(
        self,
        name: str,
        run: "Callable[[], Awaitable[None]]",
        on_failure: "Callable[[], None] | None" = None,
        limit_ms: int = TASK_LIMIT_MS,
    ) -> None:
        """Run `run()` as task `name`, watched with `limit_ms` (0: not watched). `on_failure` is called before each restart."""
        if limit_ms:
            self._watch.watch(name, limit_ms)
        self._tasks[name] = asyncio.create_task(self._keep(name, run, on_failure))

    async def _keep(self, name: str, run: "Callable[[], Awaitable[None]]", on_failure: "Callable[[], None] | None") -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            try:
                await run()
                self._watch.unwatch(name)
                self._tasks.pop(name, None)
                return
            except Exception as error:
                self._counters.task_restarts += 1
                if on_failure is not None:
                    self._attempt(name, on_failure)
                self._attempt(name, self._teller(name, error))
            self._watch.alive(name)
            await asyncio.sleep(backoff_s)
            self._watch.alive(name)
            backoff_s = min(2 * backoff_s, _LAST_BACKOFF_S)

    def _teller(self, name: str, error: Exception) -> "Callable[[], None]":
        return lambda: self._log_lines.put(describe(name, error))

    def _attempt(self, name: str, step: "Callable[[], None]") -> None:
        """One step of the clean-up: with the heap full even a log line may fail, and the restart must come all the same."""
        try:
            step()
        except Exception:
            self._watch.alive(name)


def describe(name: str, error: Exception) -> str:
    """One log line for a failure: who, which class, the first words. Exceptions here never hold key material."""
    return name + " failed: " + type(error).__name__ + " " + str(error)[:_MAX_TEXT]
