"""A node's core built on the host from its real parts: only flash, line and time are stand-ins."""

import asyncio

from fake_flash import FakeFlash
from lamppost_node.clock import Clock
from lamppost_node.downlink import Downlink
from lamppost_node.framer import Framer
from lamppost_node.health import Counters, TaskWatch
from lamppost_node.identity import Identity
from lamppost_node.log_lines import LogLines
from lamppost_node.order_ledger import OrderLedger
from lamppost_node.sampler import Sampler
from lamppost_node.sequence_store import SequenceStore
from lamppost_node.services import Services
from lamppost_node.settings import Settings, wrap
from lamppost_node.spool import Spool
from lamppost_node.uplink import Uplink
from lamppost_protocol import beacons, cose, frames, orders, slip
from lamppost_protocol.arq import SERIAL_WAITS, ReceiveWindow
from lamppost_protocol.es256_host import HostSigner, HostVerifier, generate_private_key, public_key
from lamppost_protocol.hop import HopKey
from lamppost_protocol.limits import MAX_PAYLOAD_BYTES
from lamppost_protocol.records import Uplink as UplinkPayload
from lamppost_protocol.records import decode_uplink

NETWORK, NODE, EPOCH, ISSUER, UNIX = 16, 0xA1, 1, 99, 1_790_000_000
CONFIG = {"network": None, "bridge": 0, "radio": None, "lora": None, "fixtures": [{"kind": "lamp", "instance": 0}]}
NODE_KEY, COMMAND_KEY, HOP_KEY = generate_private_key(), generate_private_key(), bytes(range(32))


class LoopTicks:
    """The running loop's clock as a chip's ticks."""

    def ticks_ms(self) -> int:
        return round(asyncio.get_running_loop().time() * 1000)

    def ticks_diff(self, end: int, start: int) -> int:
        return end - start


class FakeLine:
    """A line's far end: takes what is sent; `heard` are the verified payloads in order, `at_ms` when each came."""

    waits = SERIAL_WAITS
    gather_ms = spread_ms = alarm_spread_ms = 0
    pieces, has_windows = 4, False

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.heard: list[UplinkPayload] = []
        self.txs: list[int] = []
        self.at_ms: list[int] = []
        self.window = ReceiveWindow()
        self.answer: Uplink | None = None  # acknowledge at once to this uplink

    def payload_bytes(self) -> int:
        return MAX_PAYLOAD_BYTES

    def delay_ms(self, payload_bytes: int, is_urgent: bool) -> int:
        return 0

    def answered(self, digest: bytes, steps: int | None) -> None:
        """One speed."""

    def want_wait_ms(self, misses: int) -> int:
        return 5_000

    async def send(self, message_type: int, body: bytes, is_urgent: bool = False, waited_s: int = 0) -> bool:
        assert message_type == slip.FRAME
        message = cose.decode(body)
        payload = frames.open_signed(message, HostVerifier(public_key(NODE_KEY)), frames.UPLINK, NETWORK, NODE, EPOCH)
        uplink = decode_uplink(payload)
        self.frames.append(body)
        self.heard.append(uplink)
        self.txs.append(message.tx)
        self.at_ms.append(LoopTicks().ticks_ms())
        if self.answer is not None:
            self.window.note(uplink.n, len(uplink.records), uplink.behind)
            acknowledgement = frames.Acknowledgement(self.window.highest, self.window.bitmap32(), frames.frame_digest(body), None)
            self.answer.acknowledge(acknowledgement)
        return True

    def numbers(self) -> list[tuple[int, int]]:
        """(n, count) of every frame heard."""
        return [(uplink.n, len(uplink.records)) for uplink in self.heard]


class Fixture:
    """A fixture that obeys, refuses or adds light as told."""

    def __init__(self) -> None:
        self.obeyed: list[orders.Order] = []
        self.is_adding_light = False
        self.error: Exception | None = None

    def order(self, order: orders.Order) -> None:
        if self.error is not None:
            raise self.error
        self.obeyed.append(order)

    def adds_light(self, order: orders.Order) -> bool:
        return self.is_adding_light


class Core:
    """Everything between a fixture and the line. Must be built inside a running loop."""

    def __init__(self, flash: FakeFlash | None = None, is_safe_mode: bool = False, power_up: int = 1, spool_bytes: int = 65536):
        self.flash = flash or FakeFlash()
        if flash is None:
            for copy in ("0", "1"):
                self.flash.files["counters/tx." + copy] = wrap([EPOCH, 0])
        self.settings = Settings(self.flash)
        self.counters = Counters()
        self.clock = Clock(LoopTicks(), self.settings)
        self.log_lines = LogLines()
        self.identity = Identity(NETWORK, NODE, EPOCH, ISSUER, HostSigner(NODE_KEY), HostVerifier(public_key(COMMAND_KEY)), HopKey(HOP_KEY))
        self.sequence = SequenceStore(self.flash, EPOCH)
        self.spool = Spool(self.flash, self.settings, EPOCH, spool_bytes, bytearray(1024))
        self.spool.open((self.sequence.reserved or 0) * 64 + 1)
        self.sampler = Sampler(self.clock, self.spool, power_up, self.counters)
        self.ledger = OrderLedger(self.flash, self.settings, EPOCH, self.sequence.reserved == 0)
        watch = TaskWatch(None, self.clock)
        self.node = Services(self.clock, self.settings, CONFIG, is_safe_mode, self.sampler, self.ledger, self.log_lines, watch, NODE)
        self.framer = Framer(self.identity, self.sequence, self.spool, self.clock, power_up)
        self.line = FakeLine()
        self.restarts: list[bool] = []
        self.uplink = Uplink(self.node, self.spool, self.framer, self.sampler, self.line, 16, lambda: self.restarts.append(True))
        self.fixture = Fixture()
        self.downlink = Downlink(
            self.node,
            self.identity,
            self.ledger,
            self.uplink,
            {1: self.fixture},
            self.flash,
            lambda: self.restarts.append(True),
            self.counters,
            lambda: None,
            (),
        )

    def set_clock(self, unix: int = UNIX) -> None:
        self.clock.make_nonce(b"8 octets")
        assert self.clock.take_beacon(unix, b"8 octets")

    async def order(self, order_id: int, verb: int, target: int, args: list, life: tuple[int, int] = (UNIX - 10, UNIX + 999)) -> bytes:
        """Sign an order and hand it to the downlink."""
        frame = order_frame(order_id, orders.encode_order(life[0], life[1], verb, target, args))
        await self.downlink.take(slip.FRAME, frame)
        return frame

    def told(self) -> list[tuple[int, int, int]]:
        """(order, state, reason) of every order state on the spool."""
        found, n = [], 1
        while (record := self.spool.read_from(n)) is not None:
            if record.kind == 5:
                found.append(tuple(record.values[:3]))
            n = record.n + 1
        return found


def order_frame(
    order_id: int, payload: bytes, key: bytes = COMMAND_KEY, kid: int = ISSUER, where: tuple[int, int, int] = (NETWORK, NODE, EPOCH)
) -> bytes:
    """A signed order, or one of another network, node or epoch."""
    return frames.seal(HostSigner(key), frames.ORDER, where[0], where[1], where[2], kid, order_id, payload)


def beacon_frame(unix: int, nonce: bytes | None, key: bytes = COMMAND_KEY) -> bytes:
    """A signed beacon, for all without a nonce."""
    node, epoch = (NODE, EPOCH) if nonce is not None else (0, 0)
    return frames.seal(HostSigner(key), frames.BEACON, NETWORK, node, epoch, ISSUER, unix, beacons.encode_beacon(unix, nonce))
