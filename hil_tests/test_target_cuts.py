"""The node's store on a target whose power really goes, in the middle of flash operations (R03, R04): no record lost, no number twice.

The scripts and what must hold are those of test_power_cuts.py, which tries every operation on littlefs alone; here they run where the
firmware does: the target's own driver, start and mount. The whole sweep is the soak's: `python hil_tests/cuts/sweep.py --target NAME`.
"""

import dataclasses
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.flash_chip import HALF, MODES, NONE, WHOLE
from bench.targets.target import CUTS, Target
from cuts.outcome import Cut, Outcome, table
from cuts.promises import MOUNT, VALUE
from cuts.spoilt import spoilt_firmware
from cuts.sweep import SCRIPTS, SHORT, every
from cuts.target_sweep import Choose, TargetSweep, none
from street.node_device import Image, compile_for_device

from conftest import demand

pytestmark = pytest.mark.needs("console", "prepare", "power", "cuts")

SAMPLED_OF_LONG = 24
SAMPLED_FIRST = SAMPLED_SECOND = 3
"""Pairs of cuts: so many first ones of a short script, and after each so many second ones."""
SAMPLED_BESIDE_HALF = 6
"""Of a short script, not done and wholly done: the states around each half, of which the soak tries all."""


@pytest.fixture(scope="module")
def cuts(target: Target, target_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Outcome]]:
    """Runs a script's cuts and keeps the figures, which are printed together at the end."""
    demand(target, CUTS)
    outcomes: list[Outcome] = []
    with TargetSweep(target, target_image, tmp_path_factory.mktemp("cuts")) as sweep:

        def run(script: str, choose: Choose, second: Choose = none, pairs: str = "look") -> Outcome:
            outcomes.append(sweep.sweep(script, choose, second, pairs))
            assert outcomes[-1].is_kept(), outcomes[-1].report(pairs)
            return outcomes[-1]

        yield run
    print(f"\n{target.name}\n{table(outcomes)}")


def spoilt_image(target_image: Image, folder: Path) -> Image:
    """The firmware with a store that removes the old file before it renames the new one."""
    bytecode = compile_for_device(folder / "bytecode", [spoilt_firmware(folder) / "lamppost_node/flash.py"])["flash.mpy"]
    place = next(path for path in target_image.files if path.endswith("/lamppost_node/flash.mpy"))
    return dataclasses.replace(target_image, files={**target_image.files, place: bytecode})


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_cut_in_the_middle_of_flash_operations(cuts: Callable[..., Outcome], seed: int, script: str) -> None:
    """Half done at every operation of a short script, and a few not done or wholly done; a sample of all of these of a long one."""
    source = random.Random(seed)

    def choose(operations: int) -> list[Cut]:
        if script not in SHORT:
            return source.sample(every(operations, MODES), SAMPLED_OF_LONG)
        return every(operations, [HALF]) + source.sample(every(operations, [NONE, WHOLE]), SAMPLED_BESIDE_HALF)

    outcome = cuts(script, choose)
    assert outcome.operations > 15
    assert outcome.cuts == (outcome.operations + SAMPLED_BESIDE_HALF if script in SHORT else SAMPLED_OF_LONG)


@pytest.mark.parametrize("script", SHORT)
def test_a_second_cut_in_what_follows_the_first(cuts: Callable[..., Outcome], seed: int, script: str) -> None:
    """A sample of the pairs: power comes back, fails again in the middle of the recovery or of what the node does next."""
    source = random.Random(seed)
    outcome = cuts(
        script,
        lambda operations: source.sample(every(operations, [HALF]), SAMPLED_FIRST),
        lambda operations: source.sample(every(operations, MODES), SAMPLED_SECOND),
    )
    assert outcome.pairs == SAMPLED_FIRST * SAMPLED_SECOND


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("script", SHORT)
def test_every_pair_of_cuts_in_a_short_script_and_its_recovery(cuts: Callable[..., Outcome], script: str) -> None:
    """Half done at every operation, and again at every operation of the power-up after it."""
    outcome = cuts(script, lambda operations: every(operations, [HALF]), lambda operations: every(operations, [HALF]), "recovery")
    assert outcome.cuts == outcome.operations
    assert outcome.pairs > outcome.cuts


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_operation_not_done_half_done_and_done(cuts: Callable[..., Outcome], script: str) -> None:
    """Three modes at every operation."""
    outcome = cuts(script, lambda operations: every(operations, MODES))
    assert outcome.cuts == 3 * outcome.operations


def test_a_flash_that_does_not_mount_is_found(target: Target, target_image: Image, tmp_path: Path) -> None:
    """It would be counted, not taken for a blank one."""
    with TargetSweep(target, target_image, tmp_path) as sweep:
        assert MOUNT in [kind for kind, _ in sweep.look(b"damage" * 1500).faults]


def test_a_node_that_removes_before_it_renames_is_found(target: Target, target_image: Image, tmp_path: Path) -> None:
    """Neither the old value nor the new one after some cut, and the report has the command that shows that case again."""
    with TargetSweep(target, spoilt_image(target_image, tmp_path), tmp_path) as sweep:
        outcome = sweep.sweep("clock", lambda operations: every(operations, [HALF]))
        assert outcome.faults[VALUE] > 0
        failure = next(found for found in outcome.failures if found["first"])
        operation, mode = failure["first"]
        assert f"--target {target.name} --script clock --cut {operation} --mode {mode}" in outcome.report(None)
        again = sweep.one("clock", (operation, mode))
        assert failure["words"] in [found["words"] for found in again.failures]


def test_a_store_that_fails_only_at_the_second_cut_is_found(target: Target, target_image: Image, tmp_path: Path) -> None:
    """The same spoilt node, cut first where that does no harm: the pair finds it, and the report has the command for it."""
    with TargetSweep(target, spoilt_image(target_image, tmp_path), tmp_path) as sweep:
        outcome = sweep.sweep("boots", lambda _: [(0, NONE)], lambda operations: every(operations, [HALF]), "recovery")
        assert [found for found in outcome.failures if found["second"] is None] == []
        failure = next(found for found in outcome.failures if found["second"])
        operation, mode = failure["second"]
        assert f"--cut 0 --mode none --second {operation} --second-mode {mode} --pairs recovery" in outcome.report("recovery")
        again = sweep.one("boots", failure["first"], failure["second"], "recovery")
        assert failure["words"] in [found["words"] for found in again.failures]
