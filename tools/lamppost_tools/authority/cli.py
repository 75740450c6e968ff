"""Parsing of `lamppost authority ...`."""

import asyncio
import json
import logging
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamppost_tools import terminal
from lamppost_tools.authority.service import AuthorityService
from lamppost_tools.broker import BrokerSettings
from lamppost_tools.errors import UsageError

if TYPE_CHECKING:
    from lamppost_tools.ticket.rules import TicketRequest

app = typer.Typer(no_args_is_help=True, help="The city's signer: the only holder of the command key.")


@app.command(epilog="Example: lamppost authority init --state /srv/lamppost/authority --passphrase-file /etc/lamppost/passphrase")
def init(
    state: Annotated[Path, typer.Option(help="the authority's own folder, never on a gateway; made with mode 0700")],
    network: Annotated[str | None, typer.Option(help="network id, 8 hex digits; left out: a random one")] = None,
    registry: Annotated[Path, typer.Option(help="registry.json; relative paths start at --state")] = Path("../gateway/registry.json"),
    passphrase_file: Annotated[Path | None, typer.Option(help="encrypts the key; the file must have mode 0600")] = None,
    broker_host: Annotated[str, typer.Option(help="the city's MQTT broker")] = "127.0.0.1",
    broker_port: Annotated[int, typer.Option(help="its port", min=1, max=65535)] = 1883,
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Make a command key, an issuer id, counters, settings, and the public file that gateways and nodes need."""
    from lamppost_tools.authority.init import init_authority
    from lamppost_tools.authority.settings import PUBLIC_NAME

    broker = BrokerSettings(host=broker_host, port=broker_port)
    document = init_authority(state, _network(network), registry, broker, passphrase_file)
    if is_json:
        terminal.print_json({**document, "public_file": str(state / PUBLIC_NAME)})
        return
    terminal.print_words({**document, "public_file": str(state / PUBLIC_NAME)})
    terminal.out.print(f"next: lamppost node enrol --authority-key {state / PUBLIC_NAME} ... ; lamppost authority run --state {state}")


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"at": int(record.created), "level": record.levelname.lower(), "text": record.getMessage()})


@app.command(epilog="Example: lamppost authority run --state /srv/lamppost/authority")
def run(
    state: Annotated[Path, typer.Option(help="the folder that `authority init` made")],
    broker_host: Annotated[str | None, typer.Option(help="instead of the one in authority.toml")] = None,
    broker_port: Annotated[int | None, typer.Option(help="instead of the one in authority.toml")] = None,
    is_json: Annotated[bool, typer.Option("--json", help="for machines: a line of the log is one object, on standard output")] = False,
) -> None:
    """Sign orders and beacons on the broker until stopped (Ctrl-C or SIGTERM)."""
    from lamppost_tools.authority.authority import open_authority
    from lamppost_tools.authority.counters import FolderLock
    from lamppost_tools.authority.settings import LOCK_NAME, load_settings

    log = logging.StreamHandler(sys.stdout if is_json else sys.stderr)
    log.setFormatter(_JsonLines() if is_json else logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[log])
    settings = load_settings(state)
    changed = {key: value for key, value in (("host", broker_host), ("port", broker_port)) if value is not None}
    with FolderLock(state / LOCK_NAME):
        authority = open_authority(state, settings, lambda: int(time.time()))
        broker = settings.broker.model_copy(update=changed)
        service = AuthorityService(authority, broker, settings.beacon.interval_s)
        asyncio.run(_run_until_signal(service))


@app.command(
    epilog="Example: lamppost authority ticket --state authority --node 0a0b0c0d --nonce MFRG-GZDF-MZTW-Q2LK "
    "--technician technician-public.json --scopes look,test --minutes 30"
)
def ticket(
    node: Annotated[str, typer.Option(help="the one node it is for, 8 hex digits")],
    nonce: Annotated[str, typer.Option(help="16 letters that the node gave, as the technician reads them out")],
    technician: Annotated[Path, typer.Option(help="technician-public.json: whose key it is for")],
    scopes: Annotated[str, typer.Option(help="what it allows, with commas: look, test, light, restart, configure, resend")],
    state: Annotated[Path | None, typer.Option(help="the folder that `authority init` made; no authority may run on it")] = None,
    city: Annotated[Path | None, typer.Option(help="instead of --state: city.toml; the running authority decides by its settings")] = None,
    minutes: Annotated[int, typer.Option(help="from when the node gave the nonce", min=1, max=60)] = 30,
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Sign a technician's ticket for one node, short enough to be read out over the telephone."""
    from lamppost_tools.node.cli import parse_node
    from lamppost_tools.order.client import new_request_id
    from lamppost_tools.technician.settings import read_technician_public
    from lamppost_tools.ticket.by_voice import nonce_of
    from lamppost_tools.ticket.rules import TicketRequest, scopes_of

    if (state is None) == (city is None):
        raise UsageError("give one of --state and --city", "see `lamppost authority ticket --help`")
    names = [name.strip() for name in scopes.split(",")]
    scopes_of(names)
    name, key = read_technician_public(technician)
    request = TicketRequest.model_validate(
        {
            "request_id": new_request_id(),
            "node": f"{parse_node(node):08x}",
            "nonce": nonce_of(nonce).hex(),
            "technician_key": key.hex(),
            "scopes": names,
            "minutes": minutes,
        }
    )
    signed = _sign_here(state, request, name) if state is not None else _ask_the_city(city, request)
    if is_json:
        terminal.print_json(signed)
        return
    told = {**{key: signed[key] for key in ("ticket", "node", "technician", "scopes")}, "minutes": minutes, "text": signed["text"]}
    terminal.print_words(told)


def _sign_here(state: Path, request: "TicketRequest", technician: str) -> dict[str, Any]:
    from lamppost_tools.authority.authority import open_authority
    from lamppost_tools.authority.counters import FolderLock
    from lamppost_tools.authority.settings import LOCK_NAME, load_settings

    settings = load_settings(state)
    with FolderLock(state / LOCK_NAME):
        return open_authority(state, settings, lambda: int(time.time())).sign_ticket_at_the_desk(request, technician)


def _ask_the_city(path: Path | None, request: "TicketRequest") -> dict[str, Any]:
    from lamppost_tools.city import find_city
    from lamppost_tools.ticket.client import ask_for_ticket

    found = find_city(path, None, None, None)
    return asyncio.run(ask_for_ticket(found.broker, found.network, request.model_dump(exclude_none=True)))


async def _run_until_signal(service: AuthorityService) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await service.run(stop)


def _network(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if not 0 < value < 2**32:
        raise UsageError(f"network {text!r}: 1 to 8 hex digits are meant, not zero", "leave it out for a random one")
    return value
