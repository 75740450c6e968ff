"""A02YYUW driver against the bytes of its data sheet."""

import asyncio

import pytest
from fake_buses import FakeUart, never_longer, now_ms, run_virtual
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_node.drivers.a02yyuw import A02YYUW, ANSWER_MS
from lamppost_node.drivers.errors import BadChecksum, NoAnswer, NoEcho


def frame(distance_mm: int) -> bytes:
    body = bytes([0xFF, distance_mm >> 8, distance_mm & 0xFF])
    return body + bytes([sum(body) & 0xFF])


def read_one(uart: FakeUart) -> int:
    return run_virtual(never_longer(A02YYUW(uart).read_mm(), 2))


def test_the_worked_example_of_the_data_sheet() -> None:
    """FF 07 A1 A7 is 1953 mm."""
    assert bytes.fromhex("ff07a1a7") == frame(1953)
    assert read_one(FakeUart([(50, bytes.fromhex("ff07a1a7"))])) == 1953


@pytest.mark.parametrize("distance_mm", [31, 255, 256, 0x7FF, 4500])
def test_both_ends_of_the_range_are_believed(distance_mm: int) -> None:
    """The first and last believed distance, and those whose bytes look like a header."""
    assert read_one(FakeUart([(20, frame(distance_mm))])) == distance_mm


@pytest.mark.parametrize("distance_mm", [0, 30, 4501, 5500, 0xFFFD])
def test_no_echo_is_an_answer_of_its_own(distance_mm: int) -> None:
    """Zero, the blind zone and numbers above the range are no distances."""
    with pytest.raises(NoEcho):
        read_one(FakeUart([(20, frame(distance_mm))]))


def test_silence_ends_at_the_deadline() -> None:
    """An unplugged sensor costs ANSWER_MS and no more."""

    async def read() -> int:
        started = now_ms()
        with pytest.raises(NoAnswer):
            await never_longer(A02YYUW(FakeUart()).read_mm(), 5)
        return now_ms() - started

    assert ANSWER_MS <= run_virtual(read()) <= ANSWER_MS + 20


def test_only_damaged_frames_are_a_bad_checksum() -> None:
    """Bytes without one whole frame are told from silence."""
    with pytest.raises(BadChecksum):
        read_one(FakeUart([(20, bytes.fromhex("ff07a1a8")), (120, bytes.fromhex("ff07a2a7"))]))


def test_a_damaged_frame_costs_itself_only() -> None:
    """A flipped bit, a lost byte or noise before a frame leaves the next frame whole."""
    good = frame(1500)
    for damaged in (b"\xff\x07\xa1\xa6", b"\xff\x07\xa1", b"\x07\xa1\xa7", b"\xff", b"\xff\xff", b"\x00\x13\x37"):
        assert read_one(FakeUart([(10, damaged), (110, good)])) == 1500


def test_flush_drops_what_is_as_old_as_the_last_reading() -> None:
    """After a quarter of an hour the UART is full of the past: a burst starts with flush and sees the present."""

    async def read() -> int:
        uart = FakeUart([(i, frame(900)) for i in range(64)] + [(1000, frame(700))])
        driver = A02YYUW(uart)
        await asyncio.sleep(0.9)
        driver.flush()
        return await never_longer(driver.read_mm(), 2)

    assert run_virtual(read()) == 700


def test_the_mode_pin_chooses_the_output() -> None:
    """RX high is processed, RX low is real time; an unwired pin is no error."""

    class Pin:
        level = -1

        def value(self, level: int) -> None:
            self.level = level

    pin = Pin()
    driver = A02YYUW(FakeUart(), pin)
    driver.set_filtered(True)
    assert pin.level == 1
    driver.set_filtered(False)
    assert pin.level == 0
    A02YYUW(FakeUart()).set_filtered(True)


@settings(max_examples=60, deadline=None)
@given(st.integers(31, 4500), st.binary(max_size=12).filter(lambda noise: 0xFF not in noise), st.integers(1, 7))
def test_any_chunking_behind_any_noise_gives_the_distance(distance_mm: int, noise: bytes, most: int) -> None:
    """However the bytes are cut, a frame after noise without a header is read."""
    assert read_one(FakeUart([(5, noise + frame(distance_mm))], most=most)) == distance_mm


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=64))
def test_garbage_raises_only_sensor_faults(garbage: bytes) -> None:
    """No stream of bytes makes the driver raise anything but its own faults, or believe an impossible distance."""
    chunks = [(10 * i, garbage[i : i + 8]) for i in range(0, len(garbage), 8)]
    try:
        assert 30 < read_one(FakeUart(chunks)) <= 4500
    except (NoEcho, BadChecksum, NoAnswer):
        pass
