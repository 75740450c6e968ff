"""Schema 1: frames until delivered and kept, each node's windows, orders, refusals, losses.

All times are unix milliseconds. STRICT, so that a torn row of the wrong type is never carried
over. Bitmaps are big-endian blobs, since a 64-bit one does not fit SQLite's signed integer.
"""

STATEMENTS: tuple[str, ...] = (
    # id ascends for ever (outbox.py gives it): one row per frame, appended at the right edge of the tree.
    # fresh: bit i = record n+i was new here. alarm: 1 = kept when history is thinned.
    """CREATE TABLE frame (
        id INTEGER PRIMARY KEY,
        node INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        tx INTEGER NOT NULL,
        n INTEGER NOT NULL,
        count INTEGER NOT NULL,
        fresh BLOB NOT NULL,
        received_at_ms INTEGER NOT NULL,
        link TEXT NOT NULL,
        late INTEGER NOT NULL,
        alarm INTEGER NOT NULL,
        data BLOB NOT NULL,
        published_at_ms INTEGER
    ) STRICT""",
    "CREATE INDEX frame_unpublished ON frame (late, id) WHERE published_at_ms IS NULL",
    """CREATE TABLE node_state (
        node INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        tx_highest INTEGER NOT NULL,
        tx_bitmap BLOB NOT NULL,
        n_highest INTEGER NOT NULL,
        n_bitmap BLOB NOT NULL,
        PRIMARY KEY (node, epoch)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE resend (
        id INTEGER PRIMARY KEY,
        node INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        first_n INTEGER NOT NULL,
        last_n INTEGER NOT NULL,
        until_ms INTEGER NOT NULL,
        taken BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE reject (
        id INTEGER PRIMARY KEY,
        reason TEXT NOT NULL,
        node INTEGER,
        link TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT""",
    """CREATE TABLE loss (
        id INTEGER PRIMARY KEY,
        node INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        first_n INTEGER NOT NULL,
        last_n INTEGER NOT NULL,
        records INTEGER NOT NULL,
        reason TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        published INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    """CREATE TABLE order_queue (
        order_id INTEGER PRIMARY KEY,
        node INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        not_before INTEGER NOT NULL,
        not_after INTEGER NOT NULL,
        verb INTEGER NOT NULL,
        frame BLOB NOT NULL,
        state INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        sent_at_ms INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    """CREATE TABLE order_event (
        id INTEGER PRIMARY KEY,
        order_id INTEGER NOT NULL,
        node INTEGER NOT NULL,
        state INTEGER NOT NULL,
        at_ms INTEGER NOT NULL,
        evidence TEXT NOT NULL,
        published INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    "CREATE INDEX order_event_unpublished ON order_event (id) WHERE published = 0",
    "CREATE INDEX loss_unpublished ON loss (id) WHERE published = 0",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
)
