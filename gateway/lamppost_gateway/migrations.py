"""Bringing an outbox file to the schema this program knows: all pending steps in one transaction, or none.

`PRAGMA user_version` holds the schema's number and is part of the same transaction, so a cut at any instant leaves
the old schema or the new one, never something between. A file of a newer program is refused and left untouched.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from lamppost_gateway.errors import OutboxCorrupt, OutboxNewer
from lamppost_gateway.schema import v001, v002

STEPS: tuple[Sequence[str], ...] = (v001.STATEMENTS, v002.STATEMENTS)


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
    """Apply what is missing; return how many steps were taken.

    Raises OutboxNewer, with the file as it was; OutboxCorrupt when the schema is not what its number says.
    """
    found = version(connection)
    if found > len(steps):
        if _noted_version(connection) in range(1, len(steps) + 1):
            raise OutboxCorrupt(f"the header says schema {found}, the table says another")
        raise OutboxNewer(found, len(steps))
    taken = len(steps) - found
    if taken:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statements in steps[found:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('schema', ?)", (str(len(steps)),))
            connection.execute(f"PRAGMA user_version = {len(steps)}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite itself rolls back on a full disk
                connection.execute("ROLLBACK")
            raise
    if steps is STEPS and _schema(connection) != _expected_schema():
        raise OutboxCorrupt("the schema differs from the one this program made")
    return taken


def _noted_version(connection: Connection) -> int | None:
    """The number as kept a second time in the table meta: a flipped bit in the header must not pass for a newer file."""
    try:
        for row in connection.execute("SELECT value FROM meta WHERE key = 'schema'"):
            return int(row[0])
    except (sqlite3.Error, ValueError):
        pass
    return None


def _schema(connection: Connection) -> list[tuple[str, str | None]]:
    return sorted((str(row[0]), row[1]) for row in connection.execute("SELECT name, sql FROM sqlite_master"))


@functools.cache
def _expected_schema() -> list[tuple[str, str | None]]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for statements in STEPS:
            for statement in statements:
                connection.execute(statement)
        return _schema(connection)
    finally:
        connection.close()
