"""The radio of one node: its configuration's map `lora` held against the law, and the accounts it starts with."""

from typing import Any

from lamppost_protocol.radio_limits import RADIOS, fixture_problem, lora_problems, wrap_of
from lamppost_protocol.regions import Radio, UnlawfulError, check_radio

from lamppost_tools.errors import UsageError
from lamppost_tools.node.config_keys import LORA_KEYS, SENSOR_PINS

_ADVICE = "see `lamppost site new` for a whole [lora]"


def _complete(lora: dict[str, Any]) -> dict[str, Any]:
    return {key.name: lora.get(key.name, key.default) for key in LORA_KEYS}


def radio_of(lora: dict[str, Any], name: str = RADIOS[0]) -> Radio:
    """The radio in a map `lora` at its slowest, defaults filled in. `name`: one of RADIOS."""
    values = _complete(lora)
    return Radio(
        lora["region"], tuple(lora["channels_hz"]), values["bandwidth_hz"], values["spreading_factor"],
        values["coding_rate"], wrap_of(name), values["power_dbm"], values["antenna_dbi"], values["listen_ms"] * 1000,
    )  # fmt: skip


def downlink_of(lora: dict[str, Any], name: str = RADIOS[0]) -> Radio:
    """The gateway's radio, as far as the nodes' map `lora` says: where and how it answers."""
    values = _complete(lora)
    return radio_of(lora, name)._replace(
        channels_hz=(values["downlink_hz"],),
        bandwidth_hz=values["downlink_bandwidth_hz"],
        spreading_factor=values["downlink_spreading_factor"],
    )


def checked_lora(raw: Any, name: str = RADIOS[0]) -> dict[str, Any]:
    """A TOML table `lora` as a node with this radio takes it. Raises UsageError naming the key, or the paragraph that forbids it."""
    if not isinstance(raw, dict) or not isinstance(raw.get("region"), str):
        raise UsageError('lora: a table with region = "EU868" or another is needed', _ADVICE)
    channels_hz = raw.get("channels_hz")
    if not isinstance(channels_hz, list) or not channels_hz or not all(type(item) is int for item in channels_hz):
        raise UsageError("lora.channels_hz: a list of whole numbers in Hz is needed", _ADVICE)
    known = {key.name: key for key in LORA_KEYS}
    for name, value in raw.items():
        if name in ("region", "channels_hz"):
            continue
        if name not in known:
            raise UsageError(f"lora.{name}: unknown key", f"known: {', '.join(known)}")
        if type(value) is not int or not known[name].low <= value <= known[name].high:
            raise UsageError(f"lora.{name}: a whole number from {known[name].low:,} to {known[name].high:,} is needed", _ADVICE)
    for name, key in known.items():
        if key.default is None and name not in raw:
            raise UsageError(f"lora.{name} is missing", _ADVICE)
    for least, most in (("fastest_spreading_factor", "spreading_factor"), ("least_power_dbm", "power_dbm")):
        if least in raw and raw[least] > raw.get(most, known[most].default):
            raise UsageError(f"lora.{least} must not be above {most}", f"leave it out, or lower it to {raw.get(most, known[most].default)}")
    try:
        check_radio(radio_of(raw, name))
        check_radio(downlink_of(raw, name))
    except UnlawfulError as error:
        raise UsageError("lora: unlawful: " + error.detail.removesuffix("; " + error.next_step), error.next_step) from None
    return dict(raw)


def check_chip(name: str, lora: dict[str, Any]) -> None:
    """Hold a map `lora` against the radio that is to send it. Raises UsageError naming the first key that it has not."""
    for key, what, next_step in lora_problems(name, {**_complete(lora), "channels_hz": lora["channels_hz"]}):
        raise UsageError(f"lora.{key}: {what}", f"{next_step}, or change radio = {name!r}")


def check_room(name: str, fixtures: list[dict[str, Any]]) -> None:
    """See that the board has room for these fixtures beside this radio. Raises UsageError."""
    for fixture in fixtures:
        problem = fixture_problem(name, fixture["kind"])
        if problem is not None:
            pins = " and ".join(f"GPIO {pin}" for pin in SENSOR_PINS.values())
            raise UsageError(f"radio: {problem} (the sensor's is {pins})", "choose a radio on SPI, or a cable")


def accounts(lora: dict[str, Any]) -> list[str]:
    """Names of the airtime accounts a new node starts with at 0: one for each sub-band. Without one it would wait for an hour."""
    bands = check_radio(radio_of(lora))
    return sorted({"airtime." + band.name for band in bands if band.airtime_us is not None and not band.is_per_channel})
