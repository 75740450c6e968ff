"""The COSE working group's published examples for our two algorithms (R08), and that our decoder refuses what is not our profile (R09)."""

import json
from pathlib import Path

import pytest
from lamppost_protocol import cose
from lamppost_protocol.errors import RemoteError
from lamppost_protocol.es256_host import HostVerifier
from lamppost_protocol.hop import HopKey
from lamppost_protocol.p256 import Verifier
from lamppost_protocol.p256_tables import build_generator_table, build_table

FILE = json.loads((Path(__file__).resolve().parents[1] / "vectors/cose_wg.json").read_text())
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
KEY = bytes.fromhex(FILE["public_key"])


def verifiers() -> list:
    table = build_table(int.from_bytes(KEY[:32], "big"), int.from_bytes(KEY[32:], "big"), 5, 2)
    return [HostVerifier(KEY), Verifier(KEY, build_generator_table(5, 2), table)]


VERIFIERS = verifiers()


@pytest.mark.parametrize("case", [c for c in FILE["cases"] if "protected" in c], ids=lambda case: case["id"])
def test_structure_and_proof(case: dict) -> None:
    """To-be-signed and to-be-MACed octets are the published ones; each proof is accepted or refused as published."""
    make = cose.signature_input if case["kind"] == "sign1" else cose.mac_input
    content = bytes.fromhex(case.get("content", FILE["content"]))
    octets = make(bytes.fromhex(case["protected"]), bytes.fromhex(case["external_aad"]), content)
    if "input" in case:
        assert octets.hex() == case["input"]
    if "valid" not in case:
        return
    proof = bytes.fromhex(case["proof"])
    if case["kind"] == "mac0":
        HopKey(bytes.fromhex(FILE["hmac_key"])).verify(octets, proof)
        return
    s = int.from_bytes(proof[32:], "big")
    for verifier in VERIFIERS:
        if case.get("s_is_high"):
            with pytest.raises(RemoteError):
                verifier.verify(octets, proof)
        low = proof[:32] + (min(s, ORDER - s)).to_bytes(32, "big")
        if case["valid"]:
            verifier.verify(octets, low)
        else:
            with pytest.raises(RemoteError) as caught:
                verifier.verify(octets, low)
            assert caught.value.reason == "bad_signature"


@pytest.mark.parametrize("case", FILE["cases"], ids=lambda case: case["id"])
def test_whole_message_is_not_our_profile(case: dict) -> None:
    """Their headers carry kid or alg unprotected, other algorithms, other tags: refused by name, valid or not."""
    with pytest.raises(RemoteError) as caught:
        cose.decode(bytes.fromhex(case["message"]))
    assert caught.value.reason == case["profile"]
