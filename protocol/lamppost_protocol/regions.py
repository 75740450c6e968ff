"""What the law of each region allows a LoRa radio, as data, and the check of a configuration against it.

No part of the wire: this table decides what may be sent at all, ledger.py when. It is the strictest reading where a text allows several,
and no legal advice: whoever puts a radio on the air answers for it. Read in the text itself: FCC 15.247 and India's G.S.R. 168(E),
which is for RFID. As several sources quote them alike: bands and duty cycles of EN 300 220-2 V3.2.1. Second hand: India's other rules,
Japan, Australia, AS923 at large.

Not offered, though lawful somewhere: listen before talk instead of the duty cycle (EN 300 220-1, polite spectrum access), FCC hybrid
systems (15.247 (f)), 869.7 to 870 MHz at 5 mW without limit.
"""

from collections import namedtuple

from .airtime import largest_packet_bytes
from .elision import HEAD_BYTES, PIECE_BYTES
from .errors import LocalError
from .ledger import HOUR_MS
from .limits import MAX_PIECES

#: One rule: from first_hz to last_hz, the whole signal inside; bandwidth narrowest_hz .. widest_hz; power_dbm at the antenna's foot and
#: eirp_dbm from the antenna, whole dBm rounded down; airtime_us in any window_ms (None: unlimited), per sub-band or per channel; dwell_us:
#: longest packet (None: any); channels: at least so many, hopped over in random order, each used equally; listen_us: how long the
#: channel must have been heard free before each packet (0: need not); law: the paragraph.
Band = namedtuple(
    "Band",
    (
        "name", "first_hz", "last_hz", "narrowest_hz", "widest_hz", "power_dbm", "eirp_dbm", "airtime_us", "window_ms",
        "is_per_channel", "dwell_us", "channels", "listen_us", "law",
    ),
)  # fmt: skip

#: A radio's settings: channels_hz, centre frequencies; wrap: what it puts around a packet (airtime.py); power_dbm at the antenna's foot;
#: antenna_dbi its gain, less the cable's loss; listen_us: for how long it makes sure, by signal strength, that the channel is free before
#: each packet.
Radio = namedtuple(
    "Radio",
    (
        "region", "channels_hz", "bandwidth_hz", "spreading_factor", "coding_rate", "wrap", "power_dbm", "antenna_dbi",
        "listen_us",
    ),
)  # fmt: skip

#: Part of a ledger that only alarms and acknowledgements may use, in percent.
RESERVE_PERCENT = 20

#: A shorter packet cannot carry a signed record in MAX_PIECES pieces: at least 87 octets of body.
_LEAST_PACKET_BYTES = HEAD_BYTES + PIECE_BYTES + 87 // MAX_PIECES + 1
_ETSI = "ETSI EN 300 220-2 V3.2.1, 4.3.3 and annex B, band "
_FCC = "47 CFR 15.247 "


def _etsi(letter: str, first_khz: int, last_khz: int, eirp_dbm: int, permille: int) -> Band:
    # 25 mW and 500 mW e.r.p. are 16.1 and 29.1 dBm e.i.r.p.; what a long cable swallows may be made up for.
    return Band(
        letter, first_khz * 1000, last_khz * 1000, 0, 500000, 30, eirp_dbm, permille * 3600000, HOUR_MS, False, None, 1, 0,
        _ETSI + letter,
    )  # fmt: skip


REGIONS = {
    "EU868": (
        _etsi("K", 863000, 865000, 16, 1),
        _etsi("L", 865000, 868000, 16, 10),
        _etsi("M", 868000, 868600, 16, 10),
        _etsi("N", 868700, 869200, 16, 1),
        _etsi("P", 869400, 869650, 29, 100),
        _etsi("Q", 869700, 870000, 16, 10),
    ),
    "US915": (
        # 30 dBm spread over 500 kHz are 7.8 dBm in 3 kHz, within (e); more than 6 dBi of antenna take from the power, (b)(4).
        Band("digital", 902000000, 928000000, 500000, 500000, 30, 36, None, 0, False, None, 1, 0, _FCC + "(a)(2), (b)(3), (e)"),
        Band("hopping", 902000000, 928000000, 0, 249999, 30, 36, 400000, 20000, True, 400000, 50, 0, _FCC + "(a)(1)(i), (b)(2)"),
        Band("wide-hopping", 902000000, 928000000, 250000, 499999, 23, 29, 400000, 10000, True, 400000, 25, 0, _FCC + "(a)(1)(i), (b)(2)"),
    ),
    "AS923": (
        Band(
            "AS923", 923000000, 925000000, 0, 250000, 16, 16, 36000000, HOUR_MS, False, 400000, 1, 0,
            "LoRa Alliance RP002, AS923: the strictest of its countries' rules; yours may differ",
        ),
    ),
    "AS923-JP": (
        Band(
            "JP", 920500000, 923500000, 0, 200000, 13, 16, 360000000, HOUR_MS, False, 4000000, 1, 5000,
            "ARIB STD-T108, part 2, 20 mW with 5 ms of carrier sense",
        ),
    ),
    "AU915": (
        Band(
            "digital", 915000000, 928000000, 500000, 500000, 30, 30, None, 0, False, None, 1, 0,
            "ACMA LIPD Class Licence, schedule 1, digital modulation transmitters 915-928 MHz",
        ),
        Band(
            "hopping", 915000000, 928000000, 0, 499999, 30, 30, 400000, 20000, True, 400000, 20, 0,
            "ACMA LIPD Class Licence, schedule 1, item 52; dwell of LoRa Alliance RP002, AU915",
        ),
    ),
    "IN865": (
        # 4 W e.r.p. in the text; read as e.i.r.p. The rule of 2021 goes up to 868 MHz.
        Band(
            "IN", 865000000, 867000000, 0, 200000, 30, 36, None, 0, False, None, 1, 0,
            "G.S.R. 168(E) and 564(E) of 2005, rule 3; G.S.R. 853(E) of 2021",
        ),
    ),
}  # fmt: skip


