"""Runs on MicroPython: the limit of a signed frame, COUNT bare ES256 signatures with the node's own signer over as many octets."""

import gc
import sys

from lamppost_protocol.p256 import Signer

with open(sys.argv[2] + "/tables/generator.tbl", "rb") as file:
    signer = Signer(bytes(range(1, 33)), file.read())
message = bytes(86)
gc.collect()
for _ in range(int(sys.argv[1])):
    signer.sign(message)
