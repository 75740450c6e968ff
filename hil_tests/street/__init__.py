"""Lamppost on the bench: real programs of this product put together for whole-system tests. May import every package; nothing imports it but tests."""
