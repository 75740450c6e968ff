"""A lamp's schedule as people write it (TOML) and as it is signed (the array of `lamppost_protocol.schedule`).

default_level = 100
[[week]]
days = ["mon", "tue", "wed", "thu", "fri"]        # or "all"; the day on whose noon the night begins
steps = [["sunset", 100], ["23:00", 60], ["05:00", 100], ["sunrise-10", 0]]
[[exception]]
first = 2026-12-31                                # a date, or "12-31" for every year
last = 2026-12-31
steps = [["sunset", 100], ["sunrise", 0]]
"""

import datetime
import re
import tomllib
from pathlib import Path
from typing import Any

from lamppost_protocol import schedule, schedule_words
from lamppost_protocol.errors import ProtocolError

from lamppost_tools.errors import MissingError, UsageError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ALL_DAYS = 127
_ADVICE = "see `lamppost order schedule --help` for an example"


def load_schedule(path: Path) -> list[Any]:
    """Read a schedule file. Raises MissingError, or UsageError naming what is wrong."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"{path} does not exist", _ADVICE) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", _ADVICE) from None
    try:
        return schedule_of(raw)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise UsageError(f"{path}: {error}", _ADVICE) from None


def schedule_of(raw: dict[str, Any]) -> list[Any]:
    """The schedule array of a parsed file. Raises ValueError and kin; a result has passed `schedule.check_schedule`."""
    unknown = set(raw) - {"default_level", "week", "exception"}
    if unknown:
        raise ValueError(f"unknown key(s): {', '.join(sorted(unknown))}")
    week = [[_days(rule["days"]), *_steps(rule["steps"])] for rule in raw.get("week", [])]
    exceptions = [
        [_date(rule["first"]), _date(rule.get("last", rule["first"])), *_steps(rule["steps"])] for rule in raw.get("exception", [])
    ]
    value = [schedule.VERSION, raw.get("default_level", 100), week, exceptions]
    try:
        schedule.check_schedule(value)
    except ProtocolError as error:
        raise ValueError(error.detail) from None
    return value


def schedule_in_words(value: list[Any]) -> dict[str, Any]:
    """A checked schedule array as people read it."""
    return {
        "default_level": value[1],
        "week": [
            {"days": [name for bit, name in enumerate(_DAYS) if rule[0] >> bit & 1], "steps": _steps_in_words(rule[1:])}
            for rule in value[2]
        ],
        "exceptions": [
            {"first": _date_in_words(rule[0]), "last": _date_in_words(rule[1]), "steps": _steps_in_words(rule[2:])} for rule in value[3]
        ],
    }


def _days(days: Any) -> int:
    if days == "all":
        return _ALL_DAYS
    unknown = [day for day in days if day not in _DAYS]
    if unknown:
        raise ValueError(f"days: {unknown[0]!r} is none of {', '.join(_DAYS)}")
    return sum(1 << _DAYS.index(day) for day in set(days))


def _steps(steps: list[Any]) -> list[list[int]]:
    return [[*schedule_words.parse_anchor(str(when)), level] for when, level in steps]


def _steps_in_words(steps: list[Any]) -> list[list[Any]]:
    return [[schedule_words.anchor_text(anchor, minute), level] for anchor, minute, level in steps]


def _date(value: Any) -> int:
    if isinstance(value, str) and len(value) == 10:
        value = datetime.date.fromisoformat(value)
    if isinstance(value, datetime.date):
        return value.year * 10_000 + value.month * 100 + value.day
    match = re.fullmatch(r"(\d\d)-(\d\d)", str(value))
    if match is None:
        raise ValueError(f'{value!r} is neither a date (2026-12-31) nor a day of every year ("12-31")')
    return int(match[1]) * 100 + int(match[2])


def _date_in_words(value: int) -> str:
    month_day = f"{value // 100 % 100:02d}-{value % 100:02d}"
    return month_day if value < 10_000 else f"{value // 10_000}-{month_day}"
