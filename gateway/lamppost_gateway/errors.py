"""Every error of the gateway under one root; each carries fields, so that a caller never parses its text.

GatewayError
 +- ConfigError        the configuration file: every problem at once
 +- RegistryError      registry or hop keys cannot be used
 +- LinkError          a link cannot be opened or was lost
 +- ReleaseError       a release cannot be kept
 +- OutboxError        the store refused a job
     +- OutboxFull     no room or the disk fails: try again later, acknowledge nothing
     +- OutboxCorrupt  the database file is torn: it is put aside and a fresh one started
     +- OutboxNewer    the database was written by a newer program: refused, untouched

Remote data never raises these: what a peer sends badly is a `Rejection` of `verifier.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class GatewayError(Exception):
    """Root of all errors the gateway raises for its own reasons."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration file; `line` counts from 1, None when it cannot be known."""

    key: str
    text: str
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        return f"{where}{self.key}: {self.text}" if self.key else f"{where}{self.text}"


class ConfigError(GatewayError):
    """The configuration cannot be used; `.problems` holds all that is wrong, never a secret's value."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n".join([f"{source}: {len(self.problems)} problem(s)", *(f"  {p}" for p in self.problems)]))


class RegistryError(GatewayError):
    """The registry or the hop keys cannot be used; `.reason` is a short word for logs and metrics."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {detail}")


class LinkError(GatewayError):
    """A link cannot be opened or was lost; `.link` is its configured name."""

    def __init__(self, link: str, detail: str) -> None:
        self.link = link
        super().__init__(f"{link}: {detail}")


class ReleaseError(GatewayError):
    """A release cannot be kept: the disk has no room or fails. Nothing of it is there."""


class OutboxError(GatewayError):
    """The outbox refused a job; nothing of that job is stored."""


class OutboxFull(OutboxError):  # noqa: N818 - the state of the disk, read as such at every use
    """Nothing was stored for want of room or because the disk fails; the same job may succeed later."""


class OutboxCorrupt(OutboxError):  # noqa: N818
    """The database file is damaged; it must be put aside."""


class OutboxNewer(OutboxError):  # noqa: N818
    """The database has schema `found`, this program knows `known`: it was written by a newer program."""

    def __init__(self, found: int, known: int) -> None:
        self.found = found
        self.known = known
        super().__init__(
            f"the outbox has schema {found}, this program knows up to {known}: start the newer program again, or move outbox.db aside"
        )
