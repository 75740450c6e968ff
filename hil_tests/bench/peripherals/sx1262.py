"""SX1262 LoRa radio at the level of its SPI octets and pins.

Ref: Semtech SX1261/2 data sheet rev. 2.1: sections 8.3 (BUSY), 9 (modes), 10.3 (status), 11 and 13 (commands), 12.1 (registers),
15 (known limitations). The status octet comes with every octet after the opcode and speaks of what was before that command; the octet
under the opcode is undefined, zero here. A command acts at the rising edge of NSS; what is clocked while BUSY is high is lost and counted.
What the datasheet's chapter 15 warns of costs something, in figures of our choice, so that a driver that leaves it out is found:
15.1 and 15.4 wrong, 10 dB; 15.2 left out, 5 dB. 15.3 (a timer that runs on after an implicit-header packet) is not modelled.
The frequency error (0x076B) is as other drivers found it.
Only LoRa: (G)FSK can be set and does nothing. Not modelled: duty-cycled reception, continuous wave, DIO2 and DIO3 as interrupts,
temperature, the RC oscillators' errors. After a header error it stays in RX with the timer stopped; the datasheet does not say.

Faults: unplugged (value: MISO, 255 unless given), busy_stuck, dio1_broken, tcxo_dead, crc_error, crc_unseen (a damaged packet is reported
as good), header_error, antenna (dB of loss, both ways), noisy_spi (value: one octet in so many has a bit turned over), jammed (dBm on
its channel at its antenna), brown_out (once, when set), timeout_deaf (the first command after a timeout is lost: users of some chips
say so).
"""

import math
from collections.abc import Callable

from .ether import Ether, Station, Transmission
from .lora_modem import Jammer, Receiver, noisy, spoilt
from .street import uniform
from .sx1262_setup import CAD, DATA, FAILED, FS, OK, RC, REFUSED, RTC_S, RX, SENT, SLEEP, TIMED_OUT, TX, XOSC, Setup

_TX_DONE, _RX_DONE, _PREAMBLE, _HEADER, _HEADER_ERROR, _CRC_ERROR, _CAD_DONE, _CAD_FOUND, _TIMEOUT = (
    1 << bit for bit in (0, 1, 2, 4, 5, 6, 7, 8, 9)
)  # fmt: skip
_XOSC_START_ERROR = 0x20
# Start-up from reset or cold start, warm start, calibration, mode changes. Ref: tables 8-2 and 8-3, section 13.1.12.
_COLD_S, _WARM_S, _CALIBRATION_S, _BLOCK_S = 0.0035, 0.00034, 0.0035, 0.0006
_SWITCH_S = {XOSC: 31e-6, FS: 50e-6, RX: 83e-6, TX: 126e-6, CAD: 83e-6}
_COMMAND_S = 1e-6
_KEPT = 64
#: Opcode: octets of parameters, least and most. Reads: opcode: octets of parameters before the answer.
_WRITES = {
    0x84: (1, 1), 0x80: (1, 1), 0xC1: (0, 0), 0x83: (3, 3), 0x82: (3, 3), 0x9F: (1, 1), 0xC5: (0, 0), 0x96: (1, 1), 0x89: (1, 1),
    0x98: (2, 2), 0x95: (4, 4), 0x93: (1, 1), 0x0D: (3, 258), 0x0E: (2, 257), 0x08: (8, 8), 0x02: (2, 2), 0x9D: (1, 1), 0x97: (4, 4),
    0x86: (4, 4), 0x8A: (1, 1), 0x8E: (2, 2), 0x8B: (4, 8), 0x8C: (6, 9), 0x88: (7, 7), 0x8F: (2, 2), 0xA0: (1, 1), 0x00: (0, 6),
    0x07: (2, 2),
}  # fmt: skip
_READS = {0x1D: 3, 0x1E: 2, 0x12: 1, 0x11: 1, 0xC0: 0, 0x13: 1, 0x14: 1, 0x15: 1, 0x10: 1, 0x17: 1}


