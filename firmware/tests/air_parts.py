"""Nodes on the air for tests on the host: everything from the spool to the link is real, the radio is the ether's own modem without its
registers, and an hour costs what happens in it.
"""

import asyncio
import os
import random
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from bench.peripherals.ether import Ether, Station, Transmission
from bench.peripherals.lora_modem import BANDWIDTHS_HZ, Modem, Receiver
from fake_flash import FakeFlash
from lamppost_node import config
from lamppost_node.clock import Clock
from lamppost_node.downlink import Downlink
from lamppost_node.drivers.errors import RadioFault
from lamppost_node.framer import Framer
from lamppost_node.greeter import Greeter
from lamppost_node.health import Counters, TaskWatch
from lamppost_node.identity import Identity
from lamppost_node.links.channels import Channels
from lamppost_node.links.lora import LoraLink
from lamppost_node.log_lines import LogLines
from lamppost_node.order_ledger import OrderLedger
from lamppost_node.sampler import Sampler
from lamppost_node.sequence_store import SequenceStore
from lamppost_node.services import Services
from lamppost_node.settings import Settings, wrap
from lamppost_node.spool import Spool
from lamppost_node.uplink import Uplink
from lamppost_protocol.airtime import BARE, time_on_air_us
from lamppost_protocol.es256_host import HostSigner, HostVerifier, generate_private_key, public_key
from lamppost_protocol.hop import HopKey
from lamppost_protocol.regions import REGIONS
from node_parts import Fixture, LoopTicks
from street.air_city import AirCity, Citizen

NETWORK, EPOCH, ISSUER, UNIX = 0x00C0FFEE, 1, 0x63, 1_790_000_000
NODE_KEY, COMMAND_KEY = generate_private_key(), generate_private_key()
#: One channel with 1 %, answers on the one with 10 %.
EU868 = {"region": "EU868", "channels_hz": [868_100_000, 868_300_000, 868_500_000], "downlink_hz": 869_525_000, "spread_s": 0}
_BANDWIDTHS = {int(bandwidth): bandwidth for bandwidth in BANDWIDTHS_HZ.values()}


