"""What is said between a technician and a node in words: tickets, requests, facts, answers. WIRE.md section 18."""

from typing import Any

from lamppost_protocol import hello, order_words, profiles, tickets

from lamppost_tools.frame.words import plain, text_of_peer


def scopes_in_words(scopes: int) -> list[str]:
    """The verbs that a ticket allows."""
    return [name for verb, name in enumerate(profiles.SERVICE_VERBS) if verb and scopes & tickets.scope_of(verb)]


def ticket_in_words(number: int, ticket: tickets.Ticket) -> dict[str, Any]:
    """A ticket; its holder as in records, by the start of the key's SHA-256."""
    return {
        "what": "ticket",
        "ticket": number,
        "nonce": ticket.nonce.hex(),
        "valid_s": ticket.valid_s,
        "scopes": scopes_in_words(ticket.scopes),
        "holder": f"{tickets.holder_id(ticket.holder):08x}",
    }


def request_in_words(asked: int, request: tickets.Request) -> dict[str, Any]:
    """A technician's request."""
    verb = profiles.SERVICE_VERBS[request.verb]
    return {"what": "request", "asked": asked, "nonce": request.nonce.hex(), "verb": verb, "arguments": plain(request.args)}


def answer_in_words(answer: tickets.Facts | tickets.Answer) -> dict[str, Any]:
    """What the node told the technician."""
    if isinstance(answer, tickets.Answer):
        result = order_words.REASONS.get(answer.result, f"reason {answer.result}") or "done"
        return {"what": "service answer", "asked": answer.asked, "result": result, "value": plain(answer.value)}
    return {
        "what": "service facts",
        "network": f"{answer.network:08x}",
        "node": f"{answer.node:08x}",
        "epoch": answer.epoch,
        "state": hello.STATES[answer.state],
        "nonce": answer.nonce.hex(),
        "left_s": answer.left_s,
        "ticket": answer.ticket,
        "asked": answer.asked,
        "firmware": text_of_peer(answer.firmware),
    }
