"""`lamppost-gateway status`, `rejects` and `resync`: what the daemon says over its socket, for people and for machines.

Exit codes: 0 told; 1 refused; 2 the configuration cannot be used; 3 no gateway answers; for `status` also 4: it answers, and
something needs attention (a link down, the broker away, records lost, the disk nearly full).
"""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamppost_gateway import config as configuration
from lamppost_gateway import status
from lamppost_gateway.documents import iso
from lamppost_gateway.errors import ConfigError, OutboxError
from lamppost_gateway.log import peer
from lamppost_gateway.refused_words import describe, in_one_line

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer()

_BAD_CONFIG = 2
_NO_ANSWER = 3
_ATTENTION = 4
_FULL_SOON_H = 48
_DEFAULT = Path("/etc/lamppost/gateway.toml")
_POLL_S = 1.0
_AGE = re.compile(r"([0-9]+)([smhd])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="configuration file of the gateway")]
AsJson = Annotated[bool, typer.Option("--json", help="for machines")]


@app.command("status")
def show_status(config: ConfigPath = _DEFAULT, as_json: AsJson = False) -> None:
    """Show links, nodes, outbox, broker and orders. Example: lamppost-gateway status -c gateway.toml"""
    settings = _load(config)
    try:
        document = status.ask(settings.status.socket, "status")
    except (OSError, ValueError) as error:
        _complain(f"no gateway answers on {settings.status.socket} ({error}); is it running?")
        raise typer.Exit(_NO_ANSWER) from None
    wrong = attention(document)
    if as_json:
        print(json.dumps(document | {"attention": wrong}))
    else:
        _show(document, wrong)
    if wrong:
        raise typer.Exit(_ATTENTION)


@app.command("rejects")
def show_rejects(
    config: ConfigPath = _DEFAULT,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document per line")] = False,
    since: Annotated[str | None, typer.Option(help="only those younger than this: 90s, 30m, 6h, 2d, or an ISO time")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="at most so many, the newest")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on with new ones until interrupted")] = False,
) -> None:
    """Show refused frames with reason, link, octets and what they look like. Example: lamppost-gateway rejects --since 6h"""
    settings = _load(config)
    try:
        since_ms = 0 if since is None else since_to_ms(since, time.time())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    from rich.console import Console  # here and below: the daemon shares this program and shall not carry 2 MB of tables

    console = Console()
    shown_id, is_told = 0, False
    while True:
        try:
            found = _rejects(settings, limit)
        except OutboxError as error:
            _complain(f"neither a running gateway nor a readable {settings.outbox_path}: {error}")
            raise typer.Exit(_NO_ANSWER) from None
        fresh = [item for item in found if item["id"] > shown_id and item["at_ms"] >= since_ms]
        if as_json:
            for item in fresh:
                print(json.dumps(item), flush=True)
        elif fresh or not is_told:
            _show_rejects(console, fresh)
        is_told = True
        shown_id = max([shown_id, *(item["id"] for item in found)])
        if not follow:
            return
        try:
            time.sleep(_POLL_S)
        except KeyboardInterrupt:
            return


@app.command("resync")
def ask_resync(
    since: Annotated[str, typer.Option(help="publish again what the broker confirmed since: 90s, 30m, 6h, 2d, or an ISO time")],
    config: ConfigPath = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Publish kept frames again, for a broker or consumer that lost them. Example: lamppost-gateway resync --since 6h"""
    settings = _load(config)
    try:
        since_ms = since_to_ms(since, time.time())
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    try:
        document = status.ask(settings.status.socket, "resync", deadline_s=60.0, since_ms=since_ms)
    except (OSError, ValueError) as error:
        _complain(f"no gateway answers on {settings.status.socket} ({error}); is it running?")
        raise typer.Exit(_NO_ANSWER) from None
    if "error" in document:
        _complain(str(document["error"]))
        raise typer.Exit(1)
    if as_json:
        print(json.dumps(document))
    else:
        print(f"{document['frames']} frames will be published again")


def _rejects(settings: configuration.Config, limit: int) -> list[dict[str, Any]]:
    """Ask the daemon, or read its file while none answers. Raises OutboxError when neither can be had."""
    try:
        document = status.ask(settings.status.socket, "rejects", limit=limit)
        raw = list(document["rejects"])
    except (OSError, ValueError, KeyError, TypeError):
        from lamppost_gateway.outbox import read_rejects

        raw = [
            {
                "id": item.id,
                "reason": item.reason,
                "node": None if item.node is None else f"{item.node:08x}",
                "link": item.link,
                "at_ms": item.at_ms,
                "bytes": item.data.hex(),
                "signal": item.signal,
            }
            for item in read_rejects(settings.outbox_path, limit)
        ]
    return [item | {"at": iso(item["at_ms"]), "decoded": describe(bytes.fromhex(item["bytes"]))} for item in raw]


def since_to_ms(text: str, now_s: float) -> int:
    """Return unix ms of `text`: an age such as 90s, 30m, 6h, 2d, or an ISO 8601 time (UTC unless it says else)."""
    if age := _AGE.fullmatch(text):
        return int((now_s - int(age[1]) * _UNIT_S[age[2]]) * 1000)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("an age such as 90s, 30m, 6h, 2d, or a time such as 2026-11-22T08:00:00Z") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def attention(document: dict[str, Any]) -> list[str]:
    """Return what is wrong in a status document, one sentence each; empty when all is well."""
    wrong = [f"link {link['name']} is down" for link in document.get("links", []) if not link["up"]]
    broker = document.get("broker", {})
    if broker.get("state") != "connected":
        reason = broker.get("last_error")
        wrong.append(f"broker {broker.get('host')}:{broker.get('port')} is not connected" + (f": {reason}" if reason else ""))
    full_in_h = document.get("outbox", {}).get("full_in_h")
    if full_in_h is not None and full_in_h < _FULL_SOON_H:
        wrong.append(f"the outbox is full in {full_in_h:.0f} h at this rate")
    for digest in document.get("releases", {}).get("missing", []):
        wrong.append(f"release {digest[:16]} is ordered and not here: lamppost release publish, and room on the disk")
    if losses := document.get("losses"):
        records = sum(loss["records"] for loss in losses)
        wrong.append(f"{records} stored records had to be dropped (last: {losses[0]['reason']})")
    return wrong


def _show(document: dict[str, Any], wrong: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    outbox, broker = document["outbox"], document["broker"]
    oldest_ms = outbox["oldest_unpublished_at_ms"]
    full_in_h = outbox["full_in_h"]
    facts = [
        f"gateway {document['gateway']}, network {document['network']}, version {document['version']}, up {age(document['uptime_s'])}",
        f"broker {broker['host']}:{broker['port']} {broker['state']}"
        + (f", MQTT {broker['protocol']}" if broker.get("protocol") else "")
        + f", {broker.get('in_flight', 0)} messages unconfirmed",
        f"outbox {outbox['unpublished']} of {outbox['frames']} frames to publish"
        + ("" if oldest_ms is None else f", oldest {_ago(oldest_ms)}")
        + f", {outbox['bytes_used'] / 1e6:.1f} of {outbox['bytes_limit'] / 1e6:.0f} MB"
        + ("" if full_in_h is None else f", full in {full_in_h:.0f} h at this rate"),
        f"rejects kept {outbox['rejects']}",
        f"releases held {len(document['releases']['held'])}",
    ]
    for fact in facts:
        console.print(Text(fact))
    links = Table("link", "state", box=None, pad_edge=False)
    for link in document["links"]:
        links.add_row(Text(link["name"]), Text("up", "green") if link["up"] else Text("down", "red"))
    modems = Table("modem", "state", "hears", "airtime spent", box=None, pad_edge=False)
    for modem in document["modems"]:
        state = Text("listens", "green") if modem["listening"] else Text("up, deaf" if modem["up"] else "down", "red")
        modems.add_row(Text(modem["name"]), state, Text(_hears(modem)), Text(_permille(modem["airtime_spent_permille"])))
    nodes = Table("node", "fixtures", "link", "heard", "signal", "frames", "asset", box=None, pad_edge=False)
    for node in document["nodes"]:
        heard_ms = node["heard_at_ms"]
        heard = "revoked" if node["revoked"] else "never" if heard_ms is None else _ago(heard_ms)
        cells = (
            node["node"], " ".join(node["fixtures"]), node["link"] or "-", heard, _signal(node["signal"]), str(node["frames"]),
            node["asset"] or "-",
        )  # fmt: skip
        nodes.add_row(*(Text(peer(str(cell))) for cell in cells))
    found = Table("order", "node", "verb", "state", "since", "sent", box=None, pad_edge=False)
    for order in document["orders"]:
        sent = f"{order['attempts']} times"
        row = (str(order["order_id"]), order["node"], order["verb"], order["state"], _ago(order["at_ms"]), sent)
        found.add_row(*(Text(cell) for cell in row))
    fetches = Table("fetching", "version", "of", "offset", "of bytes", "link", "asked", box=None, pad_edge=False)
    for fetch in document["releases"]["fetches"]:
        cells = (
            fetch["node"], fetch["version"], fetch["digest"][:16], str(fetch["offset"]), str(fetch["bytes"]), fetch["link"],
            _ago(fetch["at_ms"]),
        )  # fmt: skip
        fetches.add_row(*(Text(peer(str(cell))) for cell in cells))
    for table, rows in (
        (links, document["links"]), (modems, document["modems"]), (nodes, document["nodes"]), (found, document["orders"]),
        (fetches, document["releases"]["fetches"]),
    ):  # fmt: skip
        if rows:
            console.print()
            console.print(table)
    for sentence in wrong:
        console.print(Text(f"attention: {peer(sentence, 200)}", "bold red"))


def _hears(modem: dict[str, Any]) -> str:
    if modem["type"] == "bridge":
        return f"{modem['frequency_hz'] / 1e6:.3f} MHz SF{modem['spreading_factor']}"
    return f"UDP {modem['port']}, {modem['eui'] or 'nobody yet'}"


def _permille(permille: int | None) -> str:
    return "no limit" if permille is None else f"{permille / 10:.1f} %"


def _signal(signal: dict[str, Any] | None) -> str:
    """Its data rate and by how much it could be weaker."""
    return "-" if signal is None else f"SF{signal['spreading_factor']} {signal['above_need_qdb'] / 4:+.0f} dB"


def _show_rejects(console: "Console", items: list[dict[str, Any]]) -> None:
    from rich.text import Text

    if not items:
        console.print("nothing was refused")
        return
    for item in items:
        node = item["node"] or "unknown"
        heard = f"  heard by {item['signal']}" if item.get("signal") else ""
        console.print(Text.assemble(f"{item['at']}  ", (item["reason"], "bold red"), f"  link {item['link']}  node {node}{heard}"))
        console.print(Text("  " + peer(in_one_line(item["decoded"]), 300)))
        console.print(Text("  " + (item["bytes"] or "(no octets)"), "dim"), soft_wrap=True)


def age(seconds: float) -> str:
    """Return a duration in its two largest units: `3 d 4 h`, `5 min 2 s`."""
    left = int(max(0, seconds))
    parts: list[str] = []
    for name, unit_s in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, unit_s)
        if count or (name == "s" and not parts):
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def _ago(at_ms: int) -> str:
    return age(time.time() - at_ms / 1000) + " ago"


def _load(path: Path) -> configuration.Config:
    try:
        return configuration.load(path)
    except ConfigError as error:
        _complain(str(error))
        raise typer.Exit(_BAD_CONFIG) from None


def _complain(text: str) -> None:
    typer.echo(f"lamppost-gateway: {text}", err=True)
