"""Rules applied to evidence: findings, the first one first to be dealt with, and what could not be judged."""

from typing import Any

from lamppost_tools.doctor.evidence import Evidence
from lamppost_tools.doctor.rules import RULES, UNKNOWN


def diagnose(seen: Evidence) -> dict[str, Any]:
    """{"node", "source", "verdict", "findings": [{"symptom", "evidence", "cause", "next_step"}], "not_judged": [symptom]}."""
    findings, not_judged = [], []
    for rule in RULES:
        words = rule.look(seen)
        if words == UNKNOWN:
            not_judged.append(rule.symptom)
        elif words is not None:
            findings.append({"symptom": rule.symptom, "evidence": words, "cause": rule.cause, "next_step": rule.next_step})
    verdict = findings[0]["symptom"] if findings else "nothing found"
    return {"node": seen.node, "source": seen.source, "verdict": verdict, "findings": findings, "not_judged": not_judged}
