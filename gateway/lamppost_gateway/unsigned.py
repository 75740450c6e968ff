"""What nodes say without a signature: hellos, log lines and wants. Hints only, handed on and never believed.

A hello gives a route to a known node where no signed frame gave one; it moves no counter and opens no door. Both are bounded per
link, and a line that shouts costs a comparison each. A want asks for pieces of a release, which are no secret.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from lamppost_protocol import hello as protocol_hello
from lamppost_protocol import releases, slip
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.hello import Hello
from lamppost_protocol.limits import MAX_LOG_BYTES
from lamppost_protocol.releases import Want

from lamppost_gateway.downlinks import Downlinks
from lamppost_gateway.links.base import Link
from lamppost_gateway.log import event, peer, room
from lamppost_gateway.registry import Registry
from lamppost_gateway.store import Metrics
from lamppost_gateway.verifier import Rejection

_HINTS_PER_S = 20  # of one link; a node says a hello a second at most, a boot prints some lines, and eight pieces take a third of a second

_log = room("receiver")


class Unsigned:
    """Callbacks are set by `daemon.py`; they run on the loop and must not block."""

    def __init__(self, registry: Registry, downlinks: Downlinks, metrics: Metrics) -> None:
        self._registry = registry
        self._downlinks = downlinks
        self._metrics = metrics
        self._spent: dict[str, tuple[float, int]] = {}
        self.on_hello: list[Callable[[str, Hello], None]] = []
        self.on_log: list[Callable[[str, str], None]] = []
        self.on_want: list[Callable[[str, Want], None]] = []

    def heard(self, link: Link, message_type: int, body: bytes, received_at_ms: int) -> None:
        """One intact serial message that is no frame. Raises Rejection."""
        if message_type == slip.SERVICE_ANSWER:
            return  # said to a technician beside us
        if message_type not in (slip.LOG, slip.HELLO, slip.WANT):
            raise Rejection("bad_type")
        if not self._may_pass(link.name):
            return
        if message_type == slip.LOG:
            self._heard_log(link, body)
        elif message_type == slip.WANT:
            self._heard_want(link, body)
        else:
            self._heard_hello(link, body, received_at_ms)

    def _may_pass(self, link: str) -> bool:
        now_s = asyncio.get_running_loop().time()
        since_s, count = self._spent.get(link, (now_s, 0))
        if now_s - since_s >= 1.0:
            since_s, count = now_s, 0
        self._spent[link] = (since_s, count + 1)
        return count < _HINTS_PER_S

    def _heard_log(self, link: Link, body: bytes) -> None:
        self._metrics.count("node_logs", link=link.name)
        text = peer(body, MAX_LOG_BYTES)
        event(_log, logging.DEBUG, "node_log", link=link.name, text=text)
        for callback in self.on_log:
            callback(link.name, text)

    def _heard_want(self, link: Link, body: bytes) -> None:
        try:
            want = releases.decode_want(body)
        except RemoteError as error:
            raise Rejection(error.reason, None, error.detail) from None
        if want.network != self._registry.network:
            raise Rejection("foreign_network", want.node)
        entry = self._registry.node(want.node)
        if entry is None or entry.revoked:
            raise Rejection("unknown_node" if entry is None else "revoked_node", want.node)
        self._metrics.count("release_wants", link=link.name)
        for callback in self.on_want:
            callback(link.name, want)

    def _heard_hello(self, link: Link, body: bytes, received_at_ms: int) -> None:
        try:
            hello = protocol_hello.decode_hello(body)
        except RemoteError as error:
            raise Rejection(error.reason, None, error.detail) from None
        if hello.network != self._registry.network:
            raise Rejection("foreign_network", hello.node)
        self._metrics.count("hellos", link=link.name)
        if self._registry.node(hello.node) is None:
            raise Rejection("unknown_node", hello.node)
        self._downlinks.heard_hello(hello.node, link.name, received_at_ms)
        event(_log, logging.DEBUG, "hello", link=link.name, node=f"{hello.node:08x}", firmware=peer(hello.firmware))
        for callback in self.on_hello:
            callback(link.name, hello)
