"""Which board is for which asset, without a path: by pyserial's list of ports, as the operating system gives it."""

from collections.abc import Callable

import pytest
from lamppost_tools.board.ports import Found, find_ports, match_ports
from lamppost_tools.cli import app
from lamppost_tools.errors import MissingError, UsageError
from lamppost_tools.life.cli import port_of
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo
from typer.testing import CliRunner

Plugged = Callable[..., None]


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> Plugged:
    """What the operating system lists: (path, vendor, product id, place, product)."""

    def plug(*rows: tuple[str, int | None, int | None, str | None, str | None]) -> None:
        ports = []
        for path, vid, pid, place, product in rows:
            port = ListPortInfo(path, skip_link_detection=True)
            port.vid, port.pid, port.location, port.product = vid, pid, place, product
            ports.append(port)
        monkeypatch.setattr(list_ports, "comports", lambda: ports)

    return plug


C3 = ("/dev/ttyACM0", 0x303A, 0x1001, "1-1.10:1.0", "USB JTAG/serial debug unit")
SILABS = ("/dev/ttyUSB1", 0x10C4, 0xEA60, "1-1.2", "CP2102 USB to UART Bridge Controller")
STRANGE = ("/dev/ttyUSB0", 0x1234, 0x0001, "1-1.9", "evil\x1b[2J")
MODEM = ("/dev/ttyS0", None, None, None, None)


def test_ports_are_named_and_come_in_the_order_of_their_places(plugged: Plugged) -> None:
    """By what is behind the plug; a port that is not USB is none; what a stranger calls itself obeys no terminal."""
    plugged(C3, MODEM, STRANGE, SILABS)
    assert [str(one) for one in find_ports()] == [
        "/dev/ttyUSB1 (CP210x, at 1-1.2)",
        "/dev/ttyUSB0 (evil?[2J 1234:0001, at 1-1.9)",
        "/dev/ttyACM0 (an Espressif chip's own USB (Serial/JTAG), at 1-1.10)",
    ]
    plugged(MODEM)
    with pytest.raises(MissingError, match="no USB serial port"):
        find_ports()


A, B, C = (Found(f"/dev/ttyUSB{number}", "CP210x", f"1-{number}") for number in range(3))


def test_one_board_for_one_asset_is_clear() -> None:
    """Nobody is asked; two boards for two assets are clear only when their order is said."""
    assert match_ports(["bin 7"], [A], None, False) == [A]
    assert match_ports(["bin 7", "lamp 3"], [A, B], None, True) == [A, B]


@pytest.mark.parametrize(("names", "found"), [(["bin 7"], [A, B]), (["bin 7", "lamp 3"], [A, B]), (["bin 7", "lamp 3"], [A])])
def test_what_is_not_clear_is_refused_or_asked(names: list[str], found: list[Found]) -> None:
    """Refused with every port by name where nobody can be asked; never a guess. In order means as many boards as assets."""
    with pytest.raises(UsageError, match="which board is which") as refused:
        match_ports(names, found, None, False)
    assert all(str(one) in refused.value.what for one in found)
    if len(names) != len(found):
        with pytest.raises(UsageError, match="which board is which"):
            match_ports(names, found, None, True)


def test_the_answer_decides() -> None:
    """By number, each board once; anything else ends it. With too few boards there is nothing to ask."""
    answers = {"'bin 7'": " 3", "'lamp 3'": "1"}

    def ask(question: str) -> str:
        return next(answer for name, answer in answers.items() if question.endswith(f"Which one is {name}?"))

    assert match_ports(["bin 7", "lamp 3"], [A, B, C], ask, False) == [C, A]
    for wrong in ("3", "0", "4", "", "x"):
        answers["'lamp 3'"] = wrong
        with pytest.raises(UsageError, match="is none of 1, 2"):
            match_ports(["bin 7", "lamp 3"], [A, B, C], ask, False)
    with pytest.raises(UsageError, match="which board is which"):
        match_ports(["bin 7", "lamp 3"], [A], ask, False)


def test_the_commands_refuse_what_is_not_clear(plugged: Plugged) -> None:
    """Nobody at the keyboard, two boards: commissioning stops before it reads a file, and a node's commands name what they saw."""
    plugged(C3, SILABS)
    words = ["commission", "--technician", "t", "--kit", "k", "--site", "s.toml", "--asset", "bin 7", "--asset", "lamp 3"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UsageError)
    assert "CP210x" in done.exception.what
    with pytest.raises(UsageError, match="CP210x"):
        port_of(None)
    plugged(SILABS)
    assert port_of(None) == "/dev/ttyUSB1"
