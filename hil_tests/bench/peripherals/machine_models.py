"""Pins and buses of the bench's `machine`, the same on every emulated target: what firmware says becomes lines to the models.

Imported by a target's own `machine`, which has `ask(line)`, one exchange with the models, and `open_line(id)`, the port of a UART that
is no model's. bench.peripherals.requests documents the lines. Only what firmware commonly uses, for heap that this costs is heap
that the firmware lacks; machine_extra.py has the rest. Ref: micropython-esp32-stubs 1.29, against which a test compares every signature.
"""
# ruff: noqa: A002 - the ESP32's argument names

import io
import time

from machine import ask, open_line
from micropython import const

_EINVAL = const(22)
_POLLIN = const(1)
_POLLOUT = const(4)
_IOCTL_FLUSH = const(1)
_IOCTL_POLL = const(3)
_IOCTL_GET_FILENO = const(10)
_REMOTE_POLL_MS = const(20)
_CHUNK_BYTES = const(256)


def number(pin):
    return pin._id if isinstance(pin, Pin) else int(pin)


class Pin:
    IN = 1
    OUT = 3
    OPEN_DRAIN = 7
    PULL_DOWN = 1
    PULL_UP = 2

    def __init__(self, id, mode=-1, pull=-1, *, value=None, drive=None, alt=None):
        self._id = number(id)
        self._mode = -1
        self.init(mode, pull, value=value, drive=drive, alt=alt)

    def init(self, mode=-1, pull=-1, *, value=None, drive=None, alt=None):
        if mode == Pin.IN:
            ask(f"pin {self._id} in {pull}")
        elif mode != -1:
            # value None: the output latch keeps what it had, 0 after a reset.
            ask("pin {} out{}".format(self._id, "" if value is None else " 1" if value else " 0"))
        elif value is not None:
            self.value(value)
        if mode != -1:
            self._mode = mode

    def value(self, x=None):
        if x is None:
            return int(ask(f"pin {self._id} get"))
        ask(f"pin {self._id} set {1 if x else 0}")

    def __call__(self, x=None):
        return self.value(x)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def toggle(self):
        self.value(0 if self.value() else 1)

    def __repr__(self):
        return f"Pin({self._id})"


