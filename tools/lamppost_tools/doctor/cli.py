"""Parsing of `lamppost doctor`."""

from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from lamppost_tools import terminal
from lamppost_tools.errors import EXIT_DONE, EXIT_NO, UsageError

EXAMPLE = "Example: lamppost doctor --from-gateway /var/lib/lamppost (or: --port /dev/ttyUSB0 --registry gateway/registry.json)"


def doctor(
    port: Annotated[str | None, typer.Option(help="a board's console; the node is interrupted, and reset in the end")] = None,
    from_gateway: Annotated[Path | None, typer.Option(help="a gateway's state folder, or a copy of its outbox.db")] = None,
    node: Annotated[str | None, typer.Option(help="with --from-gateway: only this node, 8 hex digits")] = None,
    registry: Annotated[
        Path | None, typer.Option(help="with --port: registry.json, for its network and keys", envvar="LAMPPOST_REGISTRY")
    ] = None,
    test_s: Annotated[int, typer.Option(help="with --port: how long fixtures may take for a good record", min=1, max=300)] = 12,
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """What is wrong with a node: one sentence each, what it comes from, and one next step. Ends with 1 when something was found."""
    from lamppost_tools.doctor.diagnosis import diagnose
    from lamppost_tools.doctor.outbox import evidence_of_gateway
    from lamppost_tools.node.cli import parse_node
    from lamppost_tools.node.registry import Registry

    if (port is None) == (from_gateway is None):
        raise UsageError("give one of --port and --from-gateway", "see `lamppost doctor --help`")
    newest = _version_number(metadata.version("lamppost"))
    if from_gateway is not None:
        name = None if node is None else f"{parse_node(node):08x}"
        seen = evidence_of_gateway(from_gateway, name, newest)
    else:
        from lamppost_tools.doctor.board import evidence_of_board

        assert port is not None
        seen = [evidence_of_board(port, Registry(registry).load() if registry is not None else None, newest, test_s)]
    found = [diagnose(one) for one in seen]
    if is_json:
        terminal.print_json(found)
    else:
        for number, one in enumerate(found):
            if number:
                terminal.out.print()
            _print(one)
        if not found:
            terminal.out.print("no node has sent anything to this gateway yet")
    raise typer.Exit(EXIT_NO if any(one["findings"] for one in found) else EXIT_DONE)


def _print(one: dict[str, object]) -> None:
    out, harmless = terminal.out, terminal.harmless
    out.print(f"node {one['node']}, by {one['source']}: {one['verdict']}")
    findings = one["findings"]
    assert isinstance(findings, list)
    for finding in findings:
        out.print(f"  {finding['symptom']}: {harmless(finding['evidence'])}")
        out.print(f"    cause: {finding['cause']}")
        out.print(f"    next:  {finding['next_step']}")
    not_judged = one["not_judged"]
    if isinstance(not_judged, list) and not_judged:
        out.print(f"  not judged from here: {', '.join(not_judged)}")


def _version_number(version: str) -> int:
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    return major << 16 | minor << 8 | patch
