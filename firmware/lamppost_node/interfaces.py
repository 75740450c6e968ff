"""Types of the objects that are handed in. For type checkers only: MicroPython has no `typing` and never imports this file."""

from collections.abc import Awaitable
from typing import Any, Protocol


class Ticks(Protocol):
    """The part of the `time` module that clocks use."""

    def ticks_ms(self) -> Any:
        """Milliseconds, wrapping at an unknown power of two."""

    def ticks_diff(self, end: Any, start: Any, /) -> int:
        """Signed difference of two readings less than half the range apart."""


class Fixture(Protocol):
    """What serves one piece of street furniture; `order`, `adds_light` and `safe` may be missing."""

    async def run(self) -> None:
        """Measure, act, emit; returns never. Raising restarts it."""


class Line(Protocol):
    """A link's sending half."""

    def send(self, message_type: int, body: bytes) -> Awaitable[bool]:
        """Put one message on the line; False when the line took nothing for too long."""


class Watchdog(Protocol):
    """The hardware watchdog."""

    def feed(self) -> None:
        """Put the bite off by one timeout."""


class Radio(Protocol):
    """A LoRa radio of whatever make, as drivers.sx126x documents it: one call at a time, all raising RadioFault and usable after it."""

    crc_errors: int
    header_errors: int
    restarts: int

    def configure(
        self,
        frequency_hz: int,
        spreading_factor: int,
        bandwidth_hz: int,
        coding_rate: int = 1,
        preamble_symbols: int = 8,
        tx_power_dbm: int = 14,
        is_iq_inverted: bool = False,
    ) -> Awaitable[None]:
        """Set what the next packets use; kept for after a fault."""

    def time_on_air_us(self, packet_bytes: int) -> int:
        """How long `send` of so many octets will occupy the air."""

    def send(self, packet: bytes) -> Awaitable[int]:
        """Transmit 1 .. 255 octets; their time on air in us."""

    def receive(self, timeout_ms: int) -> Awaitable[Any]:
        """(packet, rssi_dbm, snr_db, frequency_error_hz) of a packet with a right CRC, None when none came in time."""

    def is_channel_active(self) -> Awaitable[bool]:
        """Whether a LoRa signal of these settings is on the air."""

    def channel_rssi_dbm(self, listen_ms: int) -> Awaitable[int]:
        """The strongest signal of whatever kind during this time."""

    def standby(self) -> Awaitable[None]:
        """Stop; stay set up."""

    def sleep(self) -> Awaitable[None]:
        """Spend as little as the radio can; the next call wakes it."""


Module = Any
