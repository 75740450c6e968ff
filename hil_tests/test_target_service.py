"""A technician with the real tool at a real node's line, and a vandal at the same line, on every target (R27)."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench.cable import DEVICE
from bench.deadline import wait_for
from bench.targets.target import Target
from lamppost_protocol import kinds, slip, tickets
from lamppost_protocol.es256_host import public_key
from lamppost_protocol.kinds import LAMP, NODE
from lamppost_protocol.profiles import by_name
from lamppost_tools.authority.public import read_authority_public
from lamppost_tools.technician.settings import PUBLIC_NAME, init_technician, load_technician
from street.knocks import KNOCKS, PROMPTS
from street.node_device import NodeDevice
from street.street_node import NodeSpec, StreetNode
from street.town import Town

_NODE = 0xE5
_LAPTOP = "laptop"
_HEALTH = [column.name for column in by_name("node").columns]
_BOOTS, _HEAP_LOWEST, _REJECTS, _TASK_RESTARTS = (_HEALTH.index(name) for name in ("boots", "heap_free_lowest", "rejects", "task_restarts"))
_FLOOD_BYTES = 40_000
_HEAP_NOISE_BYTES = 1_500
_LEAST_POINTS = 5
_KNOCK_S = 0.002


class Tool:
    """`lamppost` as the technician and the authority's desk run it."""

    def __init__(self, street: Town, folder: Path, deadline_s: float) -> None:
        self.folder = folder / "technician"
        kit_key = public_key(bytes(31) + b"\x07")
        init_technician(self.folder, "R. Laub", kit_key, read_authority_public(street.key.public_path), street.registry.path, None)
        self.authority = street.key.public_path.parent
        self.port = str(street.cables[_NODE].path(_LAPTOP))
        self.kid = tickets.holder_id(public_key(load_technician(self.folder).private_key()))
        self._deadline_s = deadline_s

    def run(self, *words: str, status: int = 0) -> dict[str, Any]:
        """What it says as JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "lamppost_tools", *words, "--json"],
            capture_output=True,
            text=True,
            timeout=self._deadline_s,
            check=False,
        )
        assert done.returncode == status, (words, done.stdout, done.stderr)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def service(self, *words: str, status: int = 0) -> dict[str, Any]:
        """At the node's line."""
        return self.run("service", f"{_NODE:08x}", *words, "--port", self.port, "--technician", str(self.folder), status=status)

    def ticket(self, nonce: str, scopes: str) -> str:
        """Read out over the telephone by the desk."""
        words = ["--node", f"{_NODE:08x}", "--nonce", nonce, "--technician", str(self.folder / PUBLIC_NAME), "--scopes", scopes]
        return str(self.run("authority", "ticket", "--state", str(self.authority), *words)["text"])


@pytest.mark.needs("line", "models")
def test_a_technician_serves_a_node(target: Target, target_town: Callable[..., Town], tmp_path: Path) -> None:
    """Nonce, ticket by telephone, a look, light, a test; what the ticket does not allow is not done; the broker hears every use.

    With another ticket a configuration, of which the registry learns, for the authority holds orders against it.
    """
    street = target_town(NodeSpec(_NODE), hosts=("g1", _LAPTOP), is_connected=True)
    node, subscriber = street.nodes[_NODE], street.subscriber
    assert subscriber is not None
    tool = Tool(street, tmp_path, target.deadline_s(120))
    street.add_gateway().start()
    street.serve_time()
    node.start()
    street.wait_until(lambda: node.knows_time, "time")
    facts = tool.service()
    assert (facts["node"], facts["ticket"], facts["state"]) == (node.id, 0, "running")
    assert "no ticket" in tool.service("look", status=3)["error"]
    text = tool.ticket(facts["nonce_to_read_out"], "look,light,test")
    look = tool.service("look", "--ticket", text)
    assert (look["result"], look["fixtures"], look["values"]["boots"]["value"]) == ("done", ["lamp"], 1)
    assert tool.service("light", "--seconds", "30")["result"] == "done"
    (record,) = tool.service("test", "--seconds", "30")["records"]
    assert (record["fixture"], record["quality"], record["values"]["cause"]["word"]) == ("lamp", "good", "service")
    assert "allows look, test, light, not restart" in tool.service("restart", status=2)["error"]

    def uses() -> list[list[Any]]:
        found = [document["values"] for document in subscriber.documents("record") if document["fixture"] == "service"]
        return [[values[name].get("word", values[name]["value"]) for name in ("asked", "verb", "result", "holder")] for values in found]

    wanted = [[number, verb, "done", tool.kid] for number, verb in enumerate(("ticket", "look", "light", "test"))]
    subscriber.wait(lambda: sorted(uses()) == sorted(wanted), lambda: f"the uses at the broker, only {uses()}", target.deadline_s())
    new = tmp_path / "new.toml"
    new.write_text('health_s = 77\n[[fixtures]]\nkind = "lamp"\n')
    assert (
        tool.service("configure", "--config", str(new), "--ticket", tool.ticket(facts["nonce_to_read_out"], "configure"))["result"]
        == "done"
    )
    assert street.registry.nodes()[node.id]["configuration"]["health_s"] == 77


