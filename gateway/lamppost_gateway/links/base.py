"""What the gateway needs of a link, whatever carries it. A link moves octets and knows no keys, nodes or frames' content."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Signal(NamedTuple):
    """How a radio heard a frame, by its best modem. Shown to people; decides nothing about what is believed.

    above_need_qdb: by how many quarters of dB the signal exceeds what its spreading factor needs. waited_s: by how much the node's airtime
    had delayed it, as the node says without proof.
    """

    modem: str
    frequency_hz: int
    spreading_factor: int
    rssi_dbm: int
    snr_qdb: int
    above_need_qdb: int
    waited_s: int

    def __str__(self) -> str:
        return f"{self.modem} SF{self.spreading_factor} {self.rssi_dbm} dBm, {self.snr_qdb / 4:g} dB over noise"


class Listener(Protocol):
    """Who hears what links bring; called on the event loop, must not block."""

    def heard(self, link: Link, message_type: int, body: bytes, received_at_ms: int, signal: Signal | None = None) -> None:
        """One intact message, from a radio with its signal. May call `link.pause`."""

    def link_changed(self, link: Link) -> None:
        """The link came up or went down."""


class Link(Protocol):
    """One line to the street."""

    @property
    def name(self) -> str:
        """Its configured name."""

    @property
    def is_up(self) -> bool:
        """Whether octets can be sent and heard now."""

    @property
    def waiting_bytes(self) -> int:
        """Octets that were taken to be sent and have not left."""

    def carry_s(self, octets: int) -> float:
        """Seconds for which so many octets fill the line; 0 where the link paces what it is given."""

    def send(self, message_type: int, body: bytes, node: int = 0) -> bool:
        """Queue one message for `node`, 0 for all; False, and nothing queued, when the link cannot take it now: it is down, its bounded
        queue is full, the node does not listen.
        """

    def steps(self, node: int, digest: bytes) -> int | None:
        """What the acknowledgement of this node's frame tells about its data rate (WIRE.md 14.3); None on a line."""

    def pause(self) -> None:
        """Stop reading: the receiver is full. The peer's own buffers and its resending bridge the time."""

    def resume(self) -> None:
        """Read again."""

    async def run(self) -> None:
        """Open, read, and open again after every loss, until cancelled."""
