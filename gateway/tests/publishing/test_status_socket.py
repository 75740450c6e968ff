"""The status socket and the commands that read it."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from lamppost_gateway import status, status_cli
from lamppost_gateway.__main__ import app
from lamppost_gateway.refused_words import describe, in_one_line
from lamppost_gateway.snapshot import Snapshot
from typer.testing import CliRunner

BIN = [2, -30, 2, None, None, 213, 1]


async def echo(request: dict[str, Any]) -> dict[str, Any]:
    if request.get("fail"):
        raise ValueError("no such limit")
    return {"got": request}


def test_one_line_in_one_document_out(bench: Any, tmp_path: Path) -> None:
    """A question by name with its fields; mistakes are answered in words; the socket is the owner's alone."""
    path = tmp_path / "status.sock"

    async def test() -> None:
        server = asyncio.create_task(status.StatusServer(path, {"echo": echo}).run())
        await bench.until(path.exists)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await asyncio.to_thread(status.ask, path, "echo", limit=3) == {"got": {"ask": "echo", "limit": 3}}
        assert "no such limit" in (await asyncio.to_thread(status.ask, path, "echo", fail=True))["error"]
        for wrong in (b"{}\n", b"[]\n", b"\n", b"\xff\n", b'{"ask": "other"}\n', b'{"ask": []}\n', b"[" * 3000 + b"\n"):
            assert "echo" in (await raw(path, wrong))["error"]
        assert "bytes" in (await raw(path, b"x" * 10_000))["error"]
        server.cancel()
        await asyncio.wait([server])
        assert not path.exists()

    bench.run(test)


async def raw(path: Path, line: bytes) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line)
    answer: dict[str, Any] = json.loads(await asyncio.wait_for(reader.readline(), 10))
    writer.close()
    return answer


def test_socket_of_a_dead_daemon_is_replaced_that_of_a_living_one_is_not(bench: Any, tmp_path: Path) -> None:
    """kill -9 leaves the file behind; a second gateway must not steal it."""
    path = tmp_path / "status.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))

    async def test() -> None:
        server = asyncio.create_task(status.StatusServer(path, {"echo": echo}).run())
        await bench.until(lambda: answers(path))
        with pytest.raises(OSError, match="another gateway"):
            await status.StatusServer(path, {}).run()
        assert await answers(path)
        server.cancel()
        await asyncio.wait([server])

    async def answers(path: Path) -> bool:
        try:
            return "got" in await asyncio.to_thread(status.ask, path, "echo")
        except OSError:
            return False

    bench.run(test)


def test_a_file_that_is_no_socket_is_left_alone(bench: Any, tmp_path: Path) -> None:
    """A wrong path in the configuration must not delete somebody's file."""
    path = tmp_path / "precious"
    path.write_text("keep me")

    async def test() -> None:
        with pytest.raises(OSError, match="in use"):
            await status.StatusServer(path, {}).run()

    bench.run(test)
    assert path.read_text() == "keep me"


def test_silent_and_vanishing_clients_do_no_harm(bench: Any, tmp_path: Path) -> None:
    """Clients that connect and say nothing, or leave, keep nobody out for long."""
    path = tmp_path / "status.sock"

    async def test() -> None:
        server = asyncio.create_task(status.StatusServer(path, {"echo": echo}).run())
        await bench.until(path.exists)
        idle = [await asyncio.open_unix_connection(path) for _ in range(10)]
        for _, writer in idle[:5]:
            writer.close()
        assert "got" in await asyncio.to_thread(status.ask, path, "echo")
        server.cancel()
        await asyncio.wait([server], timeout=5)
        for _, writer in idle:
            writer.close()

    bench.run(test)


