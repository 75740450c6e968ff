"""SHT4x driver against the words of its datasheet."""

import pytest
from fake_buses import FakeI2c, never_longer, now_ms, run_virtual
from hypothesis import given
from hypothesis import strategies as st
from lamppost_node.drivers.crc8 import crc8
from lamppost_node.drivers.errors import BadChecksum, NoAnswer, SensorFault
from lamppost_node.drivers.sht4x import ADDRESS, STUCK_READS, SHT4x, humidity_centi_percent, temperature_centi_c


def words(first: int, second: int) -> bytes:
    a, b = first.to_bytes(2, "big"), second.to_bytes(2, "big")
    return a + bytes([crc8(a, 0, 2)]) + b + bytes([crc8(b, 0, 2)])


class Chip:
    """Acknowledges a read only after the command's time, as the datasheet says."""

    def __init__(self, answers: dict[int, bytes], takes_ms: float = 8.3):
        self.answers = answers
        self.takes_ms = takes_ms
        self.commands: list[int] = []
        self.ready_ms = 0.0

    def write(self, data: bytes) -> None:
        assert len(data) == 1
        self.commands.append(data[0])
        self.ready_ms = now_ms() + self.takes_ms

    def read(self, count: int) -> bytes:
        if now_ms() < self.ready_ms or not self.commands or self.commands[-1] not in self.answers:
            raise OSError(19)
        return self.answers[self.commands[-1]][:count]


def test_the_crc_of_the_datasheet() -> None:
    """BEEF gives 92 (section 4.4); a span inside a longer buffer is checked in place."""
    assert crc8(b"\xbe\xef", 0, 2) == 0x92
    assert crc8(bytearray(b"\x00\xbe\xef\x00"), 1, 3) == 0x92


@pytest.mark.parametrize(("raw", "centi"), [(0, -4500), (65535, 13000), (0x6666, 2500), (0x8000, 4250)])
def test_temperature_at_known_words(raw: int, centi: int) -> None:
    """Both ends, and the words the SGP4x manuals give for 25 C."""
    assert temperature_centi_c(raw) == centi


@pytest.mark.parametrize(("raw", "centi"), [(0, 0), (3145, 0), (65535, 10000), (0x8000, 5650), (55575, 10000)])
def test_humidity_is_clamped_to_what_exists(raw: int, centi: int) -> None:
    """Words outside 0..100 % are clamped, as section 4.6 allows."""
    assert humidity_centi_percent(raw) == centi


@given(st.integers(0, 65535))
def test_integer_conversion_is_the_formula_rounded(raw: int) -> None:
    """The integer forms never differ from the datasheet's formula by more than half a hundredth, and stay within 31 bits."""
    assert abs(temperature_centi_c(raw) - 100 * (-45 + 175 * raw / 65535)) <= 0.5 + 1e-6
    exact = 100 * (-6 + 125 * raw / 65535)
    assert abs(humidity_centi_percent(raw) - max(0.0, min(exact, 10_000.0))) <= 0.5 + 1e-6
    assert 7000 * raw + 13107 < 1 << 30


def test_a_measurement_waits_for_the_sensor() -> None:
    """FD, at least 8.3 ms and at most 12, then both words: a sensor asked earlier does not acknowledge."""
    chip = Chip({0xFD: words(0x6666, 0x8000)})

    async def read() -> tuple[tuple[int, int], int]:
        started = now_ms()
        got = await never_longer(SHT4x(FakeI2c({ADDRESS: chip})).read(), 1)
        return got, now_ms() - started

    got, took_ms = run_virtual(read())
    assert got == (2500, 5650)
    assert chip.commands == [0xFD]
    assert took_ms <= 12


@pytest.mark.parametrize("at", range(6))
def test_a_flipped_bit_is_a_bad_checksum(at: int) -> None:
    """Either word and either CRC is checked."""
    answer = bytearray(words(0x6666, 0x8000))
    answer[at] ^= 0x10
    with pytest.raises(BadChecksum):
        run_virtual(SHT4x(FakeI2c({ADDRESS: Chip({0xFD: bytes(answer)})})).read())


def test_an_absent_or_slow_sensor_is_no_answer() -> None:
    """No acknowledgement of the address, or of the read."""
    for chips in ({}, {ADDRESS: Chip({})}, {ADDRESS: Chip({0xFD: words(1, 2)}, takes_ms=50)}):
        with pytest.raises(NoAnswer):
            run_virtual(SHT4x(FakeI2c(chips)).read())
    with pytest.raises(NoAnswer):
        run_virtual(SHT4x(FakeI2c({})).reset())


def test_an_answer_that_never_changes_is_stuck() -> None:
    """Sixteen equal answers are no measurement any more; the first different one is believed again."""
    chip = Chip({0xFD: words(0x6666, 0x8000)})

    async def reads() -> None:
        sensor = SHT4x(FakeI2c({ADDRESS: chip}))
        for _ in range(STUCK_READS - 1):
            assert await sensor.read() == (2500, 5650)
        for _ in range(2):
            with pytest.raises(SensorFault, match="stuck"):
                await sensor.read()
        chip.answers[0xFD] = words(0x6667, 0x8000)
        assert (await sensor.read())[1] == 5650

    run_virtual(reads())


def test_serial_number_and_reset() -> None:
    """89 gives 32 bits in two words; 94 is the soft reset."""
    chip = Chip({0x89: words(0x1234, 0xABCD)}, takes_ms=1)
    sensor = SHT4x(FakeI2c({ADDRESS: chip}))
    assert run_virtual(sensor.read_serial()) == 0x1234ABCD
    run_virtual(sensor.reset())
    assert chip.commands == [0x89, 0x94]
