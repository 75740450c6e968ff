"""What a lamp's schedule costs: the nights of a year at a place, lit as the node would light them, without its ramps and stagger.

Reckoned apart from the node's own code (`firmware/lamppost_node/lighting/`), which a tool may not import; the tests hold the two against
each other. Ref: The Astronomical Almanac, low precision formulas for the sun (0.01 degree); 90.833 degrees of zenith as the node has.
"""

import datetime
import itertools
import math
from typing import Any, NamedTuple

from lamppost_protocol.schedule import CLOCK, SUNSET

from lamppost_tools.plan.figures import DAY_S
from lamppost_tools.plan.frames import setting

NIGHTS = 365
_NOON_S = DAY_S // 2
_ZENITH_DEG = 90.833
_J2000 = datetime.date(2000, 1, 1)
_LEVELS_PERCENT = (10, 25, 50, 75, 100)


class Nights(NamedTuple):
    """A year of one lamp: energy of a mean, the least and the most day from noon to noon; lit hours and changes of level a day."""

    mean_wh: float
    least_wh: float
    most_wh: float
    lit_h: float
    changes: float


def sun_times_s(day: datetime.date, latitude_deg: float, longitude_deg: float) -> tuple[float, float] | None:
    """(sunrise, sunset) around the place's noon, in seconds after the day's midnight UTC, which may lie outside the day; None: neither.

    latitude -90 .. 90, longitude -180 .. 180 degrees, east positive.
    """
    found = []
    for side in (-1, 1):
        second = (720 - 4 * longitude_deg + side * 360) * 60
        for _ in range(3):
            cosine, equation_min = _hour_cosine(day, second, latitude_deg)
            half_min = 4 * math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
            second = (720 - 4 * longitude_deg - equation_min + side * half_min) * 60
        if not -1 <= cosine <= 1:
            return None
        found.append(second)
    return found[0], found[1]


def is_polar_day(day: datetime.date, latitude_deg: float, longitude_deg: float) -> bool:
    """Whether the sun, where it neither rises nor sets, is up."""
    return _hour_cosine(day, (720 - 4 * longitude_deg) * 60, latitude_deg)[0] < 0


def _hour_cosine(day: datetime.date, second: float, latitude_deg: float) -> tuple[float, float]:
    """(cosine of the hour angle of sunset, equation of time in minutes), as of `second` after the day's midnight UTC."""
    days = (day - _J2000).days - 0.5 + second / DAY_S
    mean_deg = 280.460 + 0.9856474 * days
    anomaly = math.radians(357.528 + 0.9856003 * days)
    longitude = math.radians(mean_deg + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly))
    obliquity = math.radians(23.439 - 0.0000004 * days)
    declination = math.asin(math.sin(obliquity) * math.sin(longitude))
    ascension_deg = math.degrees(math.atan2(math.cos(obliquity) * math.sin(longitude), math.cos(longitude)))
    equation_min = 4 * ((mean_deg - ascension_deg + 180) % 360 - 180)
    latitude = math.radians(max(-89.9, min(89.9, latitude_deg)))
    cosine = math.cos(math.radians(_ZENITH_DEG)) / (math.cos(latitude) * math.cos(declination))
    return cosine - math.tan(latitude) * math.tan(declination), equation_min


def night_levels(schedule: list[Any], day: datetime.date, place: dict[str, Any]) -> list[tuple[float, int]]:
    """(seconds after the local noon of `day`, level from then on) until the next noon; the first at 0. WIRE.md, "Schedule".

    `place`: latitude_deg, longitude_deg, utc_offset_s, dst.
    """
    rule = _rule(schedule, day)
    if rule is None:
        return [(0.0, schedule[1])]
    offset_s = _utc_offset_s(day, place)
    steps: list[tuple[float, int]] = []
    listed = 0.0
    for anchor, minute, level in rule:
        if anchor == CLOCK:
            at = max(listed, float((minute * 60 - _NOON_S) % DAY_S))
        else:
            at = _sun_step_s(anchor == SUNSET, minute, day, place, offset_s)
        listed = max(listed, at)
        steps.append((at, level))
    levels: list[tuple[float, int]] = []
    for begin in sorted({0.0, *(at for at, _ in steps if at < DAY_S)}):
        come = [level for at, level in steps if at <= begin]
        levels.append((begin, come[-1] if come else steps[-1][1]))
    return levels


