"""A real MQTT broker that can die at once, and a real subscriber (QoS 1) that keeps everything it is told."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from bench.deadline import DEADLINE_S, Changes
from bench.program import Program

ROOT = Path(__file__).resolve().parents[2]


def python_path() -> str:
    """PYTHONPATH of this tree's packages, so that a copy of the tree runs its own code."""
    parts = [str(ROOT / part) for part in ("protocol", "gateway", "tools", "hil_tests")]
    return os.pathsep.join([*parts, *filter(None, [os.environ.get("PYTHONPATH")])])


def free_port() -> int:
    """A port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """amqtt on loopback, in memory only: killed, it forgets all. Back again, it lets `first` subscribe before anybody else connects."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "lamppost_tools.demo.broker", "--port", str(self.port)]
        environment = {"PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"}
        self.program = Program("broker", command, folder / "broker.log", environment)

    def start(self, first: str = "") -> None:
        """Start it and wait until it listens."""
        self.program.start(*(["--first", first] if first else []))
        self.program.wait_for_line("ready")

    def kill(self) -> None:
        """kill -9."""
        self.program.kill()


class Subscriber:
    """Hears everything of one network, comes back whenever the broker does. `messages`: (topic below the network, payload)."""

    NAME = "street-subscriber"

    def __init__(self, port: int, network: int) -> None:
        self._root = f"lamppost/v1/{network:08x}/"
        self.changes = Changes()
        self.messages: list[tuple[str, bytes]] = []
        self.is_listening = False
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=self.NAME, clean_session=False)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.connect_async("127.0.0.1", port, keepalive=10)
        self._client.loop_start()

    def wait_listening(self) -> None:
        """Wait until its subscription stands."""
        self.changes.wait(lambda: self.is_listening, "subscription")

    def documents(self, *words: str) -> list[dict[str, Any]]:
        """JSON documents of every topic that holds all of `words` as levels, oldest first."""
        with self.changes:
            messages = list(self.messages)
        return [json.loads(payload) for topic, payload in messages if set(words) <= set(topic.split("/")) and payload]

    def frames(self, node: int) -> list[bytes]:
        """Raw signed frames published of a node, oldest first."""
        with self.changes:
            return [payload for topic, payload in self.messages if topic == f"node/{node:08x}/frame"]

    def wait(self, is_so: Any, what: str, deadline_s: float = DEADLINE_S) -> Any:
        """Wait until `is_so()` as messages arrive. Raises TimeoutError."""
        return self.changes.wait(is_so, what, deadline_s)

    def publish(self, topic: str, document: dict[str, Any]) -> None:
        """Publish one JSON document below the network, QoS 1, and wait for its PUBACK."""
        info = self._client.publish(self._root + topic, json.dumps(document), qos=1)
        info.wait_for_publish(DEADLINE_S)
        assert info.is_published()

    def retain(self, topic: str, octets: bytes) -> None:
        """Have the broker keep these octets below the network, and wait for its PUBACK."""
        self._client.publish(self._root + topic, octets, qos=1, retain=True).wait_for_publish(DEADLINE_S)

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if not reason.is_failure:
            client.subscribe(self._root + "#", qos=1)

    def _on_subscribe(self, client: mqtt.Client, data: Any, identifier: int, reasons: Any, properties: Any) -> None:
        with self.changes:
            self.is_listening = True

    def _on_disconnect(self, client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        with self.changes:
            self.is_listening = False

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        with self.changes:
            self.messages.append((message.topic.removeprefix(self._root), message.payload))
