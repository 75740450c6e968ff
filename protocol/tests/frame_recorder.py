"""pytest plug-in: holds every frame that any test seals on CPython, and that our decoders accept, against lamppost.cddl.

Frames are kept as they are sealed; the judging is at the end of the run.

Frames whose payload our own decoder refuses were made wrong on purpose and are left out. A frame that we accept and the grammar refuses
fails the run.
"""

import oracles
import pytest
from lamppost_protocol import beacons, cose, frames, orders, records
from lamppost_protocol.errors import ProtocolError

MOST = 3000
_seen: dict[bytes, None] = {}
_encode = cose.encode


def _recording_encode(kind: int, protected: bytes, payload: bytes, proof: bytes) -> bytes:
    data = _encode(kind, protected, payload, proof)
    if len(_seen) < MOST:
        _seen[data] = None
    return data


def pytest_configure() -> None:
    cose.encode = _recording_encode


def is_accepted(data: bytes) -> bool:
    try:
        message = cose.decode(data)
        if message.kind == cose.MAC0:
            frames.decode_acknowledgement(message.payload)
        elif beacons.is_beacon(message.payload):
            beacons.decode_beacon(message.payload)
        else:
            try:
                records.decode_uplink(message.payload)
            except ProtocolError:
                orders.decode_order(message.tx, message.payload)
    except ProtocolError:
        return False
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    data = [frame.hex() for frame in _seen if is_accepted(frame)]
    if not data or not oracles.PYTHON.exists():
        return
    answers = oracles.ask([{"judge": "zcbor", "rule": "frame", "data": item} for item in data])
    wrong = [(item, answer) for item, answer in zip(data, answers, strict=True) if not answer["ok"]]
    print(f"\n{len(data)} frames made by the tests held against lamppost.cddl, {len(wrong)} outside it")
    for item, answer in wrong[:5]:
        print(item, answer["why"])
    if wrong:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
