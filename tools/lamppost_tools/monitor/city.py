"""A network on its broker, followed: frames verified here, hellos, what becomes of orders, what gateways refuse and lose."""

import json
from collections.abc import AsyncGenerator
from typing import Any

from lamppost_tools.broker import BrokerSettings, Topics, connect
from lamppost_tools.frame.decode import KeyRing, decode_frame


async def follow(broker: BrokerSettings, network: int, ring: KeyRing, node: str | None) -> AsyncGenerator[dict[str, Any], None]:
    """Entries for ever, of one node where that was asked for. Raises MissingError when the broker is not there or goes away."""
    topics = Topics(network)
    async with connect(broker) as client:
        await client.subscribe(topics.everything, qos=1)
        async for message in client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            entry = entry_of(str(message.topic).removeprefix(topics.root + "/"), payload, ring)
            if entry is not None and node in (None, entry.get("node"), entry.get("kid")):
                yield entry


def entry_of(topic: str, payload: bytes, ring: KeyRing) -> dict[str, Any] | None:
    """One message below the network's topic; None for what says the same as another (a record, by its frame) and for requests."""
    match topic.split("/"):
        case ["node", _, "frame"]:
            return decode_frame(payload, ring)
        case ["node", _, "hello"]:
            return {"what": "hello", **_document(payload), "verdict": "unsigned: a hint only"}
        case ["node", _, "status"]:
            return {"what": "node", **_document(payload)}
        case ["order", _, "state"]:
            return {"what": "order", **_document(payload)}
        case ["gateway", gateway, "reject" | "loss" | "health" as kind]:
            return {"what": f"gateway {gateway} {kind}", **_document(payload)}
    return None


def _document(payload: bytes) -> dict[str, Any]:
    """A JSON document; what is none is shown as what it is."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"not_json": payload[:64].hex()}
