"""A bin on a battery, 2 km from the cabinet, in deep sleep most of its life: firmware, radio and RTC memory in lock-step with a world whose
time goes on while the board is off. On this machine's interpreter here, on RISC-V in test_sleepy_bin_rv32.py.
"""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.lock_step import HALF
from bench.peripherals.ether import Emission
from lamppost_protocol import cbor, orders
from lamppost_protocol.kinds import BIN, NODE
from street.lone_node import NETWORK, LoneAirNode
from street.lone_node import NODE as NODE_ID

START_UNIX = 1_805_112_000
SEED = int(os.environ.get("LAMPPOST_SEED", "20261127"))
LORA = {
    "region": "EU868", "channels_hz": [868_100_000, 868_300_000, 868_500_000], "downlink_hz": 869_525_000, "spread_s": 20, "gather_s": 2_700
}  # fmt: skip
DRIFT_PPM = 20_000
CONFIG = {"network": NETWORK, "health_s": 21_600, "beacon_s": 21_600, "report_s": 900, "sleep_drift_ppm": DRIFT_PPM, "lora": LORA}
BIN_KEYS = {"kind": "bin", "instance": 0, "sleep_s": 900}
HOUR_S = 3600.0
_BOOTS, _CAUSE = 3, 4  # of a record of profile node, behind its kind and quality
Make = Callable[..., LoneAirNode]


@pytest.fixture
def make(tmp_path: Path, lock_step_image: dict[str, bytes]) -> Make:
    def made(fixture: dict | None = None, lora: dict | None = None, **node: object) -> LoneAirNode:
        config = {**CONFIG, **node, "lora": {**LORA, **(lora or {})}, "fixtures": [{**BIN_KEYS, **(fixture or {})}]}
        return LoneAirNode(tmp_path / "node", lock_step_image, config, START_UNIX, SEED, on_vm=True, x_m=2000.0, wiring="bin_battery")

    return made


def of_kind(node: LoneAirNode, kind: int) -> list[list[int]]:
    return [record for _, record in sorted(node.citizen.records.items()) if record[0] == kind]


def boots(node: LoneAirNode) -> set[int]:
    return {record[_BOOTS] for record in of_kind(node, NODE)}


