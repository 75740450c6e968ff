"""The vectors on both runtimes, against independent libraries, the grammar and the specification's own examples."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cbor2
import oracles
import pytest
import vector_runner
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from lamppost_protocol.errors import REASONS
from lamppost_protocol.es256_host import public_key
from lamppost_protocol.p256_tables import build_generator_table

PROTOCOL = Path(__file__).resolve().parents[1]
NAMES = (
    "cbor",
    "cose",
    "frames",
    "downlink",
    "schedule",
    "line",
    "states",
    "air",
    "pieces",
    "airtime",
    "ledger",
    "regions",
    "modem",
    "releases",
    "service",
)
FILES = [PROTOCOL / "vectors" / f"{name}.json" for name in NAMES]
MODEM_RULES = {
    "received": "radio-received", "transmit": "radio-transmit", "sent": "radio-sent", "state": "modem", "listen": "radio-listen",
}  # fmt: skip
FRAME_RULES = {1: "order-frame", 2: "beacon-frame", 5: "ticket-frame", 6: "request-frame"}
CASES = [case for file in FILES for case in json.loads(file.read_text())["cases"]]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    (folder / "generator_2k.tbl").write_bytes(build_generator_table(5, 2))
    return folder


def service_rule(case: dict) -> str:
    """The grammar's rule for a case of tickets."""
    rule: str = case["in"]["message"]
    return rule if rule != "answer" else "service-facts" if "facts" in case["id"] else "service-answer"


def expected(case: dict) -> dict:
    return {key: case[key] for key in ("id", "out", "error") if key in case}


def test_every_vector_on_cpython(tables: Path) -> None:
    """Every case gives its result or its reason on CPython."""
    signers = vector_runner.Signers(str(tables))
    assert [vector_runner.run_case(case, signers) for case in CASES] == [expected(case) for case in CASES]


def micropython() -> str:
    found = (
        os.environ.get("MICROPYTHON") or shutil.which("micropython", path=str(Path(sys.executable).parent)) or shutil.which("micropython")
    )
    assert found, "no micropython: run `make setup`, or set MICROPYTHON"
    return found


