"""Records leave the node until they are acknowledged: order, times, resends, ranges asked for again."""

import asyncio
import itertools

import pytest
from fake_buses import run_virtual
from fake_flash import FakeFlash
from lamppost_node.settings import wrap
from lamppost_protocol import frames, kinds
from lamppost_protocol.arq import MAX_RESEND_MS
from lamppost_protocol.errors import LocalError
from lamppost_protocol.p256 import Signer
from lamppost_protocol.p256_tables import build_generator_table
from node_parts import EPOCH, NODE_KEY, UNIX, Core

LAMP = kinds.LAMP


async def run_for(core: Core, seconds: float) -> None:
    """Let the uplink run, then stop it."""
    task = asyncio.create_task(core.uplink.run())
    await asyncio.sleep(seconds)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass


def test_records_share_frames_and_stop_when_acknowledged() -> None:
    """Forty records of the past in frames of sixteen, each once."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        for value in range(40):
            core.node.emit(LAMP, 0, [value])
        again = Core(core.flash)
        again.line.answer = again.uplink
        await run_for(again, 30)
        assert again.line.numbers() == [(1, 16), (17, 16), (33, 8)]
        assert again.spool.owed() == 0

    run_virtual(story())


def test_unanswered_frames_come_again_ever_more_rarely_and_newly_signed() -> None:
    """No acknowledgement: tries spread out to 40 s and half as much of jitter, no tx twice; the first answer ends it."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        core.node.emit(LAMP, 0, [1])
        await run_for(core, 600)
        gaps = [later - earlier for earlier, later in itertools.pairwise(core.line.at_ms)]
        assert 8 <= len(gaps) <= 25
        assert gaps[0] < 4000
        assert all(MAX_RESEND_MS <= gap <= 1.5 * MAX_RESEND_MS + 2000 for gap in gaps[6:])
        assert len(set(core.line.txs)) == len(core.line.txs)
        core.line.answer = core.uplink
        await run_for(core, 120)
        assert core.spool.owed() == 0

    run_virtual(story())


def test_an_alarm_goes_alone_and_before_everything() -> None:
    """Five hundred records wait; the alarm written last leaves first, in a frame of its own."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        for value in range(500):
            core.node.emit(LAMP, 0, [value])
        again = Core(core.flash)
        again.set_clock()
        n = again.node.emit(kinds.BIN, 0, [1, 2, 3, 4], alarm=True)
        again.node.emit(LAMP, 0, [7])
        again.line.answer = again.uplink
        await run_for(again, 60)
        assert again.line.numbers()[0] == (n, 1)
        assert again.line.numbers()[1][0] == n + 1
        assert again.spool.owed() == 0
        assert sum(count for _, count in again.line.numbers()) == 502

    run_virtual(story())


def test_an_alarm_of_an_outage_is_the_first_thing_heard_after_it() -> None:
    """Raised while nobody answered, with a day of records owed: it is tried again and again, and needs no place in their queue."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        for value in range(500):
            core.node.emit(LAMP, 0, [value])
        again = Core(core.flash)
        again.set_clock()
        task = asyncio.create_task(again.uplink.run())
        await asyncio.sleep(30)
        n = again.node.emit(kinds.BIN, 0, [1, 2, 3, 4], alarm=True)
        await asyncio.sleep(600)
        silent = len(again.line.heard)
        assert silent < 40
        again.line.answer = again.uplink
        await asyncio.sleep(180)
        task.cancel()
        assert again.line.numbers()[silent] == (n, 1)
        assert again.spool.owed() == 0
        assert again.sampler.alarms == []

    run_virtual(story())


