"""Evidence from what a gateway kept: frames and refusals in its `outbox.db`, read only, whether it runs or not, or from a copy.

Schemas 1 and 2 of the gateway's tables (`lamppost_gateway/schema/`), alike in what is read here. Frames are read as they were verified
when they came; they are not verified again.
"""

import sqlite3
from collections import Counter
from pathlib import Path

from lamppost_protocol import cose, records
from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.kinds import QUALITIES, split_kind
from lamppost_protocol.profiles import PROFILES, fixture_name

from lamppost_tools.doctor.evidence import Evidence, Reading
from lamppost_tools.errors import MissingError, RefusedError

_SCHEMAS = (1, 2)
_FRAMES_A_NODE = 500
_BUSY_S = 5.0


def evidence_of_gateway(path: Path, node: str | None, newest_version: int | None) -> list[Evidence]:
    """One for each node that the outbox has frames or refusals of, or for `node` (8 hex digits). Raises MissingError, RefusedError."""
    database = path / "outbox.db" if path.is_dir() else path
    if not database.is_file():
        raise MissingError(f"{database} is not there", "give a gateway's state folder, or a copy of its outbox.db")
    try:
        connection = sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in _SCHEMAS:
                raise RefusedError(
                    f"{database} has tables of version {version}, not {_SCHEMAS[-1]}", "use the `lamppost` of the gateway's release"
                )
            known = "SELECT node FROM frame UNION SELECT node FROM reject WHERE node IS NOT NULL"
            nodes = [int(node, 16)] if node is not None else sorted(row[0] for row in connection.execute(known))
            return [_evidence(connection, one, str(database), newest_version) for one in nodes]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise RefusedError(f"{database} cannot be read: {error}", "stop the gateway, or give a copy of the file with its -wal") from None


def _evidence(connection: sqlite3.Connection, node: int, source: str, newest_version: int | None) -> Evidence:
    query = "SELECT received_at_ms, epoch, data FROM frame WHERE node = ? ORDER BY id DESC LIMIT ?"
    dated: list[bool] = []
    numbered: list[tuple[int, int, Reading]] = []
    for received_at_ms, epoch, data in connection.execute(query, (node, _FRAMES_A_NODE)).fetchall()[::-1]:
        try:
            uplink = records.decode_uplink(cose.decode(bytes(data)).payload)
        except ProtocolError:
            continue
        dated.append(uplink.t is not None)
        base_s = received_at_ms / 1000 if uplink.t is None else uplink.t
        numbered += [(epoch, uplink.n + at, _reading(base_s, record)) for at, record in enumerate(uplink.records)]
    numbered.sort(key=lambda one: one[:2])  # back-fill comes later than it was written
    readings = [one for _, _, one in numbered]
    refused = Counter(row[0] for row in connection.execute("SELECT reason FROM reject WHERE node = ?", (node,)))
    return Evidence(f"{node:08x}", source, dated, refused, readings, newest_version=newest_version)


def _reading(base_s: float, record: list[int | None]) -> Reading:
    kind, quality = record[0] or 0, record[2] or 0
    profile = PROFILES.get(split_kind(kind)[0])
    names = [column.name for column in profile.columns] if profile is not None else []
    word = QUALITIES[quality] if quality < len(QUALITIES) else str(quality)
    return Reading(base_s + (record[1] or 0), fixture_name(kind), word, dict(zip(names, record[3:], strict=False)))
