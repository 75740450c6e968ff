"""The gateway as a process: starts, serves, stops, reloads, survives; and says no secret anywhere (R34, R37, R39)."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lamppost_gateway.status import ask
from lamppost_protocol import slip
from street.gateway_rig import City, GatewayProcess, PtyLine, SenderNode


class Street:
    """Two nodes, a line each, one gateway process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = [SenderNode(0x11, 1), SenderNode(0x12, 1)]
        self.city = City(folder / "state", self.nodes)
        self.lines = [PtyLine(folder / f"tty{i}") for i in range(2)]
        self.config = self.write_config()
        self.gateway = GatewayProcess(self.config, folder / "gateway.log")

    def write_config(self, more: str = "") -> Path:
        return self.city.write_config([line.path for line in self.lines], 9, more)

    def deliver(self, index: int = 0, data: bytes | None = None) -> int:
        """Send one frame; return the highest number acknowledged."""
        self.lines[index].send(slip.FRAME, data or self.nodes[index].frame())
        end_s = time.monotonic() + 10
        while time.monotonic() < end_s:
            for _, body in self.lines[index].wait():
                return int(self.nodes[index].acknowledged(body).highest)
        raise TimeoutError

    def wait_up(self, index: int) -> None:
        """The gateway has opened the line; opening discards what an older one left in it."""
        socket_path = self.city.folder / "status.sock"
        wait_for(lambda: ask(socket_path, "status")["links"][index]["up"])

    def rows(self) -> int:
        connection = sqlite3.connect(self.city.folder / "outbox.db")
        try:
            return int(connection.execute("SELECT count(*) FROM frame").fetchone()[0])
        finally:
            connection.close()

    def log(self) -> str:
        return self.gateway.log_path.read_text(errors="replace")

    def close(self) -> None:
        self.gateway.close()
        for line in self.lines:
            line.unplug()


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    street = Street(tmp_path)
    try:
        yield street
    finally:
        street.close()


def run_program(*arguments: str | Path, limit_s: float = 20) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lamppost_gateway", *map(str, arguments)], capture_output=True, text=True, timeout=limit_s, check=False
    )


def test_starts_serves_and_stops_in_order_under_load(street: Street) -> None:
    """Ready soon, first frame acknowledged, SIGTERM in the middle of a burst ends within 5 s with status 0."""
    assert street.gateway.start() < 10
    assert street.deliver() == 1
    assert street.deliver(1) == 1
    for _ in range(200):
        street.lines[0].send(slip.FRAME, street.nodes[0].frame())
    started_s = time.monotonic()
    assert street.gateway.stop(5.0) == 0
    assert time.monotonic() - started_s < 5
    assert "event=stopped" in street.log()
    assert "Traceback" not in street.log()
    last = max((street.nodes[0].acknowledged(body).highest for _, body in street.lines[0].take()), default=1)
    assert street.rows() >= last
    assert not (street.city.folder / "status.sock").exists()


def test_restarting_and_reconfiguring_touches_no_row(street: Street) -> None:
    """New settings, a broken file, a good one again: the stored frames stay, numbering goes on (R39)."""
    for number, more in enumerate(("", "[outbox]\nretention_h = 1\n", "[outbox]\nmax_mb = 50\ncommit_window_ms = 5\n")):
        street.write_config(more)
        street.gateway.start()
        assert street.deliver() == number + 1
        assert street.gateway.stop() == 0
        rows = number + 1
        assert street.rows() == rows
        street.config.write_text("[gateway\nid = 5")
        refused = run_program("run", "-c", street.config)
        assert refused.returncode == 2
        assert "line 1" in refused.stderr
        assert street.rows() == rows


def test_ports_missing_at_start_and_pulled_later_come_back(street: Street) -> None:
    """Ready without its port; each line lives on its own; plugged again it serves within the retry time."""
    street.lines[0].unplug()
    assert street.gateway.start() < 10
    assert street.deliver(1) == 1
    street.lines[0].plug()
    street.wait_up(0)
    assert street.deliver(0) == 1
    street.lines[1].unplug()
    assert street.deliver(0) == 2
    street.lines[1].plug()
    street.wait_up(1)
    assert street.deliver(1) == 2
    status = ask(street.city.folder / "status.sock", "status")
    assert status["links"] == [{"name": "line0", "up": True}, {"name": "line1", "up": True}]


