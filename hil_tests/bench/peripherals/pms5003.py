"""PMS5003 particulate sensor, UART 9600 8N1.

Ref: Plantower PMS5003 series data manual v2.3, appendices I to III: 32-byte frame 42 4D, length 001C, thirteen big-endian
words, sum of all before it; commands 42 4D cmd high low sum: E1 mode (0 passive, 1 active), E2 read in passive mode,
E4 sleep (0) and wake (1); 30 s after wake before values are stable. Byte 28 version, byte 29 error code.
The reading follows the U.S. EPA's study of this sensor (Barkjohn 2021, amt-14-4617-2021): it is that correction backwards,
so a node that applies it to the CF=1 value finds the true dry mass. E1 and E4 are answered with an 8-byte frame, as newer
parts do. While warming up values are wrong on purpose: nothing for 5 s, then 2.5 times too high, falling to true at 30 s.
Faults: unplugged, bad_checksum, stuck (the same frame for ever), fan (counts fall to nothing, error code set).
"""

from collections.abc import Callable

from .bus import UartModel
from .street import uniform

WARM_UP_S = 30.0
_PERIOD_S = 1.0
_ERROR_FAN = 0x20
_VERSION = 0x97
_MODE, _READ, _SLEEP = 0xE1, 0xE2, 0xE4


def packet(body: bytes) -> bytes:
    """Start characters, length, body, sum."""
    data = b"\x42\x4d" + (len(body) + 2).to_bytes(2, "big") + body
    return data + (sum(data) & 0xFFFF).to_bytes(2, "big")


def data_frame(words: list[int], error: int) -> bytes:
    """The 32 bytes for twelve words 0..65535."""
    return packet(b"".join(word.to_bytes(2, "big") for word in words) + bytes((_VERSION, error)))


def atmospheric(cf1: float) -> float:
    """The manufacturer's second scale: equal to CF=1 up to 30 ug/m3, two thirds of it above 100."""
    return cf1 * (1 - min(1.0, max(0.0, (cf1 - 30) / 70)) / 3)


class PMS5003(UartModel):
    """`pm25_ug_m3` (dry) and `humidity_percent` give the truth at a bench time."""

    def __init__(self, seed: int, pm25_ug_m3: Callable[[float], float], humidity_percent: Callable[[float], float]) -> None:
        super().__init__()
        self._seed = seed
        self._pm25_ug_m3 = pm25_ug_m3
        self._humidity_percent = humidity_percent
        self._received = bytearray()
        self._frame_number = 0
        self._stuck: bytes | None = None
        self.is_active = True
        self.awake_since_s: float | None = 0.0

    def power_on(self, now_s: float) -> None:
        """Supply comes on: active mode, fan starts."""
        self.is_active = True
        self.awake_since_s = now_s

    def advance(self, now_s: float) -> None:
        if not (self._port_baud and self.is_active and self.awake_since_s is not None):
            self._frame_number = int(now_s / _PERIOD_S) + 1
        while self._frame_number * _PERIOD_S <= now_s:
            if self.is_full():
                self._frame_number = int(now_s / _PERIOD_S) + 1
                return
            start_s = self._frame_number * _PERIOD_S
            self.send(start_s, self.frame(start_s))
            self._frame_number += 1

    def command(self, data: bytes, now_s: float) -> None:
        self._received += data
        while True:
            start = self._received.find(b"\x42\x4d")
            if start < 0:
                del self._received[:-1]
                return
            del self._received[:start]
            if len(self._received) < 7:
                return
            order = bytes(self._received[:7])
            del self._received[:7]
            if sum(order[:5]) == int.from_bytes(order[5:], "big"):
                self._obey(order[2], order[4], now_s)

    def _obey(self, code: int, value: int, now_s: float) -> None:
        if code == _SLEEP and value == 1:
            if self.awake_since_s is None:
                self.awake_since_s = now_s
        elif self.awake_since_s is None:
            return  # asleep it hears nothing but the wake command
        elif code == _SLEEP:
            self.awake_since_s = None
        elif code == _MODE:
            self.is_active = value == 1
        elif code == _READ:
            if not self.is_active:
                self.send(now_s + 0.01, self.frame(now_s))
            return
        self.send(now_s + 0.01, packet(bytes((code, value))))

    def frame(self, now_s: float) -> bytes:
        """The data frame of this moment, faults included."""
        if "stuck" not in self.faults:
            self._stuck = None
        elif self._stuck is not None:
            return self._stuck
        data = self._true_frame(now_s)
        if "bad_checksum" in self.faults:
            data = data[:31] + bytes((data[31] ^ 0x01,))
        if "stuck" in self.faults:
            self._stuck = data
        return data

    def _true_frame(self, now_s: float) -> bytes:
        awake_s = now_s - (self.awake_since_s or 0.0)
        factor = 1.0
        if awake_s < 5 or "fan" in self.faults:
            factor = 0.0
        elif awake_s < WARM_UP_S:
            factor = 2.5 - 1.5 * awake_s / WARM_UP_S
        pm25 = self.cf1_ug_m3(now_s) * factor * (1 + 0.06 * (uniform(self._seed, 50, int(now_s)) - 0.5))
        cf1 = (0.68 * pm25, pm25, 1.25 * pm25)
        counts = tuple(pm25 * share for share in (190.0, 54.0, 9.5, 1.1, 0.35, 0.12))
        values = cf1 + tuple(atmospheric(value) for value in cf1) + counts
        words = [min(65535, max(0, round(value))) for value in values]
        return data_frame(words, _ERROR_FAN if "fan" in self.faults else 0)

    def cf1_ug_m3(self, now_s: float) -> float:
        """What a warm sensor reads for PM2.5, CF=1, before noise."""
        dry = self._pm25_ug_m3(now_s)
        return max(0.3 * dry, (dry - 5.75 + 0.0862 * self._humidity_percent(now_s)) / 0.524)
