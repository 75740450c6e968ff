"""`lamppost rollout` as an operator runs it: a real broker, a real authority, and a street whose words are those of a gateway."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from lamppost_protocol.profiles import by_name
from lamppost_tools.broker import BrokerLostError, BrokerSettings, Client, Topics, connect
from lamppost_tools.release.build import build_release
from lamppost_tools.release.files import read_release
from lamppost_tools.release.sign import sign_release

NETWORK = 0xCAFE
TOPICS = Topics(NETWORK)
NODES = ["0000a001", "0000a002", "0000a003", "0000a004"]
_DEADLINE_S = 60


class Street:
    """What gateways tell of nodes that take an update as the test says: `verified`, `reverted`, or `accepted` for one that fetches on."""

    def __init__(self, client: Client) -> None:
        self.ends = dict.fromkeys(NODES, "verified")
        self.updates: list[tuple[str, int]] = []
        self.cancelled: list[int] = []
        self.boots = dict.fromkeys(NODES, 3)
        self._n = dict.fromkeys(NODES, 0)
        self._client = client

    def skip(self, node: str) -> None:
        """Its numbers go on far above those of before."""
        self._n[node] += 1000

    async def health(self, node: str) -> None:
        """A record of a node's health."""
        values = {"boots": self.boots[node], "uptime": 9000, "heap_free": 20.0}
        columns = {column.name: {"value": values.get(column.name, 0), "word": "running"} for column in by_name("node").columns}
        self._n[node] += 1
        document = {"epoch": 1, "n": self._n[node], "values": columns}
        await self._client.publish(f"{TOPICS.root}/node/{node}/record/node", json.dumps(document), qos=1)

    async def state(self, node: str, order_id: int, state: str, reason: str = "") -> None:
        """A state in a signed record of the node."""
        self._n[node] += 1
        evidence = {"by": "node", "epoch": 1, "n": self._n[node], "reason": reason}
        document = {"order_id": order_id, "node": node, "state": state, "at": None, "evidence": evidence}
        await self._client.publish(TOPICS.order_state(order_id), json.dumps(document), qos=1, retain=True)

    async def run(self) -> None:
        """Live: tell of the nodes' health twice a second, and answer orders."""
        await self._client.subscribe(TOPICS.order_signed, 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._obey())
            while True:
                for node in NODES:
                    await self.health(node)
                await asyncio.sleep(0.5)

    async def _obey(self) -> None:
        async for message in self._client.messages:
            if not str(message.topic).endswith("order/signed"):
                continue
            order = json.loads(message.payload)
            node, order_id = order["node"], order["order_id"]
            if order["verb"] == "cancel":
                self.cancelled.append(order_id)
                await self.state(node, dict(self.updates)[node], "reverted", "cancelled")
                continue
            self.updates.append((node, order_id))
            for state in ("accepted", "applied", self.ends[node]):
                await self.state(node, order_id, state, "trial_failed" if state == "reverted" else "")
                if state == self.ends[node]:
                    break
            self.boots[node] += 1


