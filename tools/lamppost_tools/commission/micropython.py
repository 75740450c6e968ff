"""The interpreter of one board: the kit's is written where there is none, where another one is, or where that was asked for.

A board that answers at its prompt is looked at first, and what is a node stays as it is unless somebody says so. One that does not is asked
through its chip's own loader. Written over without a word is only what is empty, or what this chip's journal says that we began to write;
anything else may be somebody's program. What is left to do the flash tells: its pieces are compared and only those that differ are written.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamppost_tools.board.flasher import HOLD_BOOT, SECTOR_BYTES, Flasher, NoLoaderError, opened
from lamppost_tools.board.repl import Board, reopened
from lamppost_tools.commission.journal import Journal
from lamppost_tools.commission.look import Seen, identity_on, look
from lamppost_tools.errors import DeadlineError, RefusedError, ToolError
from lamppost_tools.kit.esp_image import flash_bytes_needed
from lamppost_tools.kit.seal import Kit

_FIRST_LOOK_S = 3.0  # then the loader is asked; a board whose program it does not know gets its whole time after that
_FIRST_START_S = 10.0  # a new interpreter makes its file system, and may not be interrupted in that


@dataclass(frozen=True)
class Wish:
    """What was asked for. `erases`: id of the node that the board may be, and no longer is then. `is_updating`: also on a node."""

    is_erasing: bool = False
    erases: str | None = None
    is_updating: bool = False


NO_WISH = Wish()


@dataclass(frozen=True)
class Image:
    """An interpreter of a kit. `build`: its version and date, None where it does not tell."""

    name: str
    chip: str
    flash_offset: int
    build: str | None
    data: bytes


def images_of(kit: Kit) -> dict[str, Image]:
    """A kit's interpreters by chip."""
    return {
        about["chip"]: Image(about["file"], about["chip"], about["flash_offset"], about.get("micropython"), kit.files[about["file"]])
        for about in kit.manifest.get("images", ())
    }


