"""Composition root: brings the node up so that the lamp is lit first and nothing that fails later can put it out.

Order: watchdog, lamp outputs to full light, and only then flash. Every step after that may fail alone: no flash, no identity, no
configuration, a fixture that cannot be built. What is left runs; what is missing is said in the log and in the hello.
"""

import asyncio
import gc

from lamppost_protocol import kinds, slip

from lamppost_node import health, identity
from lamppost_node.clock import Clock
from lamppost_node.downlink import TASK as DOWNLINK
from lamppost_node.downlink import Downlink
from lamppost_node.flash import Flash
from lamppost_node.framer import Framer
from lamppost_node.greeter import Greeter
from lamppost_node.links.serial import SerialLink
from lamppost_node.log_lines import LogLines
from lamppost_node.order_ledger import OrderLedger
from lamppost_node.sampler import LEAVING, Sampler
from lamppost_node.sequence_store import SequenceStore
from lamppost_node.services import Services
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_node.supervisor import Supervisor, describe
from lamppost_node.unload import unload
from lamppost_node.uplink import TASK as UPLINK
from lamppost_node.uplink import Uplink
from lamppost_node.version import VERSION_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lamppost_node.board import Board
    from lamppost_node.config import Config, Values
    from lamppost_node.interfaces import Link, Ticks
    from lamppost_node.sleep import Pause

_RECORDS_PER_TX = 64  # limits.MAX_RECORDS: bounds the numbers that a lost spool can have given out
_RESTART_MS = 10_000
_AIR_LIMIT_MS = 600_000  # over the air a frame takes a minute, and a hello before it another
_BITE = "bite"
_TRIAL = "config.trial"  # config.TRIAL_FILE, and that module is not kept to say so
_LINE = "line"


