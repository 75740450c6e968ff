"""What every LoRa radio's driver has in common, whatever the chip: what it gives, what it was told, and the faults it names.

Its methods are those of `interfaces.Radio`; the chips are in sx126x.py and sx127x.py, which know nothing of each other.
"""

import asyncio
from collections import namedtuple

from lamppost_protocol.airtime import time_on_air_us
from lamppost_protocol.compat import const

from ..ticks import ticks_diff, ticks_us
from .errors import RadioFault

#: What `receive` gives. rssi_dbm: mean over the packet, noise included; snr_qdb: signal to noise in quarters of dB; frequency_error_hz: the
#: sender's frequency less ours, from a register that the chips explain badly: for people, decide nothing by it; at_us: `ticks_us` at the
#: packet's end, or later by up to 2 ms or a symbol, whichever is longer, and what other tasks take of a turn.
Reception = namedtuple("Reception", ("packet", "rssi_dbm", "snr_qdb", "frequency_error_hz", "at_us"))
Settings = namedtuple(
    "Settings",
    ("frequency_hz", "spreading_factor", "bandwidth_hz", "coding_rate", "preamble_symbols", "tx_power_dbm", "is_iq_inverted"),
)

MAX_RECEIVE_MS = 262_000
"""24 bits of 15.625 us (SX1261/2 data sheet, 13.1.5), all ones and a little more left out. The same for every chip."""

_POLL_MS = const(2)  # or a symbol, if that is longer: nothing changes faster

_NEXT_STEPS = {
    "no_answer": "check supply, NRESET and the SPI wires",
    "wrong_chip": "check which radio the configuration names, and the SPI wires",
    "busy_stuck": "check the wire of BUSY and the supply",
    "no_oscillator": "check whether this module has a TCXO, its voltage and its start-up time",
    "calibration_failed": "check supply and crystal",
    "command_failed": "check supply and length of the SPI wires",
    "restarted": "check that the supply holds while it transmits",
    "no_interrupt": "check the supply",
    "tx_timeout": "check antenna and supply",
}


#: To set a chip up and load a packet into it over SPI: 10 ms, more on a board whose pins are slow.
CHIP_READY_MS = 60


def radio_fault(reason: str) -> RadioFault:
    """The fault of this reason, with what to look at. KeyError for a reason that has no next step."""
    return RadioFault(reason, _NEXT_STEPS[reason])


def airtime_us(settings: Settings, packet_bytes: int) -> int:
    """How long a packet of 1 .. 255 octets occupies the air."""
    s = settings
    us: int = time_on_air_us(packet_bytes, s.spreading_factor, s.bandwidth_hz, s.coding_rate, s.preamble_symbols)
    return us


def poll_ms(settings: Settings) -> int:
    """How often it is worth looking whether something happened on the air."""
    return max(_POLL_MS, (1000 << settings.spreading_factor) // settings.bandwidth_hz)


async def wait_until(start_us: int, lead_us: int) -> None:
    """Return `lead_us` before `ticks_us` reads `start_us`, or at once when that is past."""
    while True:
        left_us = ticks_diff(start_us, ticks_us()) - lead_us
        if left_us <= 0:
            return
        await asyncio.sleep(left_us / 1000000)  # in whole milliseconds on MicroPython: at last turn by turn
