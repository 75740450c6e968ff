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


def test_what_others_send_is_what_their_specifications_say() -> None:
    """The encodings beside ours decode to the reading they are compared with; ours keeps its goal."""
    import cbor2

    from benchmarks import air_figures
    from benchmarks.wire_figures import BIN_RECORD

    assert air_figures._lpp(BIN_RECORD).hex() == "008200000342" + "01782a" + "026700d7" + "036400000000"
    pack = cbor2.loads(air_figures._senml([BIN_RECORD] * 2))
    assert [entry[0] for entry in pack] == ["3330/0/5700", "3435/0/2", "3303/0/5700", "26242/0/1"] * 2
    assert [round(entry[2], 4) for entry in pack[:4]] == [0.834, 42, 21.5, 0]
    assert [entry.get(6) for entry in pack] == [None] * 4 + [-900] * 4
    measured = list(air_figures.all_rows())
    assert [row.verdict for row in measured[:3]] == ["met"] * 3
    assert len(measured) == 3 + 5 * 5 + 1
