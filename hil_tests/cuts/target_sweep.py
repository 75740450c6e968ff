"""The scripts of node_store.py on a target whose power really goes (capability `cuts`): its own littlefs at `/`, its own start after it.

Every case begins on the same flash: the image of a node that has lived, made once a script by the target itself. A cut ends the
emulator in the middle of flash operation K; what it said until then the host has heard; then it starts on what is left, mounts, and
looks around. A pair of cuts: the second falls into that look around. `sweep.py --target` is the command line.
"""

import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

from bench.console import ConsoleError, DeviceError
from bench.targets.target import Device, Setup, Target
from street.node_device import HEAP_BYTES, LIBRARY, STATE, Image, compile_for_device

from cuts.outcome import Cut, Outcome
from cuts.promises import MOUNT, VALUE, Promises

_SAID = re.compile(r"promise (\[[^\r\n]*\])\r\n")
_IMPORTS = f"from lamppost_node.flash import Flash\nfrom cuts import node_store\nflash = Flash({STATE!r})\n"
_NOT_MOUNTED = "flash not mounted"  # the target's start-up code says it
_AT_ONCE = min(4, os.cpu_count() or 1)
#: What follows the first cut of a pair, and is cut in turn.
AFTER = {"recovery": "node_store.Store(flash, node_store.printed)", "look": "node_store.look(flash, node_store.printed)"}
Choose = Callable[[int], Sequence[Cut]]


def none(_operations: int) -> Sequence[Cut]:
    """No cut."""
    return ()


