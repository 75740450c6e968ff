"""The gateway's figures: whole path, paced load, time to acknowledgement, memory, start, octets written, drain."""

import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lamppost_gateway.outbox import Outbox
from lamppost_gateway.outbox_rows import NewFrame, NodeState
from street.gateway_rig import GatewayProcess

from benchmarks import gateway_runs
from benchmarks.gateway_runs import GATEWAY, SAMPLED, RunFigures
from benchmarks.limits import drain as drain_limit
from benchmarks.mqtt_broker import BenchBroker
from benchmarks.process_figures import resident_mb
from benchmarks.rows import Row, against_limit, at_least, at_most, told
from benchmarks.street_load import Lines, StreetLoad

_WINDOW_S = 0.02  # the gateway's default commit window
_THINGSBOARD_PERCENT = 60.0  # of a core at 500/s, without any cryptography; measured once, on another broker run


class Effort:
    """How much one run may do."""

    def __init__(self, is_quick: bool) -> None:
        self.rounds = 2 if is_quick else 5
        self.paced_rounds = 1 if is_quick else 3
        self.frames = 1_500 if is_quick else 3_000
        self.paced_s = 4.0 if is_quick else 6.0
        self.rows = 200_000 if is_quick else 1_000_000
        self.starts = 2 if is_quick else 5
        self.poured_per_s = 1_200.0  # frames/s the gateway took when poured; set by `whole_path`


def whole_path(effort: Effort, folder: Path, broker: BenchBroker) -> Iterator[Row]:
    """Processor time per frame, poured; interleaved with its limits, so that a noisy minute meets all of them."""
    load = StreetLoad(8, effort.frames)
    names = (GATEWAY, "callbacks", "aiomqtt", "bare")
    costs: dict[str, list[float]] = {name: [] for name in names}
    rates: list[float] = []
    for _ in range(effort.rounds):
        for name in names:
            figures = gateway_runs.run(name, load, broker, folder / "run")
            costs[name].append(figures.cpu_s / effort.frames * 1e6)
            if name == GATEWAY:
                rates.append(effort.frames / figures.wall_s)
    effort.poured_per_s = statistics.median(rates)
    us = {name: statistics.median(values) for name, values in costs.items()}
    spread = f"{min(costs[GATEWAY]):.0f} .. {max(costs[GATEWAY]):.0f} us"
    note = f"two messages a frame, as documented; {broker.name}, MQTT {broker.mqtt}; range {spread}"
    yield against_limit(
        "gateway, whole path: same client, its callbacks", us[GATEWAY], "us/frame", us["callbacks"], "whole_path.py callbacks", 1.5, note
    )
    yield against_limit(
        "gateway, whole path: same client, a task per message", us[GATEWAY], "us/frame", us["aiomqtt"], "whole_path.py aiomqtt", 1.5
    )
    yield against_limit("gateway, whole path: bare publisher", us[GATEWAY], "us/frame", us["bare"], "whole_path.py bare", None)
    stages = gateway_runs.run(SAMPLED, load, broker, folder / "run").stages_s
    total = sum(stages.values())
    parts = sorted(((seconds / total, stage) for stage, seconds in stages.items()), reverse=True)
    text = ", ".join(f"{stage} {share:.0%}" for share, stage in parts if share >= 0.01)
    yield told("gateway, whole path: dearest stage", f"{parts[0][1]}; {text}", parts[0][0] * us[GATEWAY], "us/frame")


def paced(effort: Effort, folder: Path, broker: BenchBroker) -> Iterator[Row]:
    """500 frames/s on 100 lines, as a share of one core."""
    load = StreetLoad(100, int(500 * effort.paced_s))
    names = (GATEWAY, "callbacks", "bare")
    percent: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(effort.paced_rounds):
        for name in names:
            figures = gateway_runs.run(name, load, broker, folder / "run", 500.0)
            percent[name].append(figures.cpu_s / (load.frame_count / 500.0) * 100)
    medians = {name: statistics.median(values) for name, values in percent.items()}
    yield against_limit(
        "gateway, 500 frames/s on 100 lines", medians[GATEWAY], "% of a core", medians["callbacks"], "whole_path.py callbacks", 1.5
    )
    yield against_limit(
        "gateway, 500 frames/s on 100 lines: bare publisher", medians[GATEWAY], "% of a core", medians["bare"], "whole_path.py bare", None
    )
    yield at_most("gateway, 500 frames/s: below ThingsBoard Gateway", medians[GATEWAY], "% of a core", _THINGSBOARD_PERCENT)


