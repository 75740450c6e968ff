"""EBYTE E22-900T22 modules (S, D) with their maker's firmware: LoRa behind a UART, with the pins M0, M1 and AUX.

Ref: EBYTE E22-xxxT22S product user manual (2024), whose register names are used below. What such a module is on the air stands in no
manual; it was measured by gerontec/TTN, devices/pico_sx1262/e22spec.md (2026), at air rate 2.4 k alone, so that one is offered: SF11,
500 kHz, coding rate 4/5. WIRE.md 12.2 says how a packet goes through it. Other than a chip's driver this one

- hears other E22s only and is heard by no other radio; puts a network id in the place of inverted IQ;
- counts time on air by an upper bound (radio_limits.E22_WRAP), and keeps the module alone for so long: it does not tell when it is done;
- begins a packet at `start_us` and some milliseconds of the module's own, and tells a packet's end as late, plus 4 ms;
- goes on listening behind a timeout for as long as the longest packet lasts, since no header shows;
- has a strength for each packet and no SNR: that is made up of it, over a noise of -105 dBm, so it is never above what it is;
- has no CRC errors to tell, no channel activity (always False: `channel_rssi_dbm` decides), and no listening of its own (LBT) switched
  on, which sends after 2 s whatever it hears and would move the windows.

Settings are volatile (C2) and read back. Once after this driver's start, a write to its flash, the module is made to keep (C0) the
first channel with the least power and everything else as wanted: so one that restarts by itself is lawful, and is never one that sends a
command as a packet. It is found with the next `configure`, by a doubtful AUX, or within half a minute of listening.

Known gaps: a T30 or T33 answers alike and is some 10 dB louder: read its label. A module that is without supply looks like one with a
broken wire. After the module's own packet it was found to be deaf for a time that nobody has measured.
"""

import asyncio

from lamppost_protocol.airtime import packet_us
from lamppost_protocol.compat import const
from lamppost_protocol.radio_limits import E22_WRAP

from ..ticks import sleep_ms, ticks_add, ticks_diff, ticks_ms, ticks_us
from .errors import RadioFault
from .lora_radio import MAX_RECEIVE_MS, Reception, wait_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from machine import UART, Pin

_FIRST_HZ = const(850_125_000)
_STEP_HZ = const(1_000_000)
_LAST_CHANNEL = const(80)
_SPREADING_FACTOR = const(11)
_BANDWIDTH_HZ = const(500_000)
_MOST_BYTES = const(239)

# M1 and M0 (6.1).
_NORMAL = const(0)
_CONFIGURATION = const(2)
_SLEEP = const(3)

_KEEP = const(0xC0)
_READ = const(0xC1)
_CHANGE = const(0xC2)
_REGISTERS = const(7)  # ADDH, ADDL, NETID, REG0 to REG3; the key behind them cannot be read
_NETWORK_ID = const(76)
_INVERTED_NETWORK_ID = const(77)
_REG0 = const(0xE2)  # UART 115200 8N1, air rate 2.4 k
_REG1 = const(0x20)  # sub-packets of 240, ambient strength on; power below
_REG3 = const(0x83)  # strength behind each packet, transparent, no LBT; the WOR cycle as it comes
_POWERS_DBM = (22, 17, 13, 10)  # by code in REG1
_ASK_STRENGTH = b"\xc0\xc1\xc2\xc3\x00\x01"
_STRENGTH = b"\xc1\x00\x01"
_DBM = const(256)  # octet less this

_BAUD = const(115_200)
_CONFIGURATION_BAUD = const(9_600)  # whatever REG0 says
_OCTET_US = const(87)
_BEGIN_US = const(2_300)  # three octets of silence, and what a module takes to begin (2 ms, ours to assume)
_SWITCH_MS = const(2)  # 6.1: 1 ms where it is idle
_SETTLE_MS = const(3)  # 5.5: 2 ms behind AUX
_BUSY_MS = const(1_000)
_ANSWER_MS = const(200)
_TRIES = const(3)
_STRENGTH_MS = const(30)
_SILENCE_MS = const(30)
_OUTPUT_MS = const(40)  # from a packet's end to its last octet
_BOOT_MS = const(60)  # AUX is low for 3 ms before octets come; for longer, it is starting
_MOST_WAITING = const(500)
_POLL_MS = const(4)  # a symbol
_TRUST_MS = const(2_000)
_LOOK_MS = const(30_000)
_NOISE_DBM = const(-105)
_MOST_SNR_QDB = const(40)

