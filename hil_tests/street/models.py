"""Orders to the server of the modelled hardware (bench.peripherals.control)."""

import json
import os
import socket
from pathlib import Path
from typing import Any

from bench.deadline import DEADLINE_S


def ask_models(control: Path, **order: Any) -> dict[str, Any]:
    """One order, done: its answer. The socket is reached by its relative path, for a long one does not fit."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(DEADLINE_S)
        connection.connect(os.path.relpath(control))
        connection.sendall(json.dumps(order).encode() + b"\n")
        with connection.makefile("rb") as answers:
            answer: dict[str, Any] = json.loads(answers.readline())
    assert answer["ok"], answer
    return answer
