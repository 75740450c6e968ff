"""The node's clock: set by its own nonce only, forward only, ever less certain (R20)."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from fake_flash import FakeFlash
from fake_ticks import PERIOD, FakeTicks
from hypothesis import given
from hypothesis import strategies as st
from lamppost_node.clock import FLOOR_PERIOD_MS, Clock
from lamppost_node.local_time import days_from_civil, utc_offset_s, year_of
from lamppost_node.settings import Settings

NONCE, OTHER = b"12345678", b"abcdefgh"
UNIX = 1_790_000_000


def made(flash: FakeFlash | None = None) -> tuple[Clock, FakeTicks]:
    ticks = FakeTicks()
    return Clock(ticks, Settings(flash or FakeFlash()), 100), ticks


def set_clock(clock: Clock, unix: int = UNIX) -> None:
    clock.make_nonce(NONCE)
    assert clock.take_beacon(unix, NONCE)


def test_unknown_until_its_own_nonce_comes_back() -> None:
    """No broadcast, no foreign and no stale nonce sets a clock that was never set."""
    clock, ticks = made()
    clock.make_nonce(NONCE)
    assert not clock.take_beacon(UNIX, None)
    assert not clock.take_beacon(UNIX, OTHER)
    ticks.advance(60_001)
    assert not clock.take_beacon(UNIX, NONCE)
    assert clock.now() is None
    assert clock.uncertainty_s() is None
    assert clock.refused_beacons == 3


def test_half_the_round_trip_is_added_and_doubted() -> None:
    """A beacon that took 4 s both ways was true about 2 s ago, give or take 2 s and its whole seconds."""
    clock, ticks = made()
    clock.make_nonce(NONCE)
    ticks.advance(4000)
    assert clock.take_beacon(UNIX, NONCE)
    assert clock.now() == UNIX + 2
    assert clock.uncertainty_s() == 3


def test_a_nonce_is_good_once() -> None:
    """The same beacon again, with its nonce, is a replay and moves nothing."""
    clock, ticks = made()
    set_clock(clock)
    ticks.advance(1000)
    assert not clock.take_beacon(UNIX + 50, NONCE)
    assert clock.now() == UNIX + 1


def test_held_time_grows_more_doubtful() -> None:
    """100 ppm is 8.64 s a day."""
    clock, ticks = made()
    set_clock(clock)
    for _ in range(24):
        ticks.advance(3_600_000)
        clock.monotonic_ms()
    assert clock.now() == UNIX + 86400
    assert clock.uncertainty_s() == 10


def test_broadcasts_only_move_forward() -> None:
    """A held-back broadcast cannot turn the clock back; one from ahead moves it and leaves the doubt."""
    clock, ticks = made()
    set_clock(clock)
    ticks.advance(100_000)
    assert not clock.take_beacon(UNIX + 50, None)
    assert clock.now() == UNIX + 100
    assert clock.take_beacon(UNIX + 130, None)
    assert clock.now() == UNIX + 130
    assert clock.uncertainty_s() >= 30


def test_a_second_answer_from_behind_does_not_turn_the_clock_back() -> None:
    """City time stepped back: the clock waits, and says by how much it may be wrong."""
    clock, _ = made()
    set_clock(clock)
    set_clock(clock, UNIX - 40)
    assert clock.now() == UNIX
    assert clock.uncertainty_s() >= 40


def test_the_floor_survives_power_and_is_written_hourly_at_most() -> None:
    """A beacon from before the last known time is not believed after power-up, nonce or not."""
    flash = FakeFlash()
    clock, ticks = made(flash)
    set_clock(clock)
    writes = flash.operations
    for _ in range(3 * 60):
        ticks.advance(60_000)
        clock.keep_floor()
    assert flash.operations - writes <= 3 * 2
    again, _ = made(flash)
    assert again.now() is None
    again.make_nonce(NONCE)
    assert not again.take_beacon(UNIX + 3 * 3600 - FLOOR_PERIOD_MS // 1000 - 11, NONCE)
    set_clock(again, UNIX + 3 * 3600 + 5)


def test_a_corrupt_floor_is_no_floor() -> None:
    """Damage to the floor costs its protection, never the clock."""
    flash = FakeFlash()
    flash.files["settings/floor"] = b"\x00" * 9
    clock, _ = made(flash)
    set_clock(clock)


@pytest.mark.parametrize("unix", [0x7FFFFFFF - 1, 0xFFFFFFFF - 1, 946684800, 4_102_444_800])
def test_the_years_2038_and_2106_are_ordinary(unix: int) -> None:
    """Nothing depends on 31 or 32 bits, nor on a runtime's epoch."""
    clock, ticks = made()
    set_clock(clock, unix)
    ticks.advance(5000)
    assert clock.now() == unix + 5


@given(st.lists(st.integers(0, PERIOD // 2 - 1), max_size=30))
def test_monotonic_never_wraps(steps: list[int]) -> None:
    """The ticks wrap every 12 days; the sum of what passed does not."""
    clock, ticks = made()
    for step in steps:
        ticks.advance(step)
        clock.monotonic_ms()
    assert clock.monotonic_ms() == sum(steps)


@given(st.dates(min_value=datetime(1970, 1, 1).date(), max_value=datetime(2400, 1, 1).date()))
def test_days_agree_with_the_standard_library(date: datetime) -> None:
    """Days from the civil date, and back to the year, as datetime has them."""
    days = days_from_civil(date.year, date.month, date.day)
    assert days == (datetime(date.year, date.month, date.day) - datetime(1970, 1, 1)).days
    assert year_of(days * 86400) == date.year


@pytest.mark.parametrize(
    ("zone", "rule"),
    [("Europe/Berlin", "eu"), ("Europe/Lisbon", "eu"), ("America/New_York", "us"), ("America/Los_Angeles", "us"), ("UTC", "none")],
)
def test_daylight_saving_agrees_with_the_zone_database(zone: str, rule: str) -> None:
    """Every hour around every change from 2024 to 2037, and one time in each month; a clock, which remembers, says the same."""
    place = ZoneInfo(zone)
    base_s = int(place.utcoffset(datetime(2025, 1, 15)).total_seconds())
    clock, _ = made()
    clock.base_offset_s, clock.dst = base_s, rule
    hours = []
    for year in range(2024, 2038):
        for month, day in ((3, 1), (3, 20), (10, 20), (11, 1)):
            start = int(datetime(year, month, day, tzinfo=UTC).timestamp())
            hours.extend(range(start, start + 15 * 86400, 3600))
        hours.extend(int(datetime(year, month, 15, 12, tzinfo=UTC).timestamp()) for month in range(1, 13))
    for unix in hours:
        for second in (unix - 1, unix):
            want = int(datetime.fromtimestamp(second, place).utcoffset().total_seconds())
            assert utc_offset_s(second, base_s, rule) == want, datetime.fromtimestamp(second, place)
            assert clock.utc_offset_s(second) == want, datetime.fromtimestamp(second, place)
