"""The configuration's map `lora`: what a node on LoRa needs to know. Its own file, because a node on a cable does not load it.

`region` (text) and `channels_hz` (list) stand beside these; whether all that is lawful is asked by links/channels.py.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lamppost_node.config import Values

#: (key, default, lowest, highest); a default of None: must be there.
KEYS = (
    ("bandwidth_hz", 125_000, 7_800, 500_000),
    ("spreading_factor", 9, 5, 12),  # the slowest, where the ladder begins
    ("fastest_spreading_factor", 7, 5, 12),
    ("coding_rate", 1, 1, 4),
    ("power_dbm", 14, -9, 22),  # at the antenna's foot
    ("least_power_dbm", 2, -9, 22),
    ("antenna_dbi", 0, -20, 30),
    ("listen_ms", 5, 5, 1_000),
    ("busy_dbm", -90, -120, -40),
    ("downlink_hz", None, 150_000_000, 960_000_000),
    ("downlink_bandwidth_hz", 125_000, 7_800, 500_000),
    ("downlink_spreading_factor", 9, 5, 12),
    ("listens_always", 0, 0, 1),
    ("spread_s", 600, 0, 3_600),
    ("resend_s", 30, 1, 3_600),
    ("gather_s", 900, 0, 86_400),
)
MAX_CHANNELS = 64
_LOWEST_HZ, _HIGHEST_HZ = 150_000_000, 960_000_000
#: Of the node's own keys, where the configuration does not say: a hello and its beacon are dear over the air.
DEFAULTS = (("hello_s", 3_600), ("beacon_s", 21_600))


def check_rest(value: "Values", result: "Values", errors: list[str]) -> None:
    """Check what is no number, and what two keys say together; `result` holds the checked numbers and gets the rest."""
    region, channels_hz = value.get("region"), value.get("channels_hz")
    if not isinstance(region, str) or not region:
        errors.append("lora.region: missing")
    if not isinstance(channels_hz, list) or not 1 <= len(channels_hz) <= MAX_CHANNELS:
        errors.append("lora.channels_hz: not a list of 1 to %d" % MAX_CHANNELS)
    elif [hz for hz in channels_hz if isinstance(hz, bool) or not isinstance(hz, int) or not _LOWEST_HZ <= hz <= _HIGHEST_HZ]:
        errors.append("lora.channels_hz: not in Hz")
    for least, most in (("fastest_spreading_factor", "spreading_factor"), ("least_power_dbm", "power_dbm")):
        if least in result and most in result and result[least] > result[most]:
            if least in value:
                errors.append("lora." + least + ": above " + most)
            result[least] = result[most]  # a default gives way
    result["region"] = region
    result["channels_hz"] = channels_hz
