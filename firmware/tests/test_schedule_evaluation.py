"""What level a schedule asks for: anchors, weeks, calendars, DST, polar places; and that nothing changes before it is said to."""

import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from astral import Observer, sun
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_node.lighting.schedule import DEFAULT, EXCEPTION, WEEKLY, NightSun, Verdict, evaluate
from test_schedule_form import TYPICAL, schedules

ULM = (48_400_000, 9_990_000)
TROMSO = (69_650_000, 18_960_000)
BERLIN_TIME = ZoneInfo("Europe/Berlin")
CLOCK, SUNSET, SUNRISE = 0, 1, 2
NIGHT = [1, 77, [[127, [SUNSET, 0, 100], [CLOCK, 22 * 60, 60], [CLOCK, 5 * 60, 90], [SUNRISE, 0, 0]]], []]


def unix(text: str, zone: datetime.tzinfo = BERLIN_TIME) -> int:
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())


def offset_s(at: int, zone: datetime.tzinfo = BERLIN_TIME) -> int:
    offset = datetime.datetime.fromtimestamp(at, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def verdict(schedule: Any, at: int, place: tuple[int, int] = ULM, zone: datetime.tzinfo = BERLIN_TIME) -> Verdict:
    return evaluate(schedule, at, offset_s(at, zone), NightSun(*place))


def level(schedule: Any, text: str, place: tuple[int, int] = ULM) -> int:
    return verdict(schedule, unix(text), place).level_percent  # type: ignore[no-any-return]


def test_a_winter_night() -> None:
    """Ulm, 15 January 2027: sunset 16:53, sunrise 08:07."""
    assert [
        level(NIGHT, text)
        for text in (
            "2027-01-15 12:00",
            "2027-01-15 16:45",
            "2027-01-15 17:00",
            "2027-01-15 21:59",
            "2027-01-15 22:00",
            "2027-01-16 04:59",
            "2027-01-16 05:00",
            "2027-01-16 08:00",
            "2027-01-16 08:15",
            "2027-01-16 11:59",
        )
    ] == [0, 0, 100, 100, 60, 60, 90, 90, 0, 0]


def test_clock_steps_wait_for_sunset_and_end_with_sunrise() -> None:
    """65 degrees north in June: sunset long after 22:00, sunrise before 05:00; no light by day, none before sunset."""
    umea = (64_500_000, 20_000_000)
    zone = ZoneInfo("Europe/Stockholm")
    observer = Observer(64.5, 20.0, 0)
    date = datetime.date(2027, 6, 10)
    setting = sun.time_of_transit(observer, date, 90.833, sun.SunDirection.SETTING, False)
    rising = sun.time_of_transit(observer, date + datetime.timedelta(1), 90.833, sun.SunDirection.RISING, False)
    if rising - setting > datetime.timedelta(hours=12):
        rising -= datetime.timedelta(1)
    sunset, sunrise = int(setting.timestamp()), int(rising.timestamp())
    assert unix("2027-06-10 22:30", zone) < sunset < sunrise < unix("2027-06-11 04:00", zone)
    expected = [
        (unix("2027-06-10 22:10", zone), 0),
        (sunset - 180, 0),
        (sunset + 180, 60),  # 22:00 has come already
        (sunrise - 180, 60),
        (sunrise + 180, 0),
        (unix("2027-06-11 05:10", zone), 0),
        (unix("2027-06-11 11:59", zone), 0),
    ]
    assert [verdict(NIGHT, at, umea, zone).level_percent for at, _ in expected] == [level for _, level in expected]


@pytest.mark.parametrize(("month", "expected"), [("06", {0}), ("12", {100, 60, 90})])
def test_polar_day_is_unlit_and_polar_night_is_lit(month: str, expected: set[int]) -> None:
    """Tromso: no sunset in June, no sunrise in December; offsets make no gap."""
    shifted = [1, 77, [[127, [SUNSET, 45, 100], [CLOCK, 1320, 60], [CLOCK, 300, 90], [SUNRISE, -45, 0]]], []]
    start = unix(f"2027-{month}-10 12:00")
    levels = {verdict(shifted, at, TROMSO).level_percent for at in range(start, start + 3 * 86400, 300)}
    assert levels == expected


def test_the_change_into_polar_night_and_back_is_never_dark_in_the_dark() -> None:
    """Every ten minutes of a year at 69.65 degrees: lit whenever the sun is below the horizon for sure, unlit when it is up."""
    schedule = [1, 0, [[127, [SUNSET, 0, 100], [SUNRISE, 0, 0]]], []]
    observer = Observer(69.65, 18.96, 0)
    place = NightSun(*TROMSO)
    for at in range(unix("2027-01-01 12:00"), unix("2028-01-01 12:00"), 1800):
        elevation = sun.elevation(observer, datetime.datetime.fromtimestamp(at, datetime.UTC), with_refraction=False)
        found = evaluate(schedule, at, offset_s(at), place).level_percent
        if elevation < -1.5:
            assert found == 100, (at, elevation)
        elif elevation > 0.5:
            assert found == 0, (at, elevation)


def test_sun_steps_come_at_their_own_time() -> None:
    """A clock step listed before sunset never delays it: dusk is lit although 18:00 has not come."""
    schedule = [1, 0, [[127, [CLOCK, 18 * 60, 30], [SUNSET, 0, 100], [SUNRISE, 0, 0]]], []]
    assert level(schedule, "2027-01-15 17:10") == 100
    assert level(schedule, "2027-01-15 18:10") == 100
    assert level(schedule, "2027-07-15 18:10") == 30
    assert level(schedule, "2027-07-15 22:10") == 100


def test_weekdays_belong_to_the_noon_before() -> None:
    """Friday's rule holds until Saturday noon: 01:00 on Saturday is Friday night."""
    assert level(TYPICAL, "2027-01-16 00:30") == 60  # Saturday by the calendar, Friday's 23:00 step
    assert level(TYPICAL, "2027-01-17 00:30") == 100  # Sunday by the calendar, Saturday's 01:00 step not yet
    assert level(TYPICAL, "2027-01-17 01:30") == 60


def test_calendar_exceptions_come_before_the_week() -> None:
    """Dated and yearly ones, the latter over new year; the first that fits rules."""
    assert verdict(TYPICAL, unix("2026-12-31 23:30")).cause == EXCEPTION
    assert verdict(TYPICAL, unix("2027-01-02 11:59")).cause == EXCEPTION
    for text in ("2028-12-24 12:00", "2028-12-31 20:00", "2029-01-07 11:59"):
        assert verdict(TYPICAL, unix(text)).cause == EXCEPTION, text
    for text in ("2028-12-24 11:59", "2029-01-07 12:00", "2029-06-01 00:00"):
        assert verdict(TYPICAL, unix(text)).cause == WEEKLY, text


def test_default_where_no_rule_holds() -> None:
    """A week rule for Mondays only."""
    mondays = [1, 45, [[1, [SUNSET, 0, 100], [SUNRISE, 0, 0]]], []]
    found = verdict(mondays, unix("2027-01-13 20:00"))
    assert (found.level_percent, found.cause) == (45, DEFAULT)
    assert found.next_change_unix == unix("2027-01-14 12:00")
    assert verdict(mondays, unix("2027-01-11 20:00")).cause == WEEKLY


@pytest.mark.parametrize(("day", "hours"), [("2027-03-28", 1), ("2027-10-31", -1)])
def test_clock_steps_follow_daylight_saving(day: str, hours: int) -> None:
    """05:00 is 05:00 on the wall, before and after the change that night; sunset does not care."""
    before = (datetime.date.fromisoformat(day) - datetime.timedelta(1)).isoformat()
    for text, expected in (
        (f"{before} 22:05", 60),
        (f"{day} 01:30", 60),
        (f"{day} 04:55", 60),
        (f"{day} 05:05", 90),
        (f"{day} 12:30", 0),
    ):
        assert level(NIGHT, text) == expected, text
    assert offset_s(unix(f"{day} 12:00")) - offset_s(unix(f"{before} 12:00")) == hours * 3600


def test_years_of_nights_in_three_zones() -> None:
    """2026 to 2036, every change of every night: causes and levels are the schedule's, and every night has its dark hours lit."""
    schedule = [1, 0, [[127, [SUNSET, 0, 100], [CLOCK, 1380, 50], [SUNRISE, 0, 0]]], []]
    for place, zone in (
        (ULM, BERLIN_TIME),
        ((-33_870_000, 151_210_000), ZoneInfo("Australia/Sydney")),
        ((40_710_000, -74_010_000), ZoneInfo("America/New_York")),
    ):
        sun_of_night = NightSun(*place)
        at = unix("2026-01-01 12:00", zone)
        end = unix("2036-01-01 12:00", zone)
        lit_s = 0
        nights = 0
        while at < end:
            found = evaluate(schedule, at, offset_s(at, zone), sun_of_night)
            assert found.next_change_unix > at
            until = min(found.next_change_unix, at + 86400)
            if found.level_percent:
                lit_s += until - at
            nights += found.level_percent == 100
            at = until
        assert 3650 <= nights <= 3655
        assert 0.47 < lit_s / (end - unix("2026-01-01 12:00", zone)) < 0.52  # refraction shortens nights


@settings(max_examples=150, deadline=None)
@given(
    schedules,
    st.integers(1_767_225_600, 2_800_000_000),
    st.integers(-14 * 4, 14 * 4).map(lambda quarters: quarters * 900),
    st.integers(-90_000_000, 90_000_000),
    st.integers(-180_000_000, 180_000_000),
)
def test_nothing_changes_before_the_next_change(schedule: Any, at: int, offset: int, latitude: int, longitude: int) -> None:
    """Anywhere, any schedule: the verdict holds until `next_change_unix`, which is within a day; a level is one the schedule names."""
    place = NightSun(latitude, longitude)
    found = evaluate(schedule, at, offset, place)
    assert at < found.next_change_unix <= at + 86400
    for later in (at + (found.next_change_unix - at) // 2, found.next_change_unix - 1):
        assert evaluate(schedule, later, offset, place)[:2] == found[:2]
    rules = [rule[1:] for rule in schedule[2]] + [rule[2:] for rule in schedule[3]]
    assert found.level_percent in {schedule[1]} | {step[2] for rule in rules for step in rule}
    assert evaluate(schedule, at, offset, NightSun(latitude, longitude)) == found
