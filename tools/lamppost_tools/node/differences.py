"""What two configurations of a node differ in, key by key. Only what differs in effect: a key that is left out is its default."""

from collections.abc import Mapping
from typing import Any

from lamppost_protocol.radio_limits import RADIOS

from lamppost_tools.node.config_keys import AIR_DEFAULTS, DST_RULES, FIXTURE_KEYS, LORA_KEYS, NODE_KEYS

#: (part, key): part "" is the node's own, "lora", or a fixture's name as in topics; key "" is the part itself, which is there.
KeyPath = tuple[str, str]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line a key whose value is another one: `report_s: 60 -> 120`, `bin.depth_mm: none -> 900`; a fixture that comes or goes."""
    before, after = flat(old), flat(new)
    return [f"{in_words(path)}: {_word(before.get(path))} -> {_word(after.get(path))}" for path in changed(before, after)]


def changed(before: Mapping[KeyPath, Any], after: Mapping[KeyPath, Any]) -> list[KeyPath]:
    """Where two flat configurations differ, sorted by what it is called."""
    return sorted((path for path in {*before, *after} if before.get(path) != after.get(path)), key=in_words)


def flat(config: Mapping[str, Any]) -> dict[KeyPath, Any]:
    """Every value by its path, defaults filled in."""
    found: dict[KeyPath, Any] = {("", "dst"): DST_RULES[0], ("", "radio"): RADIOS[0]}
    found |= _filled(config, NODE_KEYS, "")
    for fixture in config.get("fixtures", ()):
        found |= _filled(fixture, FIXTURE_KEYS.get(str(fixture.get("kind")), ()), fixture_name(fixture))
    lora = config.get("lora")
    if lora is not None:
        found |= {("", name): default for name, default in AIR_DEFAULTS if name not in config}
        found |= _filled(lora, LORA_KEYS, "lora")
    return found


def fixture_name(fixture: Mapping[str, Any]) -> str:
    """A fixture's name as in topics: `lamp`, `lamp.1`."""
    kind, instance = fixture.get("kind"), fixture.get("instance", 0)
    return f"{kind}.{instance}" if instance else str(kind)


def in_words(path: KeyPath) -> str:
    """`report_s`, `lamp.1.report_s`, `lora`."""
    return ".".join(part for part in path if part)


def _filled(values: Mapping[str, Any], keys: Any, part: str) -> dict[KeyPath, Any]:
    filled: dict[KeyPath, Any] = {(part, ""): "there"} if part else {}
    filled.update({(part, key.name): key.default for key in keys})
    filled.update({(part, name): value for name, value in values.items() if name not in ("fixtures", "lora", "kind", "instance")})
    return filled


def _word(value: Any) -> str:
    return "none" if value is None else str(value)
