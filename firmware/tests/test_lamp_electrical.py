"""Faults of the lamp from its power: what is found, how soon, and what is not mistaken for one."""

from typing import Any

import pytest
from lamp_bench import NIGHT, START_UNIX, Street
from lamppost_node.lighting import electrical

NOON_UNIX = START_UNIX + 19 * 3600


def street_at(unix: int, **config: int) -> Street:
    street = Street(unix, **config).with_schedule(NIGHT)
    street.run(120)
    assert street.values()["faults"] == 0
    street.node.records.clear()
    return street


def alarms(street: Street) -> list[int]:
    return [values[8] for _, values, is_alarm in street.node.records if is_alarm]


@pytest.mark.parametrize(
    ("fault_w", "bit"),
    [
        (lambda power: 8.0, electrical.LAMP_FAILURE),
        (lambda power: 0.0, electrical.LAMP_FAILURE),
        (lambda power: power * 0.8, electrical.LOW_POWER),
        (lambda power: power * 1.2, electrical.HIGH_POWER),
    ],
)
def test_fault_found_told_at_once_and_cleared(fault_w: Any, bit: int) -> None:
    """4 of 6 samples set it and send one alarm; none of 6 clears it; the light never moved."""
    street = street_at(START_UNIX)
    street.fault_w = fault_w
    street.run(14)
    assert alarms(street) == []
    street.run(10)
    assert alarms(street) == [bit]
    street.run(600)
    assert alarms(street) == [bit]
    street.fault_w = lambda power: power
    street.run(25)
    assert street.values()["faults"] == bit
    street.run(10)
    assert street.values()["faults"] == 0
    assert street.lowest_permille == 1000


@pytest.mark.parametrize("factor", [0.86, 1.14])
def test_fifteen_percent_is_no_fault(factor: float) -> None:
    """Within the band."""
    street = street_at(START_UNIX)
    street.fault_w = lambda power: power * factor
    street.run(300)
    assert street.node.records == []


def test_three_bad_samples_of_six_are_no_fault() -> None:
    """A flicker of the mains every other sample."""
    street = street_at(START_UNIX)
    street.fault_w = lambda power: 0.0 if street.clock.ms // 5000 % 2 else power
    street.run(100)
    assert electrical.LAMP_FAILURE & ~street.values()["faults"] if street.node.records else True
    assert all(not faults & electrical.LAMP_FAILURE for faults in alarms(street))


def test_nothing_is_judged_while_warming_up() -> None:
    """A minute after a change of level the lamp may take what it likes."""
    street = street_at(START_UNIX)
    street.order(street.level_order(1, 60, 0, 2000))
    street.run(9)
    street.fault_w = lambda power: power * 1.5
    street.run(58)
    assert alarms(street) == []
    street.run(30)
    assert alarms(street) == [electrical.HIGH_POWER]


def test_low_levels_are_not_judged() -> None:
    """Below 30 % drivers are too different for a verdict."""
    street = street_at(START_UNIX)
    street.order(street.level_order(1, 25, 0, 2000))
    street.fault_w = lambda power: 0.0
    street.run(400)
    assert alarms(street) == []


def test_day_burner_and_welded_relay() -> None:
    """Power at level 0: by day a day burner, by night the relay's failure."""
    by_day = street_at(NOON_UNIX)
    assert by_day.light_permille == 0
    by_day.fault_w = lambda power: 60.0
    by_day.run(40)
    assert alarms(by_day) == [electrical.DAY_BURNER]
    by_night = Street(START_UNIX).with_schedule([1, 0, [], []])
    by_night.run(120)
    by_night.node.records.clear()
    by_night.fault_w = lambda power: 60.0
    by_night.run(40)
    assert alarms(by_night) == [electrical.RELAY_FAILURE]


def test_cycling_lamp() -> None:
    """An old lamp that lights and dies every two minutes: more than three times in ten minutes; it stops, the fault goes."""
    street = street_at(START_UNIX)
    street.fault_w = lambda power: power if street.clock.ms // 60000 % 2 else 0.0
    street.run(360)
    assert not street.values()["faults"] & electrical.CYCLING
    street.run(180)
    assert street.values()["faults"] & electrical.CYCLING
    street.fault_w = lambda power: power
    street.run(1300)
    assert street.values()["faults"] == 0


def test_switching_by_schedule_is_no_cycling() -> None:
    """Orders that go up and down: the lamp does as told."""
    street = street_at(START_UNIX)
    for order_id in range(1, 12):
        street.order(street.level_order(order_id, 0 if order_id % 2 else 100, 0, 2000))
        street.run(50)
    assert alarms(street) == []


def test_missing_meter_is_told_and_changes_nothing() -> None:
    """Unplugged: quality and fault say so, the light stays; plugged in again it clears."""
    street = street_at(START_UNIX)
    street.meter.is_plugged = False
    street.run(40)
    quality, values, is_alarm = street.node.records[-1]
    assert quality == 4
    assert not is_alarm
    assert values[8] == electrical.METER_MISSING
    assert values[2] is None
    street.meter.is_plugged = True
    street.run(60)
    assert street.values()["faults"] == 0
    assert street.values()["power"] == 600
    assert street.lowest_permille == 1000
