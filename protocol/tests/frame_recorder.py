"""pytest plug-in: holds the frames that tests seal or open on CPython, and that our decoders accept, against lamppost.cddl.

Opened frames include those of real nodes. Frames are kept as they pass; the judging is at the end of the run, in one process: workers
hand theirs to the one that started them. Frames whose payload our own decoder refuses were made wrong on purpose and are left out. A
frame that we accept and the grammar refuses fails the run.
"""

from typing import Any

import oracles
import pytest
from lamppost_protocol import beacons, cose, frames, orders, records, releases
from lamppost_protocol.errors import ProtocolError

_OUTPUT = "lamppost_frames"
seen: dict[str, None] = {}
_encode = cose.encode
_open_signed = frames.open_signed


def _keep(data: bytes) -> bytes:
    seen[data.hex()] = None
    return data


def _recording_encode(kind: int, protected: bytes, payload: bytes, proof: bytes) -> bytes:
    return _keep(_encode(kind, protected, payload, proof))


def _recording_open(message: cose.Message, *context: Any) -> bytes:
    payload = _open_signed(message, *context)
    _keep(_encode(message.kind, message.protected, message.payload, message.proof))
    return payload


def pytest_configure() -> None:
    cose.encode = _recording_encode
    frames.open_signed = _recording_open


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
                try:
                    orders.decode_order(message.tx, message.payload)
                except ProtocolError:
                    releases.decode_manifest(message.tx, message.payload)
    except ProtocolError:
        return False
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of pytest-xdist has ended: its frames are judged with the others."""
    seen.update(dict.fromkeys(getattr(node, "workeroutput", {}).get(_OUTPUT, ())))


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_OUTPUT] = list(seen)
        return
    data = [item for item in seen if is_accepted(bytes.fromhex(item))]
    if not data:
        return
    if not oracles.PYTHON.exists():
        print(f"\n{len(data)} frames made by the tests, not judged: run `make oracles`")
        return
    answers = oracles.ask([{"judge": "zcbor", "rule": "frame", "data": item} for item in data])
    wrong = [(item, answer) for item, answer in zip(data, answers, strict=True) if not answer["ok"]]
    print(f"\n{len(data)} frames made by the tests held against lamppost.cddl, {len(wrong)} outside it")
    for item, answer in wrong[:5]:
        print(item, answer["why"])
    if wrong:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
