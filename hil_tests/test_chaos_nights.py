"""No lamp dark without cause: nights in which everything fails at random, the firmware's bytecode in lock-step with its street.

The interpreter is this machine's, in virtual time (bench/peripherals/lock_step/vm_boot.py); a few seeds run on RV32 too
(test_rv32_lock_step.py), where code takes time. What the
light may be is told by an account of the test's own: the sun by astral, and each order the node was given, whether or not it took it.
LAMPPOST_CHAOS_SEED=N runs one seed, which gives the same exchanges to the octet.
"""

import datetime
import os
import random
from pathlib import Path
from typing import Any

import pytest
from lamppost_protocol import orders
from lamppost_protocol.kinds import LAMP
from littlefs import LittleFS
from street.lamp_oracle import NIGHT, NightOracle
from street.lone_node import NETWORK, LoneNode

PARIS = NightOracle(48.8566, 2.3522, "Europe/Paris")
CONFIG = {
    "network": NETWORK, "latitude_udeg": 48_856_600, "longitude_udeg": 2_352_200, "utc_offset_s": 3600, "dst": "eu",
    "report_s": 60, "health_s": 300, "hello_s": 5, "beacon_s": 60,
    "fixtures": [{"kind": "lamp", "instance": 0, "sample_s": 5, "ramp_up_percent_per_s": 100, "ramp_down_percent_per_s": 100}],
}  # fmt: skip
LATE_S, EARLY_S = 12, 3
"""Ramps, a decision a second, and a city clock that is a second off either way."""
WATCHDOG_S = 62
"""A program that hangs does nothing, not even light, until its watchdog bites and it has booted."""
STEP_S = 2
ROUNDING_PERMILLE = 5
TWILIGHT_S = 120
"""Two almanacs and half a minute of stagger, around the schedule's steps."""
FAULTS = ("meter_unplugged", "meter_stuck", "meter_offset", "bus_stuck", "lamp_failed", "relay_welded")
FORGETTABLE = (
    "settings/lamp.schedule",
    "settings/lamp.leases",
    "settings/floor",
    "settings/boot",
    "config.cbor",
    "config.good",
    "counters/tx.0",
)
_SEEDS = 10
_SOAK_SEEDS = 200


class Account:
    """Why the lamp may be lower than full: the schedule from when it was first said, and every genuine order's life."""

    def __init__(self, start_unix: int) -> None:
        self.night = PARIS.segments(start_unix, start_unix + 86400)
        self.scheduled_from: float | None = None
        self.lives: list[tuple[float, float, int]] = []

    def lowest_permille(self, from_s: float, to_s: float) -> int:
        """The lowest level that anything allows between two moments of city time."""
        allowed = [1000]
        if self.scheduled_from is not None and to_s >= self.scheduled_from:
            allowed += [level for first, last, level in self.night if first - TWILIGHT_S <= to_s and last + TWILIGHT_S >= from_s]
        allowed += [level for first, last, level in self.lives if first <= to_s and last >= from_s]
        return min(allowed)