@dataclass(frozen=True)
class Reached:
    """A board in its raw REPL. `written`: pieces of its flash, None when its interpreter was not touched. `left`: what was not done."""

    board: Board
    seen: Seen
    journal: Journal
    written: int | None
    left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Interpreters:
    """What is needed to judge a board and to write it. `registered`: the registry's nodes. `tell(detail)` hears of progress.

    `mpy`: bytecode that has to fit. `enter_s`: how long a busy board may take to let go of its program.
    """

    images: dict[str, Image]
    journals: Path
    network: int
    registered: Callable[[], dict[str, Any]]
    now: Callable[[], float]
    tell: Callable[[str], None]
    mpy: int | None = None
    enter_s: float = 30.0

    def reach(self, port: str, wish: Wish) -> Reached:
        """The board there, at its prompt, with an interpreter to go on with. Raises ToolError; the same call goes on from there."""
        board = Board(port)
        try:
            if not self._is_at_prompt(board, wish):
                board.close()
                outcome = self._write_by_loader(port, wish)
                board = self._started(port, outcome)
                if not isinstance(outcome, ToolError):
                    return self._written(board, outcome)
            reached = self._as_it_is(board, wish)
            if reached is not None:
                return reached
            board.close()
            outcome = self._write_by_loader(port, wish)
            if isinstance(outcome, ToolError):
                raise outcome
            board = self._started(port, outcome)
            return self._written(board, outcome)
        except BaseException:
            board.close()
            raise

    def _is_at_prompt(self, board: Board, wish: Wish) -> bool:
        """Raises DeadlineError where nothing could be done about it. What is to be erased gets all the time to say who it is."""
        try:
            board.enter(self.enter_s if wish.is_erasing or not self.images else min(_FIRST_LOOK_S, self.enter_s))
        except DeadlineError:
            if not self.images:
                raise
            return False
        return True

    def _written(self, board: Board, pieces: int) -> Reached:
        seen = look(board)
        self._require_bytecode(board.port, seen)
        return Reached(board, seen, Journal(self.journals, seen.unit, self.now), pieces)

    # -- a board that answers ---------------------------------------------------------------------------------------------

    def _as_it_is(self, board: Board, wish: Wish) -> Reached | None:
        """The board as it is, where it may go on so; None where its interpreter is to be written, which its journal then says."""
        try:
            seen = look(board)
        except RefusedError:
            if wish.is_erasing:
                return None  # a file system that cannot be read
            raise
        found = identity_on(board)
        journal = Journal(self.journals, seen.unit, self.now)
        image = self.images.get(seen.chip)
        if wish.is_erasing:
            is_its_own = found["state"] == "there" and found["unit"] in ("", seen.unit)  # a copied flash is nobody
            node = f"{found['node']:08x}" if is_its_own else None
            if journal.is_erased() and (node is None or node in journal.nodes()):
                return Reached(board, seen, journal, None)  # by the command that is repeated
            self._refuse_to_erase(board.port, seen.unit, node, found, wish)
            journal.note("flash", is_whole=True)
            return None
        is_other = image is not None and image.build is not None and seen.build not in ("", image.build)
        is_unfit = self.mpy is not None and seen.mpy != self.mpy
        if image is None or not (is_other or is_unfit):
            self._require_bytecode(board.port, seen)
            return Reached(board, seen, journal, None)
        is_node = bool(seen.feed) or found["state"] != "none"
        if is_node and not wish.is_updating:
            self._require_bytecode(board.port, seen)
            left = f"its MicroPython is {seen.build}, the kit's is {image.build}: --update-micropython writes it"
            return Reached(board, seen, journal, None, (left,))
        if is_node and not self._in_service(seen.unit):
            raise RefusedError(
                f"{board.port}: the board runs as a node, and no node in service was made for its chip {seen.unit}",
                "its own city updates it; if it is to be nobody's: repeat the command with --erase",
            )
        journal.note("flash", is_whole=False)
        return None

    def _require_bytecode(self, port: str, seen: Seen) -> None:
        if self.mpy is not None and seen.mpy != self.mpy:
            raise RefusedError(
                f"{port}: MicroPython {seen.micropython} takes bytecode of version {seen.mpy}, the kit has version {self.mpy}",
                "repeat the command with --update-micropython, and a kit that has an image for this chip",
            )

    def _in_service(self, unit: str) -> list[str]:
        """Nodes whose keys were made for this chip and are not revoked."""
        return [name for name, entry in self.registered().items() if entry.get("unit") == unit and not entry["revoked"]]

    def _refuse_to_erase(self, port: str, unit: str, node: str | None, found: dict[str, Any], wish: Wish) -> None:
        """Raises RefusedError for a node that is in service here, and for one of anybody's that was not named."""
        registered = self.registered() if node is None or found["network"] == self.network else {}
        for name in sorted({*self._in_service(unit), *([] if node is None else [node])}):
            if name in registered and not registered[name]["revoked"]:
                raise RefusedError(
                    f"{port}: the board is node {name} of {registered[name].get('asset')!r}, in service",
                    f"lamppost node decommission {name} ends that with its records sent, lamppost node revoke {name} without; then repeat",
                )
        if node is not None and node not in registered and wish.erases != node:
            raise RefusedError(
                f"{port}: the board is node {node} of network {found['network']:08x}, which this registry does not know",
                f"have it revoked there; then repeat the command with --erases {node} as well",
            )

    # -- a board that does not ----------------------------------------------------------------------------------------------

    def _write_by_loader(self, port: str, wish: Wish) -> int | ToolError:
        """Write what may be written; how many pieces of flash, or what is wrong where nothing was and no prompt comes by itself."""
        try:
            with opened(port) as flasher:
                try:
                    return self._write(flasher, wish)
                except RefusedError:
                    flasher.start()  # what it ran, it runs again
                    raise
        except NoLoaderError as error:
            return error

    def _write(self, flasher: Flasher, wish: Wish) -> int | ToolError:
        image = self.images.get(flasher.chip)
        if image is None:
            has = ", ".join(sorted(self.images))
            raise RefusedError(
                f"{flasher.port}: the chip is an {flasher.chip}, the kit has MicroPython for {has}", "take a kit with its image"
            )
        needed = flash_bytes_needed(image.data, image.flash_offset)
        if needed > flasher.flash_bytes:
            raise RefusedError(
                f"{flasher.port}: the chip has {flasher.flash_bytes / 2**20:g} MiB of flash, {image.name} needs {needed / 2**20:g}",
                "take a board with more flash, or a kit with an image for less",
            )
        journal = Journal(self.journals, flasher.unit, self.now)
        begun = journal.begun_flash()
        is_whole = wish.is_erasing or bool(begun and begun["is_whole"])
        if is_whole:
            self._refuse_to_erase(flasher.port, flasher.unit, None, {}, wish)
        elif begun is None and not flasher.is_blank(image.flash_offset, SECTOR_BYTES):
            is_there = flasher.holds(image.data, image.flash_offset)
            flasher.start()
            if is_there:
                return 0
            return RefusedError(
                f"{flasher.port}: the {flasher.chip} (number {flasher.unit}) runs something that does not come to MicroPython's prompt",
                "if nobody needs what is on it, repeat the command with --erase: all of its flash is erased",
            )
        if begun is None or begun["is_whole"] != is_whole:
            journal.note("flash", is_whole=is_whole)
        written = flasher.write(image.data, image.flash_offset, lambda done, of: self.tell(f"{done} of {of} pieces"), is_whole)
        journal.note("flashed", image=image.name, pieces=written, is_whole=is_whole)
        flasher.start()
        return written

    def _started(self, port: str, outcome: int | ToolError) -> Board:
        """The board at its prompt after its loader was left. Raises DeadlineError with what to do by hand, or the loader's outcome."""
        board = reopened(port)
        try:
            if not isinstance(outcome, ToolError):
                board.await_prompt(min(_FIRST_START_S, self.enter_s))
            board.enter(self.enter_s)
        except DeadlineError as error:
            board.close()
            if isinstance(outcome, NoLoaderError):
                raise DeadlineError(f"{error.what}, and no ROM loader answers either", HOLD_BOOT) from None
            if isinstance(outcome, ToolError):
                raise outcome from None
            raise DeadlineError(f"{port}: MicroPython is on the board and does not come to its prompt", _TAP) from None
        except BaseException:
            board.close()
            raise
        return board


_TAP = "tap its RESET button and repeat the command; if that changes nothing, repeat it with --erase"
