"""What needs mosquitto: MQTT 5 properties, refused publishes, logins, TLS; and brokers that are not there or mute."""

import asyncio
import datetime
import ipaddress
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lamppost_gateway.broker import BrokerError, Connector
from lamppost_gateway.config import BrokerConfig
from lamppost_gateway.mqtt_messages import Outgoing, json_message

LAMP = [1, 0, 0, 60, 60, 472, 2301, 210, 980, 12345, 1, 0]


@pytest.mark.mosquitto
def test_mqtt5_properties(bench: Any, mosquitto: Any, tmp_path: Path) -> None:
    """Content types, user properties of the frame, and an expiry on the retained status."""
    mosquitto.start()
    street = bench.Street(tmp_path, mosquitto.port)

    async def test() -> None:
        async with street.running():
            await bench.until(lambda: street.publisher.state == "connected")
            assert street.publisher.summary()["protocol"] == "5"
            found: dict[str, Any] = {}
            async with aiomqtt.Client("127.0.0.1", mosquitto.port, protocol=aiomqtt.ProtocolVersion.V5) as client:
                await client.subscribe("lamppost/v1/+/node/#", qos=1)
                await street.commit(street.nodes[0x11].frame(LAMP))
                async for message in client.messages:
                    found[str(message.topic).split("/")[5]] = message.properties
                    if len(found) == 3:
                        break
            assert found["frame"].ContentType == 'application/cose; cose-type="cose-sign1"'
            about = dict(found["frame"].UserProperty)
            assert (about["epoch"], about["n"], about["late"], about["gateway"]) == ("1", "1", "false", "gw-1")
            assert found["record"].ContentType == "application/json"
            assert 0 < found["status"].MessageExpiryInterval <= 7 * 86400

    bench.run(test)


@pytest.mark.mosquitto
def test_refused_publish_keeps_the_row_until_the_broker_takes_it(bench: Any, mosquitto: Any, tmp_path: Path) -> None:
    """The broker's rights are wrong: it refuses with a reason code, the operator reads it, nothing is lost."""
    rights = tmp_path / "acl"
    rights.write_text("topic readwrite lamppost/v1/+/gateway/#\ntopic read lamppost/v1/#\n")
    rights.chmod(0o644)
    mosquitto.add(f"acl_file {rights}")
    mosquitto.start()
    street = bench.Street(tmp_path, mosquitto.port)

    async def test() -> None:
        async with street.running():
            await bench.until(lambda: street.publisher.state == "connected")
            await street.commit(street.nodes[0x11].frame(LAMP))
            await bench.until(lambda: "0x87" in (street.publisher.last_error or ""))
            assert "/node/00000011/" in street.publisher.last_error
            counts = await street.store.read(street.store.outbox.counts)
            assert counts.unpublished == 1
            rights.write_text("topic readwrite lamppost/v1/#\n")
            mosquitto.kill()
            mosquitto.start()
            async with bench.Subscriber(mosquitto.port).listening() as city:
                await street.until_marked()
                await bench.until(lambda: [d["n"] for d in city.documents("/record/")] == [1])

    bench.run(test)


@pytest.mark.mosquitto
def test_login_with_password_file(bench: Any, mosquitto: Any, tmp_path: Path) -> None:
    """A wrong password is named as such and never shown; the right one, written later, is read anew."""
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "gw", "right-secret"], check=True, capture_output=True)
    passwords.chmod(0o644)
    mosquitto.add(f"password_file {passwords}", anonymous=False)
    mosquitto.start()
    secret = tmp_path / "password"
    secret.touch(0o600)
    secret.write_text("wrong-secret\n")
    street = bench.Street(tmp_path, mosquitto.port, f'username = "gw"\npassword_file = "{secret}"')

    async def test() -> None:
        async with street.running():
            await bench.until(lambda: street.publisher.last_error is not None)
            assert "secret" not in street.publisher.last_error
            assert "uthori" in street.publisher.last_error
            secret.write_text("right-secret\n")
            await bench.until(lambda: street.publisher.state == "connected")

    bench.run(test)


@pytest.mark.mosquitto
def test_tls_and_a_certificate_nobody_trusts(bench: Any, mosquitto: Any, tmp_path: Path) -> None:
    """Connects with the city's own certificate authority; refuses a broker it does not vouch for."""
    write_certificate(tmp_path)
    mosquitto.add(f"certfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.key")
    mosquitto.start()
    trusting = BrokerConfig(port=mosquitto.port, host="127.0.0.1", tls=True, ca=tmp_path / "server.pem")

    async def test() -> None:
        async with connector(trusting).connect() as connection:
            assert connection.protocol == "5"
        with pytest.raises(BrokerError, match=r"(?i)certificate"):
            async with connector(trusting.model_copy(update={"ca": None})).connect():
                pass
        with pytest.raises(BrokerError):
            async with connector(trusting.model_copy(update={"tls": False, "ca": None}), connect_s=0.5).connect():
                pass

    bench.run(test)


