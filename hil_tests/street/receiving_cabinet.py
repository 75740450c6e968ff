"""The receiving side of a gateway in one process, all real but for the link: receiver, verifier, registry, store, outbox file."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from lamppost_gateway import outbox as outbox_module
from lamppost_gateway.backoff import Backoff
from lamppost_gateway.downlinks import Downlinks
from lamppost_gateway.metrics import Metrics
from lamppost_gateway.outbox import Outbox
from lamppost_gateway.receiver import Receiver
from lamppost_gateway.registry import Registry
from lamppost_gateway.store import Store
from lamppost_gateway.verifier import VerifiedFrame, Verifier
from lamppost_protocol import slip

from street.gateway_rig import NETWORK, City


class MemoryLink:
    """The lowest boundary: a link whose far end is a list."""

    def __init__(self, name: str = "line0") -> None:
        self._name = name
        self.sent: list[bytes] = []
        self.is_up = True
        self.is_paused = False
        self.arrived = asyncio.Event()

    @property
    def name(self) -> str:
        return self._name

    def steps(self, node: int, digest: bytes) -> int | None:
        return None

    def send(self, message_type: int, body: bytes, node: int = 0) -> bool:
        if not self.is_up:
            return False
        assert message_type == slip.FRAME
        self.sent.append(body)
        self.arrived.set()
        return True

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    async def run(self) -> None:
        await asyncio.Event().wait()


class Numbers(Metrics):
    """The real metrics; `value` reads one back."""

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"lamppost_gateway_{name}_total", labels) or 0.0


class Cabinet:
    """Receiver and all below it, real but for the link."""

    def __init__(self, city: City, folder: Path, connector: Any = outbox_module.connect) -> None:
        self.metrics = Numbers()
        self.store = Store(lambda: Outbox(folder / "outbox.db", connector=connector), 5, self.metrics)
        self.registry = Registry(NETWORK, city.folder / "registry.json", city.folder / "hop-keys.json", self.metrics)
        self.registry.load()
        self.downlinks = Downlinks()
        self.verifier = Verifier(self.registry)
        self.receiver = Receiver(self.registry, self.verifier, self.store, self.downlinks, self.metrics, backoff=Backoff(0.01, 0.02))
        self.link = MemoryLink()
        self.downlinks.add_link(self.link)
        self.committed: list[VerifiedFrame] = []
        self.receiver.on_committed.append(self.committed.extend)

    def hear(self, data: bytes, message_type: int = slip.FRAME, link: MemoryLink | None = None, at_ms: int | None = None) -> None:
        self.receiver.heard(link or self.link, message_type, data, int(time.time() * 1000) if at_ms is None else at_ms)

    async def acknowledgement(self, link: MemoryLink | None = None) -> bytes:
        link = link or self.link
        while not link.sent:
            link.arrived.clear()
            await asyncio.wait_for(link.arrived.wait(), 10)
        return link.sent.pop(0)

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not ready():
                await asyncio.sleep(0.005)

    async def rows(self) -> list[Any]:
        return await self.store.read(self.store.outbox.next_backfill, 1 << 60, 0, 100_000)


@contextlib.asynccontextmanager
async def running(cabinet: Cabinet) -> AsyncIterator[Cabinet]:
    await cabinet.store.open()
    await cabinet.receiver.load()
    writer = asyncio.create_task(cabinet.store.run())
    parts = [asyncio.create_task(cabinet.receiver.run()), asyncio.create_task(cabinet.receiver.run_ledger())]
    try:
        yield cabinet
    finally:
        for part in parts:
            part.cancel()
        await asyncio.wait(parts)
        cabinet.store.stop()
        await asyncio.wait_for(writer, 5)
        await cabinet.store.close()
        cabinet.verifier.close()
    assert cabinet.metrics.undeclared == frozenset()


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await story()

    asyncio.run(limited())
