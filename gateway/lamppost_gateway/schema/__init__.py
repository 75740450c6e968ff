"""The outbox's schema, one file per version; `migrations.py` applies them in order. A released file is never edited."""
