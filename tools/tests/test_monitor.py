"""`lamppost monitor`: a port that is only listened to, a broker that is followed, and one line for each thing said."""

import asyncio
import json
import os
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lamppost_protocol import beacons, frames, hello, kinds, modem, records, slip
from lamppost_protocol.es256_host import HostSigner, generate_private_key, public_key
from lamppost_tools.broker import BrokerSettings, Topics, connect
from lamppost_tools.city import CITY_NAME
from lamppost_tools.frame.decode import KeyRing
from lamppost_tools.monitor.city import entry_of
from lamppost_tools.monitor.line import Listener
from lamppost_tools.monitor.sentence import lines_of

NETWORK, LAMP_NODE = 0xCAFE, 0xA001
KEY = generate_private_key()
RING = KeyRing(network=NETWORK, nodes={LAMP_NODE: {"epoch": 1, "public_key": public_key(KEY).hex(), "fixtures": ["lamp"]}})
LAMP_RECORD = [kinds.LAMP, 5, kinds.GOOD, 60, 60, 472, 2301, 205, 980, 12345, 1, 0]
NODE_ID = f"{LAMP_NODE:08x}"


def uplink(tx: int = 7, key: bytes = KEY) -> bytes:
    payload = records.encode_uplink(10, 0, 1_800_000_000, 1, [LAMP_RECORD, LAMP_RECORD])
    return frames.seal(HostSigner(key), frames.UPLINK, NETWORK, LAMP_NODE, 1, LAMP_NODE, tx, payload)


GREETING = hello.encode_hello(hello.Hello(NETWORK, LAMP_NODE, 1, 0, bytes(8), 3, 11, "lamppost 0.1"))
SAID = (
    b"MicroPython v1.25.0\r\n\r\n>>> \x1b[31m\r\n" + slip.encode(slip.HELLO, GREETING) + slip.encode(slip.LOG, b"boot 1")
    + slip.encode(slip.FRAME, uplink()) + slip.encode(slip.FRAME, uplink(8, generate_private_key())) + b"\xff\xfe" + slip.END
    + b"Traceback\n"
)  # fmt: skip


@given(st.lists(st.integers(1, 40), min_size=1))
def test_a_line_reads_the_same_in_whatever_pieces_it_comes(sizes: list[int]) -> None:
    """Console text, messages and noise in their order, each once."""
    listener, found, at = Listener(RING), [], 0
    while at < len(SAID):
        size = sizes[at % len(sizes)]
        found += listener.feed(SAID[at : at + size])
        at += size
    assert [entry["what"] for entry in found] == ["console", "console", "hello", "log", "uplink", "uplink", "not readable", "console"]
    assert [entry.get("verdict") for entry in found[4:6]] == ["valid", "refused"]
    assert (found[0]["text"], found[1]["text"], found[6]["reason"]) == ("MicroPython v1.25.0", ">>> ?[31m", "bad_crc")


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_a_line_of_garbage_gives_lines(chunks: list[bytes]) -> None:
    """Whatever comes, it is told and nothing is raised."""
    listener = Listener(RING)
    for chunk in [*chunks, slip.END * 2]:
        for entry in listener.feed(chunk):
            assert all(isinstance(line, str) and line for line in lines_of(entry))


def test_each_thing_said_is_a_line() -> None:
    """A record names its node, number, time, quality and values; what is refused says why; a signal is shown where a radio heard it."""
    (first, second) = lines_of(entry_of(f"node/{NODE_ID}/frame", uplink(), RING) or {})
    assert first.startswith(f"{NODE_ID} lamp n 10 2027-01-15T08:00:05Z good: command level 60 %, applied level 60 %, active power 47.2 W")
    assert first.endswith("valid")
    assert " n 11 " in second
    forged = lines_of(entry_of(f"node/{NODE_ID}/frame", uplink(9, generate_private_key()), RING) or {})
    assert "REFUSED bad_signature" in forged[0]
    beacon = frames.seal(HostSigner(KEY), frames.BEACON, NETWORK, 0, 0, 1, 17, beacons.encode_beacon(1_800_000_000, None))
    listener = Listener(RING)
    (line,) = [line for entry in listener.feed(slip.encode(slip.FRAME, beacon)) for line in lines_of(entry)]
    assert line.startswith("beacon: time 2027-01-15T08:00:00Z, for everybody  not checked: give --authority-key")
    state = modem.encode_state(modem.State("lamppost 0.1", 5_000_000, 7, 1, 0, 0, True))
    assert "received 7" in next(line for entry in listener.feed(slip.encode(slip.MODEM, state)) for line in lines_of(entry))


