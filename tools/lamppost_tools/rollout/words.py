"""A roll-out in words: what just happened in one line, how far it is as one document. Pure."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from lamppost_tools.rollout.course import Course


def line_of(entry: dict[str, Any], course: Course) -> str:
    """One entry of the journal as a line."""
    at = datetime.fromtimestamp(entry["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{at}  {_what(entry, course)}"


def _what(entry: dict[str, Any], course: Course) -> str:
    node = entry.get("node", "")
    match entry["step"]:
        case "start":
            sizes = ", ".join(str(len(stage)) for stage in entry["stages"])
            return f"release {entry['version']} (sequence {entry['sequence']}) to {len(course.nodes)} nodes in stages of {sizes}"
        case "baseline":
            health = entry["health"]
            return f"{node} before: boots {health['boots']}, free heap {health['heap_free_kb']} kB, refused {health['rejects']}"
        case "left_out":
            return f"{node} gets no order: {entry['why']}"
        case "ordered":
            return f"{node} has order {entry['order_id']}"
        case "state":
            return f"{node} {entry['state']}" + (f": {entry['reason']}" if entry["reason"] else "")
        case "moved":
            return f"{node} does worse than before: {'; '.join(entry['what'])}"
        case "soak":
            return f"stage {entry['stage']} of {len(course.stages)} has ended its updates; watched for {course.pace.soak_s} s"
        case "clear":
            return f"stage {entry['stage']} of {len(course.stages)} is clear"
        case "halt":
            return f"halted: {entry['why']}"
        case "done":
            return "done: every stage is clear"
        case "broker_away":
            return f"the broker is away and is waited for: {entry['why']}"
        case other:
            return f"{node} {other}".strip()


def document_of(course: Course) -> dict[str, Any]:
    """How far a roll-out is, for machines."""
    state = "done" if course.is_done else "halted" if course.halted else "open"
    return {
        "rollout": course.rollout,
        "version": course.version,
        "sequence": course.sequence,
        "digest": course.digest,
        "state": state,
        "stopped_by": course.halted or None,
        "next_step": course.next_step or None,
        "stage": course.stage + 1,
        "stages": [{"nodes": len(stage), **Counter(_state(course, name) for name in stage)} for stage in course.stages],
        "nodes": {
            name: {
                "stage": node.stage + 1,
                "state": _state(course, name),
                "reason": node.reason or node.left_out or None,
                "order_id": node.order_id or None,
                "moved": node.moved,
            }
            for name, node in course.nodes.items()
        },
    }


def _state(course: Course, name: str) -> str:
    node = course.nodes[name]
    if node.state:
        return node.state
    if node.left_out:
        return "left_out"
    return "asked" if node.request_id else "waiting"
