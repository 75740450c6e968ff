"""Runs on MicroPython: the sensor drivers and both sensor fixtures on buses made of bytes, one JSON line of results.

Started by test_sensors_on_the_vm.py with the source roots on the path; not a test by itself.
"""

import asyncio
import gc
import json
import sys
import time

import micropython
from lamppost_node.config import declared_keys
from lamppost_node.drivers.a02yyuw import A02YYUW
from lamppost_node.drivers.errors import BadChecksum, NoAnswer, NoEcho
from lamppost_node.drivers.lis3dh import LIS3DH
from lamppost_node.drivers.pms5003 import PMS5003
from lamppost_node.drivers.sht4x import SHT4x, humidity_centi_percent, temperature_centi_c
from lamppost_node.fixtures import air
from lamppost_node.fixtures import bin as bin_fixture

RANGER_FRAME = b"\xff\x02\xbc\xbd"  # 700 mm
MASSES = b"\x42\x4d\x00\x1c\x00\x04\x00\x05\x00\x05\x00\x04\x00\x05\x00\x05\x03\x7e\x00\xe2\x00\x17\x00\x02\x00\x00\x00\x00\x97\x00\x02\xda"
CLIMATE = b"\x66\x66\x93\x72\xb0\xdc"  # 25.00 C, 50.00 %
GRAVITY = b"\x00\x00\x00\x00\x00\x3f"


class Uart:
    """Replays `data` for ever; copies byte by byte, so that it allocates nothing."""

    def __init__(self, data, repeats=1):
        self.data = data
        self.left = len(data) * repeats
        self.at = 0
        self.repeats = repeats

    def any(self):
        return self.left

    def readinto(self, buffer):
        count = min(self.left, len(buffer), 7)
        if not count:
            return None
        for i in range(count):
            buffer[i] = self.data[self.at]
            self.at = (self.at + 1) % len(self.data)
        self.left -= count
        return count

    def write(self, data):
        self.left = len(self.data) * self.repeats
        self.at = 0
        return len(data)


class Ranger(Uart):
    """A frame every 50 ms of real time."""

    def __init__(self):
        super().__init__(RANGER_FRAME, 0)
        self.since = time.ticks_ms()

    def any(self):
        while time.ticks_diff(time.ticks_ms(), self.since) >= 50:
            self.since = time.ticks_add(self.since, 50)
            self.left = min(256, self.left + 4)
        return self.left


class I2c:
    def writeto(self, address, data):
        if address != 0x44:
            raise OSError(19)

    def readfrom_into(self, address, buffer):
        for i in range(6):
            buffer[i] = CLIMATE[i]

    def readfrom_mem_into(self, address, register, buffer):
        if address != 0x18:
            raise OSError(19)
        for i in range(len(buffer)):
            buffer[i] = GRAVITY[i] if register == 0xA8 else 0x33 if register == 0x0F else 0x2F

    def writeto_mem(self, address, register, data):
        pass


class Board:
    def __init__(self, uart):
        self.uart = uart

    def sensor_uart(self, instance):
        return self.uart

    def i2c(self, instance):
        return I2c()


class Node:
    """Services enough for a fixture; the clock is the VM's."""

    def __init__(self):
        self.clock = self
        self.settings = self
        self.config = {"report_s": 1}
        self.records = []
        self.lines = []

    def monotonic_ms(self):
        return time.ticks_ms()

    def emit(self, kind, q, values, alarm=False):
        self.records.append([kind, q, list(values), alarm])
        return len(self.records)

    def load(self, name):
        return None

    def save(self, name, value):
        pass

    def log(self, text):
        self.lines.append(text)

    def alive(self, name):
        pass


async def fault_of(work):
    try:
        return await work
    except (NoEcho, BadChecksum, NoAnswer) as fault:
        return type(fault).__name__ + " " + fault.reason


async def run_for(module, uart, limit_ms):
    node = Node()
    config = {}
    for row in declared_keys(module.__name__.split(".")[-1]):
        config[row[0]] = row[1]
    task = asyncio.create_task(module.build(Board(uart), config, node, 0).run())
    await asyncio.sleep_ms(limit_ms)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    return {"records": node.records, "lines": node.lines}


def taken_under_heap_lock(driver, turns):
    """Feed `turns` chunks with the heap locked: MemoryError is the failure."""
    take = driver._take
    seen = 0
    micropython.heap_lock()
    try:
        for _ in range(turns):
            got = take()
            if got is True or (got is not False and got >= 0):
                seen += 1
    finally:
        micropython.heap_unlock()
    return seen


async def main():
    i2c = I2c()
    results = {}
    results["ranger"] = await A02YYUW(Uart(b"\x07\xa1" + RANGER_FRAME)).read_mm()
    results["ranger_no_echo"] = await fault_of(A02YYUW(Uart(b"\xff\x00\x00\xff")).read_mm())
    results["ranger_damaged"] = await fault_of(A02YYUW(Uart(b"\xff\x02\xbc\xbe")).read_mm())
    results["ranger_silent"] = await fault_of(A02YYUW(Uart(b"")).read_mm())
    masses = await PMS5003(Uart(b"\x42\x42\x4d\x00" + MASSES)).read()
    results["masses"] = [masses.pm1_ug_m3, masses.pm25_ug_m3, masses.pm10_ug_m3, list(masses.counts)]
    results["climate"] = list(await SHT4x(i2c).read())
    results["climate_absent"] = await fault_of(SHT4x(i2c, 0x45).read())
    results["gravity"] = list(await LIS3DH(i2c).read())
    results["words"] = [[temperature_centi_c(raw), humidity_centi_percent(raw)] for raw in (0, 1, 3145, 26214, 40000, 65535)]
    results["square_roots"] = [bin_fixture.square_root(value) for value in (0, 1, 2, 3, 490000, 10**12 + 1, 6 * 10**11)]
    results["corrections"] = [list(air.correct(*pair)) for pair in ((20, 500), (0, 1000), (569, 0), (570, 500), (20, None))]
    results["ranger_frames_locked"] = taken_under_heap_lock(A02YYUW(Uart(RANGER_FRAME, 20)), 12)
    results["mass_frames_locked"] = taken_under_heap_lock(PMS5003(Uart(MASSES, 8)), 36)
    results["bin"] = await run_for(bin_fixture, Ranger(), 1700)
    results["air"] = await run_for(air, Uart(MASSES), 200)
    gc.collect()
    results["heap_bytes"] = gc.mem_alloc()
    print(json.dumps(results))


if sys.implementation.name == "micropython":
    asyncio.run(main())
