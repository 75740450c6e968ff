"""The demo's processes: ready lines, last words, and that nothing outlives the demo, even one that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lamppost_tools.demo.process import ProcessGroup
from lamppost_tools.errors import DeadlineError, MissingError

SLEEPER = "import signal,time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


def is_gone(pid: int, deadline_s: float = 5.0) -> bool:
    end_s = time.monotonic() + deadline_s
    while time.monotonic() < end_s:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        os.sched_yield()
    return False


def test_ready_line_and_last_words(tmp_path):
    """A child is ready when its own log says so, not when an older log did; one that ends tells why."""
    with ProcessGroup(tmp_path) as group:
        group.start("a", [sys.executable, "-c", "print('ready')"], {}, tmp_path).wait_for_line("ready", 10)
        group.children["a"].process.wait(10)
        broken = group.start("a", [sys.executable, "-c", "raise SystemExit('no such port')"], {}, tmp_path)
        with pytest.raises(MissingError, match="no such port"):
            broken.wait_for_line("ready", 10)
        slow = group.start("b", [sys.executable, "-c", SLEEPER], {}, tmp_path)
        with pytest.raises(DeadlineError, match="not ready"):
            slow.wait_for_line("never", 0.3)


def test_close_ends_even_the_stubborn(tmp_path):
    """A child that ignores SIGTERM is gone after close, and close may be called again."""
    group = ProcessGroup(tmp_path)
    with group:
        child = group.start("a", [sys.executable, "-c", SLEEPER], {}, tmp_path)
        child.wait_for_line("ready", 10)
        assert os.getpgid(child.process.pid) != os.getpgid(0)
        child.stop(signal.SIGKILL)
        assert not child.is_running
        other = group.start("b", [sys.executable, "-c", SLEEPER], {}, tmp_path)
        other.wait_for_line("ready", 10)
    assert not other.is_running
    group.close()


def test_children_die_with_a_killed_demo(tmp_path):
    """kill -9 of the demo leaves no orphan: the guard ends the group."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom lamppost_tools.demo.process import ProcessGroup\n"
        f"group = ProcessGroup(Path({str(tmp_path)!r})).__enter__()\n"
        f"child = group.start('a', [sys.executable, '-c', {SLEEPER!r}], {{}}, Path({str(tmp_path)!r}))\n"
        "child.wait_for_line('ready', 10)\nprint(child.process.pid, flush=True)\ntime.sleep(60)\n"
    )
    demo = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        pid = int(demo.stdout.readline())
    finally:
        demo.kill()
        demo.wait(10)
    assert is_gone(pid)
