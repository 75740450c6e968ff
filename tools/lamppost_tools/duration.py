"""How long, as people type it."""

from lamppost_tools.errors import UsageError

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def parse_duration_s(text: str, option: str) -> int:
    """Seconds in `90s`, `30m`, `2h`, `7d`. Raises UsageError naming the option."""
    factor = _UNIT_S.get(text[-1:], 0)
    if factor == 0 or not text[:-1].isdecimal() or int(text[:-1]) == 0:
        raise UsageError(f"{option} {text!r}: a number and s, m, h or d is meant", f"for example {option} 2h")
    return int(text[:-1]) * factor
