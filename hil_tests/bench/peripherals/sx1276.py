"""SX1276 LoRa radio at the level of its registers and pins.

Ref: Semtech SX1276/77/78/79 data sheet rev. 7: sections 2.2 (SPI), 4.1 (LoRa modem, its modes in tables 16 and 17), 4.2 (timing), 5.4 and
5.5 (amplifiers), 6 (registers, table 41), 7.2 (reset); errata note rev. 1. An address and a direction come with the first octet of a
transaction, and each octet behind it acts at once, at the next address, but for the FIFO's. While written, a register clocks out what it
was. The FIFO is deaf in sleep and loses what it held; LongRangeMode changes in sleep alone; the carrier's frequency in sleep and standby.
What a driver does against that is not done, and counted in `ignored`.

What the errata and missing calibration cost is in figures of our choice, so that a driver that leaves it out is found: the image not
calibrated for its band, the registers of erratum 2.1 wrong, polarity without RegInvertIQ2, 10 dB each. Erratum 2.3: where automatic IF is
left on below 500 kHz, 10 dB; its narrow bandwidths listen lower than they are tuned. Power leaves by PA_BOOST, nothing is wired to RFO.
Detection registers of SF6 hear nothing. Not modelled: SF6 itself, FSK but for its calibration, hopping, implicit headers, DIO2 to DIO5.
Sign and scale of the frequency error are as other drivers found them.

Faults: unplugged (value: MISO, 255 unless given), dio0_broken, crc_error, crc_unseen (a damaged packet is reported as good), header_error,
antenna (dB of loss, both ways), noisy_spi (value: one octet in so many has a bit turned over), jammed (dBm on its channel at its antenna),
brown_out (once, when set), image_stuck (a calibration that never ends).
"""

import math

from .ether import Ether, Station, Transmission
from .lora_modem import BANDWIDTHS_HZ, Jammer, Modem, Receiver, noisy, spoilt

SLEEP, STANDBY, FS_TX, TX, FS_RX, RX, RX_SINGLE, CAD = range(8)
_LORA = 0x80
_RX_TIMEOUT, _RX_DONE, _CRC_ERROR, _HEADER, _TX_DONE, _CAD_DONE, _, _CAD_FOUND = (0x80 >> bit for bit in range(8))
_FIFO, _OP_MODE, _FRF, _PA_CONFIG, _PA_RAMP, _POINTER, _TX_BASE, _RX_BASE, _RX_START = 0x00, 0x01, 0x06, 0x09, 0x0A, 0x0D, 0x0E, 0x0F, 0x10
_MASK, _FLAGS, _RX_BYTES, _SNR, _RSSI, _RSSI_NOW, _HOP, _CONFIG_1, _CONFIG_2 = 0x11, 0x12, 0x13, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E
_SYMBOLS, _PREAMBLE, _LENGTH, _CONFIG_3, _ERROR, _IF, _DETECT, _IQ, _WIDE_1 = 0x1F, 0x20, 0x22, 0x26, 0x28, 0x2F, 0x31, 0x33, 0x36
_THRESHOLD, _SYNC, _WIDE_2, _IQ_2, _IMAGE, _DIO_MAPPING, _VERSION, _PA_DAC = 0x37, 0x39, 0x3A, 0x3B, 0x3B, 0x40, 0x42, 0x4D
#: After reset (table 41), on the page that LongRangeMode gives and on FSK's, which differ from 0x0D to 0x3F.
_RESET = {
    _FRF: 0x6C, _FRF + 1: 0x80, _PA_CONFIG: 0x4F, _PA_RAMP: 0x09, 0x0B: 0x2B, 0x0C: 0x20, _TX_BASE: 0x80, _CONFIG_1: 0x72, _CONFIG_2: 0x70,
    _SYMBOLS: 0x64, _PREAMBLE + 1: 0x08, _LENGTH: 0x01, 0x23: 0xFF, _CONFIG_3: 0x04, _IF: 0x20, _DETECT: 0xC3, _IQ: 0x27, _WIDE_1: 0x03,
    _THRESHOLD: 0x0A, _SYNC: 0x12, _WIDE_2: 0x65, _IQ_2: 0x1D, _VERSION: 0x12, 0x4B: 0x09, _PA_DAC: 0x84,
}  # fmt: skip
_RESET_FSK = {0x0D: 0x1E, 0x10: 0xFF, 0x12: 0x15, 0x13: 0x0B, _IMAGE: 0x82}
_PAGED = range(0x0D, 0x40)
_READ_ONLY = {_RX_START, *range(_RX_BYTES, _CONFIG_1), 0x25, *range(_ERROR, _ERROR + 3), _VERSION}
_BANDWIDTHS = sorted(BANDWIDTHS_HZ.values())
#: Erratum 2.3: RegIfFreq2 by bandwidth code, and how much lower than tuned it then listens.
_IF_OF = {0: (0x48, 7810), 1: (0x44, 10420), 2: (0x44, 15620), 3: (0x44, 20830), 4: (0x44, 31250), 5: (0x44, 41670)}
_RAMPS_US = (3400, 2000, 1000, 500, 250, 125, 100, 62, 50, 40, 31, 25, 20, 15, 12, 10)
# Table 7: crystal, synthesizer; 4.2: receiver. 7.2: power-on and reset. 2.1.3.8 names no time for the calibration.
_WAKE_S, _FS_S, _RX_S, _TX_S = 250e-6, 60e-6, 71e-6, 5e-6
_POWER_ON_S, _RESET_S, _CALIBRATION_S = 0.010, 0.005, 0.010
_HIGH_BAND_HZ, _LOW_BAND_HZ = 862e6, 525e6
_FOUND_DB = 10.0
_KEPT = 64


