"""On the emulated board, beside the others of its kind as `/lib/rv32_counting.py`: instructions of the firmware's work alone.

Waiting is no work: what the event loop waits, and what the models' stand-ins cost (they stand for a chip's peripherals), is left out.
"""

import bench

_begin = _outside = 0


def begin():
    """Count from here."""
    global _begin, _outside
    _outside = 0
    _begin = bench.instret()


def counted():
    """Instructions since `begin`, without what was left out."""
    return bench.instret() - _begin - _outside


def left_out(work):
    """`work`, its instructions not counted."""

    def done(*arguments):
        global _outside
        start = bench.instret()
        try:
            return work(*arguments)
        finally:
            _outside += bench.instret() - start

    return done


class Waits:
    """An event loop's queue whose waits are not counted."""

    def __init__(self, queue):
        self.map = queue.map
        self.queue_read = queue.queue_read
        self.queue_write = queue.queue_write
        self.remove = queue.remove
        self.wait_io_event = left_out(queue.wait_io_event)