class Node:
    """The running node. `start` builds and starts everything; it never raises for what flash, wiring or configuration contain."""

    def __init__(self, board: "Board", ticks: "Ticks", spool_buffer: bytearray):
        self._board = board
        self._spool_buffer = spool_buffer
        self._log_lines = LogLines()
        self._counters = health.Counters()
        self._watchdog = self._try("watchdog", lambda: board.watchdog(health.WATCHDOG_MS))
        board.release_lamp()
        self._flash = Flash(board.flash_root())
        self._settings = Settings(self._flash)
        for folder in ("", "settings"):
            self._try("flash", lambda folder=folder: self._flash.make_folder(folder))
        #: The sleep that this start ends, None: it is a power-up or a reset.
        self._pause = self._try("sleep", self._take_pause)
        self._guard = health.BootGuard(self._settings, 0 if self._pause is None else self._pause.boots)
        if not self._guard.is_resumed:
            self._pause = None
        self._config = self._load_config()
        values = self._values = self._config.values
        self._clock = Clock(ticks, self._settings, values["drift_ppm"], values["utc_offset_s"], values["dst"])
        if self._is_sleeper:
            self._clock.age_ppm = 2 * values["sleep_drift_ppm"]
        if self._pause is not None:
            self._clock.resume(self._pause.clock, self._pause.passed_ms, values["sleep_drift_ppm"])
        self._watch = health.TaskWatch(self._watchdog, self._clock)
        self._supervisor = Supervisor(self._watch, self._counters, self._log_lines)
        self._identity: identity.Identity | None = None
        self._sequence: SequenceStore | None = None
        self._spool: Spool | None = None
        self._line: SerialLink | None = None
        self._link: Link | None = None
        self._radio_values: Callable[[], list[int | None]] | None = None
        self._fixtures: dict[int, object] = {}
        self._restart = asyncio.Event()
        self._uplink: Uplink | None = None
        self._is_on_trial = False
        self._cause = self._try("reset cause", self._board.reset_cause)
        self._health_due_ms = self._clock.monotonic_ms()
        self._parts: list[tuple[str, Any]] = [("node", self)]

    # -- building --------------------------------------------------------------------------------------------------------------

    def _try(self, what: str, step):  # type: ignore[no-untyped-def]
        """Run one step of the boot; a failure is logged and counted and the boot goes on."""
        try:
            return step()
        except Exception as error:
            self._counters.flash_faults += isinstance(error, OSError)
            self._log_lines.put(describe(what, error))
            return None

    def _load_config(self) -> "Config":
        """The best configuration that can be used. What checks it is not kept: a new one comes once in years."""
        from lamppost_node import config

        found = config.load(self._flash, self._guard.is_safe_mode, is_start=not self._guard.is_resumed)
        self._is_sleeper = config.sleeps(found.values)
        unload("lamppost_node.config")
        return found

    def start(self) -> None:
        """Build what can be built and start its tasks. Must be called inside the running event loop."""
        self._identity = self._try("identity", lambda: identity.load(self._flash, self._board.unit()))
        if self._identity is not None:
            self._sequence = SequenceStore(self._flash, self._identity.epoch)
            self._spool = self._try("spool", self._open_spool)
        # A node that is taken out of service measures on, for its lamp's sake, and keeps nothing new: what it owes comes to an end.
        is_leaving = self._settings.load(LEAVING) == 1
        sampler = Sampler(self._clock, None if is_leaving else self._spool, self._guard.boots, self._counters)
        ledger = None
        if self._identity is not None and self._sequence is not None:
            ledger = OrderLedger(self._flash, self._settings, self._identity.epoch, self._sequence.reserved == 0)
        node = Services(
            self._clock,
            self._settings,
            self._values,
            self._guard.is_safe_mode,
            sampler,
            ledger,
            self._log_lines,
            self._watch,
            self._identity.node if self._identity is not None else 0,
        )
        self._node = node
        self._start_fixtures(node)
        self._line = self._try("line", lambda: SerialLink(self._board.line()))
        if self._line is not None:
            self._supervisor.start("log", self._run_log, None, 0)
        if self._values["bridge"]:
            self._try("bridge", self._start_bridge)
        else:
            # One link: the cable, or where the configuration has a radio the air, and then the cable only carries the log to a technician.
            self._link = self._line if self._values["lora"] is None else self._try("radio", lambda: self._make_link(node))
        if self._link is not None:
            self._start_link(node, sampler, ledger)
        is_linked = self._parts[-1][0] == "hello"  # the last to be built of what needs a link
        if is_linked and self._is_sleeper and not self._guard.is_safe_mode:
            self._try("sleep", lambda: self._start_sleeper(node, sampler))
        self._try(_TRIAL, lambda: self._start_trial(node))
        if self._pause is not None:
            self._board.reset()  # nothing went on as it should: a new start is always right
        if not self._guard.is_resumed:
            self._tell_boot(node)
        self._supervisor.start("health", self._run_health)
        self._supervisor.start("restart", self._run_restart, None, 0)
        _tidy()

    def _open_spool(self) -> Spool:
        if self._identity is None or self._sequence is None:
            raise ValueError("no identity")
        spool = Spool(self._flash, self._settings, self._identity.epoch, self._values["spool_bytes"], self._spool_buffer)
        # A spool that is gone while frames were signed may have given out numbers: none of them may come again.
        reserved = self._sequence.reserved or 0
        spool.open(reserved * _RECORDS_PER_TX + 1)
        return spool

    def _start_fixtures(self, node: Services) -> None:
        for values in self._values["fixtures"]:
            kind, instance = values["kind"], values["instance"]
            if self._guard.is_safe_mode and kind != "lamp":
                continue
            self._try(kind, lambda kind=kind, instance=instance, values=values: self._start_fixture(kind, instance, values, node))

    def _start_fixture(self, kind: str, instance: int, values: "Values", node: Services) -> None:
        gc.collect()
        module = __import__("lamppost_node.fixtures." + kind, None, None, ("PROFILE",))
        fixture = module.build(self._board, values, node, instance)
        name = kind if instance == 0 else kind + "." + str(instance)
        self._fixtures[kinds.kind_of(module.PROFILE, instance)] = fixture
        self._parts.append((name, fixture))
        self._supervisor.start(name, fixture.run, getattr(fixture, "safe", None))

    def _make_link(self, node: Services) -> "Link | None":
        """The link over the air, loaded here, for most nodes have none."""
        if self._identity is None:
            return None
        gc.collect()
        from lamppost_node.radios import make_link

        link = make_link(self._board, self._values, self._clock, self._identity, node)
        self._radio_values = None if link is None else link.values
        return link

    def _start_link(self, node: Services, sampler: Sampler, ledger: OrderLedger | None) -> None:
        link = self._link
        if link is None:
            return
        who, sequence, spool = self._identity, self._sequence, self._spool
        if who is None or sequence is None or spool is None or ledger is None:
            return  # nothing can be signed or verified: the lamp burns, the log says why
        framer = Framer(who, sequence, spool, self._clock, self._guard.boots)
        uplink = self._uplink = Uplink(node, spool, framer, sampler, link, self._values["frame_records"], self._restart.set)
        uplink.is_silenced = sequence.is_lost

        def make_update() -> None:
            """Who brings a release: loaded when one is on its way, given back when that is over."""
            gc.collect()
            from lamppost_node.update import Update

            update = downlink.update = Update(
                node, who, self._flash, spool, uplink, link, self._guard, self._watch, self._counters, self._fixtures, self._restart.set
            )

            async def run() -> None:
                await update.run()
                downlink.update = None
                unload("lamppost_node.update", "lamppost_protocol.release_forms")
                _tidy()

            self._supervisor.start("update", run, None, 0)
            _tidy()

        parts = sequence, spool, self._line, self._health_values, self._config.source
        restart = self._restart.set
        downlink = Downlink(node, who, ledger, uplink, self._fixtures, self._flash, restart, self._counters, make_update, parts)
        self._supervisor.start(UPLINK, uplink.run, None, health.TASK_LIMIT_MS if link is self._line else _AIR_LIMIT_MS)
        self._supervisor.start(DOWNLINK, lambda: link.run_receive(downlink.take, lambda: self._watch.alive(DOWNLINK)))
        line = self._line
        if line is not None and line is not link and not self._is_sleeper:
            # Where the air is the link the cable is a technician's alone; a node that sleeps does not hear him.
            self._supervisor.start(_LINE, lambda: line.run_receive(downlink.take), None, 0)
        values = self._values
        greeter = Greeter(node, who, sequence, spool, uplink, downlink, link, values["hello_s"], values["beacon_s"])
        self._parts.extend((("tx", sequence), ("link", link), (UPLINK, uplink), ("hello", greeter)))
        self._supervisor.start("hello", greeter.run, None, 0)
        if self._flash.size_bytes("update/order"):
            self._try("update", make_update)

    def _take_pause(self) -> "Pause | None":
        if not self._board.is_waking():
            return None
        from lamppost_node.sleep import take_pause

        return take_pause(self._board)

    def _start_sleeper(self, node: Services, sampler: Sampler) -> None:
        """The last of all: whoever goes on after a sleep is there. A node that never sleeps does not load it."""
        from lamppost_node.sleep import Sleeper

        def may_sleep() -> bool:
            is_talking = self._line is not None and self._log_lines.waiting.is_set()
            is_busy = sampler.written.is_set() or self._restart.is_set() or is_talking or self._is_on_trial
            return self._guard.is_confirmed and not is_busy

        head = [VERSION_NUMBER, self._config.digest]
        drift_ppm = self._values["sleep_drift_ppm"]
        sleeper = Sleeper(self._board, self._clock, node.rest, self._guard.boots, head, drift_ppm, self._link, self._parts, may_sleep)
        if self._pause is not None:
            sleeper.resume(self._pause)
            self._pause = None
        self._supervisor.start("sleep", sleeper.run, None, 0)

    def _start_trial(self, node: Services) -> None:
        """A configuration that an order brought, and which has to prove itself: loaded while there is one."""
        if not self._flash.size_bytes(_TRIAL):
            return
        from lamppost_node import trial

        self._is_on_trial = True
        first_n = self._spool.next_n if self._spool is not None else 0

        def is_proven() -> bool:
            """A good minute, every task alive and none failed, every fixture there, and a frame of this start acknowledged."""
            is_whole = len(self._fixtures) == len(self._values["fixtures"]) and not self._counters.task_restarts
            is_well = is_whole and self._guard.is_confirmed and not self._watch.silent()
            return is_well and self._uplink is not None and self._uplink.oldest_owed() > first_n

        async def run() -> None:
            await trial.run(node, self._flash, self._config.source, is_proven, self._restart.set)
            self._is_on_trial = False
            unload("lamppost_node.trial")

        self._supervisor.start(trial.TASK, run, None, 0)

    def _start_bridge(self) -> None:
        """A radio on a gateway's line: no uplink, no downlink, no key. A board that is no bridge does not load it."""
        line = self._line
        if line is None:
            return
        from lamppost_node.bridge import RADIO, STATE, TELL, Bridge
        from lamppost_node.radios import make_radio
        from lamppost_node.version import VERSION

        bridge = Bridge(line, make_radio(self._board, self._values), self._log_lines, VERSION, self._watch.alive)
        self._supervisor.start(TELL, bridge.run_tell, None, 0)
        self._supervisor.start(STATE, bridge.run_state)
        self._supervisor.start(RADIO, bridge.run_radio)
        self._supervisor.start(_LINE, lambda: line.run_receive(bridge.take, lambda: self._watch.alive(_LINE)))

    def _tell_boot(self, node: Services) -> None:
        node.log(
            "boot %d cause %d, configuration %s%s"
            % (
                self._guard.boots,
                self._cause or 0,
                self._config.source,
                ", safe mode" if self._guard.is_safe_mode else "",
            )
        )
        for text in self._config.errors[:8]:
            node.log("configuration: " + text)
        bitten = self._settings.load(_BITE)
        if isinstance(bitten, str) and bitten:
            node.log("watchdog bit because of " + bitten)
            self._settings.is_kept(_BITE, "")
        if self._sequence is not None and self._sequence.is_lost:
            node.log("counter lost: re-key this node")

    # -- tasks -----------------------------------------------------------------------------------------------------------------

    async def run_watchdog(self) -> None:
        """Feed the watchdog while everybody lives; confirm the boot after a good minute. Returns never."""
        is_confirmed = self._guard.is_confirmed
        is_told = False
        while True:
            silent = self._watch.feed_if_well()
            if silent and not is_told:
                is_told = True
                self._settings.is_kept(_BITE, ",".join(silent))
                self._log_lines.put("silent: " + ",".join(silent))
            now_ms = self._clock.monotonic_ms()
            if not is_confirmed and not silent and now_ms >= health.GOOD_MS:
                is_confirmed = True
                self._guard.confirm()
                if not self._counters.task_restarts and self._config.source == "file":
                    self._try("config", self._keep_good)
            if self._guard.is_safe_mode and now_ms >= health.SAFE_MODE_MS:
                self._board.reset()
            self._clock.keep_floor()
            await asyncio.sleep(health.FEED_MS / 1000)

    def _keep_good(self) -> None:
        """The configuration has run for a good minute."""
        from lamppost_node import config

        config.keep_good(self._flash, self._config.digest)
        unload("lamppost_node.config")

    def state(self) -> "list[Any]":
        """What `resume` takes after a deep sleep, of the node's own."""
        return [self._cause, self._health_due_ms, self._counters.state()]

    def resume(self, state: "list[Any]") -> None:
        """Go on: the cause that is told is that of the power-up."""
        self._cause, self._health_due_ms, counters = state
        self._counters.resume(counters)

    async def _run_health(self) -> None:
        period_ms = self._values["health_s"] * 1000
        while True:
            self._watch.alive("health")
            now_ms = self._clock.monotonic_ms()
            if now_ms >= self._health_due_ms:
                self._health_due_ms += period_ms
                self._node.emit(health.NODE_KIND, kinds.GOOD, self._health_values(now_ms))
            self._node.rest.until("health", self._health_due_ms)
            await asyncio.sleep(min(30, max(0, self._health_due_ms - now_ms) / 1000 + 0.01))

    def _health_values(self, now_ms: int) -> list[int | None]:
        heap_free = self._counters.note_heap()
        spool, sequence = self._spool, self._sequence
        faults = self._counters.flash_faults + self._settings.failed + self._settings.corrupt
        return [
            now_ms // 1000,
            self._guard.boots,
            self._cause,
            heap_free,
            self._counters.heap_free_lowest,
            spool.owed() if spool is not None else None,
            spool.capacity_records() if spool is not None else None,
            self._counters.rejects,
            faults + (spool.damaged if spool is not None else 0),
            self._counters.task_restarts,
            health.hello_state(self._guard.is_safe_mode, sequence is not None and sequence.is_lost),
            self._config.digest,
            VERSION_NUMBER,
        ] + ([] if self._radio_values is None else self._radio_values())

    async def _run_log(self) -> None:
        while True:
            line = self._log_lines.take()
            if line is None:
                await self._log_lines.waiting.wait()
            elif self._line is not None:
                await self._line.send(slip.LOG, line)

    async def _run_restart(self) -> None:
        """A new configuration counts from a new start; what it has to say about that goes out first, for at most ten seconds."""
        await self._restart.wait()
        asked_ms = self._clock.monotonic_ms()
        while self._clock.monotonic_ms() - asked_ms < _RESTART_MS:
            if self._spool is None or self._spool.owed() == 0:
                break
            await asyncio.sleep(0.1)
        if self._spool is not None:
            self._spool.save_cursor()
        self._board.reset()


def _tidy() -> None:
    """Collect, and from now on whenever as much was allocated as is free now.

    Arithmetic gives back a part of that by itself, so some of it at the high end is never touched: long-lived objects stay together at the
    low one.
    """
    gc.collect()
    if hasattr(gc, "threshold"):
        gc.threshold(max(8192, gc.mem_free()))


async def run(board: "Board", ticks: "Ticks", spool_buffer: bytearray) -> None:
    """The node, for ever. `spool_buffer`: one flash segment's octets, allocated while the heap was whole."""
    node = Node(board, ticks, spool_buffer)
    node.start()
    await node.run_watchdog()


def main(spool_buffer: bytearray) -> None:
    """Start the node on this board. Ends only by a reset, or an interrupt on the technician's console."""
    import time

    from lamppost_node.board import Board

    board = Board()
    try:
        asyncio.run(run(board, time, spool_buffer))
    except Exception as error:
        # Nothing above may end; when it does, the boot-loop guard decides what comes next.
        board.release_lamp()
        print(describe("node", error))
        board.reset()
