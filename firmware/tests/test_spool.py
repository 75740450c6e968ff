"""The spool against a plain model: power cuts and refusals at any flash operation, damaged octets, little room."""

import random

import pytest
from fake_flash import FakeFlash, PowerCut
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from lamppost_node import stored
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_protocol import kinds

SEGMENT = 256
CAPACITY = 6 * SEGMENT
GAP_KIND = kinds.kind_of(kinds.GAP)


def opened(flash: FakeFlash, epoch: int = 1, lowest: int = 1, segment: int = SEGMENT, segments: int = 6) -> Spool:
    spool = Spool(flash, Settings(flash), epoch, segments * segment, bytearray(segment))
    spool.open(lowest)
    return spool


def put(spool: Spool, value: int, flags: int = 0) -> int:
    return spool.append(1, 1000 + value, value, 3, flags, kinds.LAMP, 0, [value])


def everything(spool: Spool) -> dict[int, stored.Stored]:
    found, n = {}, 1
    while (record := spool.read_from(n)) is not None:
        found[record.n] = record
        n = record.n + 1
    return found


def declared(records: dict[int, stored.Stored]) -> set[int]:
    lost: set[int] = set()
    for record in records.values():
        if record.kind == GAP_KIND:
            lost.update(range(record.values[0], record.values[1] + 1))
    return lost


def test_numbers_are_contiguous_and_survive_a_restart() -> None:
    """Records come back with their numbers and content after a restart, and the next number follows."""
    flash = FakeFlash()
    spool = opened(flash)
    assert [put(spool, value) for value in range(10)] == list(range(1, 11))
    again = opened(flash)
    assert [record.values for record in everything(again).values()] == [[value] for value in range(10)]
    assert put(again, 10) == 11


def test_an_acknowledged_record_stays_until_its_space_is_needed() -> None:
    """A signed order may ask for any range again while the ring still holds it."""
    spool = opened(FakeFlash())
    for value in range(6):
        put(spool, value)
    spool.acknowledge(6)
    assert spool.owed() == 0
    assert len(everything(spool)) == 6


def test_acknowledged_history_is_dropped_without_a_gap() -> None:
    """What the gateway has may go silently; nothing is declared lost."""
    spool = opened(FakeFlash())
    for value in range(500):
        spool.acknowledge(put(spool, value))
    records = everything(spool)
    assert spool.dropped == 0
    assert not declared(records)
    assert max(records) == 500
    assert min(records) > 400 - CAPACITY
    assert spool.used_bytes() <= CAPACITY


def test_thinning_takes_the_oldest_first_and_alarms_outlive_it() -> None:
    """Nothing acknowledged for long: half of the old history goes first, alarms and order states stay, every loss is declared."""
    spool = opened(FakeFlash(), segment=1024, segments=12)
    alarms = set()
    for value in range(1500):
        n = put(spool, value, stored.ALARM | stored.KEEP if value % 50 == 0 else 0)
        if value % 50 == 0:
            alarms.add(n)
    records = everything(spool)
    lost = declared(records)
    assert alarms <= set(records)
    assert set(range(1, spool.next_n)) - set(records) <= lost
    newest = range(spool.next_n - 8, spool.next_n)
    assert set(newest) <= set(records)
    gap = next(record for record in records.values() if record.kind == GAP_KIND)
    assert gap.values[3] == kinds.GAP_THINNED
    assert 1000 <= gap.values[4] <= gap.values[5] < 2500
    assert spool.used_bytes() <= 13 * 1024


def test_the_ring_is_bounded_even_with_alarms_only() -> None:
    """Even what outlives history is dropped at last, declared, rather than filling the flash."""
    spool = opened(FakeFlash())
    for value in range(2000):
        put(spool, value, stored.KEEP)
        assert spool.used_bytes() <= CAPACITY + SEGMENT
    records = everything(spool)
    assert spool.dropped > 1500
    assert set(range(1, spool.next_n)) - set(records) <= declared(records)


def test_a_record_cut_short_gives_its_number_back() -> None:
    """A prefix on flash was never handed out: its number is used again, and nothing is declared lost."""
    flash = FakeFlash()
    spool = opened(flash)
    put(spool, 1)
    flash.cut_in, flash.keep_permille = 0, 700
    with pytest.raises(PowerCut):
        put(spool, 2)
    again = opened(flash)
    assert put(again, 3) == 2
    assert [record.values for record in everything(again).values()] == [[1], [3]]
    assert again.dropped == 0


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_octets_cost_records_but_never_a_number(data: st.DataObject) -> None:
    """Any octet of any segment flipped: no number is given out twice, and what is missing is declared."""
    flash = FakeFlash()
    spool = opened(flash)
    count = data.draw(st.integers(1, 30))
    before = {put(spool, value): value for value in range(count)}
    name = data.draw(st.sampled_from([n for n in sorted(flash.files) if n.startswith(("spool/", "head/"))]))
    octets = bytearray(flash.files[name])
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    flash.files[name] = bytes(octets)
    again = opened(flash)
    n = put(again, 999)
    assert n > count
    records = everything(again)
    for number, value in before.items():
        if number in records:
            assert records[number].values == [value]
        else:
            assert number in declared(records)
    assert again.read_from(n).values == [999]


def test_a_lost_newest_segment_does_not_give_its_numbers_out_again() -> None:
    """The cursor file remembers where the newest segment began; every number it can have held is skipped and declared."""
    flash = FakeFlash()
    spool = opened(flash)
    while len([n for n in flash.files if n.startswith("spool/")]) < 3:
        put(spool, 1)
    for _ in range(4):
        last = put(spool, 2)
    newest = max(n for n in flash.files if n.startswith("spool/"))
    del flash.files[newest]
    again = opened(flash)
    assert put(again, 3) > last
    records = everything(again)
    assert set(range(1, again.next_n)) - set(records) <= declared(records)


