"""Types of the objects that are handed in. For type checkers only: MicroPython has no `typing` and never imports this file."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from lamppost_protocol.arq import Waits

if TYPE_CHECKING:
    from lamppost_protocol.airtime import Wrap


class Ticks(Protocol):
    """The part of the `time` module that clocks use."""

    def ticks_ms(self) -> Any:
        """Milliseconds, wrapping at an unknown power of two."""

    def ticks_diff(self, end: Any, start: Any, /) -> int:
        """Signed difference of two readings less than half the range apart."""


class Fixture(Protocol):
    """What serves one piece of street furniture; `order`, `adds_light`, `safe` and, of what gives no light, `lit_until_ms` may be missing.

    report_due_ms: monotonic, when its next record is due; None, which anybody may set: as soon as it can.
    """

    report_due_ms: int | None
    lit_until_ms: int

    async def run(self) -> None:
        """Measure, act, emit; returns never. Raising restarts it."""


class Link(Protocol):
    """What an uplink knows of its link. waits: for answers; gather_ms: how long records wait for company; spread_ms, alarm_spread_ms:
    up to how much after a start the first frame waits. What an update knows: pieces: in a want, at most; has_windows: whether all pieces
    that will ever come of a want have come when it is sent.
    """

    waits: Waits
    gather_ms: int
    spread_ms: int
    alarm_spread_ms: int
    pieces: int
    has_windows: bool

    def payload_bytes(self) -> int:
        """The longest payload of the next frame."""

    def delay_ms(self, payload_bytes: int, is_urgent: bool) -> int:
        """After how many milliseconds a frame with this payload may be sent, 0: now. Raises LocalError("too_long"): never."""

    def answered(self, digest: bytes, steps: int | None) -> None:
        """A verified acknowledgement named this frame."""

    def want_wait_ms(self, misses: int) -> int:
        """How long behind a want that brings nothing the next one comes; `misses`: as many did before it, in a row."""

    def send(self, message_type: int, body: bytes, is_urgent: bool = False, waited_s: int = 0) -> Awaitable[bool]:
        """Send one message, over the air with the windows for its answer; False when it was not sent."""

    def run_receive(self, take: Callable[[int, bytes], Awaitable[None]], alive: Callable[[], None]) -> Awaitable[None]:
        """Hand every message to `take(type, body)`, one after the other. Returns never."""


class Watchdog(Protocol):
    """The hardware watchdog."""

    def feed(self) -> None:
        """Put the bite off by one timeout."""


class Radio(Protocol):
    """A LoRa radio of whatever make, as drivers/sx126x.py, sx127x.py and e22.py document it: one call at a time, all raising RadioFault and
    usable after it. wrap: what it puts around a packet; ready_ms: what `configure` and `send` take until the packet begins, at most.
    """

    wrap: "Wrap"
    ready_ms: int
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

    def send(self, packet: bytes, start_us: int | None = None) -> Awaitable[int]:
        """Transmit 1 .. 255 octets, from this reading of `ticks_us` on; their time on air in us."""

    def receive(self, timeout_ms: int) -> Awaitable[Any]:
        """(packet, rssi_dbm, snr_qdb, frequency_error_hz, at_us) of a packet with a right CRC, None when none came in time."""

    def is_channel_active(self) -> Awaitable[bool]:
        """Whether a LoRa signal of these settings is on the air."""

    def channel_rssi_dbm(self, listen_ms: int) -> Awaitable[int]:
        """The strongest signal of whatever kind during this time."""

    def standby(self) -> Awaitable[None]:
        """Stop; stay set up."""

    def sleep(self) -> Awaitable[None]:
        """Spend as little as the radio can; the next call wakes it."""


Module = Any
