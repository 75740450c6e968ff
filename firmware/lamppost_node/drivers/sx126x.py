"""SX1262 and SX1268 LoRa radio (Semtech), on SPI mode 0 up to 16 MHz, with the pins NSS, NRESET, BUSY and DIO1.

Ref: Semtech SX1261/2 data sheet rev. 2.1; sections and tables below are its own. Explicit header, CRC on, private sync word (WIRE.md 12).
Commands and their status: sx126x_bus.py. A radio that restarted by itself is known by its packet type, which is not LoRa then; it is reset
and set up anew before the next use, and so is one that raised RadioFault. Waits ask DIO1 every symbol and, should its wire be
broken, the interrupt flags every second.

Errata (15): 15.1, 15.2 and 15.4 are applied; 15.3 concerns implicit headers, which are not offered. A packet whose header says that it
has no CRC is delivered: as with every other, its signature decides. Known gaps: no interrupt on DIO1, no symbol timeout, no duty-cycled
reception, no gain retention (sleep is cold, and waking means setting up anew: 4 ms). An SX1261 has another power amplifier: do not use it.
"""

import asyncio

from lamppost_protocol.airtime import BARE, is_low_data_rate
from lamppost_protocol.compat import const
from lamppost_protocol.limits import MAX_PACKET_BYTES

from ..ticks import sleep_ms, ticks_diff, ticks_ms, ticks_us
from .errors import RadioFault
from .lora_radio import CHIP_READY_MS, MAX_RECEIVE_MS, Reception, Settings, airtime_us, poll_ms, radio_fault, wait_until
from .sx126x_bus import CommandBus, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from machine import SPI, Pin

_SET_SLEEP = const(0x84)  # 13.1.1
_SET_STANDBY = const(0x80)  # 13.1.2
_SET_TX = const(0x83)  # 13.1.4
_SET_RX = const(0x82)  # 13.1.5
_SET_CAD = const(0xC5)  # 13.1.9
_SET_REGULATOR_MODE = const(0x96)  # 13.1.11
_CALIBRATE = const(0x89)  # 13.1.12
_CALIBRATE_IMAGE = const(0x98)  # 13.1.13
_SET_PA_CONFIG = const(0x95)  # 13.1.14
_SET_FALLBACK_MODE = const(0x93)  # 13.1.15
_SET_DIO_IRQ_PARAMS = const(0x08)  # 13.3.1
_GET_IRQ_STATUS = const(0x12)  # 13.3.3
_CLEAR_IRQ_STATUS = const(0x02)  # 13.3.4
_SET_DIO2_AS_RF_SWITCH = const(0x9D)  # 13.3.5
_SET_DIO3_AS_TCXO = const(0x97)  # 13.3.6
_SET_RF_FREQUENCY = const(0x86)  # 13.4.1
_SET_PACKET_TYPE = const(0x8A)  # 13.4.2
_GET_PACKET_TYPE = const(0x11)  # 13.4.3
_SET_TX_PARAMS = const(0x8E)  # 13.4.4
_SET_MODULATION_PARAMS = const(0x8B)  # 13.4.5
_SET_PACKET_PARAMS = const(0x8C)  # 13.4.6
_SET_CAD_PARAMS = const(0x88)  # 13.4.7
_SET_BUFFER_BASE = const(0x8F)  # 13.4.8
_GET_RX_BUFFER_STATUS = const(0x13)  # 13.5.2
_GET_PACKET_STATUS = const(0x14)  # 13.5.3
_GET_RSSI_INST = const(0x15)  # 13.5.4
_GET_DEVICE_ERRORS = const(0x17)  # 13.6.1
_CLEAR_DEVICE_ERRORS = const(0x07)  # 13.6.2

# Table 13-29.
_TX_DONE = const(0x0001)
_RX_DONE = const(0x0002)
_HEADER_ERROR = const(0x0020)
_CRC_ERROR = const(0x0040)
_CAD_DONE = const(0x0080)
_CAD_DETECTED = const(0x0100)
_TIMEOUT = const(0x0200)
_WANTED_IRQ = const(0x03E3)
_ALL_IRQ = const(0x43FF)

# Table 13-76: chip mode.
_MODE_RX = const(5)
_MODE_TX = const(6)

