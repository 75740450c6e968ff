"""Every vector on every target: the device answers case by case, the host compares. ES256 and HMAC known answers are among them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.console import Repl
from bench.targets.target import Device, Setup, Target
from lamppost_protocol.p256_tables import build_generator_table, build_table
from street.deploy import install
from street.node_device import Image, compile_for_device
from street.street_node import firmware

PROTOCOL = Path(firmware().ROOT) / "protocol"
NAMES = (
    "cbor", "cose", "frames", "downlink", "schedule", "line", "states", "air", "pieces", "airtime", "ledger", "regions",
    "releases", "service",
)  # fmt: skip
TABLES = "/tables"


def cases(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((PROTOCOL / "vectors" / f"{name}.json").read_text())["cases"]
    return found


@pytest.fixture(scope="module")
def repl(target: Target, target_image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repl]:
    """The raw REPL of a device with the protocol, the runners and the generator's table on it."""
    folder = tmp_path_factory.mktemp("vectors")
    sources = [PROTOCOL / "tests/vector_runner.py", PROTOCOL / "tests/es256_runner.py"]
    library = target_image.library
    files = {path: content for path, content in target_image.files.items() if path.startswith(f"{library}/lamppost_protocol/")}
    runners = compile_for_device(folder / "runners", sources)
    files |= {f"{library}/{name}": each for name, each in runners.items()}
    files[f"{TABLES}/generator_2k.tbl"] = build_generator_table(5, 2)
    device: Device = target.device(Setup(folder, "vectors"))
    try:
        device.start()
        with device.console.raw_repl(deadline_s=target.deadline_s()) as held:
            install(held, files)
        with device.console.raw_repl(deadline_s=target.deadline_s()) as held:
            yield held
    finally:
        device.close()


def ask(target: Target, repl: Repl, question: str) -> list[Any]:
    """The JSON lines that `question` prints."""
    return [json.loads(line) for line in repl.exec(question, target.deadline_s()).splitlines()]


@pytest.mark.needs("console", "files")
@pytest.mark.parametrize("name", NAMES)
def test_every_vector(target: Target, repl: Repl, name: str) -> None:
    """Every case gives its result or its reason, in the heap that the target has."""
    repl.exec(f"import gc, json, vector_runner\nsigners = vector_runner.Signers({TABLES!r})", target.deadline_s())
    wanted = cases(name)
    assert len(wanted) >= 10
    answers = []
    for case in wanted:
        text = json.dumps({key: case[key] for key in ("id", "op", "in")})
        answers += ask(target, repl, f"print(json.dumps(vector_runner.run_case(json.loads({text!r}), signers)))\ngc.collect()")
    assert answers == [{key: case[key] for key in ("id", "out", "error") if key in case} for case in wanted]


@pytest.mark.needs("console", "files")
def test_every_es256_answer(target: Target, repl: Repl) -> None:
    """Signatures bit for bit, refusals by their reason, by the node's own arithmetic."""
    repl.exec(
        f"import gc, json, es256_runner\ntable = open({TABLES + '/generator_2k.tbl'!r}, 'rb').read()\nkeys = {{}}", target.deadline_s()
    )
    known = ""
    for case in sorted(cases("es256"), key=lambda case: str(case["in"].get("public_key"))):
        key = case["in"].get("public_key", "")
        if key and key != known:
            known = key
            table = build_table(int(key[:64], 16), int(key[64:], 16), 5, 2)
            repl.exec(f"keys.clear()\ngc.collect()\nkeys[bytes.fromhex({key!r})] = {table!r}", target.deadline_s())
        text = json.dumps({name: case[name] for name in ("op", "in")})
        question = (
            "try:\n"
            f"    print(json.dumps(es256_runner.answer(json.loads({text!r}), table, keys)))\n"
            "except es256_runner.ProtocolError as error:\n"
            "    print(json.dumps(error.reason))\n"
            "gc.collect()"
        )
        wanted = case["error"] if "error" in case else case["out"].get("signature", "good")
        assert ask(target, repl, question) == [wanted], case["id"]
