"""Power cuts at every flash operation of the node's store, on the real firmware and littlefs in MicroPython's unix port (R03, R04).

    python hil_tests/cuts/sweep.py                                     every script, every operation, three modes
    python hil_tests/cuts/sweep.py --script orders --pairs look        and once more, at every operation of what follows
    python hil_tests/cuts/sweep.py --script append --cut 17 --mode half [--second 4 --second-mode none]      that one case, told

A cut operation is not done (none), half done (half) or wholly done (whole). After each cut: the file system mounts, every value is the
old or the new one, no number is given out twice, no record that was handed out is lost. Ends with status 1 when a word was not kept.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.flash_chip import HALF, MODES
from bench.peripherals.client import find_micropython

from cuts.promises import KINDS

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = ("first_boot", "append", "acknowledge", "thin", "sequence", "orders", "configuration", "boots", "clock", "lamp", "hour")
#: Up to a hundred operations: each pair of cuts can be tried.
SHORT = tuple(script for script in SCRIPTS if script not in ("thin", "hour"))
_HEAP = "32m"
_LONGEST_S = 7200

Cut = tuple[int, str]


@dataclass
class Outcome:
    """One script's figures and what was not kept. `told`: the lines of a replayed case."""

    script: str
    operations: int = 0
    cuts: int = 0
    pairs: int = 0
    took_ms: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def is_kept(self) -> bool:
        """Whether every word was kept."""
        return not any(self.faults.values())

    def report(self, pairs: str | None) -> str:
        """What was not kept, each with the command that replays it."""
        lines = []
        for failure in self.failures:
            command = f"python hil_tests/cuts/sweep.py --script {self.script}"
            if failure["first"]:
                command += f" --cut {failure['first'][0]} --mode {failure['first'][1]}"
            if failure["second"]:
                command += f" --second {failure['second'][0]} --second-mode {failure['second'][1]} --pairs {pairs}"
            lines.append(f"{self.script}: {failure['fault']}: {failure['words']}\n    {command}")
        return "\n".join(lines)


def sweep(
    script: str,
    modes: Sequence[str] = MODES,
    pairs: str | None = None,
    first: Cut | None = None,
    second: Cut | None = None,
    roots: Sequence[Path] = (REPOSITORY / "firmware", REPOSITORY / "protocol"),
) -> Outcome:
    """Run one script's cuts. `pairs`: None, "recovery" or "look". `roots`: where the firmware's packages are.

    Raises FileNotFoundError without a MicroPython, RuntimeError when the sweep itself fails.
    """
    wanted = {"script": script, "modes": list(modes), "pairs": pairs, "first": first, "second": second}
    folders = [*(str(root) for root in roots), str(REPOSITORY / "hil_tests"), ".frozen"]
    command = [find_micropython(), "-X", f"heapsize={_HEAP}", str(REPOSITORY / "hil_tests/cuts/vm_sweep.py"), json.dumps(wanted)]
    environment = {**os.environ, "MICROPYPATH": ":".join(folders)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_LONGEST_S, check=False)
    outcome = Outcome(script)
    for line in done.stdout.splitlines():
        said = json.loads(line) if line.startswith("{") else {}
        if "fault" in said:
            outcome.failures.append(said)
        elif "figures" in said:
            vars(outcome).update(said["figures"])
        else:
            outcome.told.append(line)
    if done.returncode != 0 or not outcome.faults:
        raise RuntimeError(f"{script}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    outcome.told.extend(done.stderr.splitlines())
    return outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """The figures, one row a script and their sum."""
    heads = ("script", "operations", "cuts", "pairs of cuts", *KINDS, "s")
    rows = [
        (o.script, str(o.operations), str(o.cuts), str(o.pairs), *(str(o.faults[kind]) for kind in KINDS), f"{o.took_ms / 1000:.0f}")
        for o in outcomes
    ]
    rows.append(("all", *(str(sum(int(row[column]) for row in rows)) for column in range(1, len(heads)))))
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (heads, *rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; status 1 when a word was not kept."""
    parser = argparse.ArgumentParser(
        description="Cut the power at every flash operation.",
        epilog="example: python hil_tests/cuts/sweep.py --script append --cut 17 --mode half",
    )
    parser.add_argument("--script", choices=SCRIPTS, action="append", help="only this one; may be repeated")
    parser.add_argument("--mode", choices=MODES, action="append", help="only this one; may be repeated")
    parser.add_argument("--pairs", choices=("recovery", "look"), help="cut again, at every operation of the power-up, or of all after it")
    parser.add_argument("--cut", type=int, metavar="K", help="only operation K, and tell what was said")
    parser.add_argument("--second", type=int, metavar="K", help="then operation K of what follows")
    parser.add_argument("--second-mode", choices=MODES, default=HALF)
    options = parser.parse_args(arguments)
    first = None if options.cut is None else (options.cut, (options.mode or [HALF])[0])
    second = None if options.second is None else (options.second, options.second_mode)
    if (first is not None and len(options.script or []) != 1) or (second is not None and first is None):
        parser.error("--cut needs one --script, --second needs --cut")
    outcomes = []
    for script in options.script or (SHORT if options.pairs else SCRIPTS):
        outcomes.append(sweep(script, options.mode or MODES, options.pairs, first, second))
        for line in filter(None, [*outcomes[-1].told, outcomes[-1].report(options.pairs)]):
            print(line, flush=True)
    print(table(outcomes))
    return 0 if all(outcome.is_kept() for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
