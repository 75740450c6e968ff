"""The airtime ledger against the law itself: no window of its length, at any instant, holds more than the allowance."""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_protocol.errors import LocalError
from lamppost_protocol.ledger import HOUR_MS, START_SLACK_MS, Ledger

SEED = int(os.environ.get("LAMPPOST_SEED", random.randrange(1 << 32)))


def most_in_a_window(sent: list[tuple[int, int]], window_us: int) -> int:
    """Return the most airtime any window holds; `sent`: (start_us, length_us), in order, none overlapping.

    What a window holds changes its slope only where an edge of it passes an edge of a transmission, so the most is found at one of those.
    """
    edges = [start for start, _ in sent] + [start + length - window_us for start, length in sent]
    return max((sum(max(0, min(s + n, e + window_us) - max(s, e)) for s, n in sent) for e in edges), default=0)


def test_the_judge_sees_a_seam() -> None:
    """An allowance spent at the end of an hour and again at the start of the next is twice the allowance in one window."""
    hour_us = HOUR_MS * 1000
    assert most_in_a_window([(hour_us - 10, 10), (hour_us, 10)], hour_us) == 20
    assert most_in_a_window([(0, 10), (hour_us, 10)], hour_us) == 10
    assert most_in_a_window([(0, 10), (hour_us + 10, 10)], hour_us) == 10
    assert most_in_a_window([(0, 10), (hour_us + 5, 10)], hour_us) == 10


