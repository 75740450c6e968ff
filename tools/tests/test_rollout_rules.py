"""When a roll-out goes on and when it stops itself, over evidence alone: no broker, no clock but the test's."""

import json
from pathlib import Path
from typing import Any

import pytest
from lamppost_protocol.profiles import by_name
from lamppost_tools.errors import UsageError
from lamppost_tools.rollout.brake import decide, halt
from lamppost_tools.rollout.cli import _nodes
from lamppost_tools.rollout.course import AIR_PACE, Course, Pace
from lamppost_tools.rollout.evidence import Evidence
from lamppost_tools.rollout.rules import Baseline, Health, Limits, Since, moved, version_number
from lamppost_tools.rollout.stages import parse_stages, pick_stages

DIGEST = bytes(range(32))
NODES = [f"{number:08x}" for number in range(1, 41)]
HOUR_S = 3600
PACE = {"soak_s": HOUR_S, "order_s": 4 * HOUR_S, "baseline_s": HOUR_S, "silence_s": HOUR_S, "at_once": 100}


def test_the_first_nodes_are_the_same_each_time_and_of_different_gateways() -> None:
    """Whatever order the nodes come in; each stage takes from as many gateways as it can; another release begins elsewhere."""
    gateways = {node: f"g{int(node, 16) % 4}" for node in NODES[:32]}
    stages = parse_stages("10%,50%,100%")
    picked = pick_stages(NODES, gateways, stages, DIGEST)
    assert picked == pick_stages(reversed(NODES), gateways, stages, DIGEST)
    assert [len(stage) for stage in picked] == [4, 16, 20]
    assert len({gateways.get(node) for node in picked[0]}) == 4
    assert sorted(node for stage in picked for node in stage) == NODES
    assert picked[0] != pick_stages(NODES, gateways, stages, bytes(32))[0]


@pytest.mark.parametrize(
    ("stages", "nodes", "sizes"),
    [("1%,10%,100%", 40, [1, 3, 36]), ("1%,100%", 1, [1]), ("2,3,100%", 2, [2]), ("0.5%,100%", 400, [2, 398]), ("100%", 3, [3])],
)
def test_stage_sizes(stages: str, nodes: int, sizes: list[int]) -> None:
    """A percentage is rounded up, a number is a number, and a stage for which nobody is left falls away."""
    assert [len(stage) for stage in pick_stages((f"{n:08x}" for n in range(nodes)), {}, parse_stages(stages), DIGEST)] == sizes


@pytest.mark.parametrize("text", ["", "1%", "10%,5", "a,100%", "-1,100%", "1%;100%"])
def test_stages_that_are_none(text: str) -> None:
    """Anything that does not end with all of them is refused in words."""
    with pytest.raises(UsageError, match="stages"):
        parse_stages(text)


BEFORE = Health(1, 10, 7200, 20, 20.0, 4, 0)
AFTER = Health(1, 20, 3600, 21, 19.0, 2, 0)


@pytest.mark.parametrize(
    ("since", "word"),
    [
        (Since(AFTER), ""),
        (Since(Health(1, 20, 3600, 22, 10.0, 26, 2)), ""),
        (Since(Health(1, 20, 3600, 23, 19.0, 2, 0)), "boots 20 to 23"),
        (Since(Health(1, 20, 3600, 21, 9.9, 2, 0)), "heap 20.0 to 9.9"),
        (Since(Health(1, 20, 3600, 21, None, 27, 0)), "refused 27 frames"),
        (Since(Health(1, 20, 3600, 21, 19.0, 2, 3)), "task restarts 0 to 3"),
        (Since(Health(1, 20, 3600, 21, 19.0, 2, 0, "safe_mode")), "state is safe_mode"),
        (Since(AFTER, frozenset({"cycling"})), ""),
        (Since(AFTER, frozenset({"cycling", "high_power", "low_power"})), "faults: high_power, low_power"),
        (Since(AFTER, gateway_rejects=26, hours=1.0), ""),
        (Since(AFTER, gateway_rejects=27, hours=1.0), "gateways refused 27"),
        (Since(None), ""),
    ],
)
def test_each_figure_that_moves_is_named(since: Since, word: str) -> None:
    """At its limit nothing is said; one step beyond it, that one figure is."""
    found = moved(Baseline(BEFORE, frozenset({"cycling"}), 2.0), since, Limits())
    assert (len(found), word in "; ".join(found)) == (1 if word else 0, True)