class Desk:
    """An operator's folder: a signed release and a journal to be."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.release, self.journal = folder / "release", folder / "journal.jsonl"
        (folder / "nodes.txt").write_text("# these\n" + "\n".join(NODES) + "\n")

    def command(self, name: str, *arguments: str) -> list[str]:
        where = ["--network", "0000cafe", "--broker-port", str(self.port)] if name != "status" else []
        return [sys.executable, "-m", "lamppost_tools", "rollout", name, *arguments, "--journal", str(self.journal), *where]

    def start(self, *more: str) -> list[str]:
        pace = ["--stages", "1,50%,100%", "--soak", "1s", "--baseline", "30s", "--silence", "30s"]
        return self.command("start", str(self.release), "--nodes", str(self.folder / "nodes.txt"), *pace, *more)

    def steps(self, step: str) -> list[dict[str, Any]]:
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["step"] == step]


async def run(command: list[str]) -> tuple[int, str, str]:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(_DEADLINE_S):
        while not is_so():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def living(port: int) -> AsyncIterator[Street]:
    async with connect(BrokerSettings(port=port)) as client:
        street = Street(client)
        task = asyncio.create_task(street.run())
        try:
            yield street
        finally:
            task.cancel()
            try:
                await task
            except (asyncio.CancelledError, BrokerLostError):
                pass


@contextmanager
def desk_of(city_maker, port: int, tmp_path: Path) -> Iterator[Desk]:
    """A city with a running authority, four nodes, and a release that it signed."""
    city = city_maker(port=port)
    city.enrol(0xA003, ["lamp"])
    city.enrol(0xA004, ["lamp"])
    desk = Desk(tmp_path, port)
    for name, text in (("base", b"0.1.0"), ("new", b"0.2.0")):
        (tmp_path / name / "lamppost_node").mkdir(parents=True)
        (tmp_path / name / "lamppost_node/version.mpy").write_bytes(text)
    build_release(desk.release, tmp_path / "base", tmp_path / "new", None, 0)
    sign_release(read_release(desk.release), city.authority, None, False)
    process = subprocess.Popen(
        [sys.executable, "-m", "lamppost_tools", "authority", "run", "--state", str(city.authority)], stderr=subprocess.DEVNULL
    )
    try:
        yield desk
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture
def desk(city_maker, broker_port, tmp_path) -> Iterator[Desk]:
    with desk_of(city_maker, broker_port, tmp_path) as made:
        yield made


def start_broker(port: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "lamppost_tools.demo.broker", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def play(desk: Desk, story: Callable[[Street], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(2 * _DEADLINE_S), living(desk.port) as street:
            await story(street)

    asyncio.run(bounded())


def test_through_its_stages_killed_and_resumed(desk):
    """kill -9 in the first soak; the journal goes on, no node gets a second order, and each stage waits for the one before."""

    async def story(street: Street) -> None:
        process = await asyncio.create_subprocess_exec(*desk.start("--soak", "3s"), stdout=subprocess.DEVNULL)
        await until(lambda: desk.steps("soak"))
        process.kill()
        await process.wait()
        assert (await run(desk.start()))[0] == 1  # a journal is of one roll-out
        code, out, err = await run(desk.command("resume", "--json"))
        assert (code, err) == (0, "")
        assert sorted(node for node, _ in street.updates) == NODES
        order = [entry["step"] for entry in map(json.loads, desk.journal.read_text().splitlines())]
        requests = [at for at, step in enumerate(order) if step == "request"]
        clears = [at for at, step in enumerate(order) if step == "clear"]
        assert [sum(at < clear for at in requests) for clear in clears] == [1, 2]
        assert order[-1] == "done"
        assert json.loads(out.splitlines()[-1])["step"] == "done"
        code, out, _ = await run(desk.command("status", "--json"))
        document = json.loads(out)
        assert (code, document["state"], [stage["verified"] for stage in document["stages"]]) == (0, "done", [1, 1, 2])

    play(desk, story)


def test_halts_itself_at_the_first_node_that_goes_back(desk):
    """Ends with 1 and one sentence, the canary alone was touched, `status` says what stopped it and what to do, and so does `resume`."""

    async def story(street: Street) -> None:
        street.ends = dict.fromkeys(NODES, "reverted")
        code, out, err = await run(desk.start())
        assert code == 1
        assert "1 of 4 nodes do not run the release" in err.replace("\n", " ")
        assert "resume --accept" in err
        assert "halted" in out
        assert len(street.updates) == 1
        code, out, _ = await run(desk.command("status"))
        assert code == 1
        assert "stopped by: 1 of 4 nodes" in out
        assert (await run(desk.command("resume")))[0] == 1
        assert len(street.updates) == 1

    play(desk, story)


def test_halted_by_the_operator_while_nodes_fetch(desk):
    """The runner stops and its node is told to leave it; after `resume` the node gets a new order and the roll-out its end."""

    async def story(street: Street) -> None:
        street.ends = dict.fromkeys(NODES, "accepted")
        runner = asyncio.create_task(run(desk.start()))
        await until(lambda: any(entry["state"] == "accepted" for entry in desk.steps("state")))
        assert (await run(desk.command("halt")))[0] == 0
        code, _, err = await runner
        assert (code, "halted by the operator" in err) == (1, True)
        await until(lambda: street.cancelled)
        assert (await run(desk.command("halt")))[0] == 1
        street.ends = dict.fromkeys(NODES, "verified")
        assert (await run(desk.command("resume")))[0] == 0
        canary = street.updates[0][0]
        assert [node for node, _ in street.updates].count(canary) == 2
        assert len(street.updates) == 5

    play(desk, story)


def test_a_halt_counts_although_nobody_runs_it(desk):
    """The runner was killed: `halt` itself takes the open order back and ends with the halt in the journal."""

    async def story(street: Street) -> None:
        street.ends = dict.fromkeys(NODES, "accepted")
        process = await asyncio.create_subprocess_exec(*desk.start(), stdout=subprocess.DEVNULL)
        await until(lambda: any(entry["state"] == "accepted" for entry in desk.steps("state")))
        process.kill()
        await process.wait()
        code, _, err = await run(desk.command("halt"))
        assert (code, "halted by the operator" in err) == (1, True)
        await until(lambda: street.cancelled)
        assert len(desk.steps("halt")) == 1

    play(desk, story)


@pytest.mark.soak
def test_the_broker_goes_and_comes(city_maker, tmp_path):
    """Killed in the first soak with all it held in memory: the roll-out says so, waits, and goes on to its end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    broker = start_broker(port)

    async def story(desk: Desk) -> None:
        async with living(port):
            runner = asyncio.create_task(run(desk.start("--soak", "4s")))
            await until(lambda: desk.steps("soak"))
            broker.kill()
        again = start_broker(port)
        try:
            async with living(port) as street:
                for node in street.boots:
                    street.skip(node)
                code, out, err = await runner
            assert (code, err) == (0, "")
            assert "the broker is away and is waited for" in out
            assert len(desk.steps("ordered")) == 4
        finally:
            again.kill()
            again.wait(10)

    try:
        with desk_of(city_maker, port, tmp_path) as desk:
            asyncio.run(asyncio.wait_for(story(desk), 2 * _DEADLINE_S))
    finally:
        broker.kill()
        broker.wait(10)
