"""The whole bench: real MicroPython programs, the `machine` module, real FIFOs, the server process, kill -9."""

import contextlib
import os
import selectors
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.peripherals.cabinet import Cabinet
from bench.peripherals.client import DEADLINE_S, Bench, Program, find_micropython, receive
from bench.peripherals.server import Door
from bench.peripherals.street import Street


@pytest.fixture(autouse=True)
def _needs_micropython() -> None:
    try:
        find_micropython()
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, "lamp:lamp", "bin:bin")
    with contextlib.closing(made):
        yield made


DIM_AND_HANG = """
import machine
lamp = machine.PWM(machine.Pin(25), freq=1000, duty_u16=65535)
relay = machine.Pin(26, machine.Pin.OUT, value=0)
rtc = machine.RTC()
print(machine.reset_cause(), rtc.memory())
rtc.memory(b"kept" * 100)
lamp.duty_u16(19661)
print("dimmed")
while True:
    relay.value(0)
"""


def test_killed_program_leaves_a_burning_lamp_and_its_rtc_memory(bench: Bench) -> None:
    """kill -9 in the middle of a flood of exchanges, again and again: pins released, memory kept, the next start clean."""
    for start in range(5):
        program = bench.run("lamp", DIM_AND_HANG)
        assert program.line() == (f"2 {b'kept' * 100!r}" if start else "1 b''")
        assert program.line() == "dimmed"
        assert bench.node("lamp")["lamp"]["level_permille"] == 300
        program.kill()
        state = bench.wait_for("lamp", running=False)
        assert state["lamp"]["level_permille"] == 1000
        assert state["lamp"]["lit"]
    log = bench.order(op="lamp_log", node="lamp")["log"]
    assert [(level, cause) for _, level, cause in log[:3]] == [(1000, "start"), (300, "pwm"), (1000, "released")]
    assert bench.order(op="power_cut", node="lamp")["ok"]
    assert bench.run("lamp", DIM_AND_HANG).line() == "1 b''"


def test_half_a_request_of_a_killed_program_is_void(bench: Bench) -> None:
    """A writer cut anywhere in a line: `pwm 25 1000 6` of `65535` must not dim the lamp, and the next program is understood."""
    request = b"\x18\nhello 00 0\npwm 25 1000 65535\n"
    for cut in range(len(request)):
        with open(bench.folder / "lamp" / "request", "wb", buffering=0) as fifo:
            fifo.write(request[:cut])
    program = bench.run("lamp", "import machine\nprint(machine.Pin(4).value())")
    assert program.line() == "0"
    assert program.wait() == 0
    assert bench.wait_for("lamp", running=False)["lamp"]["min_level_permille"] == 1000


def test_a_void_half_line_is_not_answered(bench: Bench) -> None:
    """The first thing a successor reads is the answer to its own hello."""
    with (
        open(bench.folder / "lamp" / "request", "wb", buffering=0) as request,
        open(bench.folder / "lamp" / "answer", "rb", buffering=0) as answer,
    ):
        request.write(b"pin 26 out 1\x18\nhello 77 0\n")
        assert receive(answer.fileno(), b"\n").startswith(b"hello 77 1 02")


def test_hang_up_overtaken_by_a_successor(tmp_path: Path) -> None:
    """Woken by a death, the server may find the FIFO open again and empty: neither end of file nor data."""
    cabinet = Cabinet("n", "lamp", Street(1, 0))
    door = Door(cabinet, tmp_path, selectors.DefaultSelector())
    with contextlib.closing(door), open(tmp_path / "request", "wb", buffering=0) as successor:
        door.on_request(1.0)
        successor.write(b"\x18\nhello 00 0\n")
        door.on_request(2.0)
        assert cabinet.is_running


