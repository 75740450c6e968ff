"""What the kernel says about a process: processor time, resident memory, octets written. Linux only (/proc)."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Return user plus system time of all threads, ended ones included, in s; resolution 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_mb(pid: int) -> float:
    """Return the resident memory now, in MB (10^6)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def written_bytes(pid: int) -> int:
    """Return what the process has caused to be written to disk, in octets."""
    for line in Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0


def end(process: "subprocess.Popen[bytes]", limit_s: float = 5.0) -> None:
    """End a process that was started here: SIGTERM, then SIGKILL after `limit_s`."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(limit_s)


def start_ready(
    command: Sequence[str], log: Path, environment: dict[str, str] | None = None, limit_s: float = 20.0
) -> "subprocess.Popen[bytes]":
    """Start a program that prints `ready`; return once it did. Raises RuntimeError with the end of its log."""
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **(environment or {})})
    assert process.stdout is not None
    line = process.stdout.readline()
    if line.strip() != b"ready":
        end(process)
        raise RuntimeError(log.read_text(errors="replace")[-2000:])
    return process
