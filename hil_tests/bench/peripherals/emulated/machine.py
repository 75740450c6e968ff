"""`machine` of an emulated board: the interpreter's own (UART 1, watchdog, reset and its cause, unique id), pins and buses of the models.

Lies in the device's file system, where it stands before the interpreter's module of that name and contains it. The interpreter has
`bench.ask`, one blocking exchange with the models while the emulated machine stands still; bench.peripherals.requests documents the
lines. Known gap: the models learn of a watchdog's bite only when firmware imports this again, so until then outputs stand still.
"""
# ruff: noqa: A002, F401, F403, F405, N811 - the ESP32's argument names; what is imported here belongs to `machine`

import os
import sys

import bench

_path = sys.path[:]
sys.path[:] = []  # so that the next line finds the interpreter's own
try:
    from machine import *
finally:
    sys.path[:] = _path

_native_uart = UART
_native_reset = reset
_EIO = 5


def _hello():
    # CAN (0x18) voids whatever half line a killed predecessor left; what is not our answer was meant for it.
    token = os.urandom(6).hex()
    answer = bench.ask(f"\x18\nhello {token} 0")
    while not answer.startswith(f"hello {token} "):
        answer = bench.ask("\x18")


def ask(line):
    """One exchange: the answer's data as bytes; OSError with the errno the bus gave, EIO when the bench is gone."""
    answer = bench.ask(line)
    if answer.startswith("ok"):
        return answer[3:].encode()
    raise OSError(int(answer[4:]) if answer.startswith("err ") else _EIO)


def open_line(id):
    """Every UART of machine_models.py is a model's here."""


def UART(id, *arguments, **options):  # noqa: N802
    """UART 1 is the interpreter's own, any other a model's."""
    return (_native_uart if id == 1 else ModelUART)(id, *arguments, **options)


def reset():
    """Restart the board; the models' outputs are released first."""
    try:
        ask("reset")
    finally:
        _native_reset()


_hello()

from machine_models import I2C, PWM, Pin, number  # noqa: E402 - they need `ask`
from machine_models import UART as ModelUART  # noqa: E402


def __getattr__(name):
    """What machine_extra.py has, loaded at its first use."""
    import machine_extra

    return getattr(machine_extra, name)
