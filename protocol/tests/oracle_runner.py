"""Independent judges of our octets, in an environment of their own (`make oracles`): cwt and pycose need an older cbor2, and so does zcbor.

Reads JSON lines and answers one line each, {"ok": true} or {"ok": false, "why": ..}:
  {"judge": "zcbor", "rule": .., "data": hex}                                  the grammar
  {"judge": "cwt" | "pycose", "data": hex, "aad": hex, "public_key": hex}       a COSE_Sign1 message and its signature
  {"judge": "cwt" | "pycose", "data": hex, "aad": hex, "hop_key": hex}          a COSE_Mac0 message and its tag
"""

import contextlib
import json
import sys
from pathlib import Path

import cbor2
import zcbor
from cwt import COSE, COSEKey
from pycose.keys import CoseKey
from pycose.messages import Mac0Message, Sign1Message

# For the text of an error zcbor renders itself at each step of a right answer too: two thirds of its time.
zcbor.DataTranslator.mrepr = lambda self, newline: self.type

GRAMMAR = zcbor.DataTranslator.from_cddl((Path(__file__).resolve().parents[1] / "lamppost.cddl").read_text(), 128)


def public_cose_key(key: bytes) -> dict:
    return {1: 2, -1: 1, -2: key[:32], -3: key[32:]}


def judge(question: dict) -> None:
    data = bytes.fromhex(question["data"])
    if question["judge"] == "zcbor":
        GRAMMAR.my_types[question["rule"]].validate_str(data)
        return
    aad = bytes.fromhex(question["aad"])
    protected = cbor2.loads(cbor2.loads(data).value[0])
    if "public_key" in question:
        key = {**public_cose_key(bytes.fromhex(question["public_key"])), 3: -7, 2: protected[4]}
    else:
        key = {1: 4, -1: bytes.fromhex(question["hop_key"]), 3: 4, 2: protected[4]}
    if question["judge"] == "cwt":
        COSE.new().decode(data, COSEKey.new(key), external_aad=aad)
        return
    message = (Sign1Message if "public_key" in question else Mac0Message).decode(data)
    message.key = CoseKey.from_dict(key)
    message.external_aad = aad
    is_right = message.verify_signature() if "public_key" in question else message.verify_tag()
    if not is_right:
        raise ValueError("proof refused")


for line in sys.stdin:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # zcbor prints what it tried
            judge(json.loads(line))
        print(json.dumps({"ok": True}))
    except Exception as error:
        print(json.dumps({"ok": False, "why": f"{type(error).__name__}: {error}"[:300]}))
