"""The node's figures on the unix port: a signed frame, a checked acknowledgement, heap and boot.

Instructions where valgrind is installed (the difference of two loop lengths, so start-up falls out), else processor time. The port has
64-bit objects: its heap figures are about twice a chip's. RV32 counts belong to the QEMU target.
"""

import os
import re
import resource
import select
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lamppost_protocol.p256_tables import build_generator_table

from benchmarks.rows import Row, against_limit, at_most, told

_ROOT = Path(__file__).resolve().parents[2]
_HERE = Path(__file__).parent
sys.path += [str(_ROOT / "firmware"), str(_ROOT / "firmware/tests")]

from make_image import make_image  # noqa: E402
from node_bench import Keys, NodeBench, micropython, provision  # noqa: E402

_TWO_FIXTURES = {
    "fixtures": [{"kind": "air", "instance": 0}, {"kind": "lamp", "instance": 0}],
    "hello_s": 5,
    "health_s": 10,
    "report_s": 2,
    "latitude_udeg": 52_520_000,
    "longitude_udeg": 13_405_000,
}
_HEAP_STEP_KB = 4
_LOOPS = {"frame": (2, 10), "sign": (2, 10), "acknowledgement": (20, 220), "hmac": (20, 220)}


def all_rows(rounds: int, folder: Path) -> Iterator[Row]:
    """Every row of the node; raises when there is no MicroPython."""
    if micropython() is None:
        yield told("node", "no micropython: make setup")
        return
    keys = Keys()
    yield from _instructions(rounds, folder, keys)
    yield told("node, RV32 instructions", "counted on the QEMU target, not here: goals <= 12.5 M at 8 KB, <= 15.6 M at 2 KB, <= 65 k")
    yield from _boot(rounds, folder, keys)
    yield from _heap(rounds, folder, keys)


# Instructions.


def _instructions(rounds: int, folder: Path, keys: Keys) -> Iterator[Row]:
    image = folder / "image"
    make_image(image)
    valgrind = shutil.which("valgrind")
    unit, how = ("M instructions", "cachegrind, x86-64") if valgrind else ("ms CPU", "no valgrind: processor time")
    for size_kb, teeth, blocks in ((8, 6, 4), (2, 5, 2)):
        flash = folder / f"flash{size_kb}"
        provision(flash, keys, None)
        (flash / "tables/generator.tbl").write_bytes(build_generator_table(teeth, blocks))
        frame = _cost("frame", flash, image, valgrind, rounds)
        sign = _cost("sign", flash, image, valgrind, rounds)
        yield against_limit(f"node, whole signed frame, {size_kb} KB table", frame, unit, sign, "node_sign.py", None, how)
    answer = _cost("acknowledgement", flash, image, valgrind, rounds) * 1000
    bare = _cost("hmac", flash, image, valgrind, rounds) * 1000
    unit = "k instructions" if valgrind else "us CPU"
    yield against_limit("node, acknowledgement checked", answer, unit, bare, "node_hmac.py", None, how)


def _cost(what: str, flash: Path, image: Path, valgrind: str | None, rounds: int) -> float:
    """One turn of a loop, in millions of instructions or in ms."""
    few, many = _LOOPS[what]
    if valgrind is None:
        few, many = few, many * (10 if many < 100 else 200)
        rounds = max(3, rounds)
    else:
        rounds = 1  # exact to a thousandth
    costs = []
    for _ in range(rounds):
        total = [_run_loop(what, count, flash, image, valgrind) for count in (few, many)]
        costs.append((total[1] - total[0]) / (many - few))
    return statistics.median(costs)


def _run_loop(what: str, count: int, flash: Path, image: Path, valgrind: str | None) -> float:
    if what in ("sign", "hmac"):
        arguments = [str(_HERE / "limits" / f"node_{what}.py"), str(count), str(flash)]
    else:
        arguments = [str(_HERE / "node_loops.py"), what, str(count), str(flash)]
    vm = micropython()
    assert vm is not None
    command = [sys.executable, vm, "-X", "heapsize=272k", *arguments]
    environment = {**os.environ, "MICROPYPATH": f"{image}:.frozen", "PYTHONHASHSEED": "0"}
    if valgrind is None:
        before_s = _children_s()
        subprocess.run(command, env=environment, check=True, timeout=120)
        return (_children_s() - before_s) * 1000
    command = [valgrind, "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null", *command]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise RuntimeError(done.stderr[-500:] + done.stdout[-500:])
    return int(found[1].replace(",", "")) / 1e6


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# Boot and heap.