def test_what_a_broker_carries_is_told_once() -> None:
    """A record is told by its frame, a request not at all; a document that is none is shown as what it is."""
    assert entry_of(f"node/{NODE_ID}/record/lamp", b"{}", RING) is None
    assert entry_of("order/request", b"{}", RING) is None
    state = {"order_id": 3, "node": NODE_ID, "state": "applied", "evidence": {"n": 5}}
    told = lines_of(entry_of("order/3/state", json.dumps(state).encode(), RING) or {})
    assert told == [f"order: order id 3, node {NODE_ID}, state applied, evidence n 5"]
    assert entry_of("gateway/g1/reject", b"[" * 9000, RING) == {"what": "gateway g1 reject", "not_json": "5b" * 64}


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[tuple[int, str]]:
    near, far = os.openpty()
    tty.setraw(far)
    path = tmp_path / "line"
    path.symlink_to(os.ttyname(far))
    yield near, str(path)
    path.unlink()
    os.close(far)
    os.close(near)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lamppost_tools", "monitor", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_port_is_listened_to_and_never_spoken_to(terminal: tuple[int, str]) -> None:
    """The real command on a real terminal: what is said there, in order, and not an octet from it."""
    near, path = terminal
    process = start("--port", path, "--count", "4", "--json")
    told: list[dict[str, object]] = []
    end_s = time.monotonic() + 30
    os.set_blocking(near, False)
    while process.poll() is None:
        assert time.monotonic() < end_s
        try:
            os.write(near, slip.encode(slip.LOG, b"tick") + slip.encode(slip.HELLO, GREETING))
        except BlockingIOError:
            os.sched_yield()
    out, err = process.communicate(timeout=10)
    told = [json.loads(line) for line in out.splitlines()]
    assert (process.returncode, err, len(told)) == (0, "", 4)
    assert {entry["what"] for entry in told} <= {"log", "hello", "not readable"}
    with pytest.raises(BlockingIOError):
        os.read(near, 1)


def test_a_port_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With what to try, and the code for what is missing."""
    process = start("--port", str(tmp_path / "none"))
    _, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "cannot be opened" in err
    assert "--city" in err


def test_a_broker_is_followed(broker_port: int, tmp_path: Path) -> None:
    """The real command at a real broker, one node of two."""
    city = tmp_path / CITY_NAME
    city.write_text(f'network = "{NETWORK:08x}"\n[broker]\nport = {broker_port}\n')
    registry = tmp_path / "registry.json"
    registry.write_text(
        json.dumps({
            "network": f"{NETWORK:08x}",
            "nodes": {NODE_ID: {"epoch": 1, "public_key": public_key(KEY).hex(), "fixtures": ["lamp"], "revoked": False}},
        })
    )  # fmt: skip
    process = start("--city", str(city), "--registry", str(registry), "--node", NODE_ID, "--count", "2", "--json")
    topics = Topics(NETWORK)

    async def speak() -> None:
        async with asyncio.timeout(30), connect(BrokerSettings(port=broker_port)) as client:
            while process.poll() is None:
                await client.publish(f"{topics.root}/node/0000beef/hello", b'{"node": "0000beef"}', qos=1)
                await client.publish(f"{topics.root}/node/{NODE_ID}/frame", uplink(), qos=1)

    asyncio.run(speak())
    out, err = process.communicate(timeout=10)
    told = [json.loads(line) for line in out.splitlines()]
    assert (process.returncode, err) == (0, "")
    assert [(entry["node"], entry["verdict"]) for entry in told] == [(NODE_ID, "valid")] * 2
