"""The lamp as a whole: schedule, orders with their evidence, reboots, safe mode, reports. Real drivers, pins and bus below."""

import asyncio
import datetime
import itertools
from typing import Any

import pytest
from fake_buses import run_virtual
from lamp_bench import NIGHT, START_UNIX, Street
from lamppost_node.fixtures import lamp as lamp_module
from lamppost_node.fixtures import lamp_keys
from lamppost_node.lighting import decision, electrical
from lamppost_node.lighting.lamp_curves import stagger_s
from lamppost_node.refusal import Refused
from lamppost_protocol import orders
from lamppost_protocol.orders import Order
from lamppost_protocol.profiles import LAMP_CAUSES, LAMP_FAULTS

ACCEPTED, APPLIED, VERIFIED, REVERTED, EXPIRED = 3, 4, 5, 6, 7


def lit_street(**config: int) -> Street:
    """Night, a schedule that says 100 %, time known, everything settled."""
    street = Street(**config).with_schedule(NIGHT)
    street.run(90)
    assert street.light_permille == 1000
    assert street.lamp.cause == decision.CAUSE_WEEKLY
    street.lowest_permille = 1000
    return street


def test_codes_are_the_profiles_words() -> None:
    """The numbers in records are the tables' places."""
    for name in ("safe", "order", "exception", "weekly", "default", "power_on", "safe_mode"):
        assert LAMP_CAUSES[getattr(decision, "CAUSE_" + name.upper())] == name
    for bit, name in enumerate(LAMP_FAULTS):
        assert getattr(electrical, name.upper()) == 1 << bit


def test_full_light_before_anything_is_decided() -> None:
    """Made on pins that were off: lit when the constructor returns."""
    street = Street(unix=None)
    assert street.light_permille == 1000


@pytest.mark.parametrize("safe_percent", [100, 70])
def test_safe_level_while_the_time_is_unknown(safe_percent: int) -> None:
    """By day too: the schedule would say dark, but who knows when day is."""
    street = Street(unix=None, safe_level_percent=safe_percent).with_schedule(NIGHT)
    street.run(30)
    assert street.light_permille == safe_percent * 10
    assert street.values()["cause"] == decision.CAUSE_SAFE
    assert street.values()["faults"] & electrical.CLOCK_UNKNOWN


def test_follows_the_schedule_through_a_day_and_says_so() -> None:
    """Dark by day over the relay, lit by night, ramps between; each change leaves a record."""
    street = lit_street()
    noon = START_UNIX + 20 * 3600
    street.clock.set(noon)
    street.run(40)
    assert street.light_permille == 0
    assert street.relay.level == 1
    assert street.values()["command"] == 0
    assert street.values()["applied"] == 0
    assert street.values()["power"] == 0
    street.clock.set(noon + 7 * 3600)
    street.run(40)
    assert street.light_permille == 1000
    assert street.values()["applied"] == 100
    assert street.values()["power"] == 600


def test_ramp_speeds_and_no_jump() -> None:
    """Down 5 % and up 10 % a second unless the order says how long."""
    street = lit_street()
    street.order(street.level_order(1, 50, 0, 60))
    seen = []
    for _ in range(120):
        street.run(0.1, 100)
        seen.append(street.light_permille)
    assert seen == sorted(seen, reverse=True)
    assert max(a - b for a, b in itertools.pairwise(seen)) <= 12
    assert 90 <= sum(level > 505 for level in seen) <= 110
    street.run(49)
    street.run(5)
    assert 900 < street.light_permille <= 1000


def test_order_ramp_takes_the_seconds_it_names() -> None:
    """ramp_s 20: half way after ten seconds."""
    street = lit_street()
    street.order(street.level_order(1, 40, 0, 600, ramp_s=20))
    street.run(10)
    assert 660 <= street.light_permille <= 740
    street.run(11)
    assert street.light_permille == 400


