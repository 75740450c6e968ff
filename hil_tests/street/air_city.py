"""The city at the far end of the air: a gateway and an authority in one, from the real protocol code, hearing and answering on the ether.

A peer that speaks WIRE.md sections 12 to 14, not the product's gateway: it hears every spreading factor on every channel, as a
concentrator does, is deaf while it sends, answers within the windows, and keeps to 10 % of airtime. `advance` must be called at least
every half second.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.peripherals.ether import LEAST_SNR_DB, Ether, Station, Transmission
from bench.peripherals.lora_modem import BANDWIDTHS_HZ, Modem
from lamppost_protocol import beacons, cose, elision, fragments, frames, hello, orders, releases
from lamppost_protocol.arq import ReceiveWindow
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.es256_host import HostSigner, HostVerifier
from lamppost_protocol.hop import HopKey
from lamppost_protocol.ladder import Advice, above_need_qdb
from lamppost_protocol.ledger import Ledger
from lamppost_protocol.records import decode_uplink

WINDOWS_S = (1.0, 2.0, 4.0)
_PIECE_GAP_S = 0.12
_LEAD_S = 0.7  # so long ahead a piece of a release is put on the air: `advance` comes in between
_LOCK_SYMBOLS = 8.25  # four of the preamble, and the sync word
_MOST_SNR_DB = 12.0
_BANDWIDTH_CODES = {int(bandwidth): bandwidth for bandwidth in BANDWIDTHS_HZ.values()}


@dataclass
class Citizen:
    """What the city knows of one node, and what it heard: `records` n to content, `heard` (time, n, count, waited_s) by arrival."""

    verifier: HostVerifier
    hop: HopKey
    epoch: int = 1
    window: ReceiveWindow = field(default_factory=ReceiveWindow)
    advice: Advice = field(default_factory=Advice)
    records: dict[int, list[Any]] = field(default_factory=dict)
    first_s: dict[int, float] = field(default_factory=dict)
    told_s: dict[int, float] = field(default_factory=dict)
    """When each was measured, in seconds of the world, as its first frame told."""
    clock_s: dict[int, int] = field(default_factory=dict)
    """How wrong its first frame said that this may be, of those dated by the node's clock."""
    heard: list[tuple[float, int, int, int]] = field(default_factory=list)
    factors: list[int] = field(default_factory=list)
    hellos: list[tuple[float, hello.Hello]] = field(default_factory=list)
    waiting: list[bytes] = field(default_factory=list)
    """Orders, each sent behind an answer."""
    wants: list[tuple[float, releases.Want]] = field(default_factory=list)
    txs: set[int] = field(default_factory=set)