class Chaos:
    """One seed's evening."""

    def __init__(self, node: LoneNode, start_unix: int, seed: int) -> None:
        self.node, self.start_unix = node, start_unix
        self.random = random.Random(seed)
        self.account = Account(start_unix)
        self.happened: list[str] = []
        self.cuts = 0
        self.hangs: list[float] = []

    def note(self, what: str) -> None:
        """For the story of a failure."""
        self.happened.append(f"{self.node.board.now_s:.1f} {what}")

    def schedule(self) -> None:
        """Say the schedule, which may or may not arrive."""
        board = self.node.board
        if self.account.scheduled_from is None:
            self.account.scheduled_from = self.start_unix + board.now_s
        self.node.city.order(board.now_s, orders.SCHEDULE, LAMP, [NIGHT])

    def order(self) -> None:
        """A level for a while, perhaps forged, expired or for later."""
        random, board = self.random, self.node.board
        level = random.choice((0, 10, 30, 60, 100))
        now = self.start_unix + int(board.now_s)
        first = now + random.choice((-120, -10, 60))
        life = (first, first + random.choice((30, 90, 240)))
        is_forged = random.random() < 0.3
        self.note(f"order {level} % from {life[0] - self.start_unix} to {life[1] - self.start_unix}{' forged' if is_forged else ''}")
        self.node.city.order(board.now_s, orders.LEVEL, LAMP, [level, random.choice((0, 0, 5))], life, is_forged)
        if not is_forged:
            self.account.lives.append((life[0], life[1], level * 10))

    def replay(self) -> None:
        """An old order once more."""
        city = self.node.city
        if city.said:
            self.note("replay")
            city.send_frame(self.node.board.now_s, self.random.choice(city.said))

    def forget(self) -> None:
        """Octets rot on a flash without power."""
        system = _open(self.node.board.flash)
        name = "/lamppost/" + self.random.choice(FORGETTABLE)
        try:
            with system.open(name, "rb") as file:
                data = bytearray(file.read())
        except FileNotFoundError:
            return
        if data:
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            with system.open(name, "wb") as file:
                file.write(bytes(data))
            content = bytes(system.context.buffer)
            with self.node.board.flash.open("r+b") as flash:
                flash.write(content)
            self.note(f"rot in {name}")

    def happen(self) -> None:
        """One thing."""
        random, board, city, cabinet = self.random, self.node.board, self.node.city, self.node.cabinet
        kind = random.randrange(14)
        if kind == 0:
            fault = random.choice(FAULTS)
            self.note(fault)
            cabinet.set_fault(fault, None, board.now_s)
        elif kind == 1:
            self.note("faults end")
            cabinet.clear_fault(None, board.now_s)
        elif kind == 2:
            city.is_silent = not city.is_silent
            self.note(f"silent {city.is_silent}")
        elif kind == 3:
            lost = random.choice((0.0, 0.2, 0.6))
            loses = type(random)(random.randrange(1 << 32)).random
            city.loses = lambda: loses() < lost
            self.note(f"loses {lost}")
        elif kind == 4:
            self.note("noise on the line")
            city.say(board.now_s, random.randbytes(random.randrange(1, 400)))
        elif kind == 5:
            fault = random.choice(("reset", "hang"))
            self.note(fault)
            board.suffer(fault)
            if fault == "hang":
                self.hangs.append(board.now_s)
        elif kind == 6:
            cut = f"cut {random.randrange(1, 40)} {random.randrange(2)}"
            self.note(cut)
            board.suffer(cut)
        elif kind == 7:
            self.note("power off")
            board.cut_power()
        elif kind == 8:
            self.schedule()
        elif kind == 9:
            self.replay()
        elif kind == 10:
            city.start_unix = self.start_unix + random.choice((0, 0, 1, -1))
            city.beacon(board.now_s, None)
        else:
            self.order()

    def live(self, seconds: int) -> None:
        """Power on, time, schedule, then one thing after another."""
        board = self.node.board
        board.power_on()
        board.run(6)
        self.schedule()
        while board.now_s < seconds:
            if not board.is_running:
                self.cuts += 1
                self.note("without power")
                if self.random.random() < 0.5:
                    self.forget()
                board.wait(self.random.randrange(1, 90))
                board.power_on()
            until_s = board.now_s + self.random.randrange(1, 60)
            if board.run(until_s) and board.is_running:
                self.happen()

    def check(self) -> int:
        """Each level the lamp had against what was allowed then; levels checked."""
        lamp = self.node.cabinet.lamp
        assert lamp is not None
        log = list(lamp.log)
        checked = 0
        assert len(log) < (lamp.log.maxlen or 0)
        for index, (at_s, permille, _) in enumerate(log):
            moment_s, until_s = at_s, log[index + 1][0] if index + 1 < len(log) else self.node.board.now_s
            while moment_s < until_s:
                # What was allowed just before may still be on its way out, and never for longer.
                now = self.start_unix + moment_s
                late_s = LATE_S + max([moment_s - at for at in self.hangs if 0 <= moment_s - at <= WATCHDOG_S], default=0)
                allowed = self.account.lowest_permille(now - late_s, now + EARLY_S)
                checked += 1
                assert permille >= allowed - ROUNDING_PERMILLE, f"{permille} permille at {moment_s:.1f} s, {allowed} allowed"
                moment_s += STEP_S
        return checked


def _open(flash: Path) -> LittleFS:
    system = LittleFS(block_size=4096, block_count=512, read_size=256, prog_size=256, mount=False)
    with flash.open("rb") as file:
        system.context.buffer = bytearray(file.read(4096 * 512))
    system.mount()
    return system


def run_seed(folder: Path, image: dict[str, bytes], seed: int, seconds: int, on_vm: bool = True) -> tuple[str, dict[str, Any]]:
    """(digest, what happened how often). Raises AssertionError with the story."""
    # Dusk, the evening and the dimming at eleven are each somebody's.
    sunset = PARIS.sunset_unix_s(datetime.date(2027, 3, 15))
    start = int(sunset) + (-300, 3600, 14_800)[seed % 3]
    with LoneNode(folder, image, CONFIG, "lamp", start, seed, on_vm=on_vm) as node:
        chaos = Chaos(node, start, seed)
        try:
            chaos.live(seconds)
            checked = chaos.check()
        except AssertionError as error:
            story = "\n".join(chaos.happened)
            raise AssertionError(
                f"seed {seed}: {error}\nreplay: LAMPPOST_CHAOS_SEED={seed} pytest {Path(__file__).name}, -m soak for an hour\n{story}"
            ) from None
        cabinet = node.cabinet
        return node.board.digest, {"checked": checked, "starts": cabinet.starts, "bites": cabinet.watchdog_kills, "cuts": chaos.cuts,
                                   "frames": len(node.city.heard)}  # fmt: skip


def seeds(count: int) -> list[int]:
    """So many, or the one asked for."""
    chosen = os.environ.get("LAMPPOST_CHAOS_SEED")
    return [int(chosen)] if chosen else list(range(count))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", seeds(_SEEDS))
def test_no_lamp_is_dark_without_cause(tmp_path: Path, lock_step_image: dict[str, bytes], seed: int) -> None:
    """Eight minutes of an evening."""
    _, counts = run_seed(tmp_path / "chaos", lock_step_image, seed, 480)
    print(counts)
    assert counts["checked"] > 200


@pytest.mark.timeout(300)
def test_a_seed_replays_to_the_octet(tmp_path: Path, lock_step_image: dict[str, bytes]) -> None:
    """The same exchanges, in the same order, at the same times."""
    assert run_seed(tmp_path / "first", lock_step_image, 4, 200) == run_seed(tmp_path / "second", lock_step_image, 4, 200)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", seeds(_SOAK_SEEDS))
def test_no_lamp_is_dark_in_an_hour_of_chaos(tmp_path: Path, lock_step_image: dict[str, bytes], seed: int) -> None:
    """An hour of an evening."""
    run_seed(tmp_path / "chaos", lock_step_image, 1000 + seed if seed < 1000 else seed, 3600)
