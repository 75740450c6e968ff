"""Is this node well: the watchdog's conditions, the boot-loop guard, and the node's own record.

The watchdog is fed only while every task has said within its own limit that it lives. Three boots in a row that did not reach a good
minute start safe mode: lamp lit, link up, no other fixture. After ten minutes there the node restarts and tries again, because the
cause may have been the supply, and nobody drives out to press a button.
"""

import gc

from lamppost_protocol import hello, kinds

from lamppost_node.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamppost_node.clock import Clock
    from lamppost_node.interfaces import Watchdog

WATCHDOG_MS = 60_000  # longer than a littlefs erase storm, shorter than a street's patience
FEED_MS = 5_000
TASK_LIMIT_MS = 120_000
GOOD_MS = 60_000
SAFE_MODE_MS = 600_000
UNCONFIRMED_BOOTS = 3
_BOOT = "boot"


class BootGuard:
    """Counts boots on flash. `boots` is 0 when the count cannot be kept; then safe mode is not known to be needed.

    Waking from a planned sleep is no boot: `is_resumed`. It writes nothing.
    """

    def __init__(self, settings: Settings, asleep: int = 0):
        """`asleep`: the boot, already a good one, that a planned sleep interrupted; 0 for none."""
        self._settings = settings
        value = settings.load(_BOOT)
        boots, unconfirmed = 0, 0
        if isinstance(value, list) and len(value) == 2:
            boots, unconfirmed = value
        self.is_safe_mode = unconfirmed >= UNCONFIRMED_BOOTS
        self.is_confirmed = self.is_resumed = 0 < asleep == boots and unconfirmed == 0
        if self.is_resumed:
            self.boots = boots
            return
        self.boots = boots + 1
        if not settings.is_kept(_BOOT, [self.boots, unconfirmed + 1]):
            self.boots = 0

    def confirm(self) -> None:
        """This boot was a good one. Writes flash once."""
        if self.boots:
            self.is_confirmed = self._settings.is_kept(_BOOT, [self.boots, 0])


class TaskWatch:
    """Who said last when that it lives. `feed_if_well` is the only thing that keeps the hardware watchdog from biting."""

    def __init__(self, watchdog: "Watchdog | None", clock: "Clock"):
        self._watchdog = watchdog
        self._clock = clock
        self._limits_ms: dict[str, int] = {}
        self._heard_ms: dict[str, int] = {}

    def watch(self, name: str, limit_ms: int = TASK_LIMIT_MS) -> None:
        """Expect `alive(name)` at least every `limit_ms`, from now on."""
        self._limits_ms[name] = limit_ms
        self._heard_ms[name] = self._clock.monotonic_ms()

    def unwatch(self, name: str) -> None:
        """Task `name` has ended as it should."""
        self._limits_ms.pop(name, None)

    def alive(self, name: str) -> None:
        """Task `name` lives. Unknown names are ignored."""
        if name in self._limits_ms:
            self._heard_ms[name] = self._clock.monotonic_ms()

    def silent(self) -> list[str]:
        """Names of the tasks past their limit."""
        now_ms = self._clock.monotonic_ms()
        return [name for name in self._limits_ms if now_ms - self._heard_ms[name] > self._limits_ms[name]]

    def feed_if_well(self) -> list[str]:
        """Feed the watchdog unless a task is silent; returns the silent ones."""
        silent = self.silent()
        if not silent and self._watchdog is not None:
            self._watchdog.feed()
        return silent


class Counters:
    """What went wrong since boot, for the node record. Plain numbers, counted by whoever sees them."""

    def __init__(self) -> None:
        self.task_restarts = 0
        self.flash_faults = 0
        self.rejects = 0
        self.heap_free_lowest: int | None = None

    def state(self) -> "list[int | None]":
        """What `resume` takes after a deep sleep."""
        return [self.task_restarts, self.flash_faults, self.rejects, self.heap_free_lowest]

    def resume(self, state: "list[int | None]") -> None:
        """Go on counting."""
        self.task_restarts, self.flash_faults, self.rejects, self.heap_free_lowest = state  # type: ignore[assignment]

    def note_heap(self) -> int:
        """Free heap in bytes after a collection; keeps the lowest seen. Blocks for the collection (a few ms)."""
        gc.collect()
        free = getattr(gc, "mem_free", None)
        free_bytes: int = free() if free else 0
        if self.heap_free_lowest is None or free_bytes < self.heap_free_lowest:
            self.heap_free_lowest = free_bytes
        return free_bytes


NODE_KIND = kinds.kind_of(kinds.NODE)


def hello_state(is_safe_mode: bool, is_counter_lost: bool) -> int:
    """The state a hello and the node record tell: losing the counter outranks safe mode, since it needs a person."""
    if is_counter_lost:
        return hello.COUNTER_LOST
    return hello.SAFE_MODE if is_safe_mode else hello.RUNNING
