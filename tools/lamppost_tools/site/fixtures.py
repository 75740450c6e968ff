"""What hangs on a node: kinds, settings, pins, and what two fixtures cannot share."""

import itertools
from typing import Any

from lamppost_tools.node import config_keys
from lamppost_tools.node.config import fixture_names
from lamppost_tools.node.config_keys import Key
from lamppost_tools.site.document import Document
from lamppost_tools.site.schedules import schedule_named
from lamppost_tools.site.toml_lines import Where
from lamppost_tools.site.values import choice, dotted, numbers, shown, table, tables, unknown_keys

KINDS = tuple(config_keys.FIXTURE_KEYS)
_LEVELS = ("10", "25", "50", "75", "100")
#: Pairs of keys of which the first must not be above the second (bin: must be below).
_RISING: dict[str, tuple[tuple[str, str], ...]] = {
    "lamp": (
        ("fault_samples", "fault_window"),
        *((f"control_{a}_mv", f"control_{b}_mv") for a, b in itertools.pairwise(_LEVELS)),
        *((f"power_{a}_dw", f"power_{b}_dw") for a, b in itertools.pairwise(("0", *_LEVELS))),
    ),
    "bin": (("full_mm", "height_mm"),),
    "air": (),
}  # fmt: skip


def check_fixtures(
    document: Document, where: Where, raw: dict[str, Any], defaults: dict[str, dict[str, Any]], schedules: dict[str, list[Any]]
) -> tuple[list[dict[str, Any]], dict[str, list[Any]]]:
    """A node's fixtures with their settings, and the schedules of its lamps by fixture name; mistakes are noted."""
    listed = tables(document, where, raw, "fixtures")
    if not listed:
        document.wrong(where, f"{dotted((*where, 'fixtures'))}: at least one is needed", 'add fixtures = [{ kind = "lamp" }]')
    if len(listed) > config_keys.MAX_FIXTURES:
        document.wrong((*where, "fixtures"), f"{dotted((*where, 'fixtures'))}: {len(listed)}", f"at most {config_keys.MAX_FIXTURES} a node")
    made: list[dict[str, Any]] = []
    planned: dict[str, list[Any]] = {}
    parts: dict[str, str] = {}
    for i, item in enumerate(listed):
        at = (*where, "fixtures", i)
        kind = choice(document, at, item, "kind", None, KINDS)
        if item.get("kind") != kind:
            continue
        wanted = {
            "instance": Key("instance", 0, 0, config_keys.INSTANCES[kind] - 1, "", f"the board has pins for {config_keys.INSTANCES[kind]}")
        }
        instance = numbers(document, at, item, wanted).get("instance", 0)
        keys = {**defaults[kind], **fixture_keys(document, at, item, kind, schedules, ("kind", "instance", "wiring"), defaults[kind])}
        schedule = keys.pop("schedule", None)
        fixture = {"kind": kind, "instance": instance, **keys}
        name = fixture_names({"fixtures": [fixture]})[0]
        if schedule in schedules:
            planned[name] = schedules[schedule]
        elif kind == "lamp" and schedule is None:
            document.remark(
                at, f"{dotted(at)}: a lamp without a schedule", "it stays at its safe level day and night until an order brings one"
            )
        _share(document, at, name, fixture, parts)
        _wiring(document, at, item, fixture)
        made.append(fixture)
    return made, planned


def fixture_keys(
    document: Document, where: Where, raw: dict[str, Any], kind: str, schedules: dict[str, list[Any]],
    others: tuple[str, ...] = (), base: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The settings of one fixture, or of all of its kind; mistakes are noted. `base`: what holds where it says nothing."""
    keys = {key.name: key for key in config_keys.FIXTURE_KEYS[kind]}
    extra = ("schedule",) if kind == "lamp" else ()
    unknown_keys(document, where, raw, (*others, *extra, *keys))
    found: dict[str, Any] = dict(numbers(document, where, raw, keys))
    if kind == "lamp" and "schedule" in raw:
        found["schedule"] = schedule_named(document, (*where, "schedule"), raw["schedule"], schedules)
    complete: dict[str, Any] = {name: found.get(name, (base or {}).get(name, key.default)) for name, key in keys.items()}
    for lower, higher in _RISING[kind]:
        if (lower in found or higher in found) and complete[lower] >= complete[higher] + (kind == "lamp"):
            spoilt = lower if lower in found else higher
            what = f"{dotted((*where, spoilt))}: {lower} is {complete[lower]}, {higher} is {complete[higher]}"
            document.wrong(
                (*where, spoilt), what, f"{lower} must be below {higher}" if kind != "lamp" else f"{lower} must not be above {higher}"
            )
    return found


def _share(document: Document, at: Where, name: str, fixture: dict[str, Any], parts: dict[str, str]) -> None:
    """Note what of the board this fixture and an earlier one of the node both need."""
    for part in config_keys.own_parts(fixture["kind"], fixture["instance"], bool(fixture.get("meter", 1))):
        if part in parts:
            fix = "give one of them a node of its own"
            if parts[part] == name:
                fix = "leave one out, or give it another instance" if fixture["kind"] == "lamp" else "leave one out: " + fix
            elif part == "ADE7953 meter":
                fix = "set meter = 0 for one of them"
            document.wrong(at, f"{dotted(at)}: {parts[part]} and {name} both need the board's one {part}", fix)
        parts.setdefault(part, name)


def _wiring(document: Document, at: Where, item: dict[str, Any], fixture: dict[str, Any]) -> None:
    """Hold the pins that the file names against those the firmware uses."""
    wiring = table(document, at, item, "wiring")
    at = (*at, "wiring")
    pins = config_keys.pins_of(fixture["kind"], fixture["instance"], bool(fixture.get("relay", 1)), bool(fixture.get("meter", 1)))
    unknown_keys(document, at, wiring, tuple(pins))
    seen: dict[int, str] = {}
    for signal, pin in wiring.items():
        if signal not in pins:
            continue
        if pin != pins[signal] or isinstance(pin, bool):
            why = f"{seen[pin]} is on that pin too" if isinstance(pin, int) and pin in seen else "no such wire"
            document.wrong((*at, signal), f"{dotted((*at, signal))} = {shown(pin)}: {why}", f"the firmware has it on {pins[signal]}")
        if isinstance(pin, int):
            seen.setdefault(pin, signal)
