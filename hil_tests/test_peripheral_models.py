"""The bench's sensor models at byte level, in virtual time: datasheet examples and every fault."""

import pytest
from bench.peripherals import pms5003
from bench.peripherals.a02yyuw import frame as distance_frame
from bench.peripherals.cabinet import Cabinet
from bench.peripherals.requests import PWRON_RESET
from bench.peripherals.sht4x import crc8, words
from bench.peripherals.street import Street

NOON_UNIX_S = 1_750_000_000  # 2025-06-15 15:06 UTC


def cabinet(wiring: str) -> Cabinet:
    made = Cabinet("n", wiring, Street(7, NOON_UNIX_S))
    assert made.start(0.0) == PWRON_RESET
    return made


def ask(made: Cabinet, line: str, now_s: float) -> str:
    answer = made.handle(line.encode(), now_s).decode()
    assert answer.startswith("ok"), f"{line}: {answer}"
    return answer[3:]


def octets(made: Cabinet, line: str, now_s: float) -> bytes:
    return bytes.fromhex(ask(made, line, now_s))


def climate(made: Cabinet, now_s: float) -> tuple[float, float]:
    """One high-precision SHT4x measurement, both CRCs checked."""
    ask(made, "i2c 0 44 wfd", now_s)
    data = octets(made, "i2c 0 44 r6", now_s + 0.01)
    assert crc8(data[:2]) == data[2]
    assert crc8(data[3:5]) == data[5]
    temperature = int.from_bytes(data[:2], "big")
    humidity = int.from_bytes(data[3:5], "big")
    return -45 + 175 * temperature / 65535, -6 + 125 * humidity / 65535


def distances(data: bytes) -> list[int]:
    """Distances of the well-formed frames in an aligned capture; -1 for a wrong sum."""
    assert len(data) % 4 == 0
    found = []
    for start in range(0, len(data), 4):
        head, high, low, total = data[start : start + 4]
        assert head == 0xFF
        found.append(high << 8 | low if (head + high + low) & 0xFF == total else -1)
    return found


# -- A02YYUW ------------------------------------------------------------------------------------------------------------


def test_distance_frame_is_the_data_sheets_example() -> None:
    """FF 07 A1 A7 is 1953 mm."""
    assert distance_frame(1953) == bytes.fromhex("ff07a1a7")


def open_bin() -> Cabinet:
    made = cabinet("bin")
    made.street.overrides["temperature_c"] = 18.0  # 20 inside: the sensor's fixed speed of sound is right
    made.set("waste_mm", 400)
    ask(made, "uart 2 init 9600 256", 0.0)
    return made


def test_distance_streams_three_to_ten_frames_a_second() -> None:
    """Unasked frames, each a few millimetres about the truth."""
    found = distances(octets(open_bin(), "uart 2 read 400", 5.05))
    assert 15 <= len(found) <= 50
    assert all(abs(distance_mm - 600) <= 4 for distance_mm in found)


def test_distance_bytes_arrive_at_baud_pace() -> None:
    """Half a frame is there half a frame's time after its start, the first of them a while after the sensor has its supply."""
    made = open_bin()
    assert ask(made, "uart 2 any", 0.45) == "0"
    seen = {int(ask(made, "uart 2 any", 0.5 + step / 4000)) for step in range(900)}
    assert {0, 1, 2, 3, 4} <= seen


def test_uncompensated_distance_shows_the_cold() -> None:
    """At -10 degC sound is slow and a fixed-speed sensor reads 5 % too far."""
    made = open_bin()
    made.street.overrides["temperature_c"] = -12.0
    (reading_mm, *_) = distances(octets(made, "uart 2 read 4", 2.05))
    assert 625 <= reading_mm <= 640


def test_receive_buffer_keeps_the_oldest_and_loses_the_rest() -> None:
    """A node that sleeps for an hour finds 256 old bytes, as with a real UART."""
    made = open_bin()
    assert ask(made, "uart 2 any", 3600.0) == "256"
    made.set("waste_mm", 100)
    assert all(abs(each - 600) < 5 for each in distances(octets(made, "uart 2 read 256", 3600.0)))
    assert abs(distances(octets(made, "uart 2 read 4", 3600.5))[0] - 900) < 5


