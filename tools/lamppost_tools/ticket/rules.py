"""Which ticket the authority agrees to sign: a request checked against registry and settings, or a named refusal. Pure.

A request comes from the broker, so nothing in it is trusted. Whoever publishes one gains nothing: the ticket is for the holder of the key.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from lamppost_protocol import profiles, tickets
from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.es256_host import HostVerifier
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lamppost_tools.authority.settings import TechnicianSettings
from lamppost_tools.errors import UsageError
from lamppost_tools.node.registry import valid_keys
from lamppost_tools.order.refusal import RequestRefusedError

#: What a ticket may allow, by name.
VERBS = {name: number for number, name in enumerate(profiles.SERVICE_VERBS) if number}
MOST_MINUTES = tickets.NONCE_LIFE_S // 60


class TicketRequest(BaseModel):
    """`ticket/request` as a technician's tool publishes it. `minutes` from the nonce's birth."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: Literal[1] = 1
    request_id: str = Field(pattern=r"^[A-Za-z0-9._:-]{1,64}$")
    node: str = Field(pattern=r"^[0-9a-f]{8}$")
    epoch: Annotated[int, Field(ge=1, le=2**32 - 1, strict=True)] | None = None
    nonce: str = Field(pattern=r"^[0-9a-f]{16}$")
    technician_key: str = Field(pattern=r"^[0-9a-f]{128}$")
    scopes: list[Literal["look", "test", "light", "restart", "configure", "resend"]] = Field(min_length=1, max_length=len(VERBS))
    minutes: Annotated[int, Field(ge=1, le=MOST_MINUTES, strict=True)] = 30


@dataclass(frozen=True)
class AgreedTicket:
    """What will be signed, for whom in words."""

    node: int
    epoch: int
    ticket: tickets.Ticket
    scopes: list[str]
    technician: str


def parse_request(data: bytes) -> TicketRequest:
    """Decode the JSON of a request. Raises RequestRefusedError("bad_request") naming every wrong field."""
    try:
        return TicketRequest.model_validate_json(data)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(str(p) for p in e['loc']) or 'request'}: {e['msg']}" for e in error.errors()[:8])
        raise RequestRefusedError("bad_request", wrong) from None


def agree(request: TicketRequest, nodes: dict[str, Any], technicians: Iterable[TechnicianSettings]) -> AgreedTicket:
    """The ticket for a technician whom the settings list, with scopes that he may have. Raises RequestRefusedError."""
    known = {one.key: one for one in technicians}.get(request.technician_key)
    if known is None:
        raise RequestRefusedError("unknown_technician", "this key is not in the authority's settings")
    beyond = [scope for scope in request.scopes if scope not in known.scopes]
    if beyond:
        raise RequestRefusedError("beyond_scopes", f"{known.name} may not have: {', '.join(beyond)}")
    return at_the_desk(request, nodes, known.name)


def at_the_desk(request: TicketRequest, nodes: dict[str, Any], technician: str) -> AgreedTicket:
    """The same where a person at the authority's desk has decided. Raises RequestRefusedError."""
    entry = nodes.get(request.node)
    if entry is None:
        raise RequestRefusedError("unknown_node", f"node {request.node} is not in the registry")
    if entry.get("revoked"):
        raise RequestRefusedError("revoked_node", f"node {request.node} is revoked")
    epoch = int(entry["epoch"]) if request.epoch is None else request.epoch
    if epoch not in valid_keys(entry):
        raise RequestRefusedError("wrong_epoch", f"epoch {epoch} of node {request.node} is not valid")
    holder = bytes.fromhex(request.technician_key)
    try:
        HostVerifier(holder)
    except ProtocolError:
        raise RequestRefusedError("bad_request", "technician_key is no point of P-256") from None
    ticket = tickets.Ticket(bytes.fromhex(request.nonce), request.minutes * 60, scopes_of(request.scopes), holder)
    return AgreedTicket(int(request.node, 16), epoch, ticket, list(request.scopes), technician)


def scopes_of(names: Iterable[str]) -> int:
    """The bits of these verbs. Raises UsageError for a word that is none."""
    bits = 0
    for name in names:
        if name not in VERBS:
            raise UsageError(f"{name!r} is no scope", f"of {', '.join(VERBS)}, with commas between")
        bits |= tickets.scope_of(VERBS[name])
    return bits
