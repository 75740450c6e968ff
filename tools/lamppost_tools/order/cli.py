"""Parsing of `lamppost order ...`."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from lamppost_tools import terminal
from lamppost_tools.city import find_city
from lamppost_tools.duration import parse_duration_s
from lamppost_tools.errors import UsageError
from lamppost_tools.node.cli import parse_node

app = typer.Typer(no_args_is_help=True, help="Tell a node what to do, and follow what becomes of it.")

_City = Annotated[Path | None, typer.Option("--city", help="city.toml: network and broker", envvar="LAMPPOST_CITY")]
_Network = Annotated[str | None, typer.Option("--network", help="8 hex digits, instead of the city file's")]
_Host = Annotated[str | None, typer.Option("--broker-host", help="instead of the city file's")]
_Port = Annotated[int | None, typer.Option("--broker-port", help="instead of the city file's")]
_NoWait = Annotated[bool, typer.Option("--no-wait", help="end once the authority has signed it")]
_Deadline = Annotated[float, typer.Option("--deadline-s", help="seconds to follow the order for", min=1)]
_Json = Annotated[bool, typer.Option("--json", help="one JSON document a line for machines")]
_Node = Annotated[str, typer.Argument(help="node id, 8 hex digits")]
_Fixture = Annotated[str | None, typer.Option(help="which lamp, where the node has several: lamp, lamp.1")]


@app.command(epilog="Example: lamppost order dim 0000a001 30 --for 2h --city /tmp/street/city.toml")
def dim(
    node: _Node,
    level_percent: Annotated[int, typer.Argument(metavar="LEVEL", help="percent, 0 to 100", min=0, max=100)],
    lease: Annotated[str | None, typer.Option("--for", help="how long: 90s, 30m, 2h; needed below 10 percent")] = None,
    ramp_s: Annotated[int, typer.Option(help="seconds to get there", min=0, max=3600)] = 0,
    fixture: _Fixture = None, city: _City = None, network: _Network = None, broker_host: _Host = None,
    broker_port: _Port = None, no_wait: _NoWait = False, deadline_s: _Deadline = 60.0, is_json: _Json = False,
) -> None:  # fmt: skip
    """Set a lamp's level for a while; done when measured power moved as it should (verified)."""
    request: dict[str, Any] = {"verb": "level", "node": f"{parse_node(node):08x}", "level_percent": level_percent, "ramp_s": ramp_s}
    if lease is not None:
        request["lease_s"] = parse_duration_s(lease, "--for")
    _send(request, fixture, (city, network, broker_host, broker_port), 0 if no_wait else deadline_s, is_json)


@app.command(epilog="Example: lamppost order cancel 0000a001 17 --city /tmp/street/city.toml")
def cancel(
    node: _Node,
    order_id: Annotated[int, typer.Argument(help="the order to take back", min=1)],
    fixture: _Fixture = None, city: _City = None, network: _Network = None, broker_host: _Host = None,
    broker_port: _Port = None, no_wait: _NoWait = False, deadline_s: _Deadline = 60.0, is_json: _Json = False,
) -> None:  # fmt: skip
    """Take an order back: the lamp returns to its schedule, with --fixture node an update is not fetched further."""
    request = {"verb": "cancel", "node": f"{parse_node(node):08x}", "order_id": order_id}
    _send(request, fixture, (city, network, broker_host, broker_port), 0 if no_wait else deadline_s, is_json)


@app.command(
    epilog="Example: lamppost order schedule 0000a001 night.toml, with night.toml holding: default_level = 100; [\\[week]] "
    'days = "all"; steps = [["sunset", 100], ["23:00", 60], ["sunrise-10", 0]] (each on its own line)'
)
def schedule(
    node: _Node,
    file: Annotated[Path, typer.Argument(help="TOML: default_level, [\\[week]] and [\\[exception]] with steps")],
    fixture: _Fixture = None, city: _City = None, network: _Network = None, broker_host: _Host = None,
    broker_port: _Port = None, no_wait: _NoWait = False, deadline_s: _Deadline = 60.0, is_json: _Json = False,
) -> None:  # fmt: skip
    """Give a lamp its plan; it lives by it for months without any link."""
    from lamppost_tools.order.schedule_file import load_schedule

    request = {"verb": "schedule", "node": f"{parse_node(node):08x}", "schedule": load_schedule(file)}
    _send(request, fixture, (city, network, broker_host, broker_port), 0 if no_wait else deadline_s, is_json)


@app.command(epilog="Example: lamppost order resend 0000a001 120 180 --city /tmp/street/city.toml")
def resend(
    node: _Node,
    first_n: Annotated[int, typer.Argument(help="first record number wanted", min=1)],
    last_n: Annotated[int, typer.Argument(help="last record number wanted", min=1)],
    city: _City = None, network: _Network = None, broker_host: _Host = None,
    broker_port: _Port = None, no_wait: _NoWait = False, deadline_s: _Deadline = 60.0, is_json: _Json = False,
) -> None:  # fmt: skip
    """Ask a node for records again, for when a gateway lost them."""
    request = {"verb": "resend", "node": f"{parse_node(node):08x}", "first_n": first_n, "last_n": last_n}
    _send(request, None, (city, network, broker_host, broker_port), 0 if no_wait else deadline_s, is_json)


