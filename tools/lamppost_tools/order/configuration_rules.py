"""What of a node's configuration an order may change: one table, every key in it, and the check of a request by it.

A request comes from whoever may publish on the broker. So only those keys are left to orders whose worst allowed value neither cuts a node
off, nor makes a lamp darker than the city's policy, nor gives a reading another meaning. The rest wants a visit with the cable, where the
new configuration is tested on the board. What is signed is the configuration that was enrolled with the allowed changes in it, never
the request's own.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, NamedTuple

from lamppost_protocol.elision import HEAD_BYTES, PIECE_BYTES
from lamppost_protocol.limits import MAX_PAYLOAD_BYTES, MAX_PIECES
from lamppost_protocol.radio_limits import RADIOS
from lamppost_protocol.regions import check_radio, most_packet_bytes

from lamppost_tools.errors import RefusedError, UsageError
from lamppost_tools.node.air import check_chip, checked_lora, downlink_of
from lamppost_tools.node.config import sleeps
from lamppost_tools.node.config_keys import DST_RULES
from lamppost_tools.node.differences import KeyPath, changed, fixture_name, flat, in_words
from lamppost_tools.order.refusal import RequestRefusedError


class Cable(NamedTuple):
    """Only by cable, and why."""

    why: str


class Within(NamedTuple):
    """A new value by order, both bounds allowed; `asleep_low` in place of `low` on a node that sleeps.

    zero: "allowed" beside the bounds, or "fixed": what is 0 stays 0, and what is not does not become it.
    """

    low: int
    high: int
    asleep_low: int | None = None
    zero: Literal["", "allowed", "fixed"] = ""


class OneOf(NamedTuple):
    """A new text by order."""

    words: tuple[str, ...]


Rule = Cable | Within | OneOf

_WHOSE = Cable("whose the node is, and what it is")
_PLACE = Cable("when its nights are")
_REACH = Cable("how it reaches its gateway, and the law")
_METER = Cable("what its readings mean")
_LIGHT = Cable("what the lamp gets")
_JUDGED = Cable("when an order counts as verified, and what is a fault")
_PERIOD = Within(10, 3_600, asleep_low=300)
_OWN_PERIOD = Within(10, 3_600, asleep_low=300, zero="allowed")

#: By part of the configuration; key "": whether the part is there at all.
RULES: dict[str, dict[str, Rule]] = {
    "": {
        "network": _WHOSE,
        "bridge": _WHOSE,
        "latitude_udeg": _PLACE,
        "longitude_udeg": _PLACE,
        "utc_offset_s": _PLACE,
        "dst": OneOf(DST_RULES),
        "report_s": _PERIOD,
        "health_s": _PERIOD,
        "hello_s": Within(5, 3_600, asleep_low=600),
        "beacon_s": Within(60, 21_600, asleep_low=3_600),
        "spool_bytes": Cable("a smaller ring loses what nobody has acknowledged yet"),
        "frame_records": Within(1, 16),
        "drift_ppm": Cable("how far its clock is believed"),
        "sleep_drift_ppm": Cable("how far its clock is believed"),
        "radio": _REACH,
        "tcxo_mv": _REACH,
    },
    "lora": {
        "": _REACH,
        "region": _REACH,
        "channels_hz": _REACH,
        "bandwidth_hz": _REACH,
        "spreading_factor": _REACH,
        "fastest_spreading_factor": Within(7, 12),
        "coding_rate": Within(1, 4),
        "power_dbm": _REACH,
        "least_power_dbm": Within(-9, 22),
        "antenna_dbi": _REACH,
        "listen_ms": Within(5, 100),
        "busy_dbm": _REACH,
        "downlink_hz": _REACH,
        "downlink_bandwidth_hz": _REACH,
        "downlink_spreading_factor": _REACH,
        "listens_always": _REACH,
        "spread_s": Within(60, 3_600),
        "resend_s": Within(5, 600),
        "gather_s": Within(0, 3_600),
    },
    "lamp": {
        "": _WHOSE,
        "safe_level_percent": Within(20, 100),  # and the policy
        "floor_percent": Within(10, 100),
        "power_on_level_percent": Within(20, 100),  # and the policy
        "power_on_s": Within(0, 900),
        "ramp_up_percent_per_s": Within(1, 100),
        "ramp_down_percent_per_s": Within(1, 100),
        "stagger_s": Within(0, 300),
        "clock_limit_s": Within(60, 7_200),
        "lease_limit_s": Within(60, 604_800),
        "report_s": _OWN_PERIOD,
        "sample_s": Within(1, 60),
        "settle_s": Within(0, 600),
        "verify_s": Within(10, 600),
        "verify_tolerance_permille": _JUDGED,
        "verify_tolerance_dw": _JUDGED,
        "warm_up_s": Within(0, 600),
        "fault_samples": _JUDGED,
        "fault_window": _JUDGED,
        "relay": _LIGHT,
        "meter": _METER,
        "meter_per_volt": _METER,
        "meter_per_ampere": _METER,
        "meter_per_watt": _METER,
        "meter_per_watt_hour": _METER,
        "control_10_mv": _LIGHT,
        "control_25_mv": _LIGHT,
        "control_50_mv": _LIGHT,
        "control_75_mv": _LIGHT,
        "control_100_mv": _LIGHT,
        "power_0_dw": _JUDGED,
        "power_10_dw": _JUDGED,
        "power_25_dw": _JUDGED,
        "power_50_dw": _JUDGED,
        "power_75_dw": _JUDGED,
        "power_100_dw": _JUDGED,
    },
    "bin": {
        "": _WHOSE,
        "report_s": _OWN_PERIOD,
        "watch_s": Within(1, 10),
        "sleep_s": Within(30, 900, zero="fixed"),
        "height_mm": _METER,
        "full_mm": _METER,
        "full_percent": Within(50, 95),
        "burst": Within(5, 11),
        "spread_mm": _METER,
        "upright_x_mg": _METER,
        "upright_y_mg": _METER,
        "upright_z_mg": _METER,
    },
    "air": {
        "": _WHOSE,
        "report_s": _OWN_PERIOD,
        "samples": Within(1, 10),
        "duty_cycle": Within(0, 1),
    },
}
#: What a lamp may show in doubt and after a start: never below the authority's policy, whatever it was before.
LEAST_LIGHT = ("safe_level_percent", "power_on_level_percent")
_ORDER_BYTES = 4 + 4 + 64  # issuer, `tx` and signature around a payload on the air (WIRE.md 12)
_MOST_PART_BYTES = 974  # of all pieces but the last (WIRE.md 12.1)
_MOST_BITS = 64  # Python refuses to write numbers of thousands of digits
_SHORTER = "leave out of the site file what is at its default, or change this node by cable: lamppost commission"


def agree_configuration(asked: Mapping[str, Any], held: Any, least_light_percent: int) -> dict[str, Any]:
    """The enrolled configuration `held` with what `asked` changes of it. Raises RequestRefusedError naming all that it must not."""
    if not isinstance(held, dict) or not isinstance(held.get("fixtures"), list):
        raise RequestRefusedError("unknown_configuration", "it was enrolled before configurations were kept: lamppost commission, once")
    _check_shape(asked, held)
    before, after = flat(held), flat(asked)
    agreed = deepcopy(held)
    is_asleep = sleeps(held)
    refused: dict[str, list[str]] = {"only_by_cable": [], "out_of_bounds": [], "below_safe_level": []}
    for path in changed(before, after):
        rule = RULES[_table(path)].get(path[1])
        old, new = before.get(path), after.get(path)
        told = f"{in_words(path)}: {_short(old)} -> {_short(new)}"
        if rule is None:
            raise RequestRefusedError("bad_configuration", f"{in_words(path)[:80]}: unknown key")
        if isinstance(rule, Cable):
            refused["only_by_cable"].append(f"{told} ({rule.why})")
        elif (allowed := _allowed(rule, old, new, is_asleep)) is not None:
            refused["out_of_bounds"].append(f"{told} ({allowed})")
        else:
            _set(agreed, path, new if path[1] in _part(asked, path[0]) else None)
    for path, level in flat(agreed).items():
        if path[1] in LEAST_LIGHT and level < least_light_percent:
            refused["below_safe_level"].append(
                f"{in_words(path)}: {level}, the city's least is {least_light_percent} (min_safe_level_percent)"
            )
    for reason, lines in refused.items():
        if lines:
            raise RequestRefusedError(reason, "; ".join(line for found in refused.values() for line in found))
    _check_lora(agreed)
    return agreed


def check_room(payload_bytes: int, config: Mapping[str, Any]) -> None:
    """Raises RequestRefusedError for an order that no frame holds, or that no 16 lawful packets carry to a node on the air."""
    if payload_bytes > MAX_PAYLOAD_BYTES:
        raise RequestRefusedError("too_long", f"{payload_bytes} octets in the order, {MAX_PAYLOAD_BYTES} fit: {_SHORTER}")
    if "lora" in config:
        downlink = downlink_of(config["lora"], config.get("radio", RADIOS[0]))
        most_bytes = min(most_packet_bytes(band, downlink) for band in check_radio(downlink))
        room_bytes = min(MAX_PIECES * (most_bytes - HEAD_BYTES - PIECE_BYTES), _MOST_PART_BYTES)
        if payload_bytes + _ORDER_BYTES > room_bytes:
            most = room_bytes - _ORDER_BYTES
            raise RequestRefusedError("too_long", f"{payload_bytes} octets in the order, {most} reach a node over its air: {_SHORTER}")


def _check_shape(asked: Mapping[str, Any], held: Mapping[str, Any]) -> None:
    """The same fixtures, and a radio or none as before; whatever else `asked` holds is looked at key by key."""
    fixtures, lora = asked.get("fixtures"), asked.get("lora")
    if not isinstance(fixtures, list) or not all(isinstance(one, dict) for one in fixtures):
        raise RequestRefusedError("bad_configuration", "fixtures: a list of tables is needed")
    if not isinstance(lora, dict | None):
        raise RequestRefusedError("bad_configuration", "lora: a table is needed")
    wanted, known = (sorted(fixture_name(one) for one in found) for found in (fixtures, held["fixtures"]))
    if wanted != known:
        raise RequestRefusedError("only_by_cable", f"fixtures: {', '.join(known)} -> {_short(', '.join(wanted))} ({_WHOSE.why})")
    if (lora is None) != (held.get("lora") is None):
        raise RequestRefusedError("only_by_cable", f"lora: {'goes' if lora is None else 'comes'} ({_REACH.why})")


def _allowed(rule: Within | OneOf, old: Any, new: Any, is_asleep: bool) -> str | None:
    """What is allowed, in words, where `new` is not."""
    if isinstance(rule, OneOf):
        return None if isinstance(new, str) and new in rule.words else "one of " + ", ".join(rule.words)
    low = rule.asleep_low if is_asleep and rule.asleep_low is not None else rule.low
    is_whole = type(new) is int
    if is_whole and rule.zero == "fixed" and (old == 0 or new == 0):
        return "0 comes and goes by cable only"
    if is_whole and (low <= new <= rule.high or (rule.zero == "allowed" and new == 0)):
        return None
    return f"by order {low} to {rule.high}" + (" on a node that sleeps" if low != rule.low else "")


def _check_lora(config: Mapping[str, Any]) -> None:
    """Raises RequestRefusedError for a radio that breaks the law, or that the chip does not do."""
    if "lora" not in config:
        return
    try:
        name = config.get("radio", RADIOS[0])
        check_chip(name, checked_lora(config["lora"], name))
    except (UsageError, RefusedError) as error:
        raise RequestRefusedError("bad_configuration", f"{error.what}; {error.next_step}") from None


def _part(config: Mapping[str, Any], part: str) -> Any:
    """The map that a path's first half names."""
    if part == "":
        return config
    if part == "lora":
        return config["lora"]
    return next(one for one in config["fixtures"] if fixture_name(one) == part)


def _set(config: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Put a value at its place; None: away, so that the key is its default."""
    part = _part(config, path[0])
    part.pop(path[1], None)
    if value is not None:
        part[path[1]] = value


def _table(path: KeyPath) -> str:
    return path[0].partition(".")[0]


def _short(value: Any) -> str:
    if type(value) is int and value.bit_length() > _MOST_BITS:
        return "a number too long"
    return "none" if value is None else str(value)[:80]
