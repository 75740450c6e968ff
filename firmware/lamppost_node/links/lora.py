"""The radio as a link: frames and hellos leave as packets, answers come in the windows behind them. WIRE.md sections 12 and 14.

Knows packets, the law's account and the ladder; no keys: what an answer says about the ladder comes back from whoever verified it. One
sending at a time, its receive windows included. A log line does not fly.

Whatever the radio does, nothing here raises for it: a sending that failed is one that nobody answered, and comes again by section 8.
Known gaps: the radio stands by between windows and sleeps only with the node; one that always listens misses what comes while it looks
whether a channel is free.
"""

import asyncio
import os

from lamppost_protocol import elision, slip
from lamppost_protocol.arq import air_waits
from lamppost_protocol.errors import LocalError, RemoteError
from lamppost_protocol.fragments import MAX_OF_A_NODE, Reassembly
from lamppost_protocol.frames import frame_digest
from lamppost_protocol.ladder import Ladder

from lamppost_node.drivers.errors import RadioFault
from lamppost_node.links.channels import FRAME_MS, Channels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from lamppost_node.clock import Clock
    from lamppost_node.config import Values
    from lamppost_node.interfaces import Radio

_WINDOWS_MS = (1000, 2000, 4000)
_EARLY_MS = 50
#: From asking for it until the receiver listens, and by how much a sending's end is noticed late: a few ms on a chip, 80 on the bench's
#: emulated board, where each turn of a pin costs two.
_READY_MS = 100
#: A packet that begins 50 ms late shows its header 20.25 symbols later, and until then the receiver must not give up.
_HEADER_SYMBOLS = 22
_MOST_REOPENED = 8
_MOST_PIECES = 16
_TRIES = 8
_FIRST_BACK_OFF_MS = 500
_MOST_BACK_OFF_MS = 8000
_IDLE_S = 30
_ALARM_SPREAD_MS = 5000
_LAST_WANT_MS = 600_000
#: How a message flies that is no frame.
_TRAFFIC = {slip.HELLO: elision.TRAFFIC_HELLO, slip.WANT: elision.TRAFFIC_WANT}


def draw(below: int) -> int:
    """A random number from 0 to below - 1, below at most 2^24."""
    return int.from_bytes(os.urandom(4), "big") % below


