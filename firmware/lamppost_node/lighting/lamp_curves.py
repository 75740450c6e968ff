"""The curves of a lamp and its driver, as the configuration gives them, and how late this lamp follows its schedule."""

from lamppost_protocol.compat import const

from .curve import Curve

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
