"""What time it is, and how well that is known.

The time is unknown from power-up until a verified beacon echoes the nonce this node just made: only then can nobody have held the
beacon back for longer than the round trip. A broadcast beacon may be old, so it only ever moves a known time forward. Between
beacons the time is held and its uncertainty grows with the crystal's drift.

Time never depends on the runtime's epoch (1970 on the unix port, 2000 on an ESP32): it is the beacon's unix seconds plus what
`ticks_ms` counted since, and of deep sleeps what has passed at least (`resume`). The floor, the last time known, is kept on flash at most
hourly, and no beacon below it is believed.
"""

from lamppost_node.local_time import utc_offset_s
from lamppost_node.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamppost_node.interfaces import Ticks

NONCE_LIFE_MS = 60_000  # WIRE.md section 7: an answer later than this says too little about the time
FLOOR_PERIOD_MS = 3_600_000
#: Two beacons a restart apart may differ by their round trips and whole seconds.
FLOOR_TOLERANCE_S = 10
_QUARTER_S = 900  # clocks change at whole quarters of an hour, wherever one lives
_FLOOR = "floor"


class Clock:
    """Monotonic milliseconds since power-up and, once set, unix seconds. `ticks` is the `time` module or its like."""

    def __init__(
        self,
        ticks: "Ticks",
        settings: Settings,
        drift_ppm: int = 100,
        utc_offset_s: int = 0,
        dst: str = "none",
    ):
        self._ticks = ticks
        self._settings = settings
        self.drift_ppm = drift_ppm
        #: By how much the age of what was measured in this power-up may be wrong.
        self.age_ppm = drift_ppm
        self.base_offset_s = utc_offset_s
        self.dst = dst
        self._last_ticks = ticks.ticks_ms()
        self._monotonic_ms = 0
        # Kept apart so that asking for the time, once a second for years, stays within the chip's small integers.
        self._base_s: int | None = None
        self._base_ms = 0
        self._offset_s = 0
        self._offset_from = self._offset_until = 0
        self._base_uncertainty_ms = 0
        self._slept_ms = 0  # of the uncertainty, what sleeping added: only later than `now()` can it be by that
        self._nonce: bytes | None = None
        self._nonce_ms = 0
        floor = settings.load(_FLOOR)
        self._floor_s = floor if isinstance(floor, int) else 0
        self._floor_ms: int | None = None
        self.beacon_ms: int | None = None
        self.refused_beacons = 0

    def monotonic_ms(self) -> int:
        """Milliseconds since power-up; never wraps as long as it is called once in six days (half of `ticks_ms`'s range)."""
        ticks = self._ticks.ticks_ms()
        self._monotonic_ms += self._ticks.ticks_diff(ticks, self._last_ticks)
        self._last_ticks = ticks
        return self._monotonic_ms

    def now(self) -> int | None:
        """Unix seconds, None while the clock was never set since power-up."""
        if self._base_s is None:
            return None
        return self._base_s + (self.monotonic_ms() - self._base_ms) // 1000

    def uncertainty_s(self) -> int | None:
        """Largest error of `now()` in seconds, rounded up: half the beacon's round trip, its resolution, and drift since."""
        if self._base_s is None:
            return None
        held_ms = self.monotonic_ms() - self._base_ms
        return (self._base_uncertainty_ms + held_ms * self.drift_ppm // 1_000_000 + 999) // 1000

    def latest(self) -> int | None:
        """The latest that it can be for all the time slept since the last beacon: by this an order's end is judged."""
        now = self.now()
        return None if now is None else now + (self._slept_ms + 999) // 1000

    def state(self) -> "list[int | None]":
        """What `resume` takes after a deep sleep."""
        return [
            self.monotonic_ms(), self._base_s, self._base_ms, self._base_uncertainty_ms, self._slept_ms, self._floor_ms, self.beacon_ms,
            self.refused_beacons,
        ]  # fmt: skip

    def resume(self, state: "list[Any]", passed_ms: int, drift_ppm: int) -> None:
        """Go on after a sleep in which the sleeping chip's clock, wrong by up to drift_ppm, counted `passed_ms`.

        What has passed at least is counted: so airtime is never given back early, and beacons, which only move time forward, put it right.
        """
        doubt_ms = passed_ms * drift_ppm // 1_000_000 + 1
        monotonic_ms, self._base_s, self._base_ms, uncertainty_ms, slept_ms, self._floor_ms, self.beacon_ms, self.refused_beacons = state
        self._last_ticks = self._ticks.ticks_ms()
        self._monotonic_ms = monotonic_ms + passed_ms - doubt_ms
        self._base_uncertainty_ms = uncertainty_ms + 2 * doubt_ms
        self._slept_ms = slept_ms + 2 * doubt_ms

    def utc_offset_s(self, unix: int) -> int:
        """Local time less UTC at `unix`, daylight saving included, by the configured rule."""
        if not self._offset_from <= unix < self._offset_until:
            self._offset_s = utc_offset_s(unix, self.base_offset_s, self.dst)
            self._offset_from = unix
            self._offset_until = unix - unix % _QUARTER_S + _QUARTER_S
        return self._offset_s

    def make_nonce(self, nonce: bytes) -> bytes:
        """Remember a fresh random nonce for the next hello; it replaces the one before and is good once, for a minute."""
        self._nonce = nonce
        self._nonce_ms = self.monotonic_ms()
        return nonce

    def is_awaited(self, unix: int, nonce: bytes | None) -> bool:
        """Whether a beacon could do anything here: asked before its signature is checked, because that is dear."""
        now = self.now()
        if nonce is None:
            return now is not None and unix > now
        return nonce == self._nonce and self.monotonic_ms() - self._nonce_ms <= NONCE_LIFE_MS

    def take_beacon(self, unix: int, nonce: bytes | None) -> bool:
        """Use a beacon whose signature has been verified; whether it was believed. May write flash (the floor)."""
        now_ms = self.monotonic_ms()
        now = self.now()
        is_below_floor = now is None and unix < self._floor_s - FLOOR_TOLERANCE_S
        if not self.is_awaited(unix, nonce) or is_below_floor:
            self.refused_beacons += 1
            return False
        unix_ms = unix * 1000
        if nonce is None:
            # It may have been held back by anyone: a lower bound. Being behind it shows how wrong we were.
            uncertainty_ms = (self.uncertainty_s() or 0) * 1000 + unix_ms - (now or 0) * 1000
        else:
            round_trip_ms = now_ms - self._nonce_ms
            unix_ms += round_trip_ms // 2
            uncertainty_ms = round_trip_ms // 2 + 1000  # beacons have whole seconds
            self._nonce = None
            self._slept_ms = 0
            if now is not None and unix_ms < now * 1000:
                # Time does not go back here; until the city has caught up, ours is wrong by the difference.
                uncertainty_ms += now * 1000 - unix_ms
                unix_ms = now * 1000
        self._base_s = unix_ms // 1000
        self._base_ms = now_ms - unix_ms % 1000
        self._base_uncertainty_ms = uncertainty_ms
        self.beacon_ms = now_ms
        self.keep_floor()
        return True

    def keep_floor(self) -> None:
        """Persist the time known now, at most once an hour."""
        now, now_ms = self.now(), self.monotonic_ms()
        if now is None or now <= self._floor_s:
            return
        if self._floor_ms is None or now_ms - self._floor_ms >= FLOOR_PERIOD_MS:
            self._floor_ms = now_ms
            self._floor_s = now
            self._settings.is_kept(_FLOOR, now)
