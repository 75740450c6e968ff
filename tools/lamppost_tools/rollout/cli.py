"""Parsing of `lamppost rollout ...`."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lamppost_tools import terminal
from lamppost_tools.duration import parse_duration_s
from lamppost_tools.errors import EXIT_NO, MissingError, RefusedError, UsageError
from lamppost_tools.rollout.rules import Limits

app = typer.Typer(no_args_is_help=True, help="A release for many nodes, in stages that stop by themselves.")

_City = Annotated[Path | None, typer.Option("--city", help="city.toml: network and broker", envvar="LAMPPOST_CITY")]
_Network = Annotated[str | None, typer.Option("--network", help="8 hex digits, instead of the city file's")]
_Host = Annotated[str | None, typer.Option("--broker-host", help="instead of the city file's")]
_Port = Annotated[int | None, typer.Option("--broker-port", help="instead of the city file's")]
_Json = Annotated[bool, typer.Option("--json", help="one JSON document a line for machines")]
_Journal = Annotated[Path, typer.Option(help="the roll-out's file: everything decided, before it is done")]
_DEFAULT = Limits()
_NO_JOURNAL = "give the --journal of a roll-out; `lamppost rollout start` makes one"


@app.command(
    epilog="Example: lamppost rollout start lamppost-0.2.0 --nodes all --registry gateway/registry.json --stages 1%,10%,100% "
    "--journal rollouts/0.2.0.jsonl --city city.toml"
)
def start(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a signed release, published to the gateways")],
    nodes: Annotated[str, typer.Option(help="all: every node of --registry in service; or a file with an id a line")],
    journal: _Journal,
    registry: Annotated[
        Path | None, typer.Option(help="registry.json, for --nodes all; knows who is on LoRa", envvar="LAMPPOST_REGISTRY")
    ] = None,
    stages: Annotated[str, typer.Option(help="how many nodes have it after each stage; rounded up; the last one is 100%")] = "1%,10%,100%",
    soak: Annotated[str, typer.Option(help="how long a stage is watched after its last update: a lamp should live a night")] = "24h",
    valid: Annotated[
        str | None,
        typer.Option("--for", help="until when a node must have fetched and tried it, from its order on [24h; with nodes on LoRa 7d]"),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="how long a stage waits for a node's health; unheard, it gets no order [2h; with nodes on LoRa 24h]")
    ] = None,
    silence: Annotated[
        str | None,
        typer.Option(help="how long after the soak an updated node may still be silent before the halt [2h; with nodes on LoRa 24h]"),
    ] = None,
    at_once: Annotated[int, typer.Option(help="nodes with an open order at a time", min=1)] = 50,
    max_reverted: Annotated[int, typer.Option(help="nodes that may go back or refuse; one more halts it", min=0)] = _DEFAULT.max_reverted,
    max_moved: Annotated[int, typer.Option(help="updated nodes that may do worse; one more halts it", min=0)] = _DEFAULT.max_moved,
    max_absent: Annotated[
        int, typer.Option(help="percent of a stage that may end without a word; more halts it as unclear", min=0, max=100)
    ] = _DEFAULT.max_absent_percent,
    more_boots: Annotated[int, typer.Option(help="boots of a node beyond the update's own that are no worse", min=0)] = _DEFAULT.more_boots,
    heap_drop: Annotated[
        int, typer.Option(help="percent by which its free heap may fall; some does, a release runs from the heap", min=0, max=100)
    ] = _DEFAULT.heap_drop_percent,
    more_rejects: Annotated[
        int, typer.Option(help="frames that it may refuse beyond --rejects-factor times its rate before", min=0)
    ] = _DEFAULT.more_rejects,
    more_gateway_rejects: Annotated[
        int, typer.Option(help="its frames that gateways may refuse beyond that factor times their rate before", min=0)
    ] = _DEFAULT.more_gateway_rejects,
    rejects_factor: Annotated[int, typer.Option(help="how many times its refusals before are no worse", min=0)] = _DEFAULT.rejects_factor,
    more_task_restarts: Annotated[int, typer.Option(help="more restarts of tasks that are no worse", min=0)] = _DEFAULT.more_task_restarts,
    city: _City = None, network: _Network = None, broker_host: _Host = None, broker_port: _Port = None, is_json: _Json = False,
) -> None:  # fmt: skip
    """Order it for the first nodes, watch them, and only then for more. New lamp faults, too, halt it: the same in three records on end.

    It watches until it is done (0) or halted (1); ended before that, `lamppost rollout resume` goes on. Each node is compared with itself
    before its update.
    """
    from lamppost_tools.city import find_city
    from lamppost_tools.release.files import read_release
    from lamppost_tools.rollout.course import AIR_PACE, Pace
    from lamppost_tools.rollout.run import begin, known_gateways
    from lamppost_tools.rollout.stages import parse_stages

    numbers, has_lora = _nodes(nodes, registry)
    usual = AIR_PACE if has_lora else Pace()
    order_s, baseline_s, silence_s = (
        parse_duration_s(text, option) if text else default_s
        for text, option, default_s in (
            (valid, "--for", usual.order_s), (baseline, "--baseline", usual.baseline_s), (silence, "--silence", usual.silence_s),
        )
    )  # fmt: skip
    pace = Pace(parse_duration_s(soak, "--soak"), order_s, baseline_s, silence_s, at_once)
    limits = Limits(
        more_boots, heap_drop, more_rejects, more_gateway_rejects, rejects_factor, more_task_restarts, max_moved, max_reverted, max_absent
    )  # fmt: skip
    wanted = parse_stages(stages)
    release = read_release(file)
    manifest = release.told()
    if release.signed is None or manifest is None:
        raise RefusedError(f"{file} is not signed: no node would take it", "lamppost release sign, then publish it")
    found = find_city(city, network, broker_host, broker_port)
    with _locked(journal):
        lines = _open(journal)
        if lines.entries:
            raise RefusedError(
                f"{journal} is the journal of a roll-out already", "lamppost rollout resume goes on; a new one needs a new file"
            )
        about = {
            "manifest": release.signed.hex(), "version": manifest.version, "sequence": manifest.sequence, "digest": manifest.digest.hex(),
        }  # fmt: skip
        begin(lines, numbers, asyncio.run(known_gateways(found)), wanted, about, {"pace": asdict(pace), "limits": asdict(limits)})
        _run(lines, found, is_json)


@app.command(epilog="Example: lamppost rollout resume --journal rollouts/0.2.0.jsonl --city city.toml --leave-out 0000a001")
def resume(
    journal: _Journal,
    accept: Annotated[bool, typer.Option("--accept", help="what halted it is known and no reason to stop again; new trouble is")] = False,
    leave_out: Annotated[list[str] | None, typer.Option(help="a node that is to stay as it is; repeat it")] = None,
    city: _City = None, network: _Network = None, broker_host: _Host = None, broker_port: _Port = None, is_json: _Json = False,
) -> None:  # fmt: skip
    """Go on where it was ended or halted. Nodes whose order was taken back or came to nothing get another one."""
    from lamppost_tools.city import find_city
    from lamppost_tools.node.cli import parse_node

    found = find_city(city, network, broker_host, broker_port)
    names = [f"{parse_node(name):08x}" for name in leave_out or []]
    with _locked(journal):
        lines = _existing(journal)
        course = _course(lines)
        if strangers := sorted(set(names) - set(course.nodes)):
            raise UsageError(f"--leave-out {strangers[0]}: no node of this roll-out", "see `lamppost rollout status`")
        if not course.is_done and (course.halted or names or accept):
            lines.note("resume", accept=accept, leave_out=names)
        _run(lines, found, is_json)


@app.command(epilog="Example: lamppost rollout status --journal rollouts/0.2.0.jsonl")
def status(journal: _Journal, is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False) -> None:
    """How far it is, what stopped it and what to do next. Reads the journal alone; ends with 1 when it is halted."""
    from lamppost_tools.rollout.words import document_of

    course = _course(_existing(journal, is_read_only=True))
    document = document_of(course)
    if is_json:
        terminal.print_json(document)
    else:
        _show(document)
    raise typer.Exit(EXIT_NO if course.halted else 0)


@app.command(epilog="Example: lamppost rollout halt --journal rollouts/0.2.0.jsonl --city city.toml")
def halt(
    journal: _Journal, city: _City = None, network: _Network = None, broker_host: _Host = None, broker_port: _Port = None,
    is_json: _Json = False,
) -> None:  # fmt: skip
    """Stop it, whether it runs or not: no more orders, and nodes that are still fetching are told to leave it."""
    from lamppost_tools.city import find_city
    from lamppost_tools.durable import write_file
    from lamppost_tools.rollout.run import halt_path

    found = find_city(city, network, broker_host, broker_port)
    if _course(_existing(journal, is_read_only=True)).is_over:
        raise RefusedError("it is over already", "see `lamppost rollout status`")
    write_file(halt_path(journal), b"")
    try:
        with _locked(journal):
            _run(_existing(journal), found, is_json)
    except RefusedError as error:
        if error.what != _TAKEN:
            raise
        terminal.err.print("it runs, and stops within a second or two")


_TAKEN = "a roll-out is running by this journal"


def _locked(journal: Path) -> Any:
    from lamppost_tools.durable import FileLock

    journal.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(
        journal.with_name(journal.name + ".lock"), _TAKEN, "watch it with `lamppost rollout status`, stop it with `lamppost rollout halt`"
    )


def _open(journal: Path, is_read_only: bool = False) -> Any:
    import time

    from lamppost_tools.journal import JournalFile

    return JournalFile(journal, time.time, _NO_JOURNAL, is_read_only)


def _existing(journal: Path, is_read_only: bool = False) -> Any:
    if not journal.exists():
        raise MissingError(f"{journal} does not exist", _NO_JOURNAL)
    return _open(journal, is_read_only)


def _course(lines: Any) -> Any:
    from lamppost_tools.rollout.course import Course

    try:
        course = Course.of(lines.entries)
    except (KeyError, TypeError, ValueError, IndexError):
        raise RefusedError(f"{lines.path} is no journal of a roll-out", _NO_JOURNAL) from None
    if not course.rollout:
        raise RefusedError(f"{lines.path} is empty: this roll-out never began", "lamppost rollout start")
    return course


def _run(lines: Any, city: Any, is_json: bool) -> None:
    from lamppost_tools.rollout.run import Driver
    from lamppost_tools.rollout.words import line_of

    _course(lines)

    def tell(entry: dict[str, Any]) -> None:
        if is_json:
            terminal.print_json(entry)
        elif entry["step"] not in ("request", "cancel"):
            terminal.out.print(terminal.harmless(line_of(entry, driver.course)))

    driver = Driver(lines, city, tell)
    if len(lines.entries) == 1:
        tell(lines.entries[0])
    try:
        asyncio.run(driver.run())
    except KeyboardInterrupt:
        raise RefusedError(
            "not watched any more; nodes with an order go on with it", "lamppost rollout resume, or lamppost rollout halt"
        ) from None
    if driver.course.halted:
        raise RefusedError(driver.course.halted, driver.course.next_step)


def _nodes(nodes: str, registry: Path | None) -> tuple[list[str], bool]:
    """The nodes that are meant, and whether the registry knows one of them to be on LoRa."""
    from lamppost_tools.node.cli import parse_node
    from lamppost_tools.node.registry import Registry

    entries = Registry(registry).nodes() if registry is not None else {}
    if nodes == "all":
        if registry is None:
            raise UsageError("--nodes all needs --registry", "or give a file with node ids, one a line")
        found = [name for name, entry in entries.items() if not entry.get("revoked")]
    else:
        try:
            lines = [line.partition("#")[0].strip() for line in Path(nodes).read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            raise MissingError(f"{nodes} does not exist", "give `all`, or a file with node ids, one a line") from None
        found = [f"{parse_node(line):08x}" for line in lines if line]
    if not found:
        raise RefusedError("no node is meant", "see `lamppost node list`")
    return found, any("listens" in entries.get(name, {}) for name in found)


def _show(document: dict[str, Any]) -> None:
    terminal.out.print(f"release {document['version']}, sequence {document['sequence']}: {document['state']}")
    words = ("verified", "applied", "accepted", "sent", "queued", "asked", "waiting", "reverted", "refused", "expired", "lost", "left_out")
    used = [word for word in words if any(stage.get(word) for stage in document["stages"])]
    rows = [
        [f"{number}{' *' if number == document['stage'] else ''}", str(stage["nodes"]), *(str(stage.get(word, 0)) for word in used)]
        for number, stage in enumerate(document["stages"], 1)
    ]
    terminal.out.print(terminal.table("", ["stage", "nodes", *(word.replace("_", " ") for word in used)], rows))
    for name, node in document["nodes"].items():
        if node["moved"] or (node["reason"] and node["state"] != "verified"):
            terminal.out.print(
                terminal.harmless(f"{name} {node['state']}: {'; '.join([*node['moved'], node['reason'] or ''])}".rstrip("; :"))
            )
    if document["stopped_by"]:
        terminal.out.print(terminal.harmless(f"stopped by: {document['stopped_by']}"))
        terminal.out.print(terminal.harmless(f"next: {document['next_step']}"))
