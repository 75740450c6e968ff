"""SX1276 to SX1279 LoRa radios (Semtech; HopeRF's RFM95 to RFM98), on SPI mode 0 up to 10 MHz, with the pins NSS, NRESET and DIO0.

Ref: Semtech SX1276/77/78/79 data sheet rev. 7, whose sections and tables are named below, and its errata note rev. 1. Explicit header,
CRC on, private sync word (WIRE.md 12): heard by an SX126x and hearing it, from SF7 on. SF6 is another modulation than an SX126x's and is
not offered. The antenna hangs on PA_BOOST, 2 to 17 dBm, as on nearly all modules: 20 dBm are allowed for 1 % of the time only (5.4.3),
which the law's ledger does not keep, and are not offered.

Every setting is read back, for this chip has no status. One that restarted by itself is known by its mode, which is not LoRa then; it is
reset and set up anew before the next use, and so is one that raised RadioFault. Waits ask DIO0 every symbol and, should its wire be
broken, the flags every second. Time is kept here: in this chip a timeout counts symbols, 1,023 at most.

Errata 2.1 (500 kHz) and 2.3 (spurious reception) are applied. A packet whose header says that it has no CRC is delivered: as with every
other, its signature decides. Known gaps: a broken header is not told by this chip, `header_errors` stays 0; channel activity sees a
preamble only, so within a packet nothing but `channel_rssi_dbm` does; no interrupt on DIO0; no RFO output; no TCXO, without which
bandwidths below 62.5 kHz are too narrow for a crystal (4.1.1); which of the four chips it is cannot be asked: an SX1277 ends at SF9, an
SX1278 hears nothing above 525 MHz.
"""

import asyncio

from lamppost_protocol.airtime import BARE, is_low_data_rate
from lamppost_protocol.compat import const
from lamppost_protocol.limits import MAX_PACKET_BYTES

from ..ticks import sleep_ms, ticks_diff, ticks_ms, ticks_us
from .errors import RadioFault
from .lora_radio import CHIP_READY_MS, MAX_RECEIVE_MS, Reception, Settings, airtime_us, poll_ms, radio_fault, wait_until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from machine import SPI, Pin

# Table 41, LoRa page.
_REG_FIFO = const(0x00)
_REG_OP_MODE = const(0x01)
_REG_FREQUENCY = const(0x06)  # three octets
_REG_PA_CONFIG = const(0x09)  # with RegPaRamp and RegOcp behind it
_REG_LNA = const(0x0C)
_REG_FIFO_POINTER = const(0x0D)
_REG_FIFO_BASES = const(0x0E)  # of transmission, of reception
_REG_RX_START = const(0x10)  # and what follows, up to RegHopChannel: all about the last packet
_REG_IRQ_FLAGS = const(0x12)
_REG_RSSI = const(0x1B)
_REG_MODEM_CONFIG = const(0x1D)  # 1 and 2, symbol timeout, preamble, length, longest length
_REG_PACKET_BYTES = const(0x22)
_REG_MODEM_CONFIG_3 = const(0x26)
_REG_FREQUENCY_ERROR = const(0x28)  # three octets
_REG_IF_FREQUENCY = const(0x2F)  # two octets, and RegDetectOptimize
_REG_INVERT_IQ = const(0x33)
_REG_HIGH_BANDWIDTH_1 = const(0x36)
_REG_DETECTION_THRESHOLD = const(0x37)
_REG_SYNC_WORD = const(0x39)
_REG_HIGH_BANDWIDTH_2 = const(0x3A)
_REG_INVERT_IQ_2 = const(0x3B)
_REG_IMAGE_CALIBRATION = const(0x3B)  # on the FSK page
_REG_DIO_MAPPING = const(0x40)
_REG_VERSION = const(0x42)
_REG_PA_DAC = const(0x4D)

_WRITE = const(0x80)  # 2.2: first bit of an address
_VERSION = const(0x12)

# RegOpMode: LongRangeMode and a mode. Any other in the upper five bits is not what was written there.
_LORA = const(0x80)
_LORA_BITS = const(0xF8)
_SLEEP = const(0)
_STANDBY = const(1)
_TX = const(3)
_RX_CONTINUOUS = const(5)
_CAD = const(7)

