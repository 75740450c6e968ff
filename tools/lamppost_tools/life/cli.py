"""Parsing of what `lamppost node ...` does at a node's console."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lamppost_tools import terminal
from lamppost_tools.commission.proof import proof_words
from lamppost_tools.errors import UsageError
from lamppost_tools.life.visit import Desk
from lamppost_tools.node.cli import parse_node

REKEY_EXAMPLE = (
    "Example: lamppost node rekey 0a0b0c0d --technician technician --port /dev/ttyUSB0 --gateway-status /run/lamppost/status.sock"
)
DECOMMISSION_EXAMPLE = (
    "Example: lamppost node decommission 0a0b0c0d --technician technician --port /dev/ttyUSB0 --gateway-status /run/lamppost/status.sock"
)
RESET_EXAMPLE = "Example: lamppost node reset 0a0b0c0d --technician technician --port /dev/ttyUSB0"

_NODE = typer.Argument(help="node id, 8 hex digits: the board must be it")
_TECHNICIAN = typer.Option(help="the folder that `lamppost technician init` made", envvar="LAMPPOST_TECHNICIAN")
_PORT = typer.Option(help="the board's serial port; left out: the one USB port there is")
_STATUS = typer.Option(help="status socket of a gateway that hears the node")
_JSON = typer.Option("--json", help="for machines")


def rekey(
    node: Annotated[str, _NODE],
    technician: Annotated[Path, _TECHNICIAN],
    port: Annotated[str | None, _PORT] = None,
    gateway_status: Annotated[Path | None, _STATUS] = None,
    is_json: Annotated[bool, _JSON] = False,
) -> None:
    """New keys for a node in the next epoch: its counter was lost, its flash an old copy, or its key may be known.

    Both keys are valid until a gateway has verified a frame with the new one. Records keep their numbers. Interrupted anywhere, the same
    command goes on.
    """
    from lamppost_tools.commission.paper import write_rekeying_papers
    from lamppost_tools.life.rekey import rekey as run

    desk, private_key = desk_of(technician, gateway_status)
    document = run(desk, port_of(port), parse_node(node))
    papers = write_rekeying_papers(desk.technician.folder, document, private_key)
    tell(document, papers, f"node {document['node']} has the keys of epoch {document['epoch']}: {document['fingerprint']}", is_json)


def decommission(
    node: Annotated[str, _NODE],
    technician: Annotated[Path, _TECHNICIAN],
    port: Annotated[str | None, _PORT] = None,
    gateway_status: Annotated[Path | None, _STATUS] = None,
    reason: Annotated[str, typer.Option(help="stands in the registry for ever")] = "decommissioned",
    is_forced: Annotated[bool, typer.Option("--force", help="lose what no gateway has yet")] = False,
    is_json: Annotated[bool, _JSON] = False,
) -> None:
    """End a node's service: its last records fetched, its key revoked and erased. Its lamp stays lit at its safe level.

    Interrupted anywhere, the same command goes on.
    """
    from lamppost_tools.commission.paper import write_record
    from lamppost_tools.life.decommission import decommission as run

    desk, private_key = desk_of(technician, gateway_status)
    document = run(desk, port_of(port), parse_node(node), reason, is_forced)
    papers = write_record(desk.technician.folder, f"{document['node']}-decommissioned", document, private_key)
    lost = document["records_lost_at_most"]
    done = f"node {document['node']} is out of service, {f'up to {lost} records lost' if lost else 'all its records are fetched'}"
    tell(document, papers, done, is_json)


def reset(
    node: Annotated[str, _NODE],
    technician: Annotated[Path, _TECHNICIAN],
    port: Annotated[str | None, _PORT] = None,
    is_json: Annotated[bool, _JSON] = False,
) -> None:
    """Make a bare board of a node's: keys and state erased, the node revoked. What it has not sent is lost: see `decommission`.

    Refuses another city's board, and one that neither its key nor the registry proves. `lamppost commission` takes it again.
    """
    from lamppost_tools.commission.paper import write_record
    from lamppost_tools.life.reset import reset as run

    desk, private_key = desk_of(technician, None)
    document = run(desk, port_of(port), parse_node(node))
    papers = write_record(desk.technician.folder, f"{document['node']}-reset", document, private_key)
    tell(document, papers, f"the board of node {document['node']} is bare", is_json)


def desk_of(technician: Path, gateway_status: Path | None) -> tuple[Desk, bytes]:
    """What every visit needs, and the key that signs its record, read before anything is done to a board. Raises ToolError."""
    from lamppost_tools.node.enrol import KeySource
    from lamppost_tools.node.registry import Registry
    from lamppost_tools.technician.settings import load_technician

    known = load_technician(technician)

    def say(step: str, detail: str) -> None:
        terminal.err.print(f"{step}{': ' if detail else ''}{terminal.harmless(detail)}")

    return Desk(known, Registry(known.registry), KeySource(), gateway_status, say), known.private_key()


def port_of(port: str | None) -> str:
    """The port that is given, or the only one there is. Raises UsageError, MissingError."""
    from lamppost_tools.board.ports import find_ports

    if port is not None:
        return port
    found = find_ports()
    if len(found) != 1:
        raise UsageError(f"{len(found)} ports may have a board behind them: {', '.join(str(one) for one in found)}", "give --port")
    return found[0].port


def tell(document: dict[str, Any], papers: dict[str, str], done: str, is_json: bool) -> None:
    """What was done, what was not, and where its papers are."""
    if is_json:
        terminal.print_json({"verdict": "done", **document, **papers})
        return
    terminal.out.print(done)
    proof = document.get("proof")
    if isinstance(proof, dict):
        terminal.out.print(f"  {terminal.harmless(proof_words(proof))}")
    for text in document["not_done"]:
        terminal.out.print(f"  not done: {terminal.harmless(text)}")
    terminal.out.print("  " + "; ".join(f"{what}: {path}" for what, path in papers.items()))
