"""Parsing of `lamppost release ...`."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from lamppost_tools import terminal
from lamppost_tools.errors import RefusedError

app = typer.Typer(no_args_is_help=True, help="Firmware for nodes in the street: built, signed, handed to gateways.")

_File = Annotated[Path, typer.Argument(metavar="FILE", help="the release, as `lamppost release build --out` named it")]
_Json = Annotated[bool, typer.Option("--json", help="for machines")]
_City = Annotated[Path | None, typer.Option("--city", help="city.toml: network and broker", envvar="LAMPPOST_CITY")]
_Network = Annotated[str | None, typer.Option("--network", help="8 hex digits, instead of the city file's")]
_Host = Annotated[str | None, typer.Option("--broker-host", help="instead of the city file's")]
_Port = Annotated[int | None, typer.Option("--broker-port", help="instead of the city file's")]


@app.command(epilog="Example: lamppost release build --out lamppost-0.2.0 --base stick/kit")
def build(
    out: Annotated[Path, typer.Option(help="file to make; its description is beside it, with .json")],
    base: Annotated[Path, typer.Option(help="what is on the boards: the kit that commissioned them, or an image's folder")],
    image: Annotated[Path | None, typer.Option(help="the new firmware: an image's folder; left out: this checkout is compiled")] = None,
    version: Annotated[str | None, typer.Option(help="what the new firmware says of itself; left out: it is read from it")] = None,
    heap_bytes: Annotated[
        int, typer.Option("--heap", help="octets of heap that must be free while it runs, else a node goes back", min=0)
    ] = 4096,
    is_json: _Json = False,
) -> None:
    """The files that differ from the base, as one body, and what is in it. The same firmware gives the same octets."""
    from lamppost_tools.release.build import build_release

    _tell(build_release(out, base, image, version, heap_bytes), is_json)


@app.command(epilog="Example: lamppost release sign lamppost-0.2.0 --state /srv/lamppost/authority")
def sign(
    file: _File,
    state: Annotated[Path, typer.Option(help="the authority's folder; it may be running")],
    sequence: Annotated[int | None, typer.Option(help="a number above the last one; left out: the next", min=1)] = None,
    is_again: Annotated[
        bool, typer.Option("--again", help="sign it although it is signed: a higher sequence brings older firmware back")
    ] = False,
    is_json: _Json = False,
) -> None:
    """Sign it with the command key. Nodes take a release only when its sequence is above that of the one they have."""
    from lamppost_tools.release.files import read_release
    from lamppost_tools.release.sign import sign_release

    _tell(sign_release(read_release(file), state, sequence, is_again), is_json)


@app.command(epilog="Example: lamppost release check lamppost-0.2.0 --authority-key authority/authority-public.json")
def check(
    file: _File,
    authority_key: Annotated[Path, typer.Option(help="authority-public.json")],
    is_json: _Json = False,
) -> None:
    """Its signature, its digest, and every file in it. Ends with 1 where something does not fit.

    lora_airtime_s: what each node on LoRa takes of its gateway's airtime, at SF9 and 125 kHz. Of 10 % a gateway gives 144 s an hour.
    """
    from lamppost_tools.authority.public import read_authority_public
    from lamppost_tools.release.files import read_release
    from lamppost_tools.release.over_lora import airtime_s, pieces

    release = read_release(file)
    manifest = release.verified(read_authority_public(authority_key))
    size = len(release.body)
    lora = {"lora_pieces": pieces(size), "lora_airtime_s": airtime_s(size)}
    _tell({"verdict": "valid", "sequence": manifest.sequence, **release.description, **lora}, is_json)


@app.command(epilog="Example: lamppost release publish lamppost-0.2.0 --city city.toml")
def publish(
    file: _File, city: _City = None, network: _Network = None, broker_host: _Host = None, broker_port: _Port = None,
    is_cleared: Annotated[bool, typer.Option("--clear", help="take it off the broker; gateways keep what an open order needs")] = False,
    is_json: _Json = False,
) -> None:  # fmt: skip
    """Put the body on the broker, retained: every gateway fetches and keeps it. No node does anything before it has an order."""
    from lamppost_tools.city import find_city
    from lamppost_tools.release.files import read_release, signature_path
    from lamppost_tools.release.publish import publish_body

    release = read_release(file)
    if release.signed is None:
        raise RefusedError(f"{signature_path(file)} is missing: no node would take it", "lamppost release sign, then publish it")
    found = find_city(city, network, broker_host, broker_port)
    topic = asyncio.run(publish_body(found, release.digest, b"" if is_cleared else release.body))
    _tell({"topic": topic, "bytes": 0 if is_cleared else len(release.body)}, is_json)


def _tell(document: dict[str, Any], is_json: bool) -> None:
    if is_json:
        terminal.print_json(document)
        return
    terminal.print_words({name: value for name, value in document.items() if name != "files"})
    for name, entry in document.get("files", {}).items():
        terminal.out.print(terminal.harmless(f"  {entry['bytes']:>7} {entry['sha256'][:16]} {name}"))
