"""Where the sun is: sunset, sunrise and elevation from place and time, within two minutes up to 65 degrees of latitude.

Times are integers; floats carry angles and minutes of a day only, so that the 32-bit floats of an ESP32 suffice (24 bits of
mantissa: a unix time does not fit, an angle below 360 keeps 0.00003 degrees). Long-running angles are reduced modulo 360 degrees
in integers first.

Ref: J. Meeus, Astronomical Algorithms, 2nd ed., chapters 25 (solar coordinates, low accuracy: 0.01 degree) and 28 (equation of
time); the same formulas are NOAA's solar calculator. Zenith of sunrise and sunset 90.833 degrees: refraction 34', semidiameter
16'.
"""

import math

from lamppost_protocol.compat import const

POLAR_DAY = "polar_day"
POLAR_NIGHT = "polar_night"

_SUNSET_ELEVATION_DEG = const(-0.833)
_J2000_UNIX_MIN = const(15778800)  # 2000-01-01T12:00Z, in minutes since 1970
_CENTURY_MIN = const(52596000)  # 36525 days
_DAY_MIN = const(1440)
_CIRCLE_UDEG = const(360000000)
# At t minutes after J2000: at_zero + t * rate / century, in microdegrees (Meeus 25.2, 25.3, and 25.8's ascending node of the moon)
_LONGITUDE_UDEG = const(280466460)
_LONGITUDE_RATE = const(36000769830)
_ANOMALY_UDEG = const(357529110)
_ANOMALY_RATE = const(35999050290)
_NODE_UDEG = const(125040000)
_NODE_RATE = const(-1934136000)
_ITERATIONS = const(5)


def _angle(at_zero_udeg: int, rate_udeg_century: int, minute: int) -> float:
    """Radians, 0..2 pi, of an angle that grows evenly since J2000."""
    return math.radians((at_zero_udeg + rate_udeg_century * minute // _CENTURY_MIN) % _CIRCLE_UDEG / 1000000)


def _sun(minute: int) -> tuple[float, float]:
    """Return (declination in radians, equation of time in minutes, true minus mean) `minute` minutes after J2000."""
    century = minute / _CENTURY_MIN
    mean_longitude = _angle(_LONGITUDE_UDEG, _LONGITUDE_RATE, minute)
    anomaly = _angle(_ANOMALY_UDEG, _ANOMALY_RATE, minute)
    node = _angle(_NODE_UDEG, _NODE_RATE, minute)
    eccentricity = 0.016708634 - 0.000042037 * century
    centre_deg = (1.914602 - 0.004817 * century) * math.sin(anomaly) + 0.019993 * math.sin(2 * anomaly) + 0.000289 * math.sin(3 * anomaly)
    apparent = mean_longitude + math.radians(centre_deg - 0.00569 - 0.00478 * math.sin(node))
    obliquity = math.radians(23.439291 - 0.0130042 * century + 0.00256 * math.cos(node))
    declination = math.asin(math.sin(obliquity) * math.sin(apparent))
    y = math.tan(obliquity / 2)
    y *= y
    equation = (
        y * math.sin(2 * mean_longitude)
        - 2 * eccentricity * math.sin(anomaly)
        + 4 * eccentricity * y * math.sin(anomaly) * math.cos(2 * mean_longitude)
        - y * y / 2 * math.sin(4 * mean_longitude)
        - 1.25 * eccentricity * eccentricity * math.sin(2 * anomaly)
    )
    return declination, math.degrees(equation) * 4


def _noon_offset_min(near_min: int, longitude_udeg: int) -> float:
    """Minutes from `near_min` (since J2000) to the nearest mean solar noon at this longitude, -720..720."""
    mean_solar_min = (near_min * 250000 + longitude_udeg) % 360000000 / 250000  # J2000 began at noon: 0 is noon
    return -mean_solar_min if mean_solar_min <= 720 else _DAY_MIN - mean_solar_min


def _event_s(noon_unix: int, latitude_udeg: int, longitude_udeg: int, side: int) -> int | str:
    near_min = noon_unix // 60 - _J2000_UNIX_MIN
    noon_offset = _noon_offset_min(near_min, longitude_udeg)
    latitude = math.radians(latitude_udeg / 1000000)
    sine = math.sin(latitude)
    cosine = math.cos(latitude)
    horizon = math.sin(math.radians(_SUNSET_ELEVATION_DEG))
    offset = noon_offset + side * 360
    cos_hour = 0.0
    for _ in range(_ITERATIONS):
        declination, equation = _sun(near_min + round(offset))
        cos_hour = (horizon - sine * math.sin(declination)) / max(cosine * math.cos(declination), 0.00001)
        hour_deg = math.degrees(math.acos(min(1.0, max(-1.0, cos_hour))))
        offset = noon_offset - equation + side * 4 * hour_deg
    if cos_hour > 1:
        return POLAR_NIGHT
    if cos_hour < -1:
        return POLAR_DAY
    return round(offset * 60)


def sunset_s(noon_unix: int, latitude_udeg: int, longitude_udeg: int) -> int | str:
    """Return the seconds from `noon_unix` to the sunset after the solar noon nearest to it, or POLAR_DAY or POLAR_NIGHT.

    noon_unix: unix seconds, 2000..2100, any instant near local noon. latitude_udeg -90000000..90000000, longitude_udeg
    -180000000..180000000, east positive. Computes about 40 sines: call it once a day.
    """
    return _event_s(noon_unix, latitude_udeg, longitude_udeg, 1)


def sunrise_s(noon_unix: int, latitude_udeg: int, longitude_udeg: int) -> int | str:
    """Return the seconds from `noon_unix` to the sunrise before the solar noon nearest to it (negative); else as `sunset_s`."""
    return _event_s(noon_unix, latitude_udeg, longitude_udeg, -1)


def elevation_centideg(unix: int, latitude_udeg: int, longitude_udeg: int) -> int:
    """Return the sun's geometric elevation in 0.01 degree, -9000..9000, without refraction."""
    minute = unix // 60 - _J2000_UNIX_MIN
    declination, equation = _sun(minute)
    latitude = math.radians(latitude_udeg / 1000000)
    hour = math.radians((equation - _noon_offset_min(minute, longitude_udeg)) / 4)
    sine = math.sin(latitude) * math.sin(declination) + math.cos(latitude) * math.cos(declination) * math.cos(hour)
    return round(math.degrees(math.asin(min(1.0, max(-1.0, sine)))) * 100)
