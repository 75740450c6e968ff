"""The recorder is loaded and can fail a run: a check that nobody runs looks like one that passes."""

import os
import subprocess
import sys
from pathlib import Path

import frame_recorder
from lamppost_protocol import frames
from lamppost_protocol.es256_host import HostSigner, generate_private_key

PROTOCOL = Path(__file__).resolve().parents[1]
OUTSIDE = """
import frame_recorder
from lamppost_protocol import cbor, frames
from lamppost_protocol.es256_host import HostSigner, generate_private_key

frame_recorder.is_accepted = lambda data: True


def test_seals_what_the_grammar_refuses():
    frames.seal(HostSigner(generate_private_key()), frames.UPLINK, 7, 9, 1, 9, 5, cbor.encode([1, 2, 3]))
"""


def test_frames_of_this_run_are_recorded() -> None:
    """Whatever test seals one: it is kept for the judge, unless there are enough already."""
    frame = frames.seal(HostSigner(generate_private_key()), frames.UPLINK, 7, 9, 1, 9, 5, b"\x01")
    assert frame.hex() in frame_recorder.seen or len(frame_recorder.seen) >= frame_recorder.MOST


def test_a_frame_outside_the_grammar_fails_the_run(tmp_path: Path) -> None:
    """Every test passes, and the run does not."""
    (tmp_path / "test_outside.py").write_text(OUTSIDE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "frame_recorder", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{PROTOCOL}:{PROTOCOL / 'tests'}"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "1 frames made by the tests held against lamppost.cddl, 1 outside it" in done.stdout, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert done.returncode == 1
