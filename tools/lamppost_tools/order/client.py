"""An operator's side of an order: ask the authority, then follow the order's states to its end.

States come from the gateway (queued, sent) and from the node's own signed records (all others), each with its evidence.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from lamppost_tools.broker import BrokerLostError, BrokerSettings, Client, Topics, connect
from lamppost_tools.errors import DeadlineError, MissingError, RefusedError

_QOS = 1
_RESPONSE_DEADLINE_S = 10.0
_RETAINED_DEADLINE_S = 3.0
#: The state in which each verb has done what it was for; and those that end an order otherwise.
DONE_STATES = {
    "level": ("verified",),
    "cancel": ("accepted", "applied", "verified"),
    "schedule": ("accepted", "applied", "verified"),
    "resend": ("accepted", "applied", "verified"),
    "configure": ("verified",),
    "update": ("verified",),
}
FAILED_STATES = ("reverted", "expired", "refused")


def new_request_id() -> str:
    """A request id nobody else uses."""
    return secrets.token_hex(8)


async def send_order(
    broker: BrokerSettings,
    network: int,
    request: dict[str, Any],
    follow_s: float,
    show: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Publish a request, wait for its answer, then follow for at most `follow_s` seconds (0: do not follow).

    `show` gets the answer and every state as they come. Returns the last document. Raises RefusedError (by the authority,
    or the order failed), DeadlineError (nobody answered, or no final state in time), MissingError (no broker).
    """
    topics = Topics(network)
    async with connect(broker) as client:
        await client.subscribe([(topics.order_response, _QOS), (topics.order_states, _QOS)])
        await client.publish(topics.order_request, json.dumps(request).encode(), qos=_QOS)
        documents = _documents(client)
        early: list[dict[str, Any]] = []
        answer = await _answer(documents, topics, request, early)
        show(answer)
        if follow_s <= 0:
            return answer
        order_id, verb = int(answer["order_id"]), str(request["verb"])
        return await _follow(documents, topics, order_id, verb, early, follow_s, show)


async def show_order(broker: BrokerSettings, network: int, order_id: int) -> dict[str, Any]:
    """The last state a gateway published for an order. Raises DeadlineError when the broker holds none."""
    topic = Topics(network).order_state(order_id)
    async with connect(broker) as client:
        await client.subscribe(topic, _QOS)
        try:
            async with asyncio.timeout(_RETAINED_DEADLINE_S):
                async for found, document in _documents(client):
                    if found == topic:  # amqtt sends new subscribers retained messages of other topics too
                        return document
        except TimeoutError:
            pass
    raise DeadlineError(
        f"the broker holds no state of order {order_id}",
        "check the number; an order no gateway has taken yet has no state (is the node's gateway connected?)",
    )


async def _answer(
    documents: AsyncIterator[tuple[str, dict[str, Any]]],
    topics: Topics,
    request: dict[str, Any],
    early: list[dict[str, Any]],
) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_RESPONSE_DEADLINE_S):
            async for topic, document in documents:
                if topic != topics.order_response:
                    early.append(document)
                elif document.get("request_id") == request["request_id"]:
                    if "order_id" not in document:
                        raise RefusedError(
                            f"the authority refused: {document.get('reason')}: {document.get('error')}",
                            "correct the order; the authority's limits are in its authority.toml",
                        )
                    return document
    except TimeoutError:
        pass
    raise DeadlineError(
        f"no authority answered within {_RESPONSE_DEADLINE_S:.0f} s",
        "check that `lamppost authority run` runs on this broker and network; if it answers later, the order counts all the same",
    )


async def _follow(
    documents: AsyncIterator[tuple[str, dict[str, Any]]],
    topics: Topics,
    order_id: int,
    verb: str,
    early: list[dict[str, Any]],
    follow_s: float,
    show: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    deadline = time.monotonic() + follow_s
    last: dict[str, Any] = {"order_id": order_id, "state": "signed"}
    seen: list[tuple[Any, Any]] = []

    def is_end(document: dict[str, Any]) -> bool:
        nonlocal last
        mark = (document.get("state"), document.get("at"))
        if document.get("order_id") != order_id or mark in seen:
            return False
        seen.append(mark)
        last = document
        show(document)
        if document.get("state") in FAILED_STATES:
            raise RefusedError(
                f"order {order_id} ended {document['state']}", "the evidence above says why; whatever it was for, the lamp stays lit"
            )
        return document.get("state") in DONE_STATES[verb]

    for document in early:
        if is_end(document):
            return last
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            async for topic, document in documents:
                if topic != topics.order_response and is_end(document):
                    return last
    except TimeoutError:
        pass
    raise DeadlineError(
        f"order {order_id} is {last['state']!r} after {follow_s:.0f} s",
        f"it stays valid to its end: look again with `lamppost order show {order_id}`",
    )


async def _documents(client: Client) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    try:
        async for message in client.messages:
            try:
                document = json.loads(message.payload if isinstance(message.payload, bytes) else b"")
            except (ValueError, RecursionError):
                continue
            if isinstance(document, dict):
                yield str(message.topic), document
    except BrokerLostError as error:
        raise MissingError(f"the broker went away: {error}", "an order already signed stays valid: order show") from None
