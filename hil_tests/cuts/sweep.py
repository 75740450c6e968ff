"""Power cuts at every flash operation of the node's store, on the real firmware and littlefs in MicroPython's unix port (R03, R04).

    python hil_tests/cuts/sweep.py                                     every script, every operation, three modes
    python hil_tests/cuts/sweep.py --script orders --pairs look        and once more, at every operation of what follows
    python hil_tests/cuts/sweep.py --script append --cut 17 --mode half [--second 4 --second-mode none]      that one case, told
    python hil_tests/cuts/sweep.py --target qemu-rv32 ..               on a target whose power really goes

A cut operation is not done (none), half done (half) or wholly done (whole). After each cut: the file system mounts, every value is the
old or the new one, no number is given out twice, no record that was handed out is lost. Ends with status 1 when a word was not kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.flash_chip import HALF, MODES
from bench.peripherals.client import find_micropython
from bench.targets import TARGETS, find_target
from bench.targets.target import CUTS
from street.node_device import build_target_image

from cuts.outcome import Cut, Outcome, table
from cuts.target_sweep import TargetSweep, none

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = (
    "first_boot",
    "append",
    "acknowledge",
    "thin",
    "sequence",
    "orders",
    "configuration",
    "trial",
    "boots",
    "clock",
    "lamp",
    "rekey",
    "hour",
)
#: Up to a hundred operations: each pair of cuts can be tried.
SHORT = tuple(script for script in SCRIPTS if script not in ("thin", "rekey", "hour"))
_HEAP = "32m"
_LONGEST_S = 7200


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
    outcome = Outcome(script, faults={})
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


def every(operations: int, modes: Sequence[str]) -> list[Cut]:
    """All cuts there are."""
    return [(k, mode) for k in range(operations) for mode in modes]


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
    parser.add_argument("--target", choices=TARGETS, help="a target with power cuts of its own, instead of the unix port's littlefs")
    options = parser.parse_args(arguments)
    first = None if options.cut is None else (options.cut, (options.mode or [HALF])[0])
    second = None if options.second is None else (options.second, options.second_mode)
    if (first is not None and len(options.script or []) != 1) or (second is not None and first is None):
        parser.error("--cut needs one --script, --second needs --cut")
    scripts, modes = options.script or (SHORT if options.pairs else SCRIPTS), options.mode or MODES
    if options.target:
        found = _on_target(options.target, scripts, modes, options.pairs, first, second)
    else:
        found = (sweep(script, modes, options.pairs, first, second) for script in scripts)
    outcomes = []
    for outcome in found:
        outcomes.append(outcome)
        for line in filter(None, [*outcome.told, outcome.report(options.pairs)]):
            print(line, flush=True)
    print(table(outcomes))
    return 0 if all(outcome.is_kept() for outcome in outcomes) else 1


def _on_target(
    name: str, scripts: Sequence[str], modes: Sequence[str], pairs: str | None, first: Cut | None, second: Cut | None
) -> Iterator[Outcome]:
    target = find_target(name)
    missing = target.missing() or (None if CUTS in target.capabilities else "it has no power cuts of its own")
    if missing:
        raise SystemExit(f"{name}: {missing}")
    image = build_target_image(REPOSITORY / "build/target-image", target)
    with tempfile.TemporaryDirectory() as folder, TargetSweep(target, image, Path(folder)) as cuts:
        for script in scripts:
            if first is None:
                yield cuts.sweep(
                    script, lambda count: every(count, modes), (lambda count: every(count, modes)) if pairs else none, pairs or "look"
                )
            else:
                yield cuts.one(script, first, second, pairs or "look")


if __name__ == "__main__":
    sys.exit(main())
