"""Parsing of `lamppost monitor`."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from lamppost_tools import terminal
from lamppost_tools.errors import UsageError

EXAMPLE = "Example: lamppost monitor --port /dev/ttyUSB0 --registry gateway/registry.json (or: --city city.toml --node 0000a001)"


def monitor(
    port: Annotated[str | None, typer.Option(help="a serial port: a node's or bridge's line, or a console; nothing is sent")] = None,
    baud: Annotated[int, typer.Option(help="of the port", min=1200, max=3_000_000)] = 115200,
    city: Annotated[Path | None, typer.Option(help="city.toml: everything on a network's broker instead", envvar="LAMPPOST_CITY")] = None,
    node: Annotated[str | None, typer.Option(help="with --city: only this node, 8 hex digits")] = None,
    registry: Annotated[Path | None, typer.Option(help="registry.json: checks nodes' signatures", envvar="LAMPPOST_REGISTRY")] = None,
    authority_key: Annotated[Path | None, typer.Option(help="authority-public.json: checks orders and beacons")] = None,
    hop_keys: Annotated[Path | None, typer.Option(help="hop-keys.json (secret): checks acknowledgements")] = None,
    count: Annotated[int, typer.Option(help="end after so many messages; 0: at Ctrl-C", min=0)] = 0,
    is_json: Annotated[bool, typer.Option("--json", help="one JSON document a message")] = False,
) -> None:
    """Follow what is said, decoded and checked, as it comes: records, orders, hellos, logs, what is refused."""
    from lamppost_tools.frame.input import load_ring

    if port is not None and node is not None:
        raise UsageError("--node goes with --city", "on a port there is one node")
    ring = load_ring(registry, authority_key, hop_keys)
    try:
        if port is not None:
            from lamppost_tools.monitor.line import listen

            _show_all(listen(port, baud, ring), count, is_json)
        elif city is not None:
            from lamppost_tools.city import find_city
            from lamppost_tools.node.cli import parse_node

            name = None if node is None else f"{parse_node(node):08x}"
            asyncio.run(_follow(find_city(city, None, None, None), ring, name, count, is_json))
        else:
            raise UsageError("give --port or --city", "see `lamppost monitor --help`")
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _show_all(entries: Iterator[dict[str, Any]], count: int, is_json: bool) -> None:
    for entry in itertools.islice(entries, count or None):
        _show(entry, is_json)


async def _follow(city: Any, ring: Any, node: str | None, count: int, is_json: bool) -> None:
    from lamppost_tools.monitor.city import follow

    left = count
    async with aclosing(follow(city.broker, city.network, ring, node)) as entries:
        async for entry in entries:
            _show(entry, is_json)
            left -= 1
            if left == 0:
                return


def _show(entry: dict[str, Any], is_json: bool) -> None:
    if is_json:
        terminal.print_json(entry)
        return
    from lamppost_tools.monitor.sentence import lines_of

    at = datetime.now().astimezone().strftime("%H:%M:%S")
    style = {"refused": "bold red", "valid": "green"}.get(str(entry.get("verdict")), "")
    for line in lines_of(entry):
        terminal.out.print(Text.assemble((f"{at} ", "dim"), (terminal.harmless(line), style)))
