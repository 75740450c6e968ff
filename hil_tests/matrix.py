"""Runs the hardware tests on every target that this machine can run and prints who passed what: `python hil_tests/matrix.py`.

    python hil_tests/matrix.py [TARGET ..] [-- PYTEST ARGUMENTS]

Without targets: all there are; one that cannot run is left out, with the reason. A target named here that cannot run is a failure, so is
one on which no test passes, and so is a test skipped on it for anything else than a capability that it lacks. BENCH_SERIAL and
BENCH_ESP_QEMU give the arguments of the targets `serial` and `esp-qemu`.
Ends with status 1 when anything failed. Reports are kept as build/hil/<target>.xml.
"""

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "hil_tests"))

from bench.targets import TARGETS, find_target  # noqa: E402 - found through the line above

#: What a user gives once, in the environment, for targets that need to be told where they are.
ARGUMENTS = {"serial": "BENCH_SERIAL", "esp-qemu": "BENCH_ESP_QEMU"}
PASSED, SKIPPED, FAILED = "passed", "skipped", "FAILED"
#: Most of the tests' time is waiting for devices, so more of them than cores run at a time.
SIDE_BY_SIDE = ("-n", "3", "--dist", "worksteal")

Report = dict[str, tuple[str, str, float]]


def read_report(path: Path) -> Report:
    """A JUnit report as test -> (result, first line of the reason, seconds). Raises OSError, ElementTree.ParseError."""
    found = {}
    for case in ElementTree.parse(path).iter("testcase"):
        result, reason = PASSED, ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                result = SKIPPED if child.tag == "skipped" else FAILED
                reason = (child.get("message") or "").partition("\n")[0]
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        found[name] = (result, reason, float(case.get("time") or 0))
    return found


def run(target: str, arguments: list[str]) -> tuple[int, Report]:
    """pytest's status and report for one target."""
    report = ROOT / "build/hil" / f"{target.partition(':')[0]}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "hil_tests",
        "--target",
        target,
        "-m",
        "not soak",
        "-q",
        "--junitxml",
        str(report),
        *(() if find_target(target).is_single else SIDE_BY_SIDE),
    ]
    status = subprocess.run([*command, *arguments], cwd=ROOT, check=False).returncode
    return status, read_report(report) if report.exists() else {}


def judge(target: str, report: Report) -> Report:
    """The report of a target that was named: what was skipped because something is missing here has failed."""
    may_skip = f"{target.partition(':')[0]} has no "
    judged = {}
    for test, (result, reason, seconds) in report.items():
        is_lacking = result == SKIPPED and not reason.startswith(may_skip)
        judged[test] = (FAILED, f"not run: {reason}", seconds) if is_lacking else (result, reason, seconds)
    return judged


def is_green(status: int, report: Report) -> bool:
    """Whether something passed and nothing failed."""
    results = {result for result, _, _ in report.values()}
    return status == 0 and PASSED in results and FAILED not in results


def table(results: dict[str, Report]) -> str:
    """One line a test, one column a target; below it why each was skipped or failed."""
    tests = sorted({name for report in results.values() for name in report})
    width = max(map(len, tests), default=4)
    lines = [" ".join([" " * width, *(f"{target:>14}" for target in results)])]
    reasons = []
    for test in tests:
        cells = []
        for target, report in results.items():
            result, reason, seconds = report.get(test, ("-", "", 0.0))
            cells.append(f"{f'{seconds:.1f} s' if result == PASSED else result:>14}")
            if reason:
                reasons.append(f"{result:>7} {target}: {test}: {reason}")
        lines.append(" ".join([f"{test:{width}}", *cells]))
    return "\n".join([*lines, "", *reasons])


def main(words: list[str]) -> int:
    cut = words.index("--") if "--" in words else len(words)
    named, arguments = words[:cut], words[cut + 1 :]
    wanted = named or [f"{name}:{os.environ.get(ARGUMENTS[name], '')}" if name in ARGUMENTS else name for name in TARGETS]
    results: dict[str, Report] = {}
    took_s: dict[str, float] = {}
    is_bad = False
    for text in wanted:
        missing = find_target(text).missing()
        if missing:
            is_bad = is_bad or bool(named)
            continue
        begin_s = time.monotonic()
        status, report = run(text, arguments)
        took_s[text] = time.monotonic() - begin_s
        results[text] = judge(text, report) if named else report
        is_bad = is_bad or not is_green(status, results[text])
    print(table(results))
    for text, report in results.items():
        counts = [sum(result == each for result, _, _ in report.values()) for each in (PASSED, SKIPPED, FAILED)]
        print("{}: {} passed, {} skipped, {} failed in {:.0f} s".format(text, *counts, took_s[text]))
    for text in wanted:
        if text not in results:
            print(f"{'cannot run' if named else 'left out'}: {text}: {find_target(text).missing()}")
    return 1 if is_bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