def test_registry_changes_on_disk_and_by_sighup(street: Street) -> None:
    """A node enrolled while the gateway runs is served; a revoked one is refused; a torn file changes nothing."""
    street.gateway.start()
    stranger = SenderNode(0x77, 5)
    street.nodes[0], known = stranger, street.nodes[0]
    street.lines[0].send(slip.FRAME, stranger.frame())
    wait_for(lambda: "reason=unknown_node" in street.log())
    street.city.nodes[0x77] = stranger
    street.city.write()
    street.gateway.signal(signal.SIGHUP)
    wait_for(lambda: "event=registry_loaded" in street.log())
    assert street.deliver(0) >= 1
    (street.city.folder / "registry.json").write_text("{")
    wait_for(lambda: "event=registry_failed" in street.log())
    assert street.deliver(0) >= 2
    street.city.revoked.add(0x77)
    street.city.write()
    wait_for(lambda: "version=3" in street.log())
    street.lines[0].send(slip.FRAME, stranger.frame())
    wait_for(lambda: "reason=revoked_node" in street.log())
    street.nodes[0] = known
    assert street.deliver(0) == 1


def wait_for(ready: object, limit_s: float = 10) -> None:
    end_s = time.monotonic() + limit_s
    while not ready():  # type: ignore[operator]
        if time.monotonic() > end_s:
            raise TimeoutError
        time.sleep(0.02)


def test_a_second_gateway_on_the_same_state_is_refused(street: Street) -> None:
    """Two writers on one outbox would each acknowledge what the other loses."""
    street.gateway.start()
    second = run_program("run", "-c", street.config)
    assert second.returncode == 1
    assert "in use by another gateway" in second.stderr
    assert street.deliver() == 1


