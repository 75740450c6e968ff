"""The authority signs a release: under its command key, with a sequence that only grows, and a line of each in its log."""

import json
import time
from pathlib import Path
from typing import Any

from lamppost_protocol import releases
from lamppost_protocol.es256_host import HostSigner

from lamppost_tools.authority.authority import load_command_key
from lamppost_tools.authority.counters import CounterFile
from lamppost_tools.authority.settings import COUNTERS_NAME, RELEASES_LOG_NAME, load_settings
from lamppost_tools.durable import append_line, write_file
from lamppost_tools.errors import RefusedError
from lamppost_tools.release.files import Release, signature_path


def sign_release(release: Release, state: Path, sequence: int | None, is_again: bool) -> dict[str, Any]:
    """Write the signed manifest beside the release; what was signed. The authority may be running meanwhile.

    `sequence` None: the next one. `is_again`: although it is signed already, which is how older firmware comes back. Raises ToolError.
    """
    if release.signed is not None and not is_again:
        raise RefusedError(f"{signature_path(release.path)} exists already", "publish that one; or --again signs it with a higher sequence")
    settings = load_settings(state)
    private_key = load_command_key(state, settings)
    counters, log = CounterFile(state / COUNTERS_NAME), state / RELEASES_LOG_NAME
    last = max(counters.last("release"), _last_logged(log))
    if sequence is not None and sequence <= last:
        raise RefusedError(f"sequence {sequence} is not above {last}, the last one signed: nodes would refuse it", "leave --sequence out")
    number = counters.take("release", at_least=last + 1 if sequence is None else sequence)
    network, issuer = int(settings.authority.network, 16), int(settings.authority.issuer, 16)
    manifest = release.manifest(number)
    signed = releases.seal_manifest(HostSigner(private_key), network, issuer, manifest)
    told = {"sequence": number, "version": manifest.version, "sha256": manifest.digest.hex(), "base": manifest.base.hex()}
    append_line(log, json.dumps({"at": int(time.time()), **told, "manifest": signed.hex()}, separators=(",", ":")))
    write_file(signature_path(release.path), signed)
    return told


def _last_logged(log: Path) -> int:
    """The highest sequence in the log: it outlives a counter file that an older program has written."""
    last = 0
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            last = max(last, int(json.loads(line)["sequence"]))
        except (ValueError, KeyError, TypeError):
            continue  # a torn line: its release was never handed out
    return last
