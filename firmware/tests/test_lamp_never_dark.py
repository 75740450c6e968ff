"""Never dark by software: random days with faults thrown in, and the light checked against what alone may lower it."""

import datetime
from typing import Any

import pytest
from astral import Observer, sun
from hypothesis import given, settings
from hypothesis import strategies as st
from lamp_bench import NIGHT, START_UNIX, Clock, Flash, Street, seeded
from lamppost_node.lighting.decision import Decision
from lamppost_node.lighting.schedule import NightSun, evaluate
from lamppost_node.refusal import Refused
from lamppost_node.settings import Settings
from lamppost_protocol import orders
from test_schedule_form import schedules

ERRORS = (OSError(5), ValueError("x"), MemoryError(), RuntimeError("x"), OverflowError(), KeyError("x"), ZeroDivisionError())


def may_be_at(street: Street, leases: list[Any]) -> int:
    """The lowest level in permille that a known time, the schedule and the leases given to it allow now; safe where any is in doubt."""
    clock = street.clock
    if clock.breaks is not None or clock.now() is None or street.node.is_safe_mode:
        return 1000
    now = clock.now()
    assert now is not None
    wanted = [order.args[0] for order in leases if order.not_before <= now < order.not_after]
    verdict = evaluate(NIGHT, now, clock.utc_offset_s(now), NightSun(48_400_000, 9_990_000))
    return min([verdict.level_percent, *wanted]) * 10


@pytest.mark.parametrize("seed", range(12))
def test_random_nights_with_faults(seed: int) -> None:
    """Clock, meter, spool, flash and PWM fail at random, power is cut, orders come: never below what is allowed, and never a dead task.

    The light may lag what is allowed by the ramps: ten seconds for a decrease that was allowed until just now, and ten of holding.
    """
    random = seeded(seed)
    street = Street(START_UNIX + random.randrange(86400)).with_schedule(NIGHT)
    leases: list[Any] = []
    order_id = 0
    allowed_until_ms = 0
    for _ in range(400):
        happening = random.randrange(14)
        if happening == 0:
            street.clock.breaks = random.choice(ERRORS)
        elif happening == 1:
            street.meter.breaks = random.choice(ERRORS)
        elif happening == 2:
            street.node.breaks = random.choice(ERRORS)
        elif happening == 3:
            street.flash.refuses = True
        elif happening == 4:
            street.clock.breaks = street.meter.breaks = street.node.breaks = street.pwm.breaks = None
            street.flash.refuses = False
            street.pwm.is_floating = False
        elif happening == 5:
            street.reboot(None)
        elif happening == 6:
            street.clock.breaks = None
            street.reboot((street.clock.now() or START_UNIX) + random.randrange(3600))
        elif happening == 7:
            street.clock.breaks = None
            street.clock.set(START_UNIX + random.randrange(10 * 86400))
        elif happening == 8:
            street.node.is_safe_mode = not street.node.is_safe_mode
        elif happening == 9:
            street.pwm.breaks = random.choice(ERRORS)
        elif happening < 13:
            order_id += 1
            try:
                order = street.level_order(order_id, random.randrange(101), random.randrange(300), 400 + random.randrange(900))
                street.order(order)
                leases.append(order)
            except Refused:
                pass
            except Exception:
                assert street.clock.breaks is not None  # an order under a broken clock is refused by the node's core
        for _ in range(random.randrange(1, 60)):
            street.tick()
            street.clock.ms += 1000
            allowed = may_be_at(street, leases)
            if street.light_permille >= allowed - 5:
                allowed_until_ms = street.clock.ms
            late_ms = street.clock.ms - allowed_until_ms
            assert late_ms <= 12_000, (seed, street.light_permille, allowed, street.lamp.cause)
            if allowed == 1000 and (street.clock.breaks or street.clock.now() is None):
                street.tick()
                assert street.light_permille == 1000 or street.pwm.breaks, (seed, street.lamp.cause)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_broken_clock_is_full_light_at_once(error: Exception) -> None:
    """The next decision after the exception, whatever the lease says; and back when it heals."""
    street = Street().with_schedule([1, 20, [], []])
    street.run(60)
    assert street.light_permille == 200
    street.clock.breaks = error
    street.run(1.2)
    assert street.light_permille == 1000
    street.clock.breaks = None
    street.run(60)
    assert street.light_permille == 200


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_broken_meter_or_spool_changes_no_light(error: Exception) -> None:
    """Neither up nor down."""
    street = Street().with_schedule([1, 40, [], []])
    street.run(60)
    street.lowest_permille = 1000
    for part in (street.meter, street.node):
        part.breaks = error  # type: ignore[attr-defined]
        for _ in range(100):
            street.run(1, 500)
            assert street.light_permille == 400
        part.breaks = None  # type: ignore[attr-defined]


