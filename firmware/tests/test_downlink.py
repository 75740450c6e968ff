"""What the line may make a node do: verified orders once, the right beacon, nothing else (R06, R20)."""

import asyncio
import random

import pytest
from fake_buses import run_virtual
from fake_flash import FakeFlash
from lamppost_node import config
from lamppost_node.refusal import Refused
from lamppost_node.settings import wrap
from lamppost_protocol import cbor, frames, orders, slip
from lamppost_protocol.errors import LocalError
from lamppost_protocol.es256_host import public_key
from lamppost_protocol.hop import HopKey
from lamppost_protocol.p256 import Verifier
from lamppost_protocol.p256_tables import build_generator_table, build_table
from node_parts import COMMAND_KEY, EPOCH, NETWORK, NODE, NODE_KEY, UNIX, Core, beacon_frame, order_frame

LAMP_ONLY = cbor.encode({"fixtures": [{"kind": "lamp"}]})
UNLAWFUL = cbor.encode({"fixtures": [], "lora": {"region": "EU868", "channels_hz": [869_300_000], "downlink_hz": 869_525_000}})
LEVEL = orders.encode_order(UNIX - 10, UNIX + 999, orders.LEVEL, 1, [40, 0])


def test_an_order_is_on_flash_before_it_is_obeyed() -> None:
    """The counter first, then the fixture, then the word `accepted`."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        await core.order(7, orders.LEVEL, 1, [40, 0])
        assert core.fixture.obeyed[0][:5] == (7, UNIX - 10, UNIX + 999, orders.LEVEL, 1)
        assert core.told() == [(7, orders.ACCEPTED, 0)]
        assert Core(core.flash).ledger.highest == 7

    run_virtual(story())


def test_flash_that_refuses_the_counter_means_no_action() -> None:
    """An order that could be repeated after a restart is not obeyed at all."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        core.flash.refuse_in = 0
        await core.order(7, orders.LEVEL, 1, [40, 0])
        assert core.fixture.obeyed == []
        assert core.told() == [(7, orders.REFUSED, orders.STORE_FAULT)]

    run_virtual(story())


def test_replays_never_act_in_this_life_or_the_next() -> None:
    """The same frame again, and an older one, before and after a restart: the state is told again, at most once in 5 s."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        frame = await core.order(7, orders.LEVEL, 1, [40, 0])
        for _ in range(20):
            await core.downlink.take(slip.FRAME, frame)
        await core.order(6, orders.LEVEL, 1, [0, 0])
        assert len(core.fixture.obeyed) == 1
        assert core.told() == [(7, orders.ACCEPTED, 0)] * 2
        assert core.downlink.rejects == {"replayed": 21}
        again = Core(core.flash)
        again.set_clock(UNIX + 5)
        await again.downlink.take(slip.FRAME, frame)
        assert again.fixture.obeyed == []
        assert again.told()[-1] == (7, orders.ACCEPTED, 0)

    run_virtual(story())


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (order_frame(1, LEVEL, key=NODE_KEY), "bad_signature"),
        (order_frame(1, LEVEL, kid=98), "unknown_issuer"),
        (order_frame(1, LEVEL, where=(NETWORK + 1, NODE, EPOCH)), "bad_signature"),
        (order_frame(1, LEVEL, where=(NETWORK, NODE + 1, EPOCH)), "bad_signature"),
        (order_frame(1, LEVEL, where=(NETWORK, NODE, EPOCH + 1)), "bad_signature"),
        (order_frame(1, cbor.encode([1])), "bad_payload"),
        (order_frame(1, LEVEL)[:-1], "bad_cbor"),
        (b"", "bad_cose"),
        (frames.seal_acknowledgement(HopKey(bytes(32)), NETWORK, NODE, EPOCH, 0, 0, bytes(8)), "bad_tag"),
        (frames.seal_acknowledgement(HopKey(bytes(range(32))), NETWORK, NODE + 1, EPOCH, 0, 0, bytes(8)), "unknown_node"),
        (frames.seal_acknowledgement(HopKey(bytes(range(32))), NETWORK, NODE, EPOCH, 5, 0, bytes(8)), "bad_payload"),
    ],
    ids=lambda value: value if isinstance(value, str) else "frame",  # the keys, and so the octets, are new in every process
)
def test_what_is_not_ours_is_counted_and_moves_nothing(frame: bytes, reason: str) -> None:
    """Forged, misdirected, malformed: one count under its name, no record, no counter moved."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        await core.downlink.take(slip.FRAME, frame)
        assert core.downlink.rejects == {reason: 1}
        assert core.counters.rejects == 1
        assert core.ledger.highest == 0
        assert core.spool.next_n == 1

    run_virtual(story())


