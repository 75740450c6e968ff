"""A configuration on trial, its watcher alone: what it waits for, how it ends, what it says, and that a cut anywhere says it again."""

import asyncio

import pytest
from fake_buses import run_virtual
from fake_flash import FakeFlash, PowerCut
from lamppost_node import config, node_orders, trial
from lamppost_protocol import cbor, orders, releases
from node_parts import EPOCH, Core, wrap

FORMER, NEW = (cbor.encode({"fixtures": [{"kind": "lamp"}], "report_s": period_s}) for period_s in (60, 70))
VERIFIED, FAILED = (9, orders.VERIFIED, 0), (9, orders.REVERTED, releases.TRIAL_FAILED)
SUPERSEDED = (9, orders.REVERTED, orders.SUPERSEDED)


def flash_with_trial(starts: int) -> FakeFlash:
    flash = FakeFlash()
    for copy in ("0", "1"):
        flash.files["counters/tx." + copy] = wrap([EPOCH, 0])
    config.store(flash, FORMER)
    config.begin_trial(flash, 9, NEW)
    found = config.trial_of(flash)
    assert found is not None
    config.keep_trial(flash, found, starts)
    return flash


async def watched(core: Core, source: str, is_proven: bool = True, for_s: float = 100_000) -> None:
    """Run the watcher to its end, at most so long."""
    await asyncio.wait_for(trial.run(core.node, core.flash, source, lambda: is_proven, lambda: core.restarts.append(True)), for_s)


def test_proven_it_becomes_the_nodes_own() -> None:
    """File, fallback, word, and nothing left of the trial."""

    async def story() -> None:
        core = Core(flash_with_trial(1))
        await watched(core, "trial")
        assert core.told() == [VERIFIED]
        assert core.flash.files["config.cbor"][4:] == core.flash.files["config.good"][4:] == NEW
        assert "config.trial" not in core.flash.files
        assert core.restarts == []

    run_virtual(story())


@pytest.mark.parametrize(("lora", "limit_s"), [(None, 1_800), ({"region": "EU868"}, 14_400)])
def test_not_proven_it_asks_for_the_start_that_ends_it(lora: dict | None, limit_s: int) -> None:
    """After half an hour on a line, four hours on the air; nothing is told before what ran before runs again."""

    async def story() -> None:
        core = Core(flash_with_trial(1))
        core.node.config = {**core.node.config, "lora": lora}
        with pytest.raises(asyncio.TimeoutError):
            await watched(core, "trial", False, limit_s - 1)
        assert core.restarts == []
        await watched(core, "trial", False, 10)
        assert (core.restarts, core.told()) == ([True], [])
        assert config.load(core.flash, False, is_start=True).source == "file"
        await watched(core, "file")
        assert core.told() == [FAILED]
        assert "config.trial" not in core.flash.files

    run_virtual(story())


@pytest.mark.parametrize(("starts", "told", "is_left"), [(0, [], True), (1, [FAILED], False), (config.PROVEN, [VERIFIED], False)])
def test_safe_mode_ends_what_was_tried_and_leaves_what_was_not(starts: int, told: list, is_left: bool) -> None:
    """The way out of safe mode is a configuration, too: it is tried once safe mode is over."""

    async def story() -> None:
        core = Core(flash_with_trial(starts), is_safe_mode=True)
        await watched(core, "good")
        assert core.told() == told
        assert ("config.trial" in core.flash.files) == is_left

    run_virtual(story())


def test_what_a_newer_order_brought_is_not_proven_by_the_one_that_runs() -> None:
    """In the seconds until the start that will try it: whatever the watcher finds, it is another's."""

    async def story() -> None:
        for is_proven in (True, False):
            core = Core(flash_with_trial(1))
            config.begin_trial(core.flash, 10, cbor.encode({"fixtures": []}))
            await watched(core, "trial", is_proven)
            assert core.told() == []
            found = config.trial_of(core.flash)
            assert found is not None
            assert found[:2] == [10, 0]
            assert config.load(core.flash, False, is_start=True).source == "trial"

    run_virtual(story())


def test_what_a_technician_wrote_stays_and_a_damaged_trial_goes() -> None:
    """Also where the trial had proved itself already."""

    async def story() -> None:
        core = Core(flash_with_trial(config.PROVEN))
        by_hand = cbor.encode({"fixtures": []})
        config.store(core.flash, by_hand)
        await watched(core, "file")
        assert core.told() == [SUPERSEDED]
        assert core.flash.files["config.cbor"][4:] == by_hand
        core.flash.files["config.trial"] = b"rubbish"
        await watched(core, "file")
        assert core.told() == [SUPERSEDED]
        assert "config.trial" not in core.flash.files

    run_virtual(story())


def test_a_technicians_word_at_the_line_counts_at_once_and_ends_a_trial() -> None:
    """Even where he brings back the very one that it was to replace."""

    async def story() -> None:
        core = Core(flash_with_trial(1))
        assert node_orders.configure(FORMER, core.node, core.flash) == orders.NO_REASON
        assert core.told() == [SUPERSEDED]
        assert config.load(core.flash, False, is_start=True).source == "file"
        assert "config.trial" not in core.flash.files

    run_virtual(story())


@pytest.mark.parametrize(("starts", "source", "last"), [(1, "trial", VERIFIED), (config.TRIAL_STARTS, "file", FAILED)])
def test_a_cut_anywhere_in_its_end_says_the_same_once_more(starts: int, source: str, last: tuple) -> None:
    """Not done or half done, at every operation: the next start runs one of the two, whole, and tells the same end at last."""

    async def story(cut_in: int, keep_permille: int) -> bool:
        flash = flash_with_trial(starts)
        core = Core(flash)
        flash.cut_in, flash.keep_permille = cut_in, keep_permille
        try:
            await watched(core, source)
        except PowerCut:
            pass
        was_cut = flash.cut_in is None
        flash.cut_in = None
        if "config.trial" in flash.files:
            found = config.load(flash, False, is_start=True)
            assert (found.source, found.values["report_s"]) in {("trial", 70), ("file", 60), ("file", 70)}
            await watched(Core(flash), found.source)
        told = Core(flash).told()
        assert set(told) == {last}
        assert flash.files["config.cbor"][4:] == (NEW if last == VERIFIED else FORMER)
        assert "config.trial" not in flash.files
        return was_cut

    for keep_permille in (0, 500):
        cut_in = 0
        while run_virtual(story(cut_in, keep_permille)):
            cut_in += 1
        assert cut_in >= (6 if last == VERIFIED else 3)
