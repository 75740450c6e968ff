"""MicroPython's `machine` for the unix port: ESP32 signatures, every transaction carried to models in another process.

Put this file's folder first on the VM's path. It holds no model and no state that a chip would not hold. Here is how the unix port
reaches the models, and what a chip has of its own: reset, watchdog, UART 1. Pins and buses are in machine_models.py.
Environment: `BENCH_EXCHANGE`, absolute path of a folder with the FIFOs `request` and `answer` (bench.peripherals.server
makes them); `BENCH_LINE`, absolute path of the pty behind UART 1, best of a link to it, so that a cable can be pulled and put back.
Do not start the program as a session leader: the pty would become its terminal, and pulling the cable would kill it.
An exchange is one request line and one answer line, synchronous; bench.peripherals.requests documents the lines.
ADC, SPI, RTC and some functions lie in machine_extra.py, loaded when first asked for. Known gaps: no interrupts, no Timer, no light
sleep; nothing but its time ends a deep sleep.
Ref: micropython-esp32-stubs 1.29, against which a test compares every signature here.
"""
# ruff: noqa: A002 - the ESP32's argument names
# ruff: noqa: F401 - what is imported here belongs to `machine`

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
_POLLIN = const(1)
_POLLOUT = const(4)
_LOST = const(8 | 16 | 32)  # POLLERR, POLLHUP, POLLNVAL
_REOPEN_MS = const(100)
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


def reset():
    """Restart the board: here the program ends with status 99 and whoever started it starts it again."""
    try:
        ask("reset")
    finally:
        raise SystemExit(99)


def deepsleep(time_ms=0):
    """All pins float for so long, then the board starts anew: here the program waits, and ends as `reset` does."""
    try:
        ask(f"deepsleep {time_ms}")
        time.sleep_ms(time_ms)
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


def open_line(id):
    """The port of a UART that is no model's: UART 1 is the pty BENCH_LINE. None for the others."""
    return _Line() if id == 1 else None


class WDT:
    """Once started it cannot be stopped; not fed in time, the process is killed and the next start says WDT_RESET."""

    def __init__(self, *, id=0, timeout=5000):
        ask(f"wdt {timeout}")

    def feed(self):
        ask("feed")


from machine_models import I2C, PWM, UART, Pin, number  # noqa: E402 - they need `ask`


def __getattr__(name):
    """What machine_extra.py has, loaded at its first use."""
    import machine_extra

    return getattr(machine_extra, name)
