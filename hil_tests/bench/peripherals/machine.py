"""MicroPython's `machine` for the unix port: ESP32 signatures, every transaction carried to models in another process.

Put this file's folder first on the VM's path. It holds no model and no state that a chip would not hold.
Environment: `BENCH_EXCHANGE`, absolute path of a folder with the FIFOs `request` and `answer` (bench.peripherals.server
makes them); `BENCH_LINE`, absolute path of the pty behind UART 1, best of a link to it, so that a cable can be pulled and put back.
Do not start the program as a session leader: the pty would become its terminal, and pulling the cable would kill it.
An exchange is one request line and one answer line, synchronous; bench.peripherals.requests documents the lines.
Only what firmware commonly uses, for heap that the models cost is heap the firmware lacks: ADC, SPI, RTC and some functions lie
in machine_extra.py, loaded when first asked for. Known gaps: no interrupts, no Timer, no sleep modes.
Ref: micropython-esp32-stubs 1.29, against which a test compares every signature here.
"""
# ruff: noqa: A002 - the ESP32's argument names

import io
import os
import select
import termios
import time

import vfs
from micropython import const

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5

_ENODEV = const(19)
_EIO = const(5)
_EINVAL = const(22)
_POLLIN = const(1)
_POLLOUT = const(4)
_LOST = const(8 | 16 | 32)  # POLLERR, POLLHUP, POLLNVAL
_IOCTL_FLUSH = const(1)
_IOCTL_POLL = const(3)
_IOCTL_GET_FILENO = const(10)
_REOPEN_MS = const(100)
_REMOTE_POLL_MS = const(20)
_CHUNK_BYTES = const(256)

# Own file system object: the host's files stay reachable after the firmware has mounted something else at "/".
_host = vfs.VfsPosix("/")


class _Exchange:
    """The two FIFOs. The server takes a first `hello` as power coming on, an `again` as the same program resuming."""

    request = None
    answer = None
    greeting = "hello"
    identity = (PWRON_RESET, b"")


def _connect():
    folder = os.getenv("BENCH_EXCHANGE")
    if not folder:
        raise OSError(_ENODEV)
    _Exchange.request = _host.open(folder + "/request", "wb")
    token = os.urandom(6).hex()
    try:
        with _host.open("/proc/self/stat", "rb") as stat:
            pid = stat.readline().split()[0].decode()
    except OSError:
        pid = "0"
    # CAN (0x18) voids whatever half line a killed predecessor left in the FIFO.
    _Exchange.request.write(f"\x18\n{_Exchange.greeting} {token} {pid}\n")
    _Exchange.answer = _host.open(folder + "/answer", "rb")
    while True:
        words = _Exchange.answer.readline().split()
        if not words:
            raise OSError(_EIO)
        if words[0] == b"hello" and len(words) == 4 and words[1] == token.encode():
            break  # anything before it was meant for a predecessor
    if _Exchange.greeting == "hello":
        _Exchange.identity = (int(words[2]), bytes.fromhex(words[3].decode()))
    _Exchange.greeting = "again"


def ask(line):
    """One exchange: the answer's data as bytes; OSError with the errno the bus gave, EIO when the bench is gone."""
    finished = False
    try:
        if _Exchange.request is None:
            _connect()
        _Exchange.request.write(line + "\n")
        answer = _Exchange.answer.readline()
        finished = answer.endswith(b"\n")
    finally:
        if not finished and _Exchange.request is not None:
            # Interrupted or cut off: the next answer in the FIFO would be the wrong one, so connect anew.
            _Exchange.request.close()
            if _Exchange.answer is not None:
                _Exchange.answer.close()
            _Exchange.request = _Exchange.answer = None
    if answer.startswith(b"ok"):
        return answer[3:-1]
    raise OSError(int(answer[4:-1]) if answer.startswith(b"err ") else _EIO)


def number(pin):
    return pin._id if isinstance(pin, Pin) else int(pin)


def reset():
    """Restart the board: here the program ends with status 99 and whoever started it starts it again."""
    try:
        ask("reset")
    finally:
        raise SystemExit(99)


def reset_cause():
    if _Exchange.greeting == "hello":
        ask("nop")
    return _Exchange.identity[0]


def unique_id():
    if _Exchange.greeting == "hello":
        ask("nop")
    return _Exchange.identity[1]


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


class _Line:
    """The pty behind UART 1. Like a UART without flow control it never blocks and never fails: with the far end gone
    reads give nothing, written bytes are lost, and the path is tried again every 100 ms."""

    def __init__(self):
        self._file = None
        self._poll = None
        self._tried_ms = time.ticks_add(time.ticks_ms(), -_REOPEN_MS)

    def init(self, baudrate, rxbuf):
        self._open()

    def _open(self):
        if self._file is not None:
            return True
        now_ms = time.ticks_ms()
        if time.ticks_diff(now_ms, self._tried_ms) < _REOPEN_MS:
            return False
        self._tried_ms = now_ms
        try:
            file = _host.open(os.getenv("BENCH_LINE") or "", "r+b")
        except OSError:
            return False
        try:
            termios.setraw(file.fileno())
            attributes = termios.tcgetattr(file.fileno())
            attributes[6][5] = attributes[6][6] = 0  # VTIME, VMIN: a read returns at once with what is there
            termios.tcsetattr(file.fileno(), termios.TCSANOW, attributes)
        except OSError:
            file.close()
            return False
        self._file = file
        self._poll = select.poll()
        self._poll.register(file, _POLLIN | _POLLOUT)
        return True

    def _events(self):
        """Poll flags of the open file now; 0 after a hang-up, which also closes it."""
        for _, events in self._poll.ipoll(0):
            if events & _LOST:
                self.close()
                return 0
            return events
        return 0

    def any(self):
        return 1 if self._open() and self._events() & _POLLIN else 0

    def take(self, size):
        if not self._open():
            return b""
        try:
            data = self._file.read(size)
        except OSError:
            self.close()
            return b""
        if not data:
            self._events()
        return data

    def put(self, buf):
        if not self._open():
            return
        view = memoryview(buf)
        try:
            for start in range(0, len(view), _CHUNK_BYTES):
                if not self._events() & _POLLOUT:
                    return  # nobody empties the line: on a wire the bytes would be gone too
                self._file.write(view[start : start + _CHUNK_BYTES])
        except OSError:
            self.close()

    def fileno(self):
        return self._file.fileno() if self._open() else -1

    def poll(self, flags):
        if not self._open():
            return flags & _POLLOUT
        return self._events() & flags & (_POLLIN | _POLLOUT) | flags & _POLLOUT

    def close(self):
        if self._file is not None:
            self._file.close()
        self._file = self._poll = None


class UART(io.IOBase):
    """UART 1 is the pty BENCH_LINE, any other a model. Never blocks, so `timeout` and `timeout_char` have no effect."""

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
        self._port = _Line() if id == 1 else _Remote(id)
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
        self._port.init(baudrate, rxbuf or 256)

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


class WDT:
    """Once started it cannot be stopped; not fed in time, the process is killed and the next start says WDT_RESET."""

    def __init__(self, *, id=0, timeout=5000):
        ask(f"wdt {timeout}")

    def feed(self):
        ask("feed")


def __getattr__(name):
    """What machine_extra.py has, loaded at its first use."""
    import machine_extra

    return getattr(machine_extra, name)