class Life:
    """A radio with a ledger: its true time, its clock, which may be wrong, its store, which keeps what was written."""

    def __init__(self, allowance_us: int, window_ms: int, reserve_us: int, slots: int) -> None:
        self.arguments = (allowance_us, window_ms, reserve_us)
        self.slots = slots
        self.true_ms = 0
        self.clock_ms = 0
        self.kept = [0]
        self.sent: list[tuple[int, int]] = []
        self.ordinary_us = 0
        self.restart()

    def restart(self) -> None:
        self.ledger = Ledger(*self.arguments, kept_us=self.kept[-1], keep=self.kept.append, slots=self.slots)
        self.ledger.wait_ms(0, self.clock_ms)  # its first reading of the clock, against which others are wrong

    def pass_ms(self, step_ms: int) -> None:
        self.true_ms += step_ms
        self.clock_ms += step_ms

    def send(self, airtime_us: int, is_urgent: bool, late_ms: int) -> bool:
        """Send if it may be; the radio starts up to `late_ms` after it was granted."""
        try:
            self.ledger.spend(airtime_us, self.clock_ms, is_urgent)
        except LocalError as error:
            assert error.reason in ("overdrawn", "too_long")
            return False
        self.pass_ms(late_ms)
        self.sent.append((self.true_ms * 1000, airtime_us))
        self.pass_ms((airtime_us + 999) // 1000)
        return True

    def send_as_soon_as_it_may(self, airtime_us: int, is_urgent: bool, late_ms: int) -> None:
        """Wait as long as the ledger tells, to the millisecond, and send: whatever it releases too early shows."""
        if airtime_us <= self.arguments[0] - (0 if is_urgent else self.arguments[2]):
            while not self.send(airtime_us, is_urgent, late_ms):
                self.pass_ms(self.ledger.wait_ms(airtime_us, self.clock_ms, is_urgent))


AIRTIMES_MS = st.one_of(st.sampled_from((1200, 600, 400, 300)), st.integers(1, 1200))
LATE_MS = st.sampled_from((0, START_SLACK_MS))
STEPS = st.one_of(
    st.tuples(st.just("soon"), AIRTIMES_MS, st.booleans(), LATE_MS),
    st.tuples(st.just("send"), AIRTIMES_MS, st.booleans(), LATE_MS),
    st.tuples(st.just("pass"), st.integers(0, 4000)),
    st.tuples(st.just("back"), st.integers(1, 8000)),
    st.tuples(st.just("glitch"), st.integers(1, 20000)),
    st.tuples(st.just("restart"), st.integers(0, 50)),
)


@settings(deadline=None)
@given(st.lists(STEPS, min_size=2, max_size=40), st.integers(1, 12), st.integers(0, 4))
def test_no_window_is_overdrawn_at_any_instant(steps: list, slots: int, reserve_fifths: int) -> None:
    """Any schedule of sends, urgent or not, with a clock that jumps back or is read wrongly once, restarts, and radios that start late."""
    allowance_us, window_ms = 1200000, 10000
    life = Life(allowance_us, window_ms, allowance_us * reserve_fifths // 5, slots)
    for step in steps:
        if step[0] == "soon":
            life.send_as_soon_as_it_may(step[1] * 1000, step[2], step[3])
        elif step[0] == "send":
            life.send(step[1] * 1000, step[2], step[3])
        elif step[0] == "pass":
            life.pass_ms(step[1])
        elif step[0] == "back":
            life.clock_ms -= step[1]
        elif step[0] == "glitch":
            life.ledger.wait_ms(1000, life.clock_ms - step[1], True)
        else:
            life.true_ms += step[1]
            life.clock_ms = 0
            life.restart()
    assert most_in_a_window(life.sent, window_ms * 1000) <= allowance_us


@pytest.mark.parametrize("wrong_ms", [0, 1, 4_999_999, 2_000_000])
def test_one_wrong_reading_of_the_clock_changes_nothing(wrong_ms: int) -> None:
    """A reading too low, then right ones again: the wait is what it was."""
    ledger = Ledger(36000000, kept_us=0)
    ledger.spend(36000000, 5_000_000)
    wait_ms = ledger.wait_ms(1, 5_000_001)
    ledger.wait_ms(1, wrong_ms)
    assert ledger.wait_ms(1, 5_000_001) == wait_ms
    assert ledger.wait_ms(1, 5_000_000 + wait_ms) == 1


@pytest.mark.parametrize("slots", [*range(1, 13), 60])
def test_a_greedy_sender_from_every_offset(slots: int) -> None:
    """One that sends the moment it may, its radio late at first and prompt afterwards, whole allowances and parts of them."""
    window_ms = 10000
    for airtimes_ms in ((1200,), (600,), (700, 500), (1199, 1)):
        for offset_ms in range(0, window_ms, 97):
            life = Life(1200000, window_ms, 0, slots)
            life.pass_ms(offset_ms)
            for i in range(6):
                for airtime_ms in airtimes_ms:
                    life.send_as_soon_as_it_may(airtime_ms * 1000, False, START_SLACK_MS if i % 2 == 0 else 0)
            assert most_in_a_window(life.sent, window_ms * 1000) <= 1200000, (airtimes_ms, offset_ms)


@pytest.mark.parametrize(("allowance_us", "packet_us"), [(36000000, 390144), (3600000, 164864), (360000000, 9019392), (36000000, 36000)])
def test_little_of_the_allowance_is_wasted(allowance_us: int, packet_us: int) -> None:
    """One that sends whenever it may uses more than 96 % of what the law gives in twelve hours, a packet's length aside, and never more."""
    ledger = Ledger(allowance_us, kept_us=0)
    now_ms, sent = 0, []
    while now_ms < 12 * HOUR_MS:
        wait_ms = ledger.wait_ms(packet_us, now_ms)
        now_ms += wait_ms
        ledger.spend(packet_us, now_ms)
        sent.append((now_ms * 1000, packet_us))
        now_ms += (packet_us + 999) // 1000
    assert len(sent) * packet_us > (allowance_us - packet_us) * 12 * 96 // 100
    if len(sent) < 2000:
        assert most_in_a_window(sent, HOUR_MS * 1000) <= allowance_us


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 600)), max_size=30), st.integers(1, 1200), st.booleans())
def test_the_wait_is_exact(history: list, wanted: int, is_urgent: bool) -> None:
    """After the wait it told, it grants; one millisecond earlier it does not."""
    ledger = Ledger(1500000, 10000, 300000, 0, slots=10)
    now_ms = 0
    for step_ms, airtime_ms in history:
        now_ms += step_ms
        if ledger.wait_ms(airtime_ms * 1000, now_ms) == 0:
            ledger.spend(airtime_ms * 1000, now_ms)
    wait_ms = ledger.wait_ms(wanted * 1000, now_ms, is_urgent)
    if wait_ms:
        assert ledger.wait_ms(wanted * 1000, now_ms + wait_ms - 1, is_urgent) == 1
    ledger.spend(wanted * 1000, now_ms + wait_ms, is_urgent)


