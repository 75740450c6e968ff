"""The bench's console: a device that starts anew while the raw REPL is asked for gets asked again, a dead one is told of at once."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.console import Console, ConsoleError
from bench.pseudo_terminal import Terminal
from bench.targets.target import Setup
from bench.targets.unix_port import UnixPort

RAW = b"raw REPL; CTRL-B to exit\r\n>"
TRY_S = 1.0


class Board:
    """The device's end: it says RAW at a Ctrl-A, but starts anew at the first `deaths` Ctrl-Cs and then hears nothing of what was typed."""

    def __init__(self, deaths: int, is_dead: bool = False) -> None:
        self.interrupts = 0
        self._deaths = deaths
        self._is_dead = is_dead
        self._is_deaf = False
        self._ours, self._theirs = socket.socketpair()  # both ways, as a port is: a console waits until it may write to one
        self._ours.setblocking(False)
        self._theirs.sendall(b"MicroPython\r\n>>> ")

    def fileno(self) -> int:
        return self._ours.fileno()

    def read(self) -> bytes:
        with contextlib.suppress(BlockingIOError):
            return self._ours.recv(4096)
        return b""

    def write(self, data: bytes) -> int:
        for octet in b"" if self._is_dead else data:
            if octet == 3:
                self.interrupts += 1
                self._is_deaf = self.interrupts <= self._deaths
                self._theirs.sendall(b"reset\r\n>>> " if self._is_deaf else b"\r\n>>> ")
            elif octet == 1 and not self._is_deaf:
                self._theirs.sendall(RAW)
        return len(data)

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


@contextlib.contextmanager
def console_of(folder: Path, board: Board) -> Iterator[Console]:
    made = Console(folder / "log", "no image")
    made.attach(board)
    made.expect("MicroPython")  # its thread runs: a try's time begins no earlier
    try:
        yield made
    finally:
        made.close()


def test_a_device_that_starts_anew_is_asked_again(tmp_path: Path) -> None:
    """Twice it dies of the interrupt; the third time it is in the raw REPL."""
    board = Board(2)
    with console_of(tmp_path, board) as console, console.raw_repl(soft_reset=False, deadline_s=TRY_S):
        assert board.interrupts == 3


@pytest.mark.parametrize(("deaths", "is_dead"), [(99, False), (0, True)])
def test_one_that_never_comes_is_told_of(tmp_path: Path, deaths: int, is_dead: bool) -> None:
    """One that says nothing at all after one try, one that always dies after three."""
    board = Board(deaths, is_dead)
    with console_of(tmp_path, board) as console, pytest.raises(ConsoleError, match="a raw REPL within"), console.raw_repl(False, TRY_S):
        pass
    assert board.interrupts == (0 if is_dead else 3)


def test_a_terminals_name_goes_before_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number is soon another one's: whoever comes back by the old name finds nothing, and takes nothing of what is typed there."""
    terminal = Terminal(tmp_path / "line")
    os.close(os.open(terminal.path, os.O_RDWR | os.O_NOCTTY))
    named: list[bool] = []
    close = os.close
    monkeypatch.setattr(os, "close", lambda descriptor: (named.append(terminal.path.is_symlink()), close(descriptor)))
    terminal.close()
    assert named == [False, False]


def test_what_is_typed_to_a_process_goes_by_no_name(tmp_path: Path) -> None:
    """A program that comes back for another terminal's old number cannot take octets that are for the interpreter."""
    target = UnixPort()
    if missing := target.missing():
        pytest.skip(missing)
    with contextlib.closing(target.device(Setup(tmp_path, "typed"))) as device:
        device.start()
        folder = Path(f"/proc/{device.process_id}/fd")
        assert not [where for link in folder.iterdir() if (where := os.readlink(link)).startswith("/dev/pts/")]
