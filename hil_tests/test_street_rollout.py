"""A whole roll-out: two real nodes, a gateway, a broker, the authority, and the commands that an operator types (R26)."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench.deadline import wait_for
from bench.program import Program
from street.broker import python_path
from street.release import Changes, changed_files, version
from street.street_node import NodeSpec
from street.town import Town

FIRST, SECOND = 0xC1, 0xC2
VERSION: Changes = {"lamppost_node/version.py": version("lamppost 0.2.0", 1)}
#: It does not even load: a node that tries it is back in a moment.
BROKEN: Changes = {**VERSION, "lamppost_node/app.py": ("import asyncio\n", "import nonsense\n")}


class Desk:
    """An operator with a terminal: the release, the journal, the authority's folder."""

    def __init__(self, town: Town, image: Path) -> None:
        assert town.broker is not None
        self.folder = town.folder
        self.port = town.broker.port
        self.network = f"{town.network:08x}"
        self.registry = town.registry.path
        self.image = image
        self.release = town.folder / "release"
        self.journal = town.folder / "rollout.jsonl"

    def lamppost(self, *arguments: str | Path, deadline_s: float = 60) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        command = [sys.executable, "-m", "lamppost_tools", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": python_path(), "NO_COLOR": "1"}
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=deadline_s, env=environment)

    def done(self, *arguments: str | Path) -> str:
        """What a command that must do it says."""
        done = self.lamppost(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def publish(self, changes: Changes) -> None:
        """Make, sign, check and publish a release of this tree's firmware with these changes."""
        new = self.folder / "new"
        for package in ("lamppost_node", "lamppost_protocol"):
            shutil.copytree(self.image / package, new / package)
        for name, content in changed_files(self.folder / "changed", changes).items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(content)
        authority = self.folder / "authority"
        self.done("release", "build", "--out", self.release, "--base", self.image, "--image", new)
        self.done("release", "sign", self.release, "--state", authority)
        self.done("release", "check", self.release, "--authority-key", authority / "authority-public.json")
        self.done("release", "publish", self.release, "--network", self.network, "--broker-port", str(self.port))

    def roll_out(self, deadline_s: float) -> subprocess.CompletedProcess[str]:
        """One node, then the other, each watched for some seconds."""
        pace = ["--stages", "1,100%", "--soak", "5s", "--silence", "60s", "--for", "1h"]
        where = ["--network", self.network, "--broker-port", str(self.port)]
        nodes = ["--nodes", "all", "--registry", self.registry]
        return self.lamppost("rollout", "start", self.release, *nodes, *pace, "--journal", self.journal, *where, deadline_s=deadline_s)

    def states(self) -> dict[str, list[str]]:
        """Each node's own words of its update, as the journal has them."""
        told: dict[str, list[str]] = {}
        for entry in map(json.loads, self.journal.read_text().splitlines()):
            if entry["step"] == "state" and entry["n"] is not None:
                told.setdefault(entry["node"], []).append(f"{entry['state']} {entry['reason']}".strip())
        return told


@contextmanager
def living(town: Town, authority: Program) -> Iterator[None]:
    """Gateway, authority and nodes run, and a node that ends starts again, as a chip that resets."""
    is_over = threading.Event()

    def restart() -> None:
        while not is_over.wait(0.2):
            for node in town.nodes.values():
                if not node.program.is_running:
                    node.start()

    gateway = town.add_gateway()
    gateway.start()
    authority.start()
    thread = threading.Thread(target=restart, daemon=True)
    try:
        thread.start()
        wait_for(lambda: gateway.status()["broker"]["state"] == "connected", "the broker")
        for node in (FIRST, SECOND):
            town.wait_stored(node, more_than=3)
            town.wait_until(lambda node=node: town.nodes[node].knows_time, "the time")
        yield
    finally:
        is_over.set()
        thread.join(5)
        authority.kill()


@pytest.fixture
def street(town: Callable[..., Town], image: Path) -> Iterator[Desk]:
    """Two lamps that live, and a desk."""
    made = town(NodeSpec(FIRST), NodeSpec(SECOND), is_connected=True)
    assert made.broker is not None
    run = ["-m", "lamppost_tools", "authority", "run", "--state", str(made.folder / "authority"), "--broker-port", str(made.broker.port)]
    authority = Program("authority", [sys.executable, *run], made.folder / "authority.log", {"PYTHONPATH": python_path()})
    with living(made, authority):
        yield Desk(made, image)


def test_a_release_that_does_not_load_stops_at_the_first_node(street: Desk) -> None:
    """The canary comes back by itself and says so; the other node never hears of it; one sentence names what stopped it."""
    street.publish(BROKEN)
    done = street.roll_out(120)
    assert done.returncode == 1, done.stdout
    assert "1 of 2 nodes do not run the release" in done.stderr.replace("\n", " "), done.stderr
    (states,) = street.states().values()
    assert states[-1] == "reverted trial_failed"
    assert street.lamppost("rollout", "status", "--journal", street.journal).returncode == 1


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_good_release_is_verified_at_one_node_and_then_at_the_other(street: Desk) -> None:
    """Each lives its good minute with it first; afterwards both say the new version, and the roll-out is done."""
    street.publish(VERSION)
    done = street.roll_out(500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {tuple(states) for states in street.states().values()} <= {
        ("accepted", "applied", "verified"),
        ("applied", "verified"),
        ("verified",),
    }
    status = json.loads(street.done("rollout", "status", "--journal", street.journal, "--json"))
    assert (status["state"], [stage["verified"] for stage in status["stages"]]) == ("done", [1, 1])
