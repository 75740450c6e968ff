"""`machine` of an emulated board in lock-step: as in ../emulated, but UART 1 is the host's too, and every exchange carries the time.

A request is `@<us since 2000> <line>`, so the host's models live in the board's own time. `line init BAUD RXBUF | any | read MAX |
write HEX` is UART 1; each answer ends with how many octets wait and in how many ms the next ones come, so that a quiet line costs no
exchange. An answer may begin with `do <what>` and a tab: a fault to suffer here and now (bench/lock_step.py).
Known gap: octets wake nobody; whoever waits for them looks when it wakes for another reason.
"""
# ruff: noqa: A002, F401, F403 - the ESP32's argument names; what is imported here belongs to `machine`

import sys
import time

import bench
from micropython import const

_path = sys.path[:]
sys.path[:] = []  # so that the next line finds the interpreter's own
try:
    from machine import *
finally:
    sys.path[:] = _path

if hasattr(bench, "WDT"):  # the interpreter of a PC has neither watchdog nor reset (vm_boot.py)
    WDT, reset, reset_cause, unique_id = bench.WDT, bench.reset, bench.reset_cause, bench.unique_id

_native_reset = reset
_EIO = const(5)
_POLLIN = const(1)
_POLLOUT = const(4)
_CHUNK_BYTES = const(256)


def ask(line):
    """One exchange: the answer's data as bytes; OSError with the errno the bus gave, EIO when the bench is gone."""
    answer = bench.ask(f"@{time.time_ns() // 1000} {line}")
    if answer.startswith("do "):
        what, _, answer = answer.partition("\t")
        _suffer(what.split())
    if answer.startswith("ok"):
        return answer[3:].encode()
    raise OSError(int(answer[4:]) if answer.startswith("err ") else _EIO)


def _suffer(words):
    if words[1] == "cut":
        bench.cut_after(int(words[2]), int(words[3]))
    elif words[1] == "reset":
        _native_reset()
    elif words[1] == "hang":
        if hasattr(bench, "hang"):
            bench.hang()
        while True:  # until the watchdog bites; not busy, for a minute of turns would be one of the host's
            time.sleep(1)


class _Line:
    """UART 1."""

    def __init__(self):
        self._waiting = 0
        self._due_ms = 0

    def _note(self, words):
        self._waiting = int(words[-2])
        self._due_ms = time.ticks_add(time.ticks_ms(), int(words[-1]))
        return words

    def init(self, baudrate, rxbuf):
        self._note(ask(f"line init {baudrate} {rxbuf}").split())

    def any(self):
        if not self._waiting and time.ticks_diff(time.ticks_ms(), self._due_ms) >= 0:
            self._note(ask("line any").split())
        return self._waiting

    def take(self, size):
        if not self.any():
            return b""
        return bytes.fromhex(self._note(ask(f"line read {size}").split())[0].decode())

    def put(self, buf):
        for start in range(0, len(buf), _CHUNK_BYTES):
            self._note(ask(f"line write {bytes(buf[start : start + _CHUNK_BYTES]).hex()}").split())

    def poll(self, flags):
        ready = flags & _POLLOUT
        if flags & _POLLIN and self.any():
            ready |= _POLLIN
        return ready

    def fileno(self):
        return -1

    def close(self):
        pass


def open_line(id):
    """The port of UART 1; None for the models'."""
    return _Line() if id == 1 else None


def reset():
    """Restart the board; the models' outputs are released first."""
    try:
        ask("reset")
    finally:
        _native_reset()


def deepsleep(time_ms=0):
    """The host lets the world go on so long, without this board, and starts it anew."""
    try:
        ask(f"deepsleep {time_ms}")
    finally:
        _native_reset()


DEEPSLEEP_RESET = 4
globals().pop("RTC", None)  # an emulator that is started anew forgets: what must outlive a reset is the host's (machine_extra.py)

ask("hello")

from machine_models import I2C, PWM, UART, Pin, number  # noqa: E402 - they need `ask`


def __getattr__(name):
    """What machine_extra.py has, loaded at its first use."""
    import machine_extra

    return getattr(machine_extra, name)
