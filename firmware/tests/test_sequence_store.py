"""The counter `tx` never repeats under one key, whatever the power and the flash do (R04), and its edges (R19)."""

import random

import pytest
from fake_flash import FakeFlash, PowerCut
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from lamppost_node.sequence_store import FOLDER, Counter, SequenceStore
from lamppost_node.settings import wrap
from lamppost_protocol.errors import LocalError
from lamppost_protocol.limits import MAX_TX

COPIES = (FOLDER + "/tx.0", FOLDER + "/tx.1")


def provisioned(value: int = 0, epoch: int = 1) -> FakeFlash:
    flash = FakeFlash()
    for copy in COPIES:
        flash.files[copy] = wrap([epoch, value])
    return flash


def test_a_fresh_node_begins_above_the_slack_and_counts_on() -> None:
    """RFC 8613 B.1.1: stored bound plus slack, then one by one."""
    store = SequenceStore(provisioned(), 1)
    assert [store.take() for _ in range(130)] == list(range(64, 194))


def test_flash_is_written_once_in_64() -> None:
    """Wear: 82 k writes in ten years of a frame a minute, none of them on boot."""
    flash = provisioned()
    store = SequenceStore(flash, 1)
    assert flash.operations == 0
    for _ in range(640):
        store.take()
    assert flash.operations == 10 * 4


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("damage", ["missing", "empty", "flipped", "older", "foreign"])
def test_one_bad_copy_is_enough_of_none(copy: str, damage: str) -> None:
    """One copy lost, damaged, rolled back or of another epoch: the other one counts."""
    flash = provisioned(640)
    if damage == "missing":
        del flash.files[copy]
    else:
        flash.files[copy] = {
            "empty": b"",
            "flipped": bytes([flash.files[copy][0] ^ 1]) + flash.files[copy][1:],
            "older": wrap([1, 64]),
            "foreign": wrap([2, 9999]),
        }[damage]
    assert SequenceStore(flash, 1).take() == 704


def test_both_copies_lost_means_silence() -> None:
    """It never guesses: no number, a state for the hello, and an error for whoever asks."""
    store = SequenceStore(FakeFlash(), 1)
    assert store.is_lost
    assert store.reserved is None
    with pytest.raises(LocalError, match="re-keyed"):
        store.take()


def test_a_refused_reservation_uses_up_no_number() -> None:
    """Flash full at the reservation: no number is given out; later the next one is."""
    flash = provisioned()
    store = SequenceStore(flash, 1)
    flash.refuse_in = 0
    with pytest.raises(OSError, match="no space"):
        store.take()
    assert store.take() == 64


@pytest.mark.parametrize("stored", [23 - 64, 255 - 64, 65535 - 64, (1 << 24) - 65, MAX_TX - 70, MAX_TX - 64])
def test_edges_of_every_width_do_not_wrap(stored: int) -> None:
    """Across 23/24, 255/256, 65535/6, 2^24 and up to 2^32 - 1; then it is exhausted for good, also after a restart."""
    flash = provisioned(max(stored, 0))
    store = SequenceStore(flash, 1)
    last = 0
    for _ in range(130):
        try:
            tx = store.take()
        except LocalError:
            assert last == MAX_TX
            assert store.is_lost
            with pytest.raises(LocalError):
                SequenceStore(flash, 1).take()
            return
        assert last < tx <= MAX_TX
        last = tx


def test_a_counter_of_another_name_is_kept_apart() -> None:
    """The order counter and `tx` share the form, not the files."""
    flash = provisioned(5)
    counter = Counter(flash, "order", 1)
    assert counter.read() is None
    counter.write(7)
    assert counter.read() == 7
    assert Counter(flash, "tx", 1).read() == 5
    assert Counter(flash, "order", 2).read() is None


class SequenceMachine(RuleBasedStateMachine):
    """Takes, reboots, cuts in the reservation, brown-out loops, one copy lost at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.flash = provisioned()
        self.store = SequenceStore(self.flash, 1)
        self.used: set[int] = set()

    @rule(count=st.integers(1, 100))
    def take(self, count: int) -> None:
        for _ in range(count):
            try:
                tx = self.store.take()
            except PowerCut:
                self.reboot()
                return
            except OSError:
                continue
            assert tx not in self.used
            self.used.add(tx)

    @rule()
    def reboot(self) -> None:
        self.flash.cut_in = self.flash.refuse_in = None
        self.store = SequenceStore(self.flash, 1)

    @rule(count=st.integers(1, 5))
    def brown_out_loop(self, count: int) -> None:
        for _ in range(count):
            self.reboot()
            self.flash.cut_in = 1
            try:
                self.used.add(self.store.take())
            except PowerCut:
                pass
        self.reboot()

    @rule(operations=st.integers(0, 6), keep_permille=st.sampled_from([0, 500, 999, 1000]))
    def cut_soon(self, operations: int, keep_permille: int) -> None:
        self.flash.cut_in, self.flash.keep_permille = operations, keep_permille

    @rule(operations=st.integers(0, 4))
    def refuse_soon(self, operations: int) -> None:
        self.flash.refuse_in = operations

    @rule(copy=st.sampled_from(COPIES))
    def lose_a_copy(self, copy: str) -> None:
        """Bit rot strikes one copy; the next reservation writes both again."""
        other = COPIES[1 - COPIES.index(copy)]
        if Counter(self.flash, "tx", 1).damaged == 0 and self.flash.files.get(other):
            lost = self.flash.files.pop(copy, None)
            kept = Counter(self.flash, "tx", 1).read()
            if kept is None and lost is not None:
                self.flash.files[copy] = lost


SequenceMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestSequenceMachine = SequenceMachine.TestCase


def test_a_million_steps_without_a_repeat() -> None:
    """Frames, restarts, cuts in the reservation half written or not, refusals, brown-out loops, one copy lost: no number twice (R04)."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    flash = provisioned()
    store, last, steps, events = SequenceStore(flash, 1), 0, 0, 0
    while steps < 1_000_000:
        if store.reserved is not None and last > MAX_TX - 10_000:
            flash = provisioned()  # re-keyed
            store, last = SequenceStore(flash, 1), 0
        event = rng.random()
        if event < 0.02:
            flash.cut_in, flash.keep_permille = rng.randrange(4), rng.choice([0, 500, 999, 1000])
        elif event < 0.03:
            flash.refuse_in = rng.randrange(4)
        elif event < 0.04 and Counter(flash, "tx", 1).read() is not None:
            lost = rng.choice(COPIES)
            before = Counter(flash, "tx", 1).read()
            kept = flash.files.pop(lost, None)
            if Counter(flash, "tx", 1).read() != before and kept is not None:
                flash.files[lost] = kept  # the copy that counts is lost only together with a good one: that is silence, tested above
        for _ in range(rng.randrange(1, 40)):
            steps += 1
            try:
                tx = store.take()
            except OSError:
                continue
            except PowerCut:
                events += 1
                flash.cut_in = flash.refuse_in = None
                store = SequenceStore(flash, 1)
                continue
            assert tx > last, (seed, steps)
            last = tx
        if event > 0.9:
            events += 1
            flash.cut_in = flash.refuse_in = None
            store = SequenceStore(flash, 1)
    assert events > 1000