def test_successor_starting_before_the_death_is_noticed(bench: Bench) -> None:
    """Half a line and an unread answer of the predecessor are skipped even when its hang-up was never seen."""
    with open(bench.folder / "lamp" / "request", "wb", buffering=0) as fifo:
        fifo.write(b"\x18\nhello 11 0\npin 4 get\npwm 25 1000 6")
        program = bench.run("lamp", "import machine\nprint(machine.Pin(5).value(), machine.reset_cause())")
        assert program.line() == "0 2"
        assert program.wait() == 0
    assert bench.node("lamp")["lamp"]["min_level_permille"] == 1000


def test_unfed_watchdog_kills_and_the_next_start_knows(bench: Bench) -> None:
    """Fed it lives past its time; then SIGKILL, counted, lamp bright, WDT_RESET."""
    program = bench.run(
        "lamp",
        "import machine, time\n"
        "lamp = machine.PWM(25, duty_u16=0)\n"
        "dog = machine.WDT(timeout=300)\n"
        "for _ in range(10):\n"
        "    time.sleep_ms(60)\n"
        "    dog.feed()\n"
        "print('fed')\n"
        "time.sleep(60)\n",
    )
    assert program.line() == "fed"
    assert program.wait() == -signal.SIGKILL
    state = bench.wait_for("lamp", running=False)
    assert state["watchdog_kills"] == 1
    assert state["lamp"]["level_permille"] == 1000
    assert bench.run("lamp", "import machine\nprint(machine.reset_cause())").line() == "3"


def test_reset_ends_with_99_and_frees_the_pins(bench: Bench) -> None:
    """Who starts the program knows by 99 that it shall start it again."""
    program = bench.run("lamp", "import machine\nlamp = machine.PWM(25, duty_u16=0)\nmachine.reset()\n")
    assert program.wait() == 99
    state = bench.wait_for("lamp", running=False)
    assert (state["resets"], state["lamp"]["level_permille"]) == (1, 1000)


EVERYTHING = """
import machine, time
i2c = machine.I2C(0, scl=machine.Pin(22), sda=machine.Pin(21), freq=100000)
print(i2c.scan())
print(i2c.readfrom_mem(0x18, 0x0F, 1), i2c.writevto(0x18, [b"\\x20", b"\\x57"]))
buffer = bytearray(1)
i2c.readfrom_mem_into(0x18, 0x20, buffer)
print(buffer)
i2c.writeto(0x44, b"\\xfd")
try:
    i2c.readfrom(0x44, 6)
except OSError as error:
    print(error.errno)
time.sleep_ms(10)
answer = bytearray(6)
i2c.readfrom_into(0x44, answer)
print(len(answer))
try:
    i2c.readfrom(0x55, 1)
except OSError as error:
    print(error.errno)
uart = machine.UART(2, 9600, tx=33, rx=32)
while uart.any() < 4:
    time.sleep_ms(5)
frame = uart.read(4)
print(frame[0], (0xFF + frame[1] + frame[2]) & 0xFF == frame[3], uart.read(300) is None)
uart.write("ignored by this sensor")
spi = machine.SPI(1, 1000000)
read = bytearray(2)
spi.write_readinto(b"ab", read)
print(read, spi.read(1))
adc = machine.ADC(machine.Pin(34), atten=machine.ADC.ATTN_11DB)
print(adc.read_uv() > 1000000, 0 < adc.read_u16() <= 65535)
pin = machine.Pin(4, machine.Pin.OUT, value=1)
pin.toggle()
print(pin(), len(machine.unique_id()))
rtc = machine.RTC()
print(rtc.datetime()[:3])
rtc.datetime((2026, 2, 28, 0, 23, 59, 59, 0))
print(rtc.datetime()[:4])
pwm = machine.PWM(machine.Pin(25))
print(pwm.freq(), pwm.duty_u16())
pwm.init(duty_ns=50000)
print(pwm.duty_u16(), machine.freq())
"""