class SX1276:
    """One radio at `station` of `ether`; its crystal is `ppm` off."""

    def __init__(self, seed: int, ether: Ether, station: Station, ppm: float = 0.0) -> None:
        self.faults: dict[str, float] = {}
        self.ignored = 0  # what it could not do as it was, each a mistake of the driver's
        self.sent: list[Transmission] = []  # the last ones
        self._seed = seed
        self.ether = ether
        self.station = ether.add(station)
        self.ppm = ppm
        self._octets = 0
        self._jammer = Jammer(ether, station)
        self._transmission: Transmission | None = None
        self._nss = self._nreset = 1
        station.advance = self.advance
        self.power_on(0.0)

    @property
    def is_asleep(self) -> bool:
        return self._mode == SLEEP

    # -- pins and supply --------------------------------------------------------------------------------------------

    def power_on(self, now_s: float) -> None:
        """The supply comes on, or comes back after it sagged: everything is as after reset."""
        self._stop_sending(now_s)
        self._start(now_s, _POWER_ON_S)

    def _start(self, now_s: float, boot_s: float) -> None:
        self.registers, self._fsk = bytearray(0x80), bytearray(0x80)
        for registers, values in ((self.registers, _RESET), (self._fsk, _RESET_FSK)):
            for address, value in values.items():
                registers[address] = value
        self.fifo = bytearray(256)
        self._is_lora = False
        self._mode = STANDBY
        self._deaf_until_s = now_s + boot_s
        self._is_expected_deaf = boot_s == _RESET_S  # whoever asked for it has to wait
        self._calibrated_until_s = 0.0
        self._is_calibrated_high = False  # what is calibrated at power-up is 434 MHz
        self._at = -1  # octets into a transaction: none
        self._address = 0
        self._is_write = False
        self._rx_next = 0
        self._since_s = math.inf
        self._timer_s: float | None = None
        self._locked: Transmission | None = None
        self._header_seen = False

    def reset(self, level: int, now_s: float) -> None:
        """The pin NRESET."""
        self.advance(now_s)
        if level != self._nreset:
            self._stop_sending(now_s)
            self._start(now_s, _RESET_S)
        self._nreset = level

    def select(self, level: int, now_s: float) -> None:
        """The pin NSS: a falling edge begins a transaction."""
        self.advance(now_s)
        if level != self._nss:
            self._nss = level
            self._at = -1

    def dio0(self, now_s: float) -> int:
        """RxDone, TxDone or CadDone (table 18)."""
        self.advance(now_s)
        return 0 if "dio0_broken" in self.faults else self._told((_RX_DONE, _TX_DONE, _CAD_DONE, 0), 6)

    def dio1(self, now_s: float) -> int:
        """RxTimeout or CadDetected (table 18); the hopping that the second code tells is not modelled."""
        self.advance(now_s)
        return self._told((_RX_TIMEOUT, 0, _CAD_FOUND, 0), 4)

    def _told(self, flags: tuple[int, ...], shift: int) -> int:
        if "unplugged" in self.faults or not self._is_lora:
            return 0
        return int(bool(self.registers[_FLAGS] & flags[self.registers[_DIO_MAPPING] >> shift & 3]))

    def transfer(self, written: bytes, now_s: float) -> bytes:
        """Octets on MOSI to octets on MISO; high impedance with a pull-up while not selected."""
        self.advance(now_s)
        if "unplugged" in self.faults:
            return bytes((int(self.faults["unplugged"]) & 0xFF,)) * len(written)
        if self._nss or not self._nreset:
            return b"\xff" * len(written)
        answer = bytearray()
        for octet in written:
            self._octets += 1
            answer.append(noisy(self._clock(octet, now_s), self._seed, self._octets, self.faults.get("noisy_spi")))
        return bytes(answer)

    # -- SPI --------------------------------------------------------------------------------------------------------

    def _clock(self, octet: int, now_s: float) -> int:
        self._at += 1
        if self._at == 0:
            self._is_write, self._address = bool(octet & 0x80), octet & 0x7F
            return 0
        if now_s < self._deaf_until_s:
            self.ignored += self._is_expected_deaf
            return 0
        address = self._address
        if address != _FIFO:
            self._address = (address + 1) & 0x7F
        value = self._value(address, now_s)
        if self._is_write:
            self._take(address, octet, now_s)
        elif address == _FIFO:
            self._advance_pointer()
        return value

    def _value(self, address: int, now_s: float) -> int:
        """What a register reads."""
        if address == _FIFO:
            if self._mode == SLEEP:
                self.ignored += 1
                return 0
            return self.fifo[self.registers[_POINTER]]
        if address == _OP_MODE:
            return _LORA * self._is_lora | self._mode
        if not self._is_lora and address in _PAGED:
            is_running = address == _IMAGE and (now_s < self._calibrated_until_s or "image_stuck" in self.faults)
            return self._fsk[address] | (0x20 if is_running else 0)
        if address == _RSSI_NOW:
            return self._rssi_octet(self._receiver().level_dbm(now_s)) if self._mode in (RX, RX_SINGLE) else 0
        return self.registers[address]

    def _take(self, address: int, value: int, now_s: float) -> None:
        """What a write does."""
        if address == _FIFO:
            if self._mode == SLEEP:
                self.ignored += 1
                return
            self.fifo[self.registers[_POINTER]] = value
            self._advance_pointer()
        elif address == _OP_MODE:
            self._change_mode(value, now_s)
        elif not self._is_lora and address in _PAGED:
            self._take_fsk(address, value, now_s)
        elif address == _FLAGS:
            self.registers[_FLAGS] &= ~value
        elif _FRF <= address < _FRF + 3 and self._mode not in (SLEEP, STANDBY):
            self.ignored += 1
        elif address not in _READ_ONLY:
            self.registers[address] = value
            if address == _WIDE_1 and value & 1:
                self.registers[_WIDE_2] = 0x65  # erratum 2.1: the chip's own value comes back

    def _take_fsk(self, address: int, value: int, now_s: float) -> None:
        if address == _IMAGE and value & 0x40:
            if self._mode != STANDBY:
                self.ignored += 1
                return
            self._calibrated_until_s = now_s + _CALIBRATION_S
            self._is_calibrated_high = self._frequency_hz() >= _HIGH_BAND_HZ
            value &= ~0x40
        self._fsk[address] = value & ~0x20 if address == _IMAGE else value

    def _advance_pointer(self) -> None:
        if self._mode != SLEEP:
            self.registers[_POINTER] = (self.registers[_POINTER] + 1) & 0xFF

    # -- settings ---------------------------------------------------------------------------------------------------

    def _frequency_hz(self) -> float:
        return int.from_bytes(self.registers[_FRF : _FRF + 3], "big") * 32e6 / (1 << 19)

    def _modem(self) -> Modem:
        r = self.registers
        sync = r[_SYNC]
        return Modem(
            self._frequency_hz(), r[_CONFIG_2] >> 4, _BANDWIDTHS[min(r[_CONFIG_1] >> 4, 9)], r[_CONFIG_1] >> 1 & 7, bool(r[_CONFIG_3] & 8),
            r[_PREAMBLE] << 8 | r[_PREAMBLE + 1], not r[_CONFIG_1] & 1, r[_LENGTH], bool(r[_CONFIG_2] & 4), False,
            bytes((sync & 0xF0 | 4, (sync & 0x0F) << 4 | 4)),
        )  # fmt: skip

    def _is_usable(self) -> bool:
        """Whether the modem's registers hold something that is modelled, and that there is."""
        r = self.registers
        return 7 <= r[_CONFIG_2] >> 4 <= 12 and r[_CONFIG_1] >> 4 <= 9 and 1 <= (r[_CONFIG_1] >> 1 & 7) <= 4 and not r[_CONFIG_1] & 1

    def _receiver(self) -> Receiver:
        r, modem = self.registers, self._modem()
        modem.is_iq_inverted = bool(r[_IQ] & 0x40)
        code = r[_CONFIG_1] >> 4
        loss_db = self.faults.get("antenna", 0.0)
        loss_db += _FOUND_DB * (r[_IQ_2] != (0x19 if modem.is_iq_inverted else 0x1D))
        is_high, is_low = modem.frequency_hz >= _HIGH_BAND_HZ, 410e6 <= modem.frequency_hz <= _LOW_BAND_HZ
        loss_db += _FOUND_DB * (is_high != self._is_calibrated_high)
        wide = (0x02, 0x64 if is_high else 0x7F) if code == 9 and (is_high or is_low) else (0x03, 0x65)
        loss_db += _FOUND_DB * ((r[_WIDE_1], r[_WIDE_2]) != wide)
        loss_db += _FOUND_DB * (bool(r[_DETECT] & 0x80) != (code == 9))
        if r[_DETECT] & 7 != 3 or r[_THRESHOLD] != 0x0A or not self._is_usable():
            loss_db += 300.0
        if code in _IF_OF and r[_IF] == _IF_OF[code][0]:
            modem.frequency_hz -= _IF_OF[code][1]
        return Receiver(self.ether, self.station, modem, self.ppm, loss_db)

    def _radiated_dbm(self) -> float:
        value = self.registers[_PA_CONFIG]
        if not value & 0x80:
            return -60.0
        return (20 if self.registers[_PA_DAC] & 7 == 7 else 17) - (15 - (value & 0x0F)) - self.faults.get("antenna", 0.0)

    def _offset_dbm(self) -> int:
        return -157 if self._frequency_hz() >= _HIGH_BAND_HZ else -164

    def _rssi_octet(self, level_dbm: float) -> int:
        return min(255, max(0, round(level_dbm - self._offset_dbm())))

    # -- modes ------------------------------------------------------------------------------------------------------

    def _stop_sending(self, now_s: float) -> None:
        transmission, self._transmission = self._transmission, None
        if transmission is not None:
            self.ether.cut(transmission, now_s)

    def _change_mode(self, value: int, now_s: float) -> None:
        if bool(value & _LORA) != self._is_lora:
            if self._mode == SLEEP:
                self._is_lora = bool(value & _LORA)
            else:
                self.ignored += 1
        mode = value & 7
        if not self._is_lora:
            self._mode = mode if mode in (SLEEP, STANDBY) else self._mode
            return
        ready_s = now_s + (_WAKE_S if self._mode == SLEEP and mode != SLEEP else 0.0)
        self._stop_sending(now_s)
        self._locked = self._timer_s = None
        self._mode = mode
        if mode == SLEEP:
            self.fifo = bytearray(256)
        elif mode == TX:
            self._send(ready_s, now_s)
        elif mode in (RX, RX_SINGLE, CAD):
            self._listen(mode, ready_s)

    def _send(self, ready_s: float, now_s: float) -> None:
        if not self._is_usable():
            self._mode = STANDBY
            self.ignored += 1
            return
        start_s = ready_s + _FS_S + _TX_S + 1.25e-6 * _RAMPS_US[self.registers[_PA_RAMP] & 0x0F]
        modem = self._modem()
        modem.is_iq_inverted = not self.registers[_IQ] & 1
        packet = bytes(self.fifo[(self.registers[_TX_BASE] + i) & 0xFF] for i in range(modem.packet_bytes))
        self._transmission = modem.transmission(self.station, packet, self._radiated_dbm(), self.ppm, start_s)
        self.sent = [*self.sent[-_KEPT:], self._transmission]
        self.ether.begin(self._transmission, now_s)

    def _listen(self, mode: int, ready_s: float) -> None:
        self._rx_next = self.registers[_RX_BASE]
        self._since_s = ready_s + _FS_S + _RX_S
        symbol_s = float(self._modem().symbol())
        if mode == RX_SINGLE:
            symbols = (self.registers[_CONFIG_2] & 3) << 8 | self.registers[_SYMBOLS]
            self._timer_s = self._since_s + symbols * symbol_s
        elif mode == CAD:  # 4.1.6: listening for a symbol and 32 chips, then the correlator's work
            self._timer_s = self._since_s + symbol_s + 32 / float(self._modem().bandwidth)

    # -- what happens by itself -------------------------------------------------------------------------------------

    def advance(self, now_s: float) -> None:
        """Everything up to now. Time never runs backwards."""
        if "brown_out" in self.faults:
            del self.faults["brown_out"]
            self.power_on(now_s)
        self._jammer.set(self.faults.get("jammed"), self._frequency_hz(), now_s)
        while self._step(now_s):
            pass

    def _step(self, now_s: float) -> bool:
        """One event that is due, the earliest; False when there is none."""
        if self._mode == TX:
            return self._step_tx(now_s)
        if self._mode == CAD:
            return self._step_cad(now_s)
        return self._mode in (RX, RX_SINGLE) and self._step_rx(now_s)

    def _step_tx(self, now_s: float) -> bool:
        transmission = self._transmission
        if transmission is None or now_s < transmission.due_s:
            return False
        self._transmission = None
        self._end(_TX_DONE)
        return True

    def _step_cad(self, now_s: float) -> bool:
        if self._timer_s is None or now_s < self._timer_s + float(self._modem().symbol()):
            return False
        is_found = self._receiver().has_activity(self._since_s, self._timer_s, is_preamble=True)
        self._end(_CAD_DONE | (_CAD_FOUND if is_found else 0))
        return True

    def _step_rx(self, now_s: float) -> bool:
        receiver = self._receiver()
        sent = self._locked
        if sent is None:
            # A preamble counts when it is found; the model locks with the sync word behind it.
            late_s = 4.25 * float(receiver.modem.symbol())
            self._locked = receiver.lock(self._since_s, now_s if self._timer_s is None else min(now_s, self._timer_s + late_s))
            if self._locked is not None:
                self._timer_s = None
                self._header_seen = False
                return True
            if self._timer_s is not None and now_s >= self._timer_s + late_s:
                self._end(_RX_TIMEOUT)
                return True
            return False
        if now_s < (sent.due_s if self._header_seen else sent.header_s):
            return False
        if self._header_seen:
            self._finish(receiver, sent)
        elif sent.has_header and receiver.hears(sent, sent.sync_s, sent.header_s) and "header_error" not in self.faults:
            self._header_seen = True
            self._raise(_HEADER)
        else:  # it says nothing about a broken header
            self._locked = None
            self._since_s = sent.header_s
        return True

    def _finish(self, receiver: Receiver, sent: Transmission) -> None:
        r = self.registers
        is_whole = receiver.hears(sent, sent.header_s, sent.due_s) and sent.has_low_data_rate == receiver.modem.has_low_data_rate
        packet = sent.packet
        if not is_whole or "crc_error" in self.faults or "crc_unseen" in self.faults:
            packet = spoilt(packet, self._seed, sent)
            is_whole = False
        start = self._rx_next
        for index, octet in enumerate(packet):
            self.fifo[(start + index) & 0xFF] = octet
        self._rx_next = (start + len(packet)) & 0xFF
        rssi_dbm, snr_db, signal_dbm = receiver.figures(sent)
        r[_RX_START], r[_RX_BYTES], r[_SNR] = start, len(packet), round(4 * snr_db) & 0xFF
        # 5.5.5, from the other end: above the noise a sixteenth is missing, below it the register is about the noise alone.
        r[_RSSI] = round((rssi_dbm - self._offset_dbm()) * 15 / 16) if snr_db >= 0 else self._rssi_octet(signal_dbm - snr_db)
        r[_HOP] = 0x40 if sent.has_crc else 0
        step_hz = (1 << 24) / 32e6 * sent.bandwidth_hz / 500e3
        r[_ERROR : _ERROR + 3] = (round(-receiver.offset_hz(sent) / step_hz) & 0xFFFFF).to_bytes(3, "big")
        self._locked = None
        flags = _RX_DONE | (_CRC_ERROR if sent.has_crc and not is_whole and "crc_unseen" not in self.faults else 0)
        if self._mode == RX_SINGLE:
            self._end(flags)
        else:
            self._since_s = sent.due_s
            self._raise(flags)

    def _raise(self, flags: int) -> None:
        self.registers[_FLAGS] |= flags & ~self.registers[_MASK]

    def _end(self, flags: int) -> None:
        """Back to standby by itself."""
        self._mode = STANDBY
        self._locked = self._timer_s = None
        self._raise(flags)