def test_live_records_go_ahead_of_back_fill() -> None:
    """While an outage's records drain, a new one does not wait for them."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        for value in range(300):
            core.node.emit(LAMP, 0, [value])
        again = Core(core.flash)
        task = asyncio.create_task(again.uplink.run())
        await asyncio.sleep(1)
        n = again.node.emit(LAMP, 0, [999])
        before = len(again.line.heard)
        again.line.answer = again.uplink
        await asyncio.sleep(5)
        task.cancel()
        assert n in [uplink.n for uplink in again.line.heard[before : before + 2]]

    run_virtual(story())


def test_times_known_later_reach_back_within_a_power_up_only() -> None:
    """Ages before the beacon, dates after it; a record of an earlier power-up that never knew the time has none."""

    async def story() -> None:
        core = Core()
        core.node.emit(LAMP, 0, [1])
        again = Core(core.flash, power_up=2)
        again.node.emit(LAMP, 0, [2])
        await asyncio.sleep(10)
        again.node.emit(LAMP, 0, [3])
        await run_for(again, 1)
        assert all(uplink.t is None for uplink in again.line.heard)
        ages = {u.n + i: record[1] for u in again.line.heard for i, record in enumerate(u.records)}
        assert ages == {1: None, 2: -10, 3: 0}
        again.set_clock()
        again.line.answer = again.uplink
        await run_for(again, 30)
        dates = {
            u.n + i: None if record[1] is None or u.t is None else u.t + record[1]
            for u in again.line.heard
            for i, record in enumerate(u.records)
        }
        assert dates[1] is None
        assert UNIX - 12 <= dates[2] <= UNIX - 10
        assert UNIX - 2 <= dates[3] <= UNIX

    run_virtual(story())


def test_the_oldest_uncertainty_speaks_for_the_frame() -> None:
    """A frame's clock quality is the worst of its records'."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        core.spool.append(1, UNIX - 5, 0, 44, 0, LAMP, 0, [1])
        core.spool.append(1, UNIX - 3, 0, 2, 0, LAMP, 0, [2])
        again = Core(core.flash)
        await run_for(again, 1)
        first = again.line.heard[0]
        assert (first.t, first.clock, [record[1] for record in first.records]) == (UNIX - 5, 44, [0, 2])

    run_virtual(story())


def test_thinned_history_is_passed_over() -> None:
    """Holes in the spool cost nothing: what is left is sent, and the gateway's account passes over them."""

    async def story() -> None:
        core = Core(spool_bytes=8192)
        core.set_clock()
        for value in range(600):
            core.node.emit(LAMP, 0, [value])
        assert core.spool.dropped > 100
        again = Core(core.flash, spool_bytes=8192)
        again.line.answer = again.uplink
        await run_for(again, 120)
        assert again.spool.owed() == 0
        assert again.line.window.highest == again.spool.next_n - 1
        assert any(record[0] == kinds.GAP for uplink in again.line.heard for record in uplink.records)

    run_virtual(story())


def test_thinning_under_the_feet_of_the_uplink_does_not_stop_it() -> None:
    """The spool overflows while frames are on their way: everything that is left still arrives."""

    async def story() -> None:
        core = Core(spool_bytes=8192)
        core.set_clock()
        task = asyncio.create_task(core.uplink.run())
        for value in range(800):
            core.node.emit(LAMP, 0, [value])
            await asyncio.sleep(0.5)
        core.line.answer = core.uplink
        await asyncio.sleep(300)
        task.cancel()
        assert core.spool.owed() == 0

    run_virtual(story())


def test_a_range_asked_for_again_is_sent_until_its_frames_are_answered() -> None:
    """The gateway's own account says it has them: only the digest of the new frame counts."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        core.line.answer = core.uplink
        for value in range(40):
            core.node.emit(LAMP, 0, [value])
        await run_for(core, 5)
        assert core.spool.owed() == 0
        sent = len(core.line.heard)
        core.line.answer = None
        core.uplink.resend(1, 20)
        await run_for(core, 10)
        assert {uplink.n for uplink in core.line.heard[sent:]} == {1}
        assert len(core.line.heard) - sent >= 2
        core.line.answer = core.uplink
        await run_for(core, 60)
        covered = {uplink.n + i for uplink in core.line.heard[sent:] for i in range(len(uplink.records))}
        assert covered == set(range(1, 21))
        quiet = len(core.line.heard)
        await run_for(core, 60)
        assert len(core.line.heard) == quiet

    run_virtual(story())


def test_a_range_nobody_answers_is_given_up() -> None:
    """Ten tries, then the next thing: an order cannot make a node talk for ever."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        core.line.answer = core.uplink
        core.node.emit(LAMP, 0, [1])
        await run_for(core, 2)
        core.line.answer = None
        sent = len(core.line.heard)
        core.uplink.resend(1, 5)
        await run_for(core, 3600)
        assert len(core.line.heard) - sent == 10

    run_virtual(story())