class TargetSweep:
    """Devices of a target with the firmware of `image` and the scripts on them; a context manager. They have no power between cases."""

    def __init__(self, target: Target, image: Image, folder: Path) -> None:
        self._target, self._folder = target, folder
        scripts = compile_for_device(folder / "scripts", [Path(__file__).with_name("node_store.py")])
        library = {path: content for path, content in image.files.items() if path != "/main.py"}
        self._files: Mapping[str, bytes] = library | {f"{LIBRARY}/cuts/{name}": content for name, content in scripts.items()}
        self._devices: list[Device] = []

    def __enter__(self) -> "TargetSweep":
        for number in range(_AT_ONCE):
            self._devices.append(self._target.device(Setup(self._folder, f"cut{number}", files=self._files, heap_bytes=HEAP_BYTES)))
        self._blank = _content(self._devices[0])
        return self

    def __exit__(self, *_: object) -> None:
        for device in self._devices:
            device.close()

    def sweep(self, script: str, choose: Choose, second: Choose = none, pairs: str = "look") -> Outcome:
        """The cuts that `choose` takes of so many operations, and the uncut run; operations count from 0 as in sweep.py.

        After each of them once more, the cuts that `second` takes of the operations of what follows, AFTER[pairs].
        """
        begin_s = monotonic()
        start, image = self._prepare(script)
        operations, promises = self._uncut(script, start, image)
        outcome = Outcome(script, operations, target=self._target.name)
        outcome.add(promises.faults, None)
        left = iter(list(choose(operations)))
        lock = threading.Lock()

        def work(device: Device) -> None:
            while True:
                with lock:
                    cut = next(left, None)
                if cut is None:
                    return
                life, found = _script(script), start.copy()
                self._cut(device, life, image, cut, found)
                after, promised = _content(device), found.copy()
                self._look(device, found)
                with lock:
                    outcome.cuts += 1
                    outcome.add(found.faults, cut)
                    following = second(self._operations(device, pairs, after)) if second is not none else ()
                for again in following:
                    found = promised.copy()
                    self._cut(device, AFTER[pairs], after, again, found)
                    self._look(device, found)
                    with lock:
                        outcome.pairs += 1
                        outcome.add(found.faults, cut, again)

        with ThreadPoolExecutor(len(self._devices)) as pool:
            for done in [pool.submit(work, device) for device in self._devices]:
                done.result()
        outcome.took_ms = round((monotonic() - begin_s) * 1000)
        return outcome

    def one(self, script: str, cut: Cut, second: Cut | None = None, pairs: str = "look") -> Outcome:
        """That one case, told."""
        device = self._devices[0]
        promises, image = self._prepare(script)
        outcome = Outcome(script, cuts=1, target=self._target.name)
        mark = device.console.mark()
        self._cut(device, _script(script), image, cut, promises)
        if second is not None:
            self._cut(device, AFTER[pairs], _content(device), second, promises)
        self._look(device, promises)
        outcome.add(promises.faults, cut, second)
        outcome.told = [line for line in device.console.said(mark).splitlines() if line.startswith(("promise", "--"))]
        return outcome

    def look(self, content: bytes) -> Promises:
        """What a power-up on a flash with this content finds, with nothing promised before."""
        promises = Promises()
        _fill(self._devices[0], content)
        self._look(self._devices[0], promises)
        return promises

    def _prepare(self, script: str) -> tuple[Promises, bytes]:
        device, promises = self._devices[0], Promises()
        _fill(device, self._blank)
        with self._power(device):
            self._live(device, f"node_store.prepare({script!r}, flash, node_store.printed)", promises)
        if promises.faults:
            raise ConsoleError(device.console.report(f"{script} to be prepared without fault, not {promises.faults}"))
        return promises, _content(device)

    def _uncut(self, script: str, start: Promises, image: bytes) -> tuple[int, Promises]:
        device, promises = self._devices[0], start.copy()
        _fill(device, image)
        with self._power(device):
            before = device.flash_operations()
            self._live(device, _script(script), promises)
            operations = device.flash_operations() - before
        self._look(device, promises)
        return operations, promises

    def _operations(self, device: Device, pairs: str, image: bytes) -> int:
        """How many operations what follows a first cut takes."""
        _fill(device, image)
        with self._power(device):
            before = device.flash_operations()
            self._live(device, AFTER[pairs], Promises())
            return device.flash_operations() - before

    def _cut(self, device: Device, life: str, image: bytes, cut: Cut, promises: Promises) -> None:
        """`life` on this image until power fails."""
        _fill(device, image)
        with self._power(device):
            device.cut_after(cut[0] + 1, cut[1])
            mark = device.console.mark()
            with device.console.raw_repl(soft_reset=False, deadline_s=self._target.deadline_s()) as repl:
                repl.run(_IMPORTS + life)
            if not device.ended(self._target.deadline_s()):
                raise ConsoleError(device.console.report(f"{life} to end in a cut at operation {cut[0]}"))
            _hear(device, mark, promises)

    def _look(self, device: Device, promises: Promises) -> None:
        mark = device.console.mark()
        with self._power(device):
            self._live(device, "node_store.look(flash, node_store.printed)", promises)
            if _NOT_MOUNTED in device.console.said(mark):
                promises.broken(MOUNT, device.console.said(mark).partition(_NOT_MOUNTED)[2].strip()[:200])

    def _live(self, device: Device, life: str, promises: Promises) -> None:
        """Run it to its end and hear it. What fails is noted."""
        mark = device.console.mark()
        failure = ""
        with device.console.raw_repl(soft_reset=False, deadline_s=self._target.deadline_s()) as repl:
            try:
                repl.exec(_IMPORTS + life, self._target.deadline_s())
            except DeviceError as error:
                failure = error.traceback.strip().splitlines()[-1]
        _hear(device, mark, promises)
        if failure:
            promises.broken(VALUE, f"the node's store fails: {failure}")

    def _power(self, device: Device) -> ExitStack:
        device.start()
        stack = ExitStack()
        stack.callback(device.stop)
        return stack


def _script(script: str) -> str:
    return f"node_store.run({script!r}, flash, node_store.printed)"


def _hear(device: Device, mark: int, promises: Promises) -> None:
    said = device.console.said(mark)
    words = [json.loads(text) for text in _SAID.findall(said)]
    if len(words) != said.count("promise ["):
        raise ConsoleError(device.console.report("every word that was said to arrive whole"))
    for each in words:
        promises.hear(each)


def _content(device: Device) -> bytes:
    """What is on its flash, without the zeros behind it that were never written."""
    return device.flash_image.read_bytes().rstrip(b"\x00")


def _fill(device: Device, content: bytes) -> None:
    size = device.flash_image.stat().st_size
    with device.flash_image.open("wb") as flash:
        flash.write(content)
        flash.truncate(size)
