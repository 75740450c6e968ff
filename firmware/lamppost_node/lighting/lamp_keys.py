"""The lamp's part of the configuration, and the curves it describes."""

from lamppost_protocol.compat import const

from .curve import Curve

#: (key, default, lowest, highest); config.py checks and completes a fixture's map by this.
KEYS = (
    ("safe_level_percent", 100, 20, 100),
    ("floor_percent", 10, 0, 100),  # a schedule's level is never between 0 and this
    ("power_on_level_percent", 100, 20, 100),
    ("power_on_s", 0, 0, 900),  # held this long after every start, for lamps that must run up
    ("ramp_up_percent_per_s", 10, 1, 100),
    ("ramp_down_percent_per_s", 5, 1, 100),
    ("stagger_s", 30, 0, 300),  # the schedule comes 0 .. this many seconds late, by node id: less inrush on one feeder
    ("clock_limit_s", 7200, 60, 86400),  # a clock less certain than this is no clock
    ("lease_limit_s", 604800, 60, 2678400),  # no order may hold the lamp below the safe level for longer
    ("report_s", 0, 0, 86400),  # 0: the node's
    ("sample_s", 5, 1, 60),
    ("settle_s", 5, 0, 600),  # an applied order is judged no sooner
    ("verify_s", 120, 1, 3600),  # and stays unverified after
    ("verify_tolerance_permille", 150, 10, 500),
    ("verify_tolerance_dw", 20, 1, 1000),
    ("warm_up_s", 60, 0, 3600),  # no fault is judged so soon after a change of level
    ("fault_samples", 4, 1, 16),
    ("fault_window", 6, 1, 16),
    ("relay", 1, 0, 1),
    ("meter", 1, 0, 1),
    ("meter_per_volt", 26000, 1, 16777215),  # the meter's least significant bits per unit; negative: reversed transformer
    ("meter_per_ampere", 100000, 1, 16777215),
    ("meter_per_watt", 154, -1000000, 1000000),
    ("meter_per_watt_hour", 23716, -100000000, 100000000),
    ("control_10_mv", 1000, 0, 10000),  # the driver's input for 10, 25 .. 100 % of light; 10 % is its minimum
    ("control_25_mv", 2500, 0, 10000),
    ("control_50_mv", 5000, 0, 10000),
    ("control_75_mv", 7500, 0, 10000),
    ("control_100_mv", 10000, 0, 10000),
    ("power_0_dw", 0, 0, 100000),  # what the lamp takes at these levels; 0 is with the relay open
    ("power_10_dw", 132, 0, 100000),
    ("power_25_dw", 210, 0, 100000),
    ("power_50_dw", 340, 0, 100000),
    ("power_75_dw", 470, 0, 100000),
    ("power_100_dw", 600, 1, 100000),
)

_LEVELS_PERCENT = const((10, 25, 50, 75, 100))


def control_points(config: dict[str, int]) -> tuple[tuple[int, int], ...]:
    """(level permille, control mV) of the lamp driver, the first being its minimum."""
    return _points(config, "control_", "_mv")


def power_curve(config: dict[str, int]) -> Curve:
    """Power in 0.1 W by level in permille, of the lit lamp."""
    return Curve(_points(config, "power_", "_dw"))


def _points(config: dict[str, int], before: str, after: str) -> tuple[tuple[int, int], ...]:
    return tuple((level * 10, config[before + str(level) + after]) for level in _LEVELS_PERCENT)


def stagger_s(node_id: int, at_most_s: int) -> int:
    """Seconds 0..at_most_s by which this node lags the schedule: spread evenly over ids, the same for ever."""
    return ((node_id * 40503) & 0xFFFF) * (at_most_s + 1) >> 16
