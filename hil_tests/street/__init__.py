"""Real programs of this product put together for whole-system tests. May import every package; only tests import it."""