def test_an_order_is_applied_verified_and_reverted() -> None:
    """The whole life of an order, with the power before and after as evidence."""
    street = lit_street()
    street.order(street.level_order(7, 60, 0, 120))
    street.run(118)
    assert street.light_permille == 600
    assert street.values()["command"] == 60
    assert street.values()["cause"] == decision.CAUSE_ORDER
    assert street.node.states == [(7, APPLIED, 0, 60, 600, None), (7, VERIFIED, 0, 60, 600, 392)]
    street.run(20)
    assert street.node.states[2:] == [(7, REVERTED, orders.LEASE_ENDED, 100, None, 600)]
    assert street.light_permille == 1000
    assert street.lamp.cause == decision.CAUSE_WEEKLY


def test_an_order_to_darkness_is_verified_and_ends() -> None:
    """Dark is a lease: relay open, power gone, and back after its end."""
    street = lit_street()
    street.order(street.level_order(7, 0, 0, 100))
    street.run(99)
    assert street.light_permille == 0
    assert [state for state, _ in street.states(7)] == [APPLIED, VERIFIED]
    street.run(30)
    assert street.light_permille == 1000
    assert street.states(7)[-1] == (REVERTED, orders.LEASE_ENDED)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda power: 60.0, orders.UNVERIFIED_POWER),  # a lamp or a meter that does not move
        (lambda power: power + 15, orders.UNVERIFIED_POWER),
        (lambda power: 20.0, orders.UNVERIFIED_POWER),
    ],
)
def test_an_order_whose_power_does_not_move_stays_unverified(fault: Any, reason: int) -> None:
    """Applied is not verified; the reason and both powers are told once, when the window is over."""
    street = lit_street()
    street.fault_w = fault
    street.order(street.level_order(7, 50, 0, 900))
    street.run(200)
    assert street.states(7) == [(APPLIED, 0), (APPLIED, reason)]
    assert street.light_permille == 500
    street.run(300)
    assert len(street.states(7)) == 2


def test_power_that_fits_without_moving_is_no_proof() -> None:
    """A meter stuck at just the right value: before and after are equal, so nothing was proven."""
    street = lit_street()
    street.fault_w = lambda power: 39.2
    street.run(10)
    street.order(street.level_order(7, 60, 0, 900))
    street.run(200)
    assert street.states(7) == [(APPLIED, 0), (APPLIED, orders.UNVERIFIED_POWER)]


def test_a_failed_lamp_is_named_as_the_reason() -> None:
    """The fault judgement and the proof of the order meet."""
    street = lit_street(warm_up_s=10)
    street.fault_w = lambda power: 1.0
    street.order(street.level_order(7, 60, 0, 900))
    street.run(200)
    assert street.states(7)[-1] == (APPLIED, orders.LAMP_FAULT)


def test_no_meter_no_verification() -> None:
    """Unplugged, and never there: the light obeys, the order stays unverified with its reason."""
    street = lit_street()
    street.meter.is_plugged = False
    street.order(street.level_order(7, 60, 0, 900))
    street.run(200)
    assert street.light_permille == 600
    assert street.states(7) == [(APPLIED, 0), (APPLIED, orders.METER_MISSING)]
    quality, values, _ = street.node.records[-1]
    assert quality == 4
    assert values[2:6] == (None, None, None, None)
    bare = lit_street(meter=0)
    bare.order(bare.level_order(7, 60, 0, 900))
    bare.run(200)
    assert bare.states(7)[-1] == (APPLIED, orders.METER_MISSING)
    assert bare.node.records[-1][0] == 0


def test_an_order_that_changes_nothing_is_applied_at_once() -> None:
    """100 % on a lamp at 100 %: applied and verified without a movement."""
    street = lit_street()
    street.order(street.level_order(7, 100, 0, 900))
    street.run(15)
    assert street.states(7) == [(APPLIED, 0), (VERIFIED, 0)]


def test_an_order_for_later_waits() -> None:
    """not_before in the future: nothing until then."""
    street = lit_street()
    street.order(street.level_order(7, 30, 300, 600))
    street.run(299)
    assert street.light_permille == 1000
    assert street.node.states == []
    street.run(60)
    assert street.light_permille == 300


