"""A plan as people and as machines read it. Lines fit 80 columns: sources are numbered and stand at the end."""

import datetime
import textwrap
from typing import Any

from rich.text import Text

from lamppost_tools import terminal
from lamppost_tools.plan.figures import Figure
from lamppost_tools.plan.plan import Plan
from lamppost_tools.site.site import Site

#: Beyond, other things than worn blocks end a flash chip's life.
_LONG_YEARS = 100
_LABEL_COLUMNS = 50
_WIDTH = 78


def plan_document(site: Site, first: datetime.date, plan: Plan) -> dict[str, Any]:
    """The plan for machines: every figure with value (null: not known), unit and source."""
    return {
        "site": site.name,
        "first_night": first.isoformat(),
        "fits": not plan.unfit,
        "unfit": plan.unfit,
        "groups": [{"assets": group.assets, "what": group.what, "figures": _figures(group.figures)} for group in plan.groups],
        "street": _figures(plan.street),
        "unknown": plan.unknown,
    }


def _figures(figures: list[Figure]) -> dict[str, Any]:
    return {figure.name: {"value": figure.value, "unit": figure.unit, "source": figure.source} for figure in figures}


def print_plan(site: Site, first: datetime.date, plan: Plan) -> None:
    """Print the plan on standard output."""
    sources: list[str] = []
    _print_wrapped(f"plan of {site.name or 'the street'}, 365 nights from {first}", "bold")
    for group in plan.groups:
        others = f" and {len(group.assets) - 1} like it" if len(group.assets) > 1 else ""
        _print_wrapped(f"{group.assets[0]}{others} ({group.what})", "bold")
        _print_figures(group.figures, sources)
    terminal.out.print(Text("the whole street, its gateway", "bold"))
    _print_figures(plan.street, sources)
    for words in plan.unfit:
        _print_wrapped(f"does not fit: {words}", "bold red")
    _print_wrapped("not in these numbers: " + "; ".join(plan.unknown), "yellow")
    for number, source in enumerate(sources, 1):
        _print_wrapped(f"[{number}] {source}", "dim")


def _print_figures(figures: list[Figure], sources: list[str]) -> None:
    for figure in figures:
        if figure.source not in sources:
            sources.append(figure.source)
        number = f"[{sources.index(figure.source) + 1}]"
        terminal.out.print(f"  {figure.label:<{_LABEL_COLUMNS}} {in_words(figure):>14} {number:>4}")


def _print_wrapped(words: str, style: str) -> None:
    for line in textwrap.wrap(terminal.harmless(words), _WIDTH, subsequent_indent="    "):
        terminal.out.print(Text(line, style))


def in_words(figure: Figure) -> str:
    """`547.7 Wh`, `over 100 years`, `unknown`: no more digits than the figure deserves."""
    value = figure.value
    if value is None:
        return "unknown"
    if figure.unit == "years" and value > _LONG_YEARS:
        return f"over {_LONG_YEARS} years"
    digits = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2 if value >= 0.1 else 4
    return f"{value:,.{digits}f} {figure.unit}".rstrip()