def test_receive_buffer_cuts_a_frame_where_it_is_full() -> None:
    """What does not fit is lost in the middle of a frame: the driver must find the next start."""
    made = open_bin()
    ask(made, "uart 2 init 9600 250", 0.0)
    assert ask(made, "uart 2 any", 3600.0) == "250"


def test_wrong_baud_rate_gives_no_frame() -> None:
    """Octets come, but none with a distance in them."""
    made = cabinet("bin")
    ask(made, "uart 2 init 115200 256", 0.0)
    data = octets(made, "uart 2 read 100", 3.0)
    assert data
    assert b"\xff" not in data[::4]


@pytest.mark.parametrize(
    ("fault", "value", "expected"),
    [("no_echo", None, {0}), ("no_echo", 5500, {5500}), ("bad_checksum", None, {-1}), ("unplugged", None, set())],
)
def test_distance_faults(fault: str, value: float | None, expected: set[int]) -> None:
    """Each fault on the wire as the sensor shows it, and gone when cleared."""
    made = open_bin()
    made.set_fault(fault, value, 0.0)
    assert set(distances(octets(made, "uart 2 read 256", 2.05))) == expected
    made.clear_fault(fault, 2.1)
    assert all(abs(each - 600) < 5 for each in distances(octets(made, "uart 2 read 256", 4.05)))


def test_stuck_and_noisy_distance() -> None:
    """Stuck repeats one value while the waste grows; noisy spreads as far as it says."""
    made = open_bin()
    made.set_fault("stuck", None, 0.0)
    first = distances(octets(made, "uart 2 read 256", 2.05))
    made.set("waste_mm", 700)
    assert len(set(first + distances(octets(made, "uart 2 read 256", 4.05)))) == 1
    made.clear_fault(None, 4.1)
    made.set_fault("noisy", 400, 4.1)
    spread = distances(octets(made, "uart 2 read 256", 14.05))
    assert 200 < max(spread) - min(spread) <= 400


# -- PMS5003 ------------------------------------------------------------------------------------------------------------


def open_air() -> Cabinet:
    made = cabinet("air_lamp")
    made.street.overrides |= {"pm25_ug_m3": 20.0, "humidity_percent": 50.0}
    ask(made, "uart 2 init 9600 256", 0.0)
    return made


def pm25_cf1(data: bytes) -> int:
    """PM2.5 (CF=1) of one checked 32-byte frame."""
    assert data[:4] == bytes.fromhex("424d001c")
    assert len(data) == 32
    assert int.from_bytes(data[30:], "big") == sum(data[:30])
    return int.from_bytes(data[6:8], "big")


def test_particle_packet_is_the_manuals() -> None:
    """The answer to `sleep` is the manual's, and a data frame has 32 bytes."""
    assert pms5003.packet(b"\xe4\x00") == bytes.fromhex("424d0004e4000177")
    assert len(pms5003.data_frame([0] * 12, 0)) == 32


def test_particles_are_wrong_until_the_fan_has_run_30_s() -> None:
    """Nothing, then too much, then what Barkjohn's correction turns into the truth."""
    made = open_air()
    assert pm25_cf1(octets(made, "uart 2 read 32", 3.05)) == 0
    octets(made, "uart 2 read 256", 9.05)
    true_cf1 = (20 - 5.75 + 0.0862 * 50) / 0.524
    assert pm25_cf1(octets(made, "uart 2 read 32", 10.05)) > 1.5 * true_cf1
    octets(made, "uart 2 read 256", 40.05)
    octets(made, "uart 2 read 256", 40.1)
    warm = pm25_cf1(octets(made, "uart 2 read 32", 41.05))
    assert abs(0.524 * warm - 0.0862 * 50 + 5.75 - 20) < 1.5


