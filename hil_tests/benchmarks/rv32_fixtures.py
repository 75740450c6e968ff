"""Runs on the emulated board as its main.py: instructions of one fixture, from report to report, and prints `KIND value`.

KIND stands in `/fixture`. Only the fixture runs: no line, no spool. What rv32_counting.py leaves out is not counted.
"""

import asyncio
import asyncio.core
import gc
import time

import bench
import machine
import machine_models
import rv32_counting
from lamppost_node.board import Board
from lamppost_node.clock import Clock
from lamppost_node.config import declared_keys
from lamppost_node.flash import Flash
from lamppost_node.settings import Settings

REPORT_S = 10
_REPORTS = 6


class _Node:
    """What a fixture uses of the node, without the node."""

    is_safe_mode = False
    node_id = 1

    def __init__(self, flash):
        self.settings = Settings(flash)
        self.clock = Clock(time, self.settings)
        self.config = {"report_s": REPORT_S, "latitude_udeg": 48_856_600, "longitude_udeg": 2_352_200}
        self.reports = asyncio.Event()

    def emit(self, kind, q, values, alarm=False):
        self.reports.set()
        return 1

    def order_state(self, *arguments):
        pass

    def alive(self, name):
        pass

    def log(self, text):
        print("said", text)


async def main():
    """The average over some reports, after the first two."""
    with open("/fixture") as file:
        kind = file.read()
    module = __import__("lamppost_node.fixtures." + kind, None, None, ("PROFILE",))
    flash = Flash("/lamppost")
    flash.make_folder("settings")
    node = _Node(flash)
    values = {row[0]: row[1] for row in declared_keys(kind)}
    fixture = module.build(Board(), values, node, 0)
    gc.collect()
    task = asyncio.create_task(fixture.run())
    for report in range(2 + _REPORTS):
        if report == 2:
            rv32_counting.begin()
        node.reports.clear()
        await node.reports.wait()
    print(kind, rv32_counting.counted() // _REPORTS)
    task.cancel()


machine_models.ask = machine.ask = rv32_counting.left_out(machine.ask)
asyncio.core._io_queue = rv32_counting.Waits(asyncio.core._io_queue)
asyncio.run(main())
bench.exit(77)
