"""What the gateway needs of a link, whatever carries it. A link moves octets and knows no keys, nodes or frames' content."""

from __future__ import annotations

from typing import Protocol


class Listener(Protocol):
    """Who hears what links bring; called on the event loop, must not block."""

    def heard(self, link: Link, message_type: int, body: bytes, received_at_ms: int) -> None:
        """One intact message. May call `link.pause`."""

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

    def send(self, message_type: int, body: bytes) -> bool:
        """Queue one message; False, and nothing queued, when the link is down or its bounded queue is full."""

    def pause(self) -> None:
        """Stop reading: the receiver is full. The peer's own buffers and its resending bridge the time."""

    def resume(self) -> None:
        """Read again."""

    async def run(self) -> None:
        """Open, read, and open again after every loss, until cancelled."""