def test_a_node_that_cannot_count_its_boots_is_not_judged_by_them() -> None:
    """0 boots says that the count could not be kept."""
    assert moved(Baseline(Health(1, 1, 10, 0)), Since(Health(1, 2, 10, 40)), Limits()) == []


class Street:
    """A roll-out over nodes that the test lets speak; `now_s` is its clock, `said` what was decided."""

    def __init__(self, stages: list[list[str]], **limits: Any) -> None:
        self.now_s = 1_000_000.0
        self.evidence = Evidence()
        self.entries: list[dict[str, Any]] = []
        self.course = Course()
        self.number: dict[str, int] = {}
        self.order_id = 0
        start = {
            "rollout": "r", "manifest": "00", "version": "lamppost 2", "sequence": 3, "digest": DIGEST.hex(), "stages": stages,
            "pace": PACE, "limits": {**Limits().__dict__, **limits},
        }  # fmt: skip
        self.note("start", start)

    def note(self, step: str, facts: dict[str, Any]) -> None:
        entry = json.loads(json.dumps({"at": int(self.now_s), "step": step, **facts}))
        self.entries.append(entry)
        self.course.apply(entry)

    def go_on(self) -> list[str]:
        """Decide until there is nothing to decide; what was, in words."""
        said = []
        while facts := decide(self.course, self.evidence, self.now_s):
            for step, more in facts:
                self.note(step, more)
                said.append(f"{step} {more.get('node', '')}".strip())
                if step == "request":
                    self.evidence.asked.add(more["request_id"])
        return said

    def tell(self, topic: str, document: dict[str, Any]) -> None:
        self.evidence.take(topic, json.dumps(document).encode(), self.now_s)

    def next_n(self, node: str) -> int:
        self.number[node] = self.number.get(node, 0) + 1
        return self.number[node]

    def health(self, node: str, **values: Any) -> None:
        """A record of the node's health."""
        known = {"uptime": 9000, "boots": 5, "heap_free": 20.0, "rejects": 0, "task_restarts": 0, "state": 0, **values}
        words = {"word": ["running", "safe_mode"][known["state"]]}
        columns = {c.name: {"value": known.get(c.name), **(words if c.name == "state" else {})} for c in by_name("node").columns}
        self.tell(f"node/{node}/record/node", {"epoch": 1, "n": self.next_n(node), "values": columns})

    def lamp(self, node: str, *faults: str, times: int = 3) -> None:
        for _ in range(times):
            self.tell(
                f"node/{node}/record/lamp", {"epoch": 1, "n": self.next_n(node), "values": {"faults": {"value": 0, "words": list(faults)}}}
            )

    def sign(self) -> dict[str, int]:
        """The authority answers every request; order ids by node."""
        for _, node in self.course.open_nodes():
            if not node.order_id:
                self.order_id += 1
                answer = {"request_id": node.request_id, "order_id": self.order_id, "not_after": int(self.now_s) + PACE["order_s"]}
                self.tell("order/response", answer)
        self.go_on()
        return {name: node.order_id for name, node in self.course.open_nodes()}

    def state(self, node: str, state: str, reason: str = "", by: str = "node") -> None:
        """The node's signed word, or the gateway's."""
        evidence = {"by": by, **({"epoch": 1, "n": self.next_n(node), "reason": reason} if by == "node" else {})}
        self.tell(f"order/{self.course.nodes[node].order_id}/state", {"node": node, "state": state, "evidence": evidence})

    def update(self, *nodes: str) -> None:
        """Let these have their release, from order to confirmation, and go on living."""
        self.sign()
        for node in nodes:
            for state in ("accepted", "applied", "verified"):
                self.state(node, state)
        self.go_on()
        for node in nodes:
            self.health(node, boots=6)

    def pass_s(self, seconds: float) -> list[str]:
        self.now_s += seconds
        return self.go_on()


