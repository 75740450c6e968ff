"""Composition root: brings the node up so that the lamp is lit first and nothing that fails later can put it out.

Order: watchdog, lamp outputs to full light, and only then flash. Every step after that may fail alone: no flash, no identity, no
configuration, a fixture that cannot be built. What is left runs; what is missing is said in the log and in the hello.
"""

import asyncio
import gc
import os

from lamppost_protocol import hello, kinds, slip

from lamppost_node import config, health, identity
from lamppost_node.clock import Clock
from lamppost_node.downlink import TASK as DOWNLINK
from lamppost_node.downlink import Downlink
from lamppost_node.flash import Flash
from lamppost_node.framer import Framer
from lamppost_node.links.serial import SerialLink
from lamppost_node.log_lines import LogLines
from lamppost_node.order_ledger import OrderLedger
from lamppost_node.sampler import Sampler
from lamppost_node.sequence_store import SequenceStore
from lamppost_node.services import Services
from lamppost_node.settings import Settings
from lamppost_node.spool import Spool
from lamppost_node.supervisor import Supervisor, describe
from lamppost_node.uplink import TASK as UPLINK
from lamppost_node.uplink import Uplink
from lamppost_node.version import VERSION, VERSION_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamppost_node.board import Board
    from lamppost_node.interfaces import Module, Ticks

