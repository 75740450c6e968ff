"""How the benchmarks judge and print; the figures themselves are no tests."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks import rows


def test_verdicts() -> None:
    """A goal is met at its limit, missed by the share beyond it, in either direction; without a goal there is no verdict."""
    assert rows.at_most("a", 10, "MB", 10).verdict == "met"
    assert rows.at_most("a", 15, "MB", 10).verdict == "missed by 50%"
    assert rows.at_least("a", 10_000, "rows/s", 20_000).verdict == "missed by 100%"
    assert rows.against_limit("a", 300, "us", 200, "limit.py", 1.5).verdict == "met"
    assert rows.against_limit("a", 330, "us", 200, "limit.py", 1.5).verdict == "missed by 10%"
    assert rows.against_limit("a", 330, "us", 200, "limit.py", None).verdict == ""
    assert rows.told("a", "elsewhere").verdict == ""


def test_run_prints_rows_for_people_and_machines() -> None:
    """Record sizes meet their goals; the same rows come as JSON."""
    program = Path(__file__).with_name("run.py")
    command = [sys.executable, str(program), "--only", "wire", "--broker", "amqtt"]
    text = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "every goal met" in text
    document = json.loads(subprocess.run([*command, "--json"], check=True, capture_output=True, text=True, timeout=60).stdout)
    sizes = {row["name"]: row for row in document["rows"]}
    assert sizes["bin record"]["measured"] <= 13
    assert sizes["bin record"]["verdict"] == "met"
