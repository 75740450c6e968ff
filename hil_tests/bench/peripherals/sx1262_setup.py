"""What the configuring commands of an SX1262 set: registers, buffer, modem, amplifier, interrupts. The chip that obeys them: sx1262.py.

Ref: Semtech SX1261/2 data sheet rev. 2.1, sections 12.1 and 13; reset values of registers that it does not list: as other drivers found.
"""

from collections.abc import Callable

from .lora_modem import BANDWIDTHS_HZ, Modem

RTC_S = 1 / 64000
SLEEP, RC, XOSC, FS, RX, TX, CAD = 1, 2, 3, 4, 5, 6, 7  # chip modes of the status octet (table 13-76); CAD reports itself as RX
OK, DATA, TIMED_OUT, REFUSED, FAILED, SENT = 1, 2, 3, 4, 5, 6  # command status
_DEFAULTS = {
    0x0736: 0x0D, 0x0740: 0x14, 0x0741: 0x24, 0x0889: 0x05, 0x08AC: 0x94, 0x08D8: 0xC8, 0x08E7: 0x18, 0x0911: 0x05, 0x0912: 0x05,
}  # fmt: skip
_CAD_SYMBOLS = (1, 2, 4, 8, 16)
_PA_MAXIMUM_DBM = {(0x04, 0x07): 22.0, (0x03, 0x05): 20.0, (0x02, 0x03): 17.0, (0x02, 0x02): 14.0}  # table 13-21


