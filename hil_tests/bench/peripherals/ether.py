"""The air between radio models: who hears whom, how loud, and what a collision leaves.

Path loss is log-distance from free space at 1 m: 20 log10(4 pi f / c) + 10 n log10(d), exponent n 3.0 unless given (streets between
houses are measured at 2.7 to 3.5; Rappaport, Wireless Communications, table 4.2), with a seeded log-normal shadow per link, the same both
ways. The noise floor is -174 dBm/Hz and a noise figure of 6 dB. A signal is heard where it exceeds the noise by what its spreading factor
needs (SX1261/2 datasheet rev. 2.1, table 6-1), which gives the sensitivities of table 3-8 within 2 dB.

Collisions: a signal of the same spreading factor, bandwidth, channel and IQ polarity must be 6 dB weaker than the one being received
(capture); everything else, other spreading factors and jammers included, is noise for as much of it as falls into the receiver's bandwidth.
Time is passed in and never runs backwards; whoever emits first brings every listener up to that instant.
Not modelled: multipath, fading within a packet, Doppler, blocking by strong signals outside the bandwidth.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from .street import uniform

PATH_LOSS_EXPONENT = 3.0
NOISE_FIGURE_DB = 6.0
CAPTURE_DB = 6.0
#: Least signal to noise by spreading factor. Ref: SX1261/2 datasheet rev. 2.1, table 6-1.
LEAST_SNR_DB = {5: -2.5, 6: -5.0, 7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}


def noise_floor_dbm(bandwidth_hz: float) -> float:
    """Thermal noise and the receiver's own in this bandwidth."""
    return -174.0 + NOISE_FIGURE_DB + 10 * math.log10(bandwidth_hz)


def sensitivity_dbm(spreading_factor: int, bandwidth_hz: float) -> float:
    """The weakest signal that is received when nothing else is on the air."""
    return noise_floor_dbm(bandwidth_hz) + LEAST_SNR_DB[spreading_factor]


@dataclass(eq=False)
class Station:
    """An antenna at a place. `advance` is called before anything changes on the air."""

    name: str
    x_m: float = 0.0
    y_m: float = 0.0
    gain_dbi: float = 0.0
    advance: Callable[[float], None] = lambda now_s: None


@dataclass(eq=False)
class Emission:
    """What is on the air from `start_s` to `end_s`, from its antenna's foot: noise of a jammer, or a packet."""

    station: Station
    frequency_hz: float
    bandwidth_hz: float
    power_dbm: float
    start_s: float
    end_s: float


@dataclass(eq=False)
class Transmission(Emission):
    """One LoRa packet. Preamble and sync word end at `sync_s`, the header at `header_s`, everything at `due_s` unless it is cut short."""

    spreading_factor: int = 7
    coding_rate: int = 1
    has_header: bool = True
    has_crc: bool = True
    has_low_data_rate: bool = False
    is_iq_inverted: bool = False
    sync_word: bytes = b"\x14\x24"
    symbol_s: float = 0.0
    sync_s: float = 0.0
    header_s: float = 0.0
    due_s: float = 0.0
    packet: bytes = b""