def test_a_lost_counter_ends_the_sending_not_the_keeping() -> None:
    """No number to sign with: silence, but records go on being kept."""

    async def story() -> None:
        core = Core(FakeFlash())
        assert core.sequence.is_lost
        core.node.emit(LAMP, 0, [1])
        await run_for(core, 5)
        assert core.uplink.is_silenced
        assert core.line.frames == []
        assert core.node.emit(LAMP, 0, [2]) == 2

    run_virtual(story())


def test_a_table_gone_bad_in_ram_is_a_restart_not_silence_for_ever() -> None:
    """A flipped bit in the signer's comb table: no frame leaves, nothing is given up, and the node asks for the start that heals it."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        core.node.emit(LAMP, 0, [1])
        table = bytearray(build_generator_table(5, 2))
        core.identity.signer = Signer(NODE_KEY, table)  # type: ignore[assignment]
        await run_for(core, 1)
        assert len(core.line.frames) == 1
        for at in range(40, len(table), 64):
            table[at] ^= 4
        core.node.emit(LAMP, 0, [2])
        core.uplink.resend(1, 1)
        await run_for(core, 5)
        assert len(core.line.frames) == 1
        assert core.restarts
        assert not core.uplink.is_silenced
        assert core.spool.owed() == 2

    run_virtual(story())


def test_what_the_wire_cannot_carry_is_declared_lost() -> None:
    """A record another firmware left on flash: a gap record instead of a blocked spool."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        core.spool.append(1, UNIX, 0, 1, 0, 4096, 0, [1])
        core.node.emit(LAMP, 0, [5])
        core.line.answer = core.uplink
        await run_for(core, 10)
        assert core.framer.unsendable == 1
        assert core.spool.owed() == 0
        records = [record for uplink in core.line.heard for record in uplink.records]
        gap = next(record for record in records if record[0] == kinds.GAP)
        assert gap[3:7] == [1, 1, 1, kinds.GAP_FLASH_CORRUPT]

    run_virtual(story())


def test_a_lost_spool_does_not_keep_the_uplink_counting() -> None:
    """Sixteen million numbers skipped at once: the gap record is the first thing sent, within the second."""

    async def story() -> None:
        core = Core()
        for copy in ("0", "1"):
            core.flash.files["counters/tx." + copy] = wrap([EPOCH, 250_000])
        for name in [name for name in core.flash.files if name.startswith(("spool/", "head/"))]:
            del core.flash.files[name]
        again = Core(core.flash)
        again.set_clock()
        n = again.node.emit(LAMP, 0, [1])
        assert n > 250_000 * 64
        again.line.answer = again.uplink
        await run_for(again, 2)
        assert again.line.numbers() == [(n, 1), (n - 1, 1)]
        assert again.spool.owed() == 0

    run_virtual(story())


def test_acknowledged_records_of_another_node_move_nothing() -> None:
    """An acknowledgement for numbers never written is refused, and the records are still owed."""

    async def story() -> None:
        core = Core()
        core.node.emit(LAMP, 0, [1])
        with pytest.raises(LocalError):
            core.uplink.acknowledge(frames.Acknowledgement(50, 0, bytes(8), None))
        assert core.spool.owed() == 1
        assert core.uplink.oldest_owed() == 1

    run_virtual(story())


def test_the_cursor_is_kept_and_a_lost_one_costs_a_resend_only() -> None:
    """After a restart nothing acknowledged is sent again; with the cursor file gone it is, under the same numbers."""

    async def story() -> None:
        core = Core()
        core.set_clock()
        core.line.answer = core.uplink
        for value in range(10):
            core.node.emit(LAMP, 0, [value])
        await run_for(core, 301)
        core.spool.save_cursor()
        kept = Core(core.flash)
        await run_for(kept, 5)
        assert kept.line.heard == []
        del core.flash.files["settings/cursor"]
        lost = Core(core.flash)
        await run_for(lost, 5)
        assert lost.line.heard[0].n == 1

    run_virtual(story())
