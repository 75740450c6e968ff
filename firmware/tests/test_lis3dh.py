"""LIS3DH driver against the registers of its datasheet."""

import pytest
from fake_buses import FakeI2c, never_longer, now_ms, run_virtual
from lamppost_node.drivers.errors import BadChecksum, NoAnswer
from lamppost_node.drivers.lis3dh import ADDRESS, LIS3DH, RATE_1_HZ


class Chip:
    """Registers with the sub-address rule: only with its top bit set does a read run on to the next register."""

    def __init__(self, identity: int = 0x33):
        self.registers = bytearray(0x40)
        self.registers[0x0F] = identity
        self.registers[0x20] = 0x07  # after power-up: power-down, axes enabled
        self.at = 0
        self.run_on = False
        self.writes: list[tuple[int, int]] = []

    def write(self, data: bytes) -> None:
        self.at, self.run_on = data[0] & 0x7F, bool(data[0] & 0x80)
        for byte in data[1:]:
            self.registers[self.at] = byte
            self.writes.append((self.at, byte))

    def read(self, count: int) -> bytes:
        if self.run_on:
            return bytes(self.registers[self.at : self.at + count])
        return bytes([self.registers[self.at]] * count)


def test_first_read_configures_and_waits_one_period() -> None:
    """CTRL_REG4 80 (BDU, +-2 g) before CTRL_REG1 2F (10 Hz, low power, three axes); then the axes, high bytes, 16 mg a digit."""
    chip = Chip()
    chip.registers[0x28:0x2E] = bytes([0xC0, 0x01, 0x00, 0xFF, 0x40, 0x3E])
    sensor = LIS3DH(FakeI2c({ADDRESS: chip}))

    async def read() -> tuple[tuple[int, int, int], int]:
        started = now_ms()
        got = await never_longer(sensor.read(), 1)
        return got, now_ms() - started

    got, took_ms = run_virtual(read())
    assert got == (16, -16, 992)
    assert chip.writes == [(0x23, 0x80), (0x20, 0x2F)]
    assert took_ms >= 100
    assert run_virtual(read())[1] == 0


def test_both_ends_of_the_scale() -> None:
    """80 is -2048 mg and 7F is 2032 mg."""
    chip = Chip()
    chip.registers[0x28:0x2E] = bytes([0, 0x80, 0, 0x7F, 0, 0x00])
    assert run_virtual(LIS3DH(FakeI2c({ADDRESS: chip})).read()) == (-2048, 2032, 0)


def test_the_slow_rate_is_written_and_waited_for() -> None:
    """1 Hz is ODR 0001, and its first reading takes a second."""
    chip = Chip()

    async def read() -> int:
        await LIS3DH(FakeI2c({ADDRESS: chip}), rate=RATE_1_HZ).read()
        return now_ms()

    assert run_virtual(read()) >= 1000
    assert chip.writes[-1] == (0x20, 0x1F)


def test_a_sensor_that_lost_power_is_configured_again() -> None:
    """After a brown-out the registers are at their defaults and the outputs stand still: the driver notices."""
    chip = Chip()
    sensor = LIS3DH(FakeI2c({ADDRESS: chip}))
    run_virtual(sensor.read())
    chip.registers[0x20] = 0x07
    chip.writes.clear()
    run_virtual(sensor.read())
    assert chip.writes == [(0x23, 0x80), (0x20, 0x2F)]


def test_another_chip_at_the_address_is_refused() -> None:
    """WHO_AM_I must be 33; nothing is written to a stranger."""
    chip = Chip(identity=0x44)
    with pytest.raises(BadChecksum):
        run_virtual(LIS3DH(FakeI2c({ADDRESS: chip})).read())
    assert chip.writes == []


def test_an_absent_sensor_is_no_answer() -> None:
    """No acknowledgement of the address, on reads and on writes."""
    with pytest.raises(NoAnswer):
        run_virtual(LIS3DH(FakeI2c({})).read())

    class ReadOnly(Chip):
        def write(self, data: bytes) -> None:
            if len(data) > 1:
                raise OSError(19)
            super().write(data)

    with pytest.raises(NoAnswer):
        run_virtual(LIS3DH(FakeI2c({ADDRESS: ReadOnly()})).read())
