"""The composition root: builds every part, runs them in one task group, ends them in order.

On SIGTERM or SIGINT the links close first, then everything that reads the store, then the store after its last commit:
what was not acknowledged by then stays with the nodes. SIGHUP reads the registry again. A part that fails is logged,
counted and started again; only the writer of the store takes the program down, for systemd to start it anew.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path

from lamppost_gateway import systemd
from lamppost_gateway.air import Air
from lamppost_gateway.airtime_accounts import FILE as AIRTIME_FILE
from lamppost_gateway.airtime_accounts import AirtimeAccounts
from lamppost_gateway.backoff import Backoff
from lamppost_gateway.config import Config
from lamppost_gateway.config_air import AirConfig, ModemConfig
from lamppost_gateway.downlinks import Downlinks
from lamppost_gateway.errors import GatewayError, OutboxError, RegistryError
from lamppost_gateway.links.base import Listener
from lamppost_gateway.links.bridge import BridgeModem
from lamppost_gateway.links.forwarder import ForwarderModem
from lamppost_gateway.links.modem import Modem
from lamppost_gateway.links.serial import SerialLink
from lamppost_gateway.log import event, room
from lamppost_gateway.metrics import Metrics
from lamppost_gateway.orders import Orders
from lamppost_gateway.outbox import Outbox
from lamppost_gateway.publisher import Publisher
from lamppost_gateway.receiver import Receiver
from lamppost_gateway.registry import Registry
from lamppost_gateway.release_store import FOLDER as RELEASES_FOLDER
from lamppost_gateway.release_store import ReleaseStore
from lamppost_gateway.releases import Releases
from lamppost_gateway.snapshot import Snapshot
from lamppost_gateway.status import StatusServer
from lamppost_gateway.store import Store
from lamppost_gateway.verifier import Verifier

_HOUSEKEEPING_S = 10.0
_REGISTRY_S = 1.0
_STOP_PARTS_S = 2.5  # together below the 5 s in which the gateway promises to be gone
_STOP_STORE_S = 2.0
_CANCELS = 3  # far enough apart for a goodbye to the broker

_log = room("daemon")


class AlreadyRunningError(GatewayError):
    """Another gateway holds this state folder."""


class DiskStuckError(GatewayError):
    """The disk did not answer before the deadline of stopping; the process must end without waiting for it."""


class Gateway:
    """One gateway process. `run` returns after `stop`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stop = asyncio.Event()
        self._lock_fd = -1
        self.is_ready = asyncio.Event()

    def stop(self) -> None:
        """End `run` in order."""
        self._stop.set()

    async def run(self) -> None:
        """Run until `stop`. Raises GatewayError when it cannot start, OutboxError when the store is beyond repair."""
        self._lock()
        try:
            await self._run()
        finally:
            os.close(self._lock_fd)

    def _lock(self) -> None:
        state_dir = self._config.gateway.state_dir
        try:
            state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._lock_fd = os.open(state_dir / "gateway.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise GatewayError(f"{state_dir}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock_fd)
            raise AlreadyRunningError(f"{state_dir} is in use by another gateway; stop that one first") from None

    async def _run(self) -> None:
        config = self._config
        self._metrics = metrics = Metrics()
        self._store = store = Store(
            lambda: Outbox(
                config.outbox_path,
                limit_bytes=config.outbox.max_mb * 1_000_000,
                reject_limit=config.rejects.keep_count,
            ),
            config.outbox.commit_window_ms,
            metrics,
        )
        await store.open()
        self._registry = registry = Registry(config.gateway.network, config.gateway.registry, config.gateway.hop_keys, metrics)
        self._load_registry()
        downlinks = Downlinks()
        verifier = Verifier(registry)
        receiver = Receiver(registry, verifier, store, downlinks, metrics, config.outbox.late_s)
        await receiver.load()
        links = [SerialLink(link.name, link.path, link.baud, receiver, metrics) for link in config.links]
        for link in links:
            downlinks.add_link(link)
        air, modems = (None, []) if config.air is None else self._open_air(config.air, receiver)
        if air is not None:
            downlinks.add_link(air)
        orders = Orders(config, store, downlinks, registry, metrics)
        releases = Releases(ReleaseStore(config.gateway.state_dir / RELEASES_FOLDER), orders, downlinks, metrics)
        releases.load()
        publisher = Publisher(config, store, registry, metrics, orders, downlinks, releases)
        receiver.on_committed += [orders.frames_committed, publisher.frames_committed]
        receiver.unsigned.on_hello += [orders.hello_heard, publisher.hello_heard]
        receiver.unsigned.on_log.append(publisher.node_log)
        receiver.unsigned.on_want.append(releases.want_heard)
        receiver.on_reject.append(publisher.rejected)
        snapshot = Snapshot(config, program_version(), store, registry, downlinks, publisher, releases, air)
        status = StatusServer(config.status.socket, {**snapshot.answers(), "resync": publisher.resync})
        self._on_signals()
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(store.run(), name="store")
                parts = [
                    group.create_task(self._supervised(name, run), name=name)
                    for name, run in (
                        *((f"link_{link.name}", link.run) for link in links),
                        *((f"modem_{modem.name}", modem.run) for modem in modems),
                        ("receiver", receiver.run),
                        ("reject_ledger", receiver.run_ledger),
                        ("orders", orders.run),
                        ("publisher", publisher.run),
                        ("metrics", lambda: metrics.run(config.metrics)),
                        ("status", status.run),
                        ("housekeeping", self._run_housekeeping),
                        ("registry", self._run_registry),
                        ("watchdog", self._run_watchdog),
                    )
                ]
                await asyncio.sleep(0)  # every link has tried its port once
                event(_log, logging.INFO, "started", gateway=config.gateway.id, links=len(links), pid=os.getpid())
                systemd.notify("READY=1")
                self.is_ready.set()
                await self._stop.wait()
                systemd.notify("STOPPING=1")
                await end_tasks(parts, _STOP_PARTS_S)
                store.stop()
                await asyncio.wait([writer], timeout=_STOP_STORE_S)
                is_stuck = not writer.done()
                writer.cancel()
            if is_stuck:
                raise DiskStuckError("the disk does not answer; what was not acknowledged stays on the nodes")
            await store.close()
        finally:
            verifier.close()
        event(_log, logging.INFO, "stopped", gateway=config.gateway.id)

    def _open_air(self, config: AirConfig, receiver: Listener) -> tuple[Air, list[Modem]]:
        names = [modem.name for modem in config.modem]
        accounts = AirtimeAccounts(self._config.gateway.state_dir / AIRTIME_FILE, config.band, names)
        air = Air(config, self._registry, receiver, accounts, self._metrics)
        modems = [self._modem(config, modem, air) for modem in config.modem]
        for modem in modems:
            air.add_modem(modem)
        return air, modems

    def _modem(self, config: AirConfig, modem: ModemConfig, air: Air) -> Modem:
        if modem.path is not None:
            return BridgeModem(modem.name, modem.path, modem.baud, config.listen_of(modem), air, self._metrics)
        eui = None if modem.eui is None else bytes.fromhex(modem.eui)
        return ForwarderModem(modem.name, modem.host, modem.port, modem.addresses, eui, air, self._metrics)

    def _load_registry(self) -> None:
        try:
            self._registry.load()
        except RegistryError as error:
            # not fatal: a gateway that is up can be told, and every frame it refuses stays on its node
            event(_log, logging.ERROR, "registry_unusable", reason=error, advice="no frame is accepted until it is mended")

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._registry.refresh(force=True))

    async def _supervised(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(0.5, 30.0)
        while True:
            started_s = time.monotonic()
            try:
                await run()
                return
            except Exception as error:
                self._metrics.count("task_restarts", task=name.partition("_")[0])
                event(_log, logging.ERROR, "task_failed", task=name, error=f"{type(error).__name__}: {error}")
                _log.debug("traceback", exc_info=True)
            if time.monotonic() - started_s > 60:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    async def _run_registry(self) -> None:
        while True:
            await asyncio.sleep(_REGISTRY_S)
            self._registry.refresh()

    async def _run_housekeeping(self) -> None:
        outbox, config = self._store.outbox, self._config
        retention_ms = config.outbox.retention_h * 3_600_000
        reject_keep_ms = config.rejects.keep_days * 86_400_000
        while True:
            now_ms = time.time_ns() // 1_000_000
            try:
                await self._store.write(outbox.prune, now_ms, retention_ms, reject_keep_ms, lazy=True)
                is_more = True
                while is_more:
                    lost, is_more = await self._store.write(outbox.enforce_budget, now_ms, lazy=True)
                    if lost:
                        self._metrics.count("records_lost", lost, reason="disk_budget")
                        event(_log, logging.WARNING, "history_thinned", records=lost)
            except OutboxError:
                pass  # the store has said so; the next round tries again
            await asyncio.sleep(_HOUSEKEEPING_S)

    async def _run_watchdog(self) -> None:
        pause_s = systemd.watchdog_s()
        if pause_s is None:
            return
        while True:
            try:
                await self._store.read(int)  # the writer thread answers: a hung disk must not look alive
            except OutboxError:
                pass  # an answer too
            systemd.notify("WATCHDOG=1")
            await asyncio.sleep(pause_s)


async def end_tasks(tasks: list[asyncio.Task[None]], limit_s: float) -> None:
    """Cancel tasks within `limit_s`, more than once: Python 3.11's `wait_for`, in aiomqtt, may swallow one (CPython #86296)."""
    late = set(tasks)
    for _ in range(_CANCELS):
        for task in late:
            task.cancel()
        _, late = await asyncio.wait(late, timeout=limit_s / _CANCELS)
        if not late:
            return
    for task in late:
        event(_log, logging.WARNING, "task_late", task=task.get_name())


def program_version() -> str:
    """The installed program's version."""
    try:
        return metadata.version("lamppost")
    except metadata.PackageNotFoundError:
        return "unknown"


def check_files(config: Config) -> list[str]:
    """What is wrong with the files a configuration names; for `lamppost-gateway check`. Opens no port."""
    problems = []
    try:
        Registry(config.gateway.network, config.gateway.registry, config.gateway.hop_keys, _Silent()).load()
    except RegistryError as error:
        problems.append(f"registry: {error}")
    for path in (config.broker.ca, config.broker.cert):
        if path is not None and not path.is_file():
            problems.append(f"broker: {path} is missing")
    if not _is_writable(config.gateway.state_dir):
        problems.append(f"state_dir: {config.gateway.state_dir} cannot be written")
    return problems


def _is_writable(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


class _Silent:
    def count(self, name: str, amount: int = 1, **labels: str) -> None: ...

    def gauge(self, name: str, value: float, **labels: str) -> None: ...

    def observe(self, name: str, value: float) -> None: ...
