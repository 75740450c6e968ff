"""A node in lock-step that is updated: releases for it, what is on its flash, and time passing across starts and power cuts."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.lock_step import LockStepBoard
from bench.rom_image import ROM_FOLDER
from lamppost_protocol import orders
from lamppost_protocol.order_words import REASONS
from littlefs import LittleFS, UserContext

from street.lone_node import LIBRARY, NETWORK, ROM_LIBRARY, LoneNode
from street.node_device import STATE
from street.release import Changes, base_of, body_of

START_UNIX = 1_805_112_000
CONFIG = {"network": NETWORK, "report_s": 60, "health_s": 30, "fixtures": [{"kind": "lamp", "instance": 0}]}
_BLOCK_BYTES, _BLOCKS, _PAGE_BYTES = 4096, 512, 256
_STEP_S = 1.0
STATES = {orders.ACCEPTED: "accepted", orders.APPLIED: "applied", orders.VERIFIED: "verified", orders.REVERTED: "reverted",
          orders.EXPIRED: "expired", orders.REFUSED: "refused"}  # fmt: skip


def told(state: int, reason: int) -> str:
    """What a node said of an order: `accepted`, or `refused wrong_base`."""
    return f"{STATES[state]} {REASONS[reason]}".strip()


def flash_of(board: LockStepBoard) -> LittleFS:
    """Its file system as it is at this instant: a copy."""
    context = UserContext(buffer=bytearray(board.flash.read_bytes()[: _BLOCKS * _BLOCK_BYTES]))
    return LittleFS(context=context, block_size=_BLOCK_BYTES, block_count=_BLOCKS, read_size=_PAGE_BYTES, prog_size=_PAGE_BYTES)


def boot_record(board: LockStepBoard) -> tuple[int, int, int]:
    """(confirmed slot, slot on trial, starts of it)."""
    try:
        with flash_of(board).open(f"{STATE}/update/boot", "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return 0, 0, 0
    return data[4], data[5], data[6]


class UpdatedNode(LoneNode):
    """A node with a lamp; its power comes back a second after it went."""

    def __init__(
        self,
        folder: Path,
        image: Mapping[str, bytes],
        seed: int,
        config: Mapping[str, Any] = CONFIG,
        wiring: str = "lamp",
        on_vm: bool = True,
    ) -> None:
        super().__init__(folder / "node", image, config, wiring, START_UNIX, seed, on_vm=on_vm)
        self._folder = folder
        self.base = base_of(image, ROM_LIBRARY if any(path.startswith(ROM_FOLDER) for path in image) else LIBRARY)
        self.cuts = 0
        self.last_order = 0

    def run(self, seconds: float) -> None:
        """So much of the world's time, whatever happens to the power."""
        end_s = self.board.now_s + seconds
        while self.board.now_s < end_s:
            if not self.board.run(min(end_s, self.board.now_s + _STEP_S)):
                self.cuts += 1
                self.board.wait(1)
                self.board.power_on()

    def until(self, condition: Callable[[], object], deadline_s: float, what: str) -> None:
        """Until it holds; fails naming `what` after `deadline_s` of the world."""
        end_s = self.board.now_s + deadline_s
        while not condition():
            assert self.board.now_s < end_s, f"no {what}\n{self.city.logs[-12:]}\n{self.board.describe(what)}"
            self.run(_STEP_S)

    def begin(self) -> None:
        """Power, the time, a good minute."""
        self.board.power_on()
        self.until(lambda: self.city.hellos and self.city.beacons, 60, "hello")
        self.run(70)

    def body(self, name: str, changes: Changes) -> bytes:
        """A release's body; `name` once for one content."""
        return body_of(self._folder / name, changes)

    def order(self, body: bytes, sequence: int, life_s: int = 3600, version: str = "0.2.0", **manifest: Any) -> int:
        """Order that release; the order's id."""
        base = manifest.pop("base", self.base)
        data = self.city.release(body, base, sequence, version, **manifest)
        now = int(self.city.unix(self.board.now_s))
        self.last_order = self.city.order(self.board.now_s, orders.UPDATE, 0, [data], (now - 10, now + life_s))
        return self.last_order

    def states(self, order_id: int) -> list[str]:
        """What it said of an order: `accepted`, or `refused wrong_base`."""
        return [told(state, reason) for state, reason in self.city.states(order_id)]

    def until_told(self, order_id: int, state: str, deadline_s: float = 600) -> None:
        """Until it said this of an order."""
        self.until(lambda: state in self.states(order_id), deadline_s, f"{state}, only {self.states(order_id)}")

    def until_up(self, firmware: str, deadline_s: float = 60) -> None:
        """Until its last hello says this."""
        self.until(lambda: self.city.hellos[-1][1].firmware == firmware, deadline_s, f"hello of {firmware}")

    def start_anew(self, firmware: str) -> None:
        """Power off and on again; its hello must then say this."""
        if self.board.is_running:
            self.board.cut_power()
        self.board.wait(1)
        heard = len(self.city.hellos)
        self.board.power_on()
        self.until(lambda: len(self.city.hellos) > heard, 60, "hello")
        assert self.city.hellos[-1][1].firmware == firmware

    def flash(self) -> LittleFS:
        """Its file system as it is at this instant: a copy."""
        return flash_of(self.board)

    def boot_record(self) -> tuple[int, int, int]:
        """(confirmed slot, slot on trial, starts of it)."""
        return boot_record(self.board)

    def change_flash(self, change: Callable[[LittleFS], None]) -> None:
        """What nobody but a broken chip does; while it has no power."""
        assert not self.board.is_running
        system = self.flash()
        change(system)
        with self.board.flash.open("r+b") as file:
            file.write(bytes(system.context.buffer))
