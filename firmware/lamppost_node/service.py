"""A technician at this node's line: a nonce, the ticket under it, his requests. WIRE.md section 18.

Loaded when one asks and given back when his nonce has ended, for hardly any node ever hears one. What is refused is raised for the downlink
to count: no word of it goes out, and nothing is written before the authority's signature has been verified. What is done stands on flash
first.
"""

import asyncio
import os

from lamppost_protocol import cose, frames, kinds, orders, slip, tickets
from lamppost_protocol.errors import LocalError, RemoteError
from lamppost_protocol.p256 import Verifier
from lamppost_protocol.p256_tables import build_table

from lamppost_node import health
from lamppost_node.unload import unload
from lamppost_node.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lamppost_node.downlink import Downlink
    from lamppost_node.flash import Flash
    from lamppost_node.identity import Identity
    from lamppost_node.links.serial import SerialLink
    from lamppost_node.sequence_store import SequenceStore
    from lamppost_node.services import Services
    from lamppost_node.spool import Spool
    from lamppost_node.uplink import Uplink

_KIND = kinds.kind_of(kinds.SERVICE)
_FACTS_MS = 1000  # between two answers to questions
_LOOK_MS = 250
_LOOK_FOR_END_S = 5
#: Teeth and blocks of a holder's comb table: the smallest that is worth its making, for one visit.
_TEETH, _BLOCKS = 4, 1


