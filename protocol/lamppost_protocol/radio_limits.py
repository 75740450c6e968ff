"""What each radio has less of than the configuration's map `lora` allows, as data: asked at the desk and by the node alike.

No part of the wire. The drivers say why (firmware/lamppost_node/drivers). A row is about a key of that map. What a chip has none of is
named here, for nothing that comes later can say so before a node stands in the street.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .airtime import Wrap

E22 = "e22"  # spelt out in tables, which then stay constant and out of the heap
#: What an E22 puts around a packet (airtime.py), an upper bound: a length, the module's header, and a preamble that nobody has measured.
#: WIRE.md 12.2 and 13.
E22_WRAP: "Wrap" = (9, 64, True, 239)
#: The board's radio; the first, unless the configuration names another.
RADIOS = ("sx1262", "sx1276", "e22")
#: (radio, key, lowest, highest).
_LIMITS = (
    ("sx1276", "spreading_factor", 7, 12),
    ("sx1276", "fastest_spreading_factor", 7, 12),
    ("sx1276", "downlink_spreading_factor", 7, 12),
    ("sx1276", "power_dbm", 2, 17),
    ("sx1276", "least_power_dbm", 2, 17),
    # The one air rate of which it was measured what it is on the air: 2.4 k. WIRE.md 12.2.
    ("e22", "spreading_factor", 11, 11),
    ("e22", "fastest_spreading_factor", 11, 11),
    ("e22", "downlink_spreading_factor", 11, 11),
    ("e22", "bandwidth_hz", 500_000, 500_000),
    ("e22", "downlink_bandwidth_hz", 500_000, 500_000),
    ("e22", "coding_rate", 1, 1),
    ("e22", "power_dbm", 10, 22),
    ("e22", "least_power_dbm", 10, 22),
)
#: Fixtures whose sensor sits on the UART that an E22 needs: the board has no other.
_UART_FIXTURES = ("bin", "air")
_FIRST_HZ, _STEP_HZ, _CHANNELS = 850_125_000, 1_000_000, 81


def wrap_of(radio: str) -> "Wrap":
    """What this radio puts around a packet."""
    from .airtime import BARE

    return E22_WRAP if radio == E22 else BARE


def _is_e22_channel(frequency_hz: int) -> bool:
    """Whether an E22-900T22 can be tuned there: 850.125 to 930.125 MHz, in whole megahertz from the first."""
    return (frequency_hz - _FIRST_HZ) % _STEP_HZ == 0 and 0 <= (frequency_hz - _FIRST_HZ) // _STEP_HZ < _CHANNELS


def lora_problems(radio: str, lora: "dict[str, Any]") -> list[tuple[str, str, str]]:
    """(key, what is wrong, what to do) of a map `lora` with its defaults, for this radio; what is missing or no number is not asked."""
    found = []
    for name, key, lowest, highest in _LIMITS:
        if name == radio and key in lora and not lowest <= lora[key] <= highest:
            has = f"{lowest}" if lowest == highest else f"{lowest} to {highest}"
            found.append((key, f"{lora[key]}, and an {radio} has {has}", f"set {key} to {has}"))
    if radio == E22:
        channels_hz = lora["channels_hz"] if isinstance(lora["channels_hz"], list) else []
        downlink_hz = lora.get("downlink_hz")
        for key, frequencies_hz in (("channels_hz", channels_hz), ("downlink_hz", [downlink_hz])):
            for hz in frequencies_hz:
                if isinstance(hz, int) and not _is_e22_channel(hz):
                    found.append((key, f"{hz} Hz, where an e22 cannot be tuned", "use 850125000 Hz and whole megahertz more"))
        if downlink_hz in channels_hz:
            found.append(
                ("downlink_hz", "an uplink channel, and an e22 has no inverted IQ", "let the gateway answer on a channel of its own")
            )
    return found


def fixture_problem(radio: str, kind: str) -> "str | None":
    """Why this board has no room for that fixture beside this radio; None: it has."""
    if radio == E22 and kind in _UART_FIXTURES:
        return kind + "'s sensor and an e22 need one UART, and the board has no other"
    return None
