"""Parsing of `lamppost service`."""

import asyncio
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamppost_tools import terminal
from lamppost_tools.errors import EXIT_DONE, EXIT_NO, MissingError, UsageError

if TYPE_CHECKING:
    from lamppost_protocol import tickets

    from lamppost_tools.service.visit import Permit
    from lamppost_tools.technician.settings import Technician

EXAMPLE = """Example: lamppost service 0a0b0c0d --port /dev/ttyUSB0 --technician technician (prints the nonce to read out); then
lamppost service 0a0b0c0d look --port /dev/ttyUSB0 --technician technician --ticket AAAA-AEAH-..."""
_MARGIN_S = 10.0


def service(
    node: Annotated[str, typer.Argument(help="the node at this line, 8 hex digits")],
    verb: Annotated[str | None, typer.Argument(help="look, test, light, restart, configure, resend; left out: who is there")] = None,
    port: Annotated[str, typer.Option(help="an adapter on the node's protocol line")] = "",
    technician: Annotated[Path | None, typer.Option(help="the folder that `technician init` made", envvar="LAMPPOST_TECHNICIAN")] = None,
    ticket: Annotated[
        str | None, typer.Option(help="a ticket's text as it was read out, or a file with it; kept for the next call")
    ] = None,
    city: Annotated[Path | None, typer.Option(help="city.toml: ask the authority there for a ticket", envvar="LAMPPOST_CITY")] = None,
    scopes: Annotated[str | None, typer.Option(help="with --city: what to ask for, with commas; left out: the verb alone")] = None,
    minutes: Annotated[int, typer.Option(help="with --city: for how long, from when the node gave its nonce", min=1, max=60)] = 30,
    seconds: Annotated[int | None, typer.Option(help="test: how long to wait; light: how long to shine (at most 1800)")] = None,
    config: Annotated[Path | None, typer.Option(help="configure: the node's TOML, as for `node enrol`")] = None,
    first_n: Annotated[int | None, typer.Option(help="resend: from this record")] = None,
    last_n: Annotated[int | None, typer.Option(help="resend: to this one")] = None,
    baud: Annotated[int, typer.Option(help="of the line", min=1200, max=3_000_000)] = 115200,
    is_json: Annotated[bool, typer.Option("--json", help="for machines")] = False,
) -> None:
    """Serve one node at its protocol line, with a ticket of the authority's for it. Every use stands in the node's signed history.

    Needs no network at the node: its nonce and the ticket can be read out over the telephone. Ends with 1 when the node says no.
    """
    from lamppost_tools.node.cli import parse_node
    from lamppost_tools.service.visit import ANSWER_S, Visit
    from lamppost_tools.service.words import answer_in_words
    from lamppost_tools.technician.settings import load_technician
    from lamppost_tools.ticket.rules import VERBS

    if not port:
        raise UsageError("which port?", "--port /dev/ttyUSB0: an adapter on the node's protocol line, in place of the gateway's")
    if technician is None:
        raise UsageError("who are you?", "--technician DIR: the folder that `lamppost technician init` made")
    if verb is not None and verb not in VERBS:
        raise UsageError(f"{verb!r} is no verb", f"of {', '.join(VERBS)}")
    number, who = parse_node(node), load_technician(technician)
    arguments = [] if verb is None else _arguments(verb, who, seconds, config, first_n, last_n)
    with Visit(port, baud, who.private_key()) as visit:
        facts = visit.facts()
        _check_node(facts, number, who)
        if verb is None and ticket is None:
            _tell_facts(facts, is_json)
            return
        wanted = [verb or "look"] if scopes is None else [name.strip() for name in scopes.split(",")]
        permit = _permit(facts, who, ticket, None if city is None else (city, wanted, minutes))
        if facts.ticket < permit.number:
            facts = visit.present(permit)
        if verb is None:
            _tell_facts(facts, is_json)
            return
        _check_scope(permit, verb)
        deadline_s = _MARGIN_S + (arguments[0] if verb == "test" else 0) if verb in ("test", "restart") else ANSWER_S
        answer = visit.ask(facts, VERBS[verb], arguments, deadline_s)
    if verb == "configure" and answer.result == 0:
        _tell_the_registry(who, number, arguments[0])
    told = answer_in_words(VERBS[verb], answer, number, _newest_version())
    if is_json:
        terminal.print_json(told)
    else:
        terminal.print_words(told)
    raise typer.Exit(EXIT_DONE if answer.result == 0 else EXIT_NO)


def _arguments(
    verb: str, who: "Technician", seconds: int | None, config: Path | None, first_n: int | None, last_n: int | None
) -> list[Any]:
    from lamppost_protocol import cbor, tickets
    from lamppost_protocol.errors import ProtocolError

    from lamppost_tools.node.config import load_node_config
    from lamppost_tools.ticket.rules import VERBS

    arguments: list[Any] = []
    if verb == "test":
        arguments = [60 if seconds is None else seconds]
    elif verb == "light":
        arguments = [600 if seconds is None else seconds]
    elif verb == "configure":
        if config is None:
            raise UsageError("configure what?", "--config FILE, as for `lamppost node enrol`")
        arguments = [cbor.encode(load_node_config(config, who.authority.network)[0])]
    elif verb == "resend":
        if first_n is None or last_n is None:
            raise UsageError("resend what?", "--first-n and --last-n, the numbers of records")
        arguments = [first_n, last_n]
    try:
        tickets.encode_request(tickets.Request(bytes(8), VERBS[verb], arguments))
    except ProtocolError:
        most = f"test 1 to {tickets.MAX_TEST_S} s, light 1 to {tickets.MAX_LIGHT_S} s, configure {tickets.MAX_CONFIGURATION_BYTES} octets"
        raise UsageError(f"{verb} does not go like this: {arguments}", most) from None
    return arguments


