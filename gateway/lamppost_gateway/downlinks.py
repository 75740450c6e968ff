"""Which link leads to which node, and the way down it. Knows no keys: what it sends was sealed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lamppost_protocol import slip

from lamppost_gateway.links.base import Link

_MAX_STRANGERS = 1_024  # nodes known from a hello alone; anyone can send those


@dataclass(slots=True)
class NodeSeen:
    """Where and when a node was last heard; `verified`: by a signed frame, else by an unsigned hello only.

    `newest_n`: number of the last record in its last verified frame. `stored_in_ms`: from hearing that frame until it was on disk.
    """

    link: str
    at_ms: int
    verified: bool
    frames: int = 0
    newest_n: int | None = None
    stored_in_ms: int | None = None


class Downlinks:
    """The table of routes; a signed frame always outweighs a hello."""

    def __init__(self) -> None:
        self._links: dict[str, Link] = {}
        self._seen: dict[int, NodeSeen] = {}

    def add_link(self, link: Link) -> None:
        """Make a link known; its name must be its own."""
        self._links[link.name] = link

    def links(self) -> Mapping[str, Link]:
        """All links by name."""
        return self._links

    def heard(self, node: int, link: str, at_ms: int, newest_n: int, stored_in_ms: int) -> None:
        """A verified frame of `node` came over `link` and is on disk; the last two as in NodeSeen."""
        seen = self._seen.setdefault(node, NodeSeen(link, at_ms, True))
        seen.link, seen.at_ms, seen.verified = link, at_ms, True
        seen.newest_n, seen.stored_in_ms = newest_n, stored_in_ms
        seen.frames += 1

    def heard_hello(self, node: int, link: str, at_ms: int) -> None:
        """An unsigned hello naming `node` came over `link`: a route only where no better one is up."""
        seen = self._seen.get(node)
        if seen is None:
            if len(self._seen) < _MAX_STRANGERS:
                self._seen[node] = NodeSeen(link, at_ms, False)
        elif not seen.verified:
            seen.link, seen.at_ms = link, at_ms
        elif not self._is_up(seen.link):
            seen.link = link

    def _is_up(self, name: str) -> bool:
        link = self._links.get(name)
        return link is not None and link.is_up

    def send(self, node: int, frame: bytes) -> bool:
        """Send a sealed frame to where `node` was last heard; False: never heard, link down or its queue full."""
        seen = self._seen.get(node)
        link = self._links.get(seen.link) if seen is not None else None
        return link is not None and link.send(slip.FRAME, frame, node)

    def broadcast(self, frame: bytes) -> int:
        """Send a sealed frame down every link that is up; return how many took it."""
        return sum(1 for link in self._links.values() if link.is_up and link.send(slip.FRAME, frame))

    def link_of(self, node: int) -> str | None:
        """The link `node` was last heard on."""
        seen = self._seen.get(node)
        return seen.link if seen is not None else None

    def heard_at_ms(self, node: int) -> int | None:
        """When the last verified frame of `node` came, unix ms."""
        seen = self._seen.get(node)
        return seen.at_ms if seen is not None and seen.verified else None

    def nodes(self) -> dict[int, NodeSeen]:
        """All that was heard since the start."""
        return dict(self._seen)