def test_a_newer_order_supersedes_for_good() -> None:
    """The older lease does not come back when the newer one ends, though its own time is not over."""
    street = lit_street()
    street.order(street.level_order(7, 60, 0, 900))
    street.run(60)
    street.order(street.level_order(8, 40, 0, 100))
    street.run(60)
    assert street.light_permille == 400
    assert street.states(7)[-1] == (REVERTED, orders.SUPERSEDED)
    street.run(60)
    assert street.light_permille == 1000
    assert street.states(8)[-1] == (REVERTED, orders.LEASE_ENDED)


def test_an_older_order_whose_time_comes_under_a_newer_one_never_runs() -> None:
    """Planned earlier, due later, while a newer one holds: superseded, not run."""
    street = lit_street()
    street.order(street.level_order(7, 20, 100, 300))
    street.order(street.level_order(8, 70, 0, 600))
    street.run(400)
    assert street.light_permille == 700
    assert street.states(7) == [(EXPIRED, orders.SUPERSEDED)]


def test_cancel_returns_to_the_schedule() -> None:
    """CANCEL is applied, the order it names is reverted; of an unknown one it is refused."""
    street = lit_street()
    street.order(street.level_order(7, 60, 0, 900))
    street.run(60)
    street.cancel(8, 7)
    street.run(30)
    assert street.light_permille == 1000
    assert street.states(8) == [(APPLIED, 0)]
    assert street.states(7)[-1] == (REVERTED, orders.CANCELLED)
    street.order(street.level_order(9, 60, 500, 900))
    street.cancel(10, 9)
    street.run(600)
    assert street.states(9) == [(EXPIRED, orders.CANCELLED)]
    with pytest.raises(Refused) as caught:
        street.cancel(11, 7)
    assert caught.value.reason == orders.BAD_ARGUMENTS


def test_schedule_order_replaces_the_schedule_and_survives() -> None:
    """Adopted at once, kept over a reboot; a bad one is refused and the old one stays."""
    street = lit_street()
    new = [1, 100, [[127, [1, 0, 55], [2, 0, 0]]], []]
    now = START_UNIX
    street.order(Order(3, now, now + 9000, orders.SCHEDULE, 1, [new]))
    street.run(60)
    assert street.light_permille == 550
    assert street.states(3) == [(APPLIED, 0)]
    street.reboot(START_UNIX + 200)
    street.run(60)
    assert street.light_permille == 550
    with pytest.raises(Refused) as caught:
        street.order(Order(4, now, now + 9000, orders.SCHEDULE, 1, [[1, 100, [[0, [1, 0, 5]]], []]]))
    assert caught.value.reason == orders.BAD_ARGUMENTS
    street.run(60)
    assert street.light_permille == 550


def test_a_lease_survives_a_reboot_but_only_when_the_time_is_known() -> None:
    """After power loss: full light until a beacon, then the lease again, verified anew if it was not, ended on time."""
    street = lit_street()
    street.order(street.level_order(7, 30, 0, 1800))
    street.run(60)
    assert street.light_permille == 300
    ends = START_UNIX + 90 + 1800
    street.reboot(None)
    assert street.light_permille == 1000
    street.run(300)
    assert street.light_permille == 1000
    street.clock.set(ends - 600)
    street.run(60)
    assert street.light_permille == 300
    assert street.lamp.cause == decision.CAUSE_ORDER
    street.run(600)
    assert street.light_permille == 1000
    assert [state for state, _ in street.states(7)] == [APPLIED, VERIFIED, REVERTED]


def test_a_lease_that_ended_during_the_outage_is_not_resumed() -> None:
    """Ten hours later: told as reverted, never dark."""
    street = lit_street()
    street.order(street.level_order(7, 0, 0, 1800))
    street.run(60)
    street.reboot(None)
    street.run(10)
    street.lowest_permille = 1000
    street.clock.set(START_UNIX + 10 * 3600)
    street.run(60)
    assert street.lowest_permille == 1000
    assert street.states(7)[-1] == (REVERTED, orders.LEASE_ENDED)


