"""The bin and the air station against the byte-speaking models of the bench, faults included, over virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bench.peripherals.cabinet import BIN_DEPTH_MM, BIN_FULL_MM, Cabinet
from bench.peripherals.street import Street
from fake_buses import FakeNode, run_virtual
from lamppost_node.config import declared_keys
from lamppost_node.fixtures import air as air_fixture
from lamppost_node.fixtures import bin as bin_fixture
from lamppost_node.fixtures.bin import FLAG_COVER_OPEN, FLAG_FIRE, FLAG_TILT
from lamppost_protocol import kinds

NOON_UNIX_S = 1_781_265_600  # 2026-06-12 12:00 UTC


class BenchBus:
    """The node's side of the exchange without the FIFOs: request lines straight into the cabinet, at the loop's time."""

    def __init__(self, cabinet: Cabinet):
        self.cabinet = cabinet

    def ask(self, line: str) -> str:
        answer = self.cabinet.handle(line.encode(), asyncio.get_running_loop().time()).decode()
        if answer.startswith("err "):
            raise OSError(int(answer[4:]))
        return answer[3:]


class BenchUart(BenchBus):
    def __init__(self, cabinet: Cabinet):
        super().__init__(cabinet)
        self.ask("uart 2 init 9600 256")

    def any(self) -> int:
        return int(self.ask("uart 2 any"))

    def readinto(self, buffer: bytearray) -> "int | None":
        data = bytes.fromhex(self.ask(f"uart 2 read {len(buffer)}"))
        buffer[: len(data)] = data
        return len(data) or None

    def write(self, data: bytes) -> int:
        self.ask("uart 2 write " + bytes(data).hex())
        return len(data)


class BenchI2c(BenchBus):
    def writeto(self, address: int, data: bytes) -> int:
        self.ask(f"i2c 0 {address:x} w{bytes(data).hex()}")
        return len(data)

    def readfrom_into(self, address: int, buffer: bytearray) -> None:
        buffer[:] = bytes.fromhex(self.ask(f"i2c 0 {address:x} r{len(buffer)}"))

    def readfrom_mem_into(self, address: int, register: int, buffer: bytearray) -> None:
        buffer[:] = bytes.fromhex(self.ask(f"i2c 0 {address:x} w{register:02x} r{len(buffer)}"))

    def writeto_mem(self, address: int, register: int, data: bytes) -> None:
        self.ask(f"i2c 0 {address:x} w{register:02x}{bytes(data).hex()}")


class BenchBoard:
    def __init__(self, cabinet: Cabinet):
        self.cabinet = cabinet

    def sensor_uart(self, instance: int = 0) -> BenchUart:
        return BenchUart(self.cabinet)

    def i2c(self, instance: int = 0) -> BenchI2c:
        return BenchI2c(self.cabinet)


class Stand:
    """One node's hardware, one fixture on it, and what it emitted."""

    def __init__(self, wiring: str, module: Any, **config: int):
        self.module = module
        self.config = {**{key: default for key, default, _, _ in declared_keys(module.__name__.rpartition(".")[2])}, **config}
        self.street = Street(7, NOON_UNIX_S)
        self.cabinet = Cabinet("n1", wiring, self.street)
        self.node = FakeNode()

    def run(self, story: "Callable[[Stand], Awaitable[None]]") -> None:
        """Run the fixture while `story` sets and clears faults; the fixture must outlive it."""

        async def work() -> None:
            self.cabinet.start(0.0)
            fixture = self.module.build(BenchBoard(self.cabinet), self.config, self.node, 0)
            task = asyncio.get_running_loop().create_task(fixture.run())
            await story(self)
            assert not task.done(), task
            task.cancel()

        run_virtual(work())

    def fault(self, name: str) -> None:
        self.cabinet.set_fault(name, None, self.now_s())

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def next_report(self) -> tuple[int, tuple[Any, ...]]:
        """The second report from now on: the first may have begun before."""
        seen = len(self.reports())
        for _ in range(600):
            await asyncio.sleep(1)
            if len(self.reports()) >= seen + 2:
                return self.reports()[-1]
        raise AssertionError("no report")

    def reports(self) -> list[tuple[int, tuple[Any, ...]]]:
        return [(q, values) for _, _, q, values, alarm in self.node.records if not alarm]

    def alarms(self) -> list[tuple[Any, ...]]:
        return [values for *_, values, alarm in self.node.records if alarm]


