"""The demo's child processes: one process group that dies with the demo, however the demo dies; a log file each.

The first child is a guard that leads the group and reads a pipe nobody else holds: when the demo is gone, killed or
not, the pipe ends and the guard kills the group. No child gets a session of its own, so a pty never becomes its
controlling terminal.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from lamppost_tools.errors import DeadlineError, MissingError

_GUARD = "import os,signal\nfor s in (1,2,15): signal.signal(s,signal.SIG_IGN)\nos.read(0,1)\nos.killpg(0,9)"
_POLL_S = 0.05
_STOP_S = 3.0


class Child:
    """One process with its log."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path, log_start_bytes: int) -> None:
        self.name = name
        self.process = process
        self.log = log
        self._log_start_bytes = log_start_bytes

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal and wait; SIGKILL for what does not end in time."""
        if self.is_running:
            self.process.send_signal(number)
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(_STOP_S)

    def wait_for_line(self, line: str, deadline_s: float) -> None:
        """Wait until the log holds `line`. Raises MissingError when the process ends first, DeadlineError when late."""
        end_s = time.monotonic() + deadline_s
        while line not in self._log_text().splitlines():
            if not self.is_running:
                raise MissingError(f"{self.name} ended at its start: {self.last_words()}", f"read {self.log}")
            if time.monotonic() > end_s:
                raise DeadlineError(f"{self.name} was not ready after {deadline_s:.0f} s", f"read {self.log}")
            time.sleep(_POLL_S)

    def wait_for_end(self, deadline_s: float) -> None:
        """Wait until it has done its work. Raises MissingError when it failed, DeadlineError when late."""
        try:
            status = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise DeadlineError(f"{self.name} has not ended after {deadline_s:.0f} s", f"read {self.log}") from None
        if status:
            raise MissingError(f"{self.name} ended with {status}: {self.last_words()}", f"read {self.log}")

    def last_words(self) -> str:
        """The log's last line, cut."""
        lines = self._log_text().strip().splitlines()
        return lines[-1][:200] if lines else "its log is empty"

    def has_logged(self, text: str) -> bool:
        """Whether `text` stands in what it logged since its start."""
        return text in self._log_text()

    def _log_text(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_start_bytes)
            return log.read().decode(errors="replace")


class ProcessGroup:
    """Starts children in one group; `close` ends them all. A context manager."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.children: dict[str, Child] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ProcessGroup":
        self.logs.mkdir(parents=True, exist_ok=True)
        self._guard = subprocess.Popen([sys.executable, "-c", _GUARD], stdin=subprocess.PIPE, process_group=0)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, name: str, command: list[str], environment: Mapping[str, str], folder: Path) -> Child:
        """Start `command` in `folder`; output is appended to logs/<name>.log. Replaces an ended child of that name."""
        if self._guard is None:
            raise RuntimeError("enter the group first")
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            start_bytes = output.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **environment},
                process_group=self._guard.pid,
            )
        self.children[name] = Child(name, process, log, start_bytes)
        return self.children[name]

    def close(self, last: tuple[str, ...] = ()) -> None:
        """SIGTERM to all but those named `last`, wait, then to these; SIGKILL to what is left. Safe to call twice."""
        if self._guard is None:
            return
        self._terminate([child for name, child in self.children.items() if name not in last])
        self._terminate([child for name, child in self.children.items() if name in last])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._guard.pid, signal.SIGKILL)
        for child in self.children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(_STOP_S)
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait(_STOP_S)
        self._guard = None

    @staticmethod
    def _terminate(children: list[Child]) -> None:
        running = [child for child in children if child.is_running]
        for child in running:
            child.process.terminate()
        end_s = time.monotonic() + _STOP_S
        for child in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.01, end_s - time.monotonic()))
