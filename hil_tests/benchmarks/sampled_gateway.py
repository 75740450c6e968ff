"""`lamppost-gateway run` with its processor time split by stage: `python sampled_gateway.py run -c gateway.toml`.

SIGUSR1 begins, a second one writes the JSON file named by BENCH_STAGES: seconds by stage. The main thread is sampled by a timer of
processor time, each sample weighing what that thread has used since the last; the other threads have one stage each, so the kernel's
count is taken whole. The timer ticks 100 to 250 times a second: shares are right to a few per cent of the whole.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

from lamppost_gateway import config as configuration
from lamppost_gateway import log
from lamppost_gateway.daemon import Gateway

_LOOP = "event loop"
#: (part of the file's path, function or "", stage); the innermost frame that matches decides, what matches nothing is its caller's.
_RULES = (
    ("lamppost_gateway/metrics.py", "", "metrics"),
    ("prometheus_client/", "", "metrics"),
    ("lamppost_gateway/links/serial.py", "send", "acknowledge"),
    ("lamppost_gateway/links/", "", "read line"),
    ("lamppost_protocol/hop.py", "", "acknowledge"),
    ("lamppost_gateway/receiver.py", "_acknowledge", "acknowledge"),
    ("lamppost_gateway/receiver.py", "_commit", "store"),
    ("lamppost_gateway/receiver.py", "", "receive"),
    ("lamppost_gateway/verifier.py", "_check_signature", "signature"),
    ("lamppost_gateway/verifier.py", "check_signatures", "signature"),
    ("lamppost_gateway/verifier.py", "", "decode"),
    ("lamppost_gateway/store.py", "", "store"),
    ("lamppost_gateway/outbox", "", "store"),
    ("lamppost_gateway/documents.py", "", "documents"),
    ("lamppost_gateway/mqtt_messages.py", "json_message", "documents"),
    ("lamppost_gateway/mqtt_messages.py", "", "MQTT client"),
    ("lamppost_gateway/broker.py", "", "MQTT client"),
    ("lamppost_gateway/publisher", "_messages_of", "documents"),
    ("lamppost_gateway/publisher", "", "publisher"),
    ("lamppost_gateway/orders.py", "", "orders"),
    ("paho/", "", "MQTT client"),
    ("aiomqtt/", "", "MQTT client"),
    ("asyncio/", "", _LOOP),
    ("selectors.py", "", _LOOP),
)
_OF_THREAD = {"outbox": "store", "verify": "signature"}


class Stages:
    """The account; lives in the main thread's signal handlers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds: dict[str, float] = {}
        self._last_s = 0.0
        self._threads_s: dict[str, float] = {}
        self._is_running = False
        signal.signal(signal.SIGPROF, self._sample)
        signal.signal(signal.SIGUSR1, self._toggle)

    def _toggle(self, number: int, frame: FrameType | None) -> None:
        if not self._is_running:
            self._is_running = True
            self._last_s = time.thread_time()
            self._threads_s = _other_threads_s()
            signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
            return
        signal.setitimer(signal.ITIMER_PROF, 0, 0)
        for stage, seconds in _other_threads_s().items():
            self._add(stage, seconds - self._threads_s.get(stage, 0.0))
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._seconds))
        new.rename(self._path)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        now_s = time.thread_time()
        self._add(_stage_of(frame), now_s - self._last_s)
        self._last_s = now_s

    def _add(self, stage: str, seconds: float) -> None:
        self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds


def _stage_of(frame: FrameType | None) -> str:
    while frame is not None:
        for part, function, stage in _RULES:
            if part in frame.f_code.co_filename and (not function or function == frame.f_code.co_name):
                return stage
        frame = frame.f_back
    return _LOOP


def _other_threads_s() -> dict[str, float]:
    used: dict[str, float] = {}
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.native_id is not None:
            stage = _OF_THREAD.get(thread.name.partition("_")[0], "other threads")
            nanoseconds = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0]
            used[stage] = used.get(stage, 0.0) + int(nanoseconds) / 1e9
    return used


def main() -> None:
    """Run the gateway as its own program does."""
    log.set_up("warning")
    if "BENCH_STAGES" in os.environ:
        Stages(Path(os.environ["BENCH_STAGES"]))
    gateway = configuration.load(Path(sys.argv[-1]))

    async def serve() -> None:
        await Gateway(gateway).run()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