class LoraLink:
    """One radio of one node. `radio` is a driver, `values` the checked map `lora` of the configuration."""

    pieces = 4  # of the eight that the windows carry: each lies in the heap until they are over
    has_windows = True

    def __init__(
        self, radio: "Radio", channels: Channels, values: "Values", network: int, node: int, clock: "Clock", log: "Callable[[str], None]"
    ):
        self._radio = radio
        self._channels = channels
        self._values = values
        self._network = network
        self._node = node
        self._clock = clock
        self._log = log
        self.ladder = Ladder(
            values["spreading_factor"], values["fastest_spreading_factor"], values["power_dbm"], values["least_power_dbm"]
        )  # fmt: skip
        self._heard = Reassembly(network, self._is_wanted, MAX_OF_A_NODE)
        self._sending = asyncio.Lock()
        self._sent = asyncio.Event()
        self._closed = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        self._end_ms = 0
        self._is_down = False
        self._is_asleep = False
        #: Whether the windows that are open are a want's, and whether a frame waits for their end.
        self._is_want = False
        self._is_frame_due = False
        self.waits = air_waits(values["resend_s"] * 1000)
        self.gather_ms = values["gather_s"] * 1000
        self.spread_ms = values["spread_s"] * 1000
        self.alarm_spread_ms = min(_ALARM_SPREAD_MS, self.spread_ms)
        self.faults = 0
        self.busy = 0
        self.given_up = 0
        self.foreign = 0
        self.refused = 0

    # -- what an uplink asks ---------------------------------------------------------------------------------------------------

    def payload_bytes(self) -> int:
        """The longest payload of the next frame."""
        return self._channels.payload_bytes(self.ladder.spreading_factor())

    def delay_ms(self, payload_bytes: int, is_urgent: bool) -> int:
        """0 when a frame with this payload has its airtime, else after how many milliseconds. Raises LocalError("too_long"): never."""
        airtimes_us = self._channels.airtimes_us(payload_bytes, self.ladder.spreading_factor())
        return self._channels.delay_ms(airtimes_us, self._clock.monotonic_ms(), is_urgent)

    def answered(self, digest: bytes, steps: int | None) -> None:
        """A verified acknowledgement named the frame with this digest and advised these steps."""
        self.ladder.answered(digest, steps)

    def want_wait_ms(self, misses: int) -> int:
        """Behind a want that brings nothing, after `misses` of the kind: a random time of WIRE.md 17.3."""
        most_ms = min(self.waits.resend_ms << min(misses, 8), _LAST_WANT_MS)
        return most_ms - draw(most_ms // 2 + 1)

    def values(self) -> "list[int | None]":
        """What the node's own record tells of the radio: faults, sendings given up, foreign packets heard, permille of airtime spent."""
        return [self.faults, self.given_up, self.foreign, self._channels.spent_permille(self._clock.monotonic_ms())]

    async def sleep(self) -> None:
        """Let the radio sleep until it is next used; waits for a sending to end."""
        async with self._sending:
            if self._is_asleep:
                return
            try:
                await self._listen_to_downlink()  # a radio that was never set up does not sleep
                await self._radio.sleep()
                self._is_asleep = True
            except RadioFault as fault:
                self._fault(fault)

    def state(self) -> "list[Any]":
        """What `resume` takes after a deep sleep: the ladder, the law's account, what was counted."""
        counts = [int(self._is_down), self.faults, self.busy, self.given_up, self.foreign, self.refused]
        return [self.ladder.state(), self._channels.state(), counts]

    def resume(self, state: "list[Any]") -> None:
        """Go on. Raises LocalError where the law's account is not the one that flash keeps."""
        ladder, channels, counts = state
        self.ladder.resume(ladder)
        self._channels.resume(channels)
        is_down, self.faults, self.busy, self.given_up, self.foreign, self.refused = counts
        self._is_down = bool(is_down)
        self._is_asleep = True

    # -- sending ---------------------------------------------------------------------------------------------------------------

    async def send(self, message_type: int, body: bytes, is_urgent: bool = False, waited_s: int = 0) -> bool:
        """Send a frame, hello or want and listen for its answer; False when it was not sent: no airtime, no free channel, a dead radio.

        A want waits for every frame, and its windows close early where one is to be sent.
        """
        if message_type == slip.LOG:
            return False
        traffic = _TRAFFIC.get(message_type, elision.TRAFFIC_UPLINK)
        is_frame = traffic == elision.TRAFFIC_UPLINK
        self._is_frame_due = self._is_frame_due or is_frame
        while True:
            async with self._sending:
                self._is_want = traffic == elision.TRAFFIC_WANT
                if not self._gives_way():
                    self._is_frame_due = self._is_frame_due and not is_frame
                    return await self._send(traffic, body, is_urgent, waited_s)
            await asyncio.sleep(0.1)

    def _gives_way(self) -> bool:
        """Whether what is under way is a want, and a frame waits for its end."""
        return self._is_want and self._is_frame_due

    async def _send(self, traffic: int, body: bytes, is_urgent: bool, waited_s: int) -> bool:
        self._is_asleep = False
        factor, power_dbm = self.ladder.spreading_factor(), self.ladder.power_dbm()
        try:
            packets = elision.encode(body, traffic, self._network, self._node, waited_s, self._channels.packet_bytes(factor))
            is_sent = await self._send_all(packets, factor, power_dbm, is_urgent)
        except RadioFault as fault:
            self._fault(fault)
            return False
        except (LocalError, OSError) as error:
            if self._is_want:
                return False  # its airtime is for others
            self.given_up += 1
            self._log("radio: not sent, " + str(error))
            return False
        if not is_sent:
            self.given_up += 1
            return False
        if self._is_down:
            self._is_down = False
            self._log("radio: sends again")
        if traffic == elision.TRAFFIC_UPLINK:
            self.ladder.sent(frame_digest(body))
        self._closed.clear()
        self._sent.set()
        await self._closed.wait()
        return True

    def _fault(self, fault: RadioFault) -> None:
        """Counted; the first of a row is told."""
        self.faults += 1
        if not self._is_down:
            self._is_down = True
            self._log("radio: " + str(fault))

    async def _send_all(self, packets: list[bytes], factor: int, power_dbm: int, is_urgent: bool) -> bool:
        """All packets of a frame, or False: the channel was never free."""
        begin_ms = self._clock.monotonic_ms()
        airtimes_us = [self._channels.airtime_us(len(packet), factor) for packet in packets]
        ways = self._channels.charge(airtimes_us, begin_ms, is_urgent, draw, self._is_want)
        self._stop_listening()
        for index in range(len(packets)):
            channels_hz, must_be_free = ways[index]
            if not await self._is_free(channels_hz, must_be_free, factor, power_dbm, is_urgent):
                return False
            sent_ms = self._clock.monotonic_ms()
            if sent_ms - begin_ms > FRAME_MS:
                return False  # later than the ledger was told, and than a receiver keeps pieces
            lasts_us = await self._radio.send(packets[index])
            # Its end is noticed late where a record was signed meanwhile, and the windows are counted from it.
            self._end_ms = min(self._clock.monotonic_ms(), sent_ms + lasts_us // 1000 + _READY_MS)
        return True

    async def _is_free(self, channels_hz: list[int], must_be_free: bool, factor: int, power_dbm: int, is_urgent: bool) -> bool:
        """Set the radio to one of the channels as soon as nobody is heard there; False after eight looks, to what is not urgent."""
        v = self._values
        back_off_ms = _FIRST_BACK_OFF_MS
        for attempt in range(_TRIES):
            if self._gives_way():
                return False
            channel_hz = channels_hz[draw(len(channels_hz))]
            await self._radio.configure(channel_hz, factor, v["bandwidth_hz"], v["coding_rate"], tx_power_dbm=power_dbm)
            # Strength comes last: where the law asks for it, it is about the moment before sending.
            if not await self._radio.is_channel_active() and await self._radio.channel_rssi_dbm(v["listen_ms"]) <= v["busy_dbm"]:
                return True
            self.busy += 1
            if attempt < _TRIES - 1:
                await asyncio.sleep(draw(back_off_ms) / 1000)
                back_off_ms = min(2 * back_off_ms, _MOST_BACK_OFF_MS)
        return is_urgent and not must_be_free

    # -- receiving -------------------------------------------------------------------------------------------------------------

    async def run_receive(self, take: "Callable[[int, bytes], Awaitable[None]]", alive: "Callable[[], None]") -> None:
        """Listen in the windows behind each sending and hand every frame for this node to `take(type, frame)`. Returns never."""
        try:
            while True:
                alive()
                if self._sent.is_set():
                    self._sent.clear()
                    await self._run_windows(take)
                    self._closed.set()
                elif self._values["listens_always"]:
                    await self._listen_between(take)
                else:
                    try:
                        await asyncio.wait_for(self._sent.wait(), _IDLE_S)
                    except asyncio.TimeoutError:
                        pass
        finally:
            self._closed.set()  # whoever waits for this task waits no longer

    async def _run_windows(self, take: "Callable[[int, bytes], Awaitable[None]]") -> None:
        v = self._values
        factor, bandwidth_hz = v["downlink_spreading_factor"], v["downlink_bandwidth_hz"]
        length_ms = 2 * _EARLY_MS + _READY_MS + (_HEADER_SYMBOLS * (1000 << factor) + bandwidth_hz - 1) // bandwidth_hz
        opened, window = 0, 0
        try:
            await self._listen_to_downlink()
            while window < len(_WINDOWS_MS) and not self._gives_way():
                wait_ms = self._end_ms + _WINDOWS_MS[window] - _EARLY_MS - _READY_MS - self._clock.monotonic_ms()
                window += 1
                if wait_ms < -length_ms:
                    continue  # over before what came last was dealt with
                if wait_ms > 0:
                    await asyncio.sleep(wait_ms / 1000)
                found = await self._radio.receive(length_ms + min(0, wait_ms))
                pieces = 0
                while found is not None:
                    end_ms = self._clock.monotonic_ms()
                    is_ours, is_piece = await self._take(found.packet, take)
                    if is_ours and opened < _MOST_REOPENED:
                        self._end_ms, window = end_ms, 0
                    pieces += 1
                    # The next piece follows at once, and not in a window.
                    found = await self._radio.receive(length_ms) if is_piece and pieces < _MOST_PIECES else None
                opened += window == 0
        except RadioFault as fault:
            self._fault(fault)

    async def _listen_to_downlink(self) -> None:
        v = self._values
        await self._radio.configure(
            v["downlink_hz"], v["downlink_spreading_factor"], v["downlink_bandwidth_hz"], v["coding_rate"],
            tx_power_dbm=v["least_power_dbm"], is_iq_inverted=True,
        )  # fmt: skip

    async def _listen_between(self, take: "Callable[[int, bytes], Awaitable[None]]") -> None:
        """Listen until something comes, is to be sent, or half a minute is over."""
        self._listening = asyncio.create_task(self._listen_once(take))
        try:
            await self._listening
        except asyncio.CancelledError:
            if self._listening is not None:
                raise  # this task is meant, not its listening
            try:
                await asyncio.wait_for(self._sent.wait(), _IDLE_S)
            except asyncio.TimeoutError:
                pass
        finally:
            self._listening = None

    async def _listen_once(self, take: "Callable[[int, bytes], Awaitable[None]]") -> None:
        try:
            await self._listen_to_downlink()
            found = await self._radio.receive(_IDLE_S * 1000)
        except RadioFault as fault:
            self._fault(fault)
            await asyncio.sleep(_IDLE_S)
            return
        if found is not None:
            self._listening = None  # what came is dealt with whole
            await self._take(found.packet, take)

    def _stop_listening(self) -> None:
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.cancel()

    def _is_wanted(self, traffic: int, node: int) -> bool:
        if traffic == elision.TRAFFIC_DOWNLINK:
            return node in (0, self._node)
        return traffic in (elision.TRAFFIC_ACKNOWLEDGEMENT, elision.TRAFFIC_PIECE) and node == self._node

    async def _take(self, packet: bytes, take: "Callable[[int, bytes], Awaitable[None]]") -> tuple[bool, bool]:
        """Whether a packet was for this node, and whether it is a piece that others are still to follow; what it completes goes on."""
        try:
            complete = self._heard.feed(packet, self._clock.monotonic_ms())
        except RemoteError as error:
            if error.reason in ("foreign_packet", "foreign_network"):
                self.foreign += 1
            elif error.reason != "unknown_node":
                self.refused += 1
            return False, False
        for found in complete:
            await take(slip.PIECE if found.traffic == elision.TRAFFIC_PIECE else slip.FRAME, found.frame)
        return True, not complete