def test_watchdog_beats_for_the_asked_process_only(street: Street, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval is half of what the unit allows."""
    from lamppost_gateway import systemd

    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    assert systemd.watchdog_s() == 1.5
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert systemd.watchdog_s() is None
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog_s() == 1.5
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert systemd.watchdog_s() is None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(street.folder / "n"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(street.folder / "n"))
        systemd.notify("READY=1")
        assert listener.recv(100) == b"READY=1"
        monkeypatch.setenv("NOTIFY_SOCKET", str(street.folder / "nobody"))
        systemd.notify("READY=1")


def test_the_heart_beats_while_running(street: Street) -> None:
    """READY=1 once, WATCHDOG=1 at half the asked interval, STOPPING=1: a gateway that hangs is restarted by systemd."""
    street.gateway.start(WATCHDOG_USEC="200000")
    assert street.gateway.notes.count("READY=1") == 1
    for _ in range(3):
        street.gateway.wait_note("WATCHDOG=1", 5)
    street.gateway.signal(signal.SIGTERM)
    street.gateway.wait_note("STOPPING=1", 5)


def test_a_torn_outbox_does_not_stop_the_start(street: Street) -> None:
    """It is put aside loudly and service goes on; the next start is quiet (R21)."""
    street.gateway.start()
    street.deliver()
    street.gateway.kill()
    database = street.city.folder / "outbox.db"
    for ending in ("-wal", "-shm"):
        Path(f"{database}{ending}").unlink(missing_ok=True)
    database.write_bytes(b"SQLite format 3\0" + os.urandom(5_000))
    street.gateway.start()
    assert "event=outbox_torn" in street.log()
    assert street.deliver() >= 2
    assert street.gateway.stop() == 0
    assert len(list(street.city.folder.glob("outbox.db.broken-*"))) == 1
    street.gateway.start()
    assert street.log().count("event=outbox_torn") == 1


def test_a_newer_outbox_is_refused_plainly(street: Street) -> None:
    """The message says what to do; the file stays as it is."""
    street.gateway.start()
    street.deliver()
    assert street.gateway.stop() == 0
    connection = sqlite3.connect(street.city.folder / "outbox.db")
    connection.execute("PRAGMA user_version = 99")
    connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    connection.commit()
    connection.close()
    refused = run_program("run", "-c", street.config)
    assert refused.returncode == 1
    assert "newer program" in refused.stderr
    assert street.rows() == 1


def test_no_secret_in_any_log_file_or_answer(street: Street) -> None:
    """Keys planted in the key files turn up nowhere else, at the most talkative level and in every mishap."""
    patterns = [key for node in street.nodes for key in node.key_patterns()]
    street.gateway.start()
    street.deliver()
    street.lines[0].send(slip.LOG, b"node says hello")
    keys = street.city.folder / "hop-keys.json"
    good = keys.read_text()
    for bad in (good[:-3], good.replace('": "', '": "zz', 1)):
        keys.write_text(bad)
        street.gateway.signal(signal.SIGHUP)
        wait_for(lambda bad=bad: "event=registry_failed" in street.log())
    keys.write_text(good)
    keys.chmod(0o644)
    checked = run_program("check", "-c", street.config)
    assert checked.returncode == 2
    assert "chmod 600" in checked.stderr
    status = str(ask(street.city.folder / "status.sock", "status")).encode()
    street.gateway.stop()
    heaps = [checked.stdout.encode(), checked.stderr.encode(), status]
    heaps += [file.read_bytes() for file in street.folder.rglob("*") if file.is_file() and file != keys]
    for pattern in patterns:
        assert not any(pattern in heap for heap in heaps)


HUNG_DISK = """
import threading
from lamppost_gateway.outbox import Outbox
from lamppost_gateway.__main__ import main
Outbox.transact = lambda self, jobs: threading.Event().wait()
main()
"""


def test_a_hung_disk_neither_looks_alive_nor_holds_up_the_end(street: Street) -> None:
    """No acknowledgement, no heartbeat, and SIGTERM still ends it within 5 s, saying why."""
    gateway = GatewayProcess(street.config, street.gateway.log_path, ("-c", HUNG_DISK))
    try:
        gateway.start(WATCHDOG_USEC="400000")
        street.lines[0].send(slip.FRAME, street.nodes[0].frame())
        with pytest.raises(TimeoutError):
            street.lines[0].wait(1.0)
        with pytest.raises(TimeoutError):
            gateway.wait_note("beats from before the disk hung", 0.5)
        with pytest.raises(TimeoutError):
            gateway.wait_note("WATCHDOG=1", 1.0)
        assert gateway.stop(5.0) == 1
        assert "disk does not answer" in street.log()
    finally:
        gateway.close()


def test_check_tells_all_and_changes_nothing(street: Street) -> None:
    """Good, bad configuration, missing registry."""
    good = run_program("check", "-c", street.config)
    assert (good.returncode, "acknowledge nothing" in good.stdout) == (0, False)
    (street.city.folder / "hop-keys.json").unlink()
    silent = run_program("check", "-c", street.config)
    assert (silent.returncode, "acknowledge nothing" in silent.stdout) == (0, True)
    (street.city.folder / "registry.json").unlink()
    missing = run_program("check", "-c", street.config)
    assert missing.returncode == 2
    assert "registry" in missing.stderr
    bad = street.folder / "bad.toml"
    bad.write_text("[gateway]\nid = 5\nnetwork = 7\n")
    found = run_program("check", "-c", bad)
    assert found.returncode == 2
    assert found.stderr.count("gateway.") == 3
    assert "Traceback" not in found.stderr
    assert "[outbox]" in run_program("example").stdout


def test_a_missing_registry_is_no_crash_loop(street: Street) -> None:
    """The gateway comes up, says so, refuses every frame, and serves as soon as the file is there."""
    registry = street.city.folder / "registry.json"
    text = registry.read_text()
    registry.unlink()
    street.gateway.start()
    assert "event=registry_unusable" in street.log()
    street.lines[0].send(slip.FRAME, street.nodes[0].frame(n=1))
    wait_for(lambda: "reason=unknown_node" in street.log())
    registry.write_text(text)
    wait_for(lambda: "event=registry_loaded" in street.log())
    assert street.deliver(0, street.nodes[0].frame(n=1)) == 1