def test_passive_mode_speaks_only_when_asked() -> None:
    """Mode, read, sleep and wake orders, with their answers; a wrong sum is ignored; asleep it hears only `wake`."""
    made = open_air()
    ask(made, "uart 2 write 424de100000170", 0.1)
    assert octets(made, "uart 2 read 99", 0.3) == pms5003.packet(b"\xe1\x00")
    assert ask(made, "uart 2 any", 9.0) == "0"
    ask(made, "uart 2 write 424de2000001", 9.0)
    ask(made, "uart 2 write 71", 9.01)  # the order may come in pieces
    assert ask(made, "uart 2 any", 9.015) == "0"
    pm25_cf1(octets(made, "uart 2 read 99", 9.2))
    ask(made, "uart 2 write 424de200000172", 9.3)
    assert ask(made, "uart 2 any", 9.9) == "0"
    ask(made, "uart 2 write 424de400000173", 10.0)
    assert octets(made, "uart 2 read 99", 10.1) == pms5003.packet(b"\xe4\x00")
    ask(made, "uart 2 write 424de200000171", 10.2)
    assert ask(made, "uart 2 any", 10.5) == "0"
    ask(made, "uart 2 write 424de400010174", 50.0)
    assert octets(made, "uart 2 read 99", 50.1) == pms5003.packet(b"\xe4\x01")
    ask(made, "uart 2 write 424de200000171", 52.0)
    assert pm25_cf1(octets(made, "uart 2 read 99", 52.2)) == 0  # the 30 s begin anew


def test_particle_faults() -> None:
    """Wrong sum, dead fan with its error code, a repeated frame, silence."""
    made = open_air()
    octets(made, "uart 2 read 256", 39.95)
    made.set_fault("bad_checksum", None, 40.0)
    data = octets(made, "uart 2 read 256", 41.05)[-32:]
    assert int.from_bytes(data[30:], "big") == sum(data[:30]) ^ 1
    made.clear_fault(None, 41.1)
    made.set_fault("fan", None, 41.1)
    data = octets(made, "uart 2 read 32", 42.05)
    assert pm25_cf1(data) == 0
    assert data[29] != 0
    made.clear_fault("fan", 42.1)
    made.set_fault("stuck", None, 42.1)
    data = octets(made, "uart 2 read 64", 44.05)
    made.street.overrides["pm25_ug_m3"] = 80.0
    assert octets(made, "uart 2 read 32", 45.05) == data[:32] == data[32:]
    made.set_fault("unplugged", None, 45.1)
    assert ask(made, "uart 2 any", 60.0) == "0"


# -- SHT4x --------------------------------------------------------------------------------------------------------------


def test_crc_is_the_data_sheets_example() -> None:
    """BEEF gives 92."""
    assert crc8(b"\xbe\xef") == 0x92
    assert words(0xBEEF) == b"\xbe\xef\x92"


@pytest.mark.parametrize(("command", "early_s", "done_s"), [("fd", 0.008, 0.0084), ("f6", 0.004, 0.0046), ("e0", 0.001, 0.0017)])
def test_reading_early_is_not_acknowledged(command: str, early_s: float, done_s: float) -> None:
    """The chip answers when it has measured, once, and nothing before a command."""
    made = cabinet("bin")
    assert made.handle(b"i2c 0 44 r6", 1.0) == b"err 19"
    ask(made, f"i2c 0 44 w{command}", 1.0)
    assert made.handle(b"i2c 0 44 r6", 1.0 + early_s) == b"err 19"
    assert len(octets(made, "i2c 0 44 r6", 1.0 + done_s)) == 6
    assert made.handle(b"i2c 0 44 r6", 1.1) == b"err 19"
    assert made.handle(f"i2c 0 44 w{command} r6".encode(), 2.0) == b"err 19"


