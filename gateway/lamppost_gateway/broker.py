"""The one door to the MQTT client: a connection that pipelines QoS 1 and tells the fate of each message.

aiomqtt's own `publish` waits inside one task per message and drops the PUBACK's reason code, so a message that an
MQTT 5 broker refused would count as delivered. `Connection.publish` calls back with the code instead; that also costs
half to a third of the processor time (65 against 137-204 us a message at a window of 100-500, mosquitto, measured here).
Incoming messages are acknowledged by hand, so an order is the broker's until the gateway has stored it, and a flood is
held back by the broker's own in-flight limit.

Known gap: the overridden methods and `_client` are aiomqtt 2.x internals; `test_publisher_broker.py` pins them.
"""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Literal

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from lamppost_gateway.config import BrokerConfig
from lamppost_gateway.errors import ConfigError, GatewayError
from lamppost_gateway.mqtt_messages import Incoming, Outgoing, PublishProperties

Protocol = Literal["5", "3.1.1"]
_SUCCESS_BELOW = 0x80  # MQTT 5 section 2.4: reason codes from 0x80 up are failures
_PROBE_S = 3.0  # some brokers neither answer nor close when they cannot read the version
_SESSION_EXPIRY_S = 7 * 86400  # how long the broker keeps orders for a gateway that is away
_KEEPALIVE_S = 15  # a half-open connection is noticed within 1.5 of these
_GOODBYE_S = 0.5  # a broker that does not take a DISCONNECT is left all the same
_CONNECT_S = 10.0  # for the TCP and TLS handshakes and the CONNACK


class BrokerError(GatewayError):
    """The broker cannot be reached, refused us, or went away; `reason` is one line for the operator."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Connection(aiomqtt.Client):
    """One connection's life: enter, `publish`, read `incoming`, until `lost` is done. Never reused.

    At most `window` messages may be unacknowledged; the caller asks `has_room` first. Not thread-safe.
    """

    def __init__(self, config: BrokerConfig, protocol: Protocol, identifier: str, will: Outgoing, window: int, connect_s: float) -> None:
        """Raises ConfigError when the password file is missing or open to others, OSError for the certificates."""
        is_5 = protocol == "5"
        session: dict[str, Any]
        if is_5:
            connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            connect.SessionExpiryInterval = _SESSION_EXPIRY_S
            session = {"properties": connect, "clean_start": False}
        else:
            session = {"clean_session": False}
        super().__init__(
            config.host,
            config.port,
            protocol=aiomqtt.ProtocolVersion.V5 if is_5 else aiomqtt.ProtocolVersion.V311,
            identifier=identifier,
            username=config.username,
            password=config.password(),
            tls_context=_tls_context(config),
            will=aiomqtt.Will(will.topic, will.payload, qos=1, retain=will.retain),
            keepalive=_KEEPALIVE_S,
            timeout=connect_s,
            max_inflight_messages=window + 1,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            **session,
        )
        self._client.manual_ack_set(True)
        self.protocol: Protocol = protocol
        self.window = window
        self.is_session_present = False
        self.incoming: asyncio.Queue[Incoming] = asyncio.Queue()
        self.dropped = 0
        self._waiting: dict[int, tuple[float, Callable[[int], None]]] = {}
        self._room = asyncio.Event()
        self._room.set()

    @property
    def lost(self) -> "asyncio.Future[None]":
        """Done when the connection is over; holds the exception when it was not us who closed."""
        return self._disconnected

    @property
    def in_flight(self) -> int:
        """Messages sent and not acknowledged yet."""
        return len(self._waiting)

    def oldest_wait_s(self) -> float:
        """Return for how long the oldest unacknowledged message has waited; 0 when none waits."""
        for since, _ in self._waiting.values():
            return time.monotonic() - since
        return 0.0

    async def wait_room(self) -> None:
        """Wait until another message may be sent. Raises BrokerError when the connection is lost meanwhile."""
        while len(self._waiting) >= self.window:
            self._room.clear()
            await self.until_lost_or(self._room.wait())

    async def until_lost_or(self, awaitable: Awaitable[Any]) -> None:
        """Wait for `awaitable` or the loss of the connection, which raises BrokerError."""
        task = asyncio.ensure_future(awaitable)
        try:
            await asyncio.wait((task, self.lost), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
        self.check()

    def check(self) -> None:
        """Raise BrokerError when the connection is over."""
        if self.lost.done():
            raise BrokerError("closed" if self.lost.cancelled() else _reason(self.lost.exception()))

    def publish_soon(self, message: Outgoing, on_acknowledged: Callable[[int], None]) -> None:
        """Send with QoS 1 now; `on_acknowledged(reason_code)` is called in the loop when the PUBACK came, or never.

        A code of 0x80 or more means that the broker did not take the message (`is_refusal`). Raises BrokerError when
        the connection is gone.
        """
        properties: Any = self._publish_properties(message)
        info = self._client.publish(message.topic, message.payload, 1, message.retain, properties)
        if info.rc != 0:
            raise BrokerError(f"cannot send: {info.rc}")
        self._waiting[info.mid] = (time.monotonic(), on_acknowledged)

    def accept(self, message: Incoming) -> None:
        """Acknowledge an incoming message to the broker: from now on it is ours."""
        if message.qos:
            self._client.ack(message.mid, message.qos)

    def _publish_properties(self, message: Outgoing) -> PublishProperties | None:
        return PublishProperties(message) if self.protocol == "5" else None

    # What follows overrides aiomqtt's callbacks; paho calls them inside the loop's thread once connected.

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        self.is_session_present = bool(flags.session_present)
        maximum = getattr(properties, "ReceiveMaximum", None)
        if isinstance(maximum, int):
            self.window = max(1, min(self.window, maximum))
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason_code: Any, properties: Any = None) -> None:
        if not self._connected.done():
            # Without this a broker that just closes costs the whole timeout.
            self._connected.set_exception(aiomqtt.MqttError("closed before CONNACK"))
        super()._on_disconnect(client, userdata, flags, reason_code, properties)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: Any, properties: Any) -> None:
        waiting = self._waiting.pop(mid, None)
        if waiting is not None:
            self._room.set()
            waiting[1](int(reason_code.value))

    def _on_socket_register_write(self, client: Any, userdata: Any, sock: Any) -> None:
        # aiomqtt registers the bare descriptor a turn later, when it may be closed already or belong to someone else.
        self._loop.call_soon_threadsafe(self._watch_writes, client, sock)

    def _watch_writes(self, client: Any, sock: Any) -> None:
        if client.socket() is sock and sock.fileno() >= 0:
            self._loop.add_writer(sock.fileno(), self._write, client)

    def _write(self, client: Any) -> None:
        try:
            client.loop_write()
        except (OSError, ValueError) as error:  # the socket broke, or was closed, under paho
            if not self._disconnected.done():
                self._disconnected.set_exception(error)

    def _on_message(self, client: Any, userdata: Any, message: Any) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        # QoS 1 is bounded by the broker's in-flight limit, as nothing is acknowledged before it is handled; QoS 0 is
        # not, so it is dropped when the reader lags.
        if message.qos == 0 and self.incoming.qsize() >= 256:
            self.dropped += 1
            return
        self.incoming.put_nowait(Incoming(topic, bytes(message.payload), message.qos, message.mid, message.retain))


def is_refusal(reason_code: int) -> bool:
    """Tell whether a PUBACK's reason code means that the broker did not take the message."""
    return reason_code >= _SUCCESS_BELOW


