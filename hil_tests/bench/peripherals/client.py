"""For tests: the bench's server as a process, its control socket, and MicroPython programs with the bench's `machine`.

Every wait has a deadline and fails with what was seen instead. Needs CPython and a MicroPython unix port.
"""

import json
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SHIM = Path(__file__).parent
ROOT = SHIM.parents[1]
DEADLINE_S = 20.0


def find_micropython() -> str:
    """The unix port: MICROPYTHON, else beside this Python, else in PATH. Raises FileNotFoundError."""
    found = os.environ.get("MICROPYTHON") or shutil.which("micropython", path=str(Path(sys.executable).parent))
    found = found or shutil.which("micropython")
    if not found:
        raise FileNotFoundError("no micropython beside Python, in PATH or MICROPYTHON")
    return found


def receive(fd: int, wanted: bytes) -> bytes:
    """All that arrives until `wanted` is in it. Raises AssertionError after DEADLINE_S."""
    data = b""
    end_s = time.monotonic() + DEADLINE_S
    while wanted not in data:
        left_s = end_s - time.monotonic()
        if left_s <= 0 or not select.select([fd], [], [], left_s)[0]:
            raise AssertionError(f"wanted {wanted!r}, got {data!r}")
        data += os.read(fd, 65536)
    return data


class Program:
    """One MicroPython process; its standard output is read line by line."""

    def __init__(self, script: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [find_micropython(), "-c", script],
            env=os.environ | {"MICROPYPATH": f"{SHIM}:.frozen"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        self._unread = b""

    def line(self) -> str:
        assert self.process.stdout is not None
        if b"\n" not in self._unread:
            self._unread += receive(self.process.stdout.fileno(), b"\n")
        line, self._unread = self._unread.split(b"\n", 1)
        return line.decode()

    def wait(self) -> int:
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def close(self) -> None:
        self.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Bench:
    """A running server and a control connection to it."""

    def __init__(self, folder: Path, *nodes: str, cables: Sequence[str] = ()) -> None:
        self.folder = folder
        arguments = ["--seed", "3", "--control", str(folder / "control"), "--start-unix", "1750000000"]
        for node in nodes:
            arguments += ["--node", f"{node}:{folder / node.partition(':')[0]}"]
        for cable in cables:
            arguments += ["--cable", f"{cable}:{folder}"]
        self.process = subprocess.Popen([sys.executable, "-m", "bench.peripherals.server", *arguments], cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        receive(self.process.stdout.fileno(), b"ready\n")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(DEADLINE_S)
        self._socket.connect(str(folder / "control"))
        self._file = self._socket.makefile("rwb")
        self.programs: list[Program] = []

    def order(self, **order: Any) -> dict[str, Any]:
        self._file.write(json.dumps(order).encode() + b"\n")
        self._file.flush()
        answer = json.loads(self._file.readline())
        assert isinstance(answer, dict)
        return answer

    def node(self, name: str) -> dict[str, Any]:
        state: dict[str, Any] = self.order(op="state", node=name)["nodes"][name]
        return state

    def run(self, node: str, script: str) -> Program:
        program = Program(script, BENCH_EXCHANGE=str(self.folder / node))
        self.programs.append(program)
        return program

    def wait_for(self, node: str, **wanted: Any) -> dict[str, Any]:
        """Node state once all of `wanted` is so. The server learns of a death by itself, so this asks again until then."""
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            state = self.node(node)
            if all(state[name] == value for name, value in wanted.items()):
                return state
        raise AssertionError(f"wanted {wanted}, got {state}")

    def close(self) -> None:
        for program in self.programs:
            program.close()
        self._file.close()
        self._socket.close()
        if self.process.poll() is None:
            self.process.terminate()
        assert self.process.wait(DEADLINE_S) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()