@pytest.mark.parametrize(
    ("verb", "target", "args", "life", "told"),
    [
        (orders.LEVEL, 1, [40, 0], (UNIX - 20, UNIX), (orders.EXPIRED, orders.TOO_LATE)),
        (orders.LEVEL, 65, [40, 0], (UNIX, UNIX + 9), (orders.REFUSED, orders.UNKNOWN_TARGET)),
        (orders.RESEND, 0, [1, 1], (UNIX - 20, UNIX), (orders.EXPIRED, orders.TOO_LATE)),
        (orders.RESEND, 1, [1, 1], (UNIX, UNIX + 9), (orders.REFUSED, orders.UNKNOWN_TARGET)),
        (orders.CONFIGURE, 0, [b"\xff"], (UNIX, UNIX + 9), (orders.REFUSED, orders.BAD_ARGUMENTS)),
        (orders.CONFIGURE, 0, [UNLAWFUL], (UNIX, UNIX + 9), (orders.REFUSED, orders.BAD_ARGUMENTS)),
        (orders.CONFIGURE, 1, [b"\xa0"], (UNIX, UNIX + 9), (orders.REFUSED, orders.UNKNOWN_TARGET)),
        (orders.SCHEDULE, 1, [[1, 2]], (UNIX, UNIX + 9), (orders.REFUSED, orders.BAD_ARGUMENTS)),
        (orders.SCHEDULE, 1, [[1, 100, [], []]], (UNIX + 400, UNIX + 999), (orders.REFUSED, orders.BAD_ARGUMENTS)),
        (orders.CANCEL, 1, [1], (UNIX + 400, UNIX + 999), (orders.REFUSED, orders.BAD_ARGUMENTS)),
        (orders.CONFIGURE, 0, [LAMP_ONLY], (UNIX + 400, UNIX + 999), (orders.REFUSED, orders.BAD_ARGUMENTS)),
        (orders.RESEND, 0, [1, 1], (UNIX + 400, UNIX + 999), (orders.REFUSED, orders.BAD_ARGUMENTS)),
    ],
)
def test_refusals_say_why(verb: int, target: int, args: list, life: tuple[int, int], told: tuple[int, int]) -> None:
    """Every refusal is a signed record with its reason; its number is used up."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        await core.order(3, verb, target, args, life)
        assert core.told() == [(3, *told)]
        assert core.fixture.obeyed == []
        assert core.restarts == []
        assert core.ledger.highest == 3

    run_virtual(story())


def test_an_unknown_verb_and_broken_arguments_are_refused_by_name() -> None:
    """An older node names what it does not know, and takes no argument on trust."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        for order_id, payload in (
            (1, [UNIX, UNIX + 9, 77, 1, 0]),
            (2, [UNIX, UNIX + 9, orders.LEVEL, 1, 101, 0]),
            (3, [UNIX, UNIX, 1, 1, 5, 0]),
        ):
            await core.downlink.take(slip.FRAME, order_frame(order_id, cbor.encode(payload)))
        assert core.told() == [
            (1, orders.REFUSED, orders.UNKNOWN_VERB),
            (2, orders.REFUSED, orders.BAD_ARGUMENTS),
            (3, orders.REFUSED, orders.BAD_ARGUMENTS),
        ]

    run_virtual(story())


def test_the_fixture_has_the_last_word() -> None:
    """What it refuses is told with its reason and not accepted."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        core.fixture.error = Refused(orders.METER_MISSING)
        await core.order(1, orders.LEVEL, 1, [40, 0])
        assert core.told() == [(1, orders.REFUSED, orders.METER_MISSING)]

    run_virtual(story())


def test_while_the_time_is_unknown_only_light_may_be_added() -> None:
    """An order's life cannot be judged then: adding light is harmless, a resend touches no lamp, the rest is refused."""

    async def story() -> None:
        core = Core()
        await core.order(1, orders.LEVEL, 1, [40, 0])
        await core.order(2, orders.CONFIGURE, 0, [cbor.encode({"fixtures": []})])
        core.fixture.is_adding_light = True
        await core.order(3, orders.LEVEL, 1, [100, 0])
        await core.order(4, orders.RESEND, 0, [1, 1])
        assert [order.order_id for order in core.fixture.obeyed] == [3]
        assert core.restarts == []
        assert core.told() == [
            (1, orders.REFUSED, orders.CLOCK_NEVER_SET),
            (2, orders.REFUSED, orders.CLOCK_NEVER_SET),
            (3, orders.ACCEPTED, 0),
            (4, orders.ACCEPTED, 0),
            (4, orders.APPLIED, 0),
        ]

    run_virtual(story())


def test_safe_mode_obeys_nothing_but_the_way_out() -> None:
    """No fixture takes orders; a new configuration does."""

    async def story() -> None:
        core = Core(is_safe_mode=True)
        core.set_clock()
        await core.order(1, orders.LEVEL, 1, [40, 0])
        await core.order(2, orders.CONFIGURE, 0, [cbor.encode({"fixtures": [{"kind": "lamp"}]})])
        assert core.told() == [(1, orders.REFUSED, orders.SAFE_MODE), (2, orders.ACCEPTED, 0), (2, orders.APPLIED, 0)]
        assert core.restarts == [True]
        trial = config.trial_of(core.flash)
        assert trial is not None
        assert (trial[0], trial[3]) == (2, LAMP_ONLY)
        assert "config.cbor" not in core.flash.files

    run_virtual(story())


