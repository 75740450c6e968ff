"""Parsing of `lamppost commission`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lamppost_tools import terminal
from lamppost_tools.errors import EXIT_DONE, UsageError

EXAMPLE = (
    'Example: lamppost commission --technician technician --kit stick/kit --site site.toml --asset "bin 7" --port /dev/ttyUSB0 '
    '--asset "lamp 3" --port /dev/ttyUSB1'
)

FLASH_EXAMPLE = "Example: lamppost flash --technician technician --kit stick/kit --port /dev/ttyUSB0"
_ERASE = typer.Option("--erase", help="all of the flash first, whatever is on it; a node in service here is refused")
_ERASES = typer.Option(help="with --erase: the node of another city, or of a lost registry, that the board may be")
_UPDATE = typer.Option("--update-micropython", help="the kit's MicroPython also on a node; its keys, settings and records stay")


def commission(
    technician: Annotated[Path, typer.Option(help="the folder that `lamppost technician init` made", envvar="LAMPPOST_TECHNICIAN")],
    kit: Annotated[Path, typer.Option(help="the kit's folder; it is verified first", envvar="LAMPPOST_KIT")],
    site: Annotated[Path, typer.Option(help="the street's site file")],
    asset: Annotated[list[str], typer.Option(help="which piece of furniture a board is for; repeat it, at most six")],
    port: Annotated[
        list[str] | None, typer.Option(help="that board's serial port; left out: USB ports are looked for, and asked about")
    ] = None,
    is_in_order: Annotated[
        bool, typer.Option("--in-order", help="without --port: boards are plugged in in the order of the assets")
    ] = False,
    gateway_status: Annotated[
        Path | None, typer.Option(help="status socket of a gateway that hears the nodes: proves that a frame of each is verified")
    ] = None,
    test_s: Annotated[int, typer.Option(help="how long fixtures may take for a good record", min=1, max=300)] = 12,
    replace_keys: Annotated[bool, typer.Option("--replace-keys", help="the board holds keys that this registry does not know")] = False,
    replaces: Annotated[
        str | None, typer.Option(help="the node whose place the board takes: it is revoked in the same instant; one board at a time")
    ] = None,
    is_rescheduling: Annotated[
        bool, typer.Option("--schedules", help="also a node in service gets the site file's schedules, over those that orders brought")
    ] = False,
    is_erasing: Annotated[bool, _ERASE] = False,
    erases: Annotated[str | None, _ERASES] = None,
    is_updating: Annotated[bool, _UPDATE] = False,
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """From a bare chip to a node of the street: MicroPython, firmware, settings, self-test, keys, registry, lock, proof, record and label.

    Interrupted anywhere, the same command goes on. Ends with 0 when every board is commissioned; what was not done is named.
    """
    from lamppost_tools.board.ports import find_ports, match_ports
    from lamppost_tools.commission.micropython import Wish
    from lamppost_tools.commission.progress import Progress
    from lamppost_tools.commission.several import MOST, commission_all
    from lamppost_tools.commission.steps import Bench, Order
    from lamppost_tools.kit.seal import open_kit
    from lamppost_tools.node.cli import parse_node
    from lamppost_tools.node.enrol import KeySource
    from lamppost_tools.node.registry import Registry
    from lamppost_tools.site.file import node_of_site
    from lamppost_tools.technician.settings import load_technician

    if port:
        ports = port
    else:
        is_asking = not is_json and sys.stdin.isatty()
        matched = match_ports(asset, find_ports(), _ask if is_asking else None, is_in_order)
        for name, found in zip(asset, matched, strict=True):
            terminal.err.print(f"{terminal.harmless(name)}: {found}")
        ports = [found.port for found in matched]
    if len(ports) != len(asset):
        raise UsageError(
            f"{len(asset)} --asset and {len(ports)} ports ({', '.join(ports)})", "one --port for each --asset, in the same order"
        )
    if len(asset) > MOST or len(set(asset)) != len(asset) or len(set(ports)) != len(ports):
        raise UsageError(f"at most {MOST} boards at once, each with its own --asset and --port", "see `lamppost commission --help`")
    if replaces is not None and len(asset) != 1:
        raise UsageError(f"--replaces with {len(asset)} boards", "replace one at a time")
    old = None if replaces is None else f"{parse_node(replaces):08x}"
    known = load_technician(technician)
    wish = Wish(is_erasing, None if erases is None else f"{parse_node(erases):08x}", is_updating)
    orders = []
    for name, path in zip(asset, ports, strict=True):
        config, _, node, schedules = node_of_site(site, name, known.authority.network)
        orders.append(Order(path, name, config, node, schedules, test_s, replace_keys, old, wish, is_rescheduling))
    with Progress(orders, terminal.err) as progress:
        bench = Bench(known, open_kit(kit, known.kit_key), Registry(known.registry), KeySource(), gateway_status, progress.tell)
        results = commission_all(bench, orders)
    if is_json:
        terminal.print_json([result.shown() for result in results])
    else:
        for result in results:
            _print(result.shown())
    codes = [result.error.exit_code for result in results if result.error is not None]
    raise typer.Exit(codes[0] if codes else EXIT_DONE)


def _ask(question: str) -> str:
    return str(typer.prompt(question, prompt_suffix=" ", err=True))


def _print(shown: dict[str, object]) -> None:
    from lamppost_tools.commission.proof import proof_words

    out, harmless = terminal.out, terminal.harmless
    if shown["verdict"] == "refused":
        for line in str(shown["error"]).split("\n"):
            out.print(f"{harmless(str(shown['asset']))}: {harmless(line)}")
        if shown["next_step"]:
            out.print(f"  try: {shown['next_step']}")
        return
    out.print(f"{harmless(str(shown['asset']))}: commissioned as node {shown['node']}, key {shown['fingerprint']}, in {shown['took_s']} s")
    if shown["replaces"]:
        out.print(f"  in place of node {shown['replaces']}, which is revoked")
    for text in shown["settings_changed"] if isinstance(shown["settings_changed"], list) else []:
        out.print(f"  changed: {harmless(text)}")
    proof = shown["proof"]
    if isinstance(proof, dict):
        out.print(f"  {harmless(proof_words(proof))}")
    for text in shown["not_done"] if isinstance(shown["not_done"], list) else []:
        out.print(f"  not done: {harmless(text)}")
    out.print(f"  record: {shown['record']}; label: {shown['label']}")


def flash(
    technician: Annotated[Path, typer.Option(help="the folder that `lamppost technician init` made", envvar="LAMPPOST_TECHNICIAN")],
    kit: Annotated[Path, typer.Option(help="the kit's folder; it is verified first", envvar="LAMPPOST_KIT")],
    port: Annotated[list[str] | None, typer.Option(help="a board's serial port; repeat it; left out: USB ports are looked for")] = None,
    is_erasing: Annotated[bool, _ERASE] = False,
    erases: Annotated[str | None, _ERASES] = None,
    is_updating: Annotated[bool, _UPDATE] = False,
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """The kit's MicroPython on boards that have none, or another one; nothing else. `lamppost commission` does it by itself.

    Cut off anywhere, the same command goes on. Ends with 0 when every board is at MicroPython's prompt.
    """
    from lamppost_tools.board.ports import find_ports
    from lamppost_tools.commission.micropython import Wish
    from lamppost_tools.commission.several import flash_all
    from lamppost_tools.kit.seal import open_kit
    from lamppost_tools.node.cli import parse_node
    from lamppost_tools.technician.settings import load_technician

    known = load_technician(technician)
    wish = Wish(is_erasing, None if erases is None else f"{parse_node(erases):08x}", is_updating)
    opened = open_kit(kit, known.kit_key)
    results = flash_all(
        known, opened, port or [one.port for one in find_ports()], wish, lambda text: None if is_json else terminal.err.print(text)
    )
    if is_json:
        terminal.print_json([result.shown() for result in results])
    for result in [] if is_json else results:
        shown = result.shown()
        if result.error is not None:
            terminal.print_error(result.error, False)
        else:
            pieces = shown["pieces_written"]
            did = "as it was" if pieces is None else f"{pieces} pieces of flash written"
            terminal.out.print(f"{shown['port']}: {shown['machine']}, MicroPython {shown['micropython']}, number {shown['unit']}: {did}")
    codes = [result.error.exit_code for result in results if result.error is not None]
    raise typer.Exit(codes[0] if codes else EXIT_DONE)
