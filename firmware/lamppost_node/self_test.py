"""The bench's look at a board before it goes to the street: every fixture measures with its own code, and says each record as a JSON line.

From the console: `from lamppost_node.self_test import main`, `main(12)`. A running node never loads it. It needs the configuration on flash
and nothing else: no identity, no time. Nothing is kept: no record gets a number, no setting is written, no watchdog starts. It judges
nothing either; whoever asked knows the profiles' ranges.

Lines: {"configuration": source, "errors": [...]}, then for each record {"fixture", "quality", "values"}, {"log": text} for what a fixture
complains of, {"fixture", "error"} for one that could not be built or ended, and {"end": true, "heap_free": bytes}.
"""

import asyncio
import gc
import json

from lamppost_protocol import kinds

from lamppost_node import config
from lamppost_node.clock import Clock
from lamppost_node.flash import Flash
from lamppost_node.health import Counters, TaskWatch
from lamppost_node.log_lines import LogLines
from lamppost_node.sampler import Sampler
from lamppost_node.services import Services
from lamppost_node.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamppost_node.board import Board
    from lamppost_node.interfaces import Module, Ticks

_LOOK_MS = 50


def _say(line: dict[str, object]) -> None:
    print(json.dumps(line))


class _NothingKept(Settings):
    """Settings of a node that has never run, and never notices that it does."""

    def load(self, name: str) -> object:
        return None

    def save(self, name: str, value: object) -> None:
        pass


class _SpokenLines(LogLines):
    def put(self, text: str) -> None:
        _say({"log": text})


class _SpokenRecords(Sampler):
    """`good`: which fixtures have given a record without a doubt. `names` by the record's kind."""

    def __init__(self, clock: Clock, counters: Counters):
        super().__init__(clock, None, 0, counters)
        self.names: dict[int, str] = {}
        self.good: set[str] = set()

    def emit(self, kind: int, q: int, values: "list[int | None] | tuple[int | None, ...]", is_alarm: bool, is_kept: bool) -> int:
        name = self.names.get(kind)
        if name is not None:
            _say({"fixture": name, "quality": q, "values": list(values)})
            if q == kinds.GOOD:
                self.good.add(name)
        return 1


async def run(board: "Board", ticks: "Ticks", deadline_s: int) -> None:
    """Let every fixture measure until each has given a good record, for at most `deadline_s`."""
    modules: dict[str, Module | None] = {}

    def module_of(kind: str) -> "Module | None":
        if kind not in modules:
            gc.collect()
            try:
                modules[kind] = __import__("lamppost_node.fixtures." + kind, None, None, ("PROFILE",))
            except Exception as error:
                modules[kind] = None
                _say({"fixture": kind, "error": type(error).__name__})
        return modules[kind]

    flash = Flash(board.flash_root())
    settings = _NothingKept(flash)
    found = config.load(flash, False)
    _say({"configuration": found.source, "errors": found.errors})
    values = found.values
    clock = Clock(ticks, settings, values["drift_ppm"], values["utc_offset_s"], values["dst"])
    records = _SpokenRecords(clock, Counters())
    node = Services(clock, settings, values, False, records, None, _SpokenLines(), TaskWatch(None, clock), 0)
    tasks = []
    for one in values["fixtures"]:
        module = module_of(one["kind"])
        if module is not None:
            instance = one["instance"]
            name = one["kind"] + ("." + str(instance) if instance else "")
            records.names[kinds.kind_of(module.PROFILE, instance)] = name
            tasks.append(asyncio.create_task(_measure(name, module, board, one, node)))
    began_ms = clock.monotonic_ms()
    while len(records.good) < len(tasks) and clock.monotonic_ms() - began_ms < deadline_s * 1000:
        await asyncio.sleep(_LOOK_MS / 1000)
    for task in tasks:
        task.cancel()
    board.release_lamp()
    gc.collect()
    _say({"end": True, "heap_free": gc.mem_free()})


async def _measure(name: str, module: "Module", board: "Board", values: "config.Values", node: Services) -> None:
    try:
        await module.build(board, values, node, values["instance"]).run()
    except Exception as error:
        _say({"fixture": name, "error": type(error).__name__ + " " + str(error)})


def main(deadline_s: int) -> None:
    """Test this board. Ends by itself; the lamp is at full light then."""
    import time

    from lamppost_node.board import Board

    asyncio.run(run(Board(), time, deadline_s))
