"""PMS5003 particulate matter sensor (Plantower), UART 9600 8N1, 3.3 V logic.

Ref: "PMS5003 series data manual", V2.3 (2016-06-01), Appendix I (transport protocol), "Circuit attentions" 4 (30 s after wake-up).
Data frame, 32 bytes, big-endian: 42 4D, length 001Ch, thirteen words, sum of the thirty bytes before it. Words: PM1, PM2.5, PM10
with CF=1 ("standard particle"), the same three "under atmospheric environment", counts above 0.3 / 0.5 / 1 / 2.5 / 5 / 10 um
in 0.1 l, reserved. Parts seen put a version in the high and an error code in the low byte of the reserved word, as the PMSA003
manual tells.
Command: 42 4D command data-high data-low sum-high sum-low. Mode and sleep commands are answered by 42 4D 0004 command data sum.

The sensor is used in passive mode: it speaks when asked, so a reading is never older than the question.
"""

from collections import namedtuple

from ..ticks import sleep_ms, ticks_diff, ticks_ms
from .errors import BadChecksum, NoAnswer, SensorFault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from machine import UART

BAUD = 9600
SETTLE_MS = 30_000
"""After wake-up the fan needs this long; readings before it are not data (manual, "Circuit attentions" 4)."""
ANSWER_MS = 1500
"""The sensor measures every 200..2300 ms but answers a request from its last result at once; then 33 ms on the line."""
RANGE_UG_M3 = 500
"""Effective range of each mass column (manual, "Technical index"); the sensor goes on counting to 1000 and more, unwarranted."""
STUCK_READS = 16
"""So many equal frames in a row with particles in them are a sensor that hangs: the counts of a tenth of a litre never repeat."""

_COMMAND_MODE = 0xE1
_COMMAND_READ = 0xE2
_COMMAND_SLEEP = 0xE4
_FRAME_BYTES = 32
_DATA_LENGTH = 28
_ANSWER_LENGTH = 4
_POLL_MS = 10

Particulates = namedtuple(
    "Particulates",
    (
        "pm1_ug_m3",
        "pm25_ug_m3",
        "pm10_ug_m3",
        "pm1_ambient_ug_m3",
        "pm25_ambient_ug_m3",
        "pm10_ambient_ug_m3",
        "counts",
        "version",
        "error_code",
    ),
)
"""Masses in ug/m3 0..65535: the first three CF=1, then "atmospheric"; counts: six per 0.1 l; error_code 0 = none."""


class PMS5003:
    """One sensor on one UART."""

    def __init__(self, uart: "UART"):
        self._uart = uart
        self._chunk = bytearray(32)
        self._frame = bytearray(_FRAME_BYTES)
        self._filled = 0
        self._bad = 0
        self._last = bytearray(_FRAME_BYTES)
        self._repeats = 0
        self._command = bytearray(b"\x42\x4d\x00\x00\x00\x00\x00")

    def wake(self) -> None:
        """Start fan and laser; data is good SETTLE_MS later. Harmless when awake."""
        self._send(_COMMAND_SLEEP, 1)

    def sleep(self) -> None:
        """Stop fan and laser (life of the laser about 8000 h)."""
        self._send(_COMMAND_SLEEP, 0)

    def set_passive(self) -> None:
        """Speak only when asked. A sensor that lost power is active again and need not be told: `read` bears both."""
        self._send(_COMMAND_MODE, 0)

    async def read(self) -> "Particulates":
        """Ask for one reading and wait at most ANSWER_MS.

        Raises BadChecksum (bytes came, no whole frame), NoAnswer (silence: asleep, unpowered, unplugged), SensorFault (stuck: the
        STUCK_READS-th equal frame and those after it).
        """
        self._flush()
        self._bad = 0
        self._send(_COMMAND_READ, 0)
        started = ticks_ms()
        while True:
            if self._take():
                self._check_stuck()
                return decode_particulates(self._frame)
            if ticks_diff(ticks_ms(), started) >= ANSWER_MS:
                if self._bad:
                    raise BadChecksum("bad_checksum")
                raise NoAnswer("silent")
            await sleep_ms(_POLL_MS)

    def _check_stuck(self) -> None:
        frame = self._frame
        self._repeats = self._repeats + 1 if frame == self._last else 1
        self._last[:] = frame
        has_particles = frame[16] or frame[17]
        if self._repeats >= STUCK_READS and has_particles:
            raise SensorFault("stuck")

    def _send(self, command: int, data: int) -> None:
        out = self._command
        out[2] = command
        out[4] = data
        total = 0x42 + 0x4D + command + data
        out[5] = total >> 8
        out[6] = total & 0xFF
        self._uart.write(out)

    def _flush(self) -> None:
        for _ in range(16):
            if not self._uart.any():
                break
            self._uart.readinto(self._chunk)
        self._filled = 0

    def _take(self) -> bool:
        """Feed what has arrived; True when `_frame` holds a whole data frame (what follows is dropped)."""
        if not self._uart.any():
            return False
        count = self._uart.readinto(self._chunk) or 0
        for i in range(count):
            if self._feed(self._chunk[i]):
                return True
        return False

    def _feed(self, byte: int) -> bool:
        """One byte into the frame under assembly; True when it completes a good data frame, left in `_frame`."""
        self._frame[self._filled] = byte
        self._filled += 1
        while self._filled:
            end = self._whole_bytes()
            if end == 0:
                return False
            if end < 0:
                self._bad += 1
                self._drop(1)
            elif end == _FRAME_BYTES:
                self._filled = 0
                return True
            else:
                self._drop(end)
        return False

    def _whole_bytes(self) -> int:
        """Length of the good frame at the front; 0 when it is not whole yet, -1 when nothing good can begin here."""
        frame = self._frame
        filled = self._filled
        if frame[0] != 0x42 or (filled > 1 and frame[1] != 0x4D) or (filled > 2 and frame[2] != 0):
            return -1
        if filled < 4:
            return 0
        if frame[3] != _DATA_LENGTH and frame[3] != _ANSWER_LENGTH:
            return -1
        end = 4 + frame[3]
        if filled < end:
            return 0
        total = 0
        for i in range(end - 2):
            total += frame[i]
        return end if total == frame[end - 2] * 256 + frame[end - 1] else -1

    def _drop(self, count: int) -> None:
        """Drop `count` bytes and all up to the next possible header: a lost byte costs one frame and not the next too."""
        frame = self._frame
        filled = self._filled
        while count < filled and frame[count] != 0x42:
            count += 1
        for i in range(filled - count):
            frame[i] = frame[count + i]
        self._filled = filled - count


def decode_particulates(frame: bytes | bytearray) -> "Particulates":
    """The readings in a checked 32-byte data frame. Ref: manual, Appendix I, "PMS5003 transport protocol-active mode"."""
    return Particulates(
        _word(frame, 4),
        _word(frame, 6),
        _word(frame, 8),
        _word(frame, 10),
        _word(frame, 12),
        _word(frame, 14),
        (_word(frame, 16), _word(frame, 18), _word(frame, 20), _word(frame, 22), _word(frame, 24), _word(frame, 26)),
        frame[28],
        frame[29],
    )


def _word(frame: bytes | bytearray, at: int) -> int:
    return frame[at] * 256 + frame[at + 1]
