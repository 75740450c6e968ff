"""Tells when a node's flash was put back to an old copy: by its hello its next record has a number that is in custody already.

Its counter `tx` went back too, so what it sends is refused, `replayed` or `too_old`, until it has caught up with the window; from then on
its new records bear numbers of old ones and are taken for those. Nothing here can mend that: the node needs a new key. A hello is
not signed, so this is a warning and moves nothing; a stranger on the line can at most cause it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from lamppost_protocol.hello import Hello

from lamppost_gateway.log import event, room
from lamppost_gateway.store import Metrics
from lamppost_gateway.windows import Windows

_log = room("receiver")


class OldCopies:
    """Warns once a node, and again after it was well in between. Bounded: only nodes with windows are kept."""

    def __init__(self, windows: Mapping[tuple[int, int], Windows], metrics: Metrics) -> None:
        """`windows`: what is in custody by (node, epoch); read at each hello, never changed."""
        self._windows = windows
        self._metrics = metrics
        self._warned: set[int] = set()

    def hello_heard(self, link: str, hello: Hello) -> None:
        """A decoded hello of a known node; never raises."""
        windows = self._windows.get((hello.node, hello.epoch))
        if windows is None or hello.next_n > windows.records.highest:
            self._warned.discard(hello.node)
            return
        self._metrics.count("nodes_went_back", link=link)
        if hello.node in self._warned:
            return
        self._warned.add(hello.node)
        event(
            _log,
            logging.WARNING,
            "node_went_back",
            node=f"{hello.node:08x}",
            link=link,
            next_n=hello.next_n,
            in_custody=windows.records.highest,
            advice="its flash is an old copy: lamppost node rekey; until then its readings are refused or taken for old ones",
        )