def _tell_the_registry(who: "Technician", node: int, encoded: bytes) -> None:
    """The authority holds changes by order against what the registry says: it must not be what the node had before."""
    from lamppost_protocol import cbor

    from lamppost_tools.node.enrol import registered_settings
    from lamppost_tools.node.registry import Registry

    registry = Registry(who.registry)
    config: Any = cbor.decode(encoded)
    if registry.path.exists() and f"{node:08x}" in registry.nodes():
        registry.reconfigure(node, registered_settings(config))
    else:
        terminal.err.print(f"{registry.path} does not know this node: whoever keeps its registry has to hear of the new configuration")


def _check_node(facts: "tickets.Facts", node: int, who: "Technician") -> None:
    if facts.network != who.authority.network:
        raise UsageError(
            f"this node is of network {facts.network:08x}, you are of {who.authority.network:08x}", "another city's is left alone"
        )
    if facts.node != node:
        raise UsageError(f"the node at this line is {facts.node:08x}, not {node:08x}", "look at the label and at the cable")


def _permit(facts: "tickets.Facts", who: "Technician", given: str | None, city: tuple[Path, list[str], int] | None) -> "Permit":
    """The ticket given, the one that was given before for this nonce, or one that the authority signs now."""
    from lamppost_protocol.es256_host import public_key

    from lamppost_tools.service.visit import permit_of
    from lamppost_tools.ticket.by_voice import nonce_text, ticket_of

    holder = public_key(who.private_key())
    kept = who.folder / "tickets" / f"{facts.node:08x}.txt"
    kept_nonce, _, kept_text = kept.read_text().partition("\n") if kept.exists() else ("", "", "")
    if given is not None:
        text = Path(given).read_text() if Path(given).is_file() else given
    elif city is not None:
        text = _ask_the_city(facts, holder, *city)
    elif kept_nonce == facts.nonce.hex():
        text = kept_text
    else:
        raise MissingError(
            f"no ticket. Read out: node {facts.node:08x}, nonce {nonce_text(facts.nonce)}, and what you mean to do",
            "the authority's desk runs `lamppost authority ticket --node .. --nonce ..` and reads the text to you, for --ticket",
        )
    frame = ticket_of(text, facts.nonce, holder, who.authority.issuer)
    permit = permit_of(frame, who.authority, facts.node, facts.epoch)
    if given is not None or city is not None:
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        kept.write_text(f"{facts.nonce.hex()}\n{text.strip()}\n")
    return permit


def _ask_the_city(facts: "tickets.Facts", holder: bytes, path: Path, scopes: list[str], minutes: int) -> str:
    from lamppost_tools.city import find_city
    from lamppost_tools.order.client import new_request_id
    from lamppost_tools.ticket.client import ask_for_ticket
    from lamppost_tools.ticket.rules import scopes_of

    scopes_of(scopes)
    found = find_city(path, None, None, None)
    request = {
        "v": 1, "request_id": new_request_id(), "node": f"{facts.node:08x}", "epoch": facts.epoch, "nonce": facts.nonce.hex(),
        "technician_key": holder.hex(), "scopes": scopes, "minutes": minutes,
    }  # fmt: skip
    return str(asyncio.run(ask_for_ticket(found.broker, found.network, request)).get("text"))


def _check_scope(permit: "Permit", verb: str) -> None:
    from lamppost_protocol import tickets

    from lamppost_tools.frame.service import scopes_in_words
    from lamppost_tools.ticket.rules import VERBS

    if not permit.ticket.scopes & tickets.scope_of(VERBS[verb]):
        allowed = ", ".join(scopes_in_words(permit.ticket.scopes))
        raise UsageError(f"this ticket allows {allowed}, not {verb}", "ask for another: a newer ticket takes its place")


def _tell_facts(facts: "tickets.Facts", is_json: bool) -> None:
    from lamppost_tools.frame.service import answer_in_words
    from lamppost_tools.ticket.by_voice import nonce_text

    words = {**answer_in_words(facts), "nonce_to_read_out": nonce_text(facts.nonce)}
    if is_json:
        terminal.print_json(words)
        return
    terminal.print_words(words)
    terminal.out.print(
        f"next: lamppost authority ticket --node {facts.node:08x} --nonce {nonce_text(facts.nonce)} ... at the desk, or --city here"
    )


def _newest_version() -> int:
    major, minor, patch = (int(part) for part in metadata.version("lamppost").split(".")[:3])
    return major << 16 | minor << 8 | patch
