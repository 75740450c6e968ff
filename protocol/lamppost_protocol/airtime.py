"""LoRa time on air, in whole microseconds on every runtime. WIRE.md section 13. Ref: SX1261/2 datasheet rev. 2.1, section 6.1.4.

For SF7 to SF12 this is AN1200.13's formula too. SF5 and SF6 are those of SX126x; SX127x has an SF6 of its own that neither hears the
other's, and it is not offered here. Known gap: LR11xx long interleaving.
"""

from .errors import LocalError
from .limits import MAX_PACKET_BYTES

#: Symbol length from which the low data rate optimisation is on. The datasheets say 16.38 and 16 ms; no setting lies between.
_LOW_DATA_RATE_US = 16000

TYPE_CHECKING = False
if TYPE_CHECKING:
    Wrap = tuple[int, int, bool | None, int]

#: What flies besides a packet: octets that the radio puts around it, the preamble's symbols, low data rate optimisation (None: as
#: `is_low_data_rate` says); and the longest packet. This is WIRE.md 12's; an E22's is in radio_limits.py.
BARE: "Wrap" = (0, 8, None, MAX_PACKET_BYTES)


def is_low_data_rate(spreading_factor: int, bandwidth_hz: int) -> bool:
    """Return whether the radio must use its low data rate optimisation: where a symbol lasts 16 ms or longer."""
    return (1000000 << spreading_factor) >= _LOW_DATA_RATE_US * bandwidth_hz


def time_on_air_us(
    packet_bytes: int,
    spreading_factor: int,
    bandwidth_hz: int,
    coding_rate: int = 1,
    preamble_symbols: int = 8,
    has_header: bool = True,
    has_crc: bool = True,
    low_data_rate: bool | None = None,
) -> int:
    """Return how long a packet of 0 .. 255 octets occupies the air, in microseconds, rounded up so that no account falls short.

    spreading_factor 5 .. 12; bandwidth_hz 7,800 .. 500,000 as the radio has it; coding_rate 1 .. 4 for 4/5 .. 4/8; preamble_symbols
    1 .. 65,535 as set in the radio; low_data_rate None: as `is_low_data_rate` says. Raises LocalError("too_long") for a value out of range.
    """
    if not 0 <= packet_bytes <= MAX_PACKET_BYTES or not 1 <= preamble_symbols <= 0xFFFF:
        raise LocalError("too_long", "no such packet")
    if not 5 <= spreading_factor <= 12 or not 7800 <= bandwidth_hz <= 500000 or not 1 <= coding_rate <= 4:
        raise LocalError("too_long", "no such modulation")
    bits = 8 * packet_bytes - 4 * spreading_factor + (16 if has_crc else 0) + (20 if has_header else 0)
    bits_per_block = 4 * spreading_factor
    quarters = 17  # the sync word's 4.25 symbols, in quarters of a symbol
    if spreading_factor < 7:
        quarters = 25
    else:
        bits += 8
        if low_data_rate or (low_data_rate is None and is_low_data_rate(spreading_factor, bandwidth_hz)):
            bits_per_block -= 8
    blocks = (bits + bits_per_block - 1) // bits_per_block if bits > 0 else 0
    quarters += 4 * (preamble_symbols + 8 + blocks * (coding_rate + 4))
    return (quarters * (250000 << spreading_factor) + bandwidth_hz - 1) // bandwidth_hz


def packet_us(wrap: "Wrap", packet_bytes: int, spreading_factor: int, bandwidth_hz: int, coding_rate: int = 1) -> int:
    """Return how long a packet (header and CRC on) and all that flies with it occupy the air, as `time_on_air_us` does.

    Raises LocalError("too_long") for a value out of range and a packet that this radio does not take.
    """
    extra_bytes, preamble_symbols, low_data_rate, most_bytes = wrap
    if packet_bytes > most_bytes:
        raise LocalError("too_long", "no such packet")
    sent_bytes = packet_bytes + extra_bytes
    return time_on_air_us(sent_bytes, spreading_factor, bandwidth_hz, coding_rate, preamble_symbols, True, True, low_data_rate)


def largest_packet_bytes(limit_us: int, spreading_factor: int, bandwidth_hz: int, coding_rate: int = 1, wrap: "Wrap" = BARE) -> int:
    """Return the most octets that this radio takes and whose packet lasts no longer than `limit_us`; 0 where none does."""
    low, high = 0, wrap[3]
    while low < high:
        middle = (low + high + 1) // 2
        if packet_us(wrap, middle, spreading_factor, bandwidth_hz, coding_rate) <= limit_us:
            low = middle
        else:
            high = middle - 1
    return low
