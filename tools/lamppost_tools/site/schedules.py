"""Schedules of a site file: tables of its own, or files beside it; each rule is checked for itself, so that all mistakes show at once."""

import tomllib
from pathlib import Path
from typing import Any

from lamppost_tools.order.schedule_file import schedule_of
from lamppost_tools.site.document import Document, Problem
from lamppost_tools.site.toml_lines import Where, toml_lines

_PARTS = ("week", "exception")
_REFUSALS = (ValueError, TypeError, KeyError, IndexError, AttributeError)
_ADVICE = 'for example steps = [["sunset", 100], ["23:00", 60], ["sunrise-10", 0]]; lamppost order schedule --help'


def check_schedules(document: Document, named: dict[str, Any]) -> dict[str, list[Any]]:
    """The arrays of the [schedule.NAME] tables by name; mistakes are noted. One that has some is there all the same, empty."""
    found: dict[str, list[Any]] = {}
    for name, raw in named.items():
        where = ("schedule", name)
        found[name] = []
        if not isinstance(raw, dict):
            document.wrong(where, f"schedule.{name}: a table is meant", f"write [schedule.{name}]")
            continue
        mistakes = schedule_mistakes(raw)
        for way, what in mistakes:
            document.wrong((*where, *way), f"schedule.{name}: {what}", _ADVICE)
        if not mistakes:
            found[name] = schedule_of(raw)
    return found


def schedule_named(document: Document, where: Where, name: Any, schedules: dict[str, list[Any]]) -> str:
    """`name` if it is a schedule: of the file, or NAME.toml beside it, which is then read into `schedules`; else it is noted, and empty."""
    if isinstance(name, str) and name in schedules:
        return name
    if isinstance(name, str) and name.endswith(".toml"):
        schedules[name] = []
        _read(document, where, name, schedules)
        return name
    known = ", ".join(sorted(schedules)) or "none yet"
    document.wrong(where, f"schedule {name!r}: no such schedule", f'one of the file\'s ({known}), or a file: "night.toml"')
    return ""


def schedule_mistakes(raw: dict[str, Any]) -> list[tuple[Where, str]]:
    """(way to the part, what is wrong) of every part of a parsed schedule that cannot stand by itself, or of the whole."""
    found: list[tuple[Where, str]] = []

    def take(way: Where, part: dict[str, Any]) -> None:
        try:
            schedule_of(part)
        except KeyError as error:
            found.append((way, f"{error.args[0]} is missing"))
        except _REFUSALS as error:
            found.append((way, str(error).removeprefix("schedule: ")))

    for key in raw:
        if key == "default_level" or key not in _PARTS:
            take((key,), {key: raw[key]})
        elif not isinstance(raw[key], list):
            found.append(((key,), f"{key}: a list of tables is meant"))
        else:
            for i, rule in enumerate(raw[key]):
                take((key, i), {key: [rule]})
    if not found:
        take((), raw)
    return found


def _read(document: Document, where: Where, name: str, schedules: dict[str, list[Any]]) -> None:
    path = document.folder / name
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except OSError as error:
        document.wrong(where, f"{name}: {error.strerror}", f"it is looked for in {document.folder}")
        return
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        document.wrong(where, f"{name} is not TOML: {error}", "correct that file")
        return
    mistakes = schedule_mistakes(raw)
    if not mistakes:
        schedules[name] = schedule_of(raw)
    lines = toml_lines(text)
    shown = str(Path(document.source).parent / name)
    for way, what in mistakes:
        line = next((lines[way[:length]] for length in range(len(way), 0, -1) if way[:length] in lines), None)
        document.problems.append(Problem(shown, line, what, _ADVICE))