def test_every_bus_from_a_real_program(bench: Bench) -> None:
    """Each class of the module against its model, errors as the ESP32 gives them."""
    program = bench.run("bin", EVERYTHING)
    lines = [program.line() for _ in range(14)]
    assert lines == [
        "[24, 68]",
        "b'3' 2",
        "bytearray(b'W')",
        "19",
        "6",
        "19",
        "255 True True",
        "bytearray(b'\\xff\\xff') b'\\xff'",
        "True True",
        "0 6",
        "(2000, 1, 1)",
        "(2026, 2, 28, 5)",
        "5000 32768",
        "16383 160000000",
    ]
    assert program.wait() == 0


def test_a_cable_that_is_listened_to_lied_into_and_pulled(tmp_path: Path) -> None:
    """By orders: what the device said, a message in its name, and the host's port gone and there again."""
    with contextlib.closing(Bench(tmp_path, cables=["lamp"])) as bench:
        device, path = os.open(tmp_path / "lamp.device", os.O_RDWR | os.O_NOCTTY), tmp_path / "lamp.host"
        host = os.open(path, os.O_RDWR | os.O_NOCTTY)
        os.write(device, b"\xc0true\xc0")
        receive(host, b"\xc0true\xc0")
        assert bench.order(op="said", cable="lamp")["said"] == [b"true\xc0".hex()]
        assert bench.order(op="say", cable="lamp", hex=b"\xc0lie\xc0".hex())["ok"]
        receive(host, b"\xc0lie\xc0")
        assert bench.order(op="said", cable="lamp")["said"] == [b"true\xc0".hex()], "it was not the device's"
        os.close(host)
        assert bench.order(op="pull", cable="lamp")["ok"]
        assert not path.exists()
        assert bench.order(op="plug", cable="lamp")["ok"]
        assert path.exists()
        assert not bench.order(op="pull", cable="bin")["ok"]
        os.close(device)


def test_control_says_what_is_wrong(bench: Bench) -> None:
    """Orders that cannot be done are answered with a reason; the server goes on."""
    for order in ({"op": "no"}, {"op": "fault", "node": "lamp", "fault": "no_echo"}, {"op": "state", "node": "x"}, {}):
        answer = bench.order(**order)
        assert not answer["ok"]
        assert answer["error"]
    assert not bench.order(op="lamp_log", node="bin")["ok"]
    assert not bench.order(op="set", what="moon", value=1)["ok"]
    assert bench.order(op="set", what="temperature_c", value=-5)["ok"]
    assert bench.order(op="set", node="bin", what="waste_mm", value=850)["ok"]
    assert bench.order(op="fault", node="bin", fault="fire", value=60)["ok"]
    assert bench.order(op="time_factor", value=3600)["ok"]
    state = bench.node("bin")
    assert state["bin"]["fill_permille"] == 1000
    assert state["temperature_c"] == -5 + 2 + 60
    assert bench.order(op="clear", node="bin")["ok"]
    assert bench.node("bin")["faults"] == {}
    assert bench.order(op="kill", node="bin") | {"now_s": 0} == {"ok": True, "now_s": 0, "killed": False}


def test_program_without_a_bench_gets_an_error_not_a_hang() -> None:
    """No BENCH_EXCHANGE: OSError from the first use of hardware."""
    environment = {"BENCH_EXCHANGE": ""}
    program = Program("import machine\ntry:\n machine.Pin(1, machine.Pin.OUT)\nexcept OSError as e:\n print(e.errno)", **environment)
    with contextlib.closing(program):
        assert program.line() == "19"


def test_bench_gone_is_an_error_not_a_hang(bench: Bench) -> None:
    """The server dies under a running program: OSError(EIO)."""
    program = bench.run(
        "lamp",
        "import machine, sys\np = machine.Pin(4, machine.Pin.OUT)\nprint('up')\n"
        "try:\n while True:\n  p.value()\nexcept OSError as e:\n print('gone', e.errno)\n",
    )
    assert program.line() == "up"
    assert bench.order(op="stop")["ok"]
    assert program.line() in ("gone 5", "gone 32")
    assert bench.process.wait(DEADLINE_S) == 0