def test_a_lost_spool_with_frames_signed_starts_above_every_possible_number() -> None:
    """No spool and no cursor, but signatures were made: the first number is above 64 records a frame."""
    spool = opened(FakeFlash(), lowest=128 * 64 + 1)
    assert put(spool, 1) == 128 * 64 + 2
    assert spool.read_from(1).values[:4] == [1, 128 * 64, 128 * 64, kinds.GAP_FLASH_CORRUPT]


def test_a_later_epochs_records_make_room() -> None:
    """A flash whose identity went back: the later epoch's key is gone with it, and numbers of this one are not mixed with its."""
    flash = FakeFlash()
    put(opened(flash, epoch=2), 1)
    spool = opened(flash)
    assert put(spool, 5) == 1
    assert not [name for name in flash.files if "00000002." in name]


@pytest.mark.parametrize("keep_permille", [0, 400, 1000])
def test_a_cut_at_every_operation_keeps_every_promise(keep_permille: int) -> None:
    """The same script cut at operation k, for every k: old or new, never a number with two contents, never a silent loss."""
    k = 0
    while True:
        flash = FakeFlash()
        flash.cut_in, flash.keep_permille = k, keep_permille
        handed: dict[int, int] = {}
        value, is_done = 0, False
        try:
            spool = opened(flash)
            while value < 110:
                value += 1
                handed[put(spool, value, stored.KEEP if value % 9 == 0 else 0)] = value
                if value % 7 == 0:
                    spool.acknowledge(value // 6)
                    spool.save_cursor()
            is_done = True
        except PowerCut:
            pass
        flash.cut_in = None
        again = opened(flash)
        cursor = again.cursor
        n = put(again, 500)
        records = everything(again)
        assert n > max(handed, default=0)
        for number, content in handed.items():
            if number in records:
                assert records[number].values == [content], k
            else:
                assert number <= cursor or number in declared(records), (k, number)
        assert again.used_bytes() <= CAPACITY + 2 * SEGMENT
        if is_done:
            break
        k += 1
    assert k > 100


class SpoolMachine(RuleBasedStateMachine):
    """Appends, acknowledgements, refusals, cuts and restarts in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.flash = FakeFlash()
        self.spool = opened(self.flash)
        self.seen: dict[int, list] = {}
        self.handed = 0
        self.value = 0
        self.acknowledged = 0  # what a gateway has; the spool's own cursor may go back in a power cut, which costs a resend

    def _restart(self) -> None:
        self.flash.refuse_in = None
        while True:
            try:
                self.spool = opened(self.flash)
                return
            except PowerCut:
                continue

    @rule(flags=st.sampled_from([0, 0, 0, stored.KEEP]), count=st.integers(1, 12))
    def append(self, flags: int, count: int) -> None:
        for _ in range(count):
            self.value += 1
            try:
                n = put(self.spool, self.value, flags)
            except PowerCut:
                self._restart()
                return
            except OSError:
                continue
            assert n > self.handed
            assert n not in self.seen
            self.handed = n
            self.seen[n] = [self.value]

    @rule(back=st.integers(0, 20))
    def acknowledge(self, back: int) -> None:
        self.spool.acknowledge(self.spool.next_n - 1 - back)
        self.acknowledged = max(self.acknowledged, self.spool.cursor)

    @rule()
    def save_cursor(self) -> None:
        try:
            self.spool.save_cursor()
        except PowerCut:
            self._restart()

    @rule()
    def restart(self) -> None:
        self._restart()

    @rule(operations=st.integers(0, 12), keep_permille=st.sampled_from([0, 300, 999, 1000]))
    @precondition(lambda self: self.flash.cut_in is None)
    def cut_soon(self, operations: int, keep_permille: int) -> None:
        self.flash.cut_in, self.flash.keep_permille = operations, keep_permille

    @rule(operations=st.integers(0, 6))
    def refuse_soon(self, operations: int) -> None:
        self.flash.refuse_in = operations

    @invariant()
    def nothing_is_lost_silently_and_nothing_has_two_contents(self) -> None:
        cut, refuse = self.flash.cut_in, self.flash.refuse_in
        self.flash.cut_in = self.flash.refuse_in = None
        records = everything(self.spool)
        self.flash.cut_in, self.flash.refuse_in = cut, refuse
        lost = declared(records)
        for n, record in records.items():
            assert self.seen.setdefault(n, record.values) == record.values
            self.handed = max(self.handed, n)
        for n in self.seen:
            assert n in records or n in lost or n <= self.acknowledged
        assert self.spool.used_bytes() <= CAPACITY + 2 * SEGMENT


SpoolMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSpoolMachine = SpoolMachine.TestCase


def test_a_long_outage_with_restarts_keeps_the_newest_records() -> None:
    """Thousands of records, nothing acknowledged, the power gone now and then: the ring stays bounded and its newest are whole."""
    flash, rng = FakeFlash(), random.Random(7)
    spool = opened(flash)
    last: list[int] = []
    for value in range(3000):
        if rng.random() < 0.01:
            flash.cut_in = rng.randrange(20)
        try:
            last.append(put(spool, value))
        except PowerCut:
            spool = opened(flash)
    flash.cut_in = None
    assert set(last[-12:]) <= set(everything(spool))
    assert len(flash.files) < 40
