"""The doctor: each symptom, put into what a gateway keeps or a board tells, is found and nothing else is; a healthy node has none."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway.outbox import Outbox
from lamppost_gateway.outbox_rows import NewFrame
from lamppost_protocol import frames, hello, records
from lamppost_protocol.es256_host import HostSigner
from lamppost_protocol.kinds import BIN, GOOD, LAMP, NO_ECHO, NODE, SENSOR_FAULT
from lamppost_protocol.profiles import LAMP_FAULTS, by_name
from lamppost_tools.doctor.diagnosis import diagnose
from lamppost_tools.doctor.evidence import Evidence
from lamppost_tools.doctor.outbox import evidence_of_gateway
from lamppost_tools.doctor.rules import RULES
from lamppost_tools.errors import MissingError, RefusedError

NODE_ID, NETWORK = 0x0A0B0C0D, 0xCAFE
SIGNER = HostSigner(b"\x07" * 31 + b"\x01")
VERSION = 1 << 8
START_S = 1_780_000_000
POWER_ON, HARD, WATCHDOG = 1, 2, 3


class Kept:
    """What a gateway keeps of one node, written by the gateway's own outbox: `say` a record, `refuse` a frame."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_dated = True
        self._outbox = Outbox(folder / "outbox.db")
        self._n = 0

    def say(self, kind: int, quality: int, values: list[int | None]) -> None:
        self._n += 1
        at_s = START_S + 60 * self._n
        time_s, clock = (at_s, 2) if self.is_dated else (None, None)
        payload = records.encode_uplink(self._n, 0, time_s, clock, [[kind, 0, quality, *values]])
        data = frames.seal(SIGNER, frames.UPLINK, NETWORK, NODE_ID, 1, NODE_ID, self._n, payload)
        self._do(self._outbox.commit_frames, [NewFrame(NODE_ID, 1, self._n, self._n, 1, 1, at_s * 1000, "line0", False, False, data)], [])

    def health(self, **changed: int) -> None:
        values = {
            "uptime": 600, "boots": 4, "reset_cause": POWER_ON, "heap_free": 60_000, "heap_free_lowest": 50_000, "spool_owed": 2,
            "spool_capacity": 10_000, "rejects": 0, "flash_faults": 0, "task_restarts": 0, "state": 0, "config_digest": 1,
            "firmware_version": VERSION, **changed,
        }  # fmt: skip
        self.say(NODE, GOOD, [values[column.name] for column in by_name("node").columns if column.name in values])

    def lamp(self, fault: str = "") -> None:
        self.say(LAMP, GOOD, [100, 100, 600, 2300, 260, 950, 0, 1, 1 << LAMP_FAULTS.index(fault) if fault else 0])

    def refuse(self, reason: str) -> None:
        self._do(self._outbox.add_reject, reason, NODE_ID, "line0", START_S * 1000, b"frame")

    def _do(self, method: Any, *arguments: Any) -> None:
        [(_, error)] = self._outbox.transact([lambda: method(*arguments)])
        if error is not None:
            raise error

    def close(self) -> None:
        self._outbox.close()


