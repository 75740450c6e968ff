"""One run of the gateway, or of its limit, over the same load and broker: what it cost until everything was marked published."""

import json
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from street.gateway_rig import GatewayProcess

from benchmarks.mqtt_broker import BenchBroker
from benchmarks.process_figures import cpu_s, end, resident_mb, start_ready, written_bytes
from benchmarks.street_load import Lines, StreetLoad

_LIMIT = Path(__file__).parent / "limits" / "whole_path.py"
_MORE = "[outbox]\nlate_s = 86400\n"  # frames are signed before the run and would count as late after two minutes
_SAMPLED_PROGRAM = (str(Path(__file__).parent / "sampled_gateway.py"),)
PROGRAM = ("-m", "lamppost_gateway")
GATEWAY = "gateway"
SAMPLED = "gateway, sampled by stage"


@dataclass(frozen=True)
class RunFigures:
    """cpu_s and wall_s from ready to the last mark; delays_s: frame written to acknowledgement read, of paced runs; stages_s of SAMPLED."""

    cpu_s: float
    wall_s: float
    written_bytes: int
    resident_mb: float
    delays_s: list[float]
    stages_s: dict[str, float] = field(default_factory=dict)


def run(who: str, load: StreetLoad, broker: BenchBroker, folder: Path, per_s: float | None = None) -> RunFigures:
    """Run `who` (GATEWAY, SAMPLED or a publisher of the limit script) over the load, poured or paced.

    Raises TimeoutError, RuntimeError.
    """
    shutil.rmtree(folder, ignore_errors=True)
    lines = load.lay(folder)
    try:
        if who in (GATEWAY, SAMPLED):
            config = lines.city.write_config(lines.paths, broker.port, _MORE)
            process = GatewayProcess(config, folder / "log", PROGRAM if who == GATEWAY else _SAMPLED_PROGRAM)
            try:
                process.start(BENCH_STAGES=str(folder / "stages.json"))  # only the sampled one writes it
                time.sleep(0.5)  # it meets the broker; that is no frame's cost
                if who == SAMPLED:
                    process.signal(signal.SIGUSR1)
                figures = _measure(process.pid, lines, folder, per_s)
                if who == SAMPLED:
                    process.signal(signal.SIGUSR1)
                    _until((folder / "stages.json").exists, 5.0)
                    figures.stages_s.update(json.loads((folder / "stages.json").read_text()))
                process.stop()
                return figures
            finally:
                process.close()
        command = [sys.executable, str(_LIMIT), "--folder", str(folder), "--port", str(broker.port)]
        command += ["--mqtt", broker.mqtt, "--publisher", who, *(str(path) for path in lines.paths)]
        script = start_ready(command, folder / "log")
        try:
            return _measure(script.pid, lines, folder, per_s)
        finally:
            end(script)
    finally:
        lines.close()


def _measure(pid: int, lines: Lines, folder: Path, per_s: float | None) -> RunFigures:
    cpu_before_s, written_before = cpu_s(pid), written_bytes(pid)
    begin_s = time.monotonic()
    if per_s is None:
        lines.pour()
    else:
        lines.pace(per_s)
    _until(lambda: _unpublished(folder / "outbox.db", lines.load.frame_count) == 0, 60.0)
    return RunFigures(
        cpu_s(pid) - cpu_before_s,
        time.monotonic() - begin_s,
        written_bytes(pid) - written_before,
        resident_mb(pid),
        lines.delays_s,
    )


def _unpublished(path: Path, expected: int) -> int:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5)
    try:
        return expected - int(connection.execute("SELECT count(published_at_ms) FROM frame").fetchone()[0])
    finally:
        connection.close()


def _until(condition: Callable[[], bool], limit_s: float) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError("the run does not come to its end")
        time.sleep(0.1)
