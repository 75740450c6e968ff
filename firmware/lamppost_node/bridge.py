"""A radio on a gateway's line: packets in with the instant at which they ended, packets out at the instant the gateway names. WIRE.md 15.

It holds no key, understands no packet and keeps no airtime ledger: it sends what it is told, once, and says what became of it. It listens
whenever it does not send, with the settings the gateway gave last, and hears nothing before it has any.

How exact: a packet begins within the time of some SPI octets of its instant. An end is told up to 2 ms or a symbol late, whichever is
longer (33 ms at SF12), and what other tasks take of a turn; an E22 begins and tells some milliseconds later still. Receive windows
(WIRE.md 14.2) bear 50 ms and 12 symbols.
Known gap: while it prepares and sends, and for some milliseconds at each end of a transmission, it is deaf: one radio does one thing.
"""

import asyncio
from collections import namedtuple

from lamppost_protocol import modem, slip
from lamppost_protocol.airtime import packet_us
from lamppost_protocol.errors import ProtocolError, RemoteError

from lamppost_node.drivers.errors import RadioFault
from lamppost_node.ticks import ticks_add, ticks_diff, ticks_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lamppost_node.interfaces import Radio
    from lamppost_node.links.serial import SerialLink
    from lamppost_node.log_lines import LogLines

#: Names of its tasks.
RADIO = "radio"
TELL = "tell"
STATE = "state"

_STATE_S = 30
_LOOK_S = 10
_RETRY_S = 1
#: A longest wait for a packet; listening begins anew without a gap that matters.
_LISTEN_MS = 250000
_LEAST_AHEAD_US = 20000
_LATE_US = 30000
#: From when listening should end until the packet must begin: the receiver settles before, the packet is loaded after.
_LOAD_US = 26000
#: Between two packets. Pieces follow one another within 50 ms (WIRE.md 14.2).
_GAP_US = 20000
_MOST_JOBS = 16
_MOST_WAITING = 32
_HALF_CLOCK_US = modem.CLOCK_US // 2

#: A transmission to make: its request, when it begins by our clock, its time on air.
Job = namedtuple("Job", ("transmit", "start_us", "airtime_us"))


