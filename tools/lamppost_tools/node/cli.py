"""Parsing of `lamppost node ...`."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from lamppost_protocol.radio_limits import RADIOS

from lamppost_tools import terminal
from lamppost_tools.errors import UsageError
from lamppost_tools.node.registry import Registry

app = typer.Typer(no_args_is_help=True, help="Who belongs to the network.")

_REGISTRY = typer.Option(help="registry.json of the network", envvar="LAMPPOST_REGISTRY")
_ENROL_EXAMPLE = """Example: lamppost node enrol --authority-key authority/authority-public.json --registry gateway/registry.json
--nodes nodes --config lamp.toml, with lamp.toml holding: asset = "post 14"; latitude_deg = 52.52; longitude_deg = 13.4;
dst = "eu"; [\\[fixtures]] kind = "lamp" (each on its own line). Or, of a whole street: --site site.toml --asset "post 14" """


@app.command(epilog=_ENROL_EXAMPLE)
def enrol(
    registry: Annotated[Path, _REGISTRY],
    authority_key: Annotated[Path, typer.Option(help="authority-public.json: whose orders the node will obey")],
    nodes: Annotated[Path, typer.Option(help="folder that gets <id>/lamppost/, the node's flash content")],
    config: Annotated[Path | None, typer.Option(help="TOML: place, clock rule, fixtures with their settings")] = None,
    site: Annotated[Path | None, typer.Option(help="instead of --config: a street's site file; --asset says which node of it")] = None,
    fixture: Annotated[list[str] | None, typer.Option(help="instead of --config: lamp, bin, air, lamp.1 ...; repeat it")] = None,
    node_id: Annotated[str | None, typer.Option("--id", help="8 hex digits; left out: a free random id")] = None,
    asset: Annotated[str | None, typer.Option(help="what the city calls this piece of furniture")] = None,
    listens: Annotated[
        str | None, typer.Option(help="over LoRa: always (it has mains) or windows; left out: as its configuration says")
    ] = None,
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Make a node's keys, its flash folder, and its registry entry. The private key exists only in that folder."""
    from lamppost_tools.authority.public import read_authority_public
    from lamppost_tools.node.config import config_of_fixtures, load_node_config
    from lamppost_tools.node.enrol import KeySource, enrol_node
    from lamppost_tools.site.file import node_of_site

    if (config is not None) + (site is not None) + bool(fixture) != 1:
        raise UsageError("give one of --config FILE, --site FILE and --fixture KIND", "see `lamppost node enrol --help`")
    authority = read_authority_public(authority_key)
    number = None if node_id is None else parse_node(node_id)
    schedules = None
    if site is not None:
        settings, asset, id_of_file, schedules = node_of_site(site, asset, authority.network)
        number = id_of_file if number is None else number
    elif config is not None:
        settings, asset_of_file = load_node_config(config, authority.network)
        asset = asset or asset_of_file
    else:
        settings = config_of_fixtures(fixture or [], authority.network)
    if listens is not None:
        set_listening(settings, listens)
    made = enrol_node(Registry(registry), nodes, authority_key, settings, number, asset, KeySource(), schedules)
    if is_json:
        terminal.print_json(made)
        return
    terminal.print_words(made)
    terminal.out.print(f"next: copy {made['flash_folder']} to the node as /lamppost, then delete it here: it holds the private key")


@app.command(epilog="Example: lamppost node bridge --out bridge, then copy bridge/lamppost to the board as /lamppost")
def bridge(
    out: Annotated[Path, typer.Option(help="folder that gets lamppost/, the board's flash content")],
    tcxo_mv: Annotated[int, typer.Option(min=0, max=3_300, help="what supplies an SX1262's TCXO in mV; 0: it has a crystal")] = 1_800,
    radio: Annotated[str, typer.Option(help="the board's radio: sx1262, sx1276 or e22")] = RADIOS[0],
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Make the flash content of a gateway's radio: a board with this firmware and without any key."""
    from lamppost_tools.node.enrol import write_bridge_flash

    made = {"flash_folder": str(write_bridge_flash(out, tcxo_mv, radio))}
    if is_json:
        terminal.print_json(made)
        return
    terminal.out.print(f"next: copy {made['flash_folder']} to the board as /lamppost, and name its line in the gateway's air.modem")


@app.command("list", epilog="Example: lamppost node list --registry gateway/registry.json")
def list_nodes(
    registry: Annotated[Path, _REGISTRY],
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Who is in the registry."""
    document = Registry(registry).load()
    if is_json:
        terminal.print_json(document)
        return
    rows = [
        [name, str(entry["epoch"]), ", ".join(entry.get("fixtures", [])), entry.get("asset") or "-",
         _state(entry)]
        for name, entry in sorted(document["nodes"].items())
    ]  # fmt: skip
    title = f"network {document['network']}, registry version {document['version']}"
    terminal.out.print(terminal.table(title, ["node", "epoch", "fixtures", "asset", "state"], rows))


def _state(entry: dict[str, Any]) -> str:
    """One entry's state for people: what became of it, and in whose place it stands."""
    words = "known"
    if entry.get("revoked"):
        at = f" {datetime.fromtimestamp(entry['revoked_at'], UTC):%Y-%m-%d}" if "revoked_at" in entry else ""
        reason = f"replaced by {entry['replaced_by']}" if "replaced_by" in entry else str(entry.get("reason", "revoked"))
        words = ("revoked" if reason == "revoked" else f"revoked: {reason}") + at
    elif "next" in entry or "previous" in entry:
        words = "being re-keyed"
    return words + (f", in place of {entry['replaces']}" if "replaces" in entry else "")


@app.command(epilog="Example: lamppost node revoke 0000a001 --registry gateway/registry.json")
def revoke(
    node: Annotated[str, typer.Argument(help="node id, 8 hex digits")],
    registry: Annotated[Path, _REGISTRY],
    reason: Annotated[str, typer.Option(help="stands in the registry for ever: lost, stolen, scrapped")] = "revoked",
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """From now on refuse everything this node says, and drop its hop key. Its history stays."""
    entry = Registry(registry).revoke(parse_node(node), reason, int(time.time()))
    if is_json:
        terminal.print_json({"node": node, **entry})
        return
    terminal.out.print(f"node {node} is revoked; gateways refuse its frames as revoked_node once they have this registry")


def set_listening(config: dict[str, Any], listens: str) -> None:
    """Write into a LoRa node's configuration when it listens. Raises UsageError for another word, and for a node on a cable."""
    if listens not in ("always", "windows"):
        raise UsageError(f"--listens {listens}: always or windows is meant", "a node on a battery has windows")
    from lamppost_tools.node.config import sleeps

    if "lora" not in config:
        raise UsageError("--listens: this node's configuration has no [lora]", "leave it out: a node on a cable always listens")
    if listens == "always" and sleeps(config):
        raise UsageError("--listens always: this node sleeps, and hears nothing then", "leave sleep_s out of its fixtures, or take windows")
    config["lora"] = {**config["lora"], "listens_always": 1 if listens == "always" else 0}


def parse_node(text: str) -> int:
    """A node id as people type it, leading zeros left out or not. Raises UsageError."""
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if len(text) > 8 or not 0 < value < 2**32:
        raise UsageError(f"node {text!r}: 1 to 8 hex digits are meant, not zero", "`lamppost node list` shows who is known")
    return value
