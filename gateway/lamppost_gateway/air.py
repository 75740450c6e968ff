"""The air as a link: what several modems hear becomes one frame with its signal, what nodes are told goes out when they listen.

Between modems (links/bridge.py, links/forwarder.py), which know packets, and the receiver, which knows frames. One packet heard by several
modems is one packet, and the modem that heard it best answers it. Pieces are put together, whichever modem brought them. Nothing is
believed here: which node a packet claims to be from decides only when something that was sealed elsewhere may be sent to it.
The speaking half is air_speaker.py; orders are kept by orders.py until their end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from lamppost_protocol import elision, frames, slip
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.fragments import Reassembly
from lamppost_protocol.ladder import Advice

from lamppost_gateway.air_speaker import Speaker
from lamppost_gateway.air_windows import ACKNOWLEDGEMENT, PIECE, Opening, kind_of
from lamppost_gateway.airtime_accounts import AirtimeAccounts
from lamppost_gateway.config_air import AirConfig
from lamppost_gateway.links.base import Listener, Signal
from lamppost_gateway.links.modem import Modem, Packet
from lamppost_gateway.log import event, room
from lamppost_gateway.registry import Registry
from lamppost_gateway.store import Metrics

_COPY_S = 0.5  # how much later another modem's copy of a packet may come; what comes again after that is no copy
_REMEMBER_S = 6.0  # past a node's last window
_MOST_REMEMBERED = 2_048
_ROOM = 64  # collections of pieces, 80 kB
_BROADCAST_S = 600.0  # a broadcast only ever moves clocks forward: airtime has better uses
_UNSIGNED = {elision.TRAFFIC_HELLO: slip.HELLO, elision.TRAFFIC_WANT: slip.WANT}

_log = room("air")


class _Hearing:
    """One packet: its end and signal by each modem that heard it, and once it is rebuilt whose it is."""

    def __init__(self, at_s: float) -> None:
        self.opening = Opening(at_s)
        self.packets: dict[str, Packet] = {}
        self.node = 0
        self.waited_s = 0

    def hear(self, modem: str, packet: Packet) -> None:
        self.packets[modem] = packet
        self.opening.hear(modem, packet)

    def signal(self) -> Signal:
        """As the best modem heard it, by now."""
        modem = self.opening.modems()[0]
        packet = self.packets[modem]
        above_qdb = self.opening.copies[modem].above_need_qdb
        return Signal(modem, packet.frequency_hz, packet.spreading_factor, packet.rssi_dbm, packet.snr_qdb, above_qdb, self.waited_s)


class Air:
    """One Link over all modems of the gateway, and their Ear. Called on the event loop."""

    def __init__(self, config: AirConfig, registry: Registry, listener: Listener, accounts: AirtimeAccounts, metrics: Metrics) -> None:
        self._name = config.name
        self._registry = registry
        self._listener = listener
        self._accounts = accounts
        self._metrics = metrics
        self._modems: dict[str, Modem] = {}
        self._speaker = Speaker(config, registry.network, self._modems, accounts, metrics)
        self._reassembly = Reassembly(registry.network, self._is_wanted, _ROOM)
        self._recent: OrderedDict[bytes, _Hearing] = OrderedDict()
        self._by_digest: OrderedDict[bytes, _Hearing] = OrderedDict()
        self._verified: dict[int, _Hearing] = {}
        self._advice: dict[int, Advice] = {}
        self._broadcast_at_s = float("-inf")
        self._is_paused = False
        self._was_up = False

    def add_modem(self, modem: Modem) -> None:
        """Make a modem known whose ear this is; its name must be its own."""
        self._modems[modem.name] = modem

    # -- the link ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._name

    @property
    def is_up(self) -> bool:
        return any(modem.is_up for modem in self._modems.values())

    async def run(self) -> None:
        """Nothing to open: the modems run for themselves. Until cancelled."""
        await asyncio.Event().wait()

    def pause(self) -> None:
        """Hear nothing: the nodes send again."""
        self._is_paused = True

    def resume(self) -> None:
        """Hear again."""
        self._is_paused = False

    def steps(self, node: int, digest: bytes) -> int | None:
        """What to tell this node about its data rate; its frame is verified. None when it came long ago."""
        hearing = self._by_digest.get(digest)
        if hearing is None or hearing.node != node:
            return None
        self._verified[node] = hearing
        signal = hearing.signal()
        self._metrics.observe("above_need_db", signal.above_need_qdb / 4)
        advice = self._advice.setdefault(node, Advice())
        advice.note(signal.spreading_factor, signal.snr_qdb)
        steps: int = advice.steps()
        return steps

    @property
    def waiting_bytes(self) -> int:
        """What waits, waits for a window."""
        return 0

    def carry_s(self, octets: int) -> float:
        """Nothing is paced here: pieces wait for their windows and for airtime."""
        return 0.0

    def send(self, message_type: int, body: bytes, node: int = 0) -> bool:
        """Queue a frame for `node` (0: all that listen always), or a piece that it wants; False when it does not listen now, or no modem
        is up.
        """
        if message_type == slip.PIECE:
            return self.is_up and self._speaker.tell(node, PIECE, body)
        if message_type != slip.FRAME or not self.is_up:
            return False
        try:
            kind, message = kind_of(body)
        except RemoteError:
            return False
        if node == 0:
            return self._broadcast(body)
        if kind == ACKNOWLEDGEMENT:
            hearing = self._by_digest.get(frames.decode_acknowledgement(message.payload).digest)
            if hearing is None or hearing.node != node:
                self._metrics.count("radio_unsent", kind=kind, reason="no_window")
                return False
            self._speaker.open(node, self._listens_always(node), hearing.opening)
        if self._speaker.tell(node, kind, body):
            return True
        if not self._listens_always(node) or node not in self._verified:
            return False
        self._speaker.tell_at_once(node, kind, body, self._verified[node].opening)
        return True

    def _broadcast(self, frame: bytes) -> bool:
        """Only where there is a node that listens always, and now and then."""
        now_s = _now_s()
        if now_s - self._broadcast_at_s < _BROADCAST_S or not any(self._listens_always(node) for node in self._verified):
            return False
        if not self._speaker.tell_all(frame):
            return False
        self._broadcast_at_s = now_s
        return True

    def _listens_always(self, node: int) -> bool:
        entry = self._registry.node(node)
        return entry is not None and entry.listens_always

    # -- the modems' ear -------------------------------------------------------------------------------------------------

    def packet_heard(self, modem: Modem, packet: Packet) -> None:
        """One packet of anybody."""
        self._metrics.count("radio_packets", modem=modem.name)
        if self._is_paused:
            self._metrics.count("radio_refused", reason="paused")
            return
        now_s = _now_s()
        self._forget(now_s)
        known = self._recent.get(packet.octets)
        if known is not None:
            if now_s - known.opening.at_s <= _COPY_S and modem.name not in known.packets:
                known.hear(modem.name, packet)
                self._metrics.count("radio_copies", modem=modem.name)
            else:
                self._metrics.count("radio_refused", reason="repeated")
            return
        hearing = self._recent[packet.octets] = _Hearing(now_s)
        hearing.hear(modem.name, packet)
        try:
            rebuilt = self._reassembly.feed(packet.octets, int(now_s * 1000))
        except RemoteError as error:
            self._metrics.count("radio_refused", reason=error.reason)
            return
        for each in rebuilt:
            hearing.node, hearing.waited_s = each.node, each.waited_s
            self._hand_on(each, hearing)

    def transmitted(self, modem: Modem, token: int, result: str) -> None:
        """A modem says what became of a packet."""
        self._speaker.transmitted(modem, token, result)

    def modem_changed(self, modem: Modem) -> None:
        """One came up or went down; the link is up while any of them is."""
        event(_log, logging.INFO, "modem_changed", modem=modem.name, up=modem.is_up)
        self._metrics.gauge("modem_up", 1 if modem.is_up else 0, modem=modem.name)
        if self.is_up != self._was_up:
            self._was_up = self.is_up
            self._metrics.gauge("link_up", 1 if self._was_up else 0, link=self._name)
            self._listener.link_changed(self)

    def _hand_on(self, rebuilt: elision.Packet, hearing: _Hearing) -> None:
        message_type = _UNSIGNED.get(rebuilt.traffic, slip.FRAME)
        if message_type != slip.FRAME:
            self._speaker.open(rebuilt.node, self._listens_always(rebuilt.node), hearing.opening, is_sealed=False)
        else:
            self._by_digest[frames.frame_digest(rebuilt.frame)] = hearing
        self._listener.heard(self, message_type, rebuilt.frame, time.time_ns() // 1_000_000, hearing.signal())

    def _is_wanted(self, traffic: int, node: int) -> bool:
        return (traffic == elision.TRAFFIC_UPLINK or traffic in _UNSIGNED) and self._registry.node(node) is not None

    def _forget(self, now_s: float) -> None:
        for remembered in (self._recent, self._by_digest):
            while remembered:
                oldest = next(iter(remembered.values()))
                if now_s - oldest.opening.at_s < _REMEMBER_S and len(remembered) < _MOST_REMEMBERED:
                    break
                remembered.popitem(last=False)

    # -- for people ------------------------------------------------------------------------------------------------------

    def describe(self) -> list[dict[str, Any]]:
        """Each modem for `status`, with the airtime it has spent."""
        return [{**modem.describe(), **self._accounts.describe(name)} for name, modem in self._modems.items()]

    def signals(self) -> Mapping[int, Signal]:
        """How each node's last verified frame was heard."""
        return {node: hearing.signal() for node, hearing in self._verified.items()}


def _now_s() -> float:
    return asyncio.get_running_loop().time()
