"""A02YYUW waterproof ultrasonic ranger (DYP, sold as DFRobot SEN0311), UART 9600 8N1.

Ref: "DYP-A02YYUW-V1.0" data sheet and DFRobot SEN0311 wiki, revision 2026-01-21, "Communication protocol". The sensor talks
unasked: every 100 ms (real-time mode) or 100..300 ms (processed mode) four bytes `FF H L SUM`, SUM = (FF + H + L) & FFh,
distance = H * 256 + L mm.

Found on parts, not in the data sheet: no echo comes as 0 or as a number above the range (5500 was seen); the frame is well formed
then, so it is an answer and not a fault. Nothing at or below 30 mm is believed: that is the ringing of the membrane.
The sensor has no thermometer and turns time into millimetres with one fixed speed of sound; ASSUMED_SPEED_MM_S is that of 20 C.
The vendor does not publish it; whoever mounts a sensor can check it with a tape measure. Compensation is the fixture's work.
"""

from ..ticks import sleep_ms, ticks_diff, ticks_ms
from .errors import BadChecksum, NoAnswer, NoEcho

TYPE_CHECKING = False
if TYPE_CHECKING:
    from machine import UART, Pin

BAUD = 9600
BLIND_MM = 30
RANGE_MM = 4500
ASSUMED_SPEED_MM_S = 343_200
ANSWER_MS = 700
"""Two of the slowest periods and a frame's time on the line: silence for longer is a dead sensor."""

_HEADER = 0xFF
_POLL_MS = 10


class A02YYUW:
    """One sensor on one UART; `mode_pin`, when wired to the sensor's RX, chooses real-time (low) or processed (high) output."""

    def __init__(self, uart: "UART", mode_pin: "Pin | None" = None):
        self._uart = uart
        self._mode_pin = mode_pin
        self._chunk = bytearray(32)
        self._frame = bytearray(4)
        self._filled = 0
        self._bad = 0

    def set_filtered(self, filtered: bool) -> None:
        """Ask for processed (True, the sensor's default) or real-time output; does nothing when the pin is not wired.

        Ref: wiki, "Output communication": RX high or floating = processed, 100..300 ms; low = real time, 100 ms.
        """
        if self._mode_pin is not None:
            self._mode_pin.value(1 if filtered else 0)

    def flush(self) -> None:
        """Throw away what waits in the UART: it may be as old as the last reading."""
        for _ in range(16):
            if not self._uart.any():
                break
            self._uart.readinto(self._chunk)
        self._filled = 0

    async def read_mm(self) -> int:
        """The next distance, 31..4500 mm, as the sensor computes it (uncompensated).

        Waits at most ANSWER_MS; a damaged frame costs itself only. Raises NoEcho, BadChecksum (something came, nothing whole),
        NoAnswer (silence).
        """
        self._bad = 0
        started = ticks_ms()
        while True:
            distance_mm = self._take()
            if distance_mm >= 0:
                if distance_mm <= BLIND_MM or distance_mm > RANGE_MM:
                    raise NoEcho("no_echo")
                return distance_mm
            if ticks_diff(ticks_ms(), started) >= ANSWER_MS:
                if self._bad:
                    raise BadChecksum("bad_checksum")
                raise NoAnswer("silent")
            await sleep_ms(_POLL_MS)

    def _take(self) -> int:
        """Feed what has arrived; the newest whole distance in it, or -1."""
        newest_mm = -1
        waiting = self._uart.any()
        if waiting:
            count = self._uart.readinto(self._chunk) or 0
            for i in range(count):
                distance_mm = self._feed(self._chunk[i])
                if distance_mm >= 0:
                    newest_mm = distance_mm
        return newest_mm

    def _feed(self, byte: int) -> int:
        """One byte into the frame under assembly; its distance when it completes one, else -1."""
        frame = self._frame
        frame[self._filled] = byte
        self._filled += 1
        if self._filled == 1 and byte != _HEADER:
            self._bad += 1
            self._filled = 0
        if self._filled < 4:
            return -1
        if (frame[0] + frame[1] + frame[2]) & 0xFF == frame[3]:
            self._filled = 0
            return frame[1] * 256 + frame[2]
        self._bad += 1
        self._resynchronise()
        return -1

    def _resynchronise(self) -> None:
        """Keep the tail from the next possible header on: that byte may start the whole frame behind the damaged one."""
        frame = self._frame
        for start in range(1, 4):
            if frame[start] == _HEADER:
                kept = 4 - start
                for i in range(kept):
                    frame[i] = frame[start + i]
                self._filled = kept
                return
        self._filled = 0
