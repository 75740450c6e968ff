"""The lowest boundary of the lamp's tests: pins, an I2C meter with a lamp behind it, flash in memory, and a clock that is passed in."""

import random
from collections.abc import Callable
from typing import Any

from lamppost_node.drivers.ade7953 import ADE7953
from lamppost_node.drivers.dimmer import Dimmer
from lamppost_node.fixtures.lamp import Lamp
from lamppost_node.fixtures.lamp_keys import KEYS
from lamppost_node.lighting.lamp_curves import control_points
from lamppost_node.local_time import utc_offset_s
from lamppost_node.settings import Settings
from lamppost_protocol import orders
from lamppost_protocol.orders import Order

LAMP_KIND = 1
START_UNIX = 1_798_819_200  # 2027-01-01T16:00Z, dark in Ulm
NIGHT = [1, 100, [[127, [1, 0, 100], [2, 0, 0]]], []]


class Flash:
    """Files in memory; `refuses` makes every operation fail like a full or worn chip."""

    def __init__(self, files: dict[str, bytes] | None = None):
        self.files = {} if files is None else files
        self.refuses = False
        self.writes = 0

    def read(self, name: str) -> bytes | None:
        if self.refuses:
            raise OSError(5)
        return self.files.get(name)

    def replace(self, name: str, data: bytes) -> None:
        if self.refuses:
            raise OSError(28)
        self.writes += 1
        self.files[name] = data


class Clock:
    """Time as the test says; `breaks` is raised by every question about unix time."""

    def __init__(self, unix: int | None = START_UNIX, dst: str = "eu"):
        self.ms = 0
        self._base = unix
        self._base_ms = 0
        self.uncertainty: int | None = 1
        self.breaks: Exception | None = None
        self.dst = dst

    def set(self, unix: int | None) -> None:
        self._base = unix
        self._base_ms = self.ms

    def monotonic_ms(self) -> int:
        return self.ms

    def now(self) -> int | None:
        if self.breaks is not None:
            raise self.breaks
        return None if self._base is None else self._base + (self.ms - self._base_ms) // 1000

    def uncertainty_s(self) -> int | None:
        return None if self._base is None else self.uncertainty

    def utc_offset_s(self, unix: int) -> int:
        return utc_offset_s(unix, 3600, self.dst)


class Pwm:
    """A PWM pin; `breaks` is raised by every write."""

    def __init__(self) -> None:
        self.duty = 0
        self.is_floating = False
        self.breaks: Exception | None = None

    def duty_u16(self, value: int | None = None) -> int | None:
        if value is None:
            return self.duty
        if self.breaks is not None:
            raise self.breaks
        assert 0 <= value <= 65535
        self.duty = value
        return None

    def deinit(self) -> None:
        self.is_floating = True


class Relay:
    """The relay's pin: 1 opens the contact."""

    def __init__(self) -> None:
        self.level = 0
        self.switched = 0

    def value(self, value: int | None = None) -> int | None:
        if value is None:
            return self.level
        self.switched += value != self.level
        self.level = value
        return None


class Meter:
    """The I2C bus with an ADE7953 at 0x38 that sees `power_w()` at 230 V; registers and sizes as in its datasheet."""

    def __init__(self, power_w: Callable[[], float]):
        self.power_w = power_w
        self.is_plugged = True
        self.voltage_v = 230.0
        self.power_factor = 0.95
        self.energy_lsb = 0
        self.required = 0
        self._register = 0
        self._before = b""
        self.garble: Callable[[bytes], bytes] | None = None
        self.breaks: Exception | None = None

    def writeto(self, address: int, data: bytes, stop: bool = True) -> int:
        self._answers(address)
        self._register = int.from_bytes(data[:2], "big")
        if data[:2] == b"\x01\x20" and len(data) == 4 and self._before == b"\x00\xfe\xad":
            self.required = int.from_bytes(data[2:], "big")
        self._before = bytes(data)
        return len(data)

    def readfrom_into(self, address: int, buffer: bytearray) -> None:
        self._answers(address)
        power_w = self.power_w()
        value, size = {
            0x120: (self.required, 2),
            0x10A: (round(self.power_factor * 0x7FFF), 2),
            0x10E: (4474, 2),
            0x31C: (round(self.voltage_v * 26000), 4),
            0x31A: (round(abs(power_w) / self.voltage_v / self.power_factor * 100000), 4),
            0x312: (round(power_w * 154), 4),
            0x31E: (self.energy_lsb, 4),
        }[self._register]
        if self._register == 0x31E:
            self.energy_lsb = 0
        assert len(buffer) == size
        data = (value & ((1 << 8 * size) - 1)).to_bytes(size, "big")
        buffer[:] = data if self.garble is None else self.garble(data)

    def _answers(self, address: int) -> None:
        if self.breaks is not None:
            raise self.breaks
        if not self.is_plugged or address != 0x38:
            raise OSError(19)


