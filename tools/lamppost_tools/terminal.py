"""What a command prints: words for people on a terminal, JSON for machines. NO_COLOR and pipes are honoured by rich."""

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lamppost_tools.errors import ToolError

out = Console(highlight=False, markup=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document, indented only for eyes."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=True) + "\n")
    sys.stdout.flush()


def print_error(error: ToolError, is_json: bool) -> None:
    """Say what happened and what to try, on standard error; as JSON on standard output where that was asked for."""
    if is_json:
        print_json({"error": error.what, "next_step": error.next_step or None})
        return
    err.print(Text.assemble(("lamppost: ", "bold red"), "\n".join(harmless(line) for line in error.what.split("\n"))))
    if error.next_step:
        err.print(Text.assemble(("  try: ", "bold"), error.next_step))


def print_words(value: dict[str, Any], indent: int = 0) -> None:
    """A nested document as indented lines `name: value`; a measured value as `47.2 W`."""
    pad = "  " * indent
    for name, item in value.items():
        label = harmless(name.replace("_", " "))
        if isinstance(item, dict) and "unit" in item and "value" in item:
            out.print(f"{pad}{label}: {harmless(measured(item))}")
        elif isinstance(item, dict):
            out.print(f"{pad}{label}:")
            print_words(item, indent + 1)
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            for number, entry in enumerate(item, 1):
                out.print(f"{pad}{label} {number} of {len(item)}:")
                print_words(entry, indent + 1)
        else:
            out.print(Text.assemble(f"{pad}{label}: ", (harmless(_plain(item)), _style(name, item))))


def harmless(text: str) -> str:
    """Text that may come from a stranger, free of what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def measured(item: dict[str, Any]) -> str:
    """`47.2 W`, `weekly`, `no value`; with what is odd about it."""
    value = item["value"]
    if value is None:
        return "no value"
    if "word" in item:
        text = str(item["word"])
    elif "words" in item:
        text = ", ".join(item["words"]) or "none"
    else:
        text = f"{value} {'' if item['unit'] == '1' else item['unit']}".rstrip()
    return f"{text} ({item['note']})" if "note" in item else text


def table(title: str, columns: list[str], rows: list[list[str]]) -> Table:
    """A plain table; cells are text, never markup."""
    made = Table(title=title or None, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*[Text(cell) for cell in row])
    return made


def _plain(item: Any) -> str:
    if item is None:
        return "-"
    if isinstance(item, list):
        return ", ".join(str(part) for part in item) or "none"
    return str(item)


def _style(name: str, item: Any) -> str:
    if name == "verdict":
        return {"valid": "green", "refused": "bold red"}.get(str(item), "yellow")
    return ""