class Daemon:
    """A street with its status socket, in a thread, so that the commands can be run against it."""

    def __init__(self, street: Any, before: Any) -> None:
        self.street = street
        self._before = before
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Daemon":
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *args: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(20)

    def _run(self) -> None:
        self._task = self._loop.create_task(self._serve())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass

    async def _serve(self) -> None:
        street = self.street
        async with street.running():
            await self._before()
            snapshot = Snapshot(street.config, "1.2.3", street.store, street.registry, street.downlinks, street.publisher, street.releases)
            answers = {**snapshot.answers(), "resync": street.publisher.resync}
            server = asyncio.create_task(status.StatusServer(street.config.status.socket, answers).run())
            while not street.config.status.socket.exists():
                await asyncio.sleep(0.01)
            self._ready.set()
            try:
                await server
            finally:
                server.cancel()


def invoke(street: Any, *words: str, width: int = 100) -> Any:
    path = street.folder / "gateway.toml"
    path.write_text(street.text)
    environment = {"NO_COLOR": "1", "COLUMNS": str(width), "TERM": "dumb"}
    return CliRunner().invoke(app, [words[0], "-c", str(path), *words[1:]], env=environment)


@pytest.fixture
def lonely_street(bench: Any, tmp_path: Path) -> Any:
    return bench.Street(tmp_path, bench.free_port())


def test_status_command(lonely_street: Any) -> None:
    """What a person sees, what a machine gets, and an exit code that says that the broker is away."""
    street = lonely_street

    async def before() -> None:
        await street.commit(street.nodes[0x11].frame(BIN))

    with Daemon(street, before):
        told = invoke(street, "status")
        assert told.exit_code == 4, told.output
        for words in ("gateway gw-1", "version 1.2.3", "1 of 1 frames to publish", "00000011", "attention: broker 127.0.0.1"):
            assert words in told.output
        assert "\x1b" not in told.output
        narrow = invoke(street, "status", width=40)
        assert max(len(line) for line in narrow.output.splitlines()) <= 40
        machine = json.loads(invoke(street, "status", "--json").output)
        assert machine["outbox"]["unpublished"] == 1
        assert machine["attention"] != []
        assert set(machine) >= {"gateway", "links", "nodes", "outbox", "broker", "orders", "losses"}


def test_status_without_a_gateway(lonely_street: Any) -> None:
    """Says so, with exit code 3; a missing configuration is 2."""
    told = invoke(lonely_street, "status")
    assert told.exit_code == 3
    assert "no gateway answers" in told.output
    missing = CliRunner().invoke(app, ["status", "-c", "/nonexistent/gateway.toml"])
    assert missing.exit_code == 2


@pytest.mark.parametrize("is_running", [True, False])
def test_rejects_command(lonely_street: Any, is_running: bool) -> None:
    """Refused frames decoded, from the daemon or, when none runs, from its file."""
    street = lonely_street
    frame = street.stranger.frame([1, 0, 0, 60, 60, 472, 2301, 210, 980, 12345, 1, 0]).data

    async def before() -> None:
        write, outbox = street.store.write, street.store.outbox
        await write(outbox.add_reject, "unknown_node", 0x99, "line", 1_000_000, b"\xd2\x84\x00")
        await write(outbox.add_reject, "unknown_node", 0x99, "line", 1_900_000_000_000, frame)
        await write(outbox.add_reject, "bad_slip", None, "line", 1_900_000_000_001, b"\x1b[31mred")

    with Daemon(street, before):
        if is_running:
            check_rejects(street, frame)
    if not is_running:
        check_rejects(street, frame)


def check_rejects(street: Any, frame: bytes) -> None:
    told = invoke(street, "rejects")
    assert told.exit_code == 0, told.output
    assert "unknown_node" in told.output
    assert "uplink tx=1 n=1 [lamp good] time=2027-01-15T08:00:00Z" in told.output
    assert frame.hex() in told.output.replace("\n", "")
    assert "\x1b" not in told.output
    lines = [json.loads(line) for line in invoke(street, "rejects", "--json").output.splitlines()]
    assert [line["reason"] for line in lines] == ["unknown_node", "unknown_node", "bad_slip"]
    assert lines[1]["bytes"] == frame.hex()
    assert lines[1]["decoded"]["looks_like"] == "uplink"
    young = invoke(street, "rejects", "--json", "--since", "2020-01-01")
    assert len(young.output.splitlines()) == 2
    assert len(invoke(street, "rejects", "--json", "--limit", "1").output.splitlines()) == 1
    assert "nothing was refused" in invoke(street, "rejects", "--since", "2035-01-01T00:00:00Z").output
    assert invoke(street, "rejects", "--since", "yesterday").exit_code == 2


