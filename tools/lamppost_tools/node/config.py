"""A node's configuration from a small TOML file (or from a list of fixture names) to the map its `config.cbor` holds.

The node validates every key again against its fixtures and keeps its last good configuration; here only what would make
the file unreadable there is refused: unknown top keys, floats, long or non-ASCII text, fixtures that repeat.
"""

import tomllib
from pathlib import Path
from typing import Any

from lamppost_protocol import cbor, profiles
from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.radio_limits import RADIOS

from lamppost_tools.errors import MissingError, UsageError
from lamppost_tools.node.air import check_chip, check_room, checked_lora
from lamppost_tools.node.config_keys import DST_RULES, FIXTURE_KEYS, MAX_INSTANCE, NODE_KEYS

FIXTURE_KINDS = tuple(FIXTURE_KEYS)
_MICRODEGREES = 1_000_000
#: The node's own keys besides place, clock rule and fixtures; the node checks their ranges.
_INTEGER_KEYS = tuple(key.name for key in NODE_KEYS if not key.name.endswith("_udeg") and key.name != "network")
_ADVICE = "see `lamppost node enrol --help` for an example"


def load_node_config(path: Path, network: int) -> tuple[dict[str, Any], str | None]:
    """Read a node TOML: (configuration map, asset name or None). Raises MissingError, or UsageError naming the key."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"{path} does not exist", _ADVICE) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}", _ADVICE) from None
    try:
        config, asset = node_config(raw, network)
        if sleeps(config) and "lora" not in config:
            raise UsageError("sleep_s without [lora]: a cable is listened to", "leave sleep_s out, or add the radio")
    except UsageError as error:
        raise UsageError(f"{path}: {error.what}", error.next_step) from None
    return config, asset


def config_of_fixtures(names: list[str], network: int) -> dict[str, Any]:
    """The default configuration of fixtures given as names: `lamp`, `bin`, `lamp.1`."""
    fixtures = []
    for name in names:
        kind, _, instance = name.partition(".")
        if instance and not instance.isdecimal():
            raise UsageError(f"fixture {name!r}: after the dot comes the instance number", _ADVICE)
        fixtures.append({"kind": kind, "instance": int(instance or 0)})
    return node_config({"fixtures": fixtures}, network)[0]


def node_config(raw: dict[str, Any], network: int) -> tuple[dict[str, Any], str | None]:
    """Turn a parsed TOML document into (configuration map, asset). Raises UsageError naming the key."""
    rest = dict(raw)
    asset = rest.pop("asset", None)
    config: dict[str, Any] = {"network": network}
    for name in ("latitude", "longitude"):
        degrees = rest.pop(f"{name}_deg", None)
        if degrees is not None:
            config[f"{name}_udeg"] = _microdegrees(name, degrees)
    dst = rest.pop("dst", None)
    if dst is not None:
        if dst not in DST_RULES:
            raise UsageError(f"dst: one of {', '.join(DST_RULES)}", _ADVICE)
        config["dst"] = dst
    radio = rest.pop("radio", None)
    if radio is not None:
        if radio not in RADIOS:
            raise UsageError(f"radio: one of {', '.join(RADIOS)}", _ADVICE)
        config["radio"] = radio
    for name in _INTEGER_KEYS:
        if name in rest:
            config[name] = _integer(name, rest.pop(name))
    lora = rest.pop("lora", None)
    name = config.get("radio", RADIOS[0])
    if lora is not None:
        config["lora"] = checked_lora(lora, name)
        check_chip(name, config["lora"])
    config["fixtures"] = [_fixture(item) for item in rest.pop("fixtures", [])]
    if lora is not None:
        check_room(name, config["fixtures"])
    if rest:
        raise UsageError(f"unknown key(s): {', '.join(sorted(rest))}", _ADVICE)
    names = fixture_names(config)
    if not names:
        raise UsageError("fixtures: at least one is needed", _ADVICE)
    if len(set(names)) != len(names):
        raise UsageError(f"fixtures: {', '.join(names)}: one repeats, give each its own instance", _ADVICE)
    awake = [name for name, item in zip(names, config["fixtures"], strict=True) if not item.get("sleep_s")]
    if sleeps(config) and awake:
        raise UsageError(f"sleep_s: a node sleeps as a whole, and {', '.join(awake)} does not", "leave sleep_s out, or split the node")
    try:
        cbor.encode(config)
    except ProtocolError as error:
        raise UsageError(f"cannot be written for a node: {error}", "use integers, true, false and plain ASCII text") from None
    return config, None if asset is None else str(asset)


def sleeps(config: dict[str, Any]) -> bool:
    """Whether a node of this configuration sleeps between what it has to do."""
    return any(item.get("sleep_s") for item in config["fixtures"])


def fixture_names(config: dict[str, Any]) -> list[str]:
    """Names of a configuration's fixtures as in topics: `lamp`, `lamp.1`."""
    return [item["kind"] if item["instance"] == 0 else f"{item['kind']}.{item['instance']}" for item in config["fixtures"]]


def _fixture(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict) or item.get("kind") not in FIXTURE_KINDS:
        raise UsageError(f"fixtures: each needs kind = one of {', '.join(FIXTURE_KINDS)}", _ADVICE)
    profiles.by_name(item["kind"])  # every kind is a profile's name
    fixture = {name: _value(f"{item['kind']}.{name}", value) for name, value in item.items()}
    if "sleep_s" in fixture and "sleep_s" not in [key.name for key in FIXTURE_KEYS[item["kind"]]]:
        raise UsageError(f"{item['kind']}.sleep_s: a {item['kind']} never sleeps", "leave it out")
    fixture["instance"] = _integer("instance", item.get("instance", 0))
    if not 0 <= fixture["instance"] <= MAX_INSTANCE:
        raise UsageError(f"instance: 0 to {MAX_INSTANCE}", _ADVICE)
    return fixture


def _value(name: str, value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) or (isinstance(value, str) and value.isascii()):
        return value
    if isinstance(value, list):
        return [_value(name, part) for part in value]
    raise UsageError(f"{name}: integers, true, false, plain text or lists of these; no fractions", _ADVICE)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name}: a whole number is needed", _ADVICE)
    return value


def _microdegrees(name: str, degrees: Any) -> int:
    limit = 90 if name == "latitude" else 180
    if isinstance(degrees, bool) or not isinstance(degrees, (int, float)) or not -limit <= degrees <= limit:
        raise UsageError(f"{name}_deg: a number from -{limit} to {limit}", _ADVICE)
    return round(degrees * _MICRODEGREES)
