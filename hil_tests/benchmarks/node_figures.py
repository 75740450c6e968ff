from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Row


def all_rows(rounds: int, folder: Path) -> Iterator[Row]:
    yield from ()