def test_climate_is_the_streets() -> None:
    """Reading and truth agree; a bin's inside is two degrees warmer; serial number and reset answer."""
    made = cabinet("bin")
    made.street.overrides |= {"temperature_c": -7.5, "humidity_percent": 81.0}
    temperature_c, humidity_percent = climate(made, 1.0)
    assert abs(temperature_c + 5.5) < 0.05
    assert abs(humidity_percent - 81) < 0.1
    ask(made, "i2c 0 44 w89", 2.0)
    serial = octets(made, "i2c 0 44 r6", 2.0)
    assert crc8(serial[:2]) == serial[2]
    ask(made, "i2c 0 44 w94", 3.0)
    assert made.handle(b"i2c 0 44 wfd", 3.0005) == b"err 19"
    assert climate(made, 3.002)[0] < -5
    assert made.handle(b"i2c 0 44 w77", 4.0) == b"err 19"


def test_climate_faults() -> None:
    """Wrong CRC in the first word, a frozen value, no acknowledgement, a fire."""
    made = cabinet("bin")
    made.street.overrides["temperature_c"] = 20.0
    made.set_fault("temperature_bad_crc", None, 0.0)
    ask(made, "i2c 0 44 wfd", 1.0)
    data = octets(made, "i2c 0 44 r6", 1.01)
    assert crc8(data[:2]) != data[2]
    made.clear_fault(None, 1.1)
    made.set_fault("temperature_stuck", None, 1.1)
    before = climate(made, 2.0)
    made.street.overrides["temperature_c"] = 30.0
    assert climate(made, 3.0) == before
    made.clear_fault(None, 3.1)
    made.set_fault("fire", None, 3.1)
    assert climate(made, 4.0)[0] > 90
    made.set_fault("temperature_unplugged", None, 5.0)
    assert made.handle(b"i2c 0 44 wfd", 5.0) == b"err 19"
    assert ask(made, "scan 0", 5.0) == "18"


# -- LIS3DH -------------------------------------------------------------------------------------------------------------


def axes_mg(made: Cabinet, now_s: float, shift: int, mg: int) -> list[int]:
    data = octets(made, "i2c 0 18 wa8 r6", now_s)
    return [(int.from_bytes(data[i : i + 2], "little", signed=True) >> shift) * mg for i in (0, 2, 4)]


def test_accelerometer_registers() -> None:
    """Identity, power-down after power-on, auto-increment only with bit 7, three resolutions, read-only registers."""
    made = cabinet("bin")
    assert octets(made, "i2c 0 18 w0f r1", 0.0) == b"\x33"
    assert octets(made, "i2c 0 18 w20 r1", 0.0) == b"\x07"
    assert octets(made, "i2c 0 18 wa8 r6", 0.0) == bytes(6)
    ask(made, "i2c 0 18 w2057", 0.1)
    ask(made, "i2c 0 18 w0f00", 0.1)
    assert octets(made, "i2c 0 18 w0f r2", 0.1) == b"\x33\x33"
    assert abs(axes_mg(made, 1.0, 6, 4)[2] - 1000) < 20
    ask(made, "i2c 0 18 w2388", 1.0)
    assert abs(axes_mg(made, 2.0, 4, 1)[2] - 1000) < 10
    ask(made, "i2c 0 18 w205f", 2.0)
    ask(made, "i2c 0 18 w2380", 2.0)
    assert abs(axes_mg(made, 3.0, 8, 16)[2] - 1000) < 30


def test_tilt_and_accelerometer_faults() -> None:
    """A tilted bin shows it on y and z; stuck and unplugged."""
    made = cabinet("bin")
    ask(made, "i2c 0 18 w2057", 0.0)
    made.set_fault("tilt", 60, 0.0)
    _, y_mg, z_mg = axes_mg(made, 1.0, 6, 4)
    assert abs(y_mg - 866) < 20
    assert abs(z_mg - 500) < 20
    made.set_fault("accelerometer_stuck", None, 1.1)
    made.clear_fault("tilt", 1.2)
    assert axes_mg(made, 2.0, 6, 4)[1] == y_mg
    made.set_fault("accelerometer_unplugged", None, 2.1)
    assert made.handle(b"i2c 0 18 w0f r1", 2.2) == b"err 19"
