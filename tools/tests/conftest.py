"""A small city on disk for the tools' tests, and a real broker on loopback."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lamppost_tools.authority.init import init_authority
from lamppost_tools.authority.settings import PUBLIC_NAME
from lamppost_tools.broker import BrokerSettings
from lamppost_tools.node.config import config_of_fixtures
from lamppost_tools.node.enrol import KeySource, enrol_node
from lamppost_tools.node.registry import Registry

NETWORK = 0x0000CAFE
LAMP_NODE = 0xA001
BIN_NODE = 0xA002


@dataclass(frozen=True)
class City:
    """Paths of a made city: authority, registry, two enrolled nodes (a lamp, a bin)."""

    root: Path
    authority: Path
    public: Path
    registry: Registry
    nodes: Path

    def enrol(self, node: int, fixtures: list[str]) -> dict[str, object]:
        """Enrol one more node."""
        config = config_of_fixtures(fixtures, NETWORK)
        return enrol_node(self.registry, self.nodes, self.public, config, node, None, KeySource())


def make_city(root: Path, port: int = 1883, passphrase_file: Path | None = None) -> City:
    authority = root / "authority"
    init_authority(authority, NETWORK, Path("../gateway/registry.json"), BrokerSettings(port=port), passphrase_file)
    city = City(root, authority, authority / PUBLIC_NAME, Registry(root / "gateway" / "registry.json"), root / "nodes")
    city.enrol(LAMP_NODE, ["lamp"])
    city.enrol(BIN_NODE, ["bin"])
    return city


@pytest.fixture
def city(tmp_path: Path) -> City:
    return make_city(tmp_path)


@pytest.fixture
def city_maker(tmp_path: Path):
    """Makes a city with options, under the test's folder."""

    def make(port: int = 1883, passphrase_file: Path | None = None) -> City:
        return make_city(tmp_path, port, passphrase_file)

    return make


@pytest.fixture
def broker_port() -> Iterator[int]:
    """A real MQTT broker on a free loopback port, ended with the test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "lamppost_tools.demo.broker", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield port
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)


@pytest.fixture(scope="session")
def lamppost() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs the command as a person would: words after `lamppost`, standard input as `data`, environment by name."""

    def run(*arguments: str, data: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "lamppost_tools", *arguments],
            input=data,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, "COLUMNS": "200", "TERM": "dumb", **environment},
        )

    return run
