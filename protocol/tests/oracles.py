"""Asks the judges of oracle_runner.py, which live in build/oracles (`make oracles`)."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
AT_ONCE = 500
"""Questions that the judges have five minutes for."""
PYTHON = REPOSITORY / "build/oracles/bin/python"


def ask(questions: list[dict]) -> list[dict]:
    """Return one answer a question. Raises FileNotFoundError when the oracles are not installed."""
    if not PYTHON.exists():
        raise FileNotFoundError("no build/oracles: run `make oracles`")
    runner = [str(PYTHON), str(Path(__file__).with_name("oracle_runner.py"))]

    def ask_some(start: int) -> list[dict]:
        lines = "\n".join(json.dumps(question) for question in questions[start : start + AT_ONCE])
        told = subprocess.run(runner, input=lines, capture_output=True, text=True, timeout=300, check=True)
        return [json.loads(line) for line in told.stdout.splitlines()]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return [answer for answers in pool.map(ask_some, range(0, len(questions), AT_ONCE)) for answer in answers]
