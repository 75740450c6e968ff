"""What air.py needs of a modem, whatever makes it one: packets in, packets out, a clock. WIRE.md 15. It knows no frames, nodes or keys."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, Protocol

#: What may become of a transmission; labels of metrics.
SENT, TOO_LATE, TOO_EARLY, TAKEN, RADIO_FAULT, BAD_REQUEST, BUSY = RESULTS = (
    "sent", "too_late", "too_early", "taken", "radio_fault", "bad_request", "busy",
)  # fmt: skip


class Packet(NamedTuple):
    """A packet that a modem heard, with a right CRC. at_us: the modem's clock at its end, modulo 2^32; octets: 1 .. 255 of them."""

    at_us: int
    frequency_hz: int
    spreading_factor: int
    bandwidth_hz: int
    rssi_dbm: int
    snr_qdb: int
    octets: bytes


class Request(NamedTuple):
    """A packet to send. token 0 .. 65535; at_us: when it begins by the modem's clock, None: at once; listen_ms, busy_dbm: for how long it
    listens before, and what it then must not hear.
    """

    token: int
    at_us: int | None
    frequency_hz: int
    spreading_factor: int
    bandwidth_hz: int
    power_dbm: int
    listen_ms: int
    busy_dbm: int
    octets: bytes


class Ear(Protocol):
    """Who hears what modems bring; called on the event loop, must not block."""

    def packet_heard(self, modem: Modem, packet: Packet) -> None:
        """One packet."""

    def transmitted(self, modem: Modem, token: int, result: str) -> None:
        """What became of a request: one of RESULTS. May come before it is on the air, may never come."""

    def modem_changed(self, modem: Modem) -> None:
        """The modem came up or went down."""


class Clock:
    """A modem's clock as its messages tell it; the gateway's own bridges the time between them."""

    _KNOWN_S = 120.0  # 100 ppm of it are 12 ms

    def __init__(self) -> None:
        self._told: tuple[int, float] | None = None

    def told(self, at_us: int) -> None:
        """A message has just said so."""
        self._told = at_us, asyncio.get_running_loop().time()

    def now_us(self) -> int | None:
        """What it shows by now, None when it was not told for long."""
        if self._told is None:
            return None
        at_us, at_s = self._told
        passed_s = asyncio.get_running_loop().time() - at_s
        return (at_us + round(1e6 * passed_s)) % (1 << 32) if passed_s < self._KNOWN_S else None


class Modem(Protocol):
    """One radio of the gateway."""

    @property
    def name(self) -> str:
        """Its configured name."""

    @property
    def is_up(self) -> bool:
        """Whether it can be told to send now."""

    def transmit(self, request: Request) -> bool:
        """Hand a request over, at least 100 ms before its instant; False when it cannot be: the modem is down."""

    def now_us(self) -> int | None:
        """Its clock by now, as far as that is known; behind it by what its messages take."""

    def describe(self) -> dict[str, Any]:
        """How it is, for `status`."""

    async def run(self) -> None:
        """Serve it until cancelled."""
