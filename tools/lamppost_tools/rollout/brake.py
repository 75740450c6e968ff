"""What a roll-out does next, and when it stops itself: a pure function of its course, the evidence and the time.

Everything decided is a fact for the journal, which the caller writes down before it acts on it. A stage begins only when every node of the
one before has ended, was updated for the soak time, has been heard since, and nothing moved against it.
"""

from typing import Any

from lamppost_tools.rollout.course import FETCHING, LOST, VERIFIED, Course, NodeCourse, facts_of
from lamppost_tools.rollout.evidence import Evidence, OrderState
from lamppost_tools.rollout.rules import moved, version_number

Fact = tuple[str, dict[str, Any]]

_ANSWER_S = 600  # for the authority
_ASKED_S = 30  # so long a halt waits for the answer to a request, which it then can take back
_LAST_WORD_S = 7200  # after an order's end, for a word of it; longer where nodes may be silent for longer
_SHOWN = 5

_LOOK = "see `lamppost rollout status`, mend or sign another release; to go on all the same: lamppost rollout resume --accept"
_ABSENT = "look for these nodes; then: lamppost rollout resume, with --leave-out NODE for those that are to stay as they are"
_REFUSED = "correct what the authority names, then: lamppost rollout resume"


def decide(course: Course, evidence: Evidence, now_s: float) -> list[Fact]:
    """The next facts; call again after they were applied, until there are none for now."""
    if course.is_over:
        return []
    if facts := _news(course, evidence, now_s):
        return facts
    if reason := _reason_to_halt(course, evidence, now_s):
        is_asking = any(not node.order_id and now_s - node.requested_at_s < _ASKED_S for _, node in course.open_nodes())
        return [] if is_asking else halt(course, *reason)
    return _onward(course, evidence, now_s)


def halt(course: Course, why: str, next_step: str) -> list[Fact]:
    """Stop here, and take back every order whose node does not run the release yet."""
    open_ones = [(name, node) for name, node in course.open_nodes() if node.order_id and node.state in FETCHING]
    cancels = [
        ("cancel", {"node": name, "order_id": node.order_id, "request_id": f"{course.rollout}-{name}-{node.requests}-cancel"})
        for name, node in open_ones
    ]
    return [("halt", {"why": why, "next": next_step}), *cancels]


def _news(course: Course, evidence: Evidence, now_s: float) -> list[Fact]:
    """What the city told of nodes that have an order, or of the requests for one."""
    facts: list[Fact] = []
    for name, node in course.nodes.items():
        if not node.request_id:
            continue
        if not node.order_id:
            answer = evidence.answers.get(node.request_id, {})
            if "order_id" in answer:
                facts.append(("ordered", {"node": name, "order_id": answer["order_id"], "not_after": answer["not_after"]}))
            continue
        told = evidence.order(node.order_id)
        if told is not None and told.node == name and _is_news(node, told):
            epoch, n = told.place or (None, None)
            facts.append(("state", {"node": name, "state": told.state, "reason": told.reason, "epoch": epoch, "n": n}))
        elif node.is_open and now_s > node.not_after + max(_LAST_WORD_S, course.pace.silence_s):
            epoch, n = node.place or (None, None)
            facts.append(("state", {"node": name, "state": LOST, "reason": "no_word", "epoch": epoch, "n": n}))
        elif node.state == VERIFIED and node.place is not None and node.baseline is not None and not node.moved:
            what = moved(node.baseline, evidence.since(name, node.place, node.confirmed_at_s, now_s), course.limits)
            if what:
                facts.append(("moved", {"node": name, "what": what}))
    return facts


def _is_news(node: NodeCourse, told: OrderState) -> bool:
    """The node's own words count by their numbers; a gateway's only while there are none and nothing has ended."""
    if told.place is not None:
        return node.place is None or told.place > node.place
    return node.place is None and not node.is_settled and told.state != node.state


