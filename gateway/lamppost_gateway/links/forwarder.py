"""A packet forwarder: a LoRa concentrator that speaks Semtech's UDP protocol, version 2, to this port.

Ref: Lora-net/packet_forwarder PROTOCOL.TXT v1.4. The protocol has no authentication: only datagrams from the configured addresses are read,
and one concentrator has one port. What is no datagram of this protocol is counted and not answered. The concentrator must be set
to the private sync word (`lorawan_public` false) and to the network's channels; its own time stamps, `tmst`, are the modem's clock.
Known gaps: beacons, GPS time and FSK are not used; a concentrator that restarts is not told from one whose clock jumped.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import re
import socket
from collections.abc import Collection, Mapping
from typing import Any, NoReturn, cast

from lamppost_gateway.errors import LinkError
from lamppost_gateway.links.modem import BAD_REQUEST, RADIO_FAULT, SENT, TAKEN, TOO_EARLY, TOO_LATE, Clock, Ear, Packet, Request
from lamppost_gateway.log import event, peer, room
from lamppost_gateway.store import Metrics

_VERSION = 2
_PUSH_DATA, _PUSH_ACK, _PULL_DATA, _PULL_RESP, _PULL_ACK, _TX_ACK = range(6)
_HEAD_BYTES = 4
_EUI_BYTES = 8
_SILENT_S = 45.0  # forwarders poll every 5 to 20 s
_MAX_PACKETS = 32  # in one datagram; forwarders send 8 at most
_COUNT_KEYS = ("rxnb", "rxok", "dwnb", "txnb")
_RESULTS = {
    "NONE": SENT, "TOO_LATE": TOO_LATE, "TOO_EARLY": TOO_EARLY, "COLLISION_PACKET": TAKEN, "COLLISION_BEACON": TAKEN,
    "TX_FREQ": BAD_REQUEST, "TX_POWER": BAD_REQUEST, "GPS_UNLOCKED": RADIO_FAULT,
}  # fmt: skip
_DATA_RATE = re.compile(r"SF([5-9]|1[0-2])BW(125|250|500)")
_log = room("forwarder")


class ForwarderModem(asyncio.DatagramProtocol):
    """One concentrator. `addresses`: from where datagrams are read; `eui`: whose, 8 octets; None: whose come first."""

    def __init__(
        self, name: str, host: str, port: int, addresses: Collection[str], eui: bytes | None, ear: Ear, metrics: Metrics
    ) -> None:  # fmt: skip
        self._name = name
        self._host = host
        self._port = port
        self._addresses = frozenset(addresses)
        self._wanted_eui = eui
        self._eui = eui
        self._ear = ear
        self._metrics = metrics
        self._transport: asyncio.DatagramTransport | None = None
        self._way_down: tuple[str, int] | None = None
        self._polled_at_s = float("-inf")
        self._was_up = False
        self._clock = Clock()
        self._counts: dict[str, int] = {}

    @property
    def name(self) -> str:
        return self._name

    @property
    def is_up(self) -> bool:
        return self._transport is not None and asyncio.get_running_loop().time() - self._polled_at_s < _SILENT_S

    async def run(self) -> None:
        """Hear datagrams until cancelled. Raises LinkError when the port cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self._host, self._port))
        except (OSError, socket.gaierror) as error:
            raise LinkError(self._name, f"UDP port {self._port} of {self._host}: {error.strerror}") from None
        event(_log, logging.INFO, "forwarder_listening", modem=self._name, host=self._host, port=self._port)
        try:
            while True:
                await asyncio.sleep(_SILENT_S / 5)
                self._note_change()
        finally:
            transport.close()
            self._transport = None
            self._note_change()

    def transmit(self, request: Request) -> bool:
        """Hand a request over; False when no concentrator polls."""
        if not self.is_up or self._transport is None or self._way_down is None:
            return False
        instant: dict[str, Any] = {"imme": True} if request.at_us is None else {"imme": False, "tmst": request.at_us}
        txpk = {
            **instant,
            "freq": request.frequency_hz / 1e6,
            "rfch": 0,
            "powe": request.power_dbm,
            "modu": "LORA",
            "datr": f"SF{request.spreading_factor}BW{request.bandwidth_hz // 1000}",
            "codr": "4/5",
            "ipol": True,
            "prea": 8,
            "size": len(request.octets),
            "data": base64.b64encode(request.octets).decode(),
        }
        head = bytes((_VERSION,)) + request.token.to_bytes(2, "big") + bytes((_PULL_RESP,))
        self._transport.sendto(head + json.dumps({"txpk": txpk}, separators=(",", ":")).encode(), self._way_down)
        return True

    def now_us(self) -> int | None:
        """Its clock, told with every packet it hears."""
        return self._clock.now_us()

    def describe(self) -> dict[str, Any]:
        """How it is, for `status`."""
        return {
            "name": self._name,
            "type": "forwarder",
            "up": self.is_up,
            "listening": self.is_up,
            "port": self._port,
            "eui": self._eui.hex() if self._eui is not None else None,
            **self._counts,
        }

    # -- datagrams --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # Python 3.11's own is none by its class

    def error_received(self, exc: Exception) -> None:
        """An ICMP answer: the concentrator's end is closed just now; its next poll opens it."""
        self._metrics.count("modem_errors", modem=self._name, reason="unreachable")

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """One datagram of anybody; never raises."""
        reason = self._take(data, (str(addr[0]), int(addr[1])))
        if reason:
            self._metrics.count("modem_errors", modem=self._name, reason=reason)

    def _take(self, data: bytes, address: tuple[str, int]) -> str:
        """Return why it is refused, "" when it is not."""
        if address[0] not in self._addresses:
            return "foreign_address"
        if len(data) < _HEAD_BYTES + _EUI_BYTES or data[0] != _VERSION:
            return "foreign_version" if data[:1] and data[0] != _VERSION else "too_short"
        kind, eui, content = data[3], data[_HEAD_BYTES : _HEAD_BYTES + _EUI_BYTES], data[_HEAD_BYTES + _EUI_BYTES :]
        if kind not in (_PUSH_DATA, _PULL_DATA, _TX_ACK):
            return "bad_type"
        if self._wanted_eui is None and not self.is_up:
            self._eui = eui
        if eui != self._eui:
            return "foreign_eui"
        if kind == _PULL_DATA:
            self._way_down = address
            self._polled_at_s = asyncio.get_running_loop().time()
            self._answer(data, _PULL_ACK, address)
            self._note_change()
            return ""
        try:
            document = json.loads(content, parse_constant=_refuse) if content.strip(b"\x00 ") or kind == _PUSH_DATA else {}
        except (ValueError, RecursionError):
            return "bad_json"
        if not isinstance(document, dict):
            return "bad_json"
        if kind == _TX_ACK:
            self._take_tx_ack(int.from_bytes(data[1:3], "big"), document)
            return ""
        self._answer(data, _PUSH_ACK, address)
        return self._take_push(document)

    def _answer(self, data: bytes, kind: int, address: tuple[str, int]) -> None:
        if self._transport is not None:
            self._transport.sendto(data[:3] + bytes((kind,)), address)

    def _take_tx_ack(self, token: int, document: Mapping[str, Any]) -> None:
        answer = document.get("txpk_ack")
        error = answer.get("error", "NONE") if isinstance(answer, dict) else "NONE"
        result = _RESULTS.get(error, RADIO_FAULT) if isinstance(error, str) else RADIO_FAULT
        if result != SENT:
            event(_log, logging.DEBUG, "transmission_refused", modem=self._name, error=peer(str(error)))
        self._ear.transmitted(self, token, result)

    def _take_push(self, document: Mapping[str, Any]) -> str:
        state = document.get("stat")
        if isinstance(state, dict):
            self._counts = {key: state[key] for key in _COUNT_KEYS if _is_int(state.get(key), 0, 1 << 48)}
        heard = document.get("rxpk", [])
        if not isinstance(heard, list) or len(heard) > _MAX_PACKETS:
            return "bad_json"
        for item in heard:
            reason = self._take_packet(item)
            if reason:
                self._metrics.count("modem_errors", modem=self._name, reason=reason)
        return ""

    def _take_packet(self, item: Any) -> str:
        if not isinstance(item, dict):
            return "bad_json"
        if item.get("stat", 1) != 1:
            return "bad_crc"
        if item.get("modu") != "LORA":
            return "foreign_modulation"
        packet = _packet(item)
        if packet is None:
            return "bad_json"
        self._clock.told(packet.at_us)
        self._ear.packet_heard(self, packet)
        return ""

    def _note_change(self) -> None:
        if self.is_up != self._was_up:
            self._was_up = self.is_up
            self._metrics.gauge("link_up", 1 if self._was_up else 0, link=self._name)
            event(
                _log,
                logging.INFO if self._was_up else logging.WARNING,
                "forwarder_up" if self._was_up else "forwarder_silent",
                modem=self._name,
            )
            self._ear.modem_changed(self)


def _packet(item: Mapping[str, Any]) -> Packet | None:
    """The packet in an `rxpk` entry, None where it is not of its form."""
    rate = _DATA_RATE.fullmatch(item["datr"]) if isinstance(item.get("datr"), str) else None
    data, size = item.get("data"), item.get("size")
    numbers: list[Any] = [item.get(key) for key in ("freq", "rssi", "lsnr")]
    if rate is None or not isinstance(data, str) or len(data) > 400 or not _is_int(item.get("tmst"), 0, 0xFFFFFFFF):
        return None
    if not all(isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < 1e6 for number in numbers):
        return None
    try:
        octets = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)  # some leave the padding out
    except (binascii.Error, ValueError):
        return None
    if not 1 <= len(octets) <= 255 or size != len(octets):
        return None
    frequency_mhz, rssi_dbm, snr_db = numbers
    return Packet(
        item["tmst"], round(frequency_mhz * 1e6), int(rate[1]), 1000 * int(rate[2]), max(-200, min(50, round(rssi_dbm))),
        max(-128, min(127, round(4 * snr_db))), octets,
    )  # fmt: skip


def _is_int(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)
