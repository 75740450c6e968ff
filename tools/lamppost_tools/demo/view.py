"""The demo's live screen: last record of every fixture with units and age, outbox, broker, orders, refusals."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from lamppost_tools import terminal
from lamppost_tools.demo.layout import NODES
from lamppost_tools.demo.witness import Seen, Witness

_REFRESH_S = 0.5
_SHOWN_ORDERS = 4
_SHOWN_REJECTS = 4
#: What a passer-by wants to know first of each fixture; the rest is in the JSON.
_SHOWN = {
    "lamp": ("applied_level", "active_power", "voltage", "cause"),
    "bin": ("fill", "distance", "temperature", "flags"),
    "air": ("pm25", "pm10", "temperature", "humidity"),
}


def show_live(witness: Witness, status: Callable[[], dict[str, Any]], hint: str) -> None:
    """Draw until Ctrl-C. `status` gives the gateway's own word, cheap enough for every second."""
    with Live(console=screen_console(), refresh_per_second=4, screen=False) as live:
        latest: dict[str, Any] = {}
        asked_s = 0.0
        while True:
            if time.monotonic() - asked_s >= 1.0:
                latest, asked_s = status(), time.monotonic()
            live.update(witness.look(partial(_screen_of, latest, hint)))
            time.sleep(_REFRESH_S)


def screen_console(**options: Any) -> Console:
    """A console that folds long lines: `terminal.out` leaves that to the terminal, and a live screen would cut them."""
    return Console(highlight=False, markup=False, **options)


def _screen_of(status: dict[str, Any], hint: str, seen: Seen) -> Group:
    return screen(seen, status, hint)


def screen(seen: Seen, status: dict[str, Any], hint: str) -> Group:
    """The whole screen for what was seen; pure but for the clock that ages are reckoned by."""
    return Group(_fixtures(seen), Group(_gateway(seen, status), _orders(seen), _rejects(seen)), Text(hint, style="dim"))


def _fixtures(seen: Seen) -> Table:
    table = Table(title="Lamppost: one street", title_justify="left", expand=True)
    for name in ("furniture", "fixture", "quality", "last record", "n", "clock", "age"):
        table.add_column(name)
    for node in NODES:
        for fixture in node.fixtures:
            document = seen.records.get((node.id, fixture))
            if document is None:
                table.add_row(f"{node.asset} ({node.id})", fixture, Text("waiting", style="dim"), "", "", "", "")
                continue
            quality = str(document.get("quality"))
            table.add_row(
                f"{node.asset} ({node.id})",
                fixture,
                Text(quality, style="green" if quality == "good" else "yellow"),
                _values(fixture, document),
                str(document.get("n")),
                str((document.get("clock") or {}).get("state", "-")),
                _age(document),
            )
    return table


def _values(fixture: str, document: dict[str, Any]) -> str:
    values = document.get("values") or {}
    shown = [name for name in _SHOWN.get(fixture, ()) if name in values]
    return "  ".join(f"{name.replace('_', ' ')} {terminal.measured(values[name])}" for name in shown)


def _age(document: dict[str, Any]) -> str:
    text = document.get("time") or document.get("received_at")
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return "-"
    return f"{max(0.0, (datetime.now(UTC) - at).total_seconds()):.0f} s"


def _gateway(seen: Seen, status: dict[str, Any]) -> Panel:
    outbox = status.get("outbox") or {}
    words = {
        "unpublished": "waiting", "frames": "kept", "open_orders": "orders open", "rejects": "refused kept", "losses": "losses",
    }  # fmt: skip
    told = ", ".join(f"{outbox[name]} {word}" for name, word in words.items() if name in outbox)
    if outbox.get("full_in_h") is not None:
        told += f", full in {outbox['full_in_h']:.0f} h"
    broker = status.get("broker")
    state = broker.get("state") if isinstance(broker, dict) else broker
    text = Text.assemble(
        ("broker ", "bold"), f"{state or ('connected' if seen.is_connected else 'gone')}   ",
        ("subscriber ", "bold"), f"{seen.messages} messages, {sum(map(len, seen.numbers.values()))} records verified\n",
        ("outbox ", "bold"), told or "-",
    )  # fmt: skip
    return Panel(text, title="gateway", title_align="left")


def _orders(seen: Seen) -> Panel:
    lines = []
    for order_id in sorted(seen.orders)[-_SHOWN_ORDERS:]:
        states = " > ".join(str(document.get("state")) for document in seen.orders[order_id])
        lines.append(f"order {order_id} to {seen.orders[order_id][-1].get('node')}: {states}")
    return Panel(Text("\n".join(lines) or "none yet"), title="orders", title_align="left")


def _rejects(seen: Seen) -> Panel:
    lines = [
        f"{reject.get('at')}  {reject.get('reason')}  from {reject.get('node') or 'unknown'} on {reject.get('link')}"
        for reject in list(seen.rejects)[-_SHOWN_REJECTS:]
    ]
    return Panel(Text("\n".join(lines) or "none"), title="refused frames", title_align="left")