def test_rejects_without_outbox_or_gateway(lonely_street: Any) -> None:
    """Nothing to read: exit code 3 and both places named."""
    told = invoke(lonely_street, "rejects")
    assert told.exit_code == 3
    assert "outbox.db" in told.output


def test_rejects_follow(lonely_street: Any) -> None:
    """--follow goes on with what is refused later, and ends on interrupt without a traceback."""
    street = lonely_street

    async def before() -> None:
        await street.store.write(street.store.outbox.add_reject, "bad_tag", None, "line", 1, b"")

    path = street.folder / "gateway.toml"
    path.write_text(street.text)
    with Daemon(street, before) as daemon:
        command = [sys.executable, "-m", "lamppost_gateway", "rejects", "-c", str(path), "--json", "--follow"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["reason"] == "bad_tag"
            store = street.store
            asyncio.run_coroutine_threadsafe(
                store.write(store.outbox.add_reject, "bad_signature", 5, "line", 2, b"x"), daemon._loop
            ).result(10)
            assert json.loads(process.stdout.readline())["reason"] == "bad_signature"
            process.send_signal(2)
            _, errors = process.communicate(timeout=10)
            assert b"Traceback" not in errors


def test_resync_command(lonely_street: Any) -> None:
    """Puts what was confirmed back into the queue; needs the daemon."""
    street = lonely_street

    async def before() -> None:
        await street.commit(street.nodes[0x11].frame(BIN))
        await street.store.write(street.store.outbox.mark_published, [1], 2_000_000_000_000)

    with Daemon(street, before):
        assert "1 frames" in invoke(street, "resync", "--since", "2020-01-01").output
        assert json.loads(invoke(street, "resync", "--since", "1h", "--json").output) == {"frames": 0}
    assert invoke(street, "resync", "--since", "1h").exit_code == 3
    assert invoke(street, "resync", "--since", "soon").exit_code == 2


def test_what_needs_attention() -> None:
    """Each trouble is one sentence; none is none."""
    good = {
        "links": [{"name": "line", "up": True}],
        "broker": {"state": "connected"},
        "outbox": {"full_in_h": None},
        "losses": [],
    }
    assert status_cli.attention(good) == []
    bad = {
        "links": [{"name": "line", "up": False}],
        "broker": {"state": "connecting", "host": "b", "port": 1, "last_error": "refused"},
        "outbox": {"full_in_h": 31.2},
        "losses": [{"records": 5, "reason": "disk_budget"}],
    }
    assert status_cli.attention(bad) == [
        "link line is down",
        "broker b:1 is not connected: refused",
        "the outbox is full in 31 h at this rate",
        "5 stored records had to be dropped (last: disk_budget)",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59, "59 s"), (3601, "1 h 1 s"), (200000, "2 d 7 h"), (-5, "0 s")])
def test_ages(seconds: int, text: str) -> None:
    """Two units are enough for a person."""
    assert status_cli.age(seconds) == text


def test_refused_frames_in_words(lonely_street: Any) -> None:
    """Every sort of message is recognised; arbitrary octets never raise."""
    authority = lonely_street.authority
    assert in_one_line(describe(bytes.fromhex(authority.order(5, 9)["frame"]))).startswith("order tx=9 verb=level target=lamp")
    assert describe(bytes.fromhex(authority.beacon(None, 9)["frame"]))["looks_like"] == "beacon"
    good = lonely_street.nodes[0x11].frame(BIN).data
    assert describe(good)["records"] == ["bin no_echo"]
    for cut in range(len(good)):
        assert describe(good[:cut])["looks_like"]