def test_safe_never_raises() -> None:
    """With every pin dead."""
    street = Street()
    street.pwm.breaks = OSError(5)
    street.relay.value = None  # type: ignore[assignment, method-assign]
    street.lamp.safe()
    assert street.pwm.is_floating


@settings(max_examples=60, deadline=None)
@given(schedules, st.integers(0, 2**32 - 1))
def test_decision_is_explained_by_its_inputs(schedule: Any, seed: int) -> None:
    """Random instants, leases and doubts: the level is the safe one, a running lease's, or the schedule's; nothing else."""
    random = seeded(seed)
    flash = Flash()
    place = NightSun(60_000_000, 25_000_000)
    decision = Decision(Settings(flash), ("s", "l"), place, 90, 20, 7200, 0)  # type: ignore[arg-type]
    decision.adopt(schedule)
    from lamppost_protocol.orders import Order

    given_leases: list[Order] = []
    unix = START_UNIX
    for order_id in range(1, 30):
        unix += random.randrange(7200)
        if random.randrange(3) == 0:
            start = unix + random.randrange(-600, 7200)
            order = Order(order_id, start, start + random.randrange(1, 9000), orders.LEVEL, 1, [random.randrange(101), 0])
            try:
                decision.leases.accept(order)
                given_leases.append(order)
            except Exception:
                assert len(decision.leases) == 8
        known = random.randrange(4) != 0
        certain = random.randrange(4) != 0
        decision.update(unix if known else None, 10 if certain else 10**6, 0, False)
        running = [order for order in given_leases if order.not_before <= unix < order.not_after]
        if not known or not certain:
            assert decision.level_percent == 90
        elif decision.lease is not None:
            assert decision.level_percent == max(running, key=lambda order: order.order_id).args[0]
        else:
            asked = evaluate(schedule, unix, 0, place).level_percent
            assert decision.level_percent == (asked if asked == 0 else max(asked, 20))


def test_ten_years_of_nights_are_lit() -> None:
    """2026 to 2036 in Ulm with DST, every two minutes near dusk and dawn's hours and each half hour otherwise: dark sky, lit lamp."""
    flash = Flash()
    decision = Decision(Settings(flash), ("s", "l"), NightSun(48_400_000, 9_990_000), 100, 10, 7200, 30)  # type: ignore[arg-type]
    decision.adopt([1, 100, [[127, [1, 0, 100], [0, 1380, 60], [0, 300, 100], [2, 0, 0]]], [[1231, 101, [1, 0, 100], [2, 0, 0]]]])
    clock = Clock()
    observer = Observer(48.4, 9.99, 0)
    start = int(datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC).timestamp())
    for unix in range(start, start + 3650 * 86400, 7193):
        decision.update(unix, 5, clock.utc_offset_s(unix), False)
        when = datetime.datetime.fromtimestamp(unix, datetime.UTC)
        if sun.elevation(observer, when, with_refraction=False) < -1.5:
            assert decision.level_percent >= 60, when
        elif sun.elevation(observer, when, with_refraction=False) > 0:
            assert decision.level_percent == 0, when


@pytest.mark.parametrize("jump_s", [-10 * 365 * 86400, -86400, -3600, 3600, 86400, 10 * 365 * 86400, 2**31])
def test_clock_jumps(jump_s: int) -> None:
    """R20: whatever the clock does, no expired order runs, and no lamp is dark where the sun is down."""
    street = Street().with_schedule(NIGHT)
    street.order(street.level_order(1, 30, 0, 600))
    street.run(60)
    assert street.light_permille == 300
    now = street.clock.now()
    assert now is not None
    street.clock.set(now + jump_s)
    street.run(120)
    there = street.clock.now()
    assert there is not None
    if there >= START_UNIX + 600 or there < START_UNIX:
        night = sun.elevation(Observer(48.4, 9.99, 0), datetime.datetime.fromtimestamp(there, datetime.UTC)) < -1
        if night or there < 1_767_225_600:
            assert street.light_permille == 1000
    street.clock.set(now + 700)
    street.run(60)
    assert street.light_permille == 1000
