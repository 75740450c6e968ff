"""A technician at a node's console after its commissioning: whose node it is, and proof of that, before anything is done to it.

Interrupted is the node for as long as the visit lasts, lit; whatever ends the visit before its end, the board is reset and goes on as the
node that it is then.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from lamppost_tools.board.repl import Board, reopened
from lamppost_tools.commission.journal import Journal
from lamppost_tools.commission.lock import has_prompt
from lamppost_tools.commission.look import forgive_interruption, has_key, identity_on, look
from lamppost_tools.errors import RefusedError, ToolError
from lamppost_tools.node.enrol import IDENTITY, KeySource
from lamppost_tools.node.registry import Registry, valid_keys
from lamppost_tools.technician.settings import Technician

_HAS = """try:
    from lamppost_node import {module}
    print(True)
except ImportError:
    print(False)
"""


@dataclass(frozen=True)
class Desk:
    """What the technician has with him. `tell(step, detail)` hears of progress; `gateway_s`: how long a gateway is waited for;
    `boot_s`: how long a board that was reset is listened to.
    """

    technician: Technician
    registry: Registry
    keys: KeySource
    gateway_status: Path | None
    tell: Callable[[str, str], None]
    gateway_s: float = 60.0
    boot_s: float = 3.0
    now: Callable[[], float] = time.time


class Visit:
    """A context manager: the board behind `port` in its raw REPL, said to be `node` of the registry; `entry` is what that says."""

    def __init__(self, desk: Desk, port: str, node: int) -> None:
        """Raises RefusedError for a node that the registry does not know, MissingError without a registry or a port."""
        self.desk = desk
        self.port = port
        self.node = node
        self.name = f"{node:08x}"
        nodes = desk.registry.nodes()
        if self.name not in nodes:
            raise RefusedError(f"{desk.registry.path} knows no node {self.name}", "`lamppost node list` shows who is known")
        self.entry: dict[str, Any] = nodes[self.name]
        self.board = Board(port)
        self._is_left = False

    def __enter__(self) -> "Visit":
        try:
            self.desk.tell("look", "waiting for the board")
            self.board.enter()
            self.seen = look(self.board)
            self.journal = Journal(self.desk.technician.folder / "journals", self.seen.unit, self.desk.now)
        except BaseException:
            self.board.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._is_left:
            with suppress(ToolError):
                self.board.reset()
        self.board.close()

    def found(self, file: str = IDENTITY) -> dict[str, Any]:
        """What the board says of itself, as `identity_on` tells it. Raises RefusedError for another network's, another node's, a copy."""
        found = identity_on(self.board, file)
        if found["state"] != "there":
            return found
        network = self.desk.technician.authority.network
        if found["network"] != network:
            raise RefusedError(
                f"{self.port}: the board is node {found['node']:08x} of network {found['network']:08x}, yours is {network:08x}",
                "it belongs to another city: leave it alone, or give it back",
            )
        if found["node"] != self.node:
            raise RefusedError(
                f"{self.port}: the board is node {found['node']:08x}, not {self.name}", "take the other board, or name this one"
            )
        if found["unit"] and found["unit"] != self.seen.unit:
            raise RefusedError(
                f"{self.port}: the flash of this board was copied from chip {found['unit']}, this is {self.seen.unit}",
                "erase it (lamppost flash --erase); the board that really is this node is not harmed unless both were in the street",
            )
        return found

    def proven(self) -> dict[str, Any]:
        """The same of a board that has signed with a key which the registry holds valid for its epoch. Raises RefusedError."""
        found = self.found()
        if found["state"] != "there":
            raise RefusedError(
                f"{self.port}: the board holds no identity that can be read ({found['state']})",
                f"it cannot prove that it is node {self.name}: lamppost commission --replaces {self.name} makes another board of it",
            )
        keys = valid_keys(self.entry)
        if found["epoch"] not in keys:
            raise RefusedError(
                f"{self.port}: the board has keys of epoch {found['epoch']}, the registry knows node {self.name} in "
                f"{' and '.join(str(epoch) for epoch in sorted(keys))}",
                f"its flash or the registry is an old copy: give the newest registry, or commission --replaces {self.name} another board",
            )
        self.prove(keys[found["epoch"]])
        return found

    def prove(self, public_key: str, file: str = IDENTITY) -> None:
        """Raises RefusedError unless the board signs with the private key of this public one (hex)."""
        if not has_key(self.board, bytes.fromhex(public_key), file):
            raise RefusedError(
                f"{self.port}: the board says that it is node {self.name}, but does not hold its key",
                f"somebody has tampered with it: keep it aside; lamppost node revoke {self.name}",
            )

    def require(self, module: str) -> None:
        """Raises RefusedError when the board's firmware is from before it had this part."""
        if self.board.exec(_HAS.format(module=module)).strip() != "True":
            raise RefusedError(
                f"{self.port}: the firmware of node {self.name} is too old for this: it has no lamppost_node.{module}",
                f"give it the kit's first: lamppost commission --asset {self.entry.get('asset')!r}",
            )

    def feed(self) -> None:
        """Keep the watchdog of the node that was interrupted from biting."""
        if self.seen.feed:
            self.board.exec(self.seen.feed)

    def restart(self) -> float:
        """Let the board run; unix s of its start. Raises RefusedError when it is back at a prompt."""
        if self.seen.feed:
            forgive_interruption(self.board)
        self.board.reset()
        started_s = self.desk.now()
        self._is_left = True
        self.board = reopened(self.port)
        if has_prompt(self.board, self.desk.boot_s):
            raise RefusedError(
                f"{self.port}: the node does not stay up: the board is back at a prompt",
                "repeat the command; if it fails again: mpremote connect PORT resume exec 'import main' shows why",
            )
        return started_s

    def enter_again(self) -> None:
        """Interrupt the board once more after `restart`."""
        self.board.enter()
        self._is_left = False

    def leave(self) -> None:
        """The board stays as it is, at its prompt."""
        self._is_left = True
