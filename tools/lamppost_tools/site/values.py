"""Reading the values of a site file: each function gives what is right and notes what is wrong, with what to do about it."""

import difflib
import re
from typing import Any

from lamppost_tools.node.config_keys import Key
from lamppost_tools.site.document import Document
from lamppost_tools.site.toml_lines import Where

_LONGEST_TEXT = 64


def unknown_keys(document: Document, where: Where, values: dict[str, Any], known: tuple[str, ...]) -> None:
    """Note each key that means nothing here, with the nearest one that does."""
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.6)
            fix = f"write {near[0]}" if near else f"known here: {', '.join(known)}"
            document.wrong((*where, key), f"{dotted((*where, key))}: unknown key", fix)


def numbers(document: Document, where: Where, values: dict[str, Any], keys: dict[str, Key]) -> dict[str, int]:
    """The whole numbers among `values` that `keys` names and that lie in their range; the others are noted."""
    found: dict[str, int] = {}
    for name, key in keys.items():
        if name not in values:
            continue
        value = values[name]
        if isinstance(value, bool) and (key.low, key.high) == (0, 1):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not key.low <= value <= key.high:
            unit = f" {key.unit}" if key.unit else ""
            told = f"{key.low:,} to {key.high:,}{unit}" + ("" if key.default is None else f"; the default is {key.default:,}")
            document.wrong((*where, name), f"{dotted((*where, name))} = {shown(value)}: {key.meaning}", f"a whole number, {told}")
        else:
            found[name] = value
    return found


def table(document: Document, where: Where, values: dict[str, Any], name: str, is_required: bool = False) -> dict[str, Any]:
    """The table called `name`, empty when it is not there or is something else."""
    value = values.get(name)
    if isinstance(value, dict):
        return value
    if value is not None:
        document.wrong((*where, name), f"{dotted((*where, name))} = {shown(value)}: a table is meant", f"write [{dotted((*where, name))}]")
    elif is_required:
        document.wrong(where, f"[{name}] is missing", f"add it: lamppost site new shows a [{name}]")
    return {}


def tables(document: Document, where: Where, values: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of tables called `name`; an entry that is something else is noted and counts as empty."""
    value = values.get(name, [])
    if not isinstance(value, list):
        document.wrong((*where, name), f"{dotted((*where, name))}: a list of tables is meant", f"write [[{name}]]")
        return []
    for i, item in enumerate(value):
        if not isinstance(item, dict):
            document.wrong((*where, name, i), f"{dotted((*where, name, i))} = {shown(item)}: a table is meant", "write { key = value, .. }")
    return [item if isinstance(item, dict) else {} for item in value]


def text(document: Document, where: Where, values: dict[str, Any], name: str, default: str | None) -> str:
    """A short printable text. `default` None: it must be there."""
    value = values.get(name, default)
    if value is None:
        document.wrong(where, f"{dotted((*where, name))} is missing", f'add {name} = "..."')
        return ""
    if not isinstance(value, str) or not value.isprintable() or len(value) > _LONGEST_TEXT or value != value.strip():
        document.wrong((*where, name), f"{dotted((*where, name))} = {shown(value)}", f"a text of 1 to {_LONGEST_TEXT} letters in quotes")
        return ""
    if name in values and not value:
        document.wrong((*where, name), f"{dotted((*where, name))} is empty", "write it, or leave the key out")
    return value


def choice(document: Document, where: Where, values: dict[str, Any], name: str, default: str | None, known: tuple[str, ...]) -> str:
    """One of a few words; the first of them stands in for a mistake."""
    value = values.get(name, default)
    if value in known and isinstance(value, str):
        return value
    if value is None:
        document.wrong(where, f"{dotted((*where, name))} is missing", f"one of {', '.join(known)}")
    else:
        near = difflib.get_close_matches(str(value), known, 1, 0.6)
        fix = f'write "{near[0]}"' if near else f"one of {', '.join(known)}"
        document.wrong((*where, name), f"{dotted((*where, name))} = {shown(value)}: unknown", fix)
    return known[0]


def dotted(where: Where) -> str:
    """`node.2.fixtures.1.kind`, counting from 1 as people do."""
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in where)


def shown(value: Any) -> str:
    """A value as it may stand in a sentence."""
    words = str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, str) else str(value)
    return words if len(words) <= 40 else words[:37] + "..."


def hex_number(document: Document, where: Where, values: dict[str, Any], name: str) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or re.fullmatch(r"[0-9a-f]{8}", value) is None or int(value, 16) == 0:
        document.wrong((*where, name), f"{dotted((*where, name))} = {shown(value)}", "8 lower-case hex digits in quotes, not all zero")
        return None
    return int(value, 16)