class _Node(NodeBench):
    """The integration tests' node in a heap of any size."""

    heap_kb = 272

    def start(self) -> None:
        environment = dict(
            os.environ,
            MICROPYPATH=f"{self._image}:.frozen",
            BENCH_EXCHANGE=str(self.folder / "exchange"),
            BENCH_LINE=self._line,
            LAMPPOST_STATE=str(self.flash),
        )
        self.output = (self.folder / "console").open("ab")
        self.process = subprocess.Popen(
            [self._vm, "-X", f"heapsize={self.heap_kb}k", str(self._image / "main.py")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )


class _Trial:
    """One boot of the whole firmware with two fixtures on the modelled street, in a heap of `heap_kb`."""

    def __init__(self, folder: Path, keys: Keys, heap_kb: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.bench = _Node(folder, keys, _TWO_FIXTURES, "air_lamp")
        self.bench.heap_kb = heap_kb

    def run(self, condition, deadline_s: float) -> float | None:  # type: ignore[no-untyped-def]
        """Seconds from power-on until `condition(gateway)`; None when it ends or is late."""
        bench = self.bench
        begin_s = time.monotonic()
        bench.start()
        process = bench.process
        assert process is not None
        while time.monotonic() - begin_s < deadline_s and process.poll() is None:
            if select.select([bench.master], [], [], 0.02)[0]:
                bench.gateway.poll(0.01)
                if condition(bench.gateway):
                    return time.monotonic() - begin_s
        return None

    def close(self) -> None:
        self.bench.close()


def _boot(rounds: int, folder: Path, keys: Keys) -> Iterator[Row]:
    times_s = []
    for _ in range(rounds):
        trial = _Trial(folder / "boot", keys, 272)
        try:
            taken_s = trial.run(lambda gateway: gateway.uplinks, 15.0)
        finally:
            trial.close()
        if taken_s is None:
            yield told("node, boot to first frame", "no frame in 15 s: " + trial.bench.console()[-200:])
            return
        times_s.append(taken_s)
    vm = micropython()
    assert vm is not None
    bare_s = []
    for _ in range(rounds):
        begin_s = time.monotonic()
        subprocess.run([sys.executable, vm, "-c", "pass"], check=True)
        bare_s.append(time.monotonic() - begin_s)
    yield against_limit(
        "node, boot to first frame sent, unix port",
        statistics.median(times_s) * 1000,
        "ms",
        statistics.median(bare_s) * 1000,
        "bare VM start",
        None,
        "wall time; the goal (<= 1.5 s on QEMU RV32) belongs to that target",
    )


def _does_all(gateway) -> bool:  # type: ignore[no-untyped-def]
    """Both fixtures have reported three times, the node once, the clock is set by a verified beacon, all of it acknowledged."""
    kinds = [record[0] for record in gateway.records.values()]
    return kinds.count(1) >= 3 and kinds.count(3) >= 3 and kinds.count(4) >= 2 and gateway.uplinks[-1].t is not None


def _heap(rounds: int, folder: Path, keys: Keys) -> Iterator[Row]:
    trial = _Trial(folder / "heap", keys, 272)
    try:
        is_well = trial.run(_does_all, 18.0) is not None
        health = [record for record in trial.bench.gateway.records.values() if record[0] == 4]
    finally:
        trial.close()
    if not is_well or not health:
        yield told("node, heap", f"does not run in 272 KB: {trial.bench.gateway.logs[-3:]} {trial.bench.console()[-200:]}")
        return
    live_kb = (272 * 1024 - min(record[6] for record in health)) / 1000
    yield at_most(
        "node, live heap, two fixtures, unix port",
        live_kb,
        "kB",
        180.0,
        "highest after a collection, node's own record, `machine` stand-in (15 kB) included; goal: twice a chip's 90 KB, as objects are",
    )
    low, high = int(live_kb * 1000 / 1024), 272  # a heap below what lives in it cannot do
    step = _HEAP_STEP_KB if rounds > 2 else 2 * _HEAP_STEP_KB
    while high - low > step:
        middle = (low + high) // 2
        trial = _Trial(folder / "heap", keys, middle)
        try:
            runs = trial.run(_does_all, 18.0) is not None
        finally:
            trial.close()
        low, high = (low, middle) if runs else (middle, high)
    yield at_most("node, smallest heap it runs in, unix port", high, "KB", 240.0, f"to {step} KB")
