"""The less used part of the bench's `machine`: get it from there, `machine.ADC` and so on. Loaded at first use only."""
# ruff: noqa: A002 - the ESP32's argument names

import time

from machine import ask, number
from micropython import const

_RTC_MEMORY_BYTES = const(2048)
_CHUNK_BYTES = const(256)


def idle():
    pass


def disable_irq():
    return 0


def enable_irq(state):
    pass


def freq(hz=None):
    """Clock in Hz; setting one has no effect."""
    return 160000000 if hz is None else None


class ADC:
    ATTN_0DB = 0
    ATTN_2_5DB = 1
    ATTN_6DB = 2
    ATTN_11DB = 3

    def __init__(self, id, *, sample_ns=None, atten=0):
        self._id = number(id)
        self._atten = atten

    def init(self, *, sample_ns=None, atten=0):
        self._atten = atten

    def read_u16(self):
        return int(ask(f"adc {self._id} {self._atten}").split()[0])

    def read_uv(self):
        return int(ask(f"adc {self._id} {self._atten}").split()[1])


class SPI:
    """Full duplex; a bus without a model reads 0xff, as a pulled-up MISO does."""

    MSB = 0
    LSB = 1

    def __init__(self, id, baudrate=1000000, *, polarity=0, phase=0, bits=8, firstbit=0, sck=None, mosi=None, miso=None):
        self._id = id

    def init(self, baudrate=1000000, *, polarity=0, phase=0, bits=8, firstbit=0, sck=None, mosi=None, miso=None):
        pass

    def deinit(self):
        pass

    def _transfer(self, written):
        return bytes.fromhex(ask(f"spi {self._id} {bytes(written).hex()}").decode())

    def read(self, nbytes, write=0):
        return self._transfer(bytes([write]) * nbytes)

    def readinto(self, buf, write=0):
        buf[:] = self._transfer(bytes([write]) * len(buf))

    def write(self, buf):
        self._transfer(buf)

    def write_readinto(self, write_buf, read_buf):
        if len(write_buf) != len(read_buf):
            raise ValueError("buffers must be the same length")
        read_buf[:] = self._transfer(write_buf)


class RTC:
    """Counts from 2000-01-01 at power-on; time and memory survive a reset but no power cut. Does not set time.time()."""

    def __init__(self, id=0, *, datetime=None):
        if datetime is not None:
            self.init(datetime)

    def init(self, datetime=None):
        if datetime is not None:
            self.datetime(tuple(datetime[:3]) + (0,) + tuple(datetime[3:7]))  # noqa: RUF005 (no [*a] in MicroPython)

    def datetime(self, datetimetuple=None):
        if datetimetuple is None:
            year, month, day, hour, minute, second, weekday = time.gmtime(int(ask("rtc")))[:7]
            return (year, month, day, weekday, hour, minute, second, 0)
        year, month, day, _, hour, minute, second = (tuple(datetimetuple) + (0,) * 7)[:7]
        ask(f"rtc {_unix_s(year, month, day, hour, minute, second)}")

    def memory(self, data=None):
        if data is None:
            return bytes.fromhex(ask("mem").decode())
        if len(data) > _RTC_MEMORY_BYTES:
            raise ValueError("buffer too long")
        for start in range(0, max(1, len(data)), _CHUNK_BYTES):
            chunk = bytes(data[start : start + _CHUNK_BYTES])
            ask(f"mem {start} {chunk.hex() if chunk else ''}")  # MicroPython 1.25 turns no octets into b'', not into ''


def _unix_s(year, month, day, hour, minute, second):
    """UTC date to unix seconds without the host's time zone. Ref: days-from-civil, proleptic Gregorian calendar."""
    if month <= 2:
        year -= 1
        month += 12
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469
    return ((days * 24 + hour) * 60 + minute) * 60 + second