class PWM:
    """LEDC output. As on the ESP32, a new one without duty starts at 50 %, without frequency at 5 kHz."""

    def __init__(self, dest, *, freq=None, duty_u16=None, duty_ns=None, invert=False):
        self._id = number(dest)
        self._freq = 5000
        self._duty = 32768
        self._invert = False
        self.init(freq=freq, duty_u16=duty_u16, duty_ns=duty_ns, invert=invert)

    def init(self, *, freq=None, duty_u16=None, duty_ns=None, invert=None):
        if freq is not None:
            self._freq = freq
        if duty_u16 is not None:
            self._duty = min(65535, max(0, duty_u16))
        if duty_ns is not None:
            self._duty = min(65535, duty_ns * self._freq * 65535 // 1000000000)
        if invert is not None:
            self._invert = bool(invert)
        duty = 65535 - self._duty if self._invert else self._duty
        ask(f"pwm {self._id} {self._freq} {duty}")

    def freq(self, value=None):
        if value is None:
            return self._freq
        self.init(freq=value)

    def duty_u16(self, value=None):
        if value is None:
            return self._duty
        self.init(duty_u16=value)

    def deinit(self):
        ask(f"free {self._id}")


class _Remote:
    """A UART whose far end is a model: bytes are fetched by exchange."""

    def __init__(self, id):
        self._id = id
        self._asked_ms = time.ticks_add(time.ticks_ms(), -_REMOTE_POLL_MS)

    def init(self, baudrate, rxbuf):
        ask(f"uart {self._id} init {baudrate} {rxbuf}")

    def any(self):
        return int(ask(f"uart {self._id} any"))

    def take(self, size):
        return bytes.fromhex(ask(f"uart {self._id} read {size}").decode())

    def put(self, buf):
        for start in range(0, len(buf), _CHUNK_BYTES):
            ask(f"uart {self._id} write {bytes(buf[start : start + _CHUNK_BYTES]).hex()}")

    def fileno(self):
        return -1

    def poll(self, flags):
        ready = flags & _POLLOUT
        now_ms = time.ticks_ms()
        # The VM asks every millisecond while a task waits; an exchange each time would cost a core.
        if flags & _POLLIN and time.ticks_diff(now_ms, self._asked_ms) >= _REMOTE_POLL_MS:
            self._asked_ms = now_ms
            if self.any():
                ready |= _POLLIN
        return ready

    def close(self):
        ask(f"uart {self._id} deinit")


class UART(io.IOBase):
    """What `open_line` gives, else a model. Never blocks, so `timeout` and `timeout_char` have no effect."""

    def __init__(
        self,
        id,
        baudrate=9600,
        bits=8,
        parity=None,
        stop=1,
        *,
        tx=None,
        rx=None,
        txbuf=None,
        rxbuf=None,
        timeout=None,
        timeout_char=None,
        invert=None,
        flow=None,
        rts=None,
        cts=None,
    ):
        self._port = open_line(id) or _Remote(id)
        self._rxbuf = 256
        self.init(baudrate, bits, parity, stop, rxbuf=rxbuf)

    def init(
        self,
        baudrate=9600,
        bits=8,
        parity=None,
        stop=1,
        *,
        tx=None,
        rx=None,
        txbuf=None,
        rxbuf=None,
        timeout=None,
        timeout_char=None,
        invert=None,
        flow=None,
        rts=None,
        cts=None,
    ):
        self._rxbuf = rxbuf or self._rxbuf  # as it was unless given, as on an ESP32
        self._port.init(baudrate, self._rxbuf)

    def deinit(self):
        self._port.close()

    def any(self):
        return self._port.any()

    def read(self, nbytes=-1):
        if nbytes is not None and nbytes >= 0:
            return self._port.take(nbytes) or None
        data = b""
        while True:
            part = self._port.take(_CHUNK_BYTES)
            data += part
            if len(part) < _CHUNK_BYTES:
                return data or None

    def readinto(self, buf, nbytes=-1):
        size = len(buf) if nbytes is None or nbytes < 0 else min(nbytes, len(buf))
        data = self._port.take(size)
        buf[: len(data)] = data
        return len(data) or None

    def readline(self):
        line = b""
        while not line.endswith(b"\n"):
            octet = self._port.take(1)
            if not octet:
                break
            line += octet
        return line or None

    def write(self, buf):
        if isinstance(buf, str):
            buf = buf.encode()
        self._port.put(buf)
        return len(buf)

    def flush(self):
        pass

    def txdone(self):
        return True

    def ioctl(self, request, argument):
        if request == _IOCTL_POLL:
            return self._port.poll(argument)
        if request == _IOCTL_GET_FILENO:
            return self._port.fileno()
        if request == _IOCTL_FLUSH:
            return 0
        return -_EINVAL


class I2C:
    def __init__(self, id, *, scl=None, sda=None, freq=400000, timeout=50000):
        self._id = id

    def _transact(self, addr, written, nbytes):
        """Write, then (repeated start) read; None for a part means that it is left out."""
        line = f"i2c {self._id} {addr:02x}"
        if written is not None:
            line += " w" + bytes(written).hex()
        if nbytes is not None:
            line += f" r{nbytes}"
        return bytes.fromhex(ask(line).decode())

    def scan(self):
        return [int(address, 16) for address in ask(f"scan {self._id}").split()]

    def readfrom(self, addr, nbytes, stop=True):
        return self._transact(addr, None, nbytes)

    def readfrom_into(self, addr, buf, stop=True):
        buf[:] = self._transact(addr, None, len(buf))

    def writeto(self, addr, buf, stop=True):
        self._transact(addr, buf, None)
        return len(buf)

    def writevto(self, addr, vector, stop=True):
        return self.writeto(addr, b"".join([bytes(part) for part in vector]))

    def readfrom_mem(self, addr, memaddr, nbytes, *, addrsize=8):
        return self._transact(addr, memaddr.to_bytes(addrsize // 8, "big"), nbytes)

    def readfrom_mem_into(self, addr, memaddr, buf, *, addrsize=8):
        buf[:] = self.readfrom_mem(addr, memaddr, len(buf), addrsize=addrsize)

    def writeto_mem(self, addr, memaddr, buf, *, addrsize=8):
        self._transact(addr, memaddr.to_bytes(addrsize // 8, "big") + bytes(buf), None)