@contextmanager
def _fsync_times(folder: Path) -> Iterator[list[float]]:
    """Time an fsync of a small append every 20 ms beside the run."""
    times_s: list[float] = []
    stop = threading.Event()

    def work() -> None:
        fd = os.open(folder / "fsync.probe", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        while not stop.wait(_WINDOW_S):
            os.write(fd, bytes(4096))
            begin_s = time.monotonic()
            os.fsync(fd)
            times_s.append(time.monotonic() - begin_s)
        os.close(fd)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield times_s
    finally:
        stop.set()
        thread.join()


def acknowledgement(effort: Effort, folder: Path, broker: BenchBroker) -> Iterator[Row]:
    """Frame written to acknowledgement read, at half the rate it took when poured."""
    per_s = effort.poured_per_s / 2
    load = StreetLoad(50, int(per_s * effort.paced_s))
    with _fsync_times(folder) as times_s:
        delays_s = gateway_runs.run(GATEWAY, load, broker, folder / "run", per_s).delays_s
    limit_s = gateway_runs.run("callbacks", load, broker, folder / "run", per_s).delays_s
    fsync_s = _percentile(times_s, 99)
    goal_ms = (_WINDOW_S + 3 * fsync_s + 0.005) * 1000
    note = f"{per_s:.0f} frames/s on 50 lines; fsync p50 {_percentile(times_s, 50) * 1000:.2f}, p99 {fsync_s * 1000:.2f} ms in the same run"
    for percent in (50, 99):
        name, ms = f"frame to acknowledgement, p{percent}", _percentile(delays_s, percent) * 1000
        limit_ms = _percentile(limit_s, percent) * 1000
        if percent == 50:
            yield against_limit(name, ms, "ms", limit_ms, "whole_path.py callbacks", None)
        else:
            yield at_most(name, ms, "ms", goal_ms, note, limit_ms, "whole_path.py callbacks")


def written(effort: Effort, folder: Path, broker: BenchBroker) -> Iterator[Row]:
    """Octets the gateway writes to disk per frame at 300/s, marks and checkpoints included."""
    load = StreetLoad(30, int(300 * effort.paced_s))
    figures: dict[str, RunFigures] = {name: gateway_runs.run(name, load, broker, folder / "run", 300.0) for name in (GATEWAY, "bare")}
    per_frame = {name: item.written_bytes / load.frame_count / 1000 for name, item in figures.items()}
    yield at_most("outbox, written per frame at 300/s", per_frame[GATEWAY], "kB", 2.5, "", per_frame["bare"], "whole_path.py")


def memory_and_start(effort: Effort, folder: Path) -> Iterator[Row]:
    """Resident memory with 300 lines and start to first accepted frame, with an empty and a full outbox; no broker answers."""
    load = StreetLoad(300, 3_000)
    queued = folder / "queued.db"
    fill(queued, effort.rows, load.nodes[0].frame(n=1))
    resident, start = {}, {}
    for name, prepared in (("empty", None), ("full", queued)):
        resident[name] = _resident(load, folder / "run", prepared)
        start[name] = statistics.median(_start_s(folder / "run", prepared) for _ in range(effort.starts))
    rows = f"{effort.rows:,} rows"
    yield at_most("resident memory, 300 lines", resident["empty"], "MB", 60.0)
    yield at_most(f"resident memory, growth with {rows} queued", resident["full"] - resident["empty"], "MB", 3.0)
    bare_s = _bare_start_s()
    yield at_most("start to first accepted frame, empty", start["empty"], "s", 1.0, "", bare_s, "limit's imports")
    yield at_most(f"start to first accepted frame, {rows}", start["full"], "s", 1.5, "", bare_s, "limit's imports")


def fill(path: Path, rows: int, data: bytes) -> None:
    """Queue `rows` unpublished frames, as after a long outage of the broker."""
    outbox = Outbox(path)
    now_ms = time.time_ns() // 1_000_000
    for start in range(0, rows, 20_000):
        frames = [
            NewFrame(0x100 + i % 300, 1, i // 300 + 1, i // 300 + 1, 1, 1, now_ms, f"line{i % 300}", False, False, data)
            for i in range(start, min(rows, start + 20_000))
        ]
        states = [NodeState(0x100 + i, 1, 0, 0, 0, 0) for i in range(300)]
        outbox.transact([lambda frames=frames, states=states: outbox.commit_frames(frames, states)])  # type: ignore[misc]
    outbox.close()


def _prepare(load: StreetLoad, folder: Path, prepared: Path | None) -> tuple[GatewayProcess, Lines]:
    shutil.rmtree(folder, ignore_errors=True)
    lines = load.lay(folder)
    if prepared is not None:
        shutil.copyfile(prepared, folder / "outbox.db")
    config = lines.city.write_config(lines.paths, 9, "[outbox]\nlate_s = 86400\n")
    return GatewayProcess(config, folder / "log", gateway_runs.PROGRAM), lines


def _resident(load: StreetLoad, folder: Path, prepared: Path | None) -> float:
    process, lines = _prepare(load, folder, prepared)
    try:
        process.start()
        lines.pour()
        time.sleep(2.0)  # the once-a-second and ten-second parts have had their first turn
        return resident_mb(process.pid)
    finally:
        process.close()
        lines.close()


def _start_s(folder: Path, prepared: Path | None) -> float:
    """One line, a fresh frame every 10 ms until one is acknowledged, in s since the process was started."""
    load = StreetLoad(1, 0)
    process, lines = _prepare(load, folder, prepared)
    pty = lines.ptys[0]
    try:
        frames = [load.extra_frame(0) for _ in range(500)]
        begin_s = time.monotonic()
        starter = threading.Thread(target=process.start)
        starter.start()
        for frame in frames:
            if pty.take():
                break
            pty.send_raw(frame)
            time.sleep(0.01)
        else:
            raise TimeoutError("no frame was accepted")
        taken_s = time.monotonic() - begin_s
        starter.join()
        return taken_s
    finally:
        process.close()
        lines.close()


def _bare_start_s() -> float:
    """What importing the limit's libraries takes alone."""
    begin_s = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", "import asyncio, sqlite3, json, aiomqtt, cbor2, cryptography.hazmat.primitives.asymmetric.ec"], check=True
    )
    return time.monotonic() - begin_s


def drain(effort: Effort, folder: Path) -> Iterator[Row]:
    """Rows paged out and marked published, without a broker; wall time on an idle store."""
    rows = min(effort.rows, 200_000)
    path = folder / "drain.db"
    fill(path, rows, StreetLoad(1, 0).nodes[0].frame())
    outbox = Outbox(path)
    begin_s, cpu_before_s = time.monotonic(), time.process_time()
    border_id, after_id = outbox.newest_id(), 0
    while page := outbox.read(lambda after_id=after_id: outbox.next_backfill(border_id, after_id, 500)):  # type: ignore[misc]
        after_id = page[-1].id
        ids = [row.id for row in page]
        outbox.transact([lambda ids=ids: outbox.mark_published(ids, 1)])  # type: ignore[misc]
    wall_s, cpu_s = time.monotonic() - begin_s, time.process_time() - cpu_before_s
    outbox.close()
    limit_s = drain_limit.run(folder / "limit.db", rows, bytes(130))
    note = f"{rows:,} rows, 500 a page, each page marked in its own FULL commit"
    yield at_least("outbox, drain unthrottled", rows / wall_s, "rows/s", 20_000.0, note)
    yield against_limit("outbox, drain", cpu_s / rows * 1e6, "us CPU/row", limit_s / rows * 1e6, "drain.py", None)


def _percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else float("nan")