def connector(config: BrokerConfig, connect_s: float = 10.0) -> Connector:
    return Connector(config, "gw", Outgoing("will", b"", True), 10, connect_s)


def write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.key").write_bytes(private)
    (folder / "server.key").chmod(0o644)


def test_no_broker_there(bench: Any) -> None:
    """A refused connection is one short sentence."""

    async def test() -> None:
        with pytest.raises(BrokerError, match="refused"):
            async with connector(BrokerConfig(port=bench.free_port())).connect():
                pass

    bench.run(test)


def test_mute_broker_costs_time_but_no_sockets(bench: Any) -> None:
    """Something accepts and never answers: given up in time, every socket closed again."""
    accepted: list[asyncio.StreamWriter] = []

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        while await reader.read(4096):
            pass

    async def test() -> None:
        async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            one = connector(BrokerConfig(port=port), connect_s=0.2)
            before = 0
            for attempt in range(6):
                with pytest.raises(BrokerError, match="timed out"):
                    async with one.connect():
                        pass
                for writer in accepted:
                    writer.close()
                accepted.clear()
                await asyncio.sleep(0.05)
                count = len(os.listdir("/proc/self/fd"))
                before = count if attempt == 1 else before
                assert attempt < 2 or count <= before

    bench.run(test)


class PickyBroker:
    """Speaks just enough MQTT 3.1.1 to acknowledge only those publishes whose topic the test allows."""

    def __init__(self, allows: Callable[[str], bool]) -> None:
        self._allows = allows
        self.topics: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                kind, body = await packet(reader)
                if kind == 0x10:
                    is_5 = body[6] == 5
                    writer.write(b"\x20\x02\x00\x01" if is_5 else b"\x20\x02\x00\x00")
                elif kind == 0x80:
                    writer.write(b"\x90\x04" + body[:2] + b"\x01\x01")
                elif kind == 0x30:
                    length = int.from_bytes(body[:2], "big")
                    topic = body[2 : 2 + length].decode()
                    self.topics.append(topic)
                    if self._allows(topic):
                        writer.write(b"\x40\x02" + body[2 + length : 4 + length])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """One control packet: its type nibble and its body. Ref: MQTT 3.1.1 section 2.2."""
    kind = (await reader.readexactly(1))[0]
    length, shift = 0, 0
    while True:
        octet = (await reader.readexactly(1))[0]
        length |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            return kind & 0xF0, await reader.readexactly(length)


@pytest.mark.parametrize("silent_about", ["/frame", "/record/lamp", "/record/bin", "/"])
def test_row_is_not_marked_before_its_last_puback(bench: Any, tmp_path: Path, silent_about: str) -> None:
    """Frame and every record count; a half-open broker (no PUBACK at all) is given up; nothing is lost."""
    picky = PickyBroker(lambda topic: silent_about not in topic)

    async def test() -> None:
        async with await asyncio.start_server(picky.serve, "127.0.0.1", 0) as server:
            street = bench.Street(tmp_path, server.sockets[0].getsockname()[1])
            async with street.running(puback_limit_s=0.3):
                await street.commit(street.nodes[0x11].frame(LAMP, [2, 0, 0, 1500, 40, 215, 0]))
                await bench.until(lambda: "no PUBACK" in (street.publisher.last_error or ""))
                assert (await street.store.read(street.store.outbox.counts)).unpublished == 1

    bench.run(test)


def test_library_internals_we_lean_on() -> None:
    """aiomqtt 2.x: the callbacks broker.py overrides and the paho client it speaks to still exist."""
    for name in ("_on_connect", "_on_disconnect", "_on_publish", "_on_message", "_on_socket_register_write"):
        assert callable(getattr(aiomqtt.Client, name))

    async def test() -> None:
        client = aiomqtt.Client("127.0.0.1")
        for name in ("publish", "ack", "manual_ack_set", "loop_write", "on_publish"):
            assert hasattr(client._client, name)
        assert isinstance(client._disconnected, asyncio.Future)

    asyncio.run(test())


def test_refusals_reach_json_consumers_unharmed() -> None:
    """Compact JSON, UTF-8, no NaN: what every consumer can read."""
    message = json_message("a", {"text": "é"}, retain=True, expiry_s=5)
    assert (message.payload, message.retain, message.expiry_s) == ('{"text":"é"}'.encode(), True, 5)
    with pytest.raises(ValueError, match="JSON"):
        json_message("a", {"value": float("nan")})
    assert json.loads(message.payload)
