"""Schema 2: a refused frame keeps how a radio heard it; NULL where it came over a line."""

STATEMENTS: tuple[str, ...] = ("ALTER TABLE reject ADD COLUMN signal TEXT",)
