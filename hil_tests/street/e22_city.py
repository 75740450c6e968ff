"""The city with an E22 in the place of its antenna's radio: what such a module puts around packets and takes off them. WIRE.md 12.2.

It hears each packet whatever else is on the air, as AirCity does, and begins its answers to the instant, which no module does; the board
of test_e22_node.py has a module at this end.
"""

from typing import Any

from bench.peripherals.e22 import PREAMBLE_SYMBOLS, SYNC_WORD, unwrapped, wrapped
from bench.peripherals.ether import Transmission

from street.air_city import AirCity

_UPLINK, _DOWNLINK = 76, 77


class E22City(AirCity):
    """As AirCity."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        modem = self._modem
        modem.is_iq_inverted, modem.has_low_data_rate = False, True
        modem.sync_word, modem.preamble_symbols = SYNC_WORD, PREAMBLE_SYMBOLS
        self._channel = round((modem.frequency_hz - 850.125e6) / 1e6)

    def _opened(self, sent: Transmission) -> bytes | None:
        payload = unwrapped(sent.packet, _UPLINK, 0) if sent.sync_word == SYNC_WORD else None
        return payload[1:] if payload is not None and payload[0] == len(payload) - 1 else None

    def _closed(self, packet: bytes) -> bytes:
        return wrapped(bytes((len(packet),)) + packet, self._channel, _DOWNLINK, 0)