class Connector:
    """Opens connections, finding out first which protocol version the broker speaks."""

    def __init__(self, config: BrokerConfig, identifier: str, will: Outgoing, window: int, connect_s: float = _CONNECT_S) -> None:
        self._connect_s = connect_s
        self._config = config
        self._identifier = identifier
        self._will = will
        self._window = window
        self._protocol: Protocol | None = None

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """Give an open `Connection`, closed on leaving. Raises BrokerError when none can be had."""
        connection = await self._open()
        try:
            yield connection
        finally:
            connection.timeout = _GOODBYE_S
            try:
                await connection.__aexit__(None, None, None)
            except aiomqtt.MqttError:
                _abandon(connection)
            if connection.lost.done() and not connection.lost.cancelled():
                connection.lost.exception()  # marked as seen, so asyncio does not report it again

    async def _open(self) -> Connection:
        if self._protocol is None:
            self._protocol = await self._probe()
        connection = None
        try:
            connection = Connection(self._config, self._protocol, self._identifier, self._will, self._window, self._connect_s)
            await connection.__aenter__()
        except (aiomqtt.MqttError, OSError, ValueError, ConfigError) as error:
            self._protocol = None  # the broker may have been replaced by another
            if connection is not None:
                _abandon(connection)
            raise BrokerError(_reason(error)) from error
        except asyncio.CancelledError:
            if connection is not None:
                _abandon(connection)
            raise
        return connection

    async def _probe(self) -> Protocol:
        """Tell whether the broker answers a bare MQTT 5 CONNECT, one that older brokers can at least refuse.

        With a will or properties in it, amqtt 0.12 misreads the packet and waits for ever.
        """
        config = self._config
        try:
            client = aiomqtt.Client(
                config.host,
                config.port,
                protocol=aiomqtt.ProtocolVersion.V5,
                identifier=f"{self._identifier}-probe",
                username=config.username,
                password=config.password(),
                tls_context=_tls_context(config),
                timeout=min(_PROBE_S, self._connect_s),
                keepalive=_KEEPALIVE_S,
            )
        except (OSError, ValueError, ConfigError) as error:
            raise BrokerError(_reason(error)) from error
        try:
            async with client:
                return "5"
        except aiomqtt.exceptions.MqttConnectError:
            return "3.1.1"
        except aiomqtt.MqttError as error:
            if str(error) == "Operation timed out":
                return "3.1.1"
            raise BrokerError(_reason(error)) from error
        finally:
            _abandon(client)


def _abandon(client: aiomqtt.Client) -> None:
    """Close the socket of a connection that never came up; aiomqtt leaves it to the garbage collector."""
    inner = client._client
    inner.on_socket_register_write = None  # or the loop would be told to watch a closed socket
    inner.disconnect()
    inner.loop_write()


def _reason(error: BaseException | None) -> str:
    return "closed" if error is None else (str(error) or type(error).__name__)


def _tls_context(config: BrokerConfig) -> ssl.SSLContext | None:
    if not config.tls:
        return None
    context = ssl.create_default_context(cafile=config.ca)
    if config.cert is not None:
        context.load_cert_chain(config.cert, config.key)
    return context
