"""One real gateway process with its configuration, and every place where it tells what it did: outbox, rejects, metrics, status."""

import json
import os
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from bench.deadline import wait_for
from lamppost_gateway.outbox_rows import unpack
from lamppost_gateway.status import ask

from street.broker import free_port, python_path
from street.gateway_rig import GatewayProcess

_PREFIX = "lamppost_gateway_"


class StreetGateway:
    """`start`, `kill`, `stop`; `links`: name to path. State folder: `folder`."""

    def __init__(
        self,
        folder: Path,
        name: str,
        network: int,
        authority_public_key: bytes,
        registry: Path,
        links: dict[str, Path],
        broker_port: int,
        program: str = "",
    ) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.name = name
        self._network = network
        self._authority_public_key = authority_public_key
        self._registry = registry
        self._links = links
        self._broker_port = broker_port
        self.metrics_port = free_port()
        self.config = folder / "gateway.toml"
        self.write_config()
        self.log_path = folder.parent / f"{name}.log"
        arguments = ("-c", program) if program else ("-m", "lamppost_gateway")
        self.process = GatewayProcess(self.config, self.log_path, arguments)

    def write_config(self, more: str = "", network: int | None = None) -> None:
        """Write gateway.toml; `more` is appended."""
        links = "".join(f'[[link]]\nname = "{name}"\npath = "{path}"\n' for name, path in self._links.items())
        self.config.write_text(
            f'[gateway]\nid = "{self.name}"\nnetwork = "{network or self._network:08x}"\nstate_dir = "{self.folder}"\n'
            f'registry = "{self._registry}"\nhop_keys = "{self._registry.with_name("hop-keys.json")}"\n'
            f'authority_public_key = "{self._authority_public_key.hex()}"\n'
            f"[broker]\nport = {self._broker_port}\n[metrics]\nport = {self.metrics_port}\n{links}{more}"
        )

    def start(self) -> None:
        """Start and wait until it is ready."""
        self.process.start(40.0, PYTHONPATH=python_path())

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self.process.stop(15.0)

    def status(self) -> dict[str, Any]:
        """What `lamppost-gateway status` shows."""
        document: dict[str, Any] = ask(self.folder / "status.sock", "status")
        return document

    def wait_links_up(self) -> None:
        """Wait until every port is open: what crossed before may be lost, as on a real line."""
        wait_for(lambda: all(link["up"] for link in self.status()["links"]), lambda: f"open links in {self.status()['links']}")

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One run of `lamppost-gateway` with this configuration."""
        return subprocess.run(
            [sys.executable, "-m", "lamppost_gateway", *arguments, "-c", str(self.config)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "PYTHONPATH": python_path()},
        )

    def rejects(self) -> list[dict[str, Any]]:
        """What `lamppost-gateway rejects --json` lists."""
        done = self.command("rejects", "--json")
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def metrics_text(self) -> str:
        """The metrics page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as page:
            text: str = page.read().decode()
            return text

    def counted(self, name: str, **labels: str) -> float:
        """Sum of a counter's samples that carry `labels`; 0 when there is none."""
        total = 0.0
        for line in self.metrics_text().splitlines():
            if line.startswith(_PREFIX + name + "_total") and all(f'{key}="{value}"' in line for key, value in labels.items()):
                total += float(line.rpartition(" ")[2])
        return total

    def rows(self) -> list[tuple[Any, ...]]:
        """Every stored frame as it was stored: (id, node, epoch, tx, n, count, fresh, data)."""
        return self._select("SELECT id, node, epoch, tx, n, count, fresh, data FROM frame ORDER BY id")

    def stored(self, node: int) -> dict[int, int]:
        """How many times each record number of a node is stored as new."""
        times: dict[int, int] = {}
        for _, whose, _, _, n, count, fresh, _ in self.rows():
            mask = unpack(fresh)
            for i in range(count):
                if whose == node and mask >> i & 1:
                    times[n + i] = times.get(n + i, 0) + 1
        return times

    def integrity(self) -> str:
        """SQLite's own check of the outbox: `ok`."""
        return str(self._select("PRAGMA integrity_check")[0][0])

    def log(self) -> str:
        """Everything it logged."""
        return self.log_path.read_text(errors="replace")

    def close(self) -> None:
        """End it."""
        self.process.close()

    def _select(self, statement: str) -> list[tuple[Any, ...]]:
        path = self.folder / "outbox.db"
        if not path.exists():
            return []
        connection = sqlite3.connect(path, timeout=10)
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []  # killed before its first migration
            raise
        finally:
            connection.close()