A, B, C, D = NODES[:4]


@pytest.fixture
def street() -> Street:
    made = Street([[A], [B, C], [D]])
    for node in (A, B, C, D):
        made.health(node)
        made.lamp(node, "cycling")
    return made


def test_a_good_release_goes_through_all_stages(street: Street) -> None:
    """One stage at a time, each soaked; and what the journal says leads to the very same course."""
    assert street.go_on() == [f"baseline {A}", f"request {A}"]
    street.update(A)
    assert "soak" in [entry["step"] for entry in street.entries]
    assert street.pass_s(HOUR_S - 1) == []
    assert street.pass_s(1) == ["clear", f"baseline {B}", f"request {B}", f"baseline {C}", f"request {C}"]
    street.update(B)
    assert street.pass_s(2 * HOUR_S) == []  # C is not there yet: nothing is clear, whatever the time
    street.update(C)
    street.pass_s(HOUR_S)
    street.update(D)
    assert street.pass_s(HOUR_S) == ["done"]
    again = Course.of(street.entries)
    assert (again.is_done, again.halted, again.nodes) == (True, "", street.course.nodes)


def test_a_node_that_goes_back_stops_it(street: Street) -> None:
    """The first one does, whoever is next gets no order, and the sentence names node and reason."""
    street.go_on()
    street.sign()
    street.state(A, "accepted")
    street.state(A, "reverted", "trial_failed")
    assert street.go_on() == [f"state {A}", "halt"]
    assert street.course.halted == f"1 of 4 nodes do not run the release: {A} reverted (trial_failed)"
    assert street.pass_s(100 * HOUR_S) == []
    assert not street.course.nodes[B].request_id


@pytest.mark.parametrize("state", ["reverted", "refused"])
def test_as_many_may_go_back_as_was_allowed(state: str) -> None:
    """With one allowed the second one stops it, and the open orders of the others are taken back."""
    street = Street([[A, B, C, D]], max_reverted=1)
    for node in (A, B, C, D):
        street.health(node)
    street.go_on()
    street.sign()
    street.state(A, state, "no_room")
    street.state(C, "accepted")
    street.state(D, "applied")
    street.go_on()
    assert not street.course.is_over
    street.state(B, state, "no_room")
    assert street.go_on()[-2:] == ["halt", f"cancel {C}"]


def test_what_moves_stops_it_in_the_soak(street: Street) -> None:
    """A fault that was there before is none; a new one in three records on end is; a lamp that complains once is not listened to."""
    street.go_on()
    street.update(A)
    street.lamp(A, "cycling")
    street.lamp(A, "cycling", "high_power", times=2)
    assert street.pass_s(10) == []
    street.lamp(A, "cycling", "high_power", times=1)
    assert street.pass_s(10) == [f"moved {A}", "halt"]
    assert street.course.halted == f"1 updated nodes do worse than before: {A}: new lamp faults: high_power"


def test_boots_heap_and_refusals_stop_it_too() -> None:
    """Each by its own record or by what gateways refuse; what came before the update is not counted against it."""
    for tell in (
        lambda street: street.health(A, boots=9),
        lambda street: [street.health(A, boots=6, heap_free=9.0) for _ in range(3)],
        lambda street: street.health(A, boots=6, rejects=60),
        lambda street: [street.tell("gateway/g1/reject", {"node": A, "reason": "bad_tag"}) for _ in range(60)],
    ):
        street = Street([[A], [B]])
        street.health(A, boots=5)
        street.go_on()
        street.update(A)
        street.now_s += 60
        tell(street)
        assert street.go_on() == [f"moved {A}", "halt"]


def test_less_heap_in_one_record_is_no_finding(street: Street) -> None:
    """The least of the last three before against the most of three after: what a trial itself takes is back by then."""
    street.health(A, heap_free=16.0)
    street.health(A, heap_free=20.0)
    street.go_on()
    assert street.course.nodes[A].baseline.health.heap_free_kb == 16.0
    street.update(A)
    for heap_kb in (6.0, 7.9, 8.0, 6.0):
        street.health(A, boots=6, heap_free=heap_kb)
        assert street.pass_s(10) == []
    for heap_kb in (7.9, 7.9):
        street.health(A, boots=6, heap_free=heap_kb)
    assert street.pass_s(10) == [f"moved {A}", "halt"]


