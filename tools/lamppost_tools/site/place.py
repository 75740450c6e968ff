"""A place on Earth and its clock, and whether the two can belong together: a swapped or mistyped coordinate is noticed at the desk."""

from typing import Any

from lamppost_tools.node.config_keys import DST_RULES, NODE_KEYS
from lamppost_tools.site.document import Document
from lamppost_tools.site.toml_lines import Where
from lamppost_tools.site.values import choice, dotted, numbers, shown, unknown_keys

_KEYS = ("latitude_deg", "longitude_deg", "utc_offset_s", "dst")
_LIMITS_DEG = {"latitude_deg": 90, "longitude_deg": 180}
_DAY_S = 86_400
_DEG_S = _DAY_S // 360
#: No legal clock is further from the sun's: western China keeps 3 h 6 min, the Azores' kin less.
_FURTHEST_S = 12_000
#: Where each summer time rule is law, generously: (south, north, west, east) in degrees; eu reaches to Greenland and the Canaries.
_RULED_DEG = {"eu": (27, 84, -74, 46), "us": (17, 84, -180, -50)}


def check_place(document: Document, where: Where, raw: dict[str, Any], own: set[str] | None = None) -> dict[str, Any]:
    """The place's keys as node/config.py takes them; mistakes are noted. `own`: the keys that stand at `where`, None: all."""
    if not raw:
        return {}
    at = where if own is None else (*where, next(iter(sorted(own & set(_KEYS))), ""))
    unknown_keys(document, where, raw, _KEYS)
    found: dict[str, Any] = {}
    for name, limit in _LIMITS_DEG.items():
        value = raw.get(name)
        if name not in raw:
            document.wrong(where, f"{dotted((*where, name))} is missing", f"add it: degrees, -{limit} to {limit}")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not -limit <= value <= limit:
            document.wrong((*where, name), f"{dotted((*where, name))} = {shown(value)}", f"a number of degrees, -{limit} to {limit}")
        else:
            found[name] = value
    offset = next(key for key in NODE_KEYS if key.name == "utc_offset_s")
    found.update(numbers(document, where, raw, {"utc_offset_s": offset}))
    found["dst"] = choice(document, where, raw, "dst", "none", DST_RULES)
    if len(found) - ("utc_offset_s" in found) == 3 and ("utc_offset_s" in raw) == ("utc_offset_s" in found):
        why = implausible(found["latitude_deg"], found["longitude_deg"], found.get("utc_offset_s", 0), found["dst"])
        if why is not None:
            document.wrong(at if own else (*where, why[0]), f"{dotted(where)}: {why[1]}", why[2])
    return found


def implausible(latitude_deg: float, longitude_deg: float, utc_offset_s: int, dst: str) -> tuple[str, str, str] | None:
    """(key, what does not fit, what to do) of a place and a clock that cannot belong together; None when they can."""
    if latitude_deg == 0 and longitude_deg == 0:
        return "latitude_deg", "0, 0 is in the ocean off Ghana", "write where the street is"
    fit = _fits(latitude_deg, longitude_deg, utc_offset_s, dst)
    if fit is None:
        return None
    key, what, fix = fit
    is_swapped = abs(longitude_deg) <= 90 and _fits(longitude_deg, latitude_deg, utc_offset_s, dst) is None
    return key, what, "latitude and longitude look swapped" if is_swapped else fix


def _fits(latitude_deg: float, longitude_deg: float, utc_offset_s: int, dst: str) -> tuple[str, str, str] | None:
    if dst in _RULED_DEG:
        south, north, west, east = _RULED_DEG[dst]
        if not (south <= latitude_deg <= north and west <= longitude_deg <= east):
            place = f"{latitude_deg}, {longitude_deg}"
            return "dst", f'{place} has no summer time by the rule "{dst}"', 'correct the place, or write dst = "none"'
    sun_s = round(longitude_deg * _DEG_S)
    apart_s = (utc_offset_s - sun_s + _DAY_S // 2) % _DAY_S - _DAY_S // 2
    if abs(apart_s) > _FURTHEST_S:
        near_s = round(sun_s / 3600) * 3600
        what = f"longitude {longitude_deg} lives at about {_hours(sun_s)} from UTC, utc_offset_s says {_hours(utc_offset_s)}"
        return "utc_offset_s", what, f"correct the longitude, or write utc_offset_s = {near_s} or near (winter time)"
    return None


def _hours(seconds: int) -> str:
    return f"{'-' if seconds < 0 else '+'}{abs(seconds) // 3600}:{abs(seconds) // 60 % 60:02d} h"
