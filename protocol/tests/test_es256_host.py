"""ES256 on the host: the same vectors and refusals as on the node, and `cryptography` itself as the judge of the bytes."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from lamppost_protocol import es256_host, p256
from lamppost_protocol.errors import LocalError, RemoteError

CASES = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "es256.json").read_text())["cases"]
SIGN_CASES = [case for case in CASES if case["op"] == "es256.sign"]
VERIFY_CASES = [case for case in CASES if case["op"] == "es256.verify"]


def bare_verify(public_key: bytes, message: bytes, signature: bytes) -> None:
    """The oracle: no rule of ours, the library's own conversion."""
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public_key)
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    point.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("case", SIGN_CASES, ids=lambda case: case["id"])
def test_signs_as_the_vectors(case: dict[str, Any]) -> None:
    """Deterministic and low-s, bit-equal to the file."""
    private_key = bytes.fromhex(case["in"]["private_key"])
    assert es256_host.public_key(private_key).hex() == case["out"]["public_key"]
    assert es256_host.HostSigner(private_key).sign(bytes.fromhex(case["in"]["message"])).hex() == case["out"]["signature"]


@pytest.mark.parametrize("case", VERIFY_CASES, ids=lambda case: case["id"])
def test_verifies_and_refuses_as_the_vectors(case: dict[str, Any]) -> None:
    """The same answer as the node's verifier gives."""
    verifier = es256_host.HostVerifier(bytes.fromhex(case["in"]["public_key"]))
    arguments = bytes.fromhex(case["in"]["message"]), bytes.fromhex(case["in"]["signature"])
    if "out" in case:
        verifier.verify(*arguments)
        return
    with pytest.raises(RemoteError) as refusal:
        verifier.verify(*arguments)
    assert refusal.value.reason == case["error"]


@pytest.mark.parametrize("case", [case for case in VERIFY_CASES if len(case["in"]["signature"]) == 128], ids=lambda case: case["id"])
def test_the_library_alone_differs_only_in_high_s(case: dict[str, Any]) -> None:
    """What `cryptography` accepts and we refuse is a high s, and nothing else; what we accept it accepts."""
    message, signature = bytes.fromhex(case["in"]["message"]), bytes.fromhex(case["in"]["signature"])
    is_high_s = p256.ORDER // 2 < int.from_bytes(signature[32:], "big") < p256.ORDER
    try:
        bare_verify(bytes.fromhex(case["in"]["public_key"]), message, signature)
    except InvalidSignature:
        assert "error" in case
    else:
        assert "out" in case or is_high_s


@settings(max_examples=150, deadline=None)
@given(r=st.integers(0, (1 << 256) - 1), s=st.integers(0, (1 << 256) - 1))
def test_any_numbers_raise_only_remote_errors(r: int, s: int) -> None:
    """Every length of r and s goes through the hand-made DER without another exception."""
    verifier = es256_host.HostVerifier(es256_host.public_key(bytes(31) + b"\x07"))
    for shift_r, shift_s in ((0, 0), (129, 7), (248, 1), (8, 255)):
        with pytest.raises(RemoteError):
            verifier.verify(b"m", (r >> shift_r).to_bytes(32, "big") + (s >> shift_s).to_bytes(32, "big"))


@settings(max_examples=100, deadline=None)
@given(message=st.binary(max_size=64), number=st.integers(1, p256.ORDER - 1))
def test_signatures_satisfy_the_library(message: bytes, number: int) -> None:
    """Round trip through the oracle's own verifier; low s always; signing again gives the same bytes."""
    private_key = number.to_bytes(32, "big")
    signer = es256_host.HostSigner(private_key)
    signature = signer.sign(message)
    assert signer.sign(message) == signature
    assert int.from_bytes(signature[32:], "big") <= p256.ORDER // 2
    bare_verify(es256_host.public_key(private_key), message, signature)
    es256_host.HostVerifier(es256_host.public_key(private_key)).verify(message, signature)


def test_generated_keys_are_fresh_and_usable() -> None:
    """32 bytes each, in range, no two alike."""
    keys = {es256_host.generate_private_key() for _ in range(50)}
    assert len(keys) == 50
    for key in keys:
        assert len(key) == 32
        assert len(es256_host.public_key(key)) == 64


@pytest.mark.parametrize("private_key", [b"", bytes(32), bytes(31), p256.ORDER.to_bytes(32, "big")])
def test_public_key_refuses_bad_private_keys(private_key: bytes) -> None:
    """Named, and before the library sees it."""
    with pytest.raises(LocalError) as refusal:
        es256_host.public_key(private_key)
    assert refusal.value.reason == "bad_key"


def test_views_and_bytearrays_are_accepted() -> None:
    """A receiver may hand over slices of its buffer without copying."""
    private_key = bytes(31) + b"\x09"
    signer, verifier = es256_host.HostSigner(private_key), es256_host.HostVerifier(es256_host.public_key(private_key))
    signature = signer.sign(b"hello")
    verifier.verify(bytearray(b"hello"), bytearray(signature))  # type: ignore[arg-type]
    verifier.verify(memoryview(b"hello"), memoryview(signature))  # type: ignore[arg-type]
