"""Parsing of `lamppost node ...`."""

from pathlib import Path
from typing import Annotated

import typer

from lamppost_tools import terminal
from lamppost_tools.errors import UsageError
from lamppost_tools.registry import Registry

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
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Make a node's keys, its flash folder, and its registry entry. The private key exists only in that folder."""
    from lamppost_tools.authority_public import read_authority_public
    from lamppost_tools.enrol import KeySource, enrol_node
    from lamppost_tools.node_config import config_of_fixtures, load_node_config
    from lamppost_tools.site_file import node_of_site

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
    made = enrol_node(Registry(registry), nodes, authority_key, settings, number, asset, KeySource(), schedules)
    if is_json:
        terminal.print_json(made)
        return
    terminal.print_words(made)
    terminal.out.print(f"next: copy {made['flash_folder']} to the node as /lamppost, then delete it here: it holds the private key")


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
         "revoked" if entry.get("revoked") else "known"]
        for name, entry in sorted(document["nodes"].items())
    ]  # fmt: skip
    title = f"network {document['network']}, registry version {document['version']}"
    terminal.out.print(terminal.table(title, ["node", "epoch", "fixtures", "asset", "state"], rows))


@app.command(epilog="Example: lamppost node revoke 0000a001 --registry gateway/registry.json")
def revoke(
    node: Annotated[str, typer.Argument(help="node id, 8 hex digits")],
    registry: Annotated[Path, _REGISTRY],
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """From now on refuse everything this node says, and drop its hop key. Its history stays."""
    entry = Registry(registry).revoke(parse_node(node))
    if is_json:
        terminal.print_json({"node": node, **entry})
        return
    terminal.out.print(f"node {node} is revoked; gateways refuse its frames as revoked_node once they have this registry")


def parse_node(text: str) -> int:
    """A node id as people type it, leading zeros left out or not. Raises UsageError."""
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if len(text) > 8 or not 0 < value < 2**32:
        raise UsageError(f"node {text!r}: 1 to 8 hex digits are meant, not zero", "`lamppost node list` shows who is known")
    return value
