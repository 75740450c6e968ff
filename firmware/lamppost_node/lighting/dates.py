"""Civil dates from days since 1970-01-01, in integers: MicroPython's `time` has another epoch on every port."""


def civil_date(days: int) -> tuple[int, int, int]:
    """Return (year, month 1..12, day 1..31) of the proleptic Gregorian calendar, `days` after 1970-01-01 (1970..2399 tested).

    Counts from 1 March of year 0, so that the leap day ends a year: 146097 days in 400 years, 1461 in four; 153 days in five
    months.
    """
    days += 719468
    era = days // 146097
    of_era = days % 146097
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    march_month = (5 * of_year + 2) // 153
    day = of_year - (153 * march_month + 2) // 5 + 1
    month = march_month + 3 if march_month < 10 else march_month - 9
    year = year_of_era + era * 400
    return (year + 1 if month <= 2 else year, month, day)


def weekday(days: int) -> int:
    """Return 0 for Monday .. 6 for Sunday of the day `days` after 1970-01-01, a Thursday."""
    return (days + 3) % 7
