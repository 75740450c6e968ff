"""PMS5003 driver against the frames of its manual."""

import asyncio

import pytest
from fake_buses import FakeUart, never_longer, now_ms, run_virtual
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_node.drivers.errors import BadChecksum, NoAnswer, SensorFault
from lamppost_node.drivers.pms5003 import ANSWER_MS, PMS5003, STUCK_READS, Particulates

READ = bytes.fromhex("424de200000171")
PASSIVE_ANSWER = bytes.fromhex("424d0004e1000174")


def frame(*words: int, version: int = 0x97, error_code: int = 0) -> bytes:
    values = [*words, *([0] * (12 - len(words))), version << 8 | error_code]
    body = b"\x42\x4d\x00\x1c" + b"".join(value.to_bytes(2, "big") for value in values)
    return body + sum(body).to_bytes(2, "big")


def ask(answer: "bytes | list[bytes]", most: int = 32) -> Particulates:
    answers = [answer] if isinstance(answer, bytes) else list(answer)
    uart = FakeUart(answer=lambda request: answers.pop(0) if answers and request == READ else b"", most=most)
    return run_virtual(never_longer(PMS5003(uart).read(), 5))


GOOD = frame(5, 8, 9, 5, 8, 9, 1200, 340, 60, 8, 2, 1)


def test_commands_are_those_of_the_manual() -> None:
    """The seven bytes of wake, sleep, passive mode and the read request, sums included."""
    uart = FakeUart()
    driver = PMS5003(uart)
    driver.wake()
    driver.sleep()
    driver.set_passive()
    with pytest.raises(NoAnswer):
        run_virtual(driver.read())
    assert [data.hex() for data in uart.written] == ["424de400010174", "424de400000173", "424de100000170", "424de200000171"]


def test_a_frame_is_read_column_by_column() -> None:
    """Every word lands in its column; CF=1 before atmospheric."""
    got = ask(frame(1, 2, 3, 4, 5, 6, 1000, 700, 80, 9, 300, 65535, error_code=2))
    assert got == Particulates(1, 2, 3, 4, 5, 6, (1000, 700, 80, 9, 300, 65535), 0x97, 2)


def test_a_frame_written_out_by_hand_is_read() -> None:
    """The manual's layout byte for byte, with its sum added by hand (0x02DA), not by this file's own frame()."""
    raw = bytes.fromhex("424d001c000400050005000400050005037e00e20017000200000000970002da")
    got = ask(raw)
    assert (got.pm1_ug_m3, got.pm25_ug_m3, got.pm10_ug_m3) == (4, 5, 5)
    assert got.counts == (0x37E, 0xE2, 0x17, 2, 0, 0)


def test_answers_to_commands_are_no_readings() -> None:
    """The eight bytes answering set_passive may still be on their way when the reading is asked for."""
    assert ask(PASSIVE_ANSWER + GOOD).pm25_ug_m3 == 8


def test_a_sensor_in_active_mode_is_read_too() -> None:
    """A sensor that lost power streams by itself: one frame is one reading, the rest is dropped before the next question."""
    uart = FakeUart(script=[(40, frame(1, 1, 1)), (900, frame(7, 7, 7))])
    driver = PMS5003(uart)

    async def two() -> tuple[int, int]:
        first = await driver.read()
        second = await driver.read()
        return first.pm25_ug_m3, second.pm25_ug_m3

    assert run_virtual(two()) == (1, 7)


def test_a_frame_from_before_the_question_is_no_answer() -> None:
    """What an active sensor left in the UART a quarter of an hour ago is thrown away first."""
    uart = FakeUart(script=[(0, frame(1, 1, 1))], answer=lambda request: frame(7, 7, 7))

    async def read() -> int:
        await asyncio.sleep(900)
        return (await never_longer(PMS5003(uart).read(), 5)).pm25_ug_m3

    assert run_virtual(read()) == 7


def test_silence_ends_at_the_deadline() -> None:
    """A sleeping or unplugged sensor costs ANSWER_MS and no more."""

    async def read() -> int:
        started = now_ms()
        with pytest.raises(NoAnswer):
            await never_longer(PMS5003(FakeUart()).read(), 5)
        return now_ms() - started

    assert ANSWER_MS <= run_virtual(read()) <= ANSWER_MS + 20


def test_no_flipped_bit_passes_and_none_costs_the_next_frame() -> None:
    """Every single flipped bit of a frame: it is not believed, and the frame right behind it is read."""
    behind = frame(11, 12, 13)
    for at in range(32):
        for bit in range(8):
            damaged = bytearray(GOOD)
            damaged[at] ^= 1 << bit
            assert ask(bytes(damaged) + behind).pm25_ug_m3 == 12


def test_a_wrong_sum_is_told_from_silence() -> None:
    """Bytes without one whole frame are a bad checksum, not a missing sensor."""
    with pytest.raises(BadChecksum):
        ask(GOOD[:-1] + b"\x00")


def test_a_frame_that_never_changes_is_stuck() -> None:
    """Sixteen equal frames with particles in them are no measurement; clean air of all zeros may repeat."""

    async def reads(words: tuple[int, ...], is_stuck: bool) -> None:
        answer = [frame(*words)]
        driver = PMS5003(FakeUart(answer=lambda request: answer[0]))
        for _ in range(STUCK_READS - 1):
            await driver.read()
        if is_stuck:
            with pytest.raises(SensorFault, match="stuck"):
                await driver.read()
            answer[0] = frame(9, 9, 9, 9, 9, 9, 901)
        assert (await driver.read()).pm1_ug_m3 in (0, 9)

    run_virtual(reads((5, 8, 9, 5, 8, 9, 1200), True))
    run_virtual(reads((0, 0, 0), False))


def test_a_damaged_frame_costs_itself_only() -> None:
    """A lost byte, a false header or a flipped bit leaves the frame behind it whole, even when read as one stream."""
    for damaged in (GOOD[:-1], GOOD[1:], GOOD[:7] + GOOD[8:], b"\x42", b"\x42\x4d", b"\x42\x4d\x00\x1c\x42", b"\x42\x42\x4d\x00"):
        assert ask(damaged + frame(11, 12, 13)).pm25_ug_m3 == 12


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=20).filter(lambda noise: 0x42 not in noise), st.integers(1, 32))
def test_any_chunking_behind_any_noise_gives_the_reading(noise: bytes, most: int) -> None:
    """However the bytes are cut, a frame after noise is read."""
    assert ask(noise + GOOD, most=most).counts == (1200, 340, 60, 8, 2, 1)


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=80))
def test_garbage_raises_only_sensor_faults(garbage: bytes) -> None:
    """No stream of bytes makes the driver raise anything but its own faults."""
    try:
        ask(garbage)
    except (BadChecksum, NoAnswer):
        pass
