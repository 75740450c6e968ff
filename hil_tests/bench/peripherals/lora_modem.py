"""The LoRa modem inside a radio model: what it makes of the air. The chip around it (sx1262.py, sx1276.py) has commands, states and pins.

Time on air is the datasheet's formula in exact fractions (SX1261/2 rev. 2.1, section 6.1.4), from the modem's own parameters.
A receiver locks onto the first packet of its settings of which it heard the last `_LOCK_SYMBOLS` of the preamble and the sync word well
enough. It stays with that packet to its end, whatever else comes: a packet that a stronger one covers later is lost, and so is the other.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from .ether import LEAST_SNR_DB, Emission, Ether, Station, Transmission, noise_floor_dbm
from .street import uniform

#: By the code of SetModulationParams. Ref: datasheet rev. 2.1, table 13-48; 32 MHz over whole numbers.
BANDWIDTHS_HZ = {
    0x00: Fraction(15625, 2), 0x08: Fraction(500000, 48), 0x01: Fraction(15625), 0x09: Fraction(500000, 24), 0x02: Fraction(31250),
    0x0A: Fraction(500000, 12), 0x03: Fraction(62500), 0x04: Fraction(125000), 0x05: Fraction(250000), 0x06: Fraction(500000),
}  # fmt: skip
_LOCK_SYMBOLS = 4
_HEADER_SYMBOLS = 8
_MOST_SNR_DB = 12.0  # what real chips report of a loud packet


@dataclass
class Modem:
    """Modulation and packet parameters, as the last commands set them."""

    frequency_hz: float = 915e6
    spreading_factor: int = 7
    bandwidth: Fraction = Fraction(125000)
    coding_rate: int = 1
    has_low_data_rate: bool = False
    preamble_symbols: int = 8
    has_header: bool = True
    packet_bytes: int = 0
    has_crc: bool = True
    is_iq_inverted: bool = False
    sync_word: bytes = b"\x14\x24"

    def symbol(self) -> Fraction:
        return Fraction(2**self.spreading_factor) / self.bandwidth

    def air(self) -> tuple[Fraction, Fraction, Fraction]:
        """Seconds from the start to the end of sync word, header and packet."""
        sf, quarters = self.spreading_factor, 625 if self.spreading_factor < 7 else 425
        bits = 8 * self.packet_bytes + 16 * self.has_crc - 4 * sf + 20 * self.has_header + (8 if sf > 6 else 0)
        blocks = ceil(Fraction(max(bits, 0), 4 * (sf - 2 * self.has_low_data_rate)))
        sync = (self.preamble_symbols + Fraction(quarters, 100)) * self.symbol()
        header = sync + _HEADER_SYMBOLS * self.symbol()
        return sync, header, header + blocks * (self.coding_rate + 4) * self.symbol()

    def transmission(self, station: Station, packet: bytes, power_dbm: float, ppm: float, start_s: float) -> Transmission:
        sync, header, end = self.air()
        return Transmission(
            station, self.frequency_hz * (1 + ppm / 1e6), float(self.bandwidth), power_dbm, start_s, start_s + float(end),
            self.spreading_factor, self.coding_rate, self.has_header, self.has_crc, self.has_low_data_rate, self.is_iq_inverted,
            self.sync_word, float(self.symbol()), start_s + float(sync), start_s + float(header), start_s + float(end), packet,
        )  # fmt: skip


@dataclass
class Receiver:
    """One station's ear: settings of a modem, a crystal that is `ppm` off, and `loss_db` of bad antenna or settings."""

    ether: Ether
    station: Station
    modem: Modem
    ppm: float = 0.0
    loss_db: float = 0.0

    def lock(self, since_s: float, now_s: float) -> Transmission | None:
        """The packet that a receiver listening since `since_s` locked onto first, by now."""
        found = [
            each
            for each in self.ether.transmissions()
            if since_s < each.sync_s <= now_s and self._fits(each) and self._locks(each, since_s)
        ]
        return min(found, key=lambda each: each.sync_s, default=None)

    def hears(self, sent: Transmission, from_s: float, to_s: float) -> bool:
        """Whether this part of a packet arrives unspoilt."""
        return self._snr_db(sent, from_s, to_s) >= LEAST_SNR_DB[sent.spreading_factor]

    def has_activity(self, from_s: float, to_s: float, is_preamble: bool = False) -> bool:
        """Whether a signal of these settings is on the air for at least a symbol of this time, loud enough: CAD. Or only its preamble."""
        return any(
            min(to_s, each.sync_s if is_preamble else each.end_s) - max(from_s, each.start_s) >= each.symbol_s
            and self._is_tuned(each)
            and self._level_dbm(each) >= noise_floor_dbm(each.bandwidth_hz) + LEAST_SNR_DB[each.spreading_factor]
            for each in self.ether.transmissions()
            if each.station is not self.station
        )

    def offset_hz(self, sent: Emission) -> float:
        """By how much it is above the frequency on which this station listens."""
        return sent.frequency_hz - self.modem.frequency_hz * (1 + self.ppm / 1e6)

    def figures(self, sent: Transmission) -> tuple[float, float, float]:
        """(RSSI of the packet, SNR, RSSI of its signal alone) as the chip would report them, in dBm, dB, dBm."""
        snr_db = min(_MOST_SNR_DB, max(-32.0, self._snr_db(sent, sent.sync_s, sent.end_s)))
        signal_dbm = self._level_dbm(sent)
        floor_dbm = noise_floor_dbm(sent.bandwidth_hz)
        return 10 * math.log10(10 ** (signal_dbm / 10) + 10 ** (floor_dbm / 10)), snr_db, signal_dbm

    def level_dbm(self, now_s: float) -> float:
        return self.ether.level_dbm(self.station, self.modem.frequency_hz, float(self.modem.bandwidth), now_s) - self.loss_db

    def _level_dbm(self, sent: Emission) -> float:
        return self.ether.received_dbm(sent, self.station) - self.loss_db

    def _snr_db(self, sent: Transmission, from_s: float, to_s: float) -> float:
        return self.ether.snr_db(sent, self.station, from_s, to_s) - self.loss_db

    def _is_tuned(self, sent: Transmission) -> bool:
        mine = self.modem
        return (
            sent.spreading_factor == mine.spreading_factor
            and sent.bandwidth_hz == float(mine.bandwidth)
            and sent.is_iq_inverted == mine.is_iq_inverted
            and abs(self.offset_hz(sent)) < sent.bandwidth_hz / 4
        )

    def _fits(self, sent: Transmission) -> bool:
        return sent.station is not self.station and self._is_tuned(sent) and sent.sync_word == self.modem.sync_word

    def _locks(self, sent: Transmission, since_s: float) -> bool:
        needed_s = sent.sync_s - (_LOCK_SYMBOLS + 4.25) * sent.symbol_s
        return since_s <= needed_s and self.hears(sent, needed_s, sent.sync_s)


