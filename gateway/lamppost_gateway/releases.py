"""Releases on their way to nodes: bodies from the broker in, pieces out to nodes that ask for them (WIRE.md 17.3).

A body is anybody's until its digest fits its topic, and even then nothing but octets: the node believes the manifest that the authority
signed. Pieces go only to a node whose open update order names the release, one at a time on each line, behind whatever else waits there,
and at most half of the line's time, so that acknowledgements and orders find it free; over the air windows and airtime pace them
(air_speaker.py). Which piece is next, the node says: nothing of that is kept here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lamppost_protocol import releases, slip
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.releases import NAME_BYTES, PIECE_BYTES, Want

from lamppost_gateway.errors import ReleaseError
from lamppost_gateway.log import Trouble, event, room
from lamppost_gateway.release_store import ReleaseStore, parse_digest
from lamppost_gateway.topics import hex8

if TYPE_CHECKING:
    from lamppost_gateway.downlinks import Downlinks
    from lamppost_gateway.links.base import Link
    from lamppost_gateway.orders import Orders
    from lamppost_gateway.store import Metrics

_SHARE = 2  # a line carries pieces for one part in so many of its time
_MESSAGE_BYTES = PIECE_BYTES + 32  # a piece on the line: its own head, that of its message, some escapes
_ASK_AGAIN_S = 300.0  # for a body that an order names and that is not here

_log = room("releases")


@dataclass
class _Fetch:
    """What one node last asked for on one line."""

    release: bytes
    offset: int
    left: int


class Releases:
    """Called on the event loop. `wall_s` gives unix seconds."""

    def __init__(
        self, store: ReleaseStore, orders: Orders, downlinks: Downlinks, metrics: Metrics, wall_s: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._orders = orders
        self._downlinks = downlinks
        self._metrics = metrics
        self._wall_s = wall_s
        self._lines: dict[str, OrderedDict[int, _Fetch]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._asked: dict[int, tuple[bytes, int, str, int]] = {}
        self._fetch_s: dict[bytes, float] = {}
        self._disk = Trouble(_log, "release_disk")

    def load(self) -> None:
        """Look at what the disk has; call once."""
        try:
            self._store.load()
        except OSError as error:
            self._disk.failed(reason=error.strerror)
        self._count_held()

    # -- from the broker -------------------------------------------------------------------------------------------------

    async def take(self, name: str, body: bytes) -> None:
        """One message of `release/<name>`; returns when it is durable, refused or none of our business."""
        needed = await self._orders.wait_releases()
        try:
            digest = parse_digest(name)
        except ValueError:
            self._refuse("bad_payload", body)
            return
        if not body:  # the retained message was cleared: a node that has an order for it goes on
            if digest not in needed:
                self._store.discard(digest)
            self._received("cleared")
            return
        try:
            is_new = await self._store.put(digest, body, needed)
        except RemoteError as error:
            self._refuse(error.reason, body)
        except ReleaseError as error:
            self._disk.failed(reason=error, release=name, advice="nodes cannot fetch it from here until there is room: free disk space")
            self._received("no_room")
        else:
            self._disk.recovered()
            self._received("kept" if is_new else "repeated")
            if is_new:
                event(_log, logging.INFO, "release_kept", release=name, bytes=len(body))

    def missing(self, now_s: float) -> list[str]:
        """Digests that open orders name and that are not here, each once in five minutes: the broker may have them. `now_s`: the loop's."""
        due = []
        for digest in sorted(self._orders.releases()):
            if self._store.get(digest[:NAME_BYTES]) is None and now_s - self._fetch_s.get(digest, float("-inf")) >= _ASK_AGAIN_S:
                self._fetch_s[digest] = now_s
                due.append(digest.hex())
        return due

    def broker_connected(self) -> None:
        """Whatever it retains comes by itself now, or is to be asked for anew."""
        self._fetch_s.clear()

    def _received(self, result: str) -> None:
        self._metrics.count("releases_received", result=result)
        self._count_held()

    def _refuse(self, reason: str, body: bytes) -> None:
        self._received("refused")
        self._orders.refuse(reason, body)

    def _count_held(self) -> None:
        self._metrics.gauge("releases_held", len(self._store.held()))

    # -- to nodes ----------------------------------------------------------------------------------------------------------

    def want_heard(self, link: str, want: Want) -> None:
        """A node of ours asks for pieces; the newest word of a node on a line counts."""
        reason = self._reason_to_refuse(want)
        if reason is not None:
            self._metrics.count("release_wants_refused", reason=reason)
            event(_log, logging.DEBUG, "want_refused", node=hex8(want.node), link=link, reason=reason)
            return
        self._asked[want.node] = want.release, want.first, link, int(self._wall_s() * 1000)
        self._lines.setdefault(link, OrderedDict())[want.node] = _Fetch(want.release, want.first, want.count)
        if link not in self._timers:
            self._send_next(link)

    def _reason_to_refuse(self, want: Want) -> str | None:
        if self._orders.manifest_of(want.node, want.release) is None:
            return "no_order"
        octets = self._store.piece(want.release, want.first)
        if octets is None:
            return "not_held"
        return None if octets else "behind_end"

    def _send_next(self, name: str) -> None:
        """One piece for the node whose turn it is, then the next one when the line has had its rest."""
        self._timers.pop(name, None)
        line, link = self._lines[name], self._downlinks.links().get(name)
        if not line:
            return
        if link is None:
            line.clear()
            self._metrics.count("release_wants_refused", reason="no_link")
            return
        rest_s = link.carry_s(_MESSAGE_BYTES)
        if link.waiting_bytes == 0:
            node, fetch = line.popitem(last=False)
            if self._send(link, node, fetch):
                line[node] = fetch
        self._timers[name] = asyncio.get_running_loop().call_later(_SHARE * rest_s, self._send_next, name)

    def _send(self, link: Link, node: int, fetch: _Fetch) -> bool:
        """Send one piece; whether this node is to get another one."""
        octets = self._store.piece(fetch.release, fetch.offset)
        if not octets or not link.send(slip.PIECE, releases.encode_piece(releases.Piece(fetch.release, fetch.offset, octets)), node):
            return False
        self._metrics.count("release_pieces", link=link.name)
        fetch.offset += PIECE_BYTES
        fetch.left -= 1
        return fetch.left > 0

    # -- for people --------------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """For `status`: the bodies that are here, what is missing, and where each node that has an update order is."""
        needed = self._orders.releases()
        fetches = []
        for node, (release, offset, link, at_ms) in sorted(self._asked.items()):
            manifest = self._orders.manifest_of(node, release)
            if manifest is not None:
                whose = {"node": hex8(node), "digest": manifest.digest.hex(), "version": manifest.version}
                fetches.append({**whose, "offset": offset, "bytes": manifest.size_bytes, "link": link, "at_ms": at_ms})
        return {
            "held": [
                {"digest": held.digest.hex(), "bytes": held.size_bytes, "at_ms": held.at_ms, "needed": held.digest in needed}
                for held in self._store.held()
            ],
            "missing": [digest.hex() for digest in sorted(needed) if self._store.get(digest[:NAME_BYTES]) is None],
            "fetches": fetches,
        }