def _reason_to_halt(course: Course, evidence: Evidence, now_s: float) -> tuple[str, str] | None:
    limits, nodes = course.limits, course.nodes.items()
    came_back = [f"{name} {node.state} ({node.reason or 'no reason'})" for name, node in nodes if node.came_back and not node.is_forgiven]
    if len(came_back) > limits.max_reverted:
        return f"{len(came_back)} of {len(nodes)} nodes do not run the release: {_some(came_back)}", _LOOK
    worse = [f"{name}: {'; '.join(node.moved)}" for name, node in nodes if node.moved and not node.is_forgiven]
    if len(worse) > limits.max_moved:
        return f"{len(worse)} updated nodes do worse than before: {_some(worse)}", _LOOK
    stage = course.in_stage()
    absent = [f"{name} ({node.left_out or node.state})" for name, node in stage if node.is_absent and not node.may_repeat]
    if 100 * len(absent) > limits.max_absent_percent * len(stage):
        return f"{len(absent)} of the {len(stage)} nodes of stage {course.stage + 1} are unclear: {_some(absent)}", _ABSENT
    for name, node in course.open_nodes():
        if node.order_id:
            continue
        answer = evidence.answers.get(node.request_id, {})
        if "error" in answer:
            return f"the authority signs no order for {name}: {answer.get('reason')}: {answer['error']}", _REFUSED
        if now_s - node.requested_at_s > _ANSWER_S:
            return f"the authority has not answered for {_ANSWER_S // 60} minutes", "start it on this broker, then: lamppost rollout resume"
    return None


def _onward(course: Course, evidence: Evidence, now_s: float) -> list[Fact]:
    stage = course.in_stage()
    repeats: list[Fact] = [
        ("again", {"node": name}) for name, node in stage if node.may_repeat and node.is_settled and node.state != VERIFIED
    ]
    if repeats:
        return repeats
    if facts := _ask(course, stage, evidence, now_s):
        return facts
    if not all(node.is_settled for _, node in stage):
        return []
    if course.soak_since_s is None:
        return [("soak", {"stage": course.stage + 1})]
    late_s = now_s - course.soak_since_s - course.pace.soak_s
    if late_s < 0:
        return []
    unheard = [name for name, node in stage if node.state == VERIFIED and not _is_heard(name, node, evidence, now_s)]
    if unheard and late_s < course.pace.silence_s:
        return []
    if unheard:
        why = f"nothing was heard of the health of {len(unheard)} updated nodes since their update: {_some(unheard)}"
        return halt(course, why, "look for them; then: lamppost rollout resume")
    is_last = course.stage + 1 == len(course.stages)
    return [("done", {}) if is_last else ("clear", {"stage": course.stage + 1})]


def _ask(course: Course, stage: list[tuple[str, NodeCourse]], evidence: Evidence, now_s: float) -> list[Fact]:
    """Orders for as many nodes as may have one, each with its baseline first; who is not heard of gets none."""
    facts: list[Fact] = []
    number = version_number(course.version)
    may_ask = course.pace.at_once - len(course.open_nodes())
    for name, node in stage:
        if node.request_id or node.is_settled:
            continue
        newest = evidence.baseline(name, now_s)
        baseline = node.baseline or newest
        if newest is not None and newest.health.firmware_version == number > 0:
            facts.append(("left_out", {"node": name, "why": f"it runs {course.version} already", "is_known": True}))
        elif baseline is None and now_s - course.stage_since_s > course.pace.baseline_s:
            facts.append(("left_out", {"node": name, "why": f"no record of its health in {course.pace.baseline_s} s", "is_known": False}))
        elif baseline is not None and may_ask > 0:
            may_ask -= 1
            if node.baseline is None:
                facts.append(("baseline", {"node": name, **facts_of(baseline)}))
            facts.append(("request", {"node": name, "request_id": f"{course.rollout}-{name}-{node.requests + 1}"}))
    return facts


def _is_heard(name: str, node: NodeCourse, evidence: Evidence, now_s: float) -> bool:
    return node.place is not None and evidence.since(name, node.place, node.confirmed_at_s, now_s).health is not None


def _some(items: list[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")
