"""The `lamppost` command: parsing and exit codes only; each thing it does has its own file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lamppost_tools import terminal
from lamppost_tools.authority import cli as authority_cli
from lamppost_tools.commission import cli as commission_cli
from lamppost_tools.doctor import cli as doctor_cli
from lamppost_tools.errors import EXIT_DONE, EXIT_NO, MissingError, ToolError
from lamppost_tools.kit import cli as kit_cli
from lamppost_tools.life import cli as life_cli
from lamppost_tools.monitor import cli as monitor_cli
from lamppost_tools.node import cli as node_cli
from lamppost_tools.order import cli as order_cli
from lamppost_tools.release import cli as release_cli
from lamppost_tools.rollout import cli as rollout_cli
from lamppost_tools.service import cli as service_cli
from lamppost_tools.site import cli as site_cli
from lamppost_tools.technician import cli as technician_cli

app = typer.Typer(
    name="lamppost",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, and some of ours are keys
    help="Street furniture from the desk to the city: plan a street, enrol nodes, sign and follow orders, read frames, run a street.",
    epilog="Exit codes: 0 done, 1 it ran and the answer is no, 2 wrong usage, 3 something needed is missing, "
    "4 no answer in time. NO_COLOR is honoured. Example: lamppost demo --once",
)
frame_app = typer.Typer(no_args_is_help=True, help="Look into frames.")
node_cli.app.command("rekey", epilog=life_cli.REKEY_EXAMPLE)(life_cli.rekey)
node_cli.app.command("decommission", epilog=life_cli.DECOMMISSION_EXAMPLE)(life_cli.decommission)
node_cli.app.command("reset", epilog=life_cli.RESET_EXAMPLE)(life_cli.reset)
app.add_typer(authority_cli.app, name="authority")
app.add_typer(node_cli.app, name="node")
app.add_typer(order_cli.app, name="order")
app.add_typer(release_cli.app, name="release")
app.add_typer(rollout_cli.app, name="rollout")
app.add_typer(site_cli.app, name="site")
app.add_typer(kit_cli.app, name="kit")
app.add_typer(technician_cli.app, name="technician")
app.add_typer(frame_app, name="frame")
app.command("commission", epilog=commission_cli.EXAMPLE)(commission_cli.commission)
app.command("flash", epilog=commission_cli.FLASH_EXAMPLE)(commission_cli.flash)
app.command("doctor", epilog=doctor_cli.EXAMPLE)(doctor_cli.doctor)
app.command("service", epilog=service_cli.EXAMPLE)(service_cli.service)
app.command("monitor", epilog=monitor_cli.EXAMPLE)(monitor_cli.monitor)
app.command("plan", epilog="Example: lamppost plan site.toml --from 2027-03-01")(site_cli.plan)


@frame_app.callback()
def _frame() -> None:
    """Look into frames."""


@frame_app.command("decode", epilog="Example: lamppost-gateway rejects --json | head -1 | lamppost frame decode - --registry registry.json")
def frame_decode(
    given: Annotated[str, typer.Argument(metavar="HEX|-|FILE", help="hex text, - for standard input, or a file")],
    registry: Annotated[Path | None, typer.Option(help="registry.json: checks nodes' signatures")] = None,
    authority_key: Annotated[Path | None, typer.Option(help="authority-public.json: checks orders and beacons")] = None,
    hop_keys: Annotated[Path | None, typer.Option(help="hop-keys.json (secret): checks acknowledgements")] = None,
    is_json: Annotated[bool, typer.Option("--json", help="one JSON document for machines")] = False,
) -> None:
    """Every field of a frame, packet, serial message or hello in words, valid or why not.

    Takes a COSE message, octets of a node's or a bridge's serial line, a packet of the air, or a hello. Ends with 1 when anything in it is
    refused.
    """
    from lamppost_tools.frame import decode as decoding
    from lamppost_tools.frame.input import load_ring, read_octets

    found = decoding.decode(read_octets(given), load_ring(registry, authority_key, hop_keys))
    if is_json:
        terminal.print_json(found)
    else:
        for number, entry in enumerate(found):
            if number:
                terminal.out.print()
            terminal.print_words(entry)
    raise typer.Exit(EXIT_DONE if decoding.is_valid(found) else EXIT_NO)


@app.command(epilog="Example: lamppost demo --state /tmp/street --mqtt-port 1883")
def demo(
    once: Annotated[bool, typer.Option("--once", help="no screen: prove it works, print what was proved, end")] = False,
    mqtt_port: Annotated[int, typer.Option(help="broker's port on loopback; 0 takes a free one", min=0, max=65535)] = 0,
    state: Annotated[Path | None, typer.Option(help="folder for keys, registry, outbox, logs; kept")] = None,
    seed: Annotated[int, typer.Option(help="seed of the street's model: sun, traffic, waste", min=0)] = 1,
    is_json: Annotated[bool, typer.Option("--json", help="with --once: the proofs as one JSON document")] = False,
) -> None:
    """A whole street on this machine: three nodes on the real firmware, gateway, broker, authority.

    Without --once it shows a live view until Ctrl-C. With --once it ends with 0 only if everything it promises held.
    """
    from lamppost_tools.demo.run import run_demo

    raise typer.Exit(run_demo(once, mqtt_port, state, seed, is_json))


def main() -> None:
    """Entry point: runs the command; every ToolError, and what the file system refuses, becomes two lines and an exit code."""
    try:
        app()
    except ToolError as error:
        _end(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        _end(MissingError(f"{where}{error.strerror or error}", "check the path, its owner and mode, and the room on its disk"))


def _end(error: ToolError) -> None:
    terminal.print_error(error, "--json" in sys.argv)
    sys.exit(error.exit_code)