class Jammer:
    """The fault `jammed` of a radio: a transmitter one metre from its antenna, 500 kHz wide."""

    def __init__(self, ether: Ether, station: Station) -> None:
        self._ether = ether
        self._station = station
        self._emission: Emission | None = None

    def set(self, wanted_dbm: float | None, frequency_hz: float, now_s: float) -> None:
        """So loud at the radio's antenna from now on, on the channel it has; None: silent."""
        if wanted_dbm is not None and self._emission is None:
            beside = Station("jammer", self._station.x_m, self._station.y_m)
            self._emission = Emission(beside, frequency_hz, 500000.0, 0.0, now_s, math.inf)
            self._emission.power_dbm = wanted_dbm - self._ether.received_dbm(self._emission, self._station)
            self._ether.begin(self._emission, now_s)
        elif wanted_dbm is None and self._emission is not None:
            emission, self._emission = self._emission, None
            self._ether.cut(emission, now_s)


def spoilt(packet: bytes, seed: int, sent: Transmission) -> bytes:
    """A packet with a symbol's worth of octets wrong here and there."""
    octets = bytearray(packet)
    for index in range(len(octets)):
        if index % 5 == 2 or len(octets) < 3:
            octets[index] ^= 1 + int(255 * uniform(seed, 73, int(sent.start_s * 1e6) + index))
    return bytes(octets)


def noisy(octet: int, seed: int, count: int, every: float | None) -> int:
    """An octet on a wire where one in `every` has a bit turned over; `count`: which octet of the wire it is. None: a quiet wire."""
    if every is None or uniform(seed, 70, count) * every >= 1:
        return octet
    return octet ^ 1 << int(8 * uniform(seed, 71, count))
