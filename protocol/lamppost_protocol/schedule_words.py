"""A schedule step's time as people write it. Apart from schedule.py, so that a node need not hold it."""

from .schedule import CLOCK, SUNRISE, SUNSET

ANCHORS = ("clock", "sunset", "sunrise")


def anchor_text(anchor: int, minute: int) -> str:
    """Return a step's time as people write it: `23:00`, `sunset`, `sunrise-30`."""
    if anchor == CLOCK:
        return f"{minute // 60:02d}:{minute % 60:02d}"
    return ANCHORS[anchor] + (f"{minute:+d}" if minute else "")


def parse_anchor(text: str) -> tuple[int, int]:
    """Return (anchor, minute) of what `anchor_text` writes. Raises ValueError; offsets are bounded by `check_schedule`."""
    for anchor in (SUNSET, SUNRISE):
        name = ANCHORS[anchor]
        if text.startswith(name):
            rest = text[len(name) :]
            if rest == "" or (rest[0] in "+-" and rest[1:].isdigit()):
                return anchor, int(rest or "0")
    hour, colon, minute = text.partition(":")
    if colon and hour.isdigit() and minute.isdigit() and len(minute) == 2 and int(hour) < 24 and int(minute) < 60:
        return CLOCK, int(hour) * 60 + int(minute)
    raise ValueError("not hh:mm, sunset+minutes or sunrise-minutes: " + text)