# RegIrqFlags, cleared by ones.
_RX_DONE = const(0x40)
_CRC_ERROR = const(0x20)
_VALID_HEADER = const(0x10)
_TX_DONE = const(0x08)
_CAD_DONE = const(0x04)
_CAD_DETECTED = const(0x01)
_ALL_FLAGS = const(0xFF)

# RegDioMapping1, table 18: what DIO0 tells.
_DIO0_RX_DONE = const(0x00)
_DIO0_TX_DONE = const(0x40)
_DIO0_CAD_DONE = const(0x80)

_PA_BOOST = const(0xF0)  # 5.4.2: 17 - (15 - OutputPower) dBm
_LEAST_POWER_DBM = const(2)
_MOST_POWER_DBM = const(17)
_PA_RAMP_40_US = const(0x09)
_OCP_100_MA = const(0x2B)  # 5.4.4; 17 dBm take 87 mA (table 10)
_PA_DAC_17_DBM = const(0x84)  # 5.4.3
_LNA_BOOSTED = const(0x23)
_AUTOMATIC_GAIN = const(0x04)
_PRIVATE_SYNC_WORD = const(0x12)
_CRC_ON = const(0x04)
_DETECT_SF7_TO_12 = const(0x03)
_THRESHOLD_SF7_TO_12 = const(0x0A)
_IQ = const(0x27)
_IQ_INVERTED = const(0x66)
_IQ_2 = const(0x1D)
_IQ_2_INVERTED = const(0x19)

_CALIBRATE = const(0x42)  # ImageCalStart, no automatic calibration (2.1.3.8)
_CALIBRATES = const(0x20)

#: Table 13, in whole hertz; erratum 2.3: RegIfFreq2, and by how much the receiver is tuned higher than its channel.
_BANDWIDTHS = {
    7812: (0, 0x48, 7810), 10416: (1, 0x44, 10420), 15625: (2, 0x44, 15620), 20833: (3, 0x44, 20830), 31250: (4, 0x44, 31250),
    41666: (5, 0x44, 41670), 62500: (6, 0x40, 0), 125000: (7, 0x40, 0), 250000: (8, 0x40, 0), 500000: (9, 0x20, 0),
}  # fmt: skip
_AUTOMATIC_IF = const(0x80)  # in RegDetectOptimize, for 500 kHz alone
#: Table 32: bands, MHz.
_BANDS = ((137, 175), (410, 525), (862, 1020))
_HIGH_BAND_HZ = const(862_000_000)
_HIGH_BAND_RSSI_DBM = const(-157)  # 5.5.5
_LOW_BAND_RSSI_DBM = const(-164)

_RESET_MS = const(1)  # 7.2.2: 100 us
_BOOT_MS = const(6)  # 7.2.2: 5 ms
_WAKE_MS = const(1)  # table 7: the crystal needs 250 us
_CALIBRATION_MS = const(50)  # many times what it takes
_SETTLE_MS = const(2)
_LOOK_MS = const(1000)
_SLACK_MS = const(50)
_TX_SWITCH_US = const(115)  # table 7 and 4.2.3: PLL 60 us, 5 us, 1.25 ramps


