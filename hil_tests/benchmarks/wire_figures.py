"""Record and frame sizes in octets. Exact: the codec decides them, not the machine."""

from collections.abc import Iterator

from lamppost_protocol import cbor, frames, records, slip
from lamppost_protocol.es256_host import HostSigner
from lamppost_protocol.kinds import AIR, BIN, LAMP

from benchmarks.rows import Row, at_most, told

#: Ordinary readings, no column left out: [kind, dt, quality, values ...].
LAMP_RECORD: list[int | None] = [LAMP, 0, 0, 100, 100, 471, 2301, 210, 950, 123456, 3, 0]
BIN_RECORD: list[int | None] = [BIN, 0, 0, 834, 42, 215, 0]
AIR_RECORD: list[int | None] = [AIR, 0, 0, 8, 12, 19, 103, 215, 634, 1, 4321]


def sizes() -> Iterator[Row]:
    """Records against the goals, then what a frame adds."""
    for name, record, goal in (("lamp", LAMP_RECORD, 30), ("bin", BIN_RECORD, 13), ("air", AIR_RECORD, 27)):
        yield at_most(f"{name} record", len(cbor.encode(record)), "bytes", goal)
    payload = records.encode_uplink(100_000, 0, 1_795_000_000, 2, [LAMP_RECORD])
    frame = frames.seal(HostSigner(b"\1" * 32), frames.UPLINK, 1, 0x11223344, 1, 0x11223344, 100_000, payload)
    message = slip.encode(slip.FRAME, frame)
    beyond = len(frame) - len(payload) - 64
    parts = f"payload {len(payload)}, COSE and header {beyond}, signature 64, SLIP {len(message) - len(frame)}"
    note = f"frame of one lamp record: {parts} = {len(message)}"
    yield told("frame overhead, serial: beyond payload and signature", note, len(message) - len(payload) - 64, "bytes")