def test_an_order_accepted_without_time_waits_for_it() -> None:
    """Only one that adds light is taken; when the time comes it is judged: run, or expired."""
    street = Street(unix=None, safe_level_percent=60).with_schedule([1, 50, [], []])
    bright = Order(5, START_UNIX, START_UNIX + 600, orders.LEVEL, 1, [90, 0])
    dark = Order(6, START_UNIX, START_UNIX + 600, orders.LEVEL, 1, [30, 0])
    assert street.lamp.adds_light(bright)
    assert not street.lamp.adds_light(dark)
    with pytest.raises(Refused) as caught:
        street.order(dark)
    assert caught.value.reason == orders.CLOCK_NEVER_SET
    street.order(bright)
    street.run(20)
    assert street.light_permille == 600
    street.clock.set(START_UNIX + 10)
    street.run(20)
    assert street.light_permille == 900
    late = Street(unix=None, safe_level_percent=60).with_schedule([1, 50, [], []])
    late.order(bright)
    late.clock.set(START_UNIX + 601)
    late.run(20)
    assert late.states(5) == [(EXPIRED, orders.TOO_LATE)]


def test_refusals_have_their_reasons() -> None:
    """Each with its code; nothing is kept of a refused order."""
    street = lit_street()
    now = street.clock.now()
    assert now is not None

    def reason(verb: int, args: list[Any], not_after: int = now + 60, target: int = 1) -> int:
        with pytest.raises(Refused) as caught:
            street.order(Order(50, now - 60, not_after, verb, target, args))
        return caught.value.reason  # type: ignore[no-any-return]

    assert reason(orders.LEVEL, [50, 0], now) == orders.TOO_LATE
    assert reason(orders.LEVEL, [101, 0]) == orders.BAD_ARGUMENTS
    assert reason(orders.LEVEL, [50]) == orders.BAD_ARGUMENTS
    assert reason(orders.LEVEL, [50, 3601]) == orders.BAD_ARGUMENTS
    assert reason(orders.CANCEL, []) == orders.BAD_ARGUMENTS
    assert reason(orders.LEVEL, [50, 0], now - 60 + 604801) == orders.BAD_ARGUMENTS
    assert reason(99, []) == orders.UNKNOWN_VERB
    assert reason(orders.RESEND, [1, 2]) == orders.UNKNOWN_VERB
    street.flash.refuses = True
    assert reason(orders.LEVEL, [50, 0]) == orders.STORE_FAULT
    assert reason(orders.SCHEDULE, [NIGHT]) == orders.STORE_FAULT
    street.flash.refuses = False
    street.node.is_safe_mode = True
    assert reason(orders.LEVEL, [50, 0]) == orders.SAFE_MODE
    street.node.is_safe_mode = False
    street.run(30)
    assert street.light_permille == 1000
    for order_id in range(60, 68):
        street.order(street.level_order(order_id, 50, 1000 * order_id, 1000 * order_id + 9))
    assert reason(orders.LEVEL, [50, 0]) == orders.STORE_FAULT
    street.order(street.level_order(60, 50, 1000 * 60, 1000 * 60 + 9))  # heard twice: kept once


def test_safe_mode_is_the_safe_level() -> None:
    """Whatever schedule and leases say."""
    street = lit_street()
    street.order(street.level_order(7, 10, 0, 900))
    street.run(60)
    street.node.is_safe_mode = True
    street.run(3)
    assert street.light_permille == 1000
    assert street.values()["cause"] == decision.CAUSE_SAFE_MODE


@pytest.mark.parametrize(
    "spoil",
    [
        lambda flash: flash.files.pop("settings/lamp.schedule"),
        lambda flash: flash.files.update({"settings/lamp.schedule": b"\x00" * 40}),
        lambda flash: flash.files.update({"settings/lamp.schedule": flash.files["settings/lamp.schedule"][:-3]}),
        lambda flash: setattr(flash, "refuses", True),
    ],
)
def test_no_schedule_is_the_safe_level(spoil: Any) -> None:
    """Missing, corrupt, cut or unreadable: noon with full light, and the fault is told; a known-time order still works."""
    street = lit_street()
    spoil(street.flash)
    street.reboot(START_UNIX + 20 * 3600)
    street.run(60)
    assert street.light_permille == 1000
    assert street.values()["faults"] & electrical.SCHEDULE_MISSING