_LORA = const(1)
_XOSC_START_ERROR = const(0x20)  # table 13-86
_CALIBRATION_ERRORS = const(0x5F)  # RC64k, RC13M, PLL, ADC, image; and the PLL's lock

# Section 12.1.
_REG_IQ_POLARITY = const(0x0736)
_REG_SYNC_WORD = const(0x0740)
_REG_FREQUENCY_ERROR = const(0x076B)
_REG_TX_MODULATION = const(0x0889)
_REG_RX_GAIN = const(0x08AC)
_REG_TX_CLAMP = const(0x08D8)
_REG_OCP = const(0x08E7)
_PRIVATE_SYNC_WORD = const(0x1424)
_BOOSTED_GAIN = const(0x96)  # 9.6
_OCP_140_MA = const(0x38)  # 5.4: steps of 2.5 mA
_RAMP_200_US = const(0x04)  # table 13-41

#: Table 13-48, in whole hertz.
_BANDWIDTHS = {7812: 0, 10416: 8, 15625: 1, 20833: 9, 31250: 2, 41666: 10, 62500: 3, 125000: 4, 250000: 5, 500000: 6}
#: Table 13-21: full power of the four settings that it names, with SetTxParams at 22. What power less than 22 in SetTxParams gives with the
#: other three it does not say, so any other power takes the first row.
_PA_ROWS = {22: (4, 7), 20: (3, 5), 17: (2, 3), 14: (2, 2)}
_FULL_POWER_DBM = const(22)
_LEAST_POWER_DBM = const(-9)
#: Table 9-2: bands of the image calibration, MHz, and their two parameters.
_IMAGE_BANDS = ((430, 440, 0x6B, 0x6F), (470, 510, 0x75, 0x81), (779, 787, 0xC1, 0xC5), (863, 870, 0xD7, 0xDB), (902, 928, 0xE1, 0xE9))
#: Table 13-35.
_TCXO_MV = (1600, 1700, 1800, 2200, 2400, 2700, 3000, 3300)
_CAD_4_SYMBOLS = const(2)  # table 13-72; peak and minimum as in AN1200.48
_CAD_LEAST = const(10)

_RESET_MS = const(1)  # 8.1: 100 us
_SETTLE_MS = const(2)  # RSSI is right 0.5 ms after the receiver is on, at the slowest
_LOOK_MS = const(1000)
_SLACK_MS = const(50)
_TX_SWITCH_US = const(126)  # table 8-3: from standby to transmission


