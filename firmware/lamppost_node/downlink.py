"""What the line brings: acknowledgements, beacons, orders. Verified in the cheapest order, acted upon last.

An order's counter is on flash before anything is done with it. A repeated order is never acted upon again: its last state is told
once more. Its time is judged by this node's clock; while that was never set, only what adds light, or touches no lamp, is obeyed.
Remote data never raises past `take`: it becomes a count in `rejects`.
"""

import asyncio
import gc

from lamppost_protocol import beacons, cose, frames, orders, schedule, slip
from lamppost_protocol.errors import LocalError, RemoteError
from lamppost_protocol.orders import Order

from lamppost_node.health import Counters
from lamppost_node.identity import Identity
from lamppost_node.order_ledger import OrderLedger
from lamppost_node.refusal import Refused
from lamppost_node.unload import unload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lamppost_protocol.p256 import Verifier

    from lamppost_node.flash import Flash
    from lamppost_node.service import Service
    from lamppost_node.services import Services
    from lamppost_node.update import Update
    from lamppost_node.uplink import Uplink

TASK = "downlink"
_MAC0 = bytes((cose.MAC0,))
_REPEAT_MS = 5_000
_SKEW_S = 300  # the authority's clock may be ahead of the node's


class Downlink:
    """Takes messages. `fixtures`: kind -> object with `order`; `restart()` is asked for after a new configuration.

    `service_parts`: what a technician's `service` needs besides: sequence, spool, line, values of a health record, where the configuration
    came from.
    """

    def __init__(
        self,
        node: "Services",
        identity: Identity,
        ledger: OrderLedger,
        uplink: "Uplink",
        fixtures: "dict[int, Any]",
        flash: "Flash",
        restart: "Callable[[], None]",
        counters: Counters,
        make_update: "Callable[[], None]",
        service_parts: "tuple[Any, ...]",
    ):
        self._node = node
        self._identity = identity
        self._acknowledgements = frames.AcknowledgementReader(identity.hop_key, identity.network, identity.node, identity.epoch)
        self._ledger = ledger
        self._uplink = uplink
        self._fixtures = fixtures
        self._flash = flash
        self._restart = restart
        self._make_update = make_update
        #: Who fetches a release, None for most of a node's life.
        self.update: Update | None = None
        self._counters = counters
        self._service_parts = service_parts
        self.service: Service | None = None
        self._repeated_ms: int | None = None
        self.rejects: dict[str, int] = {}
        self.beacons_taken = 0
        self.time_set = asyncio.Event()

    async def take(self, message_type: int, body: bytes) -> None:
        """One serial message. Never raises for what it contains. May write flash, may take a verification's time."""
        if message_type == slip.PIECE and self.update is not None:
            self.update.take(body)
        try:
            if message_type == slip.SERVICE:
                if self.service is None:
                    if body:
                        raise RemoteError("replayed")
                    gc.collect()
                    from lamppost_node.service import Service  # hardly any node ever hears a technician

                    self.service = Service(
                        self, self._node, self._identity, self._uplink, self._flash, self._fixtures, self._restart, self._service_parts
                    )
                await self.service.take(body)
            elif message_type != slip.FRAME:
                return
            elif body[:1] == _MAC0:
                self._take_acknowledgement(body)
            else:
                await self._take_signed(cose.decode(body))
        except RemoteError as error:
            self._reject(error.reason)

    def _reject(self, reason: str) -> None:
        self.rejects[reason] = self.rejects.get(reason, 0) + 1
        self._counters.rejects += 1

    def _take_acknowledgement(self, body: bytes) -> None:
        acknowledgement = self._acknowledgements.open(body)
        try:
            self._uplink.acknowledge(acknowledgement)
        except LocalError as error:
            raise RemoteError(error.reason, error.detail) from None

    async def _take_signed(self, message: cose.Message) -> None:
        if message.kid != self._identity.issuer:
            raise RemoteError("unknown_issuer")
        if beacons.is_beacon(message.payload):
            await self._take_beacon(message)
        elif orders.is_order(message.payload):
            await self._take_order(message)
        else:
            raise RemoteError("bad_payload", "neither beacon nor order")

    async def verified(self, message: cose.Message, verifier: "Verifier", direction: int, node: int, epoch: int) -> bytes:
        """The payload of a message that `verifier`'s key has signed. Raises RemoteError."""
        await asyncio.sleep(0)  # 0.2 s of arithmetic on a chip: whoever is due goes first
        try:
            payload = frames.open_signed(message, verifier, direction, self._identity.network, node, epoch)
        except LocalError:
            self._restart()  # a table went bad in RAM: only a new start reads it from flash
            raise
        await asyncio.sleep(0)
        return payload

    async def _take_beacon(self, message: cose.Message) -> None:
        beacon = beacons.decode_beacon(message.payload)
        if not self._node.clock.is_awaited(beacon.unix, beacon.nonce):
            return  # another node's, or nothing this clock could learn from: not worth a verification
        identity = self._identity
        if beacon.nonce is None:
            await self.verified(message, identity.verifier, frames.BEACON, 0, 0)
        else:
            await self.verified(message, identity.verifier, frames.BEACON, identity.node, identity.epoch)
        if self._node.clock.take_beacon(beacon.unix, beacon.nonce):
            self.beacons_taken += 1
            self.time_set.set()
        else:
            self._node.log("beacon not believed: before the time floor or too late")

    async def _take_order(self, message: cose.Message) -> None:
        order_id = message.tx
        if order_id <= self._ledger.highest and not self._ledger.is_lost:
            await self._repeat(message, order_id)
            return
        if self._ledger.is_lost and self._is_told_lately():
            raise RemoteError("replayed")  # nothing will be obeyed, and the same order again and again must not fill the spool
        identity = self._identity
        payload = await self.verified(message, identity.verifier, frames.ORDER, identity.node, identity.epoch)
        reason = self._advance(order_id)
        if reason == orders.NO_REASON:
            try:
                order = orders.decode_order(order_id, payload)
                reason = self._obey(order)
            except RemoteError:
                reason = orders.BAD_ARGUMENTS
            except Refused as refused:
                reason = refused.reason
        if reason == orders.NO_REASON:
            return
        state = orders.EXPIRED if reason == orders.TOO_LATE else orders.REFUSED
        self._node.order_state(order_id, state, reason)

    def _advance(self, order_id: int) -> int:
        if self._ledger.is_lost:
            return orders.STORE_FAULT
        try:
            self._ledger.advance(order_id)
        except OSError:
            return orders.STORE_FAULT
        return orders.NO_REASON

    async def _repeat(self, message: cose.Message, order_id: int) -> None:
        """An order from before: tell its last state again, verified and at most once in 5 s, so that nobody can fill the spool."""
        values = self._ledger.last_values(order_id)
        if values is None or self._is_told_lately():
            raise RemoteError("replayed")
        identity = self._identity
        await self.verified(message, identity.verifier, frames.ORDER, identity.node, identity.epoch)
        self._node.order_state(values[0] or 0, values[1] or 0, values[2] or 0, values[3], values[4], values[5])
        raise RemoteError("replayed")

    def _is_told_lately(self) -> bool:
        """Whether an order from before was answered within the last 5 s; if not, it counts as answered now."""
        now_ms = self._node.clock.monotonic_ms()
        if self._repeated_ms is not None and now_ms - self._repeated_ms < _REPEAT_MS:
            return True
        self._repeated_ms = now_ms
        return False

    def _obey(self, order: Order) -> int:
        """Carry out a verified, new order or hand it to its fixture; the reason when it is not. Raises Refused, RemoteError."""
        if order.verb > orders.LAST_VERB:
            return orders.UNKNOWN_VERB
        orders.check_arguments(order.verb, order.target, order.args)
        now = self._node.clock.now()
        latest = self._node.clock.latest()
        if latest is not None and order.not_after <= latest:
            return orders.TOO_LATE
        if now is not None and order.not_before > now + _SKEW_S and order.verb != orders.LEVEL:
            return orders.BAD_ARGUMENTS  # only a lease can wait for its time
        if order.verb >= orders.CONFIGURE or order.target == 0:
            return self._obey_itself(order)
        fixture = self._fixtures.get(order.target)
        if fixture is None or not hasattr(fixture, "order"):
            return orders.UNKNOWN_TARGET
        if self._node.is_safe_mode:
            return orders.SAFE_MODE
        if now is None and not (hasattr(fixture, "adds_light") and fixture.adds_light(order)):
            return orders.CLOCK_NEVER_SET
        if order.verb == orders.SCHEDULE:
            schedule.check_schedule(order.args[0])
        fixture.order(order)
        self._node.order_state(order.order_id, orders.ACCEPTED)
        return orders.NO_REASON

    def _updating(self) -> "Update | None":
        if self.update is None:
            self._make_update()
        return self.update

    def _obey_itself(self, order: Order) -> int:
        """An order to the node itself."""
        gc.collect()
        try:
            from lamppost_node import node_orders

            return node_orders.obey(order, self._node, self._uplink, self._flash, self._restart, self._updating)
        except (ImportError, MemoryError, OSError) as error:
            self._node.log("order not carried out: " + type(error).__name__)
            return orders.STORE_FAULT
        finally:
            unload("lamppost_node.node_orders", "lamppost_node.config", "lamppost_protocol.radio_limits")