def test_no_place_is_the_safe_level() -> None:
    """A configuration without coordinates cannot say when night is."""
    street = Street().with_schedule([1, 0, [], []])
    street.node.config["latitude_udeg"] = None  # type: ignore[assignment]
    street.reboot(START_UNIX)
    street.run(60)
    assert street.light_permille == 1000


def test_a_clock_too_uncertain_is_no_clock() -> None:
    """Months without a beacon: past the limit the lamp stays lit."""
    street = Street().with_schedule([1, 0, [], []])
    street.run(60)
    assert street.light_permille == 0
    street.clock.uncertainty = 7201
    street.run(3)
    assert street.light_permille == 1000


def test_a_doubtful_clock_ends_no_lease() -> None:
    """Far ahead but uncertain, then certain again: the lease is still there."""
    street = lit_street()
    street.order(street.level_order(7, 30, 0, 900))
    street.run(60)
    now = street.clock.now()
    assert now is not None
    street.clock.uncertainty = 10**6
    street.clock.set(now + 5000)
    street.run(10)
    assert street.light_permille == 1000
    street.clock.uncertainty = 1
    street.clock.set(now + 60)
    street.run(60)
    assert street.light_permille == 300


def test_not_after_is_exclusive() -> None:
    """In the second named, the lease has ended."""
    street = lit_street()
    street.order(street.level_order(7, 30, 0, 100))
    street.run(98.8)
    assert street.lamp.cause == decision.CAUSE_ORDER
    street.run(1.4)
    assert street.lamp.cause == decision.CAUSE_WEEKLY


@pytest.mark.parametrize(("day", "hour"), [("2027-03-28", 3), ("2027-10-31", 4)])
def test_a_step_after_the_change_of_daylight_saving_is_on_time(day: str, hour: int) -> None:
    """05:00 on the wall is 03:00 or 04:00 UTC; the lamp decided for the night before the clocks changed."""
    at = datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00")
    street = Street(int(at.timestamp())).with_schedule([1, 100, [[127, [1, 0, 100], [0, 300, 40], [2, 0, 0]]], []])
    street.run(30)
    assert street.lamp.command_percent == 100
    street.run(hour * 3600 - 40, 10_000)
    assert street.lamp.command_percent == 100
    street.run(30, 10_000)
    assert street.lamp.command_percent == 40


@pytest.mark.parametrize("unix", [0, 1, 946684800, 1767225000])
def test_a_clock_before_the_product_existed_is_no_clock(unix: int) -> None:
    """1970 and 2000 epochs: a lost clock, not a time."""
    street = Street(unix=unix).with_schedule([1, 0, [], []])
    street.run(30)
    assert street.light_permille == 1000


def test_floor_lifts_a_schedule_but_not_darkness() -> None:
    """A schedule's 3 % becomes the floor; its 0 stays off; a lease may go below the floor."""
    street = Street(floor_percent=25).with_schedule([1, 3, [], []])
    street.run(60)
    assert street.light_permille == 250
    street.order(street.level_order(7, 12, 0, 900))
    street.run(60)
    assert street.light_permille == 120
    assert Street(floor_percent=25).with_schedule([1, 0, [], []]) is not None


def test_below_the_driver_minimum_is_told_as_it_is() -> None:
    """5 % on a driver that ends at 10 %: applied says 10, verified against 10."""
    street = lit_street()
    street.order(street.level_order(7, 5, 0, 900))
    street.run(60)
    assert street.values()["command"] == 5
    assert street.values()["applied"] == 10
    assert street.states(7) == [(APPLIED, 0), (VERIFIED, 0)]


def test_without_a_relay_darkness_is_the_driver_minimum() -> None:
    """A 1-10 V driver cannot switch off; the record says so."""
    street = lit_street(relay=0)
    street.order(street.level_order(7, 0, 0, 900))
    street.run(60)
    assert street.light_permille == 100
    assert street.values()["applied"] == 10


