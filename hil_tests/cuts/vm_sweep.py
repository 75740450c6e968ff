"""Runs on MicroPython's unix port: cuts the power at every flash operation of the scripts, on littlefs as the boards have it.

`vm_sweep.py '{"script": "append", "modes": ["half"], "pairs": null}'` prints JSON lines: `{"fault": ..}` for each word not kept, with the
cut that shows it, and `{"figures": ..}` at the end. "pairs": cut once more, at every operation of the "recovery" after each first cut, or
of the whole "look" that follows it. With "first" (and "second"), [operation, mode], it makes that one case by a real cut.
"""

import gc
import json
import sys
import time

import vfs
from bench.flash_chip import MODES, FlashChip, PowerCut, done_octets
from lamppost_node.flash import Flash

from cuts import node_store
from cuts.promises import KINDS, MOUNT, VALUE, Promises

_BLOCKS, _BLOCK_BYTES = 24, 4096
_MOUNT = "/cut"
_MOST_TOLD = 20
#: What follows the first cut of a pair, and is cut in turn.
AFTER = {"recovery": node_store.Store, "look": node_store.look}


def _silent(words: list) -> None:
    """Nobody hears what is said."""


def _blank() -> bytearray:
    return bytearray(b"\xff" * (_BLOCKS * _BLOCK_BYTES))


def _live(chip: FlashChip, life, promises: Promises) -> bool:
    """One power-up on what the chip holds: mount, `life(flash)`, unmount. What fails is noted; False when the power went."""
    try:
        vfs.mount(vfs.VfsLfs2(chip), _MOUNT)
    except PowerCut:
        return False
    except Exception as error:
        promises.broken(MOUNT, repr(error))
        return True
    try:
        life(Flash(_MOUNT + "/lamppost"))
    except PowerCut:
        return False
    except Exception as error:
        sys.print_exception(error, sys.stderr)
        promises.broken(VALUE, f"the node's store fails: {error!r}")
    finally:
        vfs.umount(_MOUNT)
    return True


class Run:
    """One uncut life, from which the image of every cut of it follows. `said`: (operations before it, words)."""

    def __init__(self, image: bytearray, life, promises: Promises, say_on=None):
        """`life(flash, say)`; `say_on`: hears every word too, at once."""
        self.before = bytes(image)
        self.said: list = []
        self.promises = promises
        self.chip = FlashChip(image, _BLOCK_BYTES, True)

        def say(words: list) -> None:
            self.said.append((self.chip.ops(), words))
            if say_on is not None:
                say_on(words)

        self.is_whole = _live(self.chip, lambda flash: life(flash, say), promises)

    def cuts(self, modes, first: int = 0):
        """For each operation and mode: (operation, mode, image, what was promised until then)."""
        now = bytearray(self.before)
        promises = self.promises
        heard = 0
        for k, (start, octets) in enumerate(self.chip.journal):
            while heard < len(self.said) and self.said[heard][0] <= k:
                promises.hear(self.said[heard][1])
                heard += 1
            if k >= first:
                for mode in modes:
                    image = bytearray(now)
                    done = done_octets(octets, mode)
                    image[start : start + len(done)] = done
                    yield k, mode, image, promises.copy()
            now[start : start + len(octets)] = octets


class Sweep:
    """Counts cuts and faults of one script."""

    def __init__(self, script: str):
        self.script = script
        self.operations = 0
        self.cuts = 0
        self.pairs = 0
        self.faults: dict = {kind: 0 for kind in KINDS}
        self.told = 0
        chip = FlashChip(_blank(), _BLOCK_BYTES)
        vfs.VfsLfs2.mkfs(chip)
        self.start = Promises()
        _live(chip, lambda flash: node_store.prepare(script, flash, self.start.hear), self.start)
        self.image = chip.image

    def run(self, modes, pairs: "str | None") -> None:
        """Every cut; with every cut of the life after it when pairs are wanted."""
        uncut = self.start.copy()
        run = Run(bytearray(self.image), lambda flash, say: node_store.run(self.script, flash, say), self.start.copy(), uncut.hear)
        uncut.faults.extend(run.promises.faults)
        self.operations = run.chip.ops()
        self.look(run.chip.image, uncut, None, None)
        for k, mode, image, promises in run.cuts(modes):
            self.cuts += 1
            if pairs is None:
                self.look(image, promises, (k, mode), None)
                continue
            heard = promises.copy()
            second = Run(image, AFTER[pairs], promises, heard.hear)
            heard.faults.extend(promises.faults)
            promises.faults = []
            self.note(heard, (k, mode), None)
            for k2, mode2, image2, promises2 in second.cuts(modes):
                self.pairs += 1
                promises2.faults = []
                self.look(image2, promises2, (k, mode), (k2, mode2))
            gc.collect()

    def look(self, image: bytearray, promises: Promises, first, second) -> None:
        """Power-up after the last cut."""
        _live(FlashChip(image, _BLOCK_BYTES), lambda flash: node_store.look(flash, promises.hear), promises)
        self.note(promises, first, second)

    def note(self, promises: Promises, first, second) -> None:
        """Count what was not kept and print its case."""
        for kind, words in promises.faults:
            self.faults[kind] += 1
            self.told += 1
            if self.told <= _MOST_TOLD:
                print(json.dumps({"fault": kind, "words": words, "first": first, "second": second}))

    def one(self, first, second, pairs: str) -> None:
        """One case by real cuts: the chip goes off in the middle of the operation. Prints what was said."""
        promises = self.start.copy()

        def say(words: list) -> None:
            print("promise", json.dumps(words))
            promises.hear(words)

        image = bytearray(self.image)
        lives = [(first, lambda flash: node_store.run(self.script, flash, say))]
        if second is not None:
            lives.append((second, lambda flash: AFTER[pairs](flash, say)))
        for cut, life in lives:
            chip = FlashChip(image, _BLOCK_BYTES)
            chip.cut_after(cut[0], cut[1])
            if _live(chip, life, promises):
                print(f"there is no operation {cut[0]}")
            print(f"-- the power goes at operation {cut[0]}, {cut[1]} --")
            self.cuts += 1
            image = chip.image
        _live(FlashChip(image, _BLOCK_BYTES), lambda flash: node_store.look(flash, say), promises)
        self.note(promises, first, second)


def main(wanted: dict) -> None:
    """What is asked for on the command line."""
    begin_ms = time.ticks_ms()
    sweep = Sweep(wanted["script"])
    if wanted.get("first"):
        sweep.one(wanted["first"], wanted.get("second"), wanted.get("pairs") or "look")
    else:
        sweep.run(wanted.get("modes") or MODES, wanted.get("pairs"))
    figures = {"operations": sweep.operations, "cuts": sweep.cuts, "pairs": sweep.pairs, "faults": sweep.faults}
    figures["took_ms"] = time.ticks_diff(time.ticks_ms(), begin_ms)
    print(json.dumps({"figures": figures}))


main(json.loads(sys.argv[1]))
