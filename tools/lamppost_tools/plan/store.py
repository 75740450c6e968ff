"""How long what is stored lasts: a node's spool, the gateway's disk, the node's flash itself."""

from lamppost_tools.plan.figures import YEAR_DAYS
from lamppost_tools.plan.frames import Stream

#: `firmware/main.py`: one segment, which the spool keeps free.
SEGMENT_BYTES = 4096
#: Erased blocks, as counted on littlefs by `firmware/tests/test_flash_wear.py`: a record's share, and all else a node writes in a day
#: with five power-ups and ten orders; the worst block against the mean; blocks of a 2 MB partition; erases a block endures (NOR flash).
ERASES_A_RECORD = 0.15
ERASES_A_DAY = 15
UNEVENNESS = 3
PARTITION_BLOCKS = 512
ENDURANCE = 100_000
#: A row of the gateway's outbox: pages of 1,024 octets (`gateway/lamppost_gateway/outbox.py`), whole rows in each, an eighth for the tree.
_PAGE_BYTES = 1024
_PAGE_HEAD_BYTES = 8
_ROW_BYTES = 43
_TREE = 1.13


def spool_hours(streams: list[Stream], spool_bytes: int) -> float:
    """Hours without any acknowledgement until the spool begins to thin its oldest records."""
    bytes_an_hour = sum(stream.records_a_day * stream.stored_bytes for stream in streams) / 24
    return (spool_bytes - SEGMENT_BYTES) / bytes_an_hour


def flash_years(records_a_day: float) -> float:
    """Years until the most worn block has been erased as often as it endures."""
    erases_a_day = ERASES_A_RECORD * records_a_day + ERASES_A_DAY
    return ENDURANCE * PARTITION_BLOCKS / (UNEVENNESS * erases_a_day * YEAR_DAYS)


def row_bytes(frame_bytes: int) -> float:
    """Octets that one waiting frame takes in the gateway's outbox."""
    rows_a_page = max(1, (_PAGE_BYTES - _PAGE_HEAD_BYTES) // (frame_bytes + _ROW_BYTES))
    return _TREE * _PAGE_BYTES / rows_a_page


def outbox_bytes_a_day(streams: list[Stream]) -> float:
    """What a node adds to the outbox in a day in which nothing is delivered."""
    return sum(stream.records_a_day * row_bytes(len(stream.frame)) for stream in streams)
