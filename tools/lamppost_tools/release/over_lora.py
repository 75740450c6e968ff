"""What a release costs the air: each node fetches all of it for itself. WIRE.md 12, 13 and 17.3."""

from lamppost_protocol import elision, releases
from lamppost_protocol.airtime import time_on_air_us

_SPREADING_FACTOR, _BANDWIDTH_HZ = 9, 125_000  # what `lamppost site new` answers nodes with
_HEAD_BYTES = elision.HEAD_BYTES + len(releases.encode_piece(releases.Piece(bytes(8), 65_600, bytes(200)))) - 200


def pieces(size_bytes: int) -> int:
    """How many pieces a body is."""
    return -(-size_bytes // releases.PIECE_BYTES)


def airtime_s(size_bytes: int) -> int:
    """Seconds for which its pieces are on the air, sent once, at SF9 and 125 kHz in one packet each."""
    full, rest = divmod(size_bytes, releases.PIECE_BYTES)
    lengths = [releases.PIECE_BYTES] * full + [rest] * (rest > 0)
    return round(sum(time_on_air_us(_HEAD_BYTES + length, _SPREADING_FACTOR, _BANDWIDTH_HZ) for length in lengths) / 1e6)
