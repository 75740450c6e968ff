"""A street in small for the publishing side: real store, registry, broker and subscriber; only the link is ours."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from lamppost_gateway import config
from lamppost_gateway.backoff import Backoff
from lamppost_gateway.daemon import end_tasks
from lamppost_gateway.downlinks import Downlinks
from lamppost_gateway.errors import OutboxFull
from lamppost_gateway.metrics import Metrics
from lamppost_gateway.orders import Orders
from lamppost_gateway.outbox import Outbox
from lamppost_gateway.outbox_rows import NewFrame, NodeState
from lamppost_gateway.publisher import Publisher
from lamppost_gateway.registry import Registry
from lamppost_gateway.release_store import ReleaseStore
from lamppost_gateway.releases import Releases
from lamppost_gateway.store import Store
from lamppost_gateway.topics import hex8
from lamppost_gateway.verifier import VerifiedFrame
from lamppost_protocol import beacons, frames, orders, records, slip
from lamppost_protocol.es256_host import HostSigner, generate_private_key, public_key

NETWORK = 0x000A11CE
AUTHORITY_ID = 0xC0FFEE01
_DEADLINE_S = 20.0
_MOSQUITTO_PATH = "/usr/sbin:" + os.environ.get("PATH", "")
_AMQTT = """
import asyncio, sys
from amqtt.broker import Broker
async def main():
    config = {"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
              "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}}
    broker = Broker(config)
    await broker.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


class BrokerProcess:
    """A broker on a loopback port that can be killed and started again on the same one."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.port = free_port()
        self._folder = folder
        self._extra = ""
        self._anonymous = True
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, lines: str, anonymous: bool = True) -> None:
        """Add lines to mosquitto's configuration."""
        self._extra += lines + "\n"
        self._anonymous = anonymous

    def start(self) -> None:
        if self.kind == "mosquitto":
            path = self._folder / "mosquitto.conf"
            path.write_text(
                f"user root\nlistener {self.port} 127.0.0.1\nmax_queued_messages 0\n"
                f"allow_anonymous {str(self._anonymous).lower()}\n{self._extra}",
            )
            binary = shutil.which("mosquitto", path=_MOSQUITTO_PATH)
            command = [str(binary), "-c", str(path)]
        else:
            command = [sys.executable, "-c", _AMQTT, str(self.port)]
        log = (self._folder / "broker.log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end_s = time.monotonic() + _DEADLINE_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if self._process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError((self._folder / "broker.log").read_text()[-2000:])
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(_DEADLINE_S)
            self._process = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Link:
    """The lowest boundary: what would be a serial port keeps what was sent to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_up = True
        self.sent: list[bytes] = []
        self.pieces: list[bytes] = []

    def send(self, kind: int, body: bytes, node: int = 0) -> bool:
        if self.is_up:
            (self.pieces if kind == slip.PIECE else self.sent).append(body)
        return self.is_up

    waiting_bytes = 0

    def carry_s(self, octets: int) -> float:
        return 0.001


class Node:
    """A node's key and counters, and the frames it signs."""

    def __init__(self, node: int, epoch: int = 1) -> None:
        self.node = node
        self.epoch = epoch
        self.private = generate_private_key()
        self.signer = HostSigner(self.private)
        self.n = 1
        self.tx = 0

    def frame(self, *contents: list[Any], t: int | None = 1_800_000_000, late: bool = False) -> NewFrame:
        self.tx += 1
        n, self.n = self.n, self.n + len(contents)
        payload = records.encode_uplink(n, 0, t, None if t is None else 1, list(contents))
        data = frames.seal(self.signer, frames.UPLINK, NETWORK, self.node, self.epoch, self.node, self.tx, payload)
        count = len(contents)
        now_ms = int(time.time() * 1000)
        return NewFrame(self.node, self.epoch, self.tx, n, count, (1 << count) - 1, now_ms, "line", late, False, data)

    def state(self) -> NodeState:
        return NodeState(self.node, self.epoch, self.tx, 1, self.n - 1, 0)


class Authority:
    """Signs orders and beacons."""

    def __init__(self) -> None:
        self.private = generate_private_key()
        self.signer = HostSigner(self.private)

    def order(
        self,
        node: int,
        order_id: int,
        *,
        verb: int = orders.LEVEL,
        target: int = 1,
        args: tuple[Any, ...] = (60, 0),
        life_s: int = 600,
        now_s: float | None = None,
        **context: Any,
    ) -> dict[str, Any]:
        now = int(time.time() if now_s is None else now_s)
        payload = orders.encode_order(now - 5, now + life_s, verb, target, list(args))
        where = {"direction": frames.ORDER, "network": NETWORK, "node": node, "epoch": 1, "kid": AUTHORITY_ID} | context
        frame = frames.seal(self.signer, tx=order_id, payload=payload, **where)
        return {"order_id": order_id, "node": hex8(node), "epoch": 1, "verb": "level", "frame": frame.hex()}

    def beacon(self, node: int | None, tx: int, nonce: bytes | None = None, unix: int = 1_800_000_000) -> dict[str, Any]:
        payload = beacons.encode_beacon(unix, nonce)
        number, epoch = (0, 0) if node is None else (node, 1)
        frame = frames.seal(self.signer, frames.BEACON, NETWORK, number, epoch, AUTHORITY_ID, tx, payload)
        return {"node": None if node is None else hex8(node), "epoch": epoch, "unix": unix, "frame": frame.hex()}


class FullableOutbox(Outbox):
    """A real outbox on a disk that can be declared full."""

    is_full = False

    def transact(self, jobs: Any) -> Any:
        if self.is_full:
            raise OutboxFull("SQLITE_FULL: database or disk is full")
        return super().transact(jobs)


class Street:
    """Everything of one gateway but the links and the receiver."""

    def __init__(self, folder: Path, port: int, extra: str = "") -> None:
        self.folder = folder
        self.authority = Authority()
        self.nodes = {number: Node(number) for number in (0x11, 0x22, 0x33)}
        self.stranger = Node(0x99)
        self.link = Link("line")
        self.wall_offset_s = 0.0
        self.free_bytes = 1 << 40
        text = self.text = f"""
[gateway]
id = "gw-1"
network = "{hex8(NETWORK)}"
state_dir = "{folder}"
authority_public_key = "{public_key(self.authority.private).hex()}"
authority_id = "{hex8(AUTHORITY_ID)}"
[broker]
port = {port}
{extra}
"""
        self.config = config.parse(text, "test", folder)
        known = {
            hex8(node.node): {
                "epoch": node.epoch,
                "public_key": public_key(node.private).hex(),
                "fixtures": ["lamp"],
                "asset": None,
                "revoked": False,
            }
            for node in self.nodes.values()
        }
        (folder / "registry.json").write_text(json.dumps({"version": 1, "network": hex8(NETWORK), "nodes": known}))
        hop_keys = folder / "hop-keys.json"
        hop_keys.touch(0o600)
        hop_keys.write_text(json.dumps({hex8(node): os.urandom(32).hex() for node in self.nodes}))

    def wall_s(self) -> float:
        return time.time() + self.wall_offset_s

    @asynccontextmanager
    async def running(
        self, *, resend_first_s: float = 4.0, puback_limit_s: float = 20.0, backoff: Backoff | None = None
    ) -> AsyncIterator["Street"]:
        """The parts, running; stopped like the daemon stops them."""
        self.metrics = Metrics()
        self.registry = Registry(NETWORK, self.config.gateway.registry, self.config.gateway.hop_keys, self.metrics)
        self.registry.load()
        self.store = Store(lambda: FullableOutbox(self.config.outbox_path), 5, self.metrics)
        await self.store.open()
        self.downlinks = Downlinks()
        self.downlinks.add_link(self.link)  # type: ignore[arg-type]
        parts = (self.config, self.store)
        self.orders = Orders(*parts, self.downlinks, self.registry, self.metrics, self.wall_s, resend_first_s)
        self.release_store = ReleaseStore(self.folder / "releases", lambda _: self.free_bytes)
        self.releases = Releases(self.release_store, self.orders, self.downlinks, self.metrics, self.wall_s)
        self.releases.load()
        told = (self.registry, self.metrics, self.orders, self.downlinks, self.releases)
        self.publisher = Publisher(*parts, *told, self.wall_s, puback_limit_s, backoff)
        writer = asyncio.create_task(self.store.run())
        tasks = [asyncio.create_task(self.orders.run()), asyncio.create_task(self.publisher.run())]
        try:
            yield self
        finally:
            await end_tasks(tasks, 5)
            assert all(task.done() for task in tasks), "still running 5 s after it was told to end"
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            self.store.stop()
            await asyncio.wait_for(writer, 5)
            await self.store.close()
            for end in ends:
                if not isinstance(end, asyncio.CancelledError):
                    raise end if isinstance(end, BaseException) else AssertionError("ended by itself")
            assert not self.metrics.undeclared

    async def commit(self, *new: NewFrame) -> None:
        """What the receiver does after verification."""
        states = [self.nodes[frame.node].state() for frame in new if frame.node in self.nodes]
        await self.store.write(self.store.outbox.commit_frames, list(new), states)
        verified = [verified_of(frame) for frame in new]
        for frame in new:
            self.downlinks.heard(frame.node, frame.link, frame.received_at_ms, frame.n + frame.count - 1, 1)
        self.publisher.frames_committed(verified)
        self.orders.frames_committed(verified)

    async def until_marked(self) -> None:
        """Wait until every stored frame is marked as published."""

        async def unpublished() -> bool:
            return (await self.store.read(self.store.outbox.counts)).unpublished == 0

        await until(unpublished)


def verified_of(frame: NewFrame) -> VerifiedFrame:
    from lamppost_protocol import cose

    uplink = records.decode_uplink(cose.decode(frame.data).payload)
    fields = {
        "node": frame.node,
        "epoch": frame.epoch,
        "tx": frame.tx,
        "n": frame.n,
        "count": frame.count,
        "behind": 0,
        "t": uplink.t,
        "clock": uplink.clock,
        "records": uplink.records,
        "data": frame.data,
        "link": frame.link,
        "received_at_ms": frame.received_at_ms,
        "fresh": frame.fresh,
        "late": frame.late,
    }
    names = VerifiedFrame.__dataclass_fields__
    return VerifiedFrame(**{name: fields.get(name, False) for name in names})


async def until(is_true: Callable[[], Awaitable[bool] | bool], deadline_s: float = _DEADLINE_S) -> None:
    """Wait until the condition holds, looking every few ms. Fails after the deadline."""
    async with asyncio.timeout(deadline_s):
        while True:
            answer = is_true()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)


class Subscriber:
    """A city client that keeps what it receives."""

    def __init__(self, port: int, topic: str = "lamppost/v1/#") -> None:
        self._port = port
        self._topic = topic
        self.messages: list[aiomqtt.Message] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Subscriber"]:
        async with aiomqtt.Client("127.0.0.1", self._port) as client:
            self.client = client
            await client.subscribe(self._topic, qos=1)
            task = asyncio.create_task(self._read(client))
            try:
                yield self
            finally:
                task.cancel()

    async def _read(self, client: aiomqtt.Client) -> None:
        try:
            async for message in client.messages:
                self.messages.append(message)
        except aiomqtt.MqttError:
            pass  # the broker was killed by the test

    def documents(self, part: str) -> list[dict[str, Any]]:
        """The JSON documents of topics with `part` in their name, in order of arrival."""
        return [json.loads(item.payload) for item in self.messages if part in str(item.topic)]

    def payloads(self, part: str) -> list[bytes]:
        return [bytes(item.payload) for item in self.messages if part in str(item.topic)]

    async def publish(self, what: str, document: Any) -> None:
        payload = document if isinstance(document, bytes) else json.dumps(document).encode()
        await self.client.publish(f"lamppost/v1/{hex8(NETWORK)}/{what}", payload, qos=1)


class Bench:
    """What tests of this folder share, handed over as a fixture since test files do not import each other."""

    BrokerProcess = BrokerProcess
    Street = Street
    Authority = Authority
    Subscriber = Subscriber
    Node = Node
    NETWORK = NETWORK
    until = staticmethod(until)
    free_port = staticmethod(free_port)
    verified_of = staticmethod(verified_of)

    @staticmethod
    def run(test: Callable[[], Awaitable[None]], deadline_s: float = 60.0) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(deadline_s):
                await test()

        asyncio.run(bounded())


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A mosquitto that the test starts, after it has added to its configuration what it wants; ended whatever happens."""
    if not has_mosquitto():
        pytest.skip("mosquitto is not installed: make deps")
    process = BrokerProcess("mosquitto", tmp_path)
    yield process
    process.kill()


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    """A running broker: mosquitto where there is one, else amqtt; a test may ask for each by `@EACH_BROKER`."""
    kind = getattr(request, "param", "mosquitto" if has_mosquitto() else "amqtt")
    if kind == "mosquitto" and not has_mosquitto():
        pytest.skip("mosquitto is not installed: make deps")
    if kind == "amqtt":
        pytest.importorskip("amqtt")
    process = BrokerProcess(kind, tmp_path)
    process.start()
    yield process
    process.kill()


def has_mosquitto() -> bool:
    return shutil.which("mosquitto", path=_MOSQUITTO_PATH) is not None


@pytest.fixture
def street(broker: BrokerProcess, tmp_path: Path) -> Street:
    return Street(tmp_path, broker.port)