class Node:
    """The services a lamp sees, and all it said."""

    def __init__(self, clock: Clock, flash: Flash, node_id: int = 0xA001):
        self.clock = clock
        self.settings = Settings(flash)  # type: ignore[arg-type]
        self.config = {"latitude_udeg": 48_400_000, "longitude_udeg": 9_990_000, "report_s": 900}
        self.node_id = node_id
        self.is_safe_mode = False
        self.records: list[tuple[int, tuple[Any, ...], bool]] = []
        self.states: list[tuple[Any, ...]] = []
        self.lines: list[str] = []
        self.lives = 0
        self.breaks: Exception | None = None

    def emit(self, kind: int, q: int, values: tuple[Any, ...], alarm: bool = False) -> int:
        if self.breaks is not None:
            raise self.breaks
        assert kind == LAMP_KIND
        self.records.append((q, tuple(values), alarm))
        return len(self.records)

    def order_state(self, order_id: int, state: int, reason: int = 0, *evidence: int | None) -> int:
        self.states.append((order_id, state, reason, *evidence))
        return 1

    def log(self, text: str) -> None:
        self.lines.append(text)

    def alive(self, name: str) -> None:
        self.lives += 1


class Street:
    """One lamp with real driver and meter code, its power following the light, and time that moves when told to."""

    def __init__(self, unix: int | None = START_UNIX, files: dict[str, bytes] | None = None, **config: int):
        self.flash = Flash(files)
        self.clock = Clock(unix)
        self.node = Node(self.clock, self.flash)
        self.pwm = Pwm()
        self.relay = Relay()
        self.fault_w: Callable[[float], float] = lambda power_w: power_w
        self.meter = Meter(self.power_w)
        self.config = {key: default for key, default, _, _ in KEYS}
        self.config.update({"stagger_s": 0, "warm_up_s": 60})
        self.config.update(config)
        self.lamp = self._make()
        self.lowest_permille = 1000

    def _make(self) -> Lamp:
        relay: Any = self.relay if self.config["relay"] else None
        dimmer = Dimmer(self.pwm, relay, control_points(self.config))  # type: ignore[arg-type]
        meter: Any = ADE7953(self.meter) if self.config["meter"] else None  # type: ignore[arg-type]
        return Lamp(dimmer, meter, self.config, self.node, 0)  # type: ignore[arg-type]

    def reboot(self, unix: int | None) -> None:
        """Power lost and back: what is in RAM is gone, flash stays, time is as given."""
        self.clock.set(unix)
        self.lamp = self._make()

    def with_schedule(self, schedule: list[Any]) -> "Street":
        self.lamp._decision.adopt(schedule)
        return self

    @property
    def light_permille(self) -> int:
        """What shines: 0 with the relay open, full when the control input floats."""
        if self.relay.level:
            return 0
        return 1000 if self.pwm.is_floating else round(self.pwm.duty / 65.535)

    def power_w(self) -> float:
        light = self.light_permille
        return self.fault_w(0.0 if light == 0 else 8.0 + 0.052 * light)

    def tick(self) -> None:
        """One turn of `Lamp.run` without its waiting."""
        try:
            self.lamp.control()
        except Exception:
            self.lamp.safe()
        try:
            self.lamp.attend()
        except Exception:
            pass
        self.lowest_permille = min(self.lowest_permille, self.light_permille)

    def run(self, seconds: float, step_ms: int = 200) -> None:
        end_ms = self.clock.ms + round(seconds * 1000)
        while self.clock.ms < end_ms:
            self.tick()
            self.meter.energy_lsb += round(self.power_w() * 23716 * step_ms / 3_600_000)
            self.clock.ms += step_ms
        self.tick()

    def level_order(self, order_id: int, percent: int, from_s: int, to_s: int, ramp_s: int = 0) -> Order:
        """From and to are seconds after now."""
        now = self.clock.now() or START_UNIX
        return Order(order_id, now + from_s, now + to_s, orders.LEVEL, LAMP_KIND, [percent, ramp_s])

    def order(self, order: Order) -> None:
        self.lamp.order(order)

    def cancel(self, order_id: int, cancelled_id: int) -> None:
        now = self.clock.now() or START_UNIX
        self.lamp.order(Order(order_id, now, now + 60, orders.CANCEL, LAMP_KIND, [cancelled_id]))

    def states(self, order_id: int) -> list[tuple[int, int]]:
        return [(state[1], state[2]) for state in self.node.states if state[0] == order_id]

    def values(self) -> dict[str, Any]:
        """The last record."""
        names = ("command", "applied", "power", "voltage", "current", "power_factor", "energy", "cause", "faults")
        return dict(zip(names, self.node.records[-1][1], strict=True))


def seeded(seed: int) -> random.Random:
    return random.Random(seed)