@pytest.mark.parametrize(("is_safe_mode", "knows_time", "reason"), [(True, True, orders.SAFE_MODE), (False, False, orders.CLOCK_NEVER_SET)])
def test_an_update_that_cannot_be_fetched_is_refused(is_safe_mode: bool, knows_time: bool, reason: int) -> None:
    """In safe mode, without the time: by its reason, and nothing is loaded for it."""

    async def story() -> None:
        core = Core(is_safe_mode=is_safe_mode)
        if knows_time:
            core.set_clock()
        await core.order(1, orders.UPDATE, 0, [b"\xd2\x84"])
        assert core.told() == [(1, orders.REFUSED, reason)]
        assert core.downlink.update is None

    run_virtual(story())


def test_a_lost_order_counter_obeys_nothing() -> None:
    """A node that has sent frames and has no order counter cannot tell old from new."""

    async def story() -> None:
        flash = FakeFlash()
        for copy in ("0", "1"):
            flash.files["counters/tx." + copy] = wrap([EPOCH, 640])
        core = Core(flash)
        core.set_clock()
        assert core.ledger.is_lost
        await core.order(9, orders.LEVEL, 1, [40, 0])
        assert core.fixture.obeyed == []
        assert core.told() == [(9, orders.REFUSED, orders.STORE_FAULT)]

    run_virtual(story())


def test_an_order_repeated_to_a_node_without_its_counter_does_not_fill_the_spool() -> None:
    """Anyone on the line can play a signed order again: told at most once in 5 s, whatever the node has lost."""

    async def story() -> None:
        flash = FakeFlash()
        for copy in ("0", "1"):
            flash.files["counters/tx." + copy] = wrap([EPOCH, 640])
        core = Core(flash)
        core.set_clock()
        for _ in range(100):
            await core.order(9, orders.LEVEL, 1, [40, 0])
            await asyncio.sleep(0.1)
        assert core.told() == [(9, orders.REFUSED, orders.STORE_FAULT)] * 2
        assert core.fixture.obeyed == []

    run_virtual(story())


def test_a_verifier_gone_bad_in_ram_is_a_restart_not_a_deaf_node() -> None:
    """A flipped bit in a comb table must not refuse the authority's orders for ever as if it were they that are wrong."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        x_y = public_key(COMMAND_KEY)
        table = bytearray(build_table(int.from_bytes(x_y[:32], "big"), int.from_bytes(x_y[32:], "big"), 5, 2))
        core.identity.verifier = Verifier(x_y, build_generator_table(5, 2), table)  # type: ignore[assignment]
        await core.order(1, orders.LEVEL, 1, [40, 0])
        for at in range(40, len(table), 64):
            table[at] ^= 4
        with pytest.raises(LocalError):
            await core.order(2, orders.LEVEL, 1, [50, 0])
        assert [order.order_id for order in core.fixture.obeyed] == [1]
        assert core.restarts == [True]
        assert core.downlink.rejects == {}

    run_virtual(story())


def test_only_the_right_beacon_sets_the_clock() -> None:
    """Its own nonce, signed by the authority for this node; a forged one and somebody else's are worth nothing."""

    async def story() -> None:
        core = Core()
        nonce = core.clock.make_nonce(b"nonce 01")
        for frame in (beacon_frame(UNIX, nonce, NODE_KEY), beacon_frame(UNIX, b"nonce 02"), beacon_frame(UNIX, None)):
            await core.downlink.take(slip.FRAME, frame)
            assert core.clock.now() is None
        assert core.downlink.rejects == {"bad_signature": 1}
        await core.downlink.take(slip.FRAME, beacon_frame(UNIX, nonce, COMMAND_KEY))
        assert core.clock.now() == UNIX
        assert core.downlink.time_set.is_set()
        await core.downlink.take(slip.FRAME, beacon_frame(UNIX + 60, None))
        assert core.clock.now() == UNIX + 60

    run_virtual(story())


def test_random_octets_and_mutations_never_raise_and_never_act() -> None:
    """3,000 damaged orders, beacons and acknowledgements: counted, nothing more."""

    async def story() -> None:
        rng = random.Random(6)
        core = Core()
        core.set_clock()
        good = [
            order_frame(5, LEVEL),
            beacon_frame(UNIX, b"nonce 01"),
            frames.seal_acknowledgement(HopKey(bytes(range(32))), NETWORK, NODE, EPOCH, 0, 0, bytes(8)),
        ]
        for _ in range(3000):
            frame = bytearray(rng.choice(good))
            for _ in range(rng.randrange(1, 4)):
                frame[rng.randrange(len(frame))] ^= 1 << rng.randrange(8)
            if rng.random() < 0.3:
                del frame[rng.randrange(len(frame)) :]
            if bytes(frame) not in good:
                await core.downlink.take(rng.choice([slip.FRAME, slip.LOG, slip.HELLO]), bytes(frame))
        assert core.fixture.obeyed == []
        assert core.ledger.highest == 0
        assert core.spool.next_n == 1

    run_virtual(story())
