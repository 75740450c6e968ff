"""`make bench`: every figure that runs on this machine, beside its limit. See --help; limits are in limits/.

Processor time, not wall time, wherever a rate is compared: the machine may be busy. Nothing here fails: a figure that cannot be
taken says why in its row.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import air_figures, gateway_figures, node_figures, rv32_figures, wire_figures
from benchmarks.gateway_figures import Effort
from benchmarks.mqtt_broker import BenchBroker
from benchmarks.rows import Row, table, told

Figure = Callable[[], Iterator[Row]]


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description="Figures as ratios to limit scripts. Example: make bench, or run.py --quick --only node")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and rows: a look, not a result")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument(
        "--only",
        default="",
        help="only figures whose name contains this: wire, air, node, rv32, path, paced, acknowledgement, written, memory, drain",
    )
    parser.add_argument("--broker", choices=("mosquitto", "amqtt"), default="mosquitto", help="mosquitto where it is installed")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lamppost-bench-"))
    begin_s = time.monotonic()
    try:
        rows, broker = _measure(Effort(options.quick), folder, options.only, options.broker)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, broker {broker}"
    took_s = time.monotonic() - begin_s
    if options.json:
        document = {"machine": machine, "quick": options.quick, "took_s": round(took_s, 1), "rows": [row.document() for row in rows]}
        print(json.dumps(document, indent=1))
    else:
        print(table(rows))
        missed = [row.name for row in rows if row.verdict.startswith("missed")]
        print(f"\n{machine}; took {took_s:.0f} s; {'missed: ' + ', '.join(missed) if missed else 'every goal met'}")


def _measure(effort: Effort, folder: Path, only: str, broker_name: str) -> tuple[list[Row], str]:
    broker = BenchBroker(folder, broker_name)
    rows: list[Row] = []

    figures: dict[str, Figure] = {
        "wire": wire_figures.sizes,
        "air": air_figures.all_rows,
        "node": lambda: node_figures.all_rows(effort.rounds, folder),
        "rv32": lambda: rv32_figures.all_rows(folder),
        "path": lambda: gateway_figures.whole_path(effort, folder, broker),
        "paced": lambda: gateway_figures.paced(effort, folder, broker),
        "acknowledgement": lambda: gateway_figures.acknowledgement(effort, folder, broker),
        "written": lambda: gateway_figures.written(effort, folder, broker),
        "memory": lambda: gateway_figures.memory_and_start(effort, folder),
        "drain": lambda: gateway_figures.drain(effort, folder),
    }
    try:
        for name, figure in figures.items():
            if only not in name:
                continue
            print(f"measuring: {name} ...", file=sys.stderr, flush=True)
            try:
                rows += figure()
            except Exception as error:  # a figure that cannot be taken must not cost the others
                rows.append(told(f"{name}: not measured", f"{type(error).__name__}: {error}"))
    finally:
        broker.close()
    return rows, f"{broker.name} (MQTT {broker.mqtt})"


if __name__ == "__main__":
    main()
