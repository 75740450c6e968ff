"""How many records and frames a node makes, and how long they are: the codec's own octets, not an estimate of them.

The node sends each record as soon as it is written (`firmware/lamppost_node/uplink.py`), so a day has as many frames as records; those of
one instant share a frame, on LoRa those of `gather_s`, which makes fewer. Alarms, orders and whatever is sent twice come on top and are
in nobody's hand.
"""

import hashlib
from typing import Any, NamedTuple

from lamppost_protocol import beacons, cbor, elision, frames, hello, kinds, records, slip
from lamppost_protocol.hop import HopKey

from lamppost_tools.node.config_keys import FIXTURE_KEYS, NODE_KEYS
from lamppost_tools.plan.figures import DAY_S

#: What a record commonly holds, no column left out: (kind, values).
ORDINARY: dict[str, tuple[int, list[int]]] = {
    "lamp": (kinds.LAMP, [100, 100, 471, 2301, 210, 950, 1_234_567, 3, 0]),
    "bin": (kinds.BIN, [834, 42, 215, 0]),
    "air": (kinds.AIR, [8, 12, 19, 103, 215, 634, 1, 4321]),
    "node": (kinds.NODE, [8_000_000, 12, 1, 60_000, 50_000, 1, 11_000, 0, 0, 0, 0, 0x89ABCDEF, 256]),
}
_STORED_HEADER_BYTES = 14
_N, _TX, _UNIX, _CLOCK_S = 1_000_000, 1_000_000, 1_800_000_000, 3
_NETWORK, _NODE, _EPOCH = 0x0A0B0C0D, 0x11223344, 1


class Stream(NamedTuple):
    """One sort of record of a node: how many a day, and the octets of one in its frame, on the cable, and on the node's flash."""

    name: str
    records_a_day: float
    frame: bytes
    line_bytes: int
    stored_bytes: int


class _PlanSigner:
    """Signatures of the right length that vary as real ones do, so that escaping on the line is counted."""

    def sign(self, octets: bytes) -> bytes:
        return hashlib.sha512(octets).digest()


def setting(config: dict[str, Any], name: str, kind: str | None = None) -> int:
    """A key's value: as written, else the firmware's default."""
    keys = NODE_KEYS if kind is None else FIXTURE_KEYS[kind]
    value: int | None = config.get(name, next(key.default for key in keys if key.name == name))
    return value or 0


def streams(config: dict[str, Any], changes_a_day: dict[str, float]) -> list[Stream]:
    """What a node of this configuration sends. `changes_a_day`: changes of level by the schedules, each reported at once, by fixture."""
    found = []
    for fixture in config["fixtures"]:
        kind = fixture["kind"]
        report_s = setting(fixture, "report_s", kind) or setting(config, "report_s")
        name = kind if not fixture["instance"] else f"{kind}.{fixture['instance']}"
        found.append(_stream(name, kind, fixture["instance"], DAY_S / report_s + changes_a_day.get(name, 0.0)))
    return [*found, _stream("node", "node", 0, DAY_S / setting(config, "health_s"))]


def _stream(name: str, kind: str, instance: int, records_a_day: float) -> Stream:
    profile, values = ORDINARY[kind]
    number = kinds.kind_of(profile, instance)
    payload = records.encode_uplink(_N, 0, _UNIX, _CLOCK_S, [[number, 0, kinds.GOOD, *values]])
    frame = frames.seal(_PlanSigner(), frames.UPLINK, _NETWORK, _NODE, _EPOCH, _NODE, _TX, payload)
    # The node keeps [power-up, time, ms of this power-up, uncertainty, flags, kind, quality, values ..] behind a header.
    stored = cbor.encode([20, _UNIX, 1_000_000_000, _CLOCK_S, 0, number, kinds.GOOD, *values])
    return Stream(name, records_a_day, frame, len(slip.encode(slip.FRAME, frame)), _STORED_HEADER_BYTES + len(stored))


def acknowledgement(steps: int | None = None) -> bytes:
    """The frame that answers each frame; `steps` over the air only."""
    digest = hashlib.sha256(b"plan").digest()[: frames.DIGEST_BYTES]
    hop = HopKey(hashlib.sha256(b"hop").digest())
    sealed: bytes = frames.seal_acknowledgement(hop, _NETWORK, _NODE, _EPOCH, _N, 0, digest, steps)
    return sealed


def greeting() -> bytes:
    """A hello's body: a question for the time."""
    body: bytes = hello.encode_hello(hello.Hello(_NETWORK, _NODE, _EPOCH, 0, b"12345678", _N, _N, "0.1.0"))
    return body


def beacon() -> bytes:
    """The frame that answers it."""
    payload = beacons.encode_beacon(_UNIX, b"12345678")
    sealed: bytes = frames.seal(_PlanSigner(), frames.BEACON, _NETWORK, _NODE, _EPOCH, 0x63, _UNIX, payload)
    return sealed


def time_line_bytes() -> int:
    """Octets on the cable of one question for the time and its answer."""
    return len(slip.encode(slip.HELLO, greeting())) + len(slip.encode(slip.FRAME, beacon()))


def packets(frame: bytes, traffic: int, most_bytes: int) -> list[int]:
    """Octets of the LoRa packets that carry a frame, none above `most_bytes`. Raises LocalError when it takes more than sixteen."""
    return [len(packet) for packet in elision.encode(frame, traffic, _NETWORK, _NODE, 0, most_bytes)]
