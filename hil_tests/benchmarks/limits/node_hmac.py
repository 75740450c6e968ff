"""Runs on MicroPython: the limit of checking an acknowledgement, COUNT bare HMAC-SHA-256 over as many octets with kept pads."""

import gc
import sys
from hashlib import sha256

inner_pad, outer_pad, message = bytes(64), bytes(64), bytes(57)
gc.collect()
for _ in range(int(sys.argv[1])):
    inner = sha256(inner_pad)
    inner.update(message)
    outer = sha256(outer_pad)
    outer.update(inner.digest())
    outer.digest()
