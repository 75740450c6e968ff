"""What nodes say without a signature: hellos and log lines. Hints only, handed on and never believed.

A hello gives a route to a known node where no signed frame gave one; it moves no counter and opens no door. Both are bounded per
link, and a line that shouts costs a comparison each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from lamppost_protocol import hello as protocol_hello
from lamppost_protocol import slip
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.hello import Hello
from lamppost_protocol.limits import MAX_LOG_BYTES

from lamppost_gateway.downlinks import Downlinks
from lamppost_gateway.links.base import Link
from lamppost_gateway.log import event, peer, room
from lamppost_gateway.registry import Registry
from lamppost_gateway.store import Metrics
from lamppost_gateway.verifier import Rejection

_HINTS_PER_S = 20  # of one link; a node says a hello a second at most, and a boot prints some lines

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

    def heard(self, link: Link, message_type: int, body: bytes, received_at_ms: int) -> None:
        """One intact serial message that is no frame. Raises Rejection."""
        if message_type not in (slip.LOG, slip.HELLO):
            raise Rejection("bad_type")
        if not self._may_pass(link.name):
            return
        if message_type == slip.LOG:
            self._heard_log(link, body)
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