class Setup:
    """Everything that a reset forgets and a warm sleep keeps."""

    def __init__(self) -> None:
        self.registers = bytearray(4096)
        for address, value in _DEFAULTS.items():
            self.registers[address] = value
        self.buffer = bytearray(256)
        self.is_lora = False
        self.irq_mask = self.dio1_mask = 0
        self.tx_base = self.rx_base = 0
        self.fall_back_mode = RC
        self.cad = (2, 0, 0.0)  # symbols, exit mode, timeout in s
        self.tcxo_wait_s: float | None = None
        self.stops_on_preamble = False
        self._modem = Modem()
        self._pa = (0x00, 0x00)
        self._power_dbm = 0
        self._acts: dict[int, Callable[[bytes], int]] = {
            0x9F: self._stop_on_preamble, 0x95: self._pa_config, 0x93: self._fall_back, 0x0D: self._write_register,
            0x0E: self._write_buffer, 0x08: self._interrupts, 0x9D: self._flag, 0x97: self._tcxo, 0x86: self._frequency,
            0x8A: self._packet_type, 0x8E: self._tx_params, 0x8B: self._modulation, 0x8C: self._packet_params, 0x88: self._cad_params,
            0x8F: self._base, 0xA0: self._symbol_timeout,
        }  # fmt: skip

    def take(self, opcode: int, parameters: bytes) -> int | None:
        """Do a configuring command: its status, None where it is none of these."""
        act = self._acts.get(opcode)
        return None if act is None else act(parameters)

    def modem(self) -> Modem:
        """Modulation and packet parameters, with the sync word of the registers."""
        self._modem.sync_word = bytes(self.registers[0x0740:0x0742])
        return self._modem

    def radiated_dbm(self) -> float:
        """Power into a good antenna, less what errata 15.1 and 15.2 cost where they are not applied."""
        maximum_dbm = _PA_MAXIMUM_DBM.get(self._pa, 14.0)
        is_wide = self._modem.bandwidth == 500000
        modulation_db = 0 if bool(self.registers[0x0889] & 4) != is_wide else 10
        clamp_db = 0 if self.registers[0x08D8] & 0x1E == 0x1E else 5
        return maximum_dbm - 22 + self._power_dbm - modulation_db - clamp_db

    def polarity_loss_db(self) -> float:
        """What erratum 15.4 costs a receiver where it is not applied."""
        return 0.0 if bool(self.registers[0x0736] & 4) != self._modem.is_iq_inverted else 10.0

    def register(self, address: int) -> int:
        return self.registers[address & 0x0FFF]

    def _flag(self, parameters: bytes) -> int:
        return OK if parameters[0] <= 1 else REFUSED

    def _symbol_timeout(self, parameters: bytes) -> int:
        return FAILED if parameters[0] else OK  # the bench does not count symbols

    def _stop_on_preamble(self, parameters: bytes) -> int:
        self.stops_on_preamble = bool(parameters[0])
        return OK

    def _pa_config(self, parameters: bytes) -> int:
        if parameters[0] > 7 or parameters[1] > 7 or parameters[2] or parameters[3] != 1:
            return REFUSED
        self._pa = (parameters[0], parameters[1])
        self.registers[0x08E7] = 0x38
        return OK

    def _fall_back(self, parameters: bytes) -> int:
        mode = {0x20: RC, 0x30: XOSC, 0x40: FS}.get(parameters[0])
        if mode is None:
            return REFUSED
        self.fall_back_mode = mode
        return OK

    def _write_register(self, parameters: bytes) -> int:
        address = int.from_bytes(parameters[:2], "big")
        for index, octet in enumerate(parameters[2:]):
            self.registers[(address + index) & 0x0FFF] = octet
        return OK

    def _write_buffer(self, parameters: bytes) -> int:
        for index, octet in enumerate(parameters[1:]):
            self.buffer[(parameters[0] + index) & 0xFF] = octet
        return OK

    def _interrupts(self, parameters: bytes) -> int:
        self.irq_mask = int.from_bytes(parameters[0:2], "big")
        self.dio1_mask = int.from_bytes(parameters[2:4], "big")
        return OK

    def _tcxo(self, parameters: bytes) -> int:
        if parameters[0] > 7:
            return REFUSED
        self.tcxo_wait_s = int.from_bytes(parameters[1:], "big") * RTC_S
        return OK

    def _frequency(self, parameters: bytes) -> int:
        self._modem.frequency_hz = int.from_bytes(parameters, "big") * 32e6 / (1 << 25)
        return OK

    def _packet_type(self, parameters: bytes) -> int:
        if parameters[0] > 3:
            return REFUSED
        self.is_lora = parameters[0] == 1
        return OK

    def _tx_params(self, parameters: bytes) -> int:
        power_dbm = parameters[0] - 256 if parameters[0] & 0x80 else parameters[0]
        if not -9 <= power_dbm <= 22 or parameters[1] > 7:
            return REFUSED
        self._power_dbm = power_dbm
        return OK

    def _modulation(self, parameters: bytes) -> int:
        if not self.is_lora:
            return OK
        spreading_factor, bandwidth, coding_rate, low = parameters[:4]
        if not 5 <= spreading_factor <= 12 or bandwidth not in BANDWIDTHS_HZ or not 1 <= coding_rate <= 4 or low > 1:
            return REFUSED
        self._modem.spreading_factor, self._modem.coding_rate = spreading_factor, coding_rate
        self._modem.bandwidth, self._modem.has_low_data_rate = BANDWIDTHS_HZ[bandwidth], bool(low)
        return OK

    def _packet_params(self, parameters: bytes) -> int:
        if not self.is_lora:
            return OK
        preamble = int.from_bytes(parameters[:2], "big")
        if preamble == 0 or max(parameters[2], parameters[4], parameters[5]) > 1:
            return REFUSED
        self._modem.preamble_symbols = preamble
        self._modem.has_header, self._modem.packet_bytes = not parameters[2], parameters[3]
        self._modem.has_crc, self._modem.is_iq_inverted = bool(parameters[4]), bool(parameters[5])
        return OK

    def _cad_params(self, parameters: bytes) -> int:
        if parameters[0] > 4 or parameters[3] not in (0, 1):
            return REFUSED
        self.cad = (_CAD_SYMBOLS[parameters[0]], parameters[3], int.from_bytes(parameters[4:], "big") * RTC_S)
        return OK

    def _base(self, parameters: bytes) -> int:
        self.tx_base, self.rx_base = parameters
        return OK
