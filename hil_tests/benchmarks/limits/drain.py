"""The limit of draining the outbox: one narrow table, read by key in pages of 500, each page marked in its own FULL commit."""

import sqlite3
import time
from pathlib import Path


def run(path: Path, rows: int, data: bytes) -> float:
    """Return the processor time in s for all rows."""
    path.unlink(missing_ok=True)
    store = sqlite3.connect(path, isolation_level=None)
    store.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE frame (id INTEGER PRIMARY KEY, data, published_at_ms)"
    )
    store.execute("BEGIN")
    store.executemany("INSERT INTO frame VALUES (?, ?, NULL)", ((i, data) for i in range(1, rows + 1)))
    store.execute("COMMIT")
    begin_s = time.process_time()
    last = 0
    while page := store.execute("SELECT id, data FROM frame WHERE id > ? ORDER BY id LIMIT 500", (last,)).fetchall():
        store.execute("BEGIN")
        store.execute("UPDATE frame SET published_at_ms = 1 WHERE id > ? AND id <= ?", (last, page[-1][0]))
        store.execute("COMMIT")
        last = page[-1][0]
    taken_s = time.process_time() - begin_s
    store.close()
    return taken_s