class Bridge:
    """One line, one radio. `take` is called with what the line brings; `run_radio`, `run_tell` and `run_state` are its tasks."""

    def __init__(self, line: "SerialLink", radio: "Radio", log_lines: "LogLines", firmware: str, alive: "Callable[[str], None]"):
        self._line = line
        self._radio = radio
        self._log_lines = log_lines
        self._firmware = firmware
        self._alive = alive
        self._listen: modem.Listen | None = None
        self._listening: asyncio.Task[None] | None = None
        self._is_listening = False
        self._jobs: list[Job] = []  # in the order of their begins; the first may be on the air
        self._changed = asyncio.Event()
        self._waiting: list[tuple[int, bytes]] = []
        self._has_waiting = asyncio.Event()
        self._received = 0
        self.dropped = 0
        """Messages that found the line too slow."""
        self._ticks_us = ticks_us()
        self._now_us = 0

    # -- the clock ----------------------------------------------------------------------------------------------------

    def now_us(self) -> int:
        """The bridge's clock: microseconds modulo 2^32, where a chip's own ticks wrap sooner. Ask at least every eight minutes."""
        reading = ticks_us()
        self._now_us = (self._now_us + ticks_diff(reading, self._ticks_us)) % modem.CLOCK_US
        self._ticks_us = reading
        return self._now_us

    def _clock_at(self, reading_us: int) -> int:
        """The clock at a reading of `ticks_us` not long ago."""
        return (self.now_us() + ticks_diff(reading_us, self._ticks_us)) % modem.CLOCK_US

    def _ahead_us(self, at_us: int) -> int:
        """How far ahead an instant of the clock lies, negative when it is past."""
        return (at_us - self.now_us() + _HALF_CLOCK_US) % modem.CLOCK_US - _HALF_CLOCK_US

    # -- what the gateway asks ----------------------------------------------------------------------------------------

    async def take(self, message_type: int, body: bytes) -> None:
        """One message of the gateway. Never raises for what it holds."""
        if message_type == slip.RADIO_TRANSMIT:
            self._take_transmit(body)
        elif message_type == slip.RADIO_LISTEN:
            try:
                self._listen = modem.decode_listen(body)
            except RemoteError:
                return  # no answer is meant for it: the state told every 30 s shows that nothing changed
            if self._listening is not None:
                self._listening.cancel()
            self._changed.set()
            self._tell_state()

    def _take_transmit(self, body: bytes) -> None:
        try:
            transmit = modem.decode_transmit(body)
            airtime_us = packet_us(self._radio.wrap, len(transmit.packet), transmit.spreading_factor, transmit.bandwidth_hz)
        except ProtocolError:
            token = modem.token_of(body)
            if token is not None:
                self._tell_sent(token, modem.BAD_REQUEST)
            return
        start_us = transmit.at_us
        listen_us = transmit.listen_ms * 1000
        if start_us is None:
            start_us = (self.now_us() + _LEAST_AHEAD_US + listen_us) % modem.CLOCK_US
        ahead_us = self._ahead_us(start_us)
        if ahead_us < _LEAST_AHEAD_US + listen_us and transmit.at_us is not None:
            self._tell_sent(transmit.token, modem.TOO_LATE)
        elif ahead_us > modem.MOST_AHEAD_US:
            self._tell_sent(transmit.token, modem.TOO_EARLY)
        elif len(self._jobs) >= _MOST_JOBS or self._is_taken(ahead_us - listen_us, airtime_us + listen_us):
            self._tell_sent(transmit.token, modem.TAKEN)
        else:
            later = [job for job in self._jobs if self._ahead_us(job.start_us) > ahead_us]
            self._jobs.insert(len(self._jobs) - len(later), Job(transmit, start_us, airtime_us))
            self._changed.set()

    def _is_taken(self, ahead_us: int, airtime_us: int) -> bool:
        """Whether another job needs the radio in this time or close to it."""
        for job in self._jobs:
            other_us = self._ahead_us(job.start_us)
            listen_us = job.transmit.listen_ms * 1000
            if ahead_us < other_us + job.airtime_us + _GAP_US and other_us - listen_us < ahead_us + airtime_us + _GAP_US:
                return True
        return False

    # -- what it tells ------------------------------------------------------------------------------------------------

    def _tell(self, message_type: int, body: bytes) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.pop(0)
            self.dropped += 1
        self._waiting.append((message_type, body))
        self._has_waiting.set()

    def _tell_sent(self, token: int, result: int, airtime_us: int = 0) -> None:
        self._tell(slip.RADIO_SENT, modem.encode_sent(modem.Sent(token, result, airtime_us)))

    def _tell_state(self) -> None:
        radio = self._radio
        state = modem.State(
            self._firmware, self.now_us(), self._received, radio.crc_errors, radio.header_errors, radio.restarts, self._is_listening
        )  # fmt: skip
        self._tell(slip.MODEM, modem.encode_state(state))

    def _note_listening(self, is_listening: bool) -> None:
        if is_listening != self._is_listening:
            self._is_listening = is_listening
            self._tell_state()

    async def run_tell(self) -> None:
        """Put what there is to tell on the line, for ever; the radio does not wait for the line."""
        while True:
            if not self._waiting:
                self._has_waiting.clear()
                await self._has_waiting.wait()
            await self._line.send(*self._waiting.pop(0))

    async def run_state(self) -> None:
        """Tell every 30 s how it is, for ever."""
        while True:
            self._tell_state()
            self._alive(STATE)
            await asyncio.sleep(_STATE_S)

    # -- the radio ----------------------------------------------------------------------------------------------------

    async def run_radio(self) -> None:
        """Send what is due and listen in between, for ever."""
        await self._stop_listening()
        while True:
            self._alive(RADIO)
            wait_s: float = _LOOK_S
            if self._jobs:
                first = self._jobs[0]
                wait_us = self._ahead_us(first.start_us) - 1000 * (self._radio.ready_ms + first.transmit.listen_ms)
                if wait_us <= 0:
                    await self._stop_listening()
                    await self._transmit(self._jobs[0])
                    self._jobs.pop(0)
                    continue
                wait_s = min(wait_s, wait_us / 1000000)
            if self._listening is not None and self._listening.done():
                await self._stop_listening()
            if self._listening is None and self._listen is not None:
                self._listening = asyncio.create_task(self._run_listening(self._listen))
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), wait_s)
            except asyncio.TimeoutError:
                pass

    async def _transmit(self, job: Job) -> None:
        request = job.transmit
        result, airtime_us = modem.SENT, job.airtime_us
        try:
            await self._radio.configure(
                request.frequency_hz, request.spreading_factor, request.bandwidth_hz, tx_power_dbm=request.power_dbm, is_iq_inverted=True
            )
            is_busy = request.listen_ms > 0 and await self._is_busy(job)
            ahead_us = self._ahead_us(job.start_us)
            if is_busy:
                result, airtime_us = modem.BUSY, 0
            elif ahead_us < -_LATE_US and request.at_us is not None:
                result, airtime_us = modem.TOO_LATE, 0
            else:
                start_us: Any = ticks_add(self._ticks_us, ahead_us)
                await self._radio.send(request.packet, start_us)
        except ValueError:
            result, airtime_us = modem.BAD_REQUEST, 0  # a bandwidth or power that this radio does not have
        except RadioFault as fault:
            result = modem.RADIO_FAULT  # it may have been on the air all the same
            self._log_lines.put(RADIO + ": " + str(fault))
        self._tell_sent(request.token, result, airtime_us)

    async def _is_busy(self, job: Job) -> bool:
        """Listen to the channel, up to as shortly before the begin as a packet is loaded in."""
        request = job.transmit
        wait_us = self._ahead_us(job.start_us) - request.listen_ms * 1000 - _LOAD_US
        if wait_us > 0:
            await asyncio.sleep(wait_us / 1000000)
        return await self._radio.channel_rssi_dbm(request.listen_ms) > request.busy_dbm

    async def _stop_listening(self) -> None:
        """End the listening task, if there is one. Raises what it failed with."""
        task, self._listening = self._listening, None
        if task is None:
            return
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass

    async def _run_listening(self, settings: modem.Listen) -> None:
        """Listen with these settings until cancelled; a radio that fails is told of and tried again."""
        try:
            while True:
                try:
                    await self._radio.configure(settings.frequency_hz, settings.spreading_factor, settings.bandwidth_hz)
                    self._note_listening(True)
                    while True:
                        found = await self._radio.receive(_LISTEN_MS)
                        if found is not None:
                            self._heard(settings, found)
                except ValueError:
                    self._note_listening(False)  # a bandwidth that this radio does not have; the gateway sees it in the state
                    if self._listen is settings:
                        self._listen = None
                    return
                except RadioFault as fault:
                    if self._is_listening:
                        self._log_lines.put(RADIO + ": " + str(fault))
                    self._note_listening(False)
                await asyncio.sleep(_RETRY_S)
        finally:
            self._changed.set()

    def _heard(self, settings: modem.Listen, found) -> None:  # type: ignore[no-untyped-def]
        self._received = (self._received + 1) % modem.CLOCK_US
        rssi_dbm = min(max(found.rssi_dbm, -200), 50)
        at_us = self._clock_at(found.at_us)
        self._tell(slip.RADIO_RECEIVED, modem.encode_received(modem.Received(at_us, *settings, rssi_dbm, found.snr_qdb, found.packet)))