class _NeverWaits(selectors.DefaultSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to whatever comes next, without looking for idleness first: days of hundreds of nodes."""

    def __init__(self) -> None:
        super().__init__(_NeverWaits())
        self._now_s = 0.0

    def time(self) -> float:
        return self._now_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:
            self._now_s = max(self._now_s, self._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


def run_air(work: Coroutine[Any, Any, None], seed: int) -> None:
    """Run `work` in virtual time, with all chance from `seed`."""
    print("seed", seed)
    with seeded_chance(seed), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work)


def loop_s() -> float:
    return asyncio.get_running_loop().time()


class EtherRadio:
    """A radio of whatever make (lamppost_node.interfaces.Radio) on the ether. `is_dead`: it answers nothing."""

    def __init__(self, ether: Ether, name: str, x_m: float, on_sent: Callable[[float], None]):
        self.ether = ether
        self.station = ether.add(Station(name, x_m))
        self.receiver = Receiver(ether, self.station, Modem())
        self.power_dbm = 14
        self.on_sent = on_sent
        self.is_dead = False
        self.crc_errors = self.header_errors = self.restarts = 0
        self.sent: list[Transmission] = []

    def _ask(self) -> float:
        if self.is_dead:
            raise RadioFault("no_answer", "check supply, NRESET and the SPI wires")
        return loop_s()

    async def configure(
        self, frequency_hz: int, spreading_factor: int, bandwidth_hz: int, coding_rate: int = 1, preamble_symbols: int = 8,
        tx_power_dbm: int = 14, is_iq_inverted: bool = False,
    ) -> None:  # fmt: skip
        self._ask()
        modem = Modem(float(frequency_hz), spreading_factor, _BANDWIDTHS[bandwidth_hz], coding_rate, is_iq_inverted=is_iq_inverted)
        modem.has_low_data_rate = modem.symbol() >= 0.016
        self.receiver.modem = modem
        self.power_dbm = tx_power_dbm

    def time_on_air_us(self, packet_bytes: int) -> int:
        modem = self.receiver.modem
        return time_on_air_us(packet_bytes, modem.spreading_factor, int(modem.bandwidth), modem.coding_rate)

    async def send(self, packet: bytes) -> int:
        now_s = self._ask()
        modem = self.receiver.modem
        modem.packet_bytes = len(packet)
        sent = modem.transmission(self.station, packet, self.power_dbm, 0.0, now_s)
        self.ether.begin(sent, now_s)
        self.sent.append(sent)
        await asyncio.sleep(sent.end_s - now_s)
        self.on_sent(max(loop_s(), sent.end_s))
        return self.time_on_air_us(len(packet))

    async def receive(self, timeout_ms: int) -> SimpleNamespace | None:
        since_s = self._ask()
        until_s = since_s + timeout_ms / 1000
        for wait_s in (0.0, timeout_ms / 1000):  # most packets are on the air, ahead of their time, before anyone listens for them
            await asyncio.sleep(wait_s)
            coming = [
                each for each in self.ether.transmissions()
                if since_s < each.sync_s and each.header_s <= until_s and self.receiver._fits(each) and self.receiver._locks(each, since_s)
            ]  # fmt: skip
            if coming:
                first = min(coming, key=lambda each: each.sync_s)
                await asyncio.sleep(max(0.0, first.due_s - loop_s()))
                if self.receiver.hears(first, first.sync_s, first.due_s):
                    return SimpleNamespace(packet=first.packet)
                self.crc_errors += 1
        return None

    async def is_channel_active(self) -> bool:
        since_s = self._ask()
        await asyncio.sleep(float(4 * self.receiver.modem.symbol()))
        return self.receiver.has_activity(since_s, loop_s())

    async def channel_rssi_dbm(self, listen_ms: int) -> int:
        level_dbm = self.receiver.level_dbm(self._ask())
        await asyncio.sleep(listen_ms / 1000)
        return round(max(level_dbm, self.receiver.level_dbm(loop_s())))

    async def standby(self) -> None:
        self._ask()

    async def sleep(self) -> None:
        self._ask()


class AirNode:
    """One node from its records to its antenna. Must be built inside a running loop. `flash`: of an earlier life."""

    def __init__(
        self, city: AirCity, node: int, x_m: float = 300.0, flash: FakeFlash | None = None, spool_bytes: int = 65536,
        says_hello: bool = False, **lora: object,
    ):  # fmt: skip
        self.flash = flash or FakeFlash()
        if flash is None:
            for copy in ("0", "1"):
                self.flash.files["counters/tx." + copy] = wrap([EPOCH, 0])
            for band in REGIONS.get(str(lora.get("region", "EU868")), ()):
                self.flash.files["settings/airtime." + band.name] = wrap(0)
            city.citizens[node] = Citizen(HostVerifier(public_key(NODE_KEY)), HopKey(node.to_bytes(32, "big")))
        self.number = node
        self.citizen = city.citizens[node]
        values = config.check({"fixtures": [], "lora": {**EU868, **lora}}, lambda kind: None)["lora"]
        self.settings = Settings(self.flash)
        boots = self.settings.load("boots")
        power_up = (boots if isinstance(boots, int) else 0) + 1
        self.settings.save("boots", power_up)
        self.counters = Counters()
        self.clock = Clock(LoopTicks(), self.settings)
        self.log_lines = LogLines()
        identity = Identity(
            NETWORK, node, EPOCH, ISSUER, HostSigner(NODE_KEY), HostVerifier(public_key(COMMAND_KEY)), HopKey(node.to_bytes(32, "big"))
        )  # fmt: skip
        sequence = SequenceStore(self.flash, EPOCH)
        self.spool = Spool(self.flash, self.settings, EPOCH, spool_bytes, bytearray(1024))
        self.spool.open((sequence.reserved or 0) * 64 + 1)
        self.sampler = Sampler(self.clock, self.spool, power_up, self.counters)
        ledger = OrderLedger(self.flash, self.settings, EPOCH, sequence.reserved == 0)
        watch = TaskWatch(None, self.clock)
        self.node = Services(self.clock, self.settings, {}, False, self.sampler, ledger, self.log_lines, watch, node)
        self.radio = EtherRadio(city.ether, str(node), x_m, city.advance)
        self.channels = Channels(values, self.settings, self.clock.monotonic_ms(), BARE)
        self.link = LoraLink(self.radio, self.channels, values, NETWORK, node, self.clock, self.node.log)
        framer = Framer(identity, sequence, self.spool, self.clock, power_up)
        self.uplink = Uplink(self.node, self.spool, framer, self.sampler, self.link, 16, lambda: None)
        self.fixture = Fixture()
        self.downlink = Downlink(
            self.node, identity, ledger, self.uplink, {1: self.fixture}, self.flash, lambda: None, self.counters, lambda: None, ()
        )  # fmt: skip
        self.emitted: dict[int, float] = {}
        self.alarms: dict[int, float] = {}
        self.tasks = [
            asyncio.ensure_future(self.uplink.run()),
            asyncio.ensure_future(self.link.run_receive(self.downlink.take, lambda: None)),
        ]
        if says_hello:
            greeter = Greeter(self.node, identity, sequence, self.spool, self.uplink, self.downlink, self.link, 3600, 21_600)
            self.tasks.append(asyncio.ensure_future(greeter.run()))

    def emit(self, values: list[int], is_alarm: bool = False) -> int:
        n = self.node.emit(2, 0, values, is_alarm)
        assert n
        (self.alarms if is_alarm else self.emitted)[n] = loop_s()
        return n

    async def stop(self) -> None:
        """The power goes."""
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


def air_city(seed: int, downlink_hz: int = 869_525_000) -> AirCity:
    """A city alone on its ether."""
    return AirCity(Ether(seed), NETWORK, ISSUER, HostSigner(COMMAND_KEY), UNIX, (downlink_hz, 9, 125_000))


@contextmanager
def seeded_chance(seed: int) -> Iterator[None]:
    """What the operating system's generator gives comes from a seed."""
    rng, true = random.Random(seed), os.urandom
    os.urandom = rng.randbytes
    try:
        yield
    finally:
        os.urandom = true


def overdrawn_us(sent: list[Transmission], window_s: float = 3600.0) -> int:
    """The most airtime in any window, in microseconds, found without the ledger's help: a fullest window begins with a packet."""
    most_s = 0.0
    for first in sent:
        end_s = first.start_s + window_s
        most_s = max(most_s, sum(min(each.end_s, end_s) - each.start_s for each in sent if first.start_s <= each.start_s < end_s))
    return round(most_s * 1_000_000)