def test_an_alarm_is_sent_when_the_airtime_is_spent() -> None:
    """What is ordinary leaves the reserve alone, before and after a restart."""
    kept = [0]
    ledger = Ledger(36000000, reserve_us=7200000, kept_us=0, keep=kept.append)
    while ledger.wait_ms(390144, 0) == 0:
        ledger.spend(390144, 0)
    again = Ledger(36000000, reserve_us=7200000, kept_us=kept[-1], keep=kept.append)
    assert again.wait_ms(390144, 5) > 0
    for account in (ledger, again):
        count = 0
        while account.wait_ms(390144, 5, True) == 0:
            account.spend(390144, 5, True)
            count += 1
        assert count >= 7200000 // 390144


def test_without_an_account_it_starts_spent() -> None:
    ledger = Ledger(36000000, reserve_us=7200000)
    assert ledger.wait_ms(1, 1000, True) == HOUR_MS + HOUR_MS // 60
    ledger.spend(1, 1000 + HOUR_MS + HOUR_MS // 60, True)


def test_nothing_is_granted_that_the_store_does_not_hold() -> None:
    """A store that fails costs the transmission, not the account."""

    def fail(_kept_us: int) -> None:
        raise OSError(28)

    ledger = Ledger(36000000, kept_us=0, keep=fail)
    with pytest.raises(OSError, match="28"):
        ledger.spend(1000, 0)
    assert ledger.spent_us == 0


def test_flash_is_written_rarely() -> None:
    """A full hour of spending writes eight times; ten days at a tenth of the allowance, fewer than two in three hours."""
    kept = [0]
    ledger = Ledger(36000000, reserve_us=7200000, kept_us=0, keep=kept.append)
    while ledger.wait_ms(100000, 0) == 0:
        ledger.spend(100000, 0)
    assert len(kept) - 1 <= 8
    kept = [0]
    ledger = Ledger(36000000, reserve_us=7200000, kept_us=0, keep=kept.append)
    for i in range(240 * 10):
        ledger.spend(360000, i * HOUR_MS // 10)
    assert len(kept) - 1 <= 160


def test_seeded_days_with_restarts() -> None:
    """Ten days of a sub-band of 1 %, with restarts, a clock that jumps back, urgent and ordinary packets of all lengths."""
    print("seed", SEED)
    rng = random.Random(SEED)
    life = Life(36000000, HOUR_MS, 7200000, 60)
    while life.true_ms < 240 * HOUR_MS:
        choice = rng.randrange(100)
        if choice < 80:
            life.send(rng.choice((46336, 164864, 390144, 1560576, 9019392)), rng.random() < 0.1, rng.randrange(START_SLACK_MS))
        elif choice == 80:
            life.clock_ms -= rng.randrange(HOUR_MS)
        elif choice == 81:
            life.true_ms += rng.randrange(2000)
            life.clock_ms = rng.randrange(1000)
            life.restart()
        else:
            life.pass_ms(rng.randrange(200000))
    assert len(life.sent) > 200
    assert most_in_a_window(life.sent, HOUR_MS * 1000) <= 36000000
