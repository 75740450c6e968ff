"""Radios for tests on the host: a driver on its chip's model, over the bench's request lines, at the running loop's time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bench.peripherals import e22
from bench.peripherals.cabinet import Cabinet
from bench.peripherals.ether import Ether
from bench.peripherals.street import Street
from bench.peripherals.sx1262 import SX1262
from bench.peripherals.sx1276 import SX1276
from bench.peripherals.wirings import RADIO_BUSY_PIN, RADIO_DIO_PIN, RADIO_NRESET_PIN, RADIO_NSS_PIN
from fake_buses import never_longer, run_virtual
from lamppost_node.drivers.e22 import E22
from lamppost_node.drivers.errors import RadioFault
from lamppost_node.drivers.lora_radio import Reception
from lamppost_node.drivers.sx126x import SX126x
from lamppost_node.drivers.sx127x import SX127x
from lamppost_node.interfaces import Radio as RadioInterface

TCXO_MV = 1800
PACKET = bytes(range(98))
EUROPE_HZ = 868_100_000
#: Wirings of one radio and nothing else, by chip.
WIRINGS = {"sx1262": "radio", "sx1276": "sx1276", "e22": "e22"}
#: What a story's radios are set to where it does not say.
SETTINGS = {
    "sx1262": {"frequency_hz": EUROPE_HZ, "spreading_factor": 9, "bandwidth_hz": 125000},
    "sx1276": {"frequency_hz": EUROPE_HZ, "spreading_factor": 9, "bandwidth_hz": 125000},
    "e22": {"frequency_hz": 866_125_000, "spreading_factor": 11, "bandwidth_hz": 500000},
}


class BenchPin:
    """A machine.Pin, called as one."""

    def __init__(self, cabinet: Cabinet, number: int, has_output: bool):
        self.cabinet = cabinet
        self.number = number
        if has_output:
            self.ask(f"pin {number} out 1")

    def ask(self, line: str) -> str:
        answer = self.cabinet.handle(line.encode(), asyncio.get_running_loop().time()).decode()
        assert answer.startswith("ok"), answer
        return answer[3:]

    def __call__(self, level: "int | None" = None) -> "int | None":
        if level is None:
            return int(self.ask(f"pin {self.number} get"))
        self.ask(f"pin {self.number} set {level}")
        return None


class BenchSpi:
    """A machine.SPI; `garble` may spoil what comes back, `spoil` what is sent."""

    def __init__(self, cabinet: Cabinet):
        self.cabinet = cabinet

    def garble(self, octets: bytes) -> bytes:
        return octets

    def spoil(self, octets: bytes) -> bytes:
        return octets

    def write_readinto(self, written: memoryview, read: memoryview) -> None:
        answer = self.cabinet.handle(f"spi 2 {self.spoil(bytes(written)).hex()}".encode(), asyncio.get_running_loop().time())
        read[:] = self.garble(bytes.fromhex(answer[3:].decode()))


class BenchUart:
    """A machine.UART, the one on the radio's connector."""

    def __init__(self, cabinet: Cabinet):
        self.cabinet = cabinet
        self.init(9600)

    def _ask(self, words: str) -> str:
        answer = self.cabinet.handle(f"uart 2 {words}".encode(), asyncio.get_running_loop().time()).decode()
        assert answer.startswith("ok"), answer
        return answer[3:]

    def init(self, baud: int) -> None:
        self._ask(f"init {baud} 512")

    def any(self) -> int:
        return int(self._ask("any"))

    def read(self, size: int = 512) -> "bytes | None":
        return bytes.fromhex(self._ask(f"read {size}")) or None

    def write(self, octets: bytes) -> int:
        self._ask(f"write {octets.hex()}")
        return len(octets)


class Radio:
    """One node's radio: `driver` on `model`, `x_m` metres from the others' origin. `chip`: "sx1262", "sx1276" or "e22", and so is its
    driver unless `driver` names the other chip's.
    """

    def __init__(self, name: str, ether: Ether, x_m: float = 0.0, tcxo_mv: int = TCXO_MV, chip: str = "sx1262", driver: str = ""):
        self.chip = chip
        self.cabinet = Cabinet(name, WIRINGS[chip], Street(ether.seed, 0), asyncio.get_running_loop().time(), ether)
        self.cabinet.set("x_m", x_m)
        assert self.cabinet.radio is not None
        self.model: SX1262 | SX1276 | e22.E22 = self.cabinet.radio
        self.spi = BenchSpi(self.cabinet)
        self.cabinet.start(asyncio.get_running_loop().time())
        nss, nreset = (BenchPin(self.cabinet, pin, True) for pin in (RADIO_NSS_PIN, RADIO_NRESET_PIN))
        busy, dio = (BenchPin(self.cabinet, pin, False) for pin in (RADIO_BUSY_PIN, RADIO_DIO_PIN))
        self.driver: RadioInterface
        if chip == "e22":
            self.driver = E22(BenchUart(self.cabinet), nss, nreset, dio)  # type: ignore[arg-type]
        elif (driver or chip) == "sx1276":
            self.driver = SX127x(self.spi, nss, nreset, dio)  # type: ignore[arg-type]
        else:
            self.driver = SX126x(self.spi, nss, nreset, busy, dio, tcxo_mv=tcxo_mv)  # type: ignore[arg-type]

    def fault(self, name: str, value: "float | None" = None) -> None:
        self.cabinet.set_fault(name, value, asyncio.get_running_loop().time())

    def clear(self, name: str) -> None:
        self.cabinet.clear_fault(name, asyncio.get_running_loop().time())


def run_radios(
    story: Callable[[Radio, Radio], Awaitable[None]],
    distance_m: float = 500,
    chips: tuple[str, str] = ("sx1262", "sx1262"),
    **settings: Any,
) -> None:
    """Run a story of two configured radios; at its end neither driver has done what its chip could not do then."""

    async def work() -> None:
        ether = Ether(1)
        one, other = Radio("one", ether, 0, chip=chips[0]), Radio("other", ether, distance_m, chip=chips[1])
        for radio in (one, other):
            await radio.driver.configure(**{**SETTINGS[radio.chip], **settings})
        await story(one, other)
        assert one.model.ignored == other.model.ignored == 0

    run_virtual(work())


async def carry(sender: Radio, receiver: Radio, packet: bytes = PACKET, limit_ms: int = 5000) -> "Reception | None":
    """Send while the other listens."""
    listening = asyncio.create_task(receiver.driver.receive(limit_ms))
    await asyncio.sleep(0.1)
    await never_longer(sender.driver.send(packet), 600)
    return await never_longer(listening, 600)


async def fault_of(work: Awaitable[Any], limit_s: float = 20) -> str:
    """The reason why it failed; never longer than the limit."""
    try:
        await never_longer(work, limit_s)
    except RadioFault as fault:
        assert fault.next_step in str(fault)
        return fault.reason
    return ""


async def fault_and_back(one: Radio, other: Radio, fault: str, value: "float | None", reason: str) -> None:
    """Under `fault` each method of `one` says `reason` within a second; when it is over, both hear each other."""
    one.fault(fault, value)
    for _ in range(3):
        for work in (one.driver.send(PACKET), one.driver.receive(1000), one.driver.is_channel_active(), one.driver.channel_rssi_dbm(5)):
            assert await fault_of(work, 1) == reason
    assert await fault_of(one.driver.configure(EUROPE_HZ, 9, 125000), 1) == reason
    one.clear(fault)
    assert (await carry(one, other)) is not None
    assert (await carry(other, one)) is not None