def test_power_on_level_is_held_for_its_time() -> None:
    """A lamp that must run up: 100 % for five minutes after every start."""
    street = Street(power_on_s=300).with_schedule([1, 40, [], []])
    street.run(290)
    assert street.light_permille == 1000
    assert street.lamp.cause == decision.CAUSE_POWER_ON
    street.run(60)
    assert street.light_permille == 400


def test_staggered_by_node_id() -> None:
    """A thousand nodes in a row spread evenly over 0..30 s, and the schedule comes exactly that late."""
    delays = [stagger_s(0xA000 + number, 30) for number in range(1000)]
    assert min(delays) == 0
    assert max(delays) == 30
    assert max(delays.count(delay) for delay in range(31)) < 60
    street = Street(stagger_s=30)
    delay = stagger_s(street.node.node_id, 30)
    at = datetime.datetime(2027, 1, 1, 23, 0, tzinfo=datetime.UTC).timestamp()
    street.clock.set(int(at) - 5)
    street.with_schedule([1, 100, [[127, [0, 12 * 60, 80], [0, 0, 40]]], []])
    street.run(4.8)
    assert street.lamp.command_percent == 80
    street.run(delay - 1)
    assert street.lamp.command_percent == 80
    assert delay > 5
    street.run(2)
    assert street.lamp.command_percent == 40


def test_reports_on_time_and_energy_survives() -> None:
    """A record every report period; energy adds up over a reboot, less what the last hour counted."""
    street = lit_street(report_s=600)
    count = len(street.node.records)
    street.run(3 * 3600, 5000)
    assert len(street.node.records) - count == 18
    energy_wh = street.values()["energy"]
    assert 178 <= energy_wh <= 183
    writes = street.flash.writes
    street.reboot(street.clock.now())
    street.run(600, 5000)
    assert energy_wh - 65 <= street.values()["energy"] <= energy_wh + 12
    assert street.flash.writes == writes


def test_build_makes_it_from_a_board() -> None:
    """The registered entry: pins and bus from the board, keys from the configuration."""
    street = Street()

    class Board:
        def lamp_pwm(self, instance: int = 0) -> Any:
            return street.pwm

        def lamp_relay(self, instance: int = 0) -> Any:
            return street.relay

        def i2c(self, instance: int = 0) -> Any:
            return street.meter

    street.pwm.duty = 0
    lamp = lamp_module.build(Board(), street.config, street.node, 0)  # type: ignore[arg-type]
    assert street.light_permille == 1000
    lamp.control()
    lamp.attend()
    assert street.values()["power"] == 600
    for key, default, lowest, highest in lamp_keys.KEYS:
        assert lowest <= default <= highest, key


def test_the_task_survives_what_breaks_it() -> None:
    """`run` itself: a broken clock is the safe level and a log line, ten seconds later another try; a broken meter only a line."""

    async def scenario() -> None:
        street = Street().with_schedule([1, 40, [], []])
        task = asyncio.create_task(street.lamp.run())

        async def pass_time(seconds: int) -> None:
            for _ in range(seconds * 10):
                await asyncio.sleep(0.1)
                street.clock.ms += 100

        await pass_time(30)
        assert street.light_permille == 400
        street.clock.breaks = ValueError("secret 1234")
        await pass_time(3)
        assert street.light_permille == 1000
        await pass_time(30)
        assert street.light_permille == 1000
        street.clock.breaks = None
        await pass_time(40)
        assert street.light_permille == 400
        assert street.lamp.control_faults >= 3
        assert street.node.lines[0] == "lamp control: ValueError"
        assert any(values[8] & electrical.CONTROL_FAULT for _, values, _ in street.node.records)
        assert not street.values()["faults"] & electrical.CONTROL_FAULT
        street.meter.breaks = ZeroDivisionError()
        lives = street.node.lives
        await pass_time(10)
        assert street.light_permille == 400
        assert street.node.lives > lives
        assert street.node.lines[-1] == "lamp attend: ZeroDivisionError"
        assert not any("1234" in line for line in street.node.lines)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_virtual(scenario())
