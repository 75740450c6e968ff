"""What a plan consists of: numbers that each say where they come from."""

from typing import NamedTuple

DAY_S = 86_400
YEAR_DAYS = 365.25


class Figure(NamedTuple):
    """One number: `value` None where nobody knows it, and then `source` says why. `label` is for people, `name` for machines."""

    name: str
    label: str
    value: float | None
    unit: str
    source: str
