"""Parsing of `lamppost technician ...`."""

from pathlib import Path
from typing import Annotated

import typer

from lamppost_tools import terminal

app = typer.Typer(no_args_is_help=True, help="Who puts nodes into the street.")


@app.command(
    epilog="Example: lamppost technician init --state technician --name 'R. Laub' --kit-key kit-key/kit-public.json "
    "--authority-key authority/authority-public.json --registry gateway/registry.json"
)
def init(
    state: Annotated[Path, typer.Option(help="the technician's own folder: key, journals, records, labels; made with mode 0700")],
    name: Annotated[str, typer.Option(help="who it is, as it will stand in records")],
    kit_key: Annotated[Path, typer.Option(help="kit-public.json of whoever makes the kits")],
    authority_key: Annotated[Path, typer.Option(help="authority-public.json: whose orders the nodes will obey")],
    registry: Annotated[Path, typer.Option(help="registry.json of the network", envvar="LAMPPOST_REGISTRY")],
    passphrase_file: Annotated[Path | None, typer.Option(help="encrypts the key; the file must have mode 0600")] = None,
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Make a technician's key and settings, with the kit's and the authority's public keys pinned in them."""
    from lamppost_tools.authority.public import read_authority_public
    from lamppost_tools.technician.settings import init_technician, read_kit_key

    made = init_technician(state, name, read_kit_key(kit_key), read_authority_public(authority_key), registry, passphrase_file)
    if is_json:
        terminal.print_json(made)
        return
    terminal.print_words(made)
    terminal.out.print(f"next: lamppost kit verify KIT --technician {state}")


@app.command("check-record", epilog="Example: lamppost technician check-record 0a0b0c0d.json --technician-key technician-public.json")
def check_record(
    record: Annotated[Path, typer.Argument(metavar="RECORD", help="NODE.json, with NODE.cose beside it")],
    technician_key: Annotated[Path, typer.Option(help="technician-public.json of whoever signed it")],
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Check a commissioning record's signature and show what it says."""
    from lamppost_tools.commission.paper import read_record

    document = read_record(record, technician_key)
    if is_json:
        terminal.print_json({"verdict": "valid", **document})
    else:
        terminal.print_words({"verdict": "valid", **document})