def test_a_stage_is_not_left_while_a_node_is_silent(street: Street) -> None:
    """Updated, confirmed, and no record of its health since: the soak does not end, and after its patience the roll-out does."""
    street.go_on()
    street.sign()
    street.state(A, "verified")
    street.go_on()
    assert street.pass_s(HOUR_S) == []
    assert street.pass_s(HOUR_S - 1) == []
    assert street.pass_s(1) == ["halt"]
    assert A in street.course.halted


def test_a_node_never_heard_of_gets_no_order() -> None:
    """It is left out after a while; a canary that consists of it alone is no canary."""
    street = Street([[A], [B]])
    assert street.pass_s(HOUR_S) == []
    assert street.pass_s(1) == [f"left_out {A}", "halt"]
    assert "unclear" in street.course.halted
    street.note("resume", {"accept": False, "leave_out": [A]})
    assert street.pass_s(1) == ["soak"]


def test_an_order_without_an_end_is_no_success(street: Street) -> None:
    """Two hours after its end without a word the node counts as absent; the gateway's `expired` too; a late word of the node counts."""
    street.go_on()
    street.sign()
    street.state(A, "sent", by="gateway")
    assert street.pass_s(PACE["order_s"] + 7200) == [f"state {A}"]
    assert street.pass_s(1) == [f"state {A}", "halt"]
    assert street.course.nodes[A].state == "lost"
    street.note("resume", {"accept": False, "leave_out": []})
    street.state(A, "verified")
    assert street.go_on()[0] == f"state {A}"
    assert street.course.nodes[A].state == "verified"


def test_where_nodes_may_be_silent_for_a_day_their_last_word_has_a_day(street: Street) -> None:
    """On LoRa a node says when it has airtime, and tries again ever more rarely: two hours without a word are no end."""
    street.course.pace = AIR_PACE
    street.go_on()
    street.sign()
    street.state(A, "accepted")
    street.pass_s(1)
    assert street.pass_s(PACE["order_s"] + AIR_PACE.silence_s - 2) == []
    assert street.pass_s(2)[0] == f"state {A}"
    assert street.course.nodes[A].state == "lost"


def test_an_older_word_does_not_overrule_a_newer_one(street: Street) -> None:
    """Retained states of two gateways may come in any order."""
    street.go_on()
    street.sign()
    for document in (("verified", 9), ("accepted", 7), ("applied", 8)):
        order_id = street.course.nodes[A].order_id
        street.tell(f"order/{order_id}/state", {"node": A, "state": document[0], "evidence": {"by": "node", "epoch": 1, "n": document[1]}})
    street.state(A, "sent", by="gateway")
    street.go_on()
    assert street.course.nodes[A].state == "verified"


def test_going_on_after_a_halt_is_the_operators_word(street: Street) -> None:
    """Without `accept` it stops at the same sentence again; with it this node's return is known, and the next one's still counts."""
    street.go_on()
    street.sign()
    street.state(A, "reverted", "trial_failed")
    street.go_on()
    street.note("resume", {"accept": False, "leave_out": []})
    assert street.go_on() == ["halt"]
    street.note("resume", {"accept": True, "leave_out": []})
    assert street.go_on() == ["soak"]
    street.pass_s(HOUR_S)
    street.sign()
    street.state(B, "reverted", "trial_failed")
    assert street.go_on()[-2:] == ["halt", f"cancel {C}"]


def test_a_cancelled_node_is_asked_again(street: Street) -> None:
    """The operator's halt takes the open order back; that is no return, and after `resume` the node gets a new order."""
    street.go_on()
    street.sign()
    for step, facts in halt(street.course, "by the operator", ""):
        street.note(step, facts)
    assert [entry["step"] for entry in street.entries[-2:]] == ["halt", "cancel"]
    street.note("resume", {"accept": False, "leave_out": []})
    assert street.go_on() == []
    street.state(A, "reverted", "cancelled")
    assert street.go_on() == [f"state {A}", f"again {A}", f"request {A}"]
    assert street.course.nodes[A].request_id == f"r-{A}-2"


