"""Parsing of `lamppost authority ...`."""

import asyncio
import logging
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from lamppost_tools import terminal
from lamppost_tools.authority_service import AuthorityService
from lamppost_tools.broker import BrokerSettings
from lamppost_tools.errors import UsageError

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
    from lamppost_tools.authority_init import init_authority
    from lamppost_tools.authority_settings import PUBLIC_NAME

    broker = BrokerSettings(host=broker_host, port=broker_port)
    document = init_authority(state, _network(network), registry, broker, passphrase_file)
    if is_json:
        terminal.print_json({**document, "public_file": str(state / PUBLIC_NAME)})
        return
    terminal.print_words({**document, "public_file": str(state / PUBLIC_NAME)})
    terminal.out.print(f"next: lamppost node enrol --authority-key {state / PUBLIC_NAME} ... ; lamppost authority run --state {state}")


@app.command(epilog="Example: lamppost authority run --state /srv/lamppost/authority")
def run(
    state: Annotated[Path, typer.Option(help="the folder that `authority init` made")],
    broker_host: Annotated[str | None, typer.Option(help="instead of the one in authority.toml")] = None,
    broker_port: Annotated[int | None, typer.Option(help="instead of the one in authority.toml")] = None,
) -> None:
    """Sign orders and beacons on the broker until stopped (Ctrl-C or SIGTERM)."""
    from lamppost_tools.authority import open_authority
    from lamppost_tools.authority_settings import LOCK_NAME, load_settings
    from lamppost_tools.counters import FolderLock

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    settings = load_settings(state)
    changed = {key: value for key, value in (("host", broker_host), ("port", broker_port)) if value is not None}
    with FolderLock(state / LOCK_NAME):
        authority = open_authority(state, settings, lambda: int(time.time()))
        broker = settings.broker.model_copy(update=changed)
        service = AuthorityService(authority, broker, settings.beacon.interval_s)
        asyncio.run(_run_until_signal(service))


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
