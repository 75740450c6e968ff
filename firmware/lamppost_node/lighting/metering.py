"""The lamp's eyes: samples its meter, judges the power, proves orders, counts energy. Cannot touch the light."""

from lamppost_protocol.compat import const

from ..drivers.errors import SensorFault
from .astronomy import elevation_centideg
from .electrical import Electrical
from .lamp_curves import power_curve
from .verification import PowerProof

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..clock import Clock
    from ..drivers.ade7953 import ADE7953
    from ..drivers.ade7953 import Electrical as Reading
    from ..settings import Settings

_FAST_SAMPLE_MS = const(1000)
_SUN_MS = const(60000)
_ENERGY_SAVE_MS = const(3600000)


class Metering:
    """One lamp's meter (None: it has none) and what follows from its readings."""

    def __init__(
        self,
        meter: "ADE7953 | None",
        config: dict[str, int],
        settings: "Settings",
        name: str,
        place: tuple[int, int] | None,
    ):
        """name: of the energy total in the settings. place: (latitude, longitude) in microdegrees, None: unknown."""
        self.meter = meter
        self.reading: Reading | None = None
        self._sample_period_ms = config["sample_s"] * 1000
        self._power_off_dw = config["power_0_dw"]
        self._powers = power_curve(config)
        self._place = place
        self._settings = settings
        self._energy_name = name
        self.electrical = Electrical(config["power_100_dw"], config["warm_up_s"] * 1000, config["fault_samples"], config["fault_window"])
        self.proof = PowerProof(
            config["verify_tolerance_permille"],
            config["verify_tolerance_dw"],
            config["settle_s"] * 1000,
            config["verify_s"] * 1000,
        )
        self._sample_ms: int | None = None
        self._sun_ms: int | None = None
        self._is_sun_up = False
        self._energy_ms: int | None = None
        kept = settings.load(name)
        is_total = isinstance(kept, int) and not isinstance(kept, bool) and kept >= 0
        self._energy_base_wh: int = kept if is_total else 0  # type: ignore[assignment]
        self._energy_kept_wh = self._energy_base_wh

    def expected_dw(self, permille: int) -> int:
        """What the lamp should take at this level."""
        return self._power_off_dw if permille <= 0 else self._powers.at(permille)

    def power_dw(self) -> int | None:
        """The last sample's active power, None when it failed."""
        return None if self.reading is None else int(self.reading.active_power_dw)

    def energy_wh(self) -> int | None:
        """Energy since the lamp was installed, less at most an hour's at each power cut; None without a meter."""
        return None if self.meter is None else self._energy_base_wh + self.meter.energy_wh

    def hurry(self) -> None:
        """Take the next sample at the next call."""
        self._sample_ms = None

    def attend(self, now_ms: int, permille: int, clock: "Clock") -> str | None:
        """Sample when it is time. Returns the proof's outcome when one falls: verification.VERIFIED or FAILED."""
        period_ms = self._sample_period_ms
        if self.proof.is_judging() and period_ms > _FAST_SAMPLE_MS:
            period_ms = _FAST_SAMPLE_MS
        if self._sample_ms is not None and 0 <= now_ms - self._sample_ms < period_ms:
            return None
        self._sample_ms = now_ms
        if self.meter is not None:
            try:
                self.reading = self.meter.read()
            except SensorFault:
                self.reading = None
            self._look_at_sun(now_ms, clock)
            expected_dw = self.expected_dw(permille)
            self.electrical.sample(now_ms, permille, self.power_dw(), expected_dw, self._is_sun_up)
        return self.proof.sample(now_ms, self.power_dw()) if self.proof.is_judging() else None

    def _look_at_sun(self, now_ms: int, clock: "Clock") -> None:
        if self._sun_ms is not None and 0 <= now_ms - self._sun_ms < _SUN_MS:
            return
        self._sun_ms = now_ms
        unix = clock.now()
        place = self._place
        self._is_sun_up = unix is not None and place is not None and elevation_centideg(unix, place[0], place[1]) > 0

    def keep_energy(self, now_ms: int) -> None:
        """Put the energy total on flash, once an hour if it changed. A refusal is tried again an hour later."""
        if self._energy_ms is None:
            self._energy_ms = now_ms
        if 0 <= now_ms - self._energy_ms < _ENERGY_SAVE_MS:
            return
        self._energy_ms = now_ms
        energy_wh = self.energy_wh()
        if energy_wh is None or energy_wh == self._energy_kept_wh:
            return
        if self._settings.is_kept(self._energy_name, energy_wh):
            self._energy_kept_wh = energy_wh