_RECORDS_PER_TX = 64  # limits.MAX_RECORDS: bounds the numbers that a lost spool can have given out
_FIRST_HELLO_S = 5
_RESTART_MS = 10_000
_BITE = "bite"


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
        self._guard = health.BootGuard(self._settings)
        self._modules: dict[str, Module | None] = {}
        self._config = config.load(self._flash, self._keys_of, self._guard.is_safe_mode)
        values = self._config.values
        self._values = values
        self._clock = Clock(ticks, self._settings, values["drift_ppm"], values["utc_offset_s"], values["dst"])
        self._watch = health.TaskWatch(self._watchdog, self._clock)
        self._supervisor = Supervisor(self._watch, self._counters, self._log_lines)
        self._identity: identity.Identity | None = None
        self._sequence: SequenceStore | None = None
        self._spool: Spool | None = None
        self._uplink: Uplink | None = None
        self._downlink: Downlink | None = None
        self._link: SerialLink | None = None
        self._fixtures: dict[int, object] = {}
        self._restart = asyncio.Event()

    # -- building --------------------------------------------------------------------------------------------------------------

    def _try(self, what: str, step):  # type: ignore[no-untyped-def]
        """Run one step of the boot; a failure is logged and counted and the boot goes on."""
        try:
            return step()
        except Exception as error:
            self._counters.flash_faults += isinstance(error, OSError)
            self._log_lines.put(describe(what, error))
            return None

    def _module(self, kind: str) -> "Module | None":
        if kind not in self._modules:
            gc.collect()
            name = "lamppost_node.fixtures." + kind
            is_name = kind.replace("_", "").isalpha()
            self._modules[kind] = self._try(kind, lambda: __import__(name, None, None, ("PROFILE",))) if is_name else None
        return self._modules[kind]

    def _keys_of(self, kind: str) -> "config.Keys | None":
        """A fixture's declared configuration keys; None for a kind this firmware has no file for."""
        module = self._module(kind)
        return None if module is None else getattr(module, "KEYS", ())

    def start(self) -> None:
        """Build what can be built and start its tasks. Must be called inside the running event loop."""
        self._identity = self._try("identity", lambda: identity.load(self._flash))
        if self._identity is not None:
            self._sequence = SequenceStore(self._flash, self._identity.epoch)
            self._spool = self._try("spool", self._open_spool)
        sampler = Sampler(self._clock, self._spool, self._guard.boots, self._counters)
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
        self._link = self._try("line", lambda: SerialLink(self._board.line()))
        if self._link is not None:
            self._start_link(node, sampler, ledger)
        self._tell_boot(node)
        self._supervisor.start("health", self._run_health)
        self._supervisor.start("restart", self._run_restart, None, 0)
        gc.collect()
        if hasattr(gc, "threshold"):
            # Collect when as much was allocated as is free. Arithmetic gives back a part of that by itself, so some of it at the high end
            # is never touched: long-lived objects stay together at the low one.
            gc.threshold(max(8192, gc.mem_free()))

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

    def _start_fixture(self, kind: str, instance: int, values: "config.Values", node: Services) -> None:
        module = self._module(kind)
        if module is None:
            return
        fixture = module.build(self._board, values, node, instance)
        name = kind if instance == 0 else kind + "." + str(instance)
        self._fixtures[kinds.kind_of(module.PROFILE, instance)] = fixture
        self._supervisor.start(name, fixture.run, getattr(fixture, "safe", None))

    def _start_link(self, node: Services, sampler: Sampler, ledger: OrderLedger | None) -> None:
        link = self._link
        if link is None:
            return
        self._supervisor.start("log", self._run_log, None, 0)
        who, sequence, spool = self._identity, self._sequence, self._spool
        if who is None or sequence is None or spool is None or ledger is None:
            return  # nothing can be signed or verified: the lamp burns, the log says why
        framer = Framer(who, sequence, spool, self._clock, self._guard.boots)
        uplink = Uplink(node, spool, framer, sampler, link, self._values["frame_records"], self._restart.set)
        uplink.is_silenced = sequence.is_lost
        downlink = Downlink(node, who, ledger, uplink, self._fixtures, self._flash, self._keys_of, self._restart.set, self._counters)
        self._uplink, self._downlink = uplink, downlink
        self._supervisor.start(UPLINK, uplink.run)
        self._supervisor.start(DOWNLINK, lambda: link.run_receive(downlink.take, lambda: self._watch.alive(DOWNLINK)))
        self._supervisor.start("hello", self._run_hello, None, 0)

    def _tell_boot(self, node: Services) -> None:
        node.log(
            "boot %d cause %d, configuration %s%s"
            % (
                self._guard.boots,
                self._try("reset cause", self._board.reset_cause) or 0,
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
        is_confirmed = False
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
                    self._try("config", lambda: config.keep_good(self._flash, self._config.digest))
            if self._guard.is_safe_mode and now_ms >= health.SAFE_MODE_MS:
                self._board.reset()
            self._clock.keep_floor()
            await asyncio.sleep(health.FEED_MS / 1000)

    async def _run_health(self) -> None:
        period_ms = self._values["health_s"] * 1000
        due_ms = self._clock.monotonic_ms()
        cause = self._try("reset cause", self._board.reset_cause)
        while True:
            self._watch.alive("health")
            now_ms = self._clock.monotonic_ms()
            if now_ms >= due_ms:
                due_ms += period_ms
                self._node.emit(health.NODE_KIND, kinds.GOOD, self._health_values(now_ms, cause))
            await asyncio.sleep(min(5, max(0, due_ms - now_ms) / 1000 + 0.01))

    def _health_values(self, now_ms: int, cause: int | None) -> list[int | None]:
        heap_free = self._counters.note_heap()
        spool, sequence = self._spool, self._sequence
        faults = self._counters.flash_faults + self._settings.failed + self._settings.corrupt
        return [
            now_ms // 1000,
            self._guard.boots,
            cause,
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
        ]

    async def _run_hello(self) -> None:
        """Say who is on the line and ask for the time: soon and often while it is unknown, else every `beacon_s`."""
        wait_s = _FIRST_HELLO_S
        while True:
            await self._send_hello()
            beacon_s = self._values["beacon_s"]
            beacon_ms = self._clock.beacon_ms
            if self._downlink is not None:
                self._downlink.time_set.clear()
                try:
                    await asyncio.wait_for(self._downlink.time_set.wait(), wait_s)
                except asyncio.TimeoutError:
                    pass
            wait_s = min(2 * wait_s, self._values["hello_s"])
            if self._clock.beacon_ms != beacon_ms:
                wait_s = _FIRST_HELLO_S
                await asyncio.sleep(beacon_s)

    async def _send_hello(self) -> None:
        who, spool, link, sequence = self._identity, self._spool, self._link, self._sequence
        if who is None or spool is None or link is None or sequence is None or self._uplink is None:
            return
        state = health.hello_state(self._guard.is_safe_mode, sequence.is_lost)
        nonce = self._clock.make_nonce(os.urandom(8))
        body = hello.encode_hello(
            hello.Hello(who.network, who.node, who.epoch, state, nonce, self._uplink.oldest_owed(), spool.next_n, VERSION)
        )
        await link.send(slip.HELLO, body)

    async def _run_log(self) -> None:
        while True:
            line = self._log_lines.take()
            if line is None:
                await self._log_lines.waiting.wait()
            elif self._link is not None:
                await self._link.send(slip.LOG, line)

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
