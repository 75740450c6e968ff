"""Every number the gateway shows, as a Prometheus page on loopback.

All metrics are declared in the tables below, so their names and label names cannot grow by accident; label values are
capped per metric, and node ids are never labels (a stranger could make up four billion of them). No value comes from a
secret. Ref: Prometheus text exposition format 0.0.4; base units are seconds and bytes.
"""

import asyncio
import logging
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from lamppost_gateway.config import MetricsConfig
from lamppost_gateway.log import event, room

_LOG = room("metrics")
_PREFIX = "lamppost_gateway_"
_MAX_LABEL_SETS = 400  # 300 links is the largest cabinet planned; what comes after is counted under "other"
_OTHER = "other"

_COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    # receive side
    "frames_received": ("frames heard, good or bad", ("link",)),
    "frames_stored": ("verified frames committed to disk", ()),
    "records_stored": ("records committed to disk for the first time", ()),
    "duplicates": ("frames whose records were all known already", ("link",)),
    "rejected": ("frames refused, by reason", ("reason",)),
    "serial_errors": ("line noise and malformed messages, by kind", ("link", "kind")),
    "acknowledgements": ("acknowledgements written to a link", ("link",)),
    "acknowledgements_dropped": ("acknowledgements a link had no room for", ("link",)),
    "link_lost": ("times a link went away", ("link",)),
    "link_opened": ("times a link was opened", ("link",)),
    "outbox_full": ("batches the disk refused", ()),
    "commits": ("disk commits", ()),
    "quarantined": ("damaged databases put aside", ()),
    "records_lost": ("records the gateway had to drop, by reason", ("reason",)),
    "hellos": ("hello messages heard", ("link",)),
    "nodes_went_back": ("hellos of nodes that have fewer records than came from them: flash put back to an old copy", ("link",)),
    "node_logs": ("log lines heard from nodes", ("link",)),
    "registry_reloads": ("times the registry was read anew", ()),
    "registry_refused": ("times a new registry was refused and the old one kept", ()),
    "downlink_frames": ("frames sent to nodes", ("link",)),
    "downlink_dropped": ("frames for nodes that a link had no room for", ("link",)),
    "radio_packets": ("packets that a modem heard with a right CRC, anybody's", ("modem",)),
    "radio_copies": ("packets that another modem had brought already", ("modem",)),
    "radio_refused": ("packets that are nobody's we know, by reason", ("reason",)),
    "radio_sent": ("packets handed to a modem, by what became of them", ("modem", "result")),
    "radio_downlinks": ("frames that were on the air, by kind", ("kind",)),
    "radio_postponed": ("frames left for a later window, by reason", ("reason",)),
    "radio_unsent": ("frames that found no window, by kind and reason", ("kind", "reason")),
    "modem_errors": ("messages of modems that were refused, by reason", ("modem", "reason")),
    "task_restarts": ("parts of the gateway that failed and were started again", ("task",)),
    # publish side
    "rows_published": ("stored frames confirmed by the broker, by lane", ("lane",)),
    "messages_published": ("MQTT messages confirmed by the broker", ()),
    "publish_refused": ("MQTT messages the broker refused", ()),
    "broker_connects": ("times the broker was reached", ()),
    "broker_losses": ("times the broker was lost or not reached", ()),
    "broker_refills": ("times a broker had forgotten its session and was filled again", ()),
    "rejects_unpublished": ("refusals not published because they came too fast", ()),
    "hellos_unpublished": ("hellos not published: too fast, or nobody we know", ()),
    "records_declared_lost": ("records nodes declared lost in signed gap records", ("reason",)),
    "unreadable_rows": ("stored frames that could not be decoded and went out as signed octets only", ()),
    "orders_received": ("order documents from the broker, by result", ("result",)),
    "order_states": ("orders that reached a state", ("state",)),
    "order_sends": ("orders handed to a link, repeats included", ()),
    "beacons": ("beacons from the broker, by result", ("result",)),
    "releases_received": ("bodies of releases from the broker, by result", ("result",)),
    "release_wants": ("wants of nodes for pieces of a release", ("link",)),
    "release_wants_refused": ("wants that got no piece, by reason", ("reason",)),
    "release_pieces": ("pieces of releases sent to nodes", ("link",)),
    "incoming_dropped": ("messages from the broker dropped unread because they came too fast", ()),
}

_GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "link_up": ("1 while the link is open", ("link",)),
    "modem_up": ("1 while the modem can send", ("modem",)),
    "links_paused": ("links paused because the disk is behind", ()),
    "nodes_known": ("nodes in the registry", ()),
    "receive_queue": ("frames waiting for verification or disk", ()),
    "broker_connected": ("1 while the broker answers", ()),
    "in_flight": ("messages sent to the broker and not confirmed", ()),
    "outbox_frames": ("frames on disk, delivered ones included", ()),
    "outbox_unpublished": ("frames on disk not yet confirmed by the broker", ()),
    "outbox_oldest_age_seconds": ("age of the oldest frame not yet confirmed", ()),
    "outbox_bytes": ("bytes of the outbox on disk", ()),
    "outbox_limit_bytes": ("disk budget of the outbox", ()),
    "outbox_full_in_hours": ("hours until the disk budget is used up at the present rate; NaN: it is not filling", ()),
    "releases_held": ("bodies of releases on disk", ()),
    "open_orders": ("orders that have not reached their end", ()),
}

_FAST_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_HISTOGRAMS: Mapping[str, tuple[str, str, tuple[float, ...]]] = {
    # name used in the code: name on the page, help, buckets
    "commit_s": ("commit_seconds", "time of one disk commit", _FAST_S),
    "acknowledge_s": ("acknowledge_seconds", "frame heard to acknowledgement written", _FAST_S),
    "above_need_db": (
        "above_need_db",
        "by how much a frame's signal exceeded what its spreading factor needs",
        (-10, -5, 0, 3, 5, 10, 15, 20, 30, 40),
    ),
    "batch_frames": ("batch_frames", "frames in one commit", (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
    "publish_s": ("publish_seconds", "message sent to PUBACK", _FAST_S),
    "live_s": ("live_seconds", "frame heard to confirmed by the broker, live lane", (*_FAST_S, 30, 60)),
}


class Metrics:
    """Counts, gauges and times by declared name. Safe to call from any thread; never raises on a hot path."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters = {name: Counter(_PREFIX + name, text, labels, registry=self.registry) for name, (text, labels) in _COUNTERS.items()}
        self._gauges = {name: Gauge(_PREFIX + name, text, labels, registry=self.registry) for name, (text, labels) in _GAUGES.items()}
        self._histograms = {
            name: Histogram(_PREFIX + shown, text, buckets=buckets, registry=self.registry)
            for name, (shown, text, buckets) in _HISTOGRAMS.items()
        }
        self._seen: dict[str, set[tuple[str, ...]]] = {}
        self._undeclared: set[str] = set()

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add `amount` >= 0 to a counter."""
        metric = self._counters.get(name)
        values = self._label_values(name, _COUNTERS, labels)
        if metric is None or values is None:
            return
        (metric.labels(*values) if values else metric).inc(amount)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        metric = self._gauges.get(name)
        values = self._label_values(name, _GAUGES, labels)
        if metric is None or values is None:
            return
        (metric.labels(*values) if values else metric).set(value)

    def observe(self, name: str, value: float) -> None:
        """Add one observation to a histogram."""
        metric = self._histograms.get(name)
        if metric is None:
            self._complain(name)
            return
        metric.observe(value)

    @property
    def undeclared(self) -> frozenset[str]:
        """Names that were used without being declared here: a mistake in the code, shown by the tests."""
        return frozenset(self._undeclared)

    async def run(self, config: MetricsConfig) -> None:
        """Serve the page until cancelled; wait for ever when the port is 0. Raises OSError when it cannot be bound."""
        if config.port == 0:
            await asyncio.Event().wait()
        server, thread = start_http_server(config.port, config.host, self.registry)
        event(_LOG, logging.INFO, "metrics_listening", host=config.host, port=config.port)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(server.shutdown)  # waits for the server thread's turn, up to half a second
            server.server_close()
            thread.join(1.0)

    def _label_values(self, name: str, table: Mapping[str, tuple[str, tuple[str, ...]]], labels: dict[str, str]) -> tuple[str, ...] | None:
        """Return the label values in declared order, "other" for those beyond the cap; None when they do not fit."""
        declared = table.get(name)
        if declared is None or (declared[1] != tuple(labels) and set(declared[1]) != set(labels)):
            self._complain(name)
            return None
        if not declared[1]:
            return ()
        values = tuple(labels[label] for label in declared[1])
        seen = self._seen.setdefault(name, set())
        if values not in seen:
            if len(seen) >= _MAX_LABEL_SETS:
                return (_OTHER,) * len(values)
            seen.add(values)
        return values

    def _complain(self, name: str) -> None:
        if name not in self._undeclared:
            self._undeclared.add(name)
            event(_LOG, logging.ERROR, "metric_undeclared", metric=name)
