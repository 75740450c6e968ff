"""The dimmer on pins: curve, minimum, relay order, readback, and that every failure is bright."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamp_bench import Pwm, Relay
from lamppost_node.drivers.dimmer import IDEAL_CURVE, Dimmer
from lamppost_node.lighting.curve import Curve

#: A driver that starts late, is steep in the middle and full at 8 V.
REAL_CURVE = ((100, 1500), (250, 2000), (500, 4500), (750, 7000), (1000, 8000))


def make(curve: Any = IDEAL_CURVE, relay: bool = True) -> tuple[Dimmer, Pwm, Relay]:
    pwm, pin = Pwm(), Relay()
    return Dimmer(pwm, pin if relay else None, curve), pwm, pin  # type: ignore[arg-type]


def test_made_at_full_light() -> None:
    """Whatever the pins were."""
    dimmer, pwm, relay = make()
    assert (pwm.duty, relay.level, dimmer.level_permille) == (65535, 0, 1000)


@pytest.mark.parametrize(
    ("permille", "applied", "millivolt"),
    [(1000, 1000, 10000), (500, 500, 5000), (100, 100, 1000), (99, 100, 1000), (1, 100, 1000), (1500, 1000, 10000)],
)
def test_level_to_voltage(permille: int, applied: int, millivolt: int) -> None:
    """1-10 V: 10 V full, 1 V the minimum; levels between nothing and the minimum are the minimum."""
    dimmer, pwm, relay = make()
    dimmer.set_permille(permille)
    assert dimmer.level_permille == applied == dimmer.reachable(permille)
    assert abs(pwm.duty * 10000 / 65535 - millivolt) < 1
    assert relay.level == 0


def test_no_curve_makes_full_light_less() -> None:
    """A configured curve that ends low, or falls, still gives 10 V at 100 %, and reads back as 100 %."""
    for curve in (REAL_CURVE, ((100, 9000), (1000, 500)), ((100, 0), (1000, 0))):
        dimmer, pwm, _ = make(curve)
        dimmer.set_permille(500)
        dimmer.set_permille(1000)
        assert pwm.duty == 65535
        assert dimmer.read_permille() == 1000


def test_off_is_the_relay_and_on_is_dimmed_first() -> None:
    """Opening: relay before the voltage falls. Closing: at the wanted voltage, not with a flash of full light."""
    dimmer, pwm, relay = make()
    dimmer.set_permille(0)
    assert relay.level == 1
    assert dimmer.level_permille == 0
    voltages = []
    plain = relay.value
    relay.value = lambda value=None: (voltages.append(pwm.duty), plain(value))[1]  # type: ignore[method-assign, assignment]
    dimmer.set_permille(300)
    assert relay.level == 0
    assert voltages == [pwm.duty]
    assert abs(pwm.duty - 65535 * 0.3) < 2


def test_without_relay_off_is_the_minimum() -> None:
    """1-10 V cannot switch off."""
    dimmer, _, _ = make(relay=False)
    dimmer.set_permille(0)
    assert dimmer.level_permille == 100 == dimmer.read_permille()


@given(st.integers(0, 1000), st.sampled_from([IDEAL_CURVE, REAL_CURVE]))
def test_readback_is_what_was_applied(permille: int, curve: Any) -> None:
    """From the pins, through the curve backwards: within a permille or two."""
    dimmer, _, _ = make(curve)
    dimmer.set_permille(permille)
    assert abs(dimmer.read_permille() - dimmer.level_permille) <= 2


def test_readback_sees_what_others_did_to_the_pins() -> None:
    """It asks the hardware, not memory."""
    dimmer, pwm, relay = make()
    dimmer.set_permille(400)
    pwm.duty = 65535
    assert dimmer.read_permille() == 1000
    relay.level = 1
    assert dimmer.read_permille() == 0


@pytest.mark.parametrize("error", [OSError(5), ValueError("duty"), RuntimeError(), MemoryError()])
def test_a_broken_pwm_is_left_floating(error: Exception) -> None:
    """`set_permille` tells its caller; `full` never raises and lets go of the pin, which is full light."""
    dimmer, pwm, relay = make()
    dimmer.set_permille(0)
    pwm.breaks = error
    with pytest.raises(type(error)):
        dimmer.set_permille(500)
    dimmer.full()
    assert pwm.is_floating
    assert relay.level == 0
    assert dimmer.level_permille == 1000


def test_full_with_everything_broken() -> None:
    """No pin works at all: still no exception, and the coil without current is light."""

    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError(5)

    dimmer = Dimmer(Broken(), Broken(), IDEAL_CURVE)  # type: ignore[arg-type]
    dimmer.full()
    assert dimmer.level_permille == 1000


def test_curve_ends_and_steps() -> None:
    """Constant beyond the ends, also backwards; a vertical step does not divide by zero."""
    curve = Curve(((100, 1000), (1000, 10000)))
    assert [curve.at(x) for x in (0, 100, 550, 1000, 2000)] == [1000, 1000, 5500, 10000, 10000]
    assert [curve.inverse(y) for y in (0, 1000, 5500, 10000, 20000)] == [100, 100, 550, 1000, 1000]
    flat = Curve(((100, 1000), (100, 2000), (500, 2000), (1000, 3000)))
    assert flat.at(100) == 1000
    assert flat.at(101) == 2000
    assert flat.inverse(2000) in (100, 500)