class SX127x:
    """One radio. Its methods are coroutines, one at a time: a second caller waits for the first. Any of them may be cancelled.

    All raise RadioFault (its reasons: lora_radio.py) and may be called again after it.
    """

    wrap = BARE
    ready_ms = CHIP_READY_MS

    def __init__(self, spi: "SPI", nss: "Pin", nreset: "Pin", dio0: "Pin"):
        self._spi = spi
        self._nss = nss
        self._nreset = nreset
        self._dio0 = dio0
        self._out = bytearray(MAX_PACKET_BYTES + 1)
        self._in = bytearray(MAX_PACKET_BYTES + 1)
        self._lock = asyncio.Lock()
        self._settings: Settings | None = None
        self._longest_ms = 0
        self._poll_ms = 0
        self._news_us: Any = 0  # when the last flag was found
        self._is_up = False
        self._is_set = False
        self._is_lost = False  # it was up, and is not what it was
        self._is_high_band = False  # what the image was calibrated for
        self.crc_errors = 0
        self.header_errors = 0
        self.restarts = 0
        """How often the radio was found to have restarted by itself."""

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
        """Set what the next packets use. frequency_hz 137 .. 175, 410 .. 525 or 862 .. 1,020 MHz; spreading_factor 7 .. 12; bandwidth_hz as
        in table 13, whole hertz rounded down, at most 125,000 below 175 MHz; coding_rate 1 .. 4; preamble_symbols 6 .. 65,535;
        tx_power_dbm 2 .. 17 at the output.

        Whether that is lawful is not asked here (lamppost_protocol.regions). Raises ValueError for a value out of range; after a
        RadioFault the settings are kept and made at the next use.
        """
        is_right = 7 <= spreading_factor <= 12 and bandwidth_hz in _BANDWIDTHS and 1 <= coding_rate <= 4
        is_right = is_right and 6 <= preamble_symbols <= 0xFFFF and _LEAST_POWER_DBM <= tx_power_dbm <= _MOST_POWER_DBM
        if not is_right or not _has_band(frequency_hz, bandwidth_hz):
            raise ValueError("no such setting of this radio")
        settings = Settings(
            frequency_hz, spreading_factor, bandwidth_hz, coding_rate, preamble_symbols, tx_power_dbm, is_iq_inverted
        )  # fmt: skip
        async with self._lock:
            self._settings = settings
            self._longest_ms = airtime_us(settings, MAX_PACKET_BYTES) // 1000 + 1
            self._poll_ms = poll_ms(settings)
            self._is_set = False
            await self._prepare()

    def time_on_air_us(self, packet_bytes: int) -> int:
        """How long `send` of so many octets, 1 .. 255, will occupy the air."""
        return airtime_us(self._needed(), packet_bytes)

    async def send(self, packet: bytes, start_us: int | None = None) -> int:
        """Transmit 1 .. 255 octets and return their time on air in us, which `time_on_air_us` gave before.

        start_us: the reading of `ticks_us` at which the preamble begins, within the time of some SPI octets; None, or a reading that is
        past when the packet lies in the radio: at once. Call it 20 ms ahead, and not longer, for nothing is heard meanwhile.

        After a RadioFault nobody knows whether the packet was on the air: its airtime counts as spent. Raises ValueError for a
        length out of range.
        """
        size = len(packet)
        if not 1 <= size <= MAX_PACKET_BYTES:
            raise ValueError("a packet has 1 to 255 octets")
        lasts_us = self.time_on_air_us(size)
        async with self._lock:
            await self._prepare()
            try:
                self._tune(self._needed().frequency_hz)
                self._write(_REG_FIFO_POINTER, b"\x00")
                self._write(_REG_FIFO, packet)
                self._put(_REG_PACKET_BYTES, bytes((size,)))
                self._write(_REG_DIO_MAPPING, bytes((_DIO0_TX_DONE,)))
                if start_us is not None:
                    await wait_until(start_us, _TX_SWITCH_US)
                self._go(_TX)
                await sleep_ms(lasts_us // 1000)
                if not await self._wait(_TX_DONE, _TX, 2 * _SLACK_MS) & _TX_DONE:
                    raise radio_fault("no_interrupt")
            except RadioFault:
                self._is_up = False
                raise
        return lasts_us

    async def receive(self, timeout_ms: int) -> Reception | None:
        """Listen until a packet with a right CRC has come, or until `timeout_ms` (1 .. MAX_RECEIVE_MS) are over: then None.

        A packet whose header has come in time is received to its end, however long that lasts.
        """
        if not 1 <= timeout_ms <= MAX_RECEIVE_MS:
            raise ValueError("timeout_ms")
        begin_ms = ticks_ms()
        async with self._lock:
            is_listening = False
            while True:
                left_ms = timeout_ms - ticks_diff(ticks_ms(), begin_ms)
                try:
                    if left_ms <= 0:
                        await self._prepare()
                        return None
                    if not is_listening:
                        await self._prepare()
                        self._listen()
                        is_listening = True
                    flags = await self._wait(_RX_DONE, _RX_CONTINUOUS, left_ms)
                    if not flags & _RX_DONE and flags & _VALID_HEADER:
                        flags = await self._wait(_RX_DONE, _RX_CONTINUOUS, self._longest_ms)
                        if not flags & _RX_DONE:
                            raise radio_fault("no_interrupt")
                    if flags & _RX_DONE:
                        found = self._take_packet(flags)
                        if found is not None:
                            await self._prepare()
                            return found
                except RadioFault as fault:
                    self._is_up = False
                    is_listening = False
                    if fault.reason != "restarted":
                        raise

    async def is_channel_active(self) -> bool:
        """Whether the preamble of a LoRa signal of these settings is on the air: channel activity detection (4.1.6), two symbols. What
        follows a preamble it does not see, nor energy of another kind: `channel_rssi_dbm` does.
        """
        async with self._lock:
            await self._prepare()
            try:
                s = self._needed()
                self._tune(self._heard_at_hz())
                self._write(_REG_DIO_MAPPING, bytes((_DIO0_CAD_DONE,)))
                self._go(_CAD)
                flags = await self._wait(_CAD_DONE, _CAD, 8 * (1000 << s.spreading_factor) // s.bandwidth_hz + _SLACK_MS)
                if not flags & _CAD_DONE:
                    raise radio_fault("no_interrupt")
            except RadioFault:
                self._is_up = False
                raise
        return flags & _CAD_DETECTED != 0

    async def channel_rssi_dbm(self, listen_ms: int) -> int:
        """The strongest signal in the channel during `listen_ms`, of whatever kind, in dBm (5.5.5). Packets are lost meanwhile."""
        loudest = 0
        async with self._lock:
            await self._prepare()
            try:
                self._listen()
                await sleep_ms(_SETTLE_MS)
                begin_ms = ticks_ms()
                while True:
                    loudest = max(loudest, self._read(_REG_RSSI, 1)[0])
                    if ticks_diff(ticks_ms(), begin_ms) >= listen_ms:
                        break
                    await sleep_ms(1)
                if not self._is_lora(self._read(_REG_OP_MODE, 1)[0]):
                    raise radio_fault("restarted")
                await self._standby()
            except RadioFault:
                self._is_up = False
                raise
        return self._rssi_dbm(loudest)

    async def standby(self) -> None:
        """Stop whatever it does; the radio stays set up, at 1.6 mA."""
        async with self._lock:
            await self._prepare()

    async def sleep(self) -> None:
        """Sleep at 200 nA (table 6) with all settings kept; whatever is called next wakes it, in a millisecond."""
        async with self._lock:
            await self._prepare()
            self._go(_SLEEP)

    # -- set-up -----------------------------------------------------------------------------------------------------

    def _needed(self) -> Settings:
        if self._settings is None:
            raise ValueError("configure comes first")
        return self._settings

    def _is_in_high_band(self) -> bool:
        return self._needed().frequency_hz >= _HIGH_BAND_HZ

    async def _prepare(self) -> None:
        """Leave the radio in standby, set up, without flags; start it anew where it is not what it was."""
        if self._is_up and self._is_high_band == self._is_in_high_band():
            try:
                if self._is_lora(self._read(_REG_OP_MODE, 1)[0]):
                    await self._standby()
                else:
                    self._is_up = False
            except RadioFault:
                self._is_up = False
        else:
            self._is_up = False
        if not self._is_up:
            await self._start()
        if not self._is_set:
            self._set()
        self._write(_REG_IRQ_FLAGS, bytes((_ALL_FLAGS,)))

    def _is_lora(self, op_mode: int) -> bool:
        """False, and noted, for a radio that is no longer what it was."""
        self._is_lost = self._is_lost or op_mode & _LORA_BITS != _LORA
        return op_mode & _LORA_BITS == _LORA

    async def _standby(self) -> None:
        self._go(_STANDBY)
        await sleep_ms(_WAKE_MS)

    async def _start(self) -> None:
        """Reset, calibration of the image in FSK standby, and over to LoRa, which only sleep allows. Ref: 7.2.2, 2.1.3.8, table 16."""
        self._is_set = False
        self._nss(1)
        self._nreset(0)
        await sleep_ms(_RESET_MS)
        self._nreset(1)
        await sleep_ms(_BOOT_MS)
        version = self._read(_REG_VERSION, 1)[0]
        if version != _VERSION:
            self._is_lost = False  # a radio that does not answer has not restarted
            raise radio_fault("no_answer" if version in (0x00, 0xFF) else "wrong_chip")
        self._tune(self._needed().frequency_hz)
        self._write(_REG_IMAGE_CALIBRATION, bytes((_CALIBRATE,)))
        begin_ms = ticks_ms()
        while self._read(_REG_IMAGE_CALIBRATION, 1)[0] & _CALIBRATES:
            if ticks_diff(ticks_ms(), begin_ms) > _CALIBRATION_MS:
                raise radio_fault("calibration_failed")
            await sleep_ms(1)
        self._write(_REG_OP_MODE, bytes((_SLEEP,)))
        self._go(_SLEEP)
        await self._standby()
        if self._read(_REG_OP_MODE, 1)[0] != _LORA | _STANDBY:
            raise radio_fault("command_failed")
        self._is_high_band = self._is_in_high_band()
        self._is_up = True
        self.restarts += self._is_lost
        self._is_lost = False

    def _set(self) -> None:
        """Everything that `configure` was told. Ref: table 41 by register; errata 2.1 and 2.3."""
        s = self._needed()
        code, if_frequency, _ = _BANDWIDTHS[s.bandwidth_hz]
        is_widest = s.bandwidth_hz == 500000
        try:
            self._put(_REG_PA_CONFIG, bytes((_PA_BOOST | s.tx_power_dbm - _LEAST_POWER_DBM, _PA_RAMP_40_US, _OCP_100_MA)))
            self._put(_REG_PA_DAC, bytes((_PA_DAC_17_DBM,)))
            self._write(_REG_LNA, bytes((_LNA_BOOSTED,)))  # not read back: the automatic gain changes it
            self._put(_REG_FIFO_BASES, b"\x00\x00")
            modem = bytes((code << 4 | s.coding_rate << 1, s.spreading_factor << 4 | _CRC_ON, 0x64))
            self._put(_REG_MODEM_CONFIG, modem + s.preamble_symbols.to_bytes(2, "big") + bytes((MAX_PACKET_BYTES, MAX_PACKET_BYTES, 0)))
            low = 8 if is_low_data_rate(s.spreading_factor, s.bandwidth_hz) else 0
            self._put(_REG_MODEM_CONFIG_3, bytes((low | _AUTOMATIC_GAIN,)))
            self._put(_REG_IF_FREQUENCY, bytes((if_frequency, 0, (_AUTOMATIC_IF if is_widest else 0) | 0x40 | _DETECT_SF7_TO_12)))
            self._put(_REG_INVERT_IQ, bytes((_IQ_INVERTED if s.is_iq_inverted else _IQ,)))
            self._put(_REG_INVERT_IQ_2, bytes((_IQ_2_INVERTED if s.is_iq_inverted else _IQ_2,)))
            self._put(_REG_HIGH_BANDWIDTH_1, bytes((0x02 if is_widest else 0x03,)))  # from 3 on the chip sets the second itself
            if is_widest:
                self._put(_REG_HIGH_BANDWIDTH_2, bytes((0x64 if self._is_in_high_band() else 0x7F,)))
            self._put(_REG_DETECTION_THRESHOLD, bytes((_THRESHOLD_SF7_TO_12,)))
            self._put(_REG_SYNC_WORD, bytes((_PRIVATE_SYNC_WORD,)))
        except RadioFault:
            self._is_up = False
            raise
        self._is_set = True

    def _tune(self, frequency_hz: int) -> None:
        """In steps of 32 MHz / 2^19 (4.1.4)."""
        self._put(_REG_FREQUENCY, ((frequency_hz * 2048 + 62500) // 125000).to_bytes(3, "big"))

    def _heard_at_hz(self) -> int:
        s = self._needed()
        return s.frequency_hz + _BANDWIDTHS[s.bandwidth_hz][2]

    # -- packets ----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Receive until told otherwise, packet behind packet from the buffer's begin on."""
        self._tune(self._heard_at_hz())
        self._write(_REG_DIO_MAPPING, bytes((_DIO0_RX_DONE,)))
        self._go(_RX_CONTINUOUS)

    async def _wait(self, wanted: int, mode: int, limit_ms: int) -> int:
        """Return the flags, cleared, as soon as `wanted` is among them; after `limit_ms` those there are."""
        begin_ms = ticks_ms()
        looked_ms = 0
        while True:
            waited_ms = ticks_diff(ticks_ms(), begin_ms)
            self._news_us = ticks_us()
            if self._dio0() or waited_ms - looked_ms >= _LOOK_MS or waited_ms >= limit_ms:
                looked_ms = waited_ms
                state = self._read(_REG_OP_MODE, 1 + _REG_IRQ_FLAGS - _REG_OP_MODE)
                op_mode, flags = state[0], state[_REG_IRQ_FLAGS - _REG_OP_MODE]
                if not self._is_lora(op_mode):
                    raise radio_fault("restarted")
                if flags & wanted:
                    self._write(_REG_IRQ_FLAGS, bytes((_ALL_FLAGS,)))
                    return flags
                if op_mode & 7 != mode:
                    raise radio_fault("no_interrupt")
                if waited_ms >= limit_ms:
                    return flags
            await sleep_ms(min(self._poll_ms, max(1, limit_ms - waited_ms)))

    def _take_packet(self, flags: int) -> Reception | None:
        """What lies in the buffer; None when its CRC was wrong or nothing is in it."""
        at_us = self._news_us
        if flags & _CRC_ERROR:
            self.crc_errors += 1
            return None
        about = self._read(_REG_RX_START, 11)
        start, size, snr, rssi = about[0], about[3], about[9], about[10]
        if not size:
            return None
        error = self._read(_REG_FREQUENCY_ERROR, 3)
        value = (error[0] & 0x0F) << 16 | error[1] << 8 | error[2]
        value -= (value & 0x80000) << 1
        error_hz = -value * 8192 * self._needed().bandwidth_hz // (15625 * 500000)  # 4.1.5: 2^24 / 32 MHz a step at 500 kHz
        self._write(_REG_FIFO_POINTER, bytes((start,)))
        packet = bytes(self._read(_REG_FIFO, size))
        snr_qdb = snr - ((snr & 0x80) << 1)
        # 5.5.5: below the noise the register is about the noise alone, and above it a sixteenth short.
        rssi_dbm = self._rssi_dbm(rssi) + (snr_qdb // 4 if snr_qdb < 0 else rssi // 15)
        return Reception(packet, rssi_dbm, snr_qdb, error_hz, at_us)

    def _rssi_dbm(self, octet: int) -> int:
        return octet + (_HIGH_BAND_RSSI_DBM if self._is_in_high_band() else _LOW_BAND_RSSI_DBM)

    # -- registers (2.2) --------------------------------------------------------------------------------------------

    def _go(self, mode: int) -> None:
        self._write(_REG_OP_MODE, bytes((_LORA | mode,)))

    def _put(self, address: int, values: bytes) -> None:
        """Write registers and see that they hold it."""
        self._write(address, values)
        if bytes(self._read(address, len(values))) != values:
            raise radio_fault("command_failed")

    def _write(self, address: int, values: bytes) -> None:
        size = 1 + len(values)
        self._out[0] = _WRITE | address
        self._out[1:size] = values
        self._exchange(size)

    def _read(self, address: int, size: int) -> memoryview:
        """Registers from here on, of the FIFO octets; valid until the next one."""
        self._out[0] = address
        self._exchange(1 + size)
        return memoryview(self._in)[1 : 1 + size]

    def _exchange(self, size: int) -> None:
        self._nss(0)
        try:
            self._spi.write_readinto(memoryview(self._out)[:size], memoryview(self._in)[:size])
        except OSError:
            raise radio_fault("no_answer")
        finally:
            self._nss(1)


def _has_band(frequency_hz: int, bandwidth_hz: int) -> bool:
    """Whether it lies in a band, one that has this bandwidth (table 13)."""
    for low_mhz, high_mhz in _BANDS:
        if low_mhz * 1_000_000 <= frequency_hz <= high_mhz * 1_000_000:
            return bandwidth_hz <= 125000 or low_mhz > 175
    return False
