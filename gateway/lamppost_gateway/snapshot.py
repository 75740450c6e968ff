"""What `lamppost-gateway status` and the demo's live view see: one document, read from every part, holding no secret."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lamppost_protocol import order_words

from lamppost_gateway.air import Air
from lamppost_gateway.config import Config
from lamppost_gateway.downlinks import Downlinks
from lamppost_gateway.registry import Registry
from lamppost_gateway.store import Store

if TYPE_CHECKING:
    from lamppost_gateway.publisher import Publisher
    from lamppost_gateway.releases import Releases

_MAX_REJECTS = 1_000
_MAX_ORDERS = 100
_MAX_LOSSES = 100


class Snapshot:
    """Answers the status socket's questions."""

    def __init__(
        self,
        config: Config,
        version: str,
        store: Store,
        registry: Registry,
        downlinks: Downlinks,
        publisher: Publisher,
        releases: Releases,
        air: Air | None = None,
    ) -> None:
        self._config = config
        self._version = version
        self._store = store
        self._registry = registry
        self._downlinks = downlinks
        self._publisher = publisher
        self._releases = releases
        self._air = air
        self._started_s = time.monotonic()

    def answers(self) -> dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]]:
        """Question name to the function that answers it."""
        return {"status": self.status, "rejects": self.rejects}

    async def status(self, request: dict[str, Any]) -> dict[str, Any]:
        """The whole gateway at a glance."""
        outbox = self._store.outbox
        counts = asdict(await self._store.read(outbox.counts))
        orders = await self._store.read(outbox.recent_orders, _MAX_ORDERS)
        losses = await self._store.read(outbox.losses, _MAX_LOSSES)
        stored = {(state.node, state.epoch): state.n_highest for state in await self._store.read(outbox.node_states)}
        seen = self._downlinks.nodes()
        signals = self._air.signals() if self._air is not None else {}
        return {
            "gateway": self._config.gateway.id,
            "network": f"{self._config.gateway.network:08x}",
            "version": self._version,
            "uptime_s": int(time.monotonic() - self._started_s),
            "registry_version": self._registry.version,
            "links": [{"name": link.name, "up": link.is_up} for link in self._downlinks.links().values()],
            "modems": self._air.describe() if self._air is not None else [],
            "nodes": [
                {
                    "node": f"{node:08x}",
                    "epoch": entry.epoch,
                    "epochs": list(entry.epochs),
                    "stored_to": stored.get((node, entry.epoch), 0),
                    "fixtures": list(entry.fixtures),
                    "asset": entry.asset,
                    "revoked": entry.revoked,
                    "link": seen[node].link if node in seen else None,
                    "heard_at_ms": self._downlinks.heard_at_ms(node),
                    "frames": seen[node].frames if node in seen else 0,
                    "newest_n": seen[node].newest_n if node in seen else None,
                    "stored_in_ms": seen[node].stored_in_ms if node in seen else None,
                    "signal": signals[node]._asdict() if node in signals else None,
                }
                for node, entry in sorted(self._registry.nodes().items())
            ],
            "outbox": counts,
            "broker": {"host": self._config.broker.host, "port": self._config.broker.port, **self._publisher.summary()},
            "orders": [
                {
                    "order_id": order.order_id,
                    "node": f"{order.node:08x}",
                    "verb": order_words.VERBS.get(order.verb, str(order.verb)),
                    "state": order_words.STATES.get(order.state, str(order.state)),
                    "at_ms": order.at_ms,
                    "attempts": order.attempts,
                    "not_before": order.not_before,
                    "not_after": order.not_after,
                }
                for order in orders
            ],
            "releases": self._releases.describe(),
            "losses": [{**asdict(loss), "node": f"{loss.node:08x}"} for loss in losses],
        }

    async def rejects(self, request: dict[str, Any]) -> dict[str, Any]:
        """The newest refused frames; `limit` in the request, 1 to 1000."""
        limit = min(_MAX_REJECTS, max(1, int(request.get("limit", 100))))
        rejects = await self._store.read(self._store.outbox.rejects, limit)
        return {
            "rejects": [
                {
                    "id": reject.id,
                    "reason": reject.reason,
                    "node": None if reject.node is None else f"{reject.node:08x}",
                    "link": reject.link,
                    "at_ms": reject.at_ms,
                    "bytes": reject.data.hex(),
                    "signal": reject.signal,
                }
                for reject in rejects
            ]
        }