class Service:
    """One nonce's life. At its end it takes itself off the downlink, and gives back the memory of what was loaded for it."""

    def __init__(
        self,
        downlink: "Downlink",
        node: "Services",
        identity: "Identity",
        uplink: "Uplink",
        flash: "Flash",
        fixtures: "dict[int, Any]",
        restart: "Callable[[], None]",
        parts: "tuple[SequenceStore, Spool, SerialLink | None, Callable[[int], list[int | None]], str]",
    ):
        """`parts`: as Downlink has them. Raises RemoteError where there is no line to answer on."""
        self._sequence, self._spool, line, self._health_values, self._configuration = parts
        if line is None:
            raise RemoteError("unknown_node")
        self._line = line
        self._downlink = downlink
        self._node = node
        self._identity = identity
        self._uplink = uplink
        self._flash = flash
        self._fixtures = fixtures
        self._restart = restart
        self._nonce: bytes = os.urandom(8)
        self._born_ms = node.clock.monotonic_ms()
        self._ends_ms = self._born_ms + tickets.NONCE_LIFE_S * 1000
        self._facts_due_ms = 0
        self._ticket = 0
        self._scopes = 0
        self._holder_id = 0
        self._verifier: Verifier | None = None
        self._asked = 0
        self._tested = 0  # the test that waits for its answer, 0: none
        asyncio.create_task(self._run_out())  # noqa: RUF006 - MicroPython's loop keeps it, and nobody ends it

    async def _run_out(self) -> None:
        while not self.is_over():
            await asyncio.sleep(_LOOK_FOR_END_S)
        self._downlink.service = None
        unload("lamppost_node.service", "lamppost_protocol.tickets", "lamppost_protocol.p256_tables")

    def is_over(self) -> bool:
        """Whether the nonce has ended, and the ticket with it."""
        return self._node.clock.monotonic_ms() >= self._ends_ms

    async def take(self, body: bytes) -> None:
        """One message of a technician's. Raises RemoteError for what is refused. May write flash, may take a verification's time."""
        if self.is_over():
            raise RemoteError("replayed")
        if not body:
            now_ms = self._node.clock.monotonic_ms()
            if now_ms >= self._facts_due_ms:
                self._facts_due_ms = now_ms + _FACTS_MS
                await self._tell_facts()
            return
        message = cose.decode(body)
        if message.kind != cose.SIGN1:
            raise RemoteError("bad_cose")
        if tickets.is_ticket(message.payload):
            await self._take_ticket(message)
        else:
            await self._take_request(message)

    async def _tell_facts(self) -> None:
        who = self._identity
        state = health.hello_state(self._node.is_safe_mode, self._sequence.is_lost)
        left_s = max(0, self._ends_ms - self._node.clock.monotonic_ms()) // 1000
        facts = tickets.Facts(who.network, who.node, who.epoch, state, self._nonce, left_s, self._ticket, self._asked, VERSION)
        await self._line.send(slip.SERVICE_ANSWER, tickets.encode_facts(facts))

    async def _take_ticket(self, message: cose.Message) -> None:
        identity = self._identity
        if message.kid != identity.issuer:
            raise RemoteError("unknown_issuer")
        ticket = tickets.decode_ticket(message.payload)
        ends_ms = self._born_ms + ticket.valid_s * 1000
        if ticket.nonce != self._nonce or message.tx <= self._ticket or self._node.clock.monotonic_ms() >= ends_ms:
            raise RemoteError("replayed")
        await self._downlink.verified(message, identity.verifier, frames.TICKET, identity.node, identity.epoch)
        verifier = _verifier_of(ticket.holder, identity)
        holder_id = tickets.holder_id(ticket.holder)
        if self._is_recorded(message.tx, 0, 0, orders.NO_REASON, holder_id):
            self._ticket, self._scopes, self._holder_id, self._verifier = message.tx, ticket.scopes, holder_id, verifier
            self._ends_ms = ends_ms
        await self._tell_facts()

    async def _take_request(self, message: cose.Message) -> None:
        verifier, identity = self._verifier, self._identity
        if verifier is None:
            raise RemoteError("replayed")
        if message.kid != self._holder_id:
            raise RemoteError("unknown_issuer")
        request = tickets.decode_request(message.payload)
        if request.nonce != self._nonce:
            raise RemoteError("replayed")
        if not self._scopes & tickets.scope_of(request.verb):
            raise RemoteError("out_of_scope")
        if message.tx <= self._asked:
            raise RemoteError("replayed")
        await self._downlink.verified(message, verifier, frames.REQUEST, identity.node, identity.epoch)
        self._asked = message.tx
        reason, value = orders.STORE_FAULT, None
        if self._is_recorded(self._ticket, self._asked, request.verb, orders.NO_REASON, self._holder_id):
            if request.verb == tickets.TEST:
                self._begin_test(request.args[0])
                return
            reason, value = self._do(request.verb, request.args)
            if reason != orders.NO_REASON:
                self._is_recorded(self._ticket, self._asked, request.verb, reason, self._holder_id)
        await self._answer(self._asked, reason, value)
        if request.verb in (tickets.RESTART, tickets.CONFIGURE) and reason == orders.NO_REASON:
            self._restart()

    def _is_recorded(self, ticket: int, asked: int, verb: int, result: int, holder_id: int) -> bool:
        """Whether this use now stands in the node's history. Writes flash."""
        return self._node.emit(_KIND, kinds.GOOD, (ticket, asked, verb, result, holder_id), is_kept=True) > 0

    async def _answer(self, asked: int, result: int, value: object) -> None:
        await self._line.send(slip.SERVICE_ANSWER, tickets.encode_answer(tickets.Answer(asked, result, value)))

    def _do(self, verb: int, args: "list[Any]") -> tuple[int, object]:
        """Carry out what needs no time: (reason, value)."""
        if verb == tickets.LOOK:
            return orders.NO_REASON, self._look()
        if verb == tickets.LIGHT:
            return self._light(args[0]), None
        if verb == tickets.RESTART:
            return orders.NO_REASON, None
        try:
            from lamppost_node import node_orders

            if verb == tickets.RESEND:
                return node_orders.resend(args[0], args[1], self._uplink), None
            return node_orders.configure(args[0], self._node, self._flash), None
        finally:
            unload("lamppost_node.node_orders", "lamppost_node.config")

    def _look(self) -> "list[Any]":
        clock, line = self._node.clock, self._line
        beacon_s = None if clock.beacon_ms is None else (clock.monotonic_ms() - clock.beacon_ms) // 1000
        decoder = line.decoder
        refused = [decoder.bad_slip, decoder.bad_crc, decoder.bad_type, decoder.too_long, line.write_faults]
        times = [clock.now(), clock.uncertainty_s(), beacon_s]
        values = self._health_values(clock.monotonic_ms())
        return [values, times, refused, self._downlink.rejects, self._configuration, sorted(self._fixtures)]

    def _light(self, seconds: int) -> int:
        """Every lamp at full light for so long: nobody needs to know the time for that."""
        until_ms = self._node.clock.monotonic_ms() + seconds * 1000
        reason = orders.UNKNOWN_TARGET
        for fixture in self._fixtures.values():
            if hasattr(fixture, "lit_until_ms"):
                fixture.lit_until_ms = until_ms
                reason = orders.NO_REASON
        return reason

    def _begin_test(self, seconds: int) -> None:
        """Have every fixture measure; one that runs answers in place of the one before."""
        is_running = self._tested > 0
        self._tested = self._asked
        if not is_running:
            asyncio.create_task(self._test(seconds))  # noqa: RUF006 - MicroPython's loop keeps it, and nobody ends it

    async def _test(self, seconds: int) -> None:
        first_n = n = self._spool.next_n
        found: dict[int, list[int | None]] = {}
        for fixture in self._fixtures.values():
            fixture.report_due_ms = None
        until_ms = self._node.clock.monotonic_ms() + seconds * 1000
        while len(found) < len(self._fixtures) and self._node.clock.monotonic_ms() < until_ms:
            await asyncio.sleep(_LOOK_MS / 1000)
            while n < self._spool.next_n:
                record = self._spool.read_from(n)
                if record is None:
                    break
                if record.n >= first_n and record.kind in self._fixtures and record.kind not in found:
                    found[record.kind] = [record.kind, record.q] + list(record.values)  # noqa: RUF005 (no [*a] in MicroPython)
                n = record.n + 1
        asked, self._tested = self._tested, 0
        await self._answer(asked, orders.NO_REASON, [found[kind] for kind in sorted(found)])


def _verifier_of(holder: bytes, identity: "Identity") -> Verifier:
    """A verifier of a technician's key, some 0.3 s of arithmetic in the making. Raises RemoteError for what is no point of the curve."""
    x, y = int.from_bytes(holder[:32], "big"), int.from_bytes(holder[32:], "big")
    try:
        return Verifier(holder, identity.signer.comb, build_table(x, y, _TEETH, _BLOCKS))
    except LocalError:
        raise RemoteError("bad_payload", "holder") from None