def healthy(kept: Kept) -> None:
    """An hour of a node with a lamp and a bin; its heap goes up and down, it was started once by its supply, a frame was damaged."""
    for minute in range(12):
        kept.health(heap_free=60_000 - 3_000 * (minute % 3), boots=4 + (minute > 5), rejects=minute // 6)
        kept.lamp()
        kept.say(BIN, GOOD if minute % 4 else SENSOR_FAULT, [400, 70, 210, 0])
    kept.refuse("bad_signature")


def times(count: int, step: Callable[[int], None]) -> None:
    for number in range(count):
        step(number)


def undated(kept: Kept) -> None:
    kept.is_dated = False
    times(3, lambda _: kept.lamp())


SYMPTOMS: dict[str, Callable[[Kept], None]] = {
    "wrong network": lambda kept: kept.refuse("foreign_network"),
    "key mismatch": lambda kept: times(3, lambda _: kept.refuse("bad_signature")),
    "counter store lost": lambda kept: kept.health(boots=5, state=hello.COUNTER_LOST),
    "boot loop": lambda kept: times(3, lambda number: kept.health(boots=6 + number, reset_cause=WATCHDOG)),
    "supply browning out": lambda kept: times(3, lambda number: kept.health(boots=6 + number, reset_cause=POWER_ON)),
    "sensor dead": lambda kept: times(3, lambda _: kept.say(BIN, SENSOR_FAULT, [None, None, 210, 0])),
    "clock never set": undated,
    "schedule missing": lambda kept: kept.lamp("schedule_missing"),
    "spool nearly full": lambda kept: kept.health(boots=5, spool_owed=8_000),
    "heap shrinking": lambda kept: times(6, lambda number: kept.health(boots=6, heap_free=60_000 - 4_000 * number)),
    "old firmware": lambda kept: kept.health(boots=5, firmware_version=VERSION - 1),
    "line noise": lambda kept: times(2, lambda number: kept.health(boots=6, rejects=7 * number)),
}


@pytest.fixture
def kept(tmp_path: Path) -> Any:
    made = Kept(tmp_path)
    healthy(made)
    yield made
    made.close()


def found_in(kept: Kept) -> dict[str, Any]:
    [seen] = evidence_of_gateway(kept.folder, None, VERSION)
    return diagnose(seen)


def test_a_healthy_node_has_no_finding(kept: Kept) -> None:
    """And everything was judged."""
    found = found_in(kept)
    assert (found["node"], found["verdict"], found["findings"], found["not_judged"]) == ("0a0b0c0d", "nothing found", [], [])


def test_every_rule_has_a_symptom_here() -> None:
    """None is untested, each says what to do."""
    assert set(SYMPTOMS) == {rule.symptom for rule in RULES}
    assert all(rule.cause and rule.next_step for rule in RULES)


@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_each_symptom_is_found_and_no_other(kept: Kept, symptom: str) -> None:
    """Put into the gateway's records of a healthy node."""
    SYMPTOMS[symptom](kept)
    found = found_in(kept)
    assert [finding["symptom"] for finding in found["findings"]] == [symptom]
    assert found["verdict"] == symptom
    assert all(found["findings"][0][part] for part in ("evidence", "cause", "next_step"))


def test_what_cannot_be_known_is_not_judged(tmp_path: Path) -> None:
    """Of a node of which nothing but a refused frame came, only that is said."""
    kept = Kept(tmp_path)
    kept.refuse("foreign_network")
    found = found_in(kept)
    assert [finding["symptom"] for finding in found["findings"]] == ["wrong network"]
    assert {"clock never set", "boot loop", "spool nearly full", "old firmware", "sensor dead"} <= set(found["not_judged"])
    kept.close()
    assert diagnose(Evidence("0a0b0c0d", "nowhere"))["findings"] == []


def test_an_echo_that_is_missing_is_no_dead_sensor(kept: Kept) -> None:
    """An open lid for three reports: told by its own quality, not by the doctor."""
    times(3, lambda _: kept.say(BIN, NO_ECHO, [None, None, 210, 0]))
    assert found_in(kept)["findings"] == []


def test_the_outbox_is_only_read(kept: Kept, lamppost: Callable, tmp_path: Path) -> None:
    """While the gateway holds it open; as a command: 0 for a healthy node, 1 with what to do for an ill one, 3 without a file."""
    assert lamppost("doctor", "--from-gateway", str(tmp_path)).returncode == 0
    SYMPTOMS["schedule missing"](kept)
    ill = lamppost("doctor", "--from-gateway", str(tmp_path), "--node", "0a0b0c0d")
    assert ill.returncode == 1
    assert b"node 0a0b0c0d" in ill.stdout
    assert b"next:  lamppost order schedule" in ill.stdout
    [document] = json.loads(lamppost("doctor", "--from-gateway", str(tmp_path), "--json").stdout)
    assert document["verdict"] == "schedule missing"
    assert lamppost("doctor", "--from-gateway", str(tmp_path / "nowhere")).returncode == 3
    assert lamppost("doctor").returncode == 2


def test_what_is_no_outbox_is_refused(tmp_path: Path) -> None:
    """Missing, something else, newer tables: a sentence."""
    with pytest.raises(MissingError):
        evidence_of_gateway(tmp_path, None, VERSION)
    (tmp_path / "outbox.db").write_bytes(b"not a database at all, and long enough to be read as one" * 20)
    with pytest.raises(RefusedError, match="cannot be read"):
        evidence_of_gateway(tmp_path, None, VERSION)
    (tmp_path / "newer.db").unlink(missing_ok=True)
    connection = sqlite3.connect(tmp_path / "newer.db")
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(RefusedError, match="version 3"):
        evidence_of_gateway(tmp_path / "newer.db", None, VERSION)