class SX1262:
    """One radio at `station` of `ether`. `tcxo_start_s`: how long its TCXO takes, None where a crystal is fitted."""

    def __init__(self, seed: int, ether: Ether, station: Station, ppm: float = 0.0, tcxo_start_s: float | None = 0.003) -> None:
        self.faults: dict[str, float] = {}
        self.ignored = 0  # transactions while BUSY, each a mistake of the driver's
        self.sent: list[Transmission] = []  # the last ones
        self._seed = seed
        self.ether = ether
        self.station = ether.add(station)
        self.ppm = ppm
        self._tcxo_start_s = tcxo_start_s
        self._octets = 0
        self.mode_s: dict[int, float] = {}
        """Seconds spent in each mode that was left."""
        self._mode, self._mode_since_s = RC, 0.0
        self._jammer = Jammer(ether, station)
        self._transmission: Transmission | None = None
        self._nss = self._nreset = 1
        station.advance = self.advance
        self._acts: dict[int, Callable[[bytes, float], None]] = {
            0x84: self._sleep, 0x80: self._standby, 0xC1: self._fs, 0x83: self._set_tx, 0x82: self._set_rx, 0xC5: self._cad,
            0x96: self._in_rc, 0x89: self._calibrate, 0x98: self._calibrate_image, 0x02: self._clear, 0x00: self._reset_stats,
            0x07: self._clear_errors,
        }  # fmt: skip
        self.power_on(0.0)

    @property
    def is_asleep(self) -> bool:
        return self._mode == SLEEP

    # -- pins and supply --------------------------------------------------------------------------------------------

    def power_on(self, now_s: float) -> None:
        """The supply comes on, or comes back after it sagged: everything is as after reset."""
        self._stop_sending(now_s)
        self._start(now_s, _COLD_S)

    def _start(self, now_s: float, start_s: float) -> None:
        self.setup = Setup()
        self._change(RC, now_s)
        self._status = OK
        self._irq = self._errors = 0
        self._rx_status = (0, 0)
        self._rx_next = 0
        self._packet_status = (0, 0, 0)
        self._stats = [0, 0, 0]
        self._sleeps_warm = False
        self._timer_s: float | None = None
        self._locked: Transmission | None = None
        self._header_seen = False
        self._is_continuous = False
        self._rx_since_s = self._cad_since_s = math.inf
        self._command = bytearray()
        self._is_lost = self._is_deaf = False
        self._busy_until_s = now_s + start_s
        if self._tcxo_start_s is not None:  # the calibration at start-up finds no clock, for nobody has powered the TCXO yet
            self._errors, self._status = _XOSC_START_ERROR, FAILED

    def reset(self, level: int, now_s: float) -> None:
        """The pin NRESET."""
        self.advance(now_s)
        if level != self._nreset:
            self.power_on(now_s)
        self._nreset = level

    def select(self, level: int, now_s: float) -> None:
        """The pin NSS: a falling edge begins a transaction and wakes the chip, a rising edge lets the command act."""
        self.advance(now_s)
        if level == self._nss:
            return
        self._nss = level
        if not level:
            self._is_lost = self._is_busy(now_s) and self._mode != SLEEP
            self._is_deaf = "timeout_deaf" in self.faults and self._status == TIMED_OUT
            if self._mode == SLEEP:
                self._wake(now_s)
                self._is_lost = True
            self._command.clear()
        elif self._command and "unplugged" not in self.faults:
            if self._is_deaf:
                self._status = OK
            elif self._is_lost:
                self.ignored += 1
            else:
                self._execute(bytes(self._command), now_s)

    def busy(self, now_s: float) -> int:
        self.advance(now_s)
        if "busy_stuck" in self.faults:
            return 1
        return 0 if "unplugged" in self.faults else int(self._mode == SLEEP or self._is_busy(now_s))

    def dio1(self, now_s: float) -> int:
        self.advance(now_s)
        if "dio1_broken" in self.faults or "unplugged" in self.faults:
            return 0
        return int(bool(self._irq & self.setup.dio1_mask))

    def transfer(self, written: bytes, now_s: float) -> bytes:
        """Octets on MOSI to octets on MISO; high impedance with a pull-up while not selected."""
        self.advance(now_s)
        if "unplugged" in self.faults:
            return bytes((int(self.faults["unplugged"]) & 0xFF,)) * len(written)
        if self._nss or not self._nreset:
            return b"\xff" * len(written)
        return bytes(self._noisy(self._clock(octet, now_s)) for octet in written)

    def _noisy(self, octet: int) -> int:
        self._octets += 1
        return noisy(octet, self._seed, self._octets, self.faults.get("noisy_spi"))

    def _is_busy(self, now_s: float) -> bool:
        return not self._nreset or now_s < self._busy_until_s

    def _work(self, now_s: float, duration_s: float = _COMMAND_S) -> None:
        self._busy_until_s = max(self._busy_until_s, now_s + duration_s)

    # -- SPI --------------------------------------------------------------------------------------------------------

    def _clock(self, octet: int, now_s: float) -> int:
        at = len(self._command)
        if at < 300:
            self._command.append(octet)
        if at == 0 or self._is_lost:
            return 0
        head = _READS.get(self._command[0])
        if head is None or at <= head:
            return self._status_octet()
        if self._is_deaf:
            return 0
        return self._answer(self._command[0], at - head - 1, now_s)

    def _status_octet(self) -> int:
        return (RX if self._mode == CAD else self._mode) << 4 | self._status << 1

    def _answer(self, opcode: int, index: int, now_s: float) -> int:
        if opcode == 0xC0:
            return self._status_octet()
        if opcode == 0x1D:
            return self._register(int.from_bytes(self._command[1:3], "big") + index)
        if opcode == 0x1E:
            return self.setup.buffer[(self._command[1] + index) & 0xFF]
        answers: dict[int, Callable[[], bytes]] = {
            0x12: lambda: self._irq.to_bytes(2, "big"),
            0x11: lambda: bytes((int(self.setup.is_lora),)),
            0x13: lambda: bytes(self._rx_status),
            0x14: lambda: bytes(self._packet_status),
            0x15: lambda: bytes((self._rssi_octet(now_s),)),
            0x10: lambda: b"".join(count.to_bytes(2, "big") for count in self._stats),
            0x17: lambda: self._errors.to_bytes(2, "big"),
        }
        answer = answers[opcode]()
        return answer[index] if index < len(answer) else self._status_octet()

    def _register(self, address: int) -> int:
        if 0x0819 <= address <= 0x081C:
            return int(256 * uniform(self._seed, 72, self._octets))
        return self.setup.register(address)

    def _rssi_octet(self, now_s: float) -> int:
        return _rssi(self._receiver().level_dbm(now_s)) if self._mode == RX else 0

    def _execute(self, command: bytes, now_s: float) -> None:
        opcode, parameters = command[0], command[1:]
        if opcode in _READS:
            if opcode != 0xC0:  # GetStatus leaves the status alone
                self._status = OK
            self._work(now_s)
            return
        least, most = _WRITES.get(opcode, (1, 0))
        self._work(now_s)
        if not least <= len(parameters) <= most:
            self._status = REFUSED
            return
        if opcode == 0x8A and self._mode not in (RC, XOSC):
            self._status = FAILED
            return
        self._status = self.setup.take(opcode, parameters) or OK
        if opcode in self._acts:
            self._acts[opcode](parameters, now_s)

    # -- modes ------------------------------------------------------------------------------------------------------

    def _wake(self, now_s: float) -> None:
        if self._sleeps_warm:
            self._change(RC, now_s)
            self._work(now_s, _WARM_S)
        else:
            self._start(now_s, _COLD_S)

    def _stop_sending(self, now_s: float) -> None:
        transmission, self._transmission = self._transmission, None
        if transmission is not None:
            self.ether.cut(transmission, now_s)

    def _enter(self, mode: int, now_s: float) -> bool:
        """Leave what it did for another mode; False where the oscillator would not start."""
        self._stop_sending(now_s)
        self._timer_s = None
        self._locked = None
        self._work(now_s, _SWITCH_S.get(mode, _COMMAND_S))
        if mode != RC and self._mode == RC and not self._start_clock(now_s):
            return False
        self._change(mode, now_s)
        return True

    def _change(self, mode: int, at_s: float) -> None:
        """To another mode, whose time is counted from then."""
        self.mode_s[self._mode] = self.mode_s.get(self._mode, 0.0) + max(0.0, at_s - self._mode_since_s)
        self._mode, self._mode_since_s = mode, at_s

    def _start_clock(self, now_s: float) -> bool:
        """Wait for the TCXO as long as SetDIO3AsTcxoCtrl said; False, with its error, where that was too short or it has no supply."""
        if self._tcxo_start_s is None:
            return True
        wait_s = self.setup.tcxo_wait_s
        self._work(now_s, self._busy_until_s - now_s + (wait_s or 0.0))
        if wait_s is None or wait_s < self._tcxo_start_s or "tcxo_dead" in self.faults:
            self._errors |= _XOSC_START_ERROR
            self._status = FAILED
            return False
        return True

    def _sleep(self, parameters: bytes, now_s: float) -> None:
        if self._mode not in (RC, XOSC):
            self._status = FAILED
            return
        self._change(SLEEP, now_s)
        self._sleeps_warm = bool(parameters[0] & 4)

    def _standby(self, parameters: bytes, now_s: float) -> None:
        if parameters[0] > 1:
            self._status = REFUSED
        elif self._enter(XOSC if parameters[0] else RC, now_s) and self._errors & _XOSC_START_ERROR:
            self._status = FAILED  # although it was done: seen with a TCXO that has no supply yet

    def _fs(self, parameters: bytes, now_s: float) -> None:
        self._enter(FS, now_s)

    def _set_tx(self, parameters: bytes, now_s: float) -> None:
        if not self.setup.is_lora:
            self._status = FAILED
            return
        if not self._enter(TX, now_s):
            return
        start_s = self._busy_until_s
        modem = self.setup.modem()
        packet = bytes(self.setup.buffer[(self.setup.tx_base + i) & 0xFF] for i in range(modem.packet_bytes))
        power_dbm = self.setup.radiated_dbm() - self.faults.get("antenna", 0.0)
        self._transmission = modem.transmission(self.station, packet, power_dbm, self.ppm, start_s)
        self._timer_s = start_s + int.from_bytes(parameters, "big") * RTC_S if any(parameters) else None
        self.sent = [*self.sent[-_KEPT:], self._transmission]
        self.ether.begin(self._transmission, now_s)

    def _set_rx(self, parameters: bytes, now_s: float) -> None:
        if not self.setup.is_lora:
            self._status = FAILED
            return
        self._listen(int.from_bytes(parameters, "big"), now_s)

    def _listen(self, steps: int, now_s: float) -> None:
        if not self._enter(RX, now_s):
            return
        self._is_continuous = steps == 0xFFFFFF
        self._rx_next = self.setup.rx_base
        self._rx_since_s = self._busy_until_s
        self._timer_s = self._rx_since_s + steps * RTC_S if 0 < steps < 0xFFFFFF else None
        self._header_seen = False

    def _receiver(self) -> Receiver:
        loss_db = self.setup.polarity_loss_db() + self.faults.get("antenna", 0.0)
        return Receiver(self.ether, self.station, self.setup.modem(), self.ppm, loss_db)

    def _cad(self, parameters: bytes, now_s: float) -> None:
        if not self.setup.is_lora:
            self._status = FAILED
        elif self._enter(CAD, now_s):
            self._cad_since_s = self._busy_until_s
            self._timer_s = self._cad_since_s + (self.setup.cad[0] + 0.5) * float(self.setup.modem().symbol())

    # -- what happens by itself -------------------------------------------------------------------------------------

    def advance(self, now_s: float) -> None:
        """Everything up to now. Time never runs backwards."""
        if "brown_out" in self.faults:
            del self.faults["brown_out"]
            self.power_on(now_s)
        self._jammer.set(self.faults.get("jammed"), self.setup.modem().frequency_hz, now_s)
        while self._step(now_s):
            pass

    def _step(self, now_s: float) -> bool:
        """One event that is due, the earliest; False when there is none."""
        if self._mode == TX:
            return self._step_tx(now_s)
        if self._mode == CAD:
            return self._step_cad(now_s)
        return self._mode == RX and self._step_rx(now_s)

    def _step_tx(self, now_s: float) -> bool:
        transmission = self._transmission
        if transmission is None:
            return False
        if self._timer_s is not None and self._timer_s < transmission.due_s:
            if now_s < self._timer_s:
                return False
            self._end(self._timer_s, _TIMEOUT, TIMED_OUT)
            return True
        if now_s < transmission.due_s:
            return False
        self._transmission = None
        self._end(transmission.due_s, _TX_DONE, SENT)
        return True

    def _step_cad(self, now_s: float) -> bool:
        if self._timer_s is None or now_s < self._timer_s:
            return False
        end_s = self._timer_s
        is_found = self._receiver().has_activity(self._cad_since_s, end_s)
        _, exit_mode, timeout_s = self.setup.cad
        self._end(end_s, _CAD_DONE | (_CAD_FOUND if is_found else 0), OK)
        if is_found and exit_mode == 1:
            self._listen(max(1, round(timeout_s / RTC_S)), end_s)
        return True

    def _step_rx(self, now_s: float) -> bool:
        receiver = self._receiver()
        sent = self._locked
        if sent is None:
            horizon_s = now_s if self._timer_s is None else min(now_s, self._timer_s)
            self._locked = receiver.lock(self._rx_since_s, horizon_s)
            if self._locked is not None:
                self._header_seen = False
                self._raise(_PREAMBLE)
                if self.setup.stops_on_preamble:
                    self._timer_s = None
                return True
        header_due_s = sent.header_s if sent is not None and not self._header_seen else math.inf
        if self._timer_s is not None and self._timer_s <= min(now_s, header_due_s):
            self._end(self._timer_s, _TIMEOUT, TIMED_OUT)
            return True
        if sent is None or now_s < min(header_due_s, sent.due_s):
            return False
        if self._header_seen:
            self._finish(receiver, sent)
        else:
            self._take_header(receiver, sent)
        return True

    def _take_header(self, receiver: Receiver, sent: Transmission) -> None:
        self._timer_s = None
        self._header_seen = True
        if not self.setup.modem().has_header:
            return
        if sent.has_header and receiver.hears(sent, sent.sync_s, sent.header_s) and "header_error" not in self.faults:
            self._raise(_HEADER)
            return
        self._stats[2] += 1
        self._raise(_HEADER_ERROR)
        self._locked = None
        self._rx_since_s = sent.header_s

    def _finish(self, receiver: Receiver, sent: Transmission) -> None:
        is_whole = receiver.hears(sent, sent.header_s, sent.due_s) and sent.has_low_data_rate == receiver.modem.has_low_data_rate
        packet = bytes(sent.packet if self.setup.modem().has_header else sent.packet[: self.setup.modem().packet_bytes])
        if not is_whole or "crc_error" in self.faults or "crc_unseen" in self.faults:
            packet = spoilt(packet, self._seed, sent)
            is_whole = False
        has_crc = sent.has_crc if self.setup.modem().has_header else self.setup.modem().has_crc
        is_wrong = has_crc and not is_whole and "crc_unseen" not in self.faults
        start = self._rx_next
        for index, octet in enumerate(packet):
            self.setup.buffer[(start + index) & 0xFF] = octet
        self._rx_status = (len(packet), start)
        self._rx_next = (start + len(packet)) & 0xFF
        rssi_dbm, snr_db, signal_dbm = receiver.figures(sent)
        self._packet_status = (_rssi(rssi_dbm), round(4 * snr_db) & 0xFF, _rssi(signal_dbm))
        error = round(receiver.offset_hz(sent) * 1600 / 1.55 / (sent.bandwidth_hz / 1000)) & 0xFFFFF
        self.setup.registers[0x076B:0x076E] = (error | (0x100000 if has_crc else 0)).to_bytes(3, "big")
        self._stats[1 if is_wrong else 0] += 1
        self._locked = None
        flags = _RX_DONE | (_CRC_ERROR if is_wrong else 0)
        if self._is_continuous:
            self._rx_since_s = sent.due_s
            self._raise(flags)
            self._status = DATA
        else:
            self._end(sent.due_s, flags, DATA)

    def _raise(self, flags: int) -> None:
        self._irq |= flags & self.setup.irq_mask

    def _end(self, at_s: float, flags: int, status: int) -> None:
        """Back to standby (or what SetRxTxFallbackMode says) by itself."""
        self._stop_sending(at_s)
        self._timer_s = None
        self._locked = None
        self._change(RC if flags & (_CAD_DONE | _TIMEOUT) else self.setup.fall_back_mode, at_s)
        self._status = status
        self._raise(flags)

    # -- commands that are more than a setting ---------------------------------------------------------------------

    def _in_rc(self, parameters: bytes, now_s: float) -> None:
        if self._mode != RC:
            self._status = FAILED

    def _calibrate(self, parameters: bytes, now_s: float) -> None:
        if self._mode != RC:
            self._status = FAILED
            return
        self._errors &= ~0x1F
        is_all = parameters[0] & 0x7F == 0x7F
        self._work(now_s, _CALIBRATION_S if is_all else _BLOCK_S * bin(parameters[0]).count("1"))
        self._start_clock(now_s)

    def _calibrate_image(self, parameters: bytes, now_s: float) -> None:
        if parameters[0] >= parameters[1]:
            self._errors |= 0x10
            self._status = FAILED
            return
        self._calibrate(b"\x40", now_s)

    def _clear(self, parameters: bytes, now_s: float) -> None:
        self._irq &= ~int.from_bytes(parameters, "big")

    def _clear_errors(self, parameters: bytes, now_s: float) -> None:
        self._errors = 0

    def _reset_stats(self, parameters: bytes, now_s: float) -> None:
        if len(parameters) == 6:  # fewer: it was a NOP
            self._stats = [0, 0, 0]


def _rssi(level_dbm: float) -> int:
    """As an octet: half decibels below zero."""
    return min(255, max(0, round(-2 * level_dbm)))