def test_the_bin_measures_the_truth_behind_its_sensors() -> None:
    """The model's reading is uncompensated, so only a compensated distance is within a centimetre at 30 C and at -10 C."""
    for celsius in (-10.0, 30.0):

        async def story(stand: Stand, celsius: float = celsius) -> None:
            stand.street.overrides["temperature_c"] = celsius
            stand.cabinet.set("waste_mm", 300)
            q, (distance_mm, fill, temperature_dc, flags) = await stand.next_report()
            assert q == kinds.GOOD
            assert abs(distance_mm - (BIN_DEPTH_MM - 300)) <= 4
            assert abs(fill - 100 * 300 / (BIN_DEPTH_MM - BIN_FULL_MM)) <= 1
            assert abs(temperature_dc - 10 * stand.cabinet.temperature_c(stand.now_s())) <= 2
            assert flags == 0

        Stand("bin", bin_fixture, report_s=20).run(story)


@pytest.mark.parametrize(
    ("fault", "quality"),
    [
        ("no_echo", kinds.NO_ECHO),
        ("bad_checksum", kinds.SENSOR_FAULT),
        ("unplugged", kinds.SENSOR_FAULT),
        ("noisy", kinds.SPREAD),
        ("temperature_unplugged", kinds.UNCOMPENSATED),
        ("temperature_bad_crc", kinds.UNCOMPENSATED),
        ("accelerometer_unplugged", kinds.GOOD),
        ("bus_stuck", kinds.UNCOMPENSATED),
    ],
)
def test_every_fault_of_the_bin_is_a_record_and_ends(fault: str, quality: int) -> None:
    """Each fault gives its own code, keeps the columns of the other sensors, raises no alarm, and clears by itself."""

    async def story(stand: Stand) -> None:
        stand.cabinet.set("waste_mm", 300)
        assert (await stand.next_report())[0] == kinds.GOOD
        stand.fault(fault)
        q, values = await stand.next_report()
        assert q == quality
        has_level = quality not in (kinds.NO_ECHO, kinds.SENSOR_FAULT)
        assert (values[0] is not None) == has_level
        assert (values[2] is None) == (quality == kinds.UNCOMPENSATED)
        stand.cabinet.clear_fault(fault, stand.now_s())
        assert (await stand.next_report())[0] == kinds.GOOD
        assert stand.alarms() == []

    Stand("bin", bin_fixture, report_s=20).run(story)


@pytest.mark.parametrize(("fault", "flag", "limit_s"), [("fire", FLAG_FIRE, 15), ("tilt", FLAG_TILT, 25)])
def test_fire_and_tilt_are_sent_at_once_and_cleared(fault: str, flag: int, limit_s: int) -> None:
    """One alarm within seconds, hours before the next report; a record without the flag when it is over."""

    async def story(stand: Stand) -> None:
        await asyncio.sleep(120)
        assert stand.alarms() == []
        stand.fault(fault)
        await asyncio.sleep(limit_s)
        assert [values[3] for values in stand.alarms()] == [flag]
        await asyncio.sleep(60)
        stand.cabinet.clear_fault(fault, stand.now_s())
        await asyncio.sleep(120)
        assert len(stand.alarms()) == 1
        assert stand.reports()[-1][1][3] == 0

    Stand("bin", bin_fixture, report_s=3600).run(story)


