"""What level a schedule asks for at an instant: pure, integers in and out, nothing remembered but one night's sun.

How the steps of a rule run (the form is `lamppost_protocol/schedule.py`):
- Steps are listed in the order of the night. The last listed one whose time has come governs; before any has come, the last one
  listed does (the evening before ended with it).
- A sunset or sunrise step comes at its own time. A clock step comes no earlier than every step listed before it. So on a light
  summer evening "22:00 60 %" waits for sunset, and "05:00 100 %" after sunrise changes nothing, since the sunrise step is listed
  later.
- Where the sun does not rise, sunset came at the noon that began the night and sunrise never comes: lit throughout. Where it does
  not set, sunrise came at that noon and sunset never comes. Offsets do not matter then.
- A change of the clock (DST) moves clock steps with it and nothing else.
"""

from collections import namedtuple

from lamppost_protocol.compat import const
from lamppost_protocol.schedule import CLOCK, SUNSET

from .astronomy import POLAR_DAY, POLAR_NIGHT, sunrise_s, sunset_s
from .dates import civil_date, weekday

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EXCEPTION = "exception"
WEEKLY = "weekly"
DEFAULT = "default"

_DAY_S = const(86400)
_NOON_S = const(43200)

#: level_percent 0..100; cause EXCEPTION, WEEKLY or DEFAULT; next_change_unix: no change before it, unless the UTC offset changes.
Verdict = namedtuple("Verdict", ("level_percent", "cause", "next_change_unix"))


class NightSun:
    """Sunset and sunrise of one night at one place, computed when the night changes."""

    def __init__(self, latitude_udeg: int, longitude_udeg: int):
        self._latitude_udeg = latitude_udeg
        self._longitude_udeg = longitude_udeg
        self._noon_unix = 0
        self.sunset_s = 0
        self.sunrise_s = 0

    def at(self, noon_unix: int) -> None:
        """Set `sunset_s` and `sunrise_s`, seconds after `noon_unix`: 0..86400, where 0 is before the night and 86400 never."""
        if noon_unix == self._noon_unix:
            return
        sunset = sunset_s(noon_unix, self._latitude_udeg, self._longitude_udeg)
        sunrise = sunrise_s(noon_unix + _DAY_S, self._latitude_udeg, self._longitude_udeg)
        if isinstance(sunset, str):
            self.sunset_s = 0 if sunset == POLAR_NIGHT else _DAY_S
        else:
            self.sunset_s = _clamp(sunset)
        if isinstance(sunrise, str):
            self.sunrise_s = 0 if sunrise == POLAR_DAY else _DAY_S
        else:
            self.sunrise_s = _clamp(sunrise + _DAY_S)
        self._noon_unix = noon_unix


def _clamp(second: int) -> int:
    return min(_DAY_S, max(0, second))


def _step_s(anchor: int, minute: int, sun: NightSun) -> int:
    """When a step comes, seconds after the noon that begins the night, 0..86400; the latter is never."""
    if anchor == CLOCK:
        return (minute * 60 - _NOON_S) % _DAY_S
    at = sun.sunset_s if anchor == SUNSET else sun.sunrise_s
    if at in (0, _DAY_S):
        return at
    return _clamp(at + minute * 60)


def evaluate(schedule: "list[Any]", unix: int, utc_offset_s: int, sun: NightSun) -> Verdict:
    """Return the Verdict of a checked schedule at `unix` (2000..2099), local time being unix + utc_offset_s (-50400..50400)."""
    day = (unix + utc_offset_s - _NOON_S) // _DAY_S
    noon_unix = day * _DAY_S + _NOON_S - utc_offset_s
    rule, first, cause = _rule(schedule, day)
    if rule is None:
        return Verdict(schedule[1], DEFAULT, noon_unix + _DAY_S)
    sun.at(noon_unix)
    elapsed = unix - noon_unix
    level = rule[-1][2]
    following = _DAY_S
    listed = 0
    for index in range(first, len(rule)):
        anchor, minute, step_level = rule[index]
        at = _step_s(anchor, minute, sun)
        if anchor == CLOCK and at < listed:
            at = listed
        if at > listed:
            listed = at
        if at <= elapsed:
            level = step_level
        elif at < following:
            following = at
    return Verdict(level, cause, noon_unix + following)


def _rule(schedule: "list[Any]", day: int) -> "tuple[Any, int, str]":
    """(rule, index of its first step, cause) of the night beginning at noon of `day`, days since 1970."""
    year, month, day_of_month = civil_date(day)
    yearly = month * 100 + day_of_month
    dated = year * 10000 + yearly
    for rule in schedule[3]:
        first, last = rule[0], rule[1]
        today = yearly if first < 10000 else dated
        if (first <= today <= last) if first <= last else (today >= first or today <= last):
            return rule, 2, EXCEPTION
    bit = 1 << weekday(day)
    for rule in schedule[2]:
        if rule[0] & bit:
            return rule, 1, WEEKLY
    return None, 0, DEFAULT
