"""The ether as a process: boards with radios in lock-step on one air, for programs that are not tests.

`python -m bench.air_server --seed 1 --folder DIR --board NAME:WIRING:X_M:PROGRAM ...` prints `ready` and keeps the boards running at this
machine's pace until SIGTERM. PROGRAM is a folder with main.py. `--terminal NAME:PATH` makes a port of a board's UART 1 at PATH,
`--set NAME:VARIABLE=VALUE` a variable of its environment. Ends with 1 and the reason when the world ends by itself.
"""

import argparse
import signal
import sys
import threading
from pathlib import Path

from bench.lock_step import HostProgram
from bench.shared_air import SharedAir

_LOOK_S = 0.5


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.air_server", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True, help="for the boards' consoles and what they speak through")
    parser.add_argument("--board", action="append", required=True, metavar="NAME:WIRING:X_M:PROGRAM")
    parser.add_argument("--terminal", action="append", default=[], metavar="NAME:PATH")
    parser.add_argument("--set", action="append", default=[], metavar="NAME:VARIABLE=VALUE")
    options = parser.parse_args(arguments)
    terminals = dict(word.split(":", 1) for word in options.terminal)
    variables: dict[str, dict[str, str]] = {}
    for word in options.set:
        name, _, setting = word.partition(":")
        variable, _, value = setting.partition("=")
        variables.setdefault(name, {})[variable] = value
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    air = SharedAir(options.folder, options.seed)
    try:
        for word in options.board:
            name, wiring, x_m, folder = word.split(":", 3)
            terminal = Path(terminals[name]) if name in terminals else None
            air.add(name, wiring, HostProgram(Path(folder), variables.get(name, {})), terminal, float(x_m))
        air.start()
        print("ready", flush=True)
        while not is_over.wait(_LOOK_S) and not air.failure:
            pass
    finally:
        air.end()
    if air.failure:
        print(air.failure.partition("\n")[0], flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
