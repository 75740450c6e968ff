"""A technician at a node's line: question, ticket, requests, one after the other on one port. WIRE.md section 18.

Everything else that the node says meanwhile is passed over. What a node refuses it does not answer, so silence is told with what may be
behind it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from lamppost_protocol import cose, frames, profiles, slip, tickets
from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.es256_host import HostSigner, HostVerifier, public_key

from lamppost_tools.authority.public import AuthorityPublic
from lamppost_tools.board.ports import hear, open_line, say
from lamppost_tools.errors import DeadlineError, RefusedError

ANSWER_S = 6.0  # a chip verifies a ticket and makes its holder's table in under two
_AGAIN_S = 1.2  # a node answers a question once a second
_NO_NODE = "is this its protocol line, not its console, and the node running? Its radio's node that sleeps hears nothing"


@dataclass(frozen=True)
class Permit:
    """A ticket that the authority has signed for this technician: its octets, and what is in it."""

    frame: bytes
    number: int
    ticket: tickets.Ticket


def permit_of(frame: bytes, authority: AuthorityPublic, node: int, epoch: int) -> Permit:
    """What a ticket says, once the authority's signature for this node is verified. Raises RefusedError."""
    try:
        message = cose.decode(frame)
        ticket = tickets.decode_ticket(message.payload)
        frames.open_signed(message, HostVerifier(authority.public_key), frames.TICKET, authority.network, node, epoch)
    except ProtocolError as error:
        raise RefusedError(
            f"this ticket is not the authority's for node {node:08x}, its present nonce and this technician ({error})",
            "a nonce ends after an hour, or with its ticket: ask for a ticket for the one that the node gives now",
        ) from None
    return Permit(frame, message.tx, ticket)


class Visit:
    """A context manager: the port is ours meanwhile. `key`: the technician's private key."""

    def __init__(self, port: str, baud: int, key: bytes) -> None:
        self._port, self._baud = port, baud
        self._signer = HostSigner(key)
        self._kid = tickets.holder_id(public_key(key))
        self._decoder = slip.Decoder()

    def __enter__(self) -> Self:
        self._line = open_line(self._port, self._baud)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._line.close()

    def facts(self) -> tickets.Facts:
        """Who is there, and its nonce. Raises DeadlineError where no node answers."""
        until_s = time.monotonic() + ANSWER_S
        while time.monotonic() < until_s:
            say(self._line, slip.END + slip.encode(slip.SERVICE, b""))
            answer = self._hear(lambda answer: isinstance(answer, tickets.Facts), _AGAIN_S)
            if isinstance(answer, tickets.Facts):
                return answer
        raise DeadlineError(f"no node answers on {self._port}", _NO_NODE)

    def present(self, permit: Permit) -> tickets.Facts:
        """Put a ticket in force. Raises RefusedError where the node could not, DeadlineError where it says nothing."""
        say(self._line, slip.encode(slip.SERVICE, permit.frame))
        answer = self._hear(lambda answer: isinstance(answer, tickets.Facts), ANSWER_S)
        if not isinstance(answer, tickets.Facts):
            answer = self.facts()
            if answer.ticket != permit.number:
                raise DeadlineError(
                    "the node does not answer to this ticket", "its time may be over, or the node has another authority: ask for a new one"
                )
        if answer.ticket != permit.number:
            raise RefusedError(
                "the node takes the ticket and cannot keep the record of it, so it serves nobody",
                "its flash refuses, or it is being decommissioned: see `lamppost doctor`",
            )
        return answer

    def ask(self, facts: tickets.Facts, verb: int, arguments: list[Any], deadline_s: float = ANSWER_S) -> tickets.Answer:
        """One request under the ticket in force, and its answer. Raises DeadlineError where none comes."""
        asked = facts.asked + 1
        payload = tickets.encode_request(tickets.Request(facts.nonce, verb, arguments))
        frame = frames.seal(self._signer, frames.REQUEST, facts.network, facts.node, facts.epoch, self._kid, asked, payload)
        say(self._line, slip.encode(slip.SERVICE, frame))
        answer = self._hear(lambda answer: isinstance(answer, tickets.Answer) and answer.asked == asked, deadline_s)
        if isinstance(answer, tickets.Answer):
            return answer
        name = profiles.SERVICE_VERBS[verb]
        raise DeadlineError(f"no answer to {name} within {deadline_s:.0f} s", "ask again: each can be asked twice without harm")

    def _hear(self, is_it: Callable[[tickets.Facts | tickets.Answer], bool], deadline_s: float) -> tickets.Facts | tickets.Answer | None:
        """The first answer that is meant, None when none came in time."""
        until_s = time.monotonic() + deadline_s
        while time.monotonic() < until_s:
            for message_type, body in self._decoder.feed(hear(self._line)):
                if message_type != slip.SERVICE_ANSWER:
                    continue
                try:
                    answer = tickets.decode_answer(body)
                except ProtocolError:
                    continue
                if is_it(answer):
                    return answer
        return None
