"""A program as a child process that can be killed at any instant and started again; its output goes to a log file."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.deadline import DEADLINE_S, wait_for


class Program:
    """`start`, `kill`, `start` again: always the same command. It gets a process group of its own, never a session."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path | None = None) -> None:
        self.name = name
        self.log_path = log
        self._command = list(command)
        self._environment = dict(environment)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start_bytes = 0
        self.starts = 0

    def start(self, *more: str) -> None:
        """Start it with `more` arguments; it must not be running."""
        assert not self.is_running
        with self.log_path.open("ab") as log:
            self._log_start_bytes = log.tell()
            self._process = subprocess.Popen(
                [*self._command, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={**os.environ, **self._environment},
                process_group=0,
            )
        self.starts += 1

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def command(self) -> list[str]:
        """The command it is started with."""
        return list(self._command)

    def wait_for_line(self, line: str, deadline_s: float = DEADLINE_S) -> None:
        """Wait until it has printed `line` since its start. Raises TimeoutError or RuntimeError with its last words."""

        def has_said() -> bool:
            said = line in self.said().splitlines()
            if not said and not self.is_running:
                raise RuntimeError(f"{self.name} ended: {self.said()[-2000:]}")
            return said

        wait_for(has_said, lambda: f"{line!r} of {self.name}, but {self.said()[-500:]!r}", deadline_s)

    def said(self) -> str:
        """What it printed since its last start."""
        if not self.starts:
            return ""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start_bytes)
            return log.read().decode(errors="replace")

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; nothing when it is not running."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)

    def stop(self, deadline_s: float = 10.0) -> int:
        """SIGTERM; the exit status. Raises subprocess.TimeoutExpired."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(deadline_s)
