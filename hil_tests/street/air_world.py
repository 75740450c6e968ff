"""A gateway's air for tests in virtual time: the street of test_air.py and test_air_releases.py."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import looptime
from lamppost_gateway.air import Air
from lamppost_gateway.airtime_accounts import AirtimeAccounts, forget
from lamppost_gateway.config_air import AirConfig, ModemConfig
from lamppost_gateway.links.base import Signal
from lamppost_gateway.links.forwarder import ForwarderModem
from lamppost_gateway.metrics import Metrics
from lamppost_gateway.registry import Registry
from lamppost_protocol import cose, frames, orders, slip
from lamppost_protocol.arq import ReceiveWindow
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.es256_host import HostSigner, HostVerifier
from lamppost_protocol.records import decode_uplink

from street.air_node import AirNode
from street.concentrator import Concentrator, Sent
from street.gateway_rig import NETWORK, City, SenderNode

ADDRESS = ("127.0.0.1", 40_000)
_DELAY_S = 0.02  # of a datagram, either way
_COMMIT_S = 0.05


class Wire(asyncio.BaseTransport):
    """The lowest boundary: a socket whose far end is a concentrator, a little later."""

    def __init__(self, world: "World", concentrator: Concentrator) -> None:
        super().__init__()
        self.world = world
        self.concentrator = concentrator

    def sendto(self, data: Any, addr: Any = None) -> None:
        assert addr == ADDRESS
        asyncio.get_running_loop().call_later(_DELAY_S, self._arrive, bytes(data))

    def _arrive(self, data: bytes) -> None:
        before = len(self.concentrator.sent)
        for answer in self.concentrator.take(data, now_s()):
            self.world.bring(self.concentrator, answer)
        for sent in self.concentrator.sent[before:]:
            asyncio.get_running_loop().call_at(sent.end_s, self.world.flew, sent)


class World:
    """A gateway's air with its modems; the test is its receiver: it verifies and acknowledges what it is handed."""

    def __init__(self, folder: Path, nodes: list[AirNode], modems: int = 1, is_unspent: bool = True, **changed: Any) -> None:
        self.nodes = nodes
        city = City(folder, [node.sender for node in nodes])
        city.always = {node.sender.node for node in nodes if node.listens_always}
        city.write()
        self.metrics = Metrics()
        self.registry = Registry(NETWORK, folder / "registry.json", folder / "hop-keys.json", self.metrics)
        self.registry.load()
        names = [f"roof{number}" for number in range(modems)]
        self.config = AirConfig(
            **{
                "region": "EU868", "uplink_channels_hz": [868_100_000], "uplink_spreading_factors": [9], "downlink_hz": 869_525_000,
                "downlink_spreading_factor": 9,
                "modem": [ModemConfig(name=name, type="forwarder", port=1700 + i) for i, name in enumerate(names)],
                **changed,
            }
        )  # fmt: skip
        assert self.config.problems() == []
        self.account = folder / "airtime.json"
        if is_unspent:
            forget(self.account, self.config.band, names)
        accounts = AirtimeAccounts(self.account, self.config.band, names)
        self.air = Air(self.config, self.registry, self, accounts, self.metrics)
        self.concentrators: list[Concentrator] = []
        self.modems: dict[int, ForwarderModem] = {}
        for number, name in enumerate(names):
            concentrator = Concentrator(bytes([number]) * 8, 1_000_000_000 * number + 4_294_000_000)
            modem = ForwarderModem(name, "127.0.0.1", 1700 + number, ["127.0.0.1"], None, self.air, self.metrics)
            modem.connection_made(Wire(self, concentrator))
            self.air.add_modem(modem)
            self.concentrators.append(concentrator)
            self.modems[id(concentrator)] = modem
            self.bring(concentrator, concentrator.pull())
        self.windows: dict[int, ReceiveWindow] = {}
        self.handed: list[tuple[int, bytes, Signal | None]] = []
        self.is_acknowledging = True
        self.after_commit: Callable[[int], None] = lambda node: None
        self.links: list[bool] = []

    def bring(self, concentrator: Concentrator, datagram: bytes) -> None:
        asyncio.get_running_loop().call_later(_DELAY_S, self.modems[id(concentrator)].datagram_received, datagram, ADDRESS)

    # -- the receiver's part ------------------------------------------------------------------------------------------

    def heard(self, link: Any, message_type: int, body: bytes, received_at_ms: int, signal: Signal | None = None) -> None:
        self.handed.append((message_type, body, signal))
        if message_type == slip.FRAME and self.is_acknowledging:
            asyncio.get_running_loop().call_later(_COMMIT_S, self._commit, body)
        elif message_type == slip.HELLO:
            asyncio.get_running_loop().call_soon(self.after_commit, self.nodes[0].sender.node)

    def _commit(self, frame: bytes) -> None:
        message = cose.decode(frame)
        node = next(each.sender for each in self.nodes if each.sender.node == message.kid)
        try:
            payload = frames.open_signed(message, HostVerifier(node.public_key), frames.UPLINK, NETWORK, node.node, 1)
        except RemoteError:
            return
        uplink = decode_uplink(payload)
        window = self.windows.setdefault(node.node, ReceiveWindow())
        window.note(uplink.n, len(uplink.records), uplink.behind)
        digest = frames.frame_digest(frame)
        steps = self.air.steps(node.node, digest)
        ack = frames.seal_acknowledgement(node.hop_key, NETWORK, node.node, 1, window.highest, window.bitmap32(), digest, steps)
        self.air.send(slip.FRAME, ack, node.node)
        self.after_commit(node.node)

    def link_changed(self, link: Any) -> None:
        self.links.append(link.is_up)

    # -- the street ---------------------------------------------------------------------------------------------------

    def flew(self, sent: Sent) -> None:
        for node in self.nodes:
            node.take(sent.begin_s, sent.end_s, sent.packet)

    def speak(self, node: AirNode, packets: list[bytes], snr_db: float | list[float] = 9.0, at: list[int] | None = None) -> None:
        """The packets end now, one heard by each modem of `at` (all), with this signal."""
        end_s = now_s()
        for number, packet in enumerate(packets):
            end_s = now_s() + 0.4 * number
            for index, concentrator in enumerate(self.concentrators):
                if at is None or index in at:
                    snr = snr_db[index] if isinstance(snr_db, list) else snr_db
                    asyncio.get_running_loop().call_at(end_s, self.bring, concentrator, concentrator.push(packet, end_s, snr))
        node.ended(end_s)

    def counted(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"lamppost_gateway_{name}_total", labels) or 0.0

    async def keep_up(self) -> None:
        while True:
            for concentrator in self.concentrators:
                self.bring(concentrator, concentrator.pull())
            await asyncio.sleep(10)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def node_of(number: int = 0x11, **more: Any) -> AirNode:
    return AirNode(SenderNode(number, 1), **more)


def play(story: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(story())


def told(world: World, story: Callable[[], Awaitable[None]]) -> Any:
    async def work() -> None:
        polling = asyncio.create_task(world.keep_up())
        await asyncio.sleep(0.1)
        await story()
        polling.cancel()
        assert world.metrics.undeclared == frozenset()

    return work()


def order_frame(node: int, order_id: int = 7) -> bytes:
    payload = orders.encode_order(1, 2_000_000_000, orders.LEVEL, 1, [60, 30])
    return bytes(frames.seal(HostSigner(bytes(31) + b"\x02"), frames.ORDER, NETWORK, node, 1, 9, order_id, payload))
