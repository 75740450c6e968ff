"""One small physical world: sun, weather, traffic, particles, waste, mains. Every value is a function of seed and time.

Two clocks: `now_s`, the bench's own seconds, in which chips and lamps live, and `unix_s`, the street's time, which
`time_factor` may run faster. No clock is read here. Values are plausible, not a forecast: only the sun is exact.
"""

import math

HOUR_S = 3600
DAY_S = 86400
_COLLECTION_EVERY_DAYS = 3
_COLLECTION_HOUR = 6
# Vehicles an hour, weekday, by local solar hour: two rushes.
_TRAFFIC = (30, 20, 15, 15, 40, 130, 420, 850, 900, 620, 520, 540, 600, 580, 560, 640, 820, 980, 860, 560, 380, 260, 150, 70)
# Millimetres of waste an hour in an average bin: lunch and evening.
_WASTE_MM = (2, 1, 0, 0, 0, 1, 4, 10, 14, 12, 12, 22, 34, 26, 16, 16, 18, 24, 26, 22, 16, 12, 8, 4)
_MASK = 0xFFFFFFFFFFFFFFFF

OVERRIDES = ("sun_elevation_deg", "temperature_c", "humidity_percent", "pm25_ug_m3", "mains_voltage_v")


def _hash(value: int) -> int:
    """Splitmix64 finaliser: 64 well mixed bits of an integer."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def uniform(seed: int, channel: int, index: int) -> float:
    """A number in 0..1 (1 excluded), always the same for the same three."""
    return (_hash(_hash(_hash(seed & _MASK) ^ channel) ^ (index & _MASK)) >> 11) / float(1 << 53)


def sun_elevation_deg(unix_s: float, latitude_deg: float, longitude_deg: float) -> float:
    """Geometric elevation of the sun's centre, -90..90, within 0.02 degrees for 1950..2050.

    Ref: Astronomical Almanac, low-precision formulas for the sun's coordinates.
    """
    days = unix_s / DAY_S + 2440587.5 - 2451545.0
    anomaly = math.radians((357.528 + 0.9856003 * days) % 360)
    longitude = math.radians((280.460 + 0.9856474 * days + 1.915 * math.sin(anomaly) + 0.020 * math.sin(2 * anomaly)) % 360)
    obliquity = math.radians(23.439 - 0.0000004 * days)
    declination = math.asin(math.sin(obliquity) * math.sin(longitude))
    right_ascension = math.atan2(math.cos(obliquity) * math.sin(longitude), math.cos(longitude))
    sidereal_deg = (280.46061837 + 360.98564736629 * days + longitude_deg) % 360
    hour_angle = math.radians(sidereal_deg) - right_ascension
    latitude = math.radians(latitude_deg)
    return math.degrees(
        math.asin(math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(hour_angle))
    )


class Street:
    """The world all cabinets of one bench share."""

    def __init__(
        self,
        seed: int,
        start_unix_s: float,
        time_factor: float = 1.0,
        latitude_deg: float = 48.8566,
        longitude_deg: float = 2.3522,
    ) -> None:
        self.seed = seed
        self.latitude_deg = latitude_deg
        self.longitude_deg = longitude_deg
        self.time_factor = time_factor
        self.overrides: dict[str, float] = {}
        self._base_now_s = 0.0
        self._base_unix_s = float(start_unix_s)

    def unix_s(self, now_s: float) -> float:
        """The street's time at the bench's time."""
        return self._base_unix_s + (now_s - self._base_now_s) * self.time_factor

    def set_time(self, now_s: float, unix_s: float | None = None, time_factor: float | None = None) -> None:
        """Jump to `unix_s` and/or run at `time_factor` street seconds a second from `now_s` on."""
        self._base_unix_s = self.unix_s(now_s) if unix_s is None else float(unix_s)
        self._base_now_s = now_s
        if time_factor is not None:
            self.time_factor = float(time_factor)

    def noise(self, channel: int, unix_s: float, period_s: float) -> float:
        """Smooth noise in -1..1 that changes over about `period_s`."""
        position = unix_s / period_s
        index = math.floor(position)
        part = position - index
        part = part * part * (3 - 2 * part)
        first, second = uniform(self.seed, channel, index), uniform(self.seed, channel, index + 1)
        return 2 * (first + (second - first) * part) - 1

    def _solar_hour(self, unix_s: float) -> float:
        return (unix_s / HOUR_S + self.longitude_deg / 15) % 24

    def sun_elevation_deg(self, unix_s: float) -> float:
        override = self.overrides.get("sun_elevation_deg")
        return sun_elevation_deg(unix_s, self.latitude_deg, self.longitude_deg) if override is None else override

    def illuminance_lx(self, unix_s: float) -> float:
        """Daylight on a horizontal face: about 100,000 lx at noon in summer, 3 at civil dusk, below 0.1 at night."""
        elevation_deg = self.sun_elevation_deg(unix_s)
        cloud = 0.6 + 0.4 * self.noise(1, unix_s, 2 * HOUR_S)
        if elevation_deg > 0:
            return max(400.0, 110000 * math.sin(math.radians(elevation_deg)) * (0.3 + 0.7 * cloud))
        return max(0.01, float(400 * 10 ** (elevation_deg * 0.35)))

    def temperature_c(self, unix_s: float) -> float:
        override = self.overrides.get("temperature_c")
        if override is not None:
            return override
        year = math.cos(2 * math.pi * (unix_s / DAY_S - 200) / 365.2425)
        day = math.cos(2 * math.pi * (self._solar_hour(unix_s) - 15) / 24)
        return 11.5 + 8.5 * year * math.copysign(1, self.latitude_deg) + 4.5 * day + 3 * self.noise(2, unix_s, DAY_S)

    def humidity_percent(self, unix_s: float) -> float:
        override = self.overrides.get("humidity_percent")
        if override is not None:
            return override
        day = math.cos(2 * math.pi * (self._solar_hour(unix_s) - 15) / 24)
        return min(99.0, max(15.0, 72 - 14 * day + 14 * self.noise(3, unix_s, 9 * HOUR_S)))

    def traffic_per_h(self, unix_s: float) -> float:
        """Vehicles an hour past the street."""
        hour = self._solar_hour(unix_s)
        first, second = _TRAFFIC[int(hour)], _TRAFFIC[(int(hour) + 1) % 24]
        weekend = (int(unix_s // DAY_S) + 3) % 7 >= 5
        flow = first + (second - first) * (hour % 1)
        return flow * (0.5 if weekend else 1.0) * (1 + 0.2 * self.noise(4, unix_s, 600))

    def pm25_ug_m3(self, unix_s: float) -> float:
        """Dry mass of particles below 2.5 um: background and traffic, both thinned by wind."""
        override = self.overrides.get("pm25_ug_m3")
        if override is not None:
            return override
        still_air = 1 + 0.6 * self.noise(5, unix_s, 8 * HOUR_S)
        return still_air * (6 + 0.012 * self.traffic_per_h(unix_s)) * (1 + 0.08 * self.noise(6, unix_s, 120))

    def mains_voltage_v(self, unix_s: float) -> float:
        override = self.overrides.get("mains_voltage_v")
        if override is not None:
            return override
        return 230 + 3.5 * self.noise(7, unix_s, 1800) + 0.6 * self.noise(8, unix_s, 7)

    def waste_mm(self, unix_s: float, bin_number: int, capacity_mm: float) -> float:
        """Height of the waste in one bin since its last collection (every third day at 6), 0..capacity."""
        start_s = self.last_collection_unix_s(unix_s, bin_number)
        height_mm = 20 * uniform(self.seed, 9 + 64 * bin_number, int(start_s // DAY_S))  # what sticks to the floor
        hour = int(start_s // HOUR_S)
        while hour * HOUR_S < unix_s and height_mm < capacity_mm:
            part = min(1.0, unix_s / HOUR_S - hour)
            rate_mm = _WASTE_MM[int(self._solar_hour(hour * HOUR_S))]
            height_mm += part * rate_mm * 2 * uniform(self.seed, 10 + 64 * bin_number, hour)
            hour += 1
        return min(height_mm, capacity_mm)

    def last_collection_unix_s(self, unix_s: float, bin_number: int) -> float:
        """When this bin was last emptied, at most three days ago."""
        offset_days = _hash(self.seed ^ bin_number) % _COLLECTION_EVERY_DAYS
        day = (unix_s - _COLLECTION_HOUR * HOUR_S) // DAY_S
        return (day - (day + offset_days) % _COLLECTION_EVERY_DAYS) * DAY_S + _COLLECTION_HOUR * HOUR_S

    def state(self, now_s: float) -> dict[str, float]:
        """The true values, for people and for tests."""
        unix_s = self.unix_s(now_s)
        return {
            "sun_elevation_deg": self.sun_elevation_deg(unix_s),
            "illuminance_lx": self.illuminance_lx(unix_s),
            "temperature_c": self.temperature_c(unix_s),
            "humidity_percent": self.humidity_percent(unix_s),
            "traffic_per_h": self.traffic_per_h(unix_s),
            "pm25_ug_m3": self.pm25_ug_m3(unix_s),
            "mains_voltage_v": self.mains_voltage_v(unix_s),
            "time_factor": self.time_factor,
        }
