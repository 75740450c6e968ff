"""The broker of a benchmark run: mosquitto with its default limits where it is installed, else the demo's amqtt."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.process_figures import end, start_ready


class BenchBroker:
    """One broker on a free loopback port. `name` and `mqtt` (5 or 3.1.1) tell which it is."""

    def __init__(self, folder: Path, wanted: str = "") -> None:
        """`wanted`: "amqtt" takes that even where mosquitto is installed."""
        self.port = _free_port()
        log = folder / "broker.log"
        program = None if wanted == "amqtt" else shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if program is not None:
            settings = folder / "mosquitto.conf"
            settings.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
            with log.open("ab") as out:
                self.process = subprocess.Popen([program, "-c", str(settings)], stdout=out, stderr=out)
            self._wait(10.0)
            self.name, self.mqtt = "mosquitto", "5"
        else:
            self.process = start_ready([sys.executable, "-m", "lamppost_tools.demo.broker", "--port", str(self.port)], log)
            self.name, self.mqtt = "amqtt", "3.1.1"

    def _wait(self, limit_s: float) -> None:
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the broker does not come up")

    def close(self) -> None:
        """End it."""
        end(self.process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
