"""Proof that a node is heard: a gateway that runs verified a frame of it. Asked over the gateway's status socket, on this machine.

The socket's form: one JSON line asks, one answers (`lamppost_gateway/status.py`); a frame counts there only once its signature was good.
"""

import json
import socket
import time
from pathlib import Path
from typing import Any

from lamppost_tools.errors import DeadlineError, MissingError

_ANSWER_S = 5.0
_LOOK_S = 0.2
_MAX_BYTES = 16 << 20


def require_gateway(path: Path) -> None:
    """Raises MissingError unless a gateway answers there."""
    _ask(path)


def epochs_known(path: Path, node: str) -> list[int]:
    """In which epochs the gateway takes frames of `node`, by its registry. Raises MissingError."""
    return [epoch for entry in _ask(path)["nodes"] if entry["node"] == node for epoch in entry.get("epochs", [entry["epoch"]])]


def stored_to(path: Path, node: str) -> int:
    """Up to which number, without a hole, the gateway has the node's records of its present epoch on its disk. Raises MissingError."""
    return max((int(entry.get("stored_to", 0)) for entry in _ask(path)["nodes"] if entry["node"] == node), default=0)


def wait_for_proof(path: Path, node: str, since_s: float, deadline_s: float) -> dict[str, Any]:
    """What a gateway says of the newest frame of `node` that it verified, heard after `since_s` (unix). Raises DeadlineError.

    "gateway", "frames" since it runs, "n": number of the frame's last record, "stored_in_ms": from hearing it until it was on disk, both
    None from a gateway that does not tell; "after_ms": by this machine's clock, from `since_s` until it was known here.
    """
    ends_s = time.monotonic() + deadline_s
    while True:
        document = _ask(path)
        gateway, found = document["gateway"], [entry for entry in document["nodes"] if entry["node"] == node]
        for entry in found:
            if entry["frames"] and entry["heard_at_ms"] is not None and entry["heard_at_ms"] >= since_s * 1000:
                about = {"n": entry.get("newest_n"), "stored_in_ms": entry.get("stored_in_ms")}
                return {"gateway": gateway, "frames": entry["frames"], **about, "after_ms": int(time.time() * 1000 - since_s * 1000)}
        if time.monotonic() >= ends_s:
            raise DeadlineError(
                f"gateway {gateway} has verified no frame of node {node} within {deadline_s:.0f} s",
                "is its line plugged in, TX to RX? `lamppost-gateway rejects` tells what came and was refused; then repeat the command",
            )
        time.sleep(_LOOK_S)


def proof_words(proof: dict[str, Any]) -> str:
    """`record 1 verified by gateway g-12, 41 ms; 1.3 s after its start`; the time is from hearing to its disk."""
    what = f"record {proof['n']} verified by gateway {proof['gateway']}, {proof['stored_in_ms']} ms"
    if proof["n"] is None:
        what = f"verified by gateway {proof['gateway']}"
    return f"{what}; {proof['after_ms'] / 1000:.1f} s after its start"


def _ask(path: Path) -> dict[str, Any]:
    next_step = "is the gateway running? give the status socket of its gateway.toml, or leave out --gateway-status"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_S)
            connection.connect(str(path))
            connection.sendall(b'{"ask": "status"}\n')
            with connection.makefile("rb") as stream:
                document = json.loads(stream.readline(_MAX_BYTES))
        if not isinstance(document, dict) or "nodes" not in document:
            raise ValueError
    except (OSError, ValueError):
        raise MissingError(f"no gateway answers on {path}", next_step) from None
    return document
