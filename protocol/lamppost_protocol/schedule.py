"""A lamp's schedule on the wire and on flash: one strict check, for the authority that signs it and the node that lives by it.

    schedule  = [1, default_level, [week_rule ...], [exception ...]]
    week_rule = [weekdays, step ...]        weekdays: bit 0 Monday .. bit 6 Sunday, of the day on whose noon the night begins
    exception = [first, last, step ...]     dates as decimal numbers: yyyymmdd, or mmdd for every year (may run over new year)
    step      = [anchor, minute, level]     CLOCK: minute of the day, local time; SUNSET, SUNRISE: minutes after (negative: before)

A day runs from noon to noon, local time. The first exception holding its date rules it, else the first week rule holding its
weekday, else the default level. How steps run is `lamppost_node/lighting/schedule.py`'s docstring and WIRE.md "Schedule".
"""

from .compat import const
from .errors import RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1

CLOCK = 0
SUNSET = 1
SUNRISE = 2

#: Sun offsets: four hours either way; more would be a clock step in disguise.
MAX_OFFSET_MIN = 240
#: Steps in one rule: a night has at most 10 switching steps in products of the field.
MAX_STEPS = 12
#: One rule a weekday and as many spare.
MAX_WEEK_RULES = 14
#: Four weeks of single dates; longer stretches are ranges. The whole must fit one order, which binds first.
MAX_EXCEPTIONS = 32

_LAST_DAY = const((31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31))


def check_schedule(value: "Any") -> None:
    """Return when `value` is a schedule (arrays: list or tuple), else raise RemoteError("bad_payload") saying where it is not."""
    if not _is_array(value, 4, 4):
        _refuse("not [version, default, week rules, exceptions]")
    version, default_level, week_rules, exceptions = value
    if not _is_number(version, VERSION, VERSION):
        _refuse("schedule version")
    if not _is_number(default_level, 0, 100):
        _refuse("default level")
    if not _is_array(week_rules, 0, MAX_WEEK_RULES):
        _refuse("week rules")
    if not _is_array(exceptions, 0, MAX_EXCEPTIONS):
        _refuse("exceptions")
    for rule in week_rules:
        if not _is_array(rule, 2, 1 + MAX_STEPS) or not _is_number(rule[0], 1, 127):
            _refuse("week rule")
        _check_steps(rule, 1)
    for rule in exceptions:
        if not _is_array(rule, 3, 2 + MAX_STEPS) or not _is_range(rule[0], rule[1]):
            _refuse("exception's dates")
        _check_steps(rule, 2)


def _refuse(detail: str) -> None:
    raise RemoteError("bad_payload", "schedule: " + detail)


def _is_array(value: object, low: int, high: int) -> bool:
    return isinstance(value, (list, tuple)) and low <= len(value) <= high


def _is_number(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _check_steps(rule: "list[Any]", start: int) -> None:
    for index in range(start, len(rule)):
        step = rule[index]
        if not _is_array(step, 3, 3) or not _is_number(step[0], CLOCK, SUNRISE) or not _is_number(step[2], 0, 100):
            _refuse("step")
        low, high = (0, 1439) if step[0] == CLOCK else (-MAX_OFFSET_MIN, MAX_OFFSET_MIN)
        if not _is_number(step[1], low, high):
            _refuse("step's minute")


def _is_range(first: "Any", last: "Any") -> bool:
    if _is_yearly(first):
        return _is_yearly(last)
    return _is_date(first) and _is_date(last) and bool(first <= last)


def _is_yearly(value: "Any") -> bool:
    return _is_number(value, 101, 1231) and _is_day(value % 10000)


def _is_date(value: "Any") -> bool:
    return _is_number(value, 20000101, 20991231) and _is_day(value % 10000)


def _is_day(month_day: int) -> bool:
    month = month_day // 100
    return 1 <= month <= 12 and 1 <= month_day % 100 <= _LAST_DAY[month - 1]
