"""Asking the authority for a ticket over the city's broker."""

import asyncio
import json
from typing import Any

from lamppost_tools.broker import BrokerSettings, Topics, connect
from lamppost_tools.errors import DeadlineError, RefusedError

_QOS = 1
_DEADLINE_S = 10.0


async def ask_for_ticket(broker: BrokerSettings, network: int, request: dict[str, Any]) -> dict[str, Any]:
    """Publish a request and return the document of ticket/signed. Raises RefusedError, DeadlineError, MissingError (no broker)."""
    topics = Topics(network)
    async with connect(broker) as client:
        await client.subscribe([(topics.ticket_response, _QOS), (topics.ticket_signed, _QOS)])
        await client.publish(topics.ticket_request, json.dumps(request).encode(), qos=_QOS)
        try:
            async with asyncio.timeout(_DEADLINE_S):
                async for message in client.messages:
                    document = _document(message.payload)
                    if document.get("request_id") != request["request_id"]:
                        continue
                    if "error" in document:
                        raise RefusedError(
                            f"the authority refused: {document.get('reason')}: {document['error']}",
                            "who may have what stands in its authority.toml, under [[technician]]",
                        )
                    if str(message.topic) == topics.ticket_signed:
                        return document
        except TimeoutError:
            pass
    raise DeadlineError(
        f"no authority answered within {_DEADLINE_S:.0f} s",
        "check that `lamppost authority run` runs on this broker and network, or have the ticket read to you over the telephone",
    )


def _document(payload: object) -> dict[str, Any]:
    try:
        document = json.loads(payload if isinstance(payload, bytes) else b"")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
