"""Local time from unix seconds: proleptic Gregorian days and the two daylight saving rules.

Integers only, no tables, nothing of the runtime's epoch.
"""

RULES = ("none", "eu", "us")
_DAY_S = 86400


def days_from_civil(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date; year from 1. Ref: Gregorian calendar, counted in years that begin in March."""
    if month <= 2:
        year -= 1
        month += 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469


def year_of(unix: int) -> int:
    """The UTC year of unix seconds, from 1970."""
    days = unix // _DAY_S
    year = 1970 + days // 366
    while days_from_civil(year + 1, 1, 1) <= days:
        year += 1
    return year


def _sunday_on_or_before(days: int) -> int:
    return days - (days + 4) % 7  # 1970-01-01, day 0, was a Thursday


def utc_offset_s(unix: int, base_offset_s: int, rule: str) -> int:
    """Local time less UTC at `unix`; `base_offset_s` is the winter offset, `rule` one of RULES.

    eu: one hour more from the last Sunday of March to the last of October, both at 01:00 UTC. Ref: Directive 2000/84/EC.
    us: from the second Sunday of March to the first of November, at 02:00 local time. Ref: 15 U.S.C. 260a.
    """
    if rule == "none":
        return base_offset_s
    year = year_of(unix + base_offset_s)
    if rule == "eu":
        begin = _sunday_on_or_before(days_from_civil(year, 3, 31)) * _DAY_S + 3600
        end = _sunday_on_or_before(days_from_civil(year, 10, 31)) * _DAY_S + 3600
    else:
        begin = _sunday_on_or_before(days_from_civil(year, 3, 14)) * _DAY_S + 7200 - base_offset_s
        end = _sunday_on_or_before(days_from_civil(year, 11, 7)) * _DAY_S + 3600 - base_offset_s
    return base_offset_s + (3600 if begin <= unix < end else 0)
