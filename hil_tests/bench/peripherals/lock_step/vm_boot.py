"""MicroPython's unix port as a board in lock-step: time that only waits make pass, flash with power cuts, a watchdog, `bench`.

The script of `micropython`, run in the board's folder. Arguments: unix time at power-on in us, reset cause, and, where the board's files
are this machine's and no flash is emulated, the folder with main.py. Time stands still while code runs, except TURN_US for
each turn of the event loop. What the interpreter has no means for (reset, bite, power cut) it asks of the host, which ends the process.
Known gap: ticks do not wrap every twelve days, for this interpreter's own arithmetic of them wraps after aeons.
"""
# ruff: noqa: A002, SIM115 - the ESP32's argument names; files that live as long as the board

import sys
import time as _native

import vfs

TURN_US = 200
_BLOCK_BYTES = 4096
_EPOCH_US = 946684800000000
_HALF = 0
_DEAD, _HARD_RESET, _WDT_RESET = 0, 2, 3
_POLL = 3  # MP_STREAM_POLL


class _Time:
    """In the place of the module `time`, before anything else has it."""

    def __init__(self, us):
        self.us = us
        self.ticks_diff = _native.ticks_diff
        self.ticks_add = _native.ticks_add
        self.gmtime = _native.gmtime

    def ticks_ms(self):
        return self.us // 1000

    def ticks_us(self):
        return self.us

    def time_ns(self):
        return (self.us - _EPOCH_US) * 1000

    def time(self):
        return self.us // 1000000

    def sleep_us(self, us):
        self.us += us
        bench.look_at_watchdog()

    def sleep_ms(self, ms):
        self.sleep_us(ms * 1000)

    def sleep(self, s):
        self.sleep_us(int(s * 1000000))


class _Watchdog:
    def __init__(self, id=0, timeout=5000):
        bench.watchdog_us = timeout * 1000
        self.feed()

    def feed(self):
        bench.due_us = clock.us + bench.watchdog_us


class _Bench:
    """The module `bench` of an emulated board, as far as its `machine` wants it."""

    WDT = _Watchdog

    def __init__(self, cause):
        self.cause = cause
        self.watchdog_us = 0
        self.due_us = 0
        self.cut = 0
        self.cut_mode = _HALF
        self._request = open("request", "wb")
        self._answer = open("answer", "rb")

    def ask(self, line):
        self._request.write(line.encode() + b"\n")
        answer = self._answer.readline()
        if not answer:
            raise SystemExit  # the host is gone, and with it the power
        return answer[:-1].decode()

    def end(self, cause):
        """The host ends this process and, unless power is gone, starts it anew."""
        self.ask(f"@{clock.us - _EPOCH_US} end {cause} {_Flash.erased}")
        raise SystemExit

    def look_at_watchdog(self):
        if self.watchdog_us and clock.us >= self.due_us:
            clock.us = max(clock.us, self.due_us)
            self.end(_WDT_RESET)

    def hang(self):
        if not self.watchdog_us:
            raise ValueError("a loop without a watchdog never ends")
        clock.us = max(clock.us, self.due_us)
        self.end(_WDT_RESET)

    def cut_after(self, count, mode=_HALF):
        self.cut = count
        self.cut_mode = mode

    def reset(self):
        self.end(_HARD_RESET)

    def reset_cause(self):
        return self.cause

    def unique_id(self):
        return b"\x02lock!"


class _Flash:
    """A block device on a file, whose power may fail in the middle of an operation. Erased octets are 0xff and stay what they were."""

    erased = 0  # blocks, since this process began

    def __init__(self, path):
        self._file = open(path, "r+b")

    def readblocks(self, block, buffer, offset=0):
        self._file.seek(block * _BLOCK_BYTES + offset)
        self._file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=0):
        if bench.cut:
            bench.cut -= 1
            if not bench.cut:
                done = len(buffer) // 2 if bench.cut_mode == _HALF else len(buffer)
                self._put(block, memoryview(buffer)[:done], offset)
                bench.end(_DEAD)
        self._put(block, buffer, offset)

    def _put(self, block, octets, offset):
        self._file.seek(block * _BLOCK_BYTES + offset)
        self._file.write(octets)
        self._file.flush()

    def ioctl(self, what, argument):
        if what == 4:
            return 512
        if what == 5:
            return _BLOCK_BYTES
        if what == 6:  # erase: half a block's power cut leaves half of it erased
            _Flash.erased += 1
            if bench.cut:
                bench.cut -= 1
                if not bench.cut:
                    self._put(argument, b"\xff" * (_BLOCK_BYTES // 2 if bench.cut_mode == _HALF else _BLOCK_BYTES), 0)
                    bench.end(_DEAD)
            self._put(argument, b"\xff" * _BLOCK_BYTES, 0)
        return 0


class _Poller:
    """`select.poll` of streams without descriptors. Asks each once; where none is ready, time passes as the event loop wanted to wait.

    Trap: the interpreter's own looks at such streams only once a real millisecond, whatever the wait: a virtual hour took 80 s.
    """

    def __init__(self):
        self._flags = {}

    def register(self, stream, flags):
        self._flags[stream] = flags

    modify = register

    def unregister(self, stream):
        del self._flags[stream]

    def ipoll(self, wait_ms):
        clock.us += TURN_US
        ready = [
            (stream, found) for stream, found in [(stream, stream.ioctl(_POLL, flags)) for stream, flags in self._flags.items()] if found
        ]
        if not ready and wait_ms:
            if wait_ms < 0:
                raise RuntimeError("nothing will ever happen again")
            clock.us += min(wait_ms * 1000, max(0, bench.due_us - clock.us) if bench.watchdog_us else wait_ms * 1000)
        bench.look_at_watchdog()
        return ready


class _Random:
    """os.urandom of a board in lock-step: the same in every run. Ref: xorshift64*, as in the emulated boards."""

    def __init__(self, seed):
        self._state = seed * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF | 1

    def __call__(self, size):
        octets = bytearray(size)
        for index in range(size):
            state = self._state
            state ^= state >> 12
            state = (state ^ state << 25) & 0xFFFFFFFFFFFFFFFF
            self._state = state ^ state >> 27
            octets[index] = (self._state * 0x2545F4914F6CDD1D & 0xFFFFFFFFFFFFFFFF) >> 56
        return bytes(octets)


clock = _Time(int(sys.argv[1]))
bench = _Bench(int(sys.argv[2]))
sys.modules["time"] = clock
sys.modules["bench"] = bench

import asyncio.core  # noqa: E402 - only now, for it takes its clock once
import os as _os  # noqa: E402

asyncio.core._io_queue.poller = _Poller()


class _System:
    """The module `os` with a generator that repeats."""

    urandom = _Random(clock.us)

    def __getattr__(self, name):
        return getattr(_os, name)


sys.modules["os"] = _System()
if len(sys.argv) > 3:
    _home = sys.argv[3]
    _here = sys.argv[0].rsplit("/", 1)[0]
    sys.path[:] = [_here, _home, ".frozen", _here + "/.."]
else:
    _flash = vfs.VfsLfs2(_Flash("flash.bin"), progsize=256, readsize=256)
    vfs.umount("/")
    vfs.mount(_flash, "/")
    _os.chdir("/")
    _home = ""
    sys.path[:] = ["", ".frozen", "/lib"]
with open(_home + "/main.py") as _main:
    _source = _main.read()
exec(compile(_source, "/main.py", "exec"), {"__name__": "__main__"})