def console_of(node: StreetNode) -> str:
    assert isinstance(node.program, NodeDevice)
    return node.program.said()


def heard(node: StreetNode) -> tuple[bytes, slip.Decoder, list[tuple[int, bytes]]]:
    """All that came out of the node's line, and what of it are messages."""
    with node.cable.changes:
        octets = bytes(node.cable.heard_up)
    decoder = slip.Decoder()
    return octets, decoder, decoder.feed(octets)


@pytest.mark.needs("line", "models")
def test_no_prompt_answers_on_the_line(target: Target, target_town: Callable[..., Town], seed: int) -> None:
    """Every octet and every known knock from before the first instruction on, and later: messages come, nothing else, and no restart."""
    chance = random.Random(seed)
    street = target_town(NodeSpec(_NODE, pace={"health_s": 2, "report_s": 5}))
    node = street.nodes[_NODE]
    street.add_gateway().start()
    street.serve_time()
    knocks = 0

    def knock() -> bool:
        nonlocal knocks
        street.cables[_NODE].say(DEVICE, KNOCKS[knocks % len(KNOCKS)] + chance.randbytes(16))
        knocks += 1
        return bool(node.hellos())

    knock()
    node.start()
    wait_for(knock, "hello under a flood", target.deadline_s(), every_s=_KNOCK_S)
    assert knocks >= _LEAST_POINTS
    street.wait_until(lambda: len(node.values(NODE)) >= 3 and node.knows_time, "health records of a node that knows the time")
    before = node.values(NODE)[-1]
    for start in range(0, _FLOOD_BYTES, 2000):
        rubbish = chance.randbytes(1000) + b"".join(chance.choice(KNOCKS) for _ in range(20))
        service = slip.encode(slip.SERVICE, chance.randbytes(chance.randrange(1, 300)))
        street.cables[_NODE].say(DEVICE, rubbish + slip.END + service)
        if start == _FLOOD_BYTES // 2:
            told = len(node.values(NODE))
            street.wait_until(lambda told=told: len(node.values(NODE)) > told, "health within the flood")
    told = len(node.values(NODE))
    street.wait_until(lambda: len(node.values(NODE)) >= told + 3, "health records after the flood")
    after = node.values(NODE)[-1]
    octets, decoder, messages = heard(node)
    print(f"{target.name}: {knocks} knocks at boot, heap lowest {before[_HEAP_LOWEST]} -> {after[_HEAP_LOWEST]}, rejects {after[_REJECTS]}")
    assert [prompt for prompt in PROMPTS if prompt in octets or prompt.decode() in console_of(node)] == []
    assert (decoder.bad_slip, decoder.bad_crc, decoder.bad_type, decoder.too_long) == (0, 0, 0, 0)
    assert {kind for kind, _ in messages} <= {slip.FRAME, slip.LOG, slip.HELLO}
    assert before[_BOOTS] == after[_BOOTS] == 1
    assert after[_TASK_RESTARTS] == 0
    assert after[_REJECTS] > 0
    assert after[_HEAP_LOWEST] >= before[_HEAP_LOWEST] - _HEAP_NOISE_BYTES
    assert any(record[0] == LAMP for record in node.records().values())
    assert not any(record[0] == kinds.SERVICE for record in node.records().values())