_NEXT_STEPS = {
    "no_answer": "check supply, the UART's two wires, M0 and M1",
    "busy_stuck": "check the wire of AUX and the supply",
    "command_failed": "check that this is an E22-900T22, and the UART's wires",
}


class E22:
    """One module. Its methods are coroutines, one at a time: a second caller waits for the first. Any of them may be cancelled.

    All raise RadioFault (no_answer, busy_stuck, command_failed) and may be called again after it.
    """

    wrap = E22_WRAP
    ready_ms = 120

    def __init__(self, uart: "UART", m0: "Pin", m1: "Pin", aux: "Pin"):
        self._uart = uart
        self._m0 = m0
        self._m1 = m1
        self._aux = aux
        self._lock = asyncio.Lock()
        self._mode = -1  # not known
        self._wanted = b""
        self._made = b""  # the registers as they were last read, empty: not known
        self._is_kept = False
        self._is_doubted = True
        self._seen_ms: Any = 0
        self._until_us: Any = None  # until when what was sent last may be on the air
        self._size = 0  # of the packet that comes in, 0: none does
        self._waiting = 0
        self._moved_ms: Any = 0
        self._low_ms: Any = None  # since when AUX is low without an octet
        self._news_us: Any = 0
        self.crc_errors = 0
        self.header_errors = 0
        """What came in another form than length, packet, strength."""
        self.restarts = 0
        """How often the module was found to have lost its settings by itself."""

    async def configure(
        self,
        frequency_hz: int,
        spreading_factor: int,
        bandwidth_hz: int,
        coding_rate: int = 1,
        preamble_symbols: int = 8,
        tx_power_dbm: int = 14,
        is_iq_inverted: bool = False,
    ) -> None:
        """Set what the next packets use. frequency_hz 850.125 .. 930.125 MHz in whole megahertz; spreading_factor 11, bandwidth_hz 500,000
        and coding_rate 1 only; preamble_symbols is the module's own; tx_power_dbm 10 .. 22: it sends with the next of 10, 13, 17 and 22
        dBm that is not above.

        Takes 75 ms, nothing where the same was set within two seconds. Raises ValueError for a value out of range; after a RadioFault the
        settings are kept and made at the next use.
        """
        is_right = (spreading_factor, bandwidth_hz, coding_rate) == (_SPREADING_FACTOR, _BANDWIDTH_HZ, 1)
        channel, rest_hz = divmod(frequency_hz - _FIRST_HZ, _STEP_HZ)
        if not is_right or rest_hz or not 0 <= channel <= _LAST_CHANNEL or not _POWERS_DBM[3] <= tx_power_dbm <= _POWERS_DBM[0]:
            raise ValueError("no such setting of this radio")
        power = 0
        while _POWERS_DBM[power] > tx_power_dbm:
            power += 1
        async with self._lock:
            network_id = _INVERTED_NETWORK_ID if is_iq_inverted else _NETWORK_ID
            self._wanted = bytes((0, 0, network_id, _REG0, _REG1 | power, channel, _REG3))
            await self._prepare(_TRUST_MS)

    def time_on_air_us(self, packet_bytes: int) -> int:
        """How long `send` of so many octets, 1 .. 239, will occupy the air at most. WIRE.md section 13."""
        us: int = packet_us(E22_WRAP, packet_bytes, _SPREADING_FACTOR, _BANDWIDTH_HZ)
        return us

    async def send(self, packet: bytes, start_us: int | None = None) -> int:
        """Transmit 1 .. 239 octets and return, when the air is free again for certain, how long they occupied it at most, in us.

        start_us: the reading of `ticks_us` at which the module begins; None, or a reading that is past: at once. Call it 25 ms ahead, or
        `ready_ms` where it was not configured within two seconds.

        After a RadioFault nobody knows whether the packet was on the air: its airtime counts as spent. Raises ValueError for a
        length out of range.
        """
        size = len(packet)
        if not 1 <= size <= _MOST_BYTES:
            raise ValueError("a packet has 1 to 239 octets")
        lasts_us = self.time_on_air_us(size)
        async with self._lock:
            await self._ready()
            await self._prepare(_TRUST_MS)
            ahead_us = (size + 1) * _OCTET_US + _BEGIN_US
            if start_us is not None:
                await wait_until(start_us, ahead_us)
            self._until_us = ticks_add(ticks_us(), ahead_us + lasts_us)
            self._uart.write(bytes((size,)) + packet)
            await self._ready()
            self._seen_ms = ticks_ms()  # one that restarts meanwhile is doubted; the next piece comes in 30 ms
        return lasts_us

    async def receive(self, timeout_ms: int) -> Reception | None:
        """Listen until a packet has come, or until `timeout_ms` (1 .. MAX_RECEIVE_MS) and the longest packet's time are over: then None.

        The module listens between calls too, and what came then is given first.
        """
        if not 1 <= timeout_ms <= MAX_RECEIVE_MS:
            raise ValueError("timeout_ms")
        begin_ms = ticks_ms()
        async with self._lock:
            end_ms = timeout_ms + self.time_on_air_us(_MOST_BYTES) // 1000 + _OUTPUT_MS
            while True:
                found = self._take() if self._mode == _NORMAL else None
                if found is not None:
                    return found
                if not self._size and self._low_ms is None:
                    if ticks_diff(ticks_ms(), begin_ms) >= end_ms:
                        return None
                    await self._prepare(_LOOK_MS)
                elif ticks_diff(ticks_ms(), begin_ms) >= end_ms + _BUSY_MS:
                    raise self._fault("busy_stuck")
                await sleep_ms(_POLL_MS)

    async def is_channel_active(self) -> bool:
        """False: the module cannot tell, and hears nothing below the noise. `channel_rssi_dbm` decides."""
        return False

    async def channel_rssi_dbm(self, listen_ms: int) -> int:
        """The strongest signal in the channel during `listen_ms`, asked every 5 ms, in dBm; 0 where a packet came in. Packets are lost
        meanwhile.
        """
        loudest_dbm, misses = -_DBM, 0
        async with self._lock:
            await self._ready()
            await self._prepare(_TRUST_MS)
            begin_ms = ticks_ms()
            while loudest_dbm == -_DBM or ticks_diff(ticks_ms(), begin_ms) < listen_ms:
                self._flush()
                self._uart.write(_ASK_STRENGTH)
                answer = await self._answer(len(_STRENGTH) + 1, _STRENGTH_MS)
                if answer[:3] == _STRENGTH and len(answer) == 4:
                    loudest_dbm = max(loudest_dbm, answer[3] - _DBM)
                elif answer:
                    loudest_dbm = 0
                else:
                    misses += 1
                    if misses == _TRIES:
                        raise self._fault("no_answer")
            self._flush()
        return loudest_dbm

    async def standby(self) -> None:
        """Stay set up. The module listens, at 12 mA: it has no standby."""
        async with self._lock:
            await self._prepare(_LOOK_MS)

    async def sleep(self) -> None:
        """Sleep at 2 uA with all settings kept; whatever is called next wakes it."""
        async with self._lock:
            await self._prepare(_LOOK_MS)
            try:
                await self._switch(_SLEEP)
            except RadioFault:
                self._mode = -1
                raise

    # -- set-up -----------------------------------------------------------------------------------------------------

    async def _prepare(self, trust_ms: int) -> None:
        """Leave the module listening as wanted; look at its settings where nothing is known of them since `trust_ms`."""
        if not self._wanted:
            raise ValueError("configure comes first")
        is_known = self._mode == _NORMAL and self._made == self._wanted and not self._is_doubted
        if is_known and ticks_diff(ticks_ms(), self._seen_ms) < trust_ms:
            return
        try:
            await self._set()
        except RadioFault:
            self._mode = -1
            raise

    async def _set(self) -> None:
        await self._switch(_CONFIGURATION)
        have = await self._ask(_READ, b"")
        if self._made and have != self._made:
            self.restarts += 1
        self._made = b""
        if not self._is_kept:
            least = self._wanted[:4] + bytes((self._wanted[4] | 3,)) + self._wanted[5:]
            if have != least:
                await self._put(_KEEP, least)
            self._is_kept = True
            have = least
        if have != self._wanted:
            await self._put(_CHANGE, self._wanted)
        self._made = self._wanted
        self._is_doubted = False
        self._seen_ms = ticks_ms()
        await self._switch(_NORMAL)

    async def _put(self, command: int, registers: bytes) -> None:
        """Write all registers and see that they hold it."""
        await self._ask(command, registers)
        if await self._ask(_READ, b"") != registers:
            raise self._fault("command_failed")

    async def _switch(self, mode: int) -> None:
        """Over to a mode, once the module has time. Ref: 6.1 and 5.5, notes for AUX."""
        await self._ready()
        if mode == self._mode:
            return
        self._mode = -1
        self._m0(mode & 1)
        self._m1(mode >> 1)
        await sleep_ms(_SWITCH_MS)
        await self._ready()
        await sleep_ms(_SETTLE_MS)
        self._uart.init(_CONFIGURATION_BAUD if mode == _CONFIGURATION else _BAUD)
        self._flush()
        self._mode = mode

    async def _ready(self) -> None:
        """Wait until nothing of ours can be on the air any more, and AUX says that the module has time."""
        if self._until_us is not None:
            await wait_until(self._until_us, 0)
            self._until_us = None
        begin_ms = ticks_ms()
        while not self._aux():
            low_ms = ticks_diff(ticks_ms(), begin_ms)
            if low_ms >= _BUSY_MS:
                raise self._fault("busy_stuck")
            self._is_doubted = self._is_doubted or low_ms >= _BOOT_MS
            await sleep_ms(1)

    def _fault(self, reason: str) -> RadioFault:
        self._is_doubted = True
        if reason == "no_answer":
            self._made = b""  # a module that does not answer has not restarted
        return RadioFault(reason, _NEXT_STEPS[reason])

    # -- octets -----------------------------------------------------------------------------------------------------

    async def _ask(self, command: int, values: bytes) -> bytes:
        """One command about all registers, and the values in its answer. The first one after a while may be lost: it is asked again."""
        reason = "no_answer"
        for _ in range(_TRIES):
            self._flush()
            self._uart.write(bytes((command, 0, _REGISTERS)) + values)
            answer = await self._answer(3 + _REGISTERS, _ANSWER_MS)
            if len(answer) == 3 + _REGISTERS and answer[:3] == bytes((_READ, 0, _REGISTERS)):
                return answer[3:]
            if answer:
                reason = "command_failed"
            await sleep_ms(_SILENCE_MS)  # for what still comes of an earlier one
        raise self._fault(reason)

    async def _answer(self, size: int, limit_ms: int) -> bytes:
        """So many octets, or those that have come within the limit."""
        begin_ms = ticks_ms()
        while self._uart.any() < size and ticks_diff(ticks_ms(), begin_ms) < limit_ms:
            await sleep_ms(1)
        answer: bytes = self._uart.read(size) or b""
        return answer

    def _flush(self) -> None:
        """Throw away what came in."""
        if self._uart.any():
            self._uart.read()
        self._size = self._waiting = 0
        self._low_ms = None

    def _take(self) -> Reception | None:
        """Look at UART and AUX, and take a packet that is there whole."""
        waiting, now_ms = self._uart.any(), ticks_ms()
        if not waiting and not self._size:
            if self._aux():
                self._low_ms = None
            elif self._low_ms is None:
                self._low_ms = now_ms
                self._news_us = ticks_us()
            elif ticks_diff(now_ms, self._low_ms) >= _BOOT_MS:
                self._is_doubted = True
            return None
        if waiting != self._waiting:
            self._waiting = waiting
            self._moved_ms = now_ms
        if waiting and not self._size:
            if self._low_ms is None:
                self._news_us = ticks_us()
            self._low_ms = None
            self._size = (self._uart.read(1) or b"\xff")[0] or 0xFF
            waiting -= 1
            self._waiting = waiting
            self._moved_ms = now_ms
        size = self._size
        if size < waiting and size <= _MOST_BYTES:
            octets = self._uart.read(size + 1) or b""
            self._size = self._waiting = 0
            if len(octets) == size + 1:
                rssi_dbm = octets[size] - _DBM
                snr_qdb = min(_MOST_SNR_QDB, 4 * (rssi_dbm - _NOISE_DBM))
                return Reception(octets[:size], rssi_dbm, snr_qdb, 0, self._news_us)
        if ticks_diff(now_ms, self._moved_ms) >= _SILENCE_MS or waiting > _MOST_WAITING:
            self._flush()
            self.header_errors += 1
        return None
