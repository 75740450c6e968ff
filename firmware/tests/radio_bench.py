"""Radios for tests on the host: the driver on the register-level model, over the bench's request lines, at the running loop's time."""

import asyncio

from bench.peripherals.cabinet import Cabinet
from bench.peripherals.ether import Ether
from bench.peripherals.street import Street
from bench.peripherals.sx1262 import SX1262
from bench.peripherals.wirings import RADIO_BUSY_PIN, RADIO_DIO1_PIN, RADIO_NRESET_PIN, RADIO_NSS_PIN
from lamppost_node.drivers.sx126x import SX126x
from lamppost_node.interfaces import Radio as RadioInterface

TCXO_MV = 1800


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


class Radio:
    """One node's radio: `driver` on `model`, `x_m` metres from the others' origin."""

    def __init__(self, name: str, ether: Ether, x_m: float = 0.0, tcxo_mv: int = TCXO_MV):
        self.cabinet = Cabinet(name, "radio", Street(ether.seed, 0), asyncio.get_running_loop().time(), ether)
        self.cabinet.set("x_m", x_m)
        assert self.cabinet.radio is not None
        self.model: SX1262 = self.cabinet.radio
        self.spi = BenchSpi(self.cabinet)
        self.cabinet.start(asyncio.get_running_loop().time())
        pins = [BenchPin(self.cabinet, pin, True) for pin in (RADIO_NSS_PIN, RADIO_NRESET_PIN)]
        pins += [BenchPin(self.cabinet, pin, False) for pin in (RADIO_BUSY_PIN, RADIO_DIO1_PIN)]
        self.driver: RadioInterface = SX126x(self.spi, *pins, tcxo_mv=tcxo_mv)  # type: ignore[arg-type]

    def fault(self, name: str, value: "float | None" = None) -> None:
        self.cabinet.set_fault(name, value, asyncio.get_running_loop().time())

    def clear(self, name: str) -> None:
        self.cabinet.clear_fault(name, asyncio.get_running_loop().time())
