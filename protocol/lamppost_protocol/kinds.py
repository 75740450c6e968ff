"""Numbers that name things inside a payload: profiles, fixtures, qualities.

Kept apart from profiles.py so that the node loads no table of names.
"""

#: Profile ids. Below 64, since a record's `kind` is 64 * instance + profile.
LAMP = 1
BIN = 2
AIR = 3
NODE = 4
ORDER_STATE = 5
GAP = 6
SERVICE = 7

#: Quality codes of a record. Everything but GOOD says why one or more values are null or doubtful.
GOOD = 0
OUT_OF_RANGE = 1
NO_ECHO = 2
WARMING_UP = 3
SENSOR_FAULT = 4
STALE = 5
SPREAD = 6
UNCOMPENSATED = 7
QUALITIES = (
    "good",
    "out_of_range",
    "no_echo",
    "warming_up",
    "sensor_fault",
    "stale",
    "spread",
    "uncompensated",
)

#: Why records between two numbers will never come (profile `gap`).
GAP_SPOOL_FULL = 1
GAP_FLASH_CORRUPT = 2
GAP_THINNED = 3
GAP_REASONS = {GAP_SPOOL_FULL: "spool_full", GAP_FLASH_CORRUPT: "flash_corrupt", GAP_THINNED: "thinned"}


def kind_of(profile: int, instance: int = 0) -> int:
    """Return a record's first element: which profile (1 .. 63) and which fixture of that sort on this node (0 .. 15)."""
    return 64 * instance + profile


def split_kind(kind: int) -> tuple[int, int]:
    """Return (profile, instance) of a record's first element."""
    return kind & 63, kind >> 6
