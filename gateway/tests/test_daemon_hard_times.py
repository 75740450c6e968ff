"""A running gateway under a full disk and a flood of strangers (R14, R38)."""

import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lamppost_protocol import kinds, slip
from street.gateway_rig import City, GatewayProcess, PtyLine, SenderNode


class Street:
    """One gateway process, one node of ours, some lines."""

    def __init__(self, folder: Path, lines: int) -> None:
        self.node = SenderNode(0x11, 1)
        self.city = City(folder / "state", [self.node])
        self.lines = [PtyLine(folder / f"tty{i}") for i in range(lines)]
        self.gateway = GatewayProcess(self.city.write_config([line.path for line in self.lines]), folder / "gateway.log")

    def log(self) -> str:
        return self.gateway.log_path.read_text(errors="replace")

    def resident_kb(self) -> int:
        return int(Path(f"/proc/{self.gateway.pid}/status").read_text().split("VmRSS:")[1].split()[0])

    def close(self) -> None:
        self.gateway.close()
        for line in self.lines:
            line.unplug()


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    street = Street(tmp_path, 3)
    try:
        yield street
    finally:
        street.close()


def stored(street: Street) -> set[int]:
    connection = sqlite3.connect(f"{(street.city.folder / 'outbox.db').as_uri()}?mode=ro", uri=True)
    try:
        return {row[0] for row in connection.execute("SELECT n FROM frame")}
    finally:
        connection.close()


def test_a_disk_that_takes_no_more_writes_stops_acknowledgements_and_nothing_else(street: Street) -> None:
    """Real write errors of a real process: nothing is acknowledged that is not stored; with room it serves by itself."""
    node, line = street.node, street.lines[0]
    street.gateway.start()
    line.send(slip.FRAME, node.frame())
    acknowledged = node.acknowledged(line.wait()[-1][1]).highest
    log_bytes = Path(f"{street.city.folder}/outbox.db-wal").stat().st_size
    resource.prlimit(street.gateway.pid, resource.RLIMIT_FSIZE, (log_bytes + 6_000, resource.RLIM_INFINITY))
    end_s = time.monotonic() + 15
    while "event=store_failed" not in street.log():
        assert time.monotonic() < end_s
        line.send(slip.FRAME, node.frame(items=[[kinds.LAMP, 0, 0, *[10**15] * 20]]))
        time.sleep(0.05)
        for _, body in line.take():
            acknowledged = max(acknowledged, node.acknowledged(body).highest)
    for _ in range(20):
        line.send(slip.FRAME, node.frame())
    with pytest.raises(TimeoutError):
        line.wait(1.0)
    assert acknowledged < node.n
    assert set(range(1, acknowledged + 1)) <= stored(street)
    resource.prlimit(street.gateway.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    while acknowledged < node.n:
        for _, body in line.wait(15):
            acknowledged = max(acknowledged, node.acknowledged(body).highest)
    assert stored(street) == set(range(1, node.n + 1))
    assert "event=store_recovered" in street.log()
    assert street.log().count("level=WARNING room=lamppost.receiver event=store_failed") == 1
    assert street.gateway.stop() == 0


def test_a_flood_of_strangers_delays_our_node_little_and_grows_nothing(street: Street) -> None:
    """Two lines full of strangers' and forged frames: ours is acknowledged within a second, memory stays."""
    street.gateway.start()
    forger = SenderNode(0x99, 1)
    noise = b"".join(slip.encode(slip.FRAME, forger.frame()) for _ in range(40))
    noise += b"".join(slip.encode(slip.FRAME, street.node.frame(n=1, tx=5_000 + i, signer=forger.signer)) for i in range(4))
    stop = threading.Event()
    sent = [0, 0]

    def flood(index: int) -> None:
        while not stop.is_set():
            try:
                street.lines[1 + index].send_raw(noise)
            except TimeoutError:
                continue
            sent[index] += 44
            time.sleep(0.01)

    threads = [threading.Thread(target=flood, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    try:
        waits_s = []
        for _ in range(30):
            started_s = time.monotonic()
            street.lines[0].send(slip.FRAME, street.node.frame())
            street.lines[0].wait(10)
            waits_s.append(time.monotonic() - started_s)
            if len(waits_s) == 10:
                before_kb = street.resident_kb()
            time.sleep(0.02)
        after_kb = street.resident_kb()
    finally:
        stop.set()
        for thread in threads:
            thread.join(15)
    assert sum(sent) > 500
    assert sorted(waits_s)[-2] < 1.0
    assert after_kb - before_kb < 8_000
    assert all(not line.take() for line in street.lines[1:])
    assert street.log().count("event=rejected") < 500
    assert street.gateway.stop() == 0
