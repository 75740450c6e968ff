"""Runs on the emulated board as its main.py: instructions of one fixture, from report to report, and prints `KIND value`.

KIND stands in `/fixture`. Only the fixture runs: no line, no spool. Waits and the stand-ins of a chip's peripherals are left out.
"""

import asyncio
import asyncio.core
import gc
import time

import bench
import machine
import machine_models
from lamppost_node.board import Board
from lamppost_node.clock import Clock
from lamppost_node.flash import Flash
from lamppost_node.settings import Settings

REPORT_S = 10
_REPORTS = 6
_outside = 0


def left_out(work):
    """`work`, its instructions not counted."""

    def counted(*arguments):
        global _outside
        begin = bench.instret()
        try:
            return work(*arguments)
        finally:
            _outside += bench.instret() - begin

    return counted


class _Waits:
    """The event loop's waits, not counted."""

    def __init__(self, queue):
        self.map = queue.map
        self.queue_read = queue.queue_read
        self.queue_write = queue.queue_write
        self.remove = queue.remove
        self.wait_io_event = left_out(queue.wait_io_event)


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
    global _outside
    with open("/fixture") as file:
        kind = file.read()
    module = __import__("lamppost_node.fixtures." + kind, None, None, ("PROFILE",))
    flash = Flash("/lamppost")
    flash.make_folder("settings")
    node = _Node(flash)
    values = {row[0]: row[1] for row in module.KEYS}
    fixture = module.build(Board(), values, node, 0)
    gc.collect()
    task = asyncio.create_task(fixture.run())
    begin = 0
    for report in range(2 + _REPORTS):
        if report == 2:
            _outside = 0
            begin = bench.instret()
        node.reports.clear()
        await node.reports.wait()
    print(kind, (bench.instret() - begin - _outside) // _REPORTS)
    task.cancel()


machine_models.ask = machine.ask = left_out(machine.ask)
asyncio.core._io_queue = _Waits(asyncio.core._io_queue)
asyncio.run(main())
bench.exit(77)
