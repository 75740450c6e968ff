"""The authority and the order commands against a real MQTT broker, which comes and goes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from lamppost_protocol import beacons, cose, frames
from lamppost_protocol.es256_host import HostVerifier, generate_private_key, public_key
from lamppost_tools.authority.public import read_authority_public
from lamppost_tools.broker import BrokerSettings, Topics, connect
from lamppost_tools.durable import read_json
from lamppost_tools.errors import DeadlineError, MissingError, RefusedError
from lamppost_tools.order.client import send_order, show_order
from lamppost_tools.ticket.by_voice import ticket_of
from lamppost_tools.ticket.client import ask_for_ticket

NETWORK = 0xCAFE
TOPICS = Topics(NETWORK)


@pytest.fixture
def authority(city_maker, broker_port, tmp_path) -> Iterator[subprocess.Popen[bytes]]:
    """A running `lamppost authority run` on the test's broker."""
    city = city_maker(port=broker_port)
    log = (tmp_path / "authority.log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "lamppost_tools", "authority", "run", "--state", str(city.authority)], stderr=log)
    end_s = time.monotonic() + 15
    while b"connected" not in (tmp_path / "authority.log").read_bytes():
        assert time.monotonic() < end_s
        assert process.poll() is None
        os.sched_yield()
    yield process
    process.kill()
    process.wait(10)
    log.close()


async def collect(port: int, topic: str, act, count: int = 1, deadline_s: float = 10.0, node: str | None = None) -> list[dict]:
    """Subscribe, do something, and give the next documents of a topic, those of one node only where it is named."""
    async with connect(BrokerSettings(port=port)) as client:
        await client.subscribe(topic, 1)
        await act(client)
        found = []
        async with asyncio.timeout(deadline_s):
            async for message in client.messages:
                if message.payload.startswith(b"{") and not message.retain:
                    document = json.loads(message.payload)
                    if node is None or document["node"] == node:  # a broadcast beacon may come in between
                        found.append(document)
                if len(found) == count:
                    return found
    return found


def test_hello_gets_a_beacon_with_its_nonce(authority, broker_port, tmp_path):
    """A relayed hello is answered on beacon/signed for that node with that nonce, signed by the city."""
    nonce = bytes(range(8))

    async def act(client):
        hello = {"v": 1, "node": "0000a001", "epoch": 1, "nonce": nonce.hex()}
        await client.publish(f"{TOPICS.root}/node/0000a001/hello", json.dumps(hello), qos=1)

    (document,) = asyncio.run(collect(broker_port, TOPICS.beacon_signed, act, node="0000a001"))
    public = read_json(tmp_path / "authority" / "authority-public.json", "")
    message = cose.decode(bytes.fromhex(document["frame"]))
    verifier = HostVerifier(bytes.fromhex(public["public_key"]))
    beacon = beacons.decode_beacon(frames.open_signed(message, verifier, frames.BEACON, NETWORK, 0xA001, 1))
    assert beacon.nonce == nonce
    assert abs(beacon.unix - time.time()) < 10
    assert document["node"] == "0000a001"


def test_every_request_is_answered(authority, broker_port):
    """Good and bad requests alike get a response; only the good one a signed order."""

    async def act(client):
        for data in (b"rubbish", b'{"request_id": "a", "node": "0000a001", "verb": "level", "level_percent": 0}',
                     b'{"request_id": "b", "node": "0000a001", "verb": "level", "level_percent": 40}'):  # fmt: skip
            await client.publish(TOPICS.order_request, data, qos=1)

    answers = asyncio.run(collect(broker_port, f"{TOPICS.root}/order/+", act, count=6))
    reasons = [document.get("reason") for document in answers if "error" in document]
    signed = [document for document in answers if "frame" in document]
    assert reasons == ["bad_request", "dark_without_end"]
    assert [document["order_id"] for document in signed] == [1]


def test_a_retained_request_is_not_signed_again(city_maker, broker_port):
    """A request that some client published retained is met at every connection, and signed at none."""
    city = city_maker(port=broker_port)
    request = {"request_id": "kept", "node": "0000a001", "verb": "level", "level_percent": 40}

    async def keep(client):
        await client.publish(TOPICS.order_request, json.dumps(request), qos=1, retain=True)

    async def ask(client):
        await client.publish(TOPICS.order_request, json.dumps({**request, "request_id": "asked"}), qos=1)

    asyncio.run(collect(broker_port, TOPICS.order_request, keep))
    process = subprocess.Popen(
        [sys.executable, "-m", "lamppost_tools", "authority", "run", "--state", str(city.authority)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert "connected" in process.stderr.readline()
        (answer,) = asyncio.run(collect(broker_port, TOPICS.order_response, ask))
    finally:
        process.kill()
        process.communicate()
    assert (answer.get("request_id"), answer.get("order_id")) == ("asked", 1), answer


def send(port: int, request: dict, follow_s: float, states: list[str] | None = None) -> list[dict]:
    """Run the client's side; a stand-in for the gateway publishes the given states once an order is signed."""
    shown: list[dict] = []

    async def gateway(is_ready: asyncio.Event) -> None:
        async with connect(BrokerSettings(port=port)) as client:
            await client.subscribe(TOPICS.order_signed, 1)
            is_ready.set()
            async for message in client.messages:
                order_id = json.loads(message.payload)["order_id"]
                for index, state in enumerate(states or []):
                    document = {"order_id": order_id, "node": "0000a001", "state": state, "at": f"t{index}", "evidence": {}}
                    await client.publish(TOPICS.order_state(order_id), json.dumps(document), qos=1, retain=True)
                return  # and not in the loop for ever: Python 3.11's `wait_for` may swallow the cancellation (CPython #86296)

    async def run() -> None:
        is_ready = asyncio.Event()
        task = asyncio.create_task(gateway(is_ready))
        await asyncio.wait_for(is_ready.wait(), 5)
        try:
            await send_order(BrokerSettings(port=port), NETWORK, request, follow_s, shown.append)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    try:
        asyncio.run(run())
    except (RefusedError, DeadlineError) as error:
        shown.append({"raised": error})
    return shown


LEVEL = {"request_id": "x", "node": "0000a001", "verb": "level", "level_percent": 40}


def test_order_is_followed_to_verified(authority, broker_port):
    """The client shows each state once and ends when the power was measured."""
    shown = send(broker_port, LEVEL, 10, ["queued", "sent", "sent", "accepted", "applied", "verified", "reverted"])
    assert [document.get("state") for document in shown] == [None, "queued", "sent", "sent", "accepted", "applied", "verified"]
    assert asyncio.run(show_order(BrokerSettings(port=broker_port), NETWORK, 1))["state"] == "reverted"


def test_order_that_fails_says_so(authority, broker_port):
    """An order the node refuses ends the command with the state as the reason."""
    shown = send(broker_port, LEVEL, 10, ["queued", "sent", "refused"])
    assert "ended refused" in str(shown[-1]["raised"])


def test_order_without_an_end_in_time(authority, broker_port):
    """No final state within the deadline: the order stays valid, and the command says how to look again."""
    shown = send(broker_port, LEVEL, 1.0, ["queued"])
    assert "'queued'" in str(shown[-1]["raised"])
    assert "order show 1" in shown[-1]["raised"].next_step


def test_refusal_reaches_the_operator(authority, broker_port):
    """The authority's reason is shown."""
    shown = send(broker_port, {**LEVEL, "node": "0000beef"}, 5)
    assert "unknown_node" in str(shown[-1]["raised"])


def test_stops_cleanly_and_comes_back(authority, broker_port):
    """SIGTERM ends the authority with status 0."""
    authority.send_signal(signal.SIGTERM)
    assert authority.wait(10) == 0


def test_what_the_broker_says_moves_no_cursor(broker_port):
    """Whoever may publish a state must not be able to send escape sequences to the operator's terminal."""
    document = {"order_id": 1, "state": "\x1b]0;owned\x07", "at": "\x1b[2J", "evidence": {"\x1b[31m": "\x1b[0m"}}

    async def tell():
        async with connect(BrokerSettings(port=broker_port)) as client:
            await client.publish(TOPICS.order_state(1), json.dumps(document), qos=1, retain=True)

    asyncio.run(tell())
    command = [sys.executable, "-m", "lamppost_tools", "order", "show", "1", "--network", "cafe", "--broker-port", str(broker_port)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env={**os.environ, "FORCE_COLOR": "", "NO_COLOR": "1"})
    assert done.returncode == 0
    assert b"owned" in done.stdout
    assert b"\x1b" not in done.stdout
    assert b"\x07" not in done.stdout


def test_broker_that_closes_after_the_greeting():
    """A broker that hangs up on the first request is told as such, not with the library's error."""

    async def greet_and_hang_up(reader, writer):
        await reader.read(4096)
        writer.write(b"\x20\x02\x00\x00")
        await reader.read(4096)
        writer.close()

    async def run():
        server = await asyncio.start_server(greet_and_hang_up, "127.0.0.1", 0)
        try:
            await send_order(BrokerSettings(port=server.sockets[0].getsockname()[1]), NETWORK, LEVEL, 1, print)
        finally:
            server.close()

    with pytest.raises(MissingError, match="went away"):
        asyncio.run(run())


def test_broker_that_is_not_there():
    """No broker: one sentence and what to check."""
    with pytest.raises(MissingError, match="cannot be reached") as error:
        asyncio.run(send_order(BrokerSettings(port=1), NETWORK, LEVEL, 1, print))
    assert "broker" in error.value.next_step


def test_survives_a_broker_restart(city_maker, tmp_path):
    """The authority is back by itself after the broker was killed, and signs on with higher numbers."""
    port = _free_port()
    city = city_maker(port=port)
    broker = _start_broker(port)
    process = subprocess.Popen(
        [sys.executable, "-m", "lamppost_tools", "authority", "run", "--state", str(city.authority)],
        stderr=subprocess.DEVNULL,
    )
    try:
        first = _broadcast_tx(port)
        broker.kill()
        broker.wait(10)
        broker = _start_broker(port)
        assert _broadcast_tx(port) > first
    finally:
        process.kill()
        process.wait(10)
        broker.kill()
        broker.wait(10)


def _broadcast_tx(port: int) -> int:
    async def ask(client):
        await client.publish(f"{TOPICS.root}/node/0000a001/hello", b'{"node": "0000a001", "nonce": "0001020304050607"}', qos=1)

    async def run() -> int:
        for _ in range(20):
            try:
                (document,) = await collect(port, TOPICS.beacon_signed, ask, deadline_s=1.0)
            except TimeoutError:
                continue  # the authority is not back yet: its hello was heard by nobody
            return int(cose.decode(bytes.fromhex(document["frame"])).tx)
        raise AssertionError("no beacon")

    return asyncio.run(run())


def _start_broker(port: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "lamppost_tools.demo.broker", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_ticket_over_the_broker(city_maker, broker_port, tmp_path):
    """A listed technician's request comes back signed, as text too; a stranger's is refused by name; both hear it within the call."""
    city = city_maker(port=broker_port)
    key, nonce = public_key(generate_private_key()), bytes(range(8))
    with (city.authority / "authority.toml").open("a") as settings:
        settings.write(f'\n[[technician]]\nname = "R. Laub"\nkey = "{key.hex()}"\nscopes = ["look"]\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "lamppost_tools", "authority", "run", "--state", str(city.authority), "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    request = {
        "v": 1, "request_id": "mine", "node": "0000a001", "nonce": nonce.hex(), "technician_key": key.hex(), "scopes": ["look"],
    }  # fmt: skip
    try:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["text"].startswith("connected")
        broker = BrokerSettings(port=broker_port)
        signed = asyncio.run(ask_for_ticket(broker, NETWORK, request))
        assert ticket_of(signed["text"], nonce, key, read_authority_public(city.public).issuer).hex() == signed["frame"]
        with pytest.raises(RefusedError, match="unknown_technician"):
            asyncio.run(ask_for_ticket(broker, NETWORK, {**request, "technician_key": public_key(generate_private_key()).hex()}))
    finally:
        process.kill()
        said = [json.loads(line) for line in process.communicate()[0].splitlines()]
    assert [line["level"] for line in said if "ticket" in line["text"]] == ["info", "warning"]
    with pytest.raises(DeadlineError, match="no authority"):
        asyncio.run(ask_for_ticket(broker, NETWORK, request))
