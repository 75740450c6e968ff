"""Which level the lamp shall have, and why: safety > order lease > calendar exception > weekly schedule > default.

Any doubt is the safe level: time unknown or too uncertain, no schedule or one that does not check, safe mode. Knows no hardware.
"""

from lamppost_protocol.compat import const
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.schedule import check_schedule

from .leases import Leases
from .schedule import DEFAULT, EXCEPTION, WEEKLY, NightSun, Verdict, evaluate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamppost_node.settings import Settings

    from .leases import Lease

#: Codes of profile lamp's column `cause`, in the order of profiles.LAMP_CAUSES.
CAUSE_SAFE = 0
CAUSE_ORDER = 1
CAUSE_EXCEPTION = 2
CAUSE_WEEKLY = 3
CAUSE_DEFAULT = 4
CAUSE_POWER_ON = 5
CAUSE_SAFE_MODE = 6
CAUSE_SERVICE = 7

_CAUSES = {EXCEPTION: CAUSE_EXCEPTION, WEEKLY: CAUSE_WEEKLY, DEFAULT: CAUSE_DEFAULT}

#: The lowest time worth believing, 2026-01-01: an earlier "now" is a clock that lost its epoch.
_EARLIEST_UNIX = const(1767225600)


class Decision:
    """The level one lamp shall have. `level_percent` and `cause` are those of the last `update`."""

    def __init__(
        self,
        settings: "Settings",
        names: tuple[str, str],
        sun: NightSun | None,
        safe_level_percent: int,
        floor_percent: int,
        clock_limit_s: int,
        stagger_s: int,
    ):
        """names: of the schedule and of the leases in the settings. sun None: the place is unknown, so no
        schedule can be followed. stagger_s delays what the schedule says, orders never."""
        self._settings = settings
        self._schedule_name = names[0]
        self._sun = sun
        self._safe_level_percent = safe_level_percent
        self._floor_percent = floor_percent
        self._clock_limit_s = clock_limit_s
        self._stagger_s = stagger_s
        self._schedule = _checked(settings.load(self._schedule_name))
        self._verdict: Verdict | None = None
        self._verdict_from = 0
        self._utc_offset_s = 0
        self.leases = Leases(settings, names[1])
        self.level_percent = safe_level_percent
        self.cause = CAUSE_SAFE
        self.is_clock_unknown = True

    @property
    def is_schedule_missing(self) -> bool:
        """No schedule is kept that checks."""
        return self._schedule is None

    @property
    def lease(self) -> "Lease | None":
        """The lease the level comes from, if it comes from one."""
        return self.leases.governing if self.cause == CAUSE_ORDER else None

    def adopt(self, schedule: "list[Any]") -> None:
        """Keep a new schedule and follow it from the next `update`. Writes flash.

        Raises RemoteError (not a schedule), OSError (flash refused); the old one then stays.
        """
        check_schedule(schedule)
        self._settings.save(self._schedule_name, schedule)
        self._schedule = schedule
        self._verdict = None

    def update(self, unix: int | None, uncertainty_s: int | None, utc_offset_s: int, is_safe_mode: bool) -> list[tuple["Lease", int]]:
        """Decide for this instant and return the leases that ended, as `Leases.step` does."""
        is_known = unix is not None and unix >= _EARLIEST_UNIX
        is_known = is_known and (uncertainty_s is None or uncertainty_s <= self._clock_limit_s)
        self.is_clock_unknown = not is_known
        ended = self.leases.step(unix if is_known else None)
        lease = self.leases.governing
        if is_safe_mode:
            self._set(self._safe_level_percent, CAUSE_SAFE_MODE)
        elif unix is None or not is_known:
            self._set(self._safe_level_percent, CAUSE_SAFE)
        elif lease is not None:
            self._set(lease.level_percent, CAUSE_ORDER)
        elif self._schedule is None or self._sun is None:
            self._set(self._safe_level_percent, CAUSE_SAFE)
        else:
            verdict = self._follow(self._schedule, self._sun, unix - self._stagger_s, utc_offset_s)
            level_percent = verdict.level_percent
            if 0 < level_percent < self._floor_percent:
                level_percent = self._floor_percent
            self._set(level_percent, _CAUSES[verdict.cause])
        return ended

    def _set(self, level_percent: int, cause: int) -> None:
        self.level_percent = level_percent
        self.cause = cause

    def _follow(self, schedule: "list[Any]", sun: NightSun, unix: int, utc_offset_s: int) -> Verdict:
        verdict = self._verdict
        if verdict is None or utc_offset_s != self._utc_offset_s or not self._verdict_from <= unix < verdict.next_change_unix:
            verdict = evaluate(schedule, unix, utc_offset_s, sun)
            self._verdict = verdict
            self._verdict_from = unix
            self._utc_offset_s = utc_offset_s
        return verdict


def _checked(value: object) -> "list[Any] | None":
    """What was kept, if it is a schedule: flash may be corrupt, and what is kept may be older than the rules."""
    try:
        check_schedule(value)
    except RemoteError:
        return None
    return value  # type: ignore[return-value]
