"""Runs vectors/es256.json on any runtime: `es256_runner.py GENERATOR_TABLE FILE` prints a JSON line per case, then a summary.

Self-contained for a node: key tables are made here, by the node's own code. A line is {"id", "result": "PASS" or "FAIL", "got"}.
"""

import gc
import json
import sys
from binascii import hexlify, unhexlify

from lamppost_protocol.errors import ProtocolError
from lamppost_protocol.p256 import Signer, Verifier
from lamppost_protocol.p256_tables import build_table


def answer(case, generator_table, key_tables):
    inputs = case["in"]
    message = unhexlify(inputs["message"])
    if case["op"] == "es256.sign":
        signature = Signer(unhexlify(inputs["private_key"]), generator_table).sign(message)
        return hexlify(signature).decode()
    public_key = unhexlify(inputs["public_key"])
    if public_key not in key_tables:
        x = int.from_bytes(public_key[:32], "big")
        key_tables[public_key] = build_table(x, int.from_bytes(public_key[32:], "big"), 5, 2)
    Verifier(public_key, generator_table, key_tables[public_key]).verify(message, unhexlify(inputs["signature"]))
    return "good"


def main(arguments):
    with open(arguments[0], "rb") as file:
        generator_table = file.read()
    with open(arguments[1]) as file:
        cases = json.load(file)["cases"]
    key_tables = {}
    failures = 0
    for case in cases:
        try:
            got = answer(case, generator_table, key_tables)
        except ProtocolError as error:
            got = error.reason
        want = case["error"] if "error" in case else case["out"].get("signature", "good")
        failures += got != want
        print(json.dumps({"id": case["id"], "result": "PASS" if got == want else "FAIL", "got": got}))
        gc.collect()
    print(json.dumps({"cases": len(cases), "failures": failures}))


if __name__ == "__main__":
    main(sys.argv[1:])