class AirCity:
    """One antenna. `is_silent`: it hears and says nothing; `loses`: called for each packet either way, True loses it."""

    def __init__(
        self, ether: Ether, network: int, issuer: int, signer: HostSigner, start_unix: int, downlink: tuple[int, int, int], x_m: float = 0.0
    ) -> None:
        """`downlink`: frequency in Hz, spreading factor, bandwidth in Hz."""
        self.ether = ether
        self.station = ether.add(Station("city", x_m, advance=self.advance))
        self.network, self.issuer, self.start_unix = network, issuer, start_unix
        self._signer = signer
        self.citizens: dict[int, Citizen] = {}
        self._reassembly = fragments.Reassembly(network, self._is_wanted, 1000)
        frequency_hz, factor, bandwidth_hz = downlink
        self._modem = Modem(float(frequency_hz), factor, _BANDWIDTH_CODES[bandwidth_hz], is_iq_inverted=True)
        self._modem.has_low_data_rate = self._modem.symbol() >= 0.016
        self._heard_until_s = -1.0
        self._sent: list[Transmission] = []
        self._is_busy = False
        self.is_silent = False
        self.answers_late_s = 0.0
        self.bodies: dict[bytes, bytes] = {}
        """Releases' bodies by the name in a want, which it answers with pieces."""
        self.pieces = 0
        self._coming: dict[int, tuple[float, list[bytes]]] = {}
        self.loses: Callable[[], bool] = lambda: False
        self.refused: dict[str, int] = {}
        self.ledger = Ledger(360_000_000, reserve_us=72_000_000, kept_us=0, slack_ms=10_000)

    def _is_wanted(self, traffic: int, node: int) -> bool:
        return node in self.citizens and traffic in (elision.TRAFFIC_UPLINK, elision.TRAFFIC_HELLO, elision.TRAFFIC_WANT)

    def advance(self, now_s: float) -> None:
        """Hear what has ended by now, and put the answers on the air, ahead of their time."""
        if self._is_busy:
            return
        self._is_busy = True
        try:
            ended = [each for each in self.ether.transmissions() if self._heard_until_s < each.end_s <= now_s]
            self._heard_until_s = now_s
            for each in ended:
                if each.station is not self.station:
                    self._hear(each, now_s)
            self._say_pieces(now_s)
        finally:
            self._is_busy = False

    def _hear(self, sent: Transmission, now_s: float) -> None:
        snr_db = self.ether.snr_db(sent, self.station, sent.sync_s - _LOCK_SYMBOLS * sent.symbol_s, sent.due_s)
        is_deaf = any(own.start_s < sent.end_s and own.end_s > sent.start_s for own in self._sent)
        packet = self._opened(sent)
        if is_deaf or snr_db < LEAST_SNR_DB[sent.spreading_factor] or packet is None or self.loses():
            return
        self.take(packet, sent.spreading_factor, round(4 * min(snr_db, _MOST_SNR_DB)), sent.end_s, now_s)

    def _opened(self, sent: Transmission) -> bytes | None:
        """The packet in what was on the air, None: none of ours on its way up."""
        return None if sent.is_iq_inverted or sent.sync_word != b"\x14\x24" else sent.packet

    def _closed(self, packet: bytes) -> bytes:
        """What goes on the air for a packet on its way down."""
        return packet

    def take(self, packet: bytes, spreading_factor: int, snr_qdb: int, end_s: float, now_s: float) -> None:
        """One packet that was heard: count it, verify what it completes, answer."""
        try:
            for found in self._reassembly.feed(packet, round(end_s * 1000)):
                self._coming.pop(found.node, None)
                if found.traffic == elision.TRAFFIC_WANT:
                    self._take_want(releases.decode_want(found.frame), self._slot(spreading_factor, snr_qdb, end_s, now_s), end_s)
                elif found.traffic == elision.TRAFFIC_HELLO:
                    self._take_hello(found, spreading_factor, snr_qdb, end_s, now_s)
                else:
                    self._take_frame(found, spreading_factor, snr_qdb, end_s, now_s)
        except RemoteError as error:
            self.refused[error.reason] = self.refused.get(error.reason, 0) + 1

    def _take_hello(self, found: elision.Packet, factor: int, snr_qdb: int, end_s: float, now_s: float) -> None:
        said = hello.decode_hello(found.frame)
        self.citizens[found.node].hellos.append((end_s, said))
        if said.nonce is not None:
            at_s = self._slot(factor, snr_qdb, end_s, now_s)
            payload = beacons.encode_beacon(int(self.start_unix + at_s), said.nonce)
            frame = frames.seal(
                self._signer, frames.BEACON, self.network, found.node, said.epoch, self.issuer, int(self.start_unix + at_s), payload
            )  # fmt: skip
            self._say(frame, elision.TRAFFIC_DOWNLINK, found.node, at_s, now_s)

    def _take_want(self, want: releases.Want, at_s: float, end_s: float) -> None:
        assert want.network == self.network
        self.citizens[want.node].wants.append((end_s, want))
        body = self.bodies.get(want.release, b"")
        end = min(len(body), want.first + want.count * releases.PIECE_BYTES)
        starts = range(want.first, end, releases.PIECE_BYTES)
        pieces = [releases.encode_piece(releases.Piece(want.release, at, body[at : at + releases.PIECE_BYTES])) for at in starts]
        self._coming[want.node] = at_s, pieces

    def _say_pieces(self, now_s: float) -> None:
        """Each piece of a release in the first window behind the one before."""
        for node, (at_s, pieces) in list(self._coming.items()):
            if not pieces:
                del self._coming[node]
            elif at_s - now_s < _LEAD_S:
                self.pieces += 1
                self._coming[node] = self._say(pieces.pop(0), elision.TRAFFIC_PIECE, node, at_s, now_s) + WINDOWS_S[0], pieces

    def _take_frame(self, found: elision.Packet, factor: int, snr_qdb: int, end_s: float, now_s: float) -> None:
        citizen = self.citizens[found.node]
        message = cose.decode(found.frame)
        payload = frames.open_signed(message, citizen.verifier, frames.UPLINK, self.network, found.node, citizen.epoch)
        assert message.tx not in citizen.txs, "a counter used twice"
        citizen.txs.add(message.tx)
        uplink = decode_uplink(payload)
        for index, record in enumerate(uplink.records):
            n, content = uplink.n + index, [record[0], *record[2:]]
            assert citizen.records.setdefault(n, content) == content, f"number {n} used twice"
            if n not in citizen.first_s:
                citizen.first_s[n] = end_s
                if record[1] is not None:  # else its time is lost with the power-up that measured it
                    citizen.told_s[n] = (end_s if uplink.t is None else uplink.t - self.start_unix) + record[1]
                    if uplink.t is not None:
                        citizen.clock_s[n] = uplink.clock
        citizen.heard.append((end_s, uplink.n, len(uplink.records), found.waited_s))
        citizen.factors.append(factor)
        citizen.window.note(uplink.n, len(uplink.records), uplink.behind)
        citizen.advice.note(factor, snr_qdb)
        digest = frames.frame_digest(found.frame)
        window = citizen.window
        acknowledgement = frames.seal_acknowledgement(
            citizen.hop, self.network, found.node, citizen.epoch, window.highest, window.bitmap32(), digest, citizen.advice.steps()
        )  # fmt: skip
        at_s = self._slot(factor, snr_qdb, end_s, now_s)
        end_s = self._say(acknowledgement, elision.TRAFFIC_ACKNOWLEDGEMENT, found.node, at_s, now_s)
        if citizen.waiting:
            self._say(citizen.waiting.pop(0), elision.TRAFFIC_DOWNLINK, found.node, end_s + WINDOWS_S[0], now_s)

    def _slot(self, factor: int, snr_qdb: int, end_s: float, now_s: float) -> float:
        """When to answer: the better it was heard the sooner, and later when the transmitter is taken then."""
        above_qdb = above_need_qdb(factor, snr_qdb)
        first = 0 if above_qdb >= 40 else 1 if above_qdb >= 12 else 2
        for after_s in WINDOWS_S[first:]:
            at_s = end_s + after_s
            if at_s >= now_s and not any(own.start_s < at_s + 0.5 and own.end_s > at_s for own in self._sent):
                break
        return at_s + self.answers_late_s

    def _say(self, frame: bytes, traffic: int, node: int, at_s: float, now_s: float) -> float:
        """Put it on the air from `at_s` on, in as many pieces as it takes, unless they are lost there; when the last one ends."""
        for packet in elision.encode(frame, traffic, self.network, node):
            end_s = self._say_packet(self._closed(packet), traffic, at_s, now_s)
            at_s = end_s + _PIECE_GAP_S
        return end_s

    def _say_packet(self, packet: bytes, traffic: int, at_s: float, now_s: float) -> float:
        self._modem.packet_bytes = len(packet)
        sent = self._modem.transmission(self.station, packet, 27.0, 0.0, at_s)
        is_taken = any(own.start_s < sent.end_s and own.end_s > at_s for own in self._sent)
        airtime_us = round((sent.end_s - at_s) * 1_000_000)
        is_urgent = traffic == elision.TRAFFIC_ACKNOWLEDGEMENT
        if self.is_silent or is_taken or self.ledger.wait_ms(airtime_us, round(now_s * 1000), is_urgent):
            return sent.end_s
        self.ledger.spend(airtime_us, round(now_s * 1000), is_urgent)
        if not self.loses():
            self._sent = [own for own in self._sent if own.end_s > now_s - 60] + [sent]
            self.ether.begin(sent, now_s)
        return sent.end_s

    def order(self, node: int, order_id: int, life: tuple[int, int], verb: int, target: int, arguments: list[Any]) -> int:
        """Sign an order, said behind the next answer to this node; in how many packets."""
        citizen = self.citizens[node]
        payload = orders.encode_order(life[0], life[1], verb, target, arguments)
        frame = frames.seal(self._signer, frames.ORDER, self.network, node, citizen.epoch, self.issuer, order_id, payload)
        citizen.waiting.append(frame)
        return len(elision.encode(frame, elision.TRAFFIC_DOWNLINK, self.network, node))
