"""The Lamppost wire protocol: bytes in, values out. No clock, no I/O, no randomness; CPython and MicroPython alike.

`protocol/WIRE.md` is normative; its worked examples are the vectors in `protocol/vectors/`.
"""