def test_every_vector_on_micropython(tables: Path) -> None:
    """Every case gives the same on MicroPython, in a heap of 288 KB."""
    answers = subprocess.run(
        [micropython(), "-X", "heapsize=288k", str(PROTOCOL / "tests/vector_runner.py"), str(tables), *map(str, FILES)],
        env={"MICROPYPATH": str(PROTOCOL)}, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert [json.loads(line) for line in answers.stdout.splitlines()] == [expected(case) for case in CASES]


def test_files_are_what_the_script_writes(tables: Path) -> None:
    """No case has an unknown reason or a repeated id, and both outcomes are there in numbers."""
    ids = [case["id"] for case in CASES]
    assert len(set(ids)) == len(ids)
    assert {case["error"] for case in CASES if "error" in case} <= set(REASONS)
    assert sum("error" in case for case in CASES) > 100
    assert sum("out" in case for case in CASES) > 90


def test_cbor2_agrees() -> None:
    """The general decoder reads our encodings as we do, and its deterministic encoder writes the same octets."""
    for case in CASES:
        if case["op"] == "cbor.decode" and "out" in case:
            data = bytes.fromhex(case["in"]["data"])
            assert vector_runner.to_json(cbor2.loads(data)) == case["out"]["value"], case["id"]
            assert cbor2.dumps(cbor2.loads(data), canonical=True) == data or "map" in case["id"] or "nested" in case["id"]
        if case["op"] == "records.encode_uplink" and "out" in case:
            i = case["in"]
            value = [i["n"], i["behind"], i["t"], i["clock"], *i["records"]]
            assert cbor2.dumps(value, canonical=True).hex() == case["out"]["payload"], case["id"]


def test_cryptography_agrees() -> None:
    """Every sealed frame verifies with an independent ECDSA and its to-be-signed octets are those cbor2 makes."""
    count = 0
    for case in CASES:
        if case["op"] != "frames.seal" or "out" not in case:
            continue
        i, out = case["in"], case["out"]
        protected, unprotected, payload, signature = cbor2.loads(bytes.fromhex(out["frame"])).value
        aad = cbor2.dumps(["lamppost/1", i["direction"], i["network"], i["node"], i["epoch"]])
        assert aad.hex() == out["external_aad"]
        to_be_signed = cbor2.dumps(["Signature1", protected, aad, payload])
        assert to_be_signed.hex() == out["signature_input"]
        assert dict(unprotected) == {}
        assert payload.hex() == i["payload"]
        key = ec.derive_private_key(int(i["private_key"], 16), ec.SECP256R1()).public_key()
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        key.verify(utils.encode_dss_signature(r, s), to_be_signed, ec.ECDSA(SHA256()))
        count += 1
    assert count >= 14


def test_acknowledgements_agree() -> None:
    """Every acknowledgement's tag is what an independent HMAC gives over what cbor2 makes."""
    for case in CASES:
        if case["op"] != "frames.seal_acknowledgement":
            continue
        i = case["in"]
        frame = bytes.fromhex(case["out"]["frame"])
        protected, _, payload, tag = cbor2.loads(frame).value
        mac = HMAC(bytes.fromhex(i["hop_key"]), SHA256())
        aad = cbor2.dumps(["lamppost/1", 3, i["network"], i["node"], i["epoch"]])
        mac.update(cbor2.dumps(["MAC0", protected, aad, payload]))
        assert mac.finalize()[:8] == tag


def test_the_grammar_and_two_cose_libraries_agree() -> None:
    """zcbor finds every frame and hello inside lamppost.cddl; cwt and pycose verify every frame with our key and context."""
    questions = []
    for case in CASES:
        if "out" not in case:
            continue
        given, out = case["in"], case["out"]
        if case["op"] == "frames.seal":
            key = public_key(bytes.fromhex(given["private_key"])).hex()
            rule = FRAME_RULES.get(given["direction"], "frame")
            questions.append({"judge": "zcbor", "rule": rule, "data": out["frame"]})
            for judge in ("cwt", "pycose"):
                questions.append({"judge": judge, "data": out["frame"], "aad": out["external_aad"], "public_key": key})
        elif case["op"] == "frames.seal_acknowledgement":
            aad = cbor2.dumps(["lamppost/1", 3, given["network"], given["node"], given["epoch"]]).hex()
            questions.append({"judge": "zcbor", "rule": "acknowledgement-frame", "data": out["frame"]})
            for judge in ("cwt", "pycose"):
                questions.append({"judge": judge, "data": out["frame"], "aad": aad, "hop_key": given["hop_key"]})
        elif case["op"] == "schedule.check_schedule":
            questions.append({"judge": "zcbor", "rule": "schedule", "data": given["data"]})
        elif case["op"] == "hello.decode_hello":
            questions.append({"judge": "zcbor", "rule": "hello", "data": given["body"]})
        elif case["op"] == "releases.seal_manifest":
            key = public_key(bytes.fromhex(given["private_key"])).hex()
            questions.append({"judge": "zcbor", "rule": "release-frame", "data": out["frame"]})
            for judge in ("cwt", "pycose"):
                questions.append({"judge": judge, "data": out["frame"], "aad": out["external_aad"], "public_key": key})
        elif case["op"] in ("releases.want", "releases.piece"):
            questions.append({"judge": "zcbor", "rule": case["op"].partition(".")[2], "data": given["body"]})
        elif case["op"] == "modem":
            questions.append({"judge": "zcbor", "rule": MODEM_RULES[given["message"]], "data": given["body"]})
        elif case["op"] == "tickets":
            questions.append({"judge": "zcbor", "rule": service_rule(case), "data": given["body"]})
    answers = oracles.ask(questions)
    assert [(q, a) for q, a in zip(questions, answers, strict=True) if not a["ok"]] == []
    assert len(questions) >= 50


def test_the_judges_can_refuse() -> None:
    """A judge that accepts everything proves nothing: each refuses what breaks a rule."""
    payloads: list[tuple[str, object]] = [
        ("uplink", [0, 0, 5, 5, [1, 0, 0]]),
        ("uplink", [1, 0, 5, None, [1, 0, 0]]),
        ("uplink", [1, 0, None, None, [0, 0, 0]]),
        ("uplink", [1, 0, None, None]),
        ("uplink", [1, 0, 5, 5, [1, 0, 0, "text"]]),
        ("order", [1, 2, 0, 1, 1]),
        ("order", [1, 2, 1, 1]),
        ("beacon", [1, b"1234567"]),
        ("acknowledgement", [1, 1 << 32, b"12345678"]),
        ("sign1-header", {1: -7, 4: b"1234"}),
        ("sign1-header", {1: -7, 4: b"1234", 6: b"12345"}),
        ("hello", [2, 1, 1, 1, 0, None, 1, 1, "x"]),
    ]
    refused = [case for case in CASES if case["op"] == "modem" and "error" in case and case["in"]["body"]]
    payloads += [(MODEM_RULES[case["in"]["message"]], cbor2.loads(bytes.fromhex(case["in"]["body"]))) for case in refused]
    questions = [{"judge": "zcbor", "rule": rule, "data": cbor2.dumps(value).hex()} for rule, value in payloads]
    refused = [case for case in CASES if case["id"].startswith(("want-refused-", "piece-refused-")) and case["id"][-7:] != "between"]
    questions += [{"judge": "zcbor", "rule": case["op"].partition(".")[2], "data": case["in"]["body"]} for case in refused]
    refused = [case for case in CASES if case["id"].startswith("manifest-refused-") and case["id"][-5:] != "space"]
    questions += [{"judge": "zcbor", "rule": "manifest", "data": case["in"]["payload"]} for case in refused]
    for case in CASES:
        # That a range runs forwards is no matter of grammar, nor is what follows the item.
        if case["op"] == "tickets" and "error" in case and case["id"] not in ("request-resend-backwards", "ticket-trailing"):
            questions.append({"judge": "zcbor", "rule": service_rule(case), "data": case["in"]["body"]})
    case = next(case for case in CASES if case["id"] == "frame-lamp")
    key = public_key(bytes.fromhex(case["in"]["private_key"])).hex()
    for judge in ("cwt", "pycose"):
        wrong_context = cbor2.dumps(["lamppost/1", 1, 1, 1, 1]).hex()
        questions.append({"judge": judge, "data": case["out"]["frame"], "aad": wrong_context, "public_key": key})
    assert [q for q, a in zip(questions, oracles.ask(questions), strict=True) if a["ok"]] == []


def test_examples_of_the_specification() -> None:
    """Every example line of WIRE.md is a vector, to the octet."""
    encodings = {}
    for case in CASES:
        out, given = case.get("out"), case["in"]
        if isinstance(out, dict):
            written = [out[k] for k in ("frame", "payload", "line", "data", "encoded") if k in out] + out.get("packets", [])
            encodings[case["id"]] = written[0] if written else given.get("data")
            encodings.update({f"{case['id']}-{i}": packet for i, packet in enumerate(out.get("packets", []))})
    lines = re.findall(r"^example (\S+): ([0-9a-f ]+)$", (PROTOCOL / "WIRE.md").read_text(), re.MULTILINE)
    assert len(lines) >= 8
    for name, octets in lines:
        assert encodings[name] == octets.replace(" ", ""), name