@dataclass
class Ether:
    """All stations and everything on the air. `shadow_db` is the standard deviation of the links' shadows."""

    seed: int
    exponent: float = PATH_LOSS_EXPONENT
    shadow_db: float = 0.0
    stations: list[Station] = field(default_factory=list)
    emissions: list[Emission] = field(default_factory=list)

    def add(self, station: Station) -> Station:
        self.stations.append(station)
        return station

    def begin(self, emission: Emission, now_s: float) -> None:
        """Put it on the air, from its `start_s`, which is now or a little later."""
        for station in self.stations:
            station.advance(now_s)
        # What ended before every packet still on the air began can spoil nothing any more.
        first_s = min([now_s, *(each.start_s for each in self.transmissions() if each.end_s > now_s)])
        self.emissions = [each for each in self.emissions if each.end_s >= first_s]
        self.emissions.append(emission)

    def cut(self, emission: Emission, now_s: float) -> None:
        """It ends now, unless it is over."""
        for station in self.stations:
            station.advance(now_s)
        emission.end_s = min(emission.end_s, max(now_s, emission.start_s))

    def jam(self, jammer: Station, frequency_hz: float, bandwidth_hz: float, power_dbm: float, now_s: float) -> Emission:
        """Noise without end; `cut` ends it."""
        emission = Emission(jammer, frequency_hz, bandwidth_hz, power_dbm, now_s, math.inf)
        self.begin(emission, now_s)
        return emission

    def transmissions(self) -> list[Transmission]:
        return [each for each in self.emissions if isinstance(each, Transmission)]

    def received_dbm(self, emission: Emission, at: Station) -> float:
        """Its strength at another station's receiver."""
        sender = emission.station
        distance_m = max(1.0, math.hypot(sender.x_m - at.x_m, sender.y_m - at.y_m))
        loss_db = 20 * math.log10(4 * math.pi * emission.frequency_hz / 299792458) + 10 * self.exponent * math.log10(distance_m)
        return emission.power_dbm + sender.gain_dbi + at.gain_dbi - loss_db - self._shadow_db(sender, at)

    def _shadow_db(self, one: Station, other: Station) -> float:
        if not self.shadow_db:
            return 0.0
        first, second = sorted((one.name, other.name))
        link = int.from_bytes(f"{first}\0{second}".encode(), "big") % (1 << 61)
        radius = math.sqrt(-2 * math.log(1 - uniform(self.seed, 90, link)))  # Box-Muller: two uniform numbers give a normal one
        return self.shadow_db * radius * math.cos(2 * math.pi * uniform(self.seed, 91, link))

    def level_dbm(self, at: Station, frequency_hz: float, bandwidth_hz: float, now_s: float) -> float:
        """All that a receiver's bandwidth takes in at this instant, noise included: what GetRssiInst tells."""
        return self._sum_dbm(at, frequency_hz, bandwidth_hz, now_s, ())

    def snr_db(self, wanted: Transmission, at: Station, from_s: float, to_s: float) -> float:
        """The wanted packet over noise and everything else, at the worst instant of this time; -inf where it was captured or cut off."""
        power_dbm = self.received_dbm(wanted, at)
        if wanted.end_s < to_s:
            return -math.inf
        others = [
            each for each in self.emissions if each is not wanted and each.station is not at and each.start_s < to_s and each.end_s > from_s
        ]
        rivals = [each for each in others if isinstance(each, Transmission) and _is_rival(each, wanted)]
        if any(power_dbm - self.received_dbm(each, at) < CAPTURE_DB for each in rivals):
            return -math.inf
        instants = [from_s, *(each.start_s for each in others if each.start_s > from_s)]
        noise_dbm = max(self._sum_dbm(at, wanted.frequency_hz, wanted.bandwidth_hz, instant, (wanted, *rivals)) for instant in instants)
        return power_dbm - noise_dbm

    def _sum_dbm(self, at: Station, frequency_hz: float, bandwidth_hz: float, now_s: float, without: tuple[Emission, ...]) -> float:
        total_mw = 10 ** (noise_floor_dbm(bandwidth_hz) / 10)
        for each in self.emissions:
            if each in without or each.station is at or not each.start_s <= now_s < each.end_s:
                continue
            low_hz = max(frequency_hz - bandwidth_hz / 2, each.frequency_hz - each.bandwidth_hz / 2)
            high_hz = min(frequency_hz + bandwidth_hz / 2, each.frequency_hz + each.bandwidth_hz / 2)
            if high_hz > low_hz:
                total_mw += 10 ** (self.received_dbm(each, at) / 10) * (high_hz - low_hz) / each.bandwidth_hz
        return 10 * math.log10(total_mw)


def _is_rival(one: Transmission, other: Transmission) -> bool:
    """The same spreading factor on the same channel: only strength tells them apart."""
    return (
        (one.spreading_factor, one.bandwidth_hz, one.is_iq_inverted) == (other.spreading_factor, other.bandwidth_hz, other.is_iq_inverted)
        and abs(one.frequency_hz - other.frequency_hz) < one.bandwidth_hz / 4
    )  # fmt: skip
