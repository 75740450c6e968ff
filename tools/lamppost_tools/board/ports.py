"""Which ports of this machine may have a board behind them, and what is said on the line of one."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import serial
from serial.tools import list_ports

from lamppost_tools.errors import MissingError, UsageError
from lamppost_tools.terminal import harmless

_TURN_S = 0.2
_WRITE_S = 5.0

#: What is between USB and the board, by vendor and product; a vendor alone where its products are one family.
#: Ref: the USB ID Repository; Espressif, usb-pids.
_BRIDGES = {
    (0x303A, 0x1001): "an Espressif chip's own USB (Serial/JTAG)",
    (0x303A, 0x0002): "an ESP32-S2's own USB",
    (0x303A, None): "an Espressif chip's own USB",
    (0x10C4, None): "CP210x",
    (0x1A86, 0x55D3): "CH343",
    (0x1A86, 0x55D4): "CH9102",
    (0x1A86, None): "CH340",
    (0x0403, None): "FTDI",
    (0x067B, None): "PL2303",
}


@dataclass(frozen=True)
class Found:
    """A USB serial port. `bridge`: the chip behind the plug; `place`: where it is plugged, as `1-1.4`, "" where nobody knows."""

    port: str
    bridge: str
    place: str

    def __str__(self) -> str:
        return f"{self.port} ({self.bridge}{', at ' + self.place if self.place else ''})"


def find_ports() -> list[Found]:
    """USB serial ports by their places, so that a hub's sockets come in their order. Raises MissingError when there is none."""
    found = [
        Found(port.device, _bridge(port.vid, port.pid, port.product), (port.location or "").partition(":")[0])
        for port in list_ports.comports()
        if port.vid is not None
    ]
    if not found:
        raise MissingError("no USB serial port is there", "plug the board in with a cable that carries data, or give --port")
    return sorted(found, key=lambda one: (_numbers(one.place), _numbers(one.port)))


def match_ports(names: Sequence[str], found: Sequence[Found], ask: Callable[[str], str] | None, is_in_order: bool) -> list[Found]:
    """Which port each name is for: the only one, in order where that is said, or as `ask` answers a question with a number.

    Raises UsageError where it could be one or another and nobody is asked, or answers something else.
    """
    is_clear = len(names) == len(found) and (is_in_order or len(found) == 1)
    if is_clear:
        return list(found)
    shown = "\n".join(f"  {number} {one}" for number, one in enumerate(found, 1))
    if ask is None or len(found) < len(names):
        told = f"{_count(names, '--asset')} and {_count(found, 'USB serial port')}, so which board is which?\n{shown}"
        raise UsageError(told, "--port for each --asset in the same order; or --in-order, when there are as many boards as assets")
    left = dict(enumerate(found, 1))
    chosen = []
    for name in names:
        answer = ask(f"{shown}\nWhich one is {name!r}?").strip()
        if not answer.isdecimal() or int(answer) not in left:
            raise UsageError(f"{answer!r} is none of {', '.join(str(number) for number in left)}", "repeat the command")
        chosen.append(left.pop(int(answer)))
    return chosen


def _bridge(vid: int, pid: int | None, product: str | None) -> str:
    known = _BRIDGES.get((vid, pid)) or _BRIDGES.get((vid, None))
    return known or f"{harmless(product or 'USB')} {vid:04x}:{pid or 0:04x}"


def _numbers(text: str) -> list[tuple[int, str]]:
    """For sorting: 1-1.10 behind 1-1.9."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", text)]


def _count(things: Sequence[object], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def open_line(port: str, baud: int) -> serial.Serial:
    """The port, ours alone; a read waits 0.2 s. Raises MissingError where it cannot be opened or is somebody else's."""
    line = serial.Serial()
    line.port, line.baudrate, line.timeout, line.write_timeout = port, baud, _TURN_S, _WRITE_S
    line.dtr = line.rts = False  # on many boards these two are the reset
    line.exclusive = True
    try:
        line.open()
    except (serial.SerialException, OSError, ValueError) as error:
        raise MissingError(
            f"{port} cannot be opened: {error}", "check the cable and the path; a gateway holds its ports alone: use --city there"
        ) from None
    return line


def hear(line: serial.Serial) -> bytes:
    """What has come, after 0.2 s at most. Raises MissingError when the port goes away."""
    try:
        heard: bytes = line.read(max(1, line.in_waiting))
    except (serial.SerialException, OSError) as error:
        raise MissingError(f"{line.port} went away: {error}", "look at the cable, then start this again") from None
    return heard


def say(line: serial.Serial, data: bytes) -> None:
    """Put octets on the line. Raises MissingError when the port goes away or takes nothing."""
    try:
        line.write(data)
    except (serial.SerialException, OSError) as error:
        raise MissingError(f"{line.port} went away: {error}", "look at the cable, then start this again") from None


def overhear(port: str, baud: int) -> Iterator[bytes]:
    """What comes in there, for ever; nothing is sent. Raises MissingError where it cannot be opened, is somebody else's, or goes away."""
    with open_line(port, baud) as line:
        while True:
            yield hear(line)
