"""One to six boards at once, each in a thread of its own: what stops one does not stop the others."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lamppost_tools.commission.micropython import Interpreters, Reached, Wish, images_of
from lamppost_tools.commission.paper import write_papers
from lamppost_tools.commission.steps import Bench, Order, commission
from lamppost_tools.errors import MissingError, ToolError, UsageError
from lamppost_tools.kit.seal import Kit
from lamppost_tools.node.registry import Registry
from lamppost_tools.technician.settings import Technician

MOST = 6


@dataclass(frozen=True)
class Result:
    """One board: `document` and `papers`, or the `error` that stopped it."""

    order: Order
    document: dict[str, Any] | None = None
    papers: dict[str, str] | None = None
    error: ToolError | None = None

    def shown(self) -> dict[str, Any]:
        """For machines."""
        if self.error is not None:
            said = {"error": self.error.what, "next_step": self.error.next_step or None}
            return {"asset": self.order.asset, "port": self.order.port, "verdict": "refused", **said}
        assert self.document is not None
        return {"port": self.order.port, "verdict": "commissioned", **self.document, **(self.papers or {})}


def commission_all(bench: Bench, orders: Sequence[Order]) -> list[Result]:
    """Commission all; results in the given order. What is no ToolError is a mistake of ours and is raised when all have ended."""
    private_key = bench.technician.private_key()  # before anything is done to any board
    with ThreadPoolExecutor(MOST, thread_name_prefix="board") as pool:
        running = [pool.submit(commission, bench, order) for order in orders]
    return [_result(bench, order, done, private_key) for order, done in zip(orders, running, strict=True)]


def _result(bench: Bench, order: Order, done: "Future[Any]", private_key: bytes) -> Result:
    try:
        document = done.result().document
    except ToolError as error:
        return Result(order, error=error)
    bench.tell(order, "paper", document["node"])
    return Result(order, document, write_papers(bench.technician.folder, document, private_key))


@dataclass(frozen=True)
class Flashed:
    """One board: what is `reached`, already left again, or the `error` that stopped it."""

    port: str
    reached: Reached | None = None
    error: ToolError | None = None

    def shown(self) -> dict[str, Any]:
        """For machines."""
        if self.reached is None:
            assert self.error is not None
            return {"port": self.port, "verdict": "refused", "error": self.error.what, "next_step": self.error.next_step or None}
        seen = self.reached.seen
        about = {"unit": seen.unit, "machine": seen.machine, "micropython": seen.micropython, "not_done": list(self.reached.left)}
        return {"port": self.port, "verdict": "at its prompt", **about, "pieces_written": self.reached.written}


def flash_all(technician: Technician, kit: Kit, ports: Sequence[str], wish: Wish, tell: Callable[[str], None]) -> list[Flashed]:
    """The kit's interpreter on each board, and nothing else; results in the given order. Raises UsageError, MissingError."""
    if len(ports) > MOST or len(set(ports)) != len(ports):
        raise UsageError(f"at most {MOST} boards at once, each with its own --port", "see `lamppost flash --help`")
    images = images_of(kit)
    if not images:
        raise MissingError("the kit has no MicroPython", "lamppost kit build --image makes one that has")
    registry = Registry(technician.registry)

    def registered() -> dict[str, Any]:
        return registry.nodes() if registry.path.exists() else {}

    def flash(port: str) -> Flashed:
        network, journals = technician.authority.network, technician.folder / "journals"
        try:
            reached = Interpreters(images, journals, network, registered, time.time, lambda text: tell(f"{port}: {text}")).reach(port, wish)
        except ToolError as error:
            return Flashed(port, error=error)
        reached.journal.note("done")
        reached.board.close()
        return Flashed(port, reached)

    with ThreadPoolExecutor(MOST, thread_name_prefix="board") as pool:
        return list(pool.map(flash, ports))
