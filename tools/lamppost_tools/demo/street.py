"""The demo's street while it runs: broker, authority, gateway, bench with its cables, ether and nodes as processes.

Every program is the real one, started as an operator would start it. A node that ends is started again, as a chip that
resets starts again. The ether holds what has a radio, in lock-step with it: a receive window is open for a tenth of a second, and a busy
machine would miss it.
"""

import contextlib
import json
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from lamppost_tools.demo.layout import BRIDGE, BRIDGE_WIRING, HEAP_KB, NODES, WIRED, Checkout, DemoNode, Layout
from lamppost_tools.demo.process import Child, ProcessGroup
from lamppost_tools.errors import MissingError

WITNESS_ID = "lamppost-demo-witness"
_READY_S = 15.0
_WATCH_S = 0.25
_CONTROL_S = 5.0
_BOOT_LOOP = 5  # starts of one node after which nothing more is expected of it
_FAR_M = 400


class Street:
    """Start in this order: `start_broker`, `start_services`, `start_nodes`. A context manager: leaving ends everything."""

    def __init__(self, checkout: Checkout, layout: Layout, seed: int) -> None:
        self.checkout = checkout
        self.layout = layout
        self.restarts: dict[str, int] = {node.name: 0 for node in WIRED}
        self._seed = seed
        self._group = ProcessGroup(layout.logs)
        self._leaving = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> "Street":
        self._group.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        if self._watcher is not None:
            self._watcher.join(5)
        self._group.close(last=("broker", "bench", "ether"))

    def start_broker(self, first_client: str = "") -> None:
        """Start the broker and wait until it listens; `first_client` must subscribe before anybody else may connect."""
        command = ["-m", "lamppost_tools.demo.broker", "--port", str(self.layout.port), "--first", first_client]
        self._python("broker", command).wait_for_line("ready", _READY_S)

    def kill_broker(self) -> None:
        """The broker is gone at once, with all it held in memory."""
        self._group.children["broker"].stop(9)

    def start_services(self) -> None:
        """Bench with its cables, authority, gateway, and the ether: the bridge at the gateway's port, and who is heard by it."""
        arguments = ["--seed", str(self._seed), "--control", str(self.layout.bench / "control.sock")]
        for node in WIRED:
            arguments += [
                "--node",
                f"{node.name}:{node.wiring}:{self.layout.bench / node.name}",
                "--cable",
                f"{node.name}:{self.layout.cables}",
            ]
        bench = self._python("bench", ["-m", "bench.peripherals.server", *arguments], self.checkout.root / "hil_tests")
        authority = ["authority", "run", "--state", str(self.layout.authority), "--broker-port", str(self.layout.port)]
        self._python("authority", ["-m", "lamppost_tools", *authority])
        if not self.layout.airtime.exists():
            unspent = ["airtime", "--unspent", "--config", str(self.layout.gateway_toml)]
            self._python("airtime", ["-m", "lamppost_gateway", *unspent]).wait_for_end(_READY_S)
        bench.wait_for_line("ready", _READY_S)
        self._start_gateway()
        self._start_ether().wait_for_line("ready", _READY_S)

    def restart_gateway(self) -> None:
        """kill -9 of the gateway, and a new one on the same state."""
        self._group.children["gateway"].stop(9)
        self._start_gateway()

    def start_nodes(self) -> None:
        """The nodes with cables, and the watcher that starts one again when it ends."""
        for node in WIRED:
            self._start_node(node)
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    def check_running(self) -> None:
        """Raises MissingError when a program that must run has ended, or a node starts again and again."""
        for name, child in list(self._group.children.items()):
            is_looping = self.restarts.get(name, 0) >= _BOOT_LOOP
            is_missed = name not in self.restarts and name not in ("broker", "airtime") and not child.is_running
            if is_looping or is_missed:
                raise MissingError(f"{name} ended: {child.last_words()}", f"read {child.log}")

    def troubled(self) -> list[str]:
        """Names of our programs that logged an unexpected exception since they started; amqtt's own are its business."""
        marks = ("Traceback (most recent call last)", "event=task_failed")
        ours = [(name, child) for name, child in self._group.children.items() if name != "broker"]
        return [name for name, child in ours if any(child.has_logged(mark) for mark in marks)]

    def ask_bench(self, **order: Any) -> dict[str, Any]:
        """One order to the bench's control socket, one answer. Raises MissingError."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_CONTROL_S)
                connection.connect(os.path.relpath(self.layout.bench / "control.sock"))
                connection.sendall(json.dumps(order).encode() + b"\n")
                with connection.makefile("rb") as answers:
                    answer: dict[str, Any] = json.loads(answers.readline())
        except (OSError, ValueError) as error:
            raise MissingError(f"the bench does not answer: {error}", f"read {self.layout.logs / 'bench.log'}") from None
        if not answer.get("ok"):
            raise MissingError(f"the bench refuses {order.get('op')}: {answer.get('error')}", "this is a fault of the demo")
        return answer

    def said(self, name: str) -> list[bytes]:
        """Messages that a node said on its cable, as far back as that remembers, each without its first END. Raises MissingError."""
        return [bytes.fromhex(message) for message in self.ask_bench(op="said", cable=name)["said"]]

    def say(self, name: str, line: bytes) -> None:
        """Say something to the gateway as if that node had said it. Raises MissingError."""
        self.ask_bench(op="say", cable=name, hex=line.hex())

    def _watch(self) -> None:
        while not self._leaving.wait(_WATCH_S):
            for node in WIRED:
                if not self._group.children[node.name].is_running and not self._leaving.is_set():
                    self.restarts[node.name] += 1
                    with contextlib.suppress(OSError):
                        self._start_node(node)

    def _start_ether(self) -> Child:
        """The gateway's radio and every node without a cable, each switched on."""
        layout = self.layout
        boards = [(BRIDGE, BRIDGE_WIRING, 0, layout.bridge_flash)]
        boards += [(node.name, node.wiring, _FAR_M, layout.flash(node)) for node in NODES if node.by_radio]
        arguments = ["--seed", str(self._seed), "--folder", str(layout.ether), "--terminal", f"{BRIDGE}:{layout.bridge_line}"]
        for name, wiring, x_m, flash in boards:
            arguments += ["--board", f"{name}:{wiring}:{x_m}:{layout.image}", "--set", f"{name}:LAMPPOST_STATE={flash}"]
        return self._python("ether", ["-m", "bench.air_server", *arguments], self.checkout.root / "hil_tests")

    def _start_gateway(self) -> None:
        self._python("gateway", ["-m", "lamppost_gateway", "run", "--config", str(self.layout.gateway_toml)])

    def _start_node(self, node: DemoNode) -> None:
        # A module keeps the path it came from, so a long one costs heap that a chip's `/lib` does not.
        image = self.layout.image.relative_to(self.layout.folder)
        command = [str(self.checkout.micropython), "-X", f"heapsize={HEAP_KB}k", str(image / "main.py")]
        environment = {
            "MICROPYPATH": f"{image}:.frozen",
            "BENCH_EXCHANGE": str(self.layout.bench / node.name),
            "BENCH_LINE": str(self.layout.cables / f"{node.name}.device"),
            "LAMPPOST_STATE": str(self.layout.flash(node)),
        }
        self._group.start(node.name, command, environment, self.layout.folder)

    def _python(self, name: str, arguments: list[str], folder: Path | None = None) -> Child:
        environment = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": self._python_path()}
        return self._group.start(name, [sys.executable, *arguments], environment, folder or self.layout.folder)

    def _python_path(self) -> str:
        root = self.checkout.root
        parts = [str(root / part) for part in ("protocol", "gateway", "tools", "hil_tests")]
        return os.pathsep.join([*parts, *filter(None, [os.environ.get("PYTHONPATH")])])