def until_asleep(node: LoneAirNode, deadline_s: float = 200) -> None:
    node.run_until(lambda: node.board.is_asleep, deadline_s, "sleep")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("sleep_ppm", "hours"), [(15_000, 5), (-15_000, 5), pytest.param(15_000, 120, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_hours_of_sleep(make: Make, sleep_ppm: int, hours: int) -> None:
    """Every record arrives and is dated within what its frame admits, in one power-up, with an RTC that is wrong either way."""
    with make(lora={"gather_s": 0, "spread_s": 0, "fastest_spreading_factor": 9, "least_power_dbm": 14}) as node:
        node.board.sleep_ppm = sleep_ppm
        node.board.power_on()
        node.run(hours * HOUR_S)
        until_asleep(node)
        citizen, cabinet = node.citizen, node.cabinet
        assert boots(node) == {1}
        assert {record[_CAUSE] for record in of_kind(node, NODE)} == {1}, "waking is told as what began the power-up"
        assert citizen.window.highest == max(citizen.records) == len(citizen.records)
        reports = len(of_kind(node, BIN))
        period_s = 900 * (1 + 2.1 * DRIFT_PPM / 1e6)
        assert (hours * HOUR_S - 100) / period_s - 1 <= reports <= hours * HOUR_S / 900 / (1 - 0.0016) + 1
        assert 0.95 * reports <= cabinet.sleeps <= 1.2 * reports + 5, "a sleep for each report, and a few for the hellos"
        awake_s = node.board.now_s - node.board.asleep_s
        assert awake_s < 0.015 * node.board.now_s
        assert cabinet.sensor_fed_s <= awake_s
        # A frame leaves within some seconds of its newest record.
        dated = 0
        for end_s, n, count, _ in citizen.heard:
            newest = n + count - 1
            if newest not in citizen.clock_s:
                continue  # sent before the first beacon, with its age
            dated += 1
            late_s = end_s - citizen.told_s[newest]
            assert -2 <= late_s <= citizen.clock_s[newest] + 12, (newest, late_s, citizen.clock_s[newest])
        assert dated > 0.8 * reports


@pytest.mark.timeout(900)
def test_it_costs_flash_no_more_than_staying_awake(make: Make, tmp_path: Path) -> None:
    """Waking writes nothing of its own: no boot count, no block of numbers. Erased blocks in six hours of sleep, bounded by its records."""
    with make(health_s=86_400) as node:
        node.board.power_on()
        until_asleep(node)
        before, sleeps, records = node.board.erased, node.cabinet.sleeps, max(node.citizen.records, default=0)
        node.run(node.board.now_s + 6 * HOUR_S)
        until_asleep(node)
        sleeps, records = node.cabinet.sleeps - sleeps, max(node.citizen.records) - records
        erased = node.board.erased - before
        print(f"{erased} blocks erased for {records} records in {sleeps} sleeps")
        assert 20 <= sleeps <= 32
        assert erased <= records


@pytest.mark.timeout(900)
def test_an_order_waits_for_it_and_one_past_its_end_is_refused(make: Make) -> None:
    """Queued while it sleeps, an order is heard behind its next frame; one that ended meanwhile is not obeyed, be its clock behind."""
    with make(fixture={"report_s": 3_600}, lora={"gather_s": 0}) as node:
        node.board.sleep_ppm = 15_000
        node.board.power_on()
        until_asleep(node)
        node.run(node.board.now_s + 3 * HOUR_S)
        until_asleep(node)
        citizen = node.citizen
        now = int(START_UNIX + node.board.now_s)
        node.air.order(NODE_ID, 7, (now - 10, now + 20_000), orders.RESEND, 0, [1, 1])
        states = lambda number: [r[3] for r in of_kind(node, 5) if r[2] == number]  # noqa: E731
        node.run_until(lambda: states(7) == [orders.ACCEPTED, orders.APPLIED], 2 * 3_800, "state of the order")
        until_asleep(node)
        # Its clock is behind by what it counts as doubt: when it next hears, this order is over for the city, and not yet by its own `now`.
        newest = max(citizen.clock_s)
        behind_s = citizen.first_s[newest] - citizen.told_s[newest]
        assert 200 < behind_s <= citizen.clock_s[newest], "hours since the last beacon, 1.5 % slow and counted 2 % short"
        last_report = max(n for n, record in citizen.records.items() if record[0] == BIN)
        end_s = citizen.first_s[last_report] + 3_600 * 1.015 / 0.98 - 100
        node.air.order(NODE_ID, 8, (int(START_UNIX + end_s) - 2_000, int(START_UNIX + end_s)), orders.RESEND, 0, [2, 2])
        node.run_until(lambda: states(8), 2 * 3_800, "state of the order")
        assert [r[3:5] for r in of_kind(node, 5) if r[2] == 8] == [[orders.EXPIRED, orders.TOO_LATE]]
        told = next(n for n, record in citizen.records.items() if record[:3] == [5, 0, 8])
        assert citizen.told_s[told] < end_s < citizen.first_s[told], "it was past its end by the node's own clock too: this proves little"


@pytest.mark.timeout(900)
def test_a_fire_is_told_by_the_look_that_finds_it(make: Make) -> None:
    """It begins in a sleep: at most one `sleep_s` unseen, then confirmed and sent within seconds, from a frame of its own."""
    with make(fixture={"report_s": 14_400, "sleep_s": 600}, lora={"gather_s": 14_400}, health_s=86_400) as node:
        node.board.power_on()
        until_asleep(node)
        node.run(node.board.now_s + 1_000)
        until_asleep(node)
        at_s, frames = node.board.now_s, len(node.citizen.heard)
        node.cabinet.set_fault("fire", None, at_s)
        burns = lambda: any((record[5] or 0) & 2 for record in of_kind(node, BIN))  # noqa: E731
        node.run_until(burns, 600 * 1.05 + 20, "alarm")
        assert [count for _, _, count, _ in node.citizen.heard[frames:]] == [1]
        until_asleep(node)
        node.cabinet.clear_fault("fire", node.board.now_s)
        node.run(node.board.now_s + 700)
        until_asleep(node)
        node.run_until(lambda: of_kind(node, BIN)[-1][5] & 2 == 0, 15_000, "its end")


def _flip(memory: bytes) -> bytes:
    at = random.Random(SEED).randrange(8 * len(memory))
    spoilt = bytearray(memory)
    spoilt[at // 8] ^= 1 << at % 8
    return bytes(spoilt)


_SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "a bit": _flip,
    "the end": lambda memory: memory[:-1],
    "all": lambda memory: b"",
    "garbage": lambda memory: random.Random(SEED).randbytes(2048),
}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("spoil", _SPOILT.values(), ids=_SPOILT)
def test_rtc_memory_that_is_not_whole_makes_a_power_up(make: Make, spoil: Callable[[bytes], bytes]) -> None:
    """A new boot, numbers skipped and none twice, the airtime of before counted as spent, every record kept; then it sleeps again."""
    with make(lora={"gather_s": 0}, health_s=1_800) as node:
        node.board.power_on()
        until_asleep(node)
        node.run(node.board.now_s + 2_000)
        until_asleep(node)
        assert boots(node) == {1}
        highest_tx, sleeps = max(node.citizen.txs), node.cabinet.sleeps
        assert len(node.cabinet.rtc_memory) > 200
        node.cabinet.rtc_memory = spoil(node.cabinet.rtc_memory)
        node.run(node.board.now_s + 3_000)
        until_asleep(node)
        assert boots(node) == {1, 2}
        assert any("boot 2 cause 4" in line for line in node.log())
        assert min(tx for tx in node.citizen.txs if tx > highest_tx) >= 128, "no number of the block that was reserved is trusted"
        assert node.citizen.window.highest == max(node.citizen.records) == len(node.citizen.records)
        assert node.cabinet.sleeps > sleeps + 1


@pytest.mark.timeout(1800)
def test_power_cuts_at_any_moment(make: Make) -> None:
    """Asleep, awake and in the middle of a flash operation: no number twice (the city checks), every record that had one arrives."""
    draw = random.Random(SEED)
    print(f"LAMPPOST_SEED={SEED}")
    with make(lora={"gather_s": 0, "spread_s": 5}, health_s=3_600) as node:
        cuts = asleep = torn = 0
        while cuts < 9:
            node.board.power_on()
            node.run(node.board.now_s + draw.choice((80, 500, 2_500)) * draw.uniform(0.8, 1.5))
            if cuts % 3:
                node.run_until(lambda: node.board.is_asleep, 1_000, "sleep")
                node.run_until(lambda: not node.board.is_asleep, 1_000, "wake-up")
                node.run(node.board.now_s + draw.uniform(0.1, 1.5 if cuts % 3 == 1 else 6.0))
            if cuts % 3 == 1:
                node.board.suffer(f"cut {draw.randint(1, 2)} {HALF}")
                torn += not node.run(node.board.now_s + 950)
            if node.board.is_running:
                asleep += node.board.is_asleep
                node.board.cut_power()
            cuts += 1
            node.board.wait(draw.uniform(0, 600))
        node.board.power_on()
        # What it had spent counts as spent at each start: it may have to wait for airtime for an hour.
        node.run(node.board.now_s + 2 * HOUR_S)
        until_asleep(node, 1_000)
        citizen = node.citizen
        told = [number for number in range(1, max(citizen.records) + 1) if number not in citizen.records]
        print(f"{cuts} cuts, {asleep} asleep, {torn} within a flash operation; {len(citizen.records)} records")
        assert asleep >= 2
        assert torn >= 2
        assert told == [], "numbers that nobody heard"
        assert citizen.window.highest == max(citizen.records)
        assert max(boots(node)) > cuts


@pytest.mark.timeout(1800)
def test_the_airtime_account_survives_sleep(make: Make) -> None:
    """Chatty at SF12, with an RTC that is fast: it waits for airtime, and no hour of true time holds more than the law's 36 s."""
    keys = {"fixture": {"report_s": 180, "sleep_s": 180}, "lora": {"gather_s": 0, "spreading_factor": 12, "fastest_spreading_factor": 12}}
    with make(health_s=86_400, **keys) as node:
        node.board.sleep_ppm = -15_000
        sent: list[tuple[float, float]] = []
        begin = node.air.ether.begin

        def note(emission: Emission, now_s: float) -> None:
            if emission.station is not node.air.station:
                sent.append((emission.start_s, emission.end_s))
            begin(emission, now_s)

        node.air.ether.begin = note  # type: ignore[method-assign]
        node.board.power_on()
        node.run(2 * HOUR_S)
        assert boots(node) == {1}
        assert any(waited_s for *_, waited_s in node.citizen.heard), "there was airtime for all of it: this proves nothing"
        most_s = max(
            sum(min(end_s, first_s + HOUR_S) - start_s for start_s, end_s in sent if first_s <= start_s < first_s + HOUR_S)
            for first_s, _ in sent
        )
        print(f"{len(sent)} packets, {most_s:.1f} s in the fullest hour")
        assert 20 < most_s <= 36.0


def test_a_configuration_by_order_is_tried_awake_and_then_slept_on(make: Make) -> None:
    """It comes in a window, in pieces; the node stays awake until a frame of the trial has been answered, and then sleeps again."""
    with make(lora={"gather_s": 0}) as node:
        node.board.power_on()
        until_asleep(node)
        node.run_until(lambda: node.citizen.heard[-1][1] > 2, 2_000, "records")
        fixture = {**BIN_KEYS, "sleep_s": 600}
        data = cbor.encode({**CONFIG, "lora": {**LORA, "gather_s": 0}, "fixtures": [fixture]})
        now = int(START_UNIX + node.board.now_s)
        node.air.order(NODE_ID, 7, (now - 10, now + 20_000), orders.CONFIGURE, 0, [data])

        def told(state: int) -> bool:
            return any(record[:4] == [5, 0, 7, state] for record in node.citizen.records.values())

        node.run_until(lambda: not node.citizen.waiting, 3_000, "order on the air")
        node.air.is_silent = True
        node.run(node.board.now_s + 60)
        asleep_s = node.board.asleep_s
        node.run(node.board.now_s + 0.5 * HOUR_S)
        assert node.board.asleep_s == asleep_s
        assert not told(orders.VERIFIED)
        node.air.is_silent = False
        node.run_until(lambda: told(orders.VERIFIED), 9_000, "verified")
        assert 2 in boots(node)
        until_asleep(node, 400)
        asleep_s, from_s = node.board.asleep_s, node.board.now_s
        node.run(from_s + 2 * HOUR_S)
        assert node.board.asleep_s - asleep_s > 0.9 * 2 * HOUR_S
