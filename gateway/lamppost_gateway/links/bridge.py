"""A bridge: a board with our firmware on a serial line, one channel and one spreading factor at a time. WIRE.md 15.

It keeps the settings it was given until it restarts, so it is told them whenever the line opens and whenever it says that it does not
listen. Its own log lines go to the gateway's log. A node's messages have no business on this line and are counted.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from lamppost_protocol import modem as wire
from lamppost_protocol import slip
from lamppost_protocol.errors import RemoteError

from lamppost_gateway.links.base import Link, Signal
from lamppost_gateway.links.modem import RESULTS, Clock, Ear, Packet, Request
from lamppost_gateway.links.serial import SerialLink
from lamppost_gateway.log import Trouble, event, peer, room
from lamppost_gateway.store import Metrics

_SILENT_S = 75.0  # it tells its state every 30 s
_SETTLE_S = 5.0  # it tells that it is deaf right after its start and while it sets its radio up
_log = room("bridge")


class BridgeModem:
    """One bridge. `settings`: what it shall listen to."""

    def __init__(self, name: str, path: Path, baud: int, settings: wire.Listen, ear: Ear, metrics: Metrics) -> None:
        self._name = name
        self._settings = settings
        self._ear = ear
        self._metrics = metrics
        self._line = SerialLink(name, path, baud, self, metrics)
        self._state: wire.State | None = None
        self._heard_at_s = float("-inf")
        self._told_at_s = float("-inf")
        self._was_up = False
        self._clock = Clock()
        self._deaf = Trouble(_log, "bridge", bridge=name)

    @property
    def name(self) -> str:
        return self._name

    @property
    def is_up(self) -> bool:
        return self._line.is_up and asyncio.get_running_loop().time() - self._heard_at_s < _SILENT_S

    async def run(self) -> None:
        """Keep the line open, and notice when nobody speaks on it any more, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._line.run())
            while True:
                await asyncio.sleep(_SILENT_S / 5)
                self._note_change()

    def transmit(self, request: Request) -> bool:
        """Hand a request over; False when the bridge is not there."""
        return self.is_up and self._line.send(slip.RADIO_TRANSMIT, wire.encode_transmit(wire.Transmit(*request)))

    def now_us(self) -> int | None:
        """Its clock, told every 30 s."""
        return self._clock.now_us()

    def describe(self) -> dict[str, Any]:
        """How it is, for `status`."""
        state = self._state
        return {
            "name": self._name,
            "type": "bridge",
            "up": self.is_up,
            "listening": self.is_up and state is not None and state.is_listening,
            "frequency_hz": self._settings.frequency_hz,
            "spreading_factor": self._settings.spreading_factor,
            "crc_errors": state.crc_errors if state is not None else None,
            "restarts": state.restarts if state is not None else None,
            "firmware": peer(state.firmware) if state is not None else None,
        }

    # -- the line's listener ----------------------------------------------------------------------------------------

    def heard(self, link: Link, message_type: int, body: bytes, received_at_ms: int, signal: Signal | None = None) -> None:
        """One intact message of the bridge; what is wrong in it is counted."""
        self._heard_at_s = asyncio.get_running_loop().time()
        self._note_change()
        try:
            if message_type == slip.RADIO_RECEIVED:
                received = wire.decode_received(body)
                self._clock.told(received.at_us)
                self._ear.packet_heard(self, Packet(*received))
            elif message_type == slip.RADIO_SENT:
                sent = wire.decode_sent(body)
                self._ear.transmitted(self, sent.token, RESULTS[sent.result])
            elif message_type == slip.MODEM:
                self._take_state(wire.decode_state(body))
            elif message_type == slip.LOG:
                event(_log, logging.INFO, "bridge_log", bridge=self._name, text=peer(body))
            else:
                self._metrics.count("modem_errors", modem=self._name, reason="bad_type")
        except RemoteError as error:
            self._metrics.count("modem_errors", modem=self._name, reason=error.reason)

    def link_changed(self, link: Link) -> None:
        """The line opened or was lost."""
        if link.is_up:
            self._tell_settings()
        else:
            self._heard_at_s = float("-inf")
            self._state = None
        self._note_change()

    def _take_state(self, state: wire.State) -> None:
        self._state = state
        self._clock.told(state.now_us)
        if state.is_listening:
            self._deaf.recovered()
            return
        if asyncio.get_running_loop().time() - self._told_at_s > _SETTLE_S:
            self._tell_settings()
            self._deaf.failed(reason="it does not listen", advice="see its log lines, its radio and its supply")

    def _tell_settings(self) -> None:
        self._told_at_s = asyncio.get_running_loop().time()
        self._line.send(slip.RADIO_LISTEN, wire.encode_listen(self._settings))

    def _note_change(self) -> None:
        if self.is_up != self._was_up:
            self._was_up = self.is_up
            self._ear.modem_changed(self)