@app.command(epilog="Example: lamppost order update 0000a001 lamppost-0.2.0 --for 24h --city /tmp/street/city.toml")
def update(
    node: _Node,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a signed release, published to the gateways")],
    valid: Annotated[str, typer.Option("--for", help="until when it must be fetched and tried: 90s, 30m, 24h")] = "24h",
    city: _City = None, network: _Network = None, broker_host: _Host = None,
    broker_port: _Port = None, no_wait: _NoWait = False, deadline_s: _Deadline = 3600.0, is_json: _Json = False,
) -> None:  # fmt: skip
    """Give one node new firmware; done when it has proved itself there (verified). For many nodes: `lamppost rollout`."""
    from lamppost_tools.release.files import read_release, signature_path

    signed = read_release(file).signed
    if signed is None:
        raise UsageError(f"{signature_path(file)} is missing: no node takes it unsigned", "lamppost release sign, then publish")
    request = {"verb": "update", "node": f"{parse_node(node):08x}", "manifest": signed.hex(), "lease_s": parse_duration_s(valid, "--for")}
    _send(request, None, (city, network, broker_host, broker_port), 0 if no_wait else deadline_s, is_json)


@app.command(
    epilog='Example: lamppost order configure --site site.toml --asset "lamp 3" --registry registry.json --city /tmp/street/city.toml'
)
def configure(
    site: Annotated[Path, typer.Option(help="the street's site file: the node's configuration is made from it, as commissioning does")],
    registry: Annotated[Path, typer.Option(help="registry.json of the network: which node it is, and what it has now",
                                           envvar="LAMPPOST_REGISTRY")],
    asset: Annotated[str | None, typer.Option(help="which piece of furniture of the site file; left out: its only one")] = None,
    valid: Annotated[str | None, typer.Option("--for", help="until when the node may take it: 90s, 30m, 24h")] = None,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="tell what would change, and end")] = False,
    city: _City = None, network: _Network = None, broker_host: _Host = None,
    broker_port: _Port = None, no_wait: _NoWait = False, deadline_s: _Deadline = 600.0, is_json: _Json = False,
) -> None:  # fmt: skip
    """Give a node in service the configuration that the site file now has; done when the node has proved itself with it (verified).

    The authority signs only what an order may change; the rest is for a visit: lamppost commission.
    """
    from lamppost_tools.order.configuration import wanted_configuration

    where = (city, network, broker_host, broker_port)
    wanted = wanted_configuration(site, asset, registry, find_city(*where).network)
    told = {"node": wanted.node, "asset": wanted.asset, "changes": wanted.changes}
    if is_json:
        terminal.print_json(told)
    else:
        for line in wanted.changes or ["nothing"]:
            terminal.out.print(terminal.harmless(f"{wanted.asset}, node {wanted.node}: {line}"))
    if is_dry:
        return
    request: dict[str, Any] = {"verb": "configure", "node": wanted.node, "configuration": wanted.configuration}
    if valid is not None:
        request["lease_s"] = parse_duration_s(valid, "--for")
    _send(request, None, where, 0 if no_wait else deadline_s, is_json)


@app.command(epilog="Example: lamppost order show 17 --city /tmp/street/city.toml")
def show(
    order_id: Annotated[int, typer.Argument(help="the authority's order number", min=1)],
    city: _City = None, network: _Network = None, broker_host: _Host = None, broker_port: _Port = None,
    is_json: _Json = False,
) -> None:  # fmt: skip
    """The last known state of an order, with its evidence."""
    from lamppost_tools.order.client import show_order

    found = find_city(city, network, broker_host, broker_port)
    document = asyncio.run(show_order(found.broker, found.network, order_id))
    if is_json:
        terminal.print_json(document)
    else:
        terminal.print_words(document)


def _send(
    request: dict[str, Any],
    fixture: str | None,
    where: tuple[Path | None, str | None, str | None, int | None],
    follow_s: float,
    is_json: bool,
) -> None:
    from lamppost_tools.order.client import new_request_id, send_order

    found = find_city(*where)
    request.update(v=1, request_id=new_request_id())
    if fixture is not None:
        request["fixture"] = fixture
    asyncio.run(send_order(found.broker, found.network, request, follow_s, _show_json if is_json else _show_words))


def _show_json(document: dict[str, Any]) -> None:
    terminal.print_json(document)


def _show_words(document: dict[str, Any]) -> None:
    if "state" not in document:
        until = document["not_after"]
        told = f"order {document['order_id']} signed for node {document['node']}, valid until {_time(until)}"
        terminal.out.print(terminal.harmless(told))
        return
    evidence = document.get("evidence") or {}
    words = ", ".join(f"{name.replace('_', ' ')} {_evidence(value)}" for name, value in evidence.items())
    terminal.out.print(terminal.harmless(f"{document.get('at', '-')}  {document['state']!s:<9} {words}".rstrip()))


def _evidence(value: Any) -> str:
    return terminal.measured(value) if isinstance(value, dict) and "unit" in value and "value" in value else str(value)


def _time(unix_s: Any) -> str:
    from lamppost_tools.frame.words import time_in_words

    return str(time_in_words(unix_s) if isinstance(unix_s, int) else unix_s)