class SX126x:
    """One radio. Its methods are coroutines, one at a time: a second caller waits for the first. Any of them may be cancelled.

    All raise RadioFault (its reasons: lora_radio.py) and may be called again after it. tcxo_mv: 0 where the module has a crystal,
    else its TCXO's supply from DIO3, and tcxo_start_us how long that takes; has_rf_switch: DIO2 drives the antenna switch; has_dcdc: the
    inductor of the DC-DC regulator is fitted.
    """

    wrap = BARE
    ready_ms = CHIP_READY_MS

    def __init__(
        self,
        spi: "SPI",
        nss: "Pin",
        nreset: "Pin",
        busy: "Pin",
        dio1: "Pin",
        tcxo_mv: int = 0,
        tcxo_start_us: int = 5000,
        has_rf_switch: bool = True,
        has_dcdc: bool = True,
    ):
        if tcxo_mv and tcxo_mv not in _TCXO_MV:
            raise ValueError("tcxo_mv")
        self._nreset = nreset
        self._dio1 = dio1
        self._tcxo_mv = tcxo_mv
        self._tcxo_start_us = tcxo_start_us if tcxo_mv else 0
        self._has_rf_switch = has_rf_switch
        self._has_dcdc = has_dcdc
        self._lock = asyncio.Lock()
        self._bus = CommandBus(spi, nss, busy, self._tcxo_start_us // 1000)
        self._settings: Settings | None = None
        self._image_band: tuple[int, int] | None = None
        self._longest_ms = 0
        self._poll_ms = 0
        self._news_us: Any = 0  # when the last interrupt was found
        self._is_up = False
        self._is_set = False
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
        """Set what the next packets use. frequency_hz 150,000,000 .. 960,000,000; spreading_factor 5 .. 12; bandwidth_hz as in
        table 13-48, whole hertz rounded down; coding_rate 1 .. 4; preamble_symbols 1 .. 65,535; tx_power_dbm -9 .. 22 at the output.

        Whether that is lawful is not asked here (lamppost_protocol.regions). Raises ValueError for a value out of range; after a
        RadioFault the settings are kept and made at the next use.
        """
        is_right = 150_000_000 <= frequency_hz <= 960_000_000 and 5 <= spreading_factor <= 12 and bandwidth_hz in _BANDWIDTHS
        is_right = is_right and 1 <= coding_rate <= 4 and 1 <= preamble_symbols <= 0xFFFF
        if not is_right or not _LEAST_POWER_DBM <= tx_power_dbm <= _FULL_POWER_DBM:
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
                await self._packet_params(size)
                await self._bus.write_buffer(packet)
                limit_ms = lasts_us // 1000 + _SLACK_MS
                if start_us is not None:
                    # Before the preamble the oscillator starts (13.3.6) and the PLL locks.
                    await wait_until(start_us, self._tcxo_start_us + _TX_SWITCH_US)
                await self._go(_SET_TX, self._steps(limit_ms))
                await sleep_ms(lasts_us // 1000)
                irq = await self._wait(_MODE_TX, 2 * _SLACK_MS)
                if not irq & _TX_DONE:
                    raise radio_fault("tx_timeout")
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
            while True:
                left_ms = timeout_ms - ticks_diff(ticks_ms(), begin_ms)
                if left_ms <= 0:
                    return None
                try:
                    await self._prepare()
                    await self._packet_params(MAX_PACKET_BYTES)
                    await self._go(_SET_RX, self._steps(left_ms))
                    irq = await self._wait(_MODE_RX, left_ms + self._longest_ms + _SLACK_MS)
                    if irq & _HEADER_ERROR:
                        self.header_errors += 1
                    if irq & _RX_DONE:  # of a later packet, whose header was right
                        found = await self._take_packet(irq)
                        if found is not None:
                            return found
                except RadioFault as fault:
                    self._is_up = False
                    if fault.reason != "restarted":
                        raise
                    self.restarts += 1

    async def is_channel_active(self) -> bool:
        """Whether a LoRa signal of these settings is on the air: channel activity detection over four symbols (13.1.9). Energy of
        another kind it does not see: `channel_rssi_dbm` does.
        """
        async with self._lock:
            await self._prepare()
            try:
                s = self._needed()
                await self._bus.write(_SET_CAD_PARAMS, bytes((_CAD_4_SYMBOLS, s.spreading_factor + 13, _CAD_LEAST, 0, 0, 0, 0)))
                await self._go(_SET_CAD, b"")
                irq = await self._wait(_MODE_RX, 8 * (1000 << s.spreading_factor) // s.bandwidth_hz + _SLACK_MS)
            except RadioFault:
                self._is_up = False
                raise
        return irq & _CAD_DETECTED != 0

    async def channel_rssi_dbm(self, listen_ms: int) -> int:
        """The strongest signal in the channel during `listen_ms`, of whatever kind, in dBm (13.5.4). Packets are lost meanwhile."""
        loudest = 255
        async with self._lock:
            await self._prepare()
            try:
                await self._go(_SET_RX, b"\xff\xff\xff")
                await sleep_ms(_SETTLE_MS)
                begin_ms = ticks_ms()
                while True:
                    loudest = min(loudest, (await self._bus.read(_GET_RSSI_INST, 1))[0])
                    if ticks_diff(ticks_ms(), begin_ms) >= listen_ms:
                        break
                    await sleep_ms(1)
                await self._standby()
            except RadioFault:
                self._is_up = False
                raise
        return -(loudest // 2)

    async def standby(self) -> None:
        """Stop whatever it does; the radio stays set up, at 0.6 mA."""
        async with self._lock:
            await self._prepare()

    async def sleep(self) -> None:
        """Cold sleep at 160 nA (table 3-3); whatever is called next wakes it and sets it up again, some milliseconds."""
        async with self._lock:
            await self._prepare()
            self._is_up = False
            await self._bus.write(_SET_SLEEP, b"\x00")

    # -- set-up -----------------------------------------------------------------------------------------------------

    def _needed(self) -> Settings:
        if self._settings is None:
            raise ValueError("configure comes first")
        return self._settings

    async def _prepare(self) -> None:
        """Leave the radio in standby, set up, without interrupts; start it anew where it is not what it was."""
        self._needed()
        if self._is_up:
            try:
                self._bus.distrust()  # it may have restarted, and then says so of every command
                await self._standby()
                if (await self._bus.read(_GET_PACKET_TYPE, 1))[0] != _LORA:
                    self.restarts += 1
                    self._is_up = False
                self._bus.trust()
            except RadioFault:
                self._is_up = False
        if not self._is_up:
            await self._start()
        if not self._is_set:
            await self._set()
        await self._bus.write(_CLEAR_IRQ_STATUS, word(_ALL_IRQ))

    async def _standby(self) -> None:
        self._bus.forget()
        await self._bus.write(_SET_STANDBY, b"\x00")

    async def _start(self) -> None:
        """Reset, oscillator, regulator, calibration. Ref: 8.1, 9.2, 13.3.6, 14.3."""
        self._is_set = False
        self._image_band = None
        self._bus.distrust()
        self._nreset(0)
        await sleep_ms(_RESET_MS)
        self._nreset(1)
        await self._standby()
        sync_word = await self._bus.read_register(_REG_SYNC_WORD, 2)
        if sync_word[0] << 8 | sync_word[1] != _PRIVATE_SYNC_WORD:  # its value after reset (12.1)
            raise radio_fault("no_answer")
        # With a TCXO the calibration at power-up found no clock: that is not an error (13.3.6).
        await self._bus.write(_CLEAR_DEVICE_ERRORS, b"\x00\x00")
        if self._tcxo_mv:
            steps = (self._tcxo_start_us * 8 + 124) // 125
            await self._bus.write(_SET_DIO3_AS_TCXO, bytes((_TCXO_MV.index(self._tcxo_mv),)) + steps.to_bytes(3, "big"))
        if self._has_dcdc:
            await self._bus.write(_SET_REGULATOR_MODE, b"\x01")
        await self._bus.write(_CALIBRATE, b"\x7f")
        await self._look_at_errors()
        self._bus.trust()
        if self._has_rf_switch:
            await self._bus.write(_SET_DIO2_AS_RF_SWITCH, b"\x01")
        await self._bus.write(_SET_PACKET_TYPE, bytes((_LORA,)))
        await self._bus.write(_SET_BUFFER_BASE, b"\x00\x00")
        await self._bus.write(_SET_FALLBACK_MODE, b"\x20")
        await self._bus.write(_SET_DIO_IRQ_PARAMS, word(_WANTED_IRQ) + word(_WANTED_IRQ) + b"\x00\x00\x00\x00")
        await self._bus.write_register(_REG_SYNC_WORD, word(_PRIVATE_SYNC_WORD))
        await self._bus.write_register(_REG_RX_GAIN, bytes((_BOOSTED_GAIN,)))
        await self._bus.change_register(_REG_TX_CLAMP, 0x1E, 0x1E)  # 15.2: else it gives less power into a poor antenna than it could
        await self._bus.check()
        self._is_up = True

    async def _set(self) -> None:
        """Everything that `configure` was told. Ref: 14.2, 14.3."""
        s = self._needed()
        try:
            await self._calibrate_image(s.frequency_hz)
            await self._bus.write(_SET_RF_FREQUENCY, ((s.frequency_hz * 16384 + 7812) // 15625).to_bytes(4, "big"))
            duty_cycle, hp_max = _PA_ROWS.get(s.tx_power_dbm, _PA_ROWS[_FULL_POWER_DBM])
            await self._bus.write(_SET_PA_CONFIG, bytes((duty_cycle, hp_max, 0, 1)))
            await self._bus.write_register(_REG_OCP, bytes((_OCP_140_MA,)))
            power_dbm = _FULL_POWER_DBM if s.tx_power_dbm in _PA_ROWS else s.tx_power_dbm
            await self._bus.write(_SET_TX_PARAMS, bytes((power_dbm & 0xFF, _RAMP_200_US)))
            low = 1 if is_low_data_rate(s.spreading_factor, s.bandwidth_hz) else 0
            await self._bus.write(_SET_MODULATION_PARAMS, bytes((s.spreading_factor, _BANDWIDTHS[s.bandwidth_hz], s.coding_rate, low)))
            await self._bus.change_register(_REG_TX_MODULATION, 0x04, 0 if s.bandwidth_hz == 500000 else 0x04)  # 15.1
            await self._packet_params(MAX_PACKET_BYTES)
            await self._bus.change_register(_REG_IQ_POLARITY, 0x04, 0 if s.is_iq_inverted else 0x04)  # 15.4
            await self._bus.check()
        except RadioFault:
            self._is_up = False
            raise
        self._is_set = True

    async def _calibrate_image(self, frequency_hz: int) -> None:
        """Table 9-2; a frequency outside it is calibrated with the 4 MHz steps around it (13.1.13)."""
        first, last = frequency_hz // 4_000_000, frequency_hz // 4_000_000 + 1
        for low_mhz, high_mhz, low, high in _IMAGE_BANDS:
            if low_mhz * 1_000_000 <= frequency_hz <= high_mhz * 1_000_000:
                first, last = low, high
        if self._image_band != (first, last):
            await self._bus.write(_CALIBRATE_IMAGE, bytes((first, last)))
            await self._look_at_errors()
            self._image_band = (first, last)

    async def _packet_params(self, packet_bytes: int) -> None:
        s = self._needed()
        await self._bus.write(_SET_PACKET_PARAMS, word(s.preamble_symbols) + bytes((0, packet_bytes, 1, 1 if s.is_iq_inverted else 0)))

    async def _look_at_errors(self) -> None:
        self._bus.forget()
        _, low = await self._bus.read(_GET_DEVICE_ERRORS, 2)
        if low & _XOSC_START_ERROR:
            raise radio_fault("no_oscillator")
        if low & _CALIBRATION_ERRORS:
            raise radio_fault("calibration_failed")

    # -- packets ----------------------------------------------------------------------------------------------------

    def _steps(self, limit_ms: int) -> bytes:
        """A timeout in units of 15.625 us; 0, none, where 24 bits do not hold it: our own deadline stands in any case."""
        return (limit_ms * 64 if limit_ms <= MAX_RECEIVE_MS else 0).to_bytes(3, "big")

    async def _go(self, opcode: int, parameters: bytes) -> None:
        """Begin to send, receive or detect: checked at once, and what the oscillator says when it was refused."""
        await self._bus.write(opcode, parameters)
        try:
            await self._bus.check()
        except RadioFault:
            await self._look_at_errors()
            raise
        self._bus.expect_news()

    async def _wait(self, mode: int, limit_ms: int) -> int:
        """Return the interrupts, cleared, as soon as there are any."""
        begin_ms = ticks_ms()
        looked_ms = 0
        while True:
            waited_ms = ticks_diff(ticks_ms(), begin_ms)
            self._news_us = ticks_us()
            if self._dio1() or waited_ms - looked_ms >= _LOOK_MS or waited_ms > limit_ms:
                looked_ms = waited_ms
                high, low = await self._bus.read(_GET_IRQ_STATUS, 2)
                irq: int = high << 8 | low
                if irq:
                    await self._bus.write(_CLEAR_IRQ_STATUS, word(irq))
                    return irq
                if self._bus.mode != mode and await self._has_restarted():
                    raise radio_fault("restarted")
                if waited_ms > limit_ms:
                    raise radio_fault("no_interrupt")
            await sleep_ms(self._poll_ms)

    async def _has_restarted(self) -> bool:
        """No interrupt, yet another mode. Asked twice, for some chips lose the first command after a timeout."""
        high, low = await self._bus.read(_GET_IRQ_STATUS, 2)
        return not high and not low

    async def _take_packet(self, irq: int) -> Reception | None:
        """What lies in the buffer; None when its CRC was wrong or nothing is in it."""
        at_us = self._news_us
        size, start = await self._bus.read(_GET_RX_BUFFER_STATUS, 2)
        packet = await self._bus.read_buffer(start, size)
        rssi, snr, _ = await self._bus.read(_GET_PACKET_STATUS, 3)
        error = await self._bus.read_register(_REG_FREQUENCY_ERROR, 3)
        _, low = await self._bus.read(_GET_IRQ_STATUS, 2)  # a CRC error that came after RxDone is one all the same
        if (irq | low) & _CRC_ERROR:
            self.crc_errors += 1
            return None
        if not size:
            return None
        value = (error[0] & 0x0F) << 16 | error[1] << 8 | error[2]
        value -= (value & 0x80000) << 1
        error_hz = value * 31 * (self._needed().bandwidth_hz // 250) // 128000
        return Reception(packet, -((rssi + 1) // 2), snr - ((snr & 0x80) << 1), error_hz, at_us)
