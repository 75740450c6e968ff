"""The speaking half of the air: frames for nodes, each in a window of its node, by a modem that may send it. WIRE.md 14.2.

What was sealed elsewhere is cut into packets, charged to the modem's airtime, and handed over LEAD_S ahead of its window, to be begun by
the modem's own clock. A result that says it was not sent means the next window; no result at all means that it was sent, and a node
that did not hear it asks again. What is queued here lives for one conversation, some seconds. Pieces of releases come last: they have a
share of the airtime and no more, and give way to whatever another node is to be told.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from lamppost_protocol import elision
from lamppost_protocol.airtime import packet_us
from lamppost_protocol.errors import LocalError

from lamppost_gateway.air_windows import (
    ACKNOWLEDGEMENT,
    BEACON,
    LEAD_S,
    MOST_OPENINGS,
    PIECE,
    WINDOWS_S,
    Conversation,
    Copy,
    Opening,
    traffic_of,
)
from lamppost_gateway.airtime_accounts import AirtimeAccounts
from lamppost_gateway.config_air import AirConfig
from lamppost_gateway.links.modem import SENT, Modem, Request
from lamppost_gateway.log import event, room
from lamppost_gateway.store import Metrics

_CLOCK_US = 1 << 32
_PIECE_GAP_S = 0.12  # between pieces of one frame, WIRE.md 14.2
_GUARD_S = 0.1  # between two transmissions of one modem
_AT_ONCE_S = 0.25  # to a node that listens always: when it is on the air
_ANSWER_S = 0.6  # after a transmission's end its result is taken for "sent"; the next window is decided LEAD_S before it
_PATIENCE_S = 30.0  # for a transmitter or airtime, where no window ends the waiting
_RETRY_S = 0.5
_UNANSWERED = "unanswered"

_log = room("air")


@dataclass(eq=False)
class _Sending:
    """A frame with a modem: begin and end by the gateway's clock, `end` for the next windows, and its pieces' tokens without a result.

    `answers`: the opening it was sent in.
    """

    conversation: Conversation | None
    kind: str
    frame: bytes
    modem: Modem
    answers: Opening | None
    window: int
    begin_s: float
    end_s: float
    end: Opening
    tokens: set[int]


class Speaker:
    """All conversations of the gateway. Called on the event loop. `modems`: by name, as they are at each use."""

    def __init__(self, config: AirConfig, network: int, modems: Mapping[str, Modem], accounts: AirtimeAccounts, metrics: Metrics) -> None:
        self._config = config
        self._network = network
        self._modems = modems
        self._accounts = accounts
        self._metrics = metrics
        self._most_packet_bytes = config.most_packet_bytes
        self._conversations: dict[int, Conversation] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._sending: dict[int, _Sending] = {}
        self._tokens: dict[tuple[str, int], _Sending] = {}
        self._next_token = itertools.count()
        self._busy: dict[str, list[tuple[float, float]]] = {}

    def open(self, node: int, listens_always: bool, opening: Opening, is_sealed: bool = True) -> None:
        """A packet of this node has ended, of a verified frame (`is_sealed`) or of one that says it is this node's: its windows open."""
        conversation = self._conversations.get(node)
        if conversation is None:
            conversation = self._conversations[node] = Conversation(node, listens_always, opening)
        if not is_sealed and conversation.is_sealed and conversation.is_open(_now_s()):
            return  # anybody can say so: no reason to leave the windows of a verified frame
        conversation.is_sealed = is_sealed
        if conversation.opening is not opening:
            conversation.open(opening)
        self._arm(conversation)

    def tell(self, node: int, kind: str, frame: bytes) -> bool:
        """Tell it in the conversation that goes on; False when there is none."""
        conversation = self._conversations.get(node)
        if conversation is None or not conversation.is_open(_now_s()) or (kind == PIECE and conversation.is_sealed):
            return False
        conversation.add(kind, frame)
        self._arm(conversation)
        return True

    def tell_at_once(self, node: int, kind: str, frame: bytes, heard: Opening) -> None:
        """Tell a node that listens always; `heard`: who heard it last."""
        if self.tell(node, kind, frame):
            return
        conversation = self._conversations[node] = Conversation(node, True, heard)
        conversation.add(kind, frame)
        self._arm(conversation)

    def tell_all(self, frame: bytes) -> bool:
        """A beacon for everyone, once by each modem; whether any of them sends it."""
        packets = self._packets(BEACON, frame, 0)
        begin_s = _now_s() + _AT_ONCE_S
        return "" in [
            self._transmit(None, BEACON, frame, packets, modem, None, 0, begin_s) for modem in self._modems.values() if modem.is_up
        ]

    # -- when -------------------------------------------------------------------------------------------------------------

    def _arm(self, conversation: Conversation) -> None:
        """Come back when the next thing for this node must be decided, or when its last window is over."""
        node = conversation.node
        if timer := self._timers.pop(node, None):
            timer.cancel()
        if node in self._sending:
            return
        now_s, opening = _now_s(), conversation.opening
        if opening is None:
            at_s = now_s
        elif not conversation.is_open(now_s) or (window := opening.next_window(conversation.window, now_s)) is None:
            self._end(conversation, "no_window")
            return
        elif conversation.next() is None:
            at_s = opening.at_s + WINDOWS_S[-1]
        else:
            at_s = opening.at_s + WINDOWS_S[window] - LEAD_S
        self._come_back(conversation, max(at_s, now_s), now_s)

    def _come_back(self, conversation: Conversation, at_s: float, since_s: float) -> None:
        self._timers[conversation.node] = asyncio.get_running_loop().call_at(at_s, self._decide, conversation, since_s)

    def _decide(self, conversation: Conversation, since_s: float) -> None:
        """Send the next frame in the next window, by the best modem that may, or leave it for the window after."""
        self._timers.pop(conversation.node, None)
        now_s, opening, told = _now_s(), conversation.opening, conversation.next()
        window = 0 if opening is None else opening.next_window(conversation.window, now_s)
        if told is None or window is None:
            self._end(conversation, "no_window")
            return
        kind, frame = told
        try:
            packets = self._packets(kind, frame, conversation.node)
        except LocalError:
            conversation.done(kind, frame)
            self._metrics.count("radio_unsent", kind=kind, reason="too_long")
            self._arm(conversation)
            return
        begin_s = now_s + _AT_ONCE_S if opening is None else opening.at_s + WINDOWS_S[window]
        reason = "no_modem"
        for name in conversation.heard.modems() if opening is None else opening.modems():
            reason = self._transmit(conversation, kind, frame, packets, self._modems[name], opening, window, begin_s)
            if not reason:
                return
        if opening is not None:
            self._metrics.count("radio_postponed", reason=reason)
            conversation.window = window + 1
            self._arm(conversation)
        elif now_s - since_s < _PATIENCE_S:
            self._come_back(conversation, now_s + _RETRY_S, since_s)
        else:
            self._end(conversation, reason)

    def _end(self, conversation: Conversation, reason: str) -> None:
        if timer := self._timers.pop(conversation.node, None):
            timer.cancel()
        self._conversations.pop(conversation.node, None)
        for kind, left in conversation.waiting.items():
            if left:
                self._metrics.count("radio_unsent", len(left), kind=kind, reason=reason)

    # -- what -------------------------------------------------------------------------------------------------------------

    def _packets(self, kind: str, frame: bytes, node: int) -> list[bytes]:
        """Raises LocalError for a frame that no 16 lawful pieces carry."""
        packets: list[bytes] = elision.encode(frame, traffic_of(kind), self._network, node, most_bytes=self._most_packet_bytes)
        return packets

    def _transmit(
        self, conversation: Conversation | None, kind: str, frame: bytes, packets: list[bytes], modem: Modem, opening: Opening | None,
        window: int, begin_s: float,
    ) -> str:  # fmt: skip
        """Hand all pieces of a frame to a modem; "" when it has them, else why not. Airtime that was charged stays so."""
        config = self._config
        lengths_s = [
            packet_us(config.wrap, len(packet), config.downlink_spreading_factor, config.downlink_bandwidth_hz) / 1e6 for packet in packets
        ]  # fmt: skip
        starts_s = [sum(lengths_s[:i]) + i * _PIECE_GAP_S for i in range(len(packets))]
        end_s = begin_s + starts_s[-1] + lengths_s[-1]
        at_us: int | None = None
        if opening is not None:
            at_us = opening.copies[modem.name].at_us + round(1e6 * WINDOWS_S[window])
        elif len(packets) > 1 and (now_us := modem.now_us()) is not None:
            at_us = now_us + round(1e6 * (begin_s - _now_s()))
        if not modem.is_up or (len(packets) > 1 and at_us is None):
            return "no_modem"
        busy = self._busy[modem.name] = [each for each in self._busy.get(modem.name, []) if each[1] > _now_s()]
        if any(begin_s < end + _GUARD_S and begin < end_s + _GUARD_S for begin, end in busy):
            return "taken"
        if kind == PIECE and self._is_needed(modem.name, conversation, begin_s, end_s):
            return "given_way"
        if not self._accounts.is_spent(modem.name, round(1e6 * sum(lengths_s)), kind == ACKNOWLEDGEMENT, kind == PIECE):
            return "no_airtime"
        sending = _Sending(conversation, kind, frame, modem, opening, window, begin_s, end_s, Opening(end_s), set())
        for packet, start_s in zip(packets, starts_s, strict=True):
            token = next(self._next_token) & 0xFFFF
            instant_us = None if at_us is None else (at_us + round(1e6 * start_s)) % _CLOCK_US
            request = Request(
                token, instant_us, config.downlink_hz, config.downlink_spreading_factor, config.downlink_bandwidth_hz, config.power_dbm,
                config.listen_ms, config.busy_dbm, packet,
            )  # fmt: skip
            if not modem.transmit(request):
                self._drop_tokens(sending)
                return "no_modem"
            sending.tokens.add(token)
            self._tokens[(modem.name, token)] = sending
        busy.append((begin_s, end_s))
        if at_us is not None:
            sending.end.copies[modem.name] = Copy((at_us + round(1e6 * (end_s - begin_s))) % _CLOCK_US, 127)
        if conversation is not None:
            self._sending[conversation.node] = sending
        asyncio.get_running_loop().call_at(end_s + _ANSWER_S, self._settle, sending)
        return ""

    def _is_needed(self, modem: str, teller: Conversation | None, begin_s: float, end_s: float) -> bool:
        """Whether this modem's next window of another node that is told more than pieces lies between."""
        for other in self._conversations.values():
            told, opening = other.next(), other.opening
            if other is teller or told is None or told[0] == PIECE or opening is None or modem not in opening.copies:
                continue
            window = opening.next_window(other.window, _now_s())
            if window is not None and begin_s - _GUARD_S < opening.at_s + WINDOWS_S[window] < end_s + _GUARD_S:
                return True
        return False

    # -- what became of it ------------------------------------------------------------------------------------------------

    def transmitted(self, modem: Modem, token: int, result: str) -> None:
        """A modem says what became of a packet."""
        sending = self._tokens.pop((modem.name, token), None)
        self._metrics.count("radio_sent", modem=modem.name, result=result if sending is not None else "unasked")
        if sending is None:
            return
        sending.tokens.discard(token)
        if result != SENT:
            event(_log, logging.INFO, "not_sent", modem=modem.name, kind=sending.kind, result=result)
            self._failed(sending)
        elif not sending.tokens:
            self._was_sent(sending)

    def _settle(self, sending: _Sending) -> None:
        """Its time is over, and some of it has no result."""
        if sending.tokens:
            self._metrics.count("radio_sent", len(sending.tokens), modem=sending.modem.name, result=_UNANSWERED)
            self._drop_tokens(sending)
            self._was_sent(sending)

    def _drop_tokens(self, sending: _Sending) -> None:
        for token in sending.tokens:
            self._tokens.pop((sending.modem.name, token), None)
        sending.tokens.clear()

    def _failed(self, sending: _Sending) -> None:
        """Not all of it will have been on the air: the next window."""
        self._drop_tokens(sending)
        busy = self._busy[sending.modem.name]
        if (sending.begin_s, sending.end_s) in busy:
            busy.remove((sending.begin_s, sending.end_s))
        conversation = self._let_go(sending)
        if conversation is None:
            return
        if conversation.opening is None:
            conversation.openings += 1
            if conversation.openings < MOST_OPENINGS:
                self._come_back(conversation, _now_s() + _RETRY_S, _now_s())
            else:
                self._end(conversation, "not_sent")
            return
        if conversation.opening is sending.answers:
            conversation.window = sending.window + 1
        self._arm(conversation)

    def _was_sent(self, sending: _Sending) -> None:
        self._metrics.count("radio_downlinks", kind=sending.kind)
        conversation = self._let_go(sending)
        if conversation is None:
            return
        conversation.done(sending.kind, sending.frame)
        if conversation.opening is sending.answers:  # else a packet of the node that came meanwhile has opened windows of its own
            conversation.sent(sending.end)
        self._arm(conversation)

    def _let_go(self, sending: _Sending) -> Conversation | None:
        """The conversation that this was part of, free for what comes next."""
        conversation = sending.conversation
        if conversation is None or self._sending.get(conversation.node) is not sending:
            return None
        del self._sending[conversation.node]
        return conversation


def _now_s() -> float:
    return asyncio.get_running_loop().time()
