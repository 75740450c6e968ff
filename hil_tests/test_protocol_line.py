"""UART 1 of the bench's `machine` over a real pty: asyncio streams, a cable pulled and put back, nobody listening."""

import contextlib
import os
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.peripherals.client import DEADLINE_S, Program, receive
from bench.pseudo_terminal import Terminal

ECHO = """
import asyncio, machine, sys
uart = machine.UART(1, 115200)
ticks = 0
async def count():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep_ms(5)
async def main():
    reader, writer = asyncio.StreamReader(uart), asyncio.StreamWriter(uart, {})
    asyncio.create_task(count())
    writer.write(b"hello\\n")
    await writer.drain()
    while True:
        line = await reader.readline()
        if line == b"flood\\n":
            before = ticks
            for _ in range(300):
                writer.write(bytes(1000))
                await writer.drain()
            line = b"survived\\n"
            print("flooded", uart.write(bytes(1000)))
            await reader.readexactly(1)
        writer.write(b"<" + line)
        await writer.drain()
asyncio.run(main())
"""


class Line:
    """A pty reached through a link, as a cable that can be pulled and put back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = -1
        self._terminal: Terminal | None = None

    def plug(self) -> None:
        self._terminal = Terminal(self.path)
        self.fd = self._terminal.near
        os.set_blocking(self.fd, True)

    def unplug(self) -> None:
        self.close()

    def close(self) -> None:
        assert self._terminal is not None
        self._terminal.close()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path / "line")
    made.plug()
    with contextlib.closing(made):
        yield made


@pytest.fixture
def echo(line: Line) -> Iterator[Program]:
    try:
        program = Program(ECHO, BENCH_LINE=str(line.path))
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with contextlib.closing(program):
        yield program


def test_protocol_line_works_with_asyncio_streams(line: Line, echo: Program) -> None:
    """Octets of every value, both ways, whatever the tty would like to do with them."""
    receive(line.fd, b"hello\n")
    data = bytes(octet for octet in range(256) if octet != 10) + b"\n"
    os.write(line.fd, data)
    assert receive(line.fd, data) == b"<" + data


def test_cable_pulled_and_put_back(line: Line, echo: Program) -> None:
    """The program lives through it and talks again on the new line, three times over."""
    receive(line.fd, b"hello\n")
    for number in range(3):
        line.unplug()
        line.plug()
        end_s = time.monotonic() + DEADLINE_S
        while True:  # what is sent before the program has found the new line is lost, as on a real cable
            with contextlib.suppress(AssertionError):
                os.write(line.fd, b"again%d\n" % number)
                if select.select([line.fd], [], [], 0.2)[0]:
                    break
            assert time.monotonic() < end_s
        receive(line.fd, b"<again%d\n" % number)
    assert echo.process.poll() is None


def test_nobody_listening_does_not_stop_the_program(line: Line, echo: Program) -> None:
    """300 kB into a line that nobody empties: lost, as on a wire, and the program goes on."""
    receive(line.fd, b"hello\n")
    os.write(line.fd, b"flood\n")
    assert echo.line() == "flooded 1000"
    while select.select([line.fd], [], [], 0)[0]:
        os.read(line.fd, 65536)
    os.write(line.fd, b"x")
    receive(line.fd, b"<survived\n")
