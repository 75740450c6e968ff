"""What a lamp's level may be at any moment, computed from nothing of the firmware: sun by astral, time zone by the system's database."""

import datetime
import itertools
import zoneinfo
from collections.abc import Iterable, Sequence

from astral import Observer, sun

#: Sunset 100 %, from `DIM_AT` 50 %, from `FULL_AT` 100 %, sunrise off; as an order carries it.
DIM_AT, FULL_AT = datetime.time(23), datetime.time(5)
NIGHT = [1, 100, [[127, [1, 0, 100], [0, 23 * 60, 50], [0, 5 * 60, 100], [2, 0, 0]]], []]
#: Two almanacs, half a minute of stagger, ramps.
TOLERANCE_S = 150
_ROUNDING_PERMILLE = 5
_DUSK_DEG = -1.5


class NightOracle:
    """The schedule NIGHT at one place."""

    def __init__(self, latitude_deg: float, longitude_deg: float, zone: str) -> None:
        self._observer = Observer(latitude_deg, longitude_deg, 0)
        self._zone = zoneinfo.ZoneInfo(zone)

    def segments(self, start_unix_s: float, end_unix_s: float) -> list[tuple[float, float, int]]:
        """(from, to, permille) of the schedule, in order and without holes, over at least the time given."""
        day = datetime.datetime.fromtimestamp(start_unix_s, self._zone).date() - datetime.timedelta(1)
        changes: list[tuple[float, int]] = []
        while not changes or changes[-1][0] <= end_unix_s:
            next_day = day + datetime.timedelta(1)
            changes += [
                (self.sunset_unix_s(day), 1000),
                (datetime.datetime.combine(day, DIM_AT, self._zone).timestamp(), 500),
                (datetime.datetime.combine(next_day, FULL_AT, self._zone).timestamp(), 1000),
                (sun.sunrise(self._observer, next_day, self._zone).timestamp(), 0),
            ]
            day = next_day
        assert [at for at, _ in changes] == sorted(at for at, _ in changes), "a night shorter than the schedule's steps"
        return [(at, after, permille) for (at, permille), (after, _) in itertools.pairwise(changes)]

    def sunset_unix_s(self, day: datetime.date) -> float:
        """When the sun sets on that day, local time."""
        return float(sun.sunset(self._observer, day, self._zone).timestamp())

    def is_night(self, unix_s: float) -> bool:
        """Whether the sun is well down."""
        when = datetime.datetime.fromtimestamp(unix_s, datetime.UTC)
        return sun.elevation(self._observer, when, with_refraction=False) < _DUSK_DEG

    def check(self, levels: Sequence[tuple[float, int]], start_unix_s: float, end_unix_s: float) -> int:
        """`levels`: (unix seconds, permille) of each change. Raises AssertionError where one is not the schedule's; changes checked."""
        checked = 0
        expected = self.segments(start_unix_s - TOLERANCE_S, end_unix_s + TOLERANCE_S)
        for from_s, to_s, permille in _spans(levels, end_unix_s):
            for at_s in (from_s, to_s) if to_s - from_s < 60 else (from_s, (from_s + to_s) / 2, to_s - 1):
                if not start_unix_s <= at_s <= end_unix_s:
                    continue
                near = [level for first, last, level in expected if first - TOLERANCE_S <= at_s <= last + TOLERANCE_S]
                where = f"level {permille} at {datetime.datetime.fromtimestamp(at_s, self._zone)}, the schedule says {near}"
                assert min(near) - _ROUNDING_PERMILLE <= permille <= max(near) + _ROUNDING_PERMILLE, where
                assert permille > 0 or not self.is_night(at_s), where
                checked += 1
        for first, last, permille in expected:  # and nothing was left out that the schedule wanted
            middle_s = (first + last) / 2
            if start_unix_s <= middle_s <= end_unix_s:
                assert abs(level_at(levels, middle_s) - permille) <= _ROUNDING_PERMILLE, f"{permille} wanted at {middle_s}"
                checked += 1
        return checked


def level_at(levels: Sequence[tuple[float, int]], unix_s: float) -> int:
    """The level that held then."""
    return [permille for at_s, permille in levels if at_s <= unix_s][-1]


def _spans(levels: Sequence[tuple[float, int]], end_s: float) -> Iterable[tuple[float, float, int]]:
    for index, (at_s, permille) in enumerate(levels):
        yield at_s, levels[index + 1][0] if index + 1 < len(levels) else end_s, permille
