"""Bringing an outbox file to the schema this program knows: all pending steps in one transaction, or none.

`PRAGMA user_version` holds the schema's number and is part of the same transaction, so a cut at any instant leaves
the old schema or the new one, never something between. A file of a newer program is refused and left untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from lamppost_gateway.errors import OutboxNewer
from lamppost_gateway.schema import v001

STEPS: tuple[Sequence[str], ...] = (v001.STATEMENTS,)


class Connection(Protocol):
    """What the outbox needs of a database connection in autocommit mode; `sqlite3` and `apsw` both give it."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Any = ..., /) -> Iterable[Any]: ...

    def executemany(self, sql: str, parameters: Any, /) -> Iterable[Any]: ...

    def close(self) -> None: ...


def version(connection: Connection) -> int:
    """The schema number of an open file; 0 for a fresh one."""
    for row in connection.execute("PRAGMA user_version"):
        return int(row[0])
    return 0


def migrate(connection: Connection, steps: Sequence[Sequence[str]] = STEPS) -> int:
    """Apply what is missing; return how many steps were taken. Raises OutboxNewer, with the file as it was."""
    found = version(connection)
    if found > len(steps):
        raise OutboxNewer(found, len(steps))
    if found == len(steps):
        return 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = version(connection)
        for statements in steps[found:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself rolls back on a full disk
            connection.execute("ROLLBACK")
        raise
    return len(steps) - found