def test_stuck_sensors_are_found_out() -> None:
    """A thermometer that repeats its bits and a ranger that ignores the weather, though every byte of theirs is well formed."""

    async def story(stand: Stand) -> None:
        stand.cabinet.set("waste_mm", 300)
        stand.fault("temperature_stuck")
        await asyncio.sleep(120)
        assert (await stand.next_report())[0] == kinds.UNCOMPENSATED
        assert "bin: thermometer stuck" in stand.node.lines
        stand.cabinet.clear_fault("temperature_stuck", stand.now_s())
        stand.fault("stuck")
        stand.street.overrides["temperature_c"] = 10.0
        assert (await stand.next_report())[0] == kinds.GOOD
        for tenth in range(100, 175):
            stand.street.overrides["temperature_c"] = tenth / 10
            await asyncio.sleep(5)
        assert (await stand.next_report())[0] == kinds.STALE
        assert stand.alarms() == []

    Stand("bin", bin_fixture, report_s=20).run(story)


def test_an_open_lid_is_told() -> None:
    """The ranger then sees the sky or the street: out of range, flagged, no fill."""

    async def story(stand: Stand) -> None:
        stand.cabinet.set("lid", 1)
        q, values = await stand.next_report()
        assert (q, values[1], values[3]) == (kinds.OUT_OF_RANGE, None, FLAG_COVER_OPEN)

    Stand("bin", bin_fixture, report_s=20).run(story)


def test_the_air_station_finds_the_true_dry_mass() -> None:
    """The model applies the correction backwards: the corrected value is the street's, the raw one is not."""

    async def story(stand: Stand) -> None:
        stand.street.overrides["pm25_ug_m3"] = 60.0
        stand.street.overrides["humidity_percent"] = 80.0
        await asyncio.sleep(25)
        assert [q for q, _ in stand.reports()] == [kinds.WARMING_UP]
        await asyncio.sleep(15)
        q, (pm1, pm25, pm10, corrected, _, humidity, method, _) = stand.reports()[-1]
        assert q == kinds.GOOD
        assert abs(corrected - 600) <= 25
        assert pm25 > 100
        assert pm1 < pm25 < pm10
        assert abs(humidity - 800) <= 2
        assert method == air_fixture.METHOD_EPA_BARKJOHN_2021

    Stand("air_lamp", air_fixture).run(story)


@pytest.mark.parametrize(
    ("fault", "quality"),
    [
        ("bad_checksum", kinds.SENSOR_FAULT),
        ("unplugged", kinds.SENSOR_FAULT),
        ("fan", kinds.SENSOR_FAULT),
        ("stuck", kinds.SENSOR_FAULT),
        ("temperature_unplugged", kinds.UNCOMPENSATED),
        ("temperature_bad_crc", kinds.UNCOMPENSATED),
    ],
)
def test_every_fault_of_the_air_station_is_a_record_and_ends(fault: str, quality: int) -> None:
    """Each fault gives its own code and keeps the columns of the other sensor; good again after at most one warm-up."""

    async def story(stand: Stand) -> None:
        await asyncio.sleep(45)
        assert stand.reports()[-1][0] == kinds.GOOD
        stand.fault(fault)
        if fault == "stuck":
            await asyncio.sleep(120)  # three equal readings a report
        q, values = await stand.next_report()
        assert q == quality
        assert (values[1] is None) == (quality == kinds.SENSOR_FAULT)
        assert (values[4] is None) == (quality == kinds.UNCOMPENSATED)
        assert values[3] is None
        assert values[6] == air_fixture.METHOD_NONE
        stand.cabinet.clear_fault(fault, stand.now_s())
        await asyncio.sleep(75)
        assert stand.reports()[-1][0] == kinds.GOOD

    Stand("air_lamp", air_fixture, report_s=20).run(story)


def test_the_duty_cycle_on_the_model_sends_settled_masses_only() -> None:
    """Over an hour every good record carries the street's mass within a tenth: no record is from a cold fan."""

    async def story(stand: Stand) -> None:
        stand.street.overrides["pm25_ug_m3"] = 40.0
        await asyncio.sleep(3700)
        codes = [q for q, _ in stand.reports()]
        assert codes == [kinds.WARMING_UP] + [kinds.GOOD] * 5
        for _, values in stand.reports()[1:]:
            assert abs(values[3] - 400) <= 40

    Stand("air_lamp", air_fixture, report_s=900).run(story)
