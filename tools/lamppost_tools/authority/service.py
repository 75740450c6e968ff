"""The authority on the broker: requests in, signed orders, tickets and beacons out, until told to stop.

Loses the broker and comes back by itself; what it signed is in its log, so nothing depends on the connection.
The broker's access list decides who may publish `order/request`; the limits in `authority.toml` hold whoever asks.
"""

import asyncio
import json
import logging
from typing import Any

from lamppost_tools.authority.authority import Authority
from lamppost_tools.broker import BrokerLostError, BrokerSettings, Client, Topics, connect, end_tasks
from lamppost_tools.errors import MissingError, ToolError

_log = logging.getLogger("lamppost.authority")
_QOS = 1
_BACKOFF_FIRST_S = 0.2
_BACKOFF_LONGEST_S = 30.0
_MAX_REQUEST_BYTES = 8192  # a schedule or configuration is below 1 KB as CBOR; JSON of it stays far below this


class AuthorityService:
    """Runs one Authority on one broker."""

    def __init__(self, authority: Authority, broker: BrokerSettings, beacon_interval_s: int) -> None:
        self._authority = authority
        self._broker = broker
        self._beacon_interval_s = beacon_interval_s
        self._topics = Topics(authority.network)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; reconnects with backoff, first failure of a cycle warned once."""
        backoff_s, is_warned = _BACKOFF_FIRST_S, False
        while not stop.is_set():
            try:
                async with connect(self._broker, f"lamppost-authority-{self._authority.issuer:08x}") as client:
                    _log.info("connected broker=%s:%d", self._broker.host, self._broker.port)
                    backoff_s, is_warned = _BACKOFF_FIRST_S, False
                    await self._serve(client, stop)
            except (MissingError, BrokerLostError) as error:
                if not is_warned:
                    _log.warning("broker lost error=%s", error)
                    is_warned = True
                try:
                    await asyncio.wait_for(stop.wait(), backoff_s)
                except TimeoutError:
                    backoff_s = min(backoff_s * 2, _BACKOFF_LONGEST_S)

    async def _serve(self, client: Client, stop: asyncio.Event) -> None:
        heard = (self._topics.order_request, self._topics.hellos, self._topics.ticket_request, self._topics.order_states)
        await client.subscribe([(topic, _QOS) for topic in heard])
        tasks = [
            asyncio.create_task(self._run_messages(client), name="messages"),
            asyncio.create_task(self._run_beacons(client), name="beacons"),
            asyncio.create_task(stop.wait(), name="stop"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end_tasks(tasks)

    async def _run_messages(self, client: Client) -> None:
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            if len(payload) > _MAX_REQUEST_BYTES:
                _log.warning("message too long topic=%s bytes=%d", message.topic, len(payload))
            elif str(message.topic).endswith("/state"):
                await self._note_state(payload)
            elif message.retain:
                continue  # a retained request would be asked again at every connection
            elif str(message.topic) == self._topics.order_request:
                await self._answer_request(client, payload)
            elif str(message.topic) == self._topics.ticket_request:
                await self._answer_ticket_request(client, payload)
            else:
                await self._answer_hello(client, payload)

    async def _run_beacons(self, client: Client) -> None:
        while True:
            await self._publish(client, self._topics.beacon_signed, self._authority.beacon_for_all())
            await asyncio.sleep(self._beacon_interval_s)

    async def _answer_request(self, client: Client, payload: bytes) -> None:
        response, signed = await asyncio.to_thread(self._authority.answer_request, payload)
        if signed is not None:
            await self._publish(client, self._topics.order_signed, signed)
            _log.info("signed order=%d node=%s verb=%s", signed["order_id"], signed["node"], signed["verb"])
        elif "error" in response:
            _log.warning("refused request reason=%s", response["reason"])
        await self._publish(client, self._topics.order_response, response)

    async def _answer_ticket_request(self, client: Client, payload: bytes) -> None:
        response, signed = await asyncio.to_thread(self._authority.answer_ticket_request, payload)
        if signed is not None:
            await self._publish(client, self._topics.ticket_signed, signed)
            _log.info("signed ticket=%d node=%s holder=%s scopes=%s", *(signed[key] for key in ("ticket", "node", "holder", "scopes")))
        else:
            _log.warning("refused ticket reason=%s", response["reason"])
        await self._publish(client, self._topics.ticket_response, response)

    async def _note_state(self, payload: bytes) -> None:
        try:
            node = await asyncio.to_thread(self._authority.note_state, payload)
        except (ToolError, OSError) as error:
            _log.warning("registry keeps the former configuration error=%s", error)
            return
        if node is not None:
            _log.info("registry has the new configuration node=%s", node)

    async def _answer_hello(self, client: Client, payload: bytes) -> None:
        beacon = await asyncio.to_thread(self._authority.answer_hello, payload)
        if beacon is not None:
            await self._publish(client, self._topics.beacon_signed, beacon)
            _log.info("beacon node=%s unix=%d", beacon["node"], beacon["unix"])

    async def _publish(self, client: Client, topic: str, document: dict[str, Any]) -> None:
        await client.publish(topic, json.dumps(document, separators=(",", ":")).encode(), qos=_QOS)
