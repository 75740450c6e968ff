"""A LoRa concentrator with its packet forwarder, as a gateway sees it: datagrams of Semtech's UDP protocol, and what was on the air.

Ref: Lora-net/packet_forwarder PROTOCOL.TXT v1.4. Time is passed in; its own clock, `tmst`, runs from an offset of its own. Its queue takes
a packet that lies 30 ms to 10 s ahead and does not overlap another, else it says why. Faults: `answers` False: TX_ACKs are lost;
`refuses`: an error to answer the next requests with, nothing of them is sent.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from lamppost_protocol.airtime import time_on_air_us

PUSH_DATA, PUSH_ACK, PULL_DATA, PULL_RESP, PULL_ACK, TX_ACK = range(6)
_LEAST_AHEAD_US, _MOST_AHEAD_US = 30_000, 10_000_000
_CLOCK_US = 1 << 32


@dataclass(frozen=True)
class Sent:
    """What was on the air: seconds of the world."""

    begin_s: float
    end_s: float
    packet: bytes
    txpk: dict[str, Any]


@dataclass
class Concentrator:
    """`pull` and `push` give datagrams for the gateway; `take` takes one of the gateway's and returns those to answer with."""

    eui: bytes = bytes(range(8))
    offset_us: int = 4_290_000_000
    answers: bool = True
    refuses: list[str] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    _token: int = 0

    def tmst(self, at_s: float) -> int:
        return (round(at_s * 1e6) + self.offset_us) % _CLOCK_US

    def pull(self) -> bytes:
        """A poll; the gateway's way down."""
        return self._head(PULL_DATA)

    def push(self, packet: bytes, end_s: float, snr_db: float = 9.0, rssi_dbm: int = -80, **changed: Any) -> bytes:
        """A packet heard, ended then, at SF9; `changed`: other fields of it."""
        rxpk = {
            "tmst": self.tmst(end_s), "chan": 2, "rfch": 0, "freq": 868.1, "stat": 1, "modu": "LORA", "datr": "SF9BW125", "codr": "4/5",
            "rssi": rssi_dbm, "lsnr": snr_db, "size": len(packet), "data": base64.b64encode(packet).decode(), **changed,
        }  # fmt: skip
        return self.push_document({"rxpk": [rxpk]})

    def push_document(self, document: object) -> bytes:
        return self._head(PUSH_DATA) + json.dumps(document).encode()

    def _head(self, kind: int) -> bytes:
        self._token = (self._token + 1) & 0xFFFF
        return bytes((2,)) + self._token.to_bytes(2, "big") + bytes((kind,)) + self.eui

    def take(self, datagram: bytes, now_s: float) -> list[bytes]:
        """One datagram of the gateway."""
        assert datagram[0] == 2, datagram
        token, kind = datagram[1:3], datagram[3]
        if kind in (PUSH_ACK, PULL_ACK):
            assert len(datagram) == 4, datagram
            self.acknowledged.append(kind)
            return []
        assert kind == PULL_RESP, datagram
        error = self._queue(json.loads(datagram[4:])["txpk"], now_s)
        if not self.answers:
            return []
        answer = b"" if error == "" else json.dumps({"txpk_ack": {"error": error}}).encode()
        return [bytes((2,)) + token + bytes((TX_ACK,)) + self.eui + answer]

    def _queue(self, txpk: dict[str, Any], now_s: float) -> str:
        packet = base64.b64decode(txpk["data"], validate=True)
        assert len(packet) == txpk["size"]
        assert (txpk["modu"], txpk["ipol"], txpk["codr"], txpk["prea"]) == ("LORA", True, "4/5", 8)
        if self.refuses:
            return self.refuses.pop(0)
        ahead_us = _LEAST_AHEAD_US
        if not txpk["imme"]:
            ahead_us = (txpk["tmst"] - self.tmst(now_s) + _CLOCK_US // 2) % _CLOCK_US - _CLOCK_US // 2
        if ahead_us < _LEAST_AHEAD_US:
            return "TOO_LATE"
        if ahead_us > _MOST_AHEAD_US:
            return "TOO_EARLY"
        spreading_factor, bandwidth_khz = txpk["datr"].removeprefix("SF").split("BW")
        begin_s = now_s + ahead_us / 1e6
        end_s = begin_s + time_on_air_us(len(packet), int(spreading_factor), 1000 * int(bandwidth_khz)) / 1e6
        if any(begin_s < each.end_s and each.begin_s < end_s for each in self.sent):
            return "COLLISION_PACKET"
        self.sent.append(Sent(begin_s, end_s, packet, txpk))
        return "NONE"