def test_a_refusal_by_the_authority_stops_it(street: Street) -> None:
    """In its own words, which come from the broker; and so does its silence."""
    street.go_on()
    street.tell("order/response", {"request_id": f"r-{A}-1", "reason": "bad_release", "error": "not signed here"})
    assert street.pass_s(31) == ["halt"]
    assert street.course.halted == f"the authority signs no order for {A}: bad_release: not signed here"
    street.evidence.answers.clear()
    street.note("resume", {"accept": False, "leave_out": []})
    assert street.pass_s(540) == []
    assert street.pass_s(60) == ["halt"]


def test_a_node_that_has_it_already_is_left_alone() -> None:
    """By the version in its record: it gets no order, which it would refuse, and counts as no loss."""
    street = Street([[A], [B]])
    street.entries[0]["version"] = "0.2.0"
    street.course = Course.of(street.entries)
    street.health(A, firmware_version=0 << 16 | 2 << 8)
    street.health(B, firmware_version=0 << 16 | 1 << 8)
    assert street.go_on() == [f"left_out {A}", "soak"]
    assert street.pass_s(HOUR_S) == ["clear", f"baseline {B}", f"request {B}"]


@pytest.mark.parametrize(("text", "number"), [("0.2.0", 0x200), ("1.2.3", 0x10203), ("1.2", 0), ("1.2.300", 0), ("1.2.3-a", 0), ("", 0)])
def test_a_version_as_a_number(text: str, number: int) -> None:
    """What is no version of three numbers is compared with nothing."""
    assert version_number(text) == number


def test_only_so_many_at_once() -> None:
    """The rest of a stage waits for those that have an order."""
    street = Street([NODES])
    street.entries[0]["pace"]["at_once"] = 3
    street.course = Course.of(street.entries)
    for node in NODES:
        street.health(node)
    assert len([said for said in street.go_on() if said.startswith("request")]) == 3
    street.update(*NODES[:2])
    assert len(street.course.open_nodes()) == 3


def test_nonsense_from_the_broker_is_no_evidence() -> None:
    """Whatever is published there: nothing raises, nothing is believed."""
    evidence = Evidence()
    for topic in (
        "node/x/record/node",
        "node/x/record/lamp",
        "node/x/status",
        "gateway/g/reject",
        "order/1/state",
        "order/x/state",
        "order/response",
        "x",
    ):
        for payload in (b"", b"[", b"null", b"5", b"[]", b"{}", b'{"values": 3}', b'{"node": [], "evidence": 5}', b"[" * 5000, b"\xff"):
            evidence.take(topic, payload, 0.0)
    assert evidence.baseline("x", 0.0) is None
    assert evidence.order(1) is None


def test_nodes_on_lora_are_in_it_and_have_days(tmp_path: Path) -> None:
    """All in service are meant, whatever their link; where one of them is on LoRa, orders, health and last words have longer."""
    path = tmp_path / "registry.json"
    whole = {"epoch": 1, "public_key": "00" * 64, "fixtures": ["lamp"], "asset": "", "revoked": False}
    links = {NODES[0]: {}, NODES[1]: {"listens": "windows"}, NODES[2]: {"listens": "always"}, NODES[3]: {"revoked": True}}
    entries = {name: {**whole, **more} for name, more in links.items()}
    path.write_text(json.dumps({"version": 1, "network": "0000cafe", "nodes": entries}))
    assert _nodes("all", path) == (NODES[:3], True)
    some = tmp_path / "some"
    some.write_text(f"{NODES[0]}\n")
    assert _nodes(str(some), path) == ([NODES[0]], False)
    some.write_text(f"{NODES[0]}\n{NODES[2]}\n")
    assert _nodes(str(some), path) == ([NODES[0], NODES[2]], True)
    assert _nodes(str(some), None) == ([NODES[0], NODES[2]], False)
    assert (AIR_PACE.order_s, AIR_PACE.baseline_s, AIR_PACE.silence_s) == (7 * 24 * HOUR_S, 24 * HOUR_S, 24 * HOUR_S)
    assert AIR_PACE.soak_s == Pace().soak_s
