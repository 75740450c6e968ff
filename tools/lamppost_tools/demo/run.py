"""`lamppost demo`: puts a street together, then shows it until Ctrl-C, or proves it (`--once`) and ends."""

import contextlib
import json
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lamppost_tools import terminal
from lamppost_tools.broker import BrokerSettings
from lamppost_tools.demo.layout import NODES, Checkout, Layout
from lamppost_tools.demo.proof import TARGET_S, TOTAL_S, Proof, Prover
from lamppost_tools.demo.street import Street
from lamppost_tools.demo.view import show_live
from lamppost_tools.demo.witness import Witness
from lamppost_tools.errors import EXIT_DONE, EXIT_NO, DeadlineError, ToolError, UsageError
from lamppost_tools.frame.input import load_ring

_LONGEST_FOLDER = 80  # its sockets are unix sockets, whose paths end at 107 octets
_WITNESS_S = 10.0


class _EndedError(Exception):
    """SIGTERM or SIGHUP came."""


def run_demo(once: bool, mqtt_port: int, state: Path | None, seed: int, is_json: bool) -> int:
    """Run the demo; the command's exit code. Raises ToolError for what is missing. Always leaves no process behind."""
    if is_json and not once:
        raise UsageError("--json goes with --once", "leave it out, or add --once")
    started_s = time.monotonic()
    checkout = Checkout()
    with _folder(state) as (folder, is_kept), _ending_on_signals():
        layout = Layout(folder, mqtt_port or _free_port())
        layout.prepare()
        checkout.compile_image(layout.image)
        if not once:
            terminal.out.print(f"starting a street; state in {folder}, broker on 127.0.0.1:{layout.port}")
        try:
            with Street(checkout, layout, seed) as street:
                witness = _start(street, layout)
                try:
                    if once:
                        proofs = Prover(street, witness).run(started_s, lambda proof: None if is_json else _tell(proof))
                    else:
                        _show(witness, layout)
                        return EXIT_DONE
                finally:
                    witness.stop()
        except (KeyboardInterrupt, _EndedError):
            return EXIT_NO if once else EXIT_DONE
        except ToolError:
            _keep_logs(layout, is_kept)
            raise
        return _conclude(proofs, time.monotonic() - started_s, layout, is_kept, is_json)


def _start(street: Street, layout: Layout) -> Witness:
    street.start_broker()
    ring = load_ring(layout.registry.path, layout.public, None)
    witness = Witness(BrokerSettings(port=layout.port), layout.network, ring)
    if not witness.start(_WITNESS_S):
        raise DeadlineError("the subscriber could not connect to the demo's broker", f"read {layout.logs / 'broker.log'}")
    street.start_services()
    street.start_nodes()
    return witness


def _show(witness: Witness, layout: Layout) -> None:
    hint = (
        f"in another terminal: lamppost order dim {NODES[0].id} 30 --for 10m --city {layout.city}\n"
        f"any MQTT client: 127.0.0.1:{layout.port}, topic lamppost/v1/{layout.network:08x}/#      Ctrl-C ends"
    )
    show_live(witness, lambda: _status(layout), hint)


def _status(layout: Layout) -> dict[str, Any]:
    """The gateway's own word over its status socket; empty while it does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1)
            connection.connect(str(layout.gateway / "status.sock"))
            connection.sendall(b'{"ask": "status"}\n')
            with connection.makefile("rb") as answers:
                value = json.loads(answers.readline())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _tell(proof: Proof) -> None:
    mark = "held  " if proof.held else "FAILED"
    terminal.out.print(f"{mark} {proof.took_s:5.1f} s  {proof.promise}")


def _conclude(proofs: list[Proof], total_s: float, layout: Layout, is_kept: list[bool], is_json: bool) -> int:
    is_proved = all(proof.held for proof in proofs)
    if not is_proved:
        _keep_logs(layout, is_kept, is_quiet=True)
    if is_json:
        document = {"held": is_proved, "total_s": round(total_s, 2), "proofs": [proof.document() for proof in proofs]}
        terminal.print_json(document if is_proved else {**document, "logs": str(layout.logs)})
    else:
        rows = [["yes" if proof.held else "NO", f"{proof.took_s:.1f}", proof.promise, proof.detail] for proof in proofs]
        terminal.out.print(terminal.table("What this run proved", ["held", "s", "promise", "seen"], rows))
        held = sum(proof.held for proof in proofs)
        terminal.out.print(f"{held} of {len(proofs)} promises held, {total_s:.1f} s in all (target {TARGET_S:.0f} s)")
        if not is_proved:
            advice = "run it again when this machine is less busy; else " if total_s >= TOTAL_S else ""
            terminal.err.print(f"lamppost: not everything held\n  try: {advice}read the logs in {layout.logs}")
    return EXIT_DONE if is_proved else EXIT_NO


@contextlib.contextmanager
def _folder(state: Path | None) -> Iterator[tuple[Path, list[bool]]]:
    """The demo's folder: the one given, or a temporary one that goes unless somebody sets the flag to keep it."""
    is_kept = [state is not None]
    folder = Path(tempfile.mkdtemp(prefix="lamppost-")) if state is None else state.resolve()
    if len(str(folder)) > _LONGEST_FOLDER:
        raise UsageError(f"--state {folder} is longer than {_LONGEST_FOLDER} characters", "choose a shorter path")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder, is_kept
    finally:
        if not is_kept[0]:
            shutil.rmtree(folder, ignore_errors=True)


def _keep_logs(layout: Layout, is_kept: list[bool], is_quiet: bool = False) -> None:
    is_kept[0] = True
    if not is_quiet:
        terminal.err.print(f"lamppost: the logs are kept in {layout.logs}")


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does, so that nothing is left running."""

    def end(number: int, frame: object) -> None:
        raise _EndedError

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
