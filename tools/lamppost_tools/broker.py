"""The one door to the MQTT broker: connection settings, topics of the network, and errors that say what to try."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
from pydantic import BaseModel, ConfigDict, Field

from lamppost_tools.durable import require_owner_only
from lamppost_tools.errors import MissingError

#: The library's names that other files may know: a connected client, and the error when its broker went away.
Client = aiomqtt.Client
BrokerLostError = aiomqtt.MqttError

TOPIC_ROOT = "lamppost/v1"
_CONNECT_DEADLINE_S = 5.0
_CANCEL_AGAIN_S = 1.0


class BrokerSettings(BaseModel):
    """Where the broker is. `password_file` must be readable by its owner only; without `tls` the password is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    username: str | None = None
    password_file: Path | None = None


class Topics:
    """Topic names of one network, as documented in the design: `lamppost/v1/<network>/...`."""

    def __init__(self, network: int) -> None:
        self.root = f"{TOPIC_ROOT}/{network:08x}"
        self.everything = f"{self.root}/#"
        self.order_request = f"{self.root}/order/request"
        self.order_response = f"{self.root}/order/response"
        self.order_signed = f"{self.root}/order/signed"
        self.order_states = f"{self.root}/order/+/state"
        self.beacon_signed = f"{self.root}/beacon/signed"
        self.hellos = f"{self.root}/node/+/hello"
        self.ticket_request = f"{self.root}/ticket/request"
        self.ticket_response = f"{self.root}/ticket/response"
        self.ticket_signed = f"{self.root}/ticket/signed"

    def release(self, digest: bytes) -> str:
        """Topic of a release's body; `digest`: its SHA-256."""
        return f"{self.root}/release/{digest.hex()}"

    def order_state(self, order_id: int) -> str:
        """Topic of one order's states."""
        return f"{self.root}/order/{order_id}/state"


@asynccontextmanager
async def connect(settings: BrokerSettings, identifier: str | None = None) -> AsyncIterator[Client]:
    """A connected client. Raises MissingError when the broker cannot be reached, refuses the login, or goes away meanwhile."""
    try:
        client = aiomqtt.Client(
            settings.host,
            settings.port,
            identifier=identifier,
            username=settings.username,
            password=_password(settings),
            tls_context=_tls_context(settings),
            timeout=_CONNECT_DEADLINE_S,
        )
        await client.__aenter__()
    except (BrokerLostError, OSError) as error:
        raise MissingError(
            f"the broker at {settings.host}:{settings.port} cannot be reached: {error}",
            "check that it runs, and --broker-host / --broker-port (a running `lamppost demo` prints its port)",
        ) from None
    try:
        yield client
    except BrokerLostError as error:
        raise MissingError(
            f"the broker at {settings.host}:{settings.port} went away: {error}", "look at the broker's log, then try again"
        ) from None
    finally:
        try:
            await client.__aexit__(None, None, None)
        except BrokerLostError:
            pass  # the connection was lost already; whoever uses it has seen that


async def end_tasks(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel until all have ended: Python 3.11's `wait_for`, within the library, may swallow one (CPython #86296)."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen here, so that asyncio does not report it again


def _password(settings: BrokerSettings) -> str | None:
    if settings.password_file is None:
        return None
    require_owner_only(settings.password_file)
    if not settings.tls and settings.host not in ("127.0.0.1", "::1", "localhost"):
        raise MissingError("a password would cross the network in clear", "set tls = true for this broker")
    return settings.password_file.read_text().rstrip("\r\n")


def _tls_context(settings: BrokerSettings) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
    if settings.certificate is not None:
        context.load_cert_chain(settings.certificate, settings.key)
    return context
