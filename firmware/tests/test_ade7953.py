"""The energy meter's driver against register bytes written out by hand from the data sheet."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamp_bench import Meter
from lamppost_node.drivers.ade7953 import ADE7953, Calibration
from lamppost_node.drivers.errors import BadChecksum, NoAnswer, SensorFault


class Transcript:
    """A bus that answers from a table of (address bytes -> value bytes) and keeps what it heard."""

    def __init__(self, registers: dict[bytes, bytes]):
        self.registers = registers
        self.heard: list[bytes] = []
        self.chosen = b""

    def writeto(self, address: int, data: bytes, stop: bool = True) -> int:
        assert address == 0x38
        assert stop is (len(data) != 2)  # a read keeps the bus between its two stages (figure 71)
        self.heard.append(bytes(data))
        self.chosen = bytes(data[:2])
        if data == b"\x01\x20\x00\x30" and self.heard[-2] == b"\x00\xfe\xad":
            self.registers[b"\x01\x20"] = b"\x00\x30"
        return len(data)

    def readfrom_into(self, address: int, buffer: bytearray) -> None:
        assert address == 0x38
        value = self.registers[self.chosen]
        assert len(buffer) == len(value)
        buffer[:] = value


REGISTERS = {
    b"\x01\x20": b"\x00\x00",
    b"\x03\x1c": bytes.fromhex("005b8e10"),  # VRMS 6000144 = 230.77 V
    b"\x03\x1a": bytes.fromhex("00006d60"),  # IRMSA 28000 = 280 mA
    b"\x03\x12": bytes.fromhex("00002418"),  # AWATT 9240 = 60.0 W
    b"\x03\x1e": bytes.fromhex("0000b948"),  # AENERGYA 47432 = 2.0 Wh
    b"\x01\x0a": bytes.fromhex("7701"),  # PFA 30465 = 0.930
    b"\x01\x0e": bytes.fromhex("117a"),  # PERIOD 4474 = 50 Hz
}


def test_a_reading_from_raw_registers() -> None:
    """Unlock first, then each quantity from its own register."""
    bus = Transcript(dict(REGISTERS))
    meter = ADE7953(bus)  # type: ignore[arg-type]
    assert meter.read() == (2307, 280, 600, 930, 2)
    assert bus.heard[:4] == [b"\x01\x20", b"\x00\xfe\xad", b"\x01\x20\x00\x30", b"\x01\x20"]
    assert sorted(set(bus.heard[4:])) == sorted([b"\x03\x1e", b"\x03\x1c", b"\x03\x1a", b"\x03\x12", b"\x01\x0a"])
    assert meter.read_frequency_mhz() == 50000
    assert bus.heard.count(b"\x00\xfe\xad") == 1


def test_a_restarted_chip_is_set_up_again_and_counted() -> None:
    """Its required setting is gone: brown-out."""
    bus = Transcript(dict(REGISTERS))
    meter = ADE7953(bus)  # type: ignore[arg-type]
    meter.read()
    bus.registers[b"\x01\x20"] = b"\x00\x00"
    meter.read()
    assert meter.restarts == 1
    assert bus.heard.count(b"\x00\xfe\xad") == 2


def test_energy_adds_up_without_losing_fractions() -> None:
    """A million odd amounts: the sum of the bits, in whole watt-hours."""
    lamp = Meter(lambda: 60.0)
    meter = ADE7953(lamp)  # type: ignore[arg-type]
    total = 0
    for step in range(500):
        lamp.energy_lsb = 7919 + step
        total += lamp.energy_lsb
        assert meter.read().energy_wh == total // 23716
    lamp.energy_lsb = -3000
    assert meter.read().energy_wh == total // 23716


def test_energy_read_counts_even_when_the_rest_fails() -> None:
    """Reading the register resets it: what it held must not be lost with the reading."""
    registers = dict(REGISTERS)
    registers[b"\x03\x1c"] = b"\x00\x00\x00\x00"
    meter = ADE7953(Transcript(registers))  # type: ignore[arg-type]
    with pytest.raises(SensorFault):
        meter.read()
    assert meter.energy_wh == 2


@given(st.floats(55, 329), st.floats(0, 2000), st.floats(0.3, 1.0))
def test_readings_are_the_truth_rounded(voltage_v: float, power_w: float, power_factor: float) -> None:
    """Over the whole range: one digit of error at most."""
    lamp = Meter(lambda: power_w)
    lamp.voltage_v, lamp.power_factor = voltage_v, power_factor
    found = ADE7953(lamp).read()  # type: ignore[arg-type]
    assert abs(found.voltage_dv - voltage_v * 10) <= 1
    assert abs(found.active_power_dw - power_w * 10) <= 1
    assert abs(found.current_ma - power_w / voltage_v / power_factor * 1000) <= 1
    assert abs(found.power_factor_permille - power_factor * 1000) <= 1


def test_a_reversed_transformer_is_told_and_can_be_configured() -> None:
    """Negative power is a wiring fault until the calibration says so."""
    lamp = Meter(lambda: -60.0)
    lamp.energy_lsb = -47432
    with pytest.raises(SensorFault) as caught:
        ADE7953(lamp).read()  # type: ignore[arg-type]
    assert caught.value.reason == "reversed"
    lamp.energy_lsb = -47432
    found = ADE7953(lamp, calibration=Calibration(26000, 100000, -154, -23716)).read()  # type: ignore[arg-type]
    assert found.active_power_dw == 600
    assert found.energy_wh == 2


def test_noise_around_zero_is_zero() -> None:
    """Half a watt below nothing is nothing."""
    assert ADE7953(Meter(lambda: -0.5)).read().active_power_dw == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({b"\x03\x1c": b"\x00\x00\x01\x00"}, SensorFault, "no_voltage"),
        ({b"\x03\x1c": b"\x00\xff\xff\xff"}, SensorFault, "implausible"),
        ({b"\x03\x1c": b"\x01\x00\x00\x00"}, BadChecksum, "not_24_bit"),
        ({b"\x03\x1a": b"\xff\xff\xff\xff"}, BadChecksum, "not_24_bit"),
        ({b"\x03\x12": b"\x00\x0f\xff\xff"}, SensorFault, "implausible"),  # more watts than volts times amperes
        ({b"\x03\x12": b"\x12\x34\x56\x78"}, BadChecksum, "not_24_bit"),
        ({b"\x03\x1e": b"\x7f\xff\xff\xff"}, BadChecksum, "not_24_bit"),
        ({b"\x01\x20": b"\xff\xff"}, BadChecksum, "not_an_ade7953"),
    ],
)
def test_impossible_registers_are_faults(change: dict[bytes, bytes], kind: Any, reason: str) -> None:
    """Each with its reason."""
    bus = Transcript({**REGISTERS, **change})
    if b"\x01\x20" in change:
        bus.writeto = lambda address, data, stop=True: setattr(bus, "chosen", bytes(data[:2])) or len(data)  # type: ignore[method-assign,assignment]
    with pytest.raises(kind) as caught:
        ADE7953(bus).read()  # type: ignore[arg-type]
    assert caught.value.reason == reason


def test_absent_chip_is_no_answer_and_comes_back() -> None:
    """Unplugged and plugged again."""
    lamp = Meter(lambda: 60.0)
    meter = ADE7953(lamp)  # type: ignore[arg-type]
    lamp.is_plugged = False
    with pytest.raises(NoAnswer):
        meter.read()
    lamp.is_plugged = True
    assert meter.read().active_power_dw == 600


@given(st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=6))
def test_arbitrary_bytes_raise_only_sensor_faults(garbage: list[bytes]) -> None:
    """A bus full of noise."""
    lamp = Meter(lambda: 60.0)
    turn = iter(garbage * 20)
    lamp.garble = lambda data: data if data == b"\x00\x30" else next(turn)[: len(data)]
    meter = ADE7953(lamp)  # type: ignore[arg-type]
    try:
        found = meter.read()
        assert 0 <= found.voltage_dv <= 3300
        assert 0 <= found.power_factor_permille <= 1000
    except SensorFault:
        pass