class UnlawfulError(LocalError):
    """A configuration that breaks the law. `law`: the paragraph; `next_step`: what to change. Its text holds all three."""

    def __init__(self, problem: str, law: str, next_step: str) -> None:
        super().__init__("unlawful", problem + " (" + law + "); " + next_step)
        self.law = law
        self.next_step = next_step


def check_radio(radio: Radio) -> list[Band]:
    """Return the rule under which each of the radio's channels is used, in their order. Raises UnlawfulError."""
    bands = REGIONS.get(radio.region)
    if bands is None:
        raise UnlawfulError("no rules for " + str(radio.region), "no region", "choose one of " + ", ".join(sorted(REGIONS)))
    if not radio.channels_hz:
        raise UnlawfulError("no channel", bands[0].law, "set at least one within " + _megahertz(bands))
    found = [_band(bands, channel_hz, radio) for channel_hz in radio.channels_hz]
    for band in found:
        _check_band(band, radio)
    return found


def _band(bands: tuple[Band, ...], channel_hz: int, radio: Radio) -> Band:
    half_hz = (radio.bandwidth_hz + 1) // 2
    inside = [b for b in bands if b.first_hz <= channel_hz - half_hz and channel_hz + half_hz <= b.last_hz]
    if not inside:
        raise UnlawfulError(
            f"{channel_hz} Hz with {radio.bandwidth_hz} Hz of bandwidth lies in no allowed band",
            bands[0].law if len(bands) == 1 else "all of " + radio.region,
            "keep the whole signal within " + _megahertz(bands),
        )
    for band in inside:
        if band.narrowest_hz <= radio.bandwidth_hz <= band.widest_hz:
            return band
    raise UnlawfulError(
        f"{radio.bandwidth_hz} Hz of bandwidth",
        inside[0].law,
        "use " + " or ".join([f"{b.narrowest_hz} to {b.widest_hz} Hz" for b in inside]),
    )


def _check_band(band: Band, radio: Radio) -> None:
    if radio.power_dbm > band.power_dbm or radio.power_dbm + radio.antenna_dbi > band.eirp_dbm:
        raise UnlawfulError(
            f"{radio.power_dbm} dBm with an antenna of {radio.antenna_dbi} dBi",
            band.law,
            f"set power_dbm to {min(band.power_dbm, band.eirp_dbm - radio.antenna_dbi)} at most",
        )
    channels_hz = sorted(radio.channels_hz)
    if len(channels_hz) < band.channels:
        raise UnlawfulError(
            f"{len(channels_hz)} channels at {radio.bandwidth_hz} Hz",
            band.law,
            f"hop over {band.channels} channels or more, or use 500 kHz",
        )
    for i in range(1, len(channels_hz)):
        if band.channels > 1 and channels_hz[i] - channels_hz[i - 1] < max(25000, radio.bandwidth_hz):
            raise UnlawfulError("channels that overlap", band.law, f"set them at least {max(25000, radio.bandwidth_hz)} Hz apart")
    if radio.listen_us < band.listen_us:
        raise UnlawfulError(
            "no carrier sense", band.law, f"let the radio listen for {band.listen_us} us before each packet, or choose AS923"
        )
    if most_packet_bytes(band, radio) < _LEAST_PACKET_BYTES:
        raise UnlawfulError(
            f"SF{radio.spreading_factor} at {radio.bandwidth_hz} Hz: a signed frame takes more than 16 pieces",
            band.law,
            "use a lower spreading factor or more bandwidth",
        )


def most_packet_bytes(band: Band, radio: Radio) -> int:
    """Return the longest packet, 0 .. 255 octets, that the radio takes and the law and what is not in reserve allow under this rule."""
    limit_us = band.dwell_us
    if band.airtime_us is not None:
        budget_us = band.airtime_us if band.is_per_channel else band.airtime_us - reserve_us(band)
        limit_us = budget_us if limit_us is None else min(limit_us, budget_us)
    if limit_us is None:
        most_bytes: int = radio.wrap[3]
        return most_bytes
    return largest_packet_bytes(limit_us, radio.spreading_factor, radio.bandwidth_hz, radio.coding_rate, radio.wrap)


def reserve_us(band: Band) -> int:
    """Return the part of a rule's airtime that is kept for alarms and acknowledgements; none of a single channel's dwell."""
    if band.airtime_us is None or band.is_per_channel:
        return 0
    reserve: int = band.airtime_us * RESERVE_PERCENT // 100
    return reserve


def _megahertz(bands: tuple[Band, ...]) -> str:
    return ", ".join(["{}.{:03} to {}.{:03} MHz".format(*_split(b.first_hz), *_split(b.last_hz)) for b in bands])


def _split(frequency_hz: int) -> tuple[int, int]:
    return frequency_hz // 1000000, frequency_hz // 1000 % 1000