def _sun_step_s(is_sunset: bool, minute: int, day: datetime.date, place: dict[str, Any], offset_s: int) -> float:
    """When a step by the sun comes: 0 before the night, DAY_S never, where the sun does not move across the horizon."""
    sun_day = day if is_sunset else day + datetime.timedelta(days=1)
    times = sun_times_s(sun_day, place["latitude_deg"], place["longitude_deg"])
    if times is None:
        is_lit = not is_polar_day(sun_day, place["latitude_deg"], place["longitude_deg"])
        return 0.0 if is_lit == is_sunset else float(DAY_S)
    at = times[1] - _NOON_S + offset_s if is_sunset else times[0] + _NOON_S + offset_s
    at = min(float(DAY_S), max(0.0, at))
    return at if at in (0.0, DAY_S) else min(float(DAY_S), max(0.0, at + minute * 60))


def _rule(schedule: list[Any], day: datetime.date) -> list[list[int]] | None:
    yearly = day.month * 100 + day.day
    dated = day.year * 10_000 + yearly
    steps: list[list[int]]
    for first, last, *steps in schedule[3]:
        today = yearly if first < 10_000 else dated
        if (first <= today <= last) if first <= last else (today >= first or today <= last):
            return steps
    for weekdays, *steps in schedule[2]:
        if weekdays >> day.weekday() & 1:
            return steps
    return None


def _utc_offset_s(day: datetime.date, place: dict[str, Any]) -> int:
    """Local time less UTC at the noon of `day`. Ref: Directive 2000/84/EC; 15 U.S.C. 260a."""
    winter_s = int(place.get("utc_offset_s", 0))
    if place["dst"] == "none":
        return winter_s
    if place["dst"] == "eu":
        begin, end = _sunday_by(day.year, 3, 31), _sunday_by(day.year, 10, 31)
    else:
        begin, end = _sunday_by(day.year, 3, 14), _sunday_by(day.year, 11, 7)
    return winter_s + 3600 * (begin <= day < end)


def _sunday_by(year: int, month: int, day: int) -> datetime.date:
    last = datetime.date(year, month, day)
    return last - datetime.timedelta(days=(last.weekday() + 1) % 7)


def power_w(fixture: dict[str, Any], level_percent: int) -> float:
    """What the lamp takes at a level of its schedule: raised to the floor and the driver's minimum; off only with a relay."""
    if 0 < level_percent < setting(fixture, "floor_percent", "lamp"):
        level_percent = setting(fixture, "floor_percent", "lamp")
    if level_percent == 0 and setting(fixture, "relay", "lamp"):
        return setting(fixture, "power_0_dw", "lamp") / 10
    points = [(at, setting(fixture, f"power_{at}_dw", "lamp") / 10) for at in _LEVELS_PERCENT]
    level_percent = max(level_percent, points[0][0])
    for (low, low_w), (high, high_w) in itertools.pairwise(points):
        if level_percent <= high:
            return low_w + (high_w - low_w) * (level_percent - low) / (high - low)
    return points[-1][1]


def nights(fixture: dict[str, Any], schedule: list[Any] | None, place: dict[str, Any], first: datetime.date) -> Nights:
    """The 365 days from the noon of `first`. Without a schedule the lamp stays at its safe level."""
    if schedule is None:
        level = setting(fixture, "safe_level_percent", "lamp")
        wh = 24 * power_w(fixture, level)
        return Nights(wh, wh, wh, 24.0, 0.0)
    energies = []
    lit_s, changes = 0.0, 0
    before: int | None = None
    for count in range(NIGHTS):
        levels = night_levels(schedule, first + datetime.timedelta(days=count), place)
        ends = [at for at, _ in levels[1:]] + [float(DAY_S)]
        energy_ws = 0.0
        for (begin, level), end in zip(levels, ends, strict=True):
            energy_ws += (end - begin) * power_w(fixture, level)
            lit_s += (end - begin) * (level > 0)
            changes += before is not None and level != before
            before = level
        energies.append(energy_ws / 3600)
    return Nights(sum(energies) / NIGHTS, min(energies), max(energies), lit_s / NIGHTS / 3600, changes / NIGHTS)
