"""How an action of the audit log is stored, and read again: as a text, and in the JSON of the evidence."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from level1_pipeline.environment import as_text
from level1_pipeline.store.audit import ACTIONS, Action, Change, Line, Order

FORMER = {"governor: ": "retraining budget: ", "operate: ": "control loop: "}  # beginnings of texts in earlier releases


def parse(text: str, evidence: dict[str, Any]) -> Action:
    """The action of a stored line. A field that an older line does not have keeps its default."""
    kind, inside = _kind(text)
    stored = evidence | inside
    values = {part.name: stored[part.name] for part in fields(kind) if part.name in stored}
    if isinstance(values.get("order"), dict):  # the evidence of another action may have its own `order`
        values["order"] = Order(**values["order"])
    return kind(**values)


def read_line(problem: str, action: str, evidence: dict[str, Any], **columns: Any) -> Line:
    """A line from its columns in the store."""
    return Line(action=parse(action, evidence), text=action, evidence=evidence, **columns)


def _kind(text: str) -> tuple[type[Action], dict[str, str]]:
    """The kind of an action, and the field whose value is a part of the text."""
    for former, prefix in FORMER.items():
        if text.startswith(former):
            text = prefix + text.removeprefix(former)
    if text in ACTIONS:
        return ACTIONS[text], {}
    for kind in ACTIONS.values():
        prefix, brace, name = kind.text.rstrip("}").partition("{")
        if brace and text.startswith(prefix):
            break
    return kind, {name: text.removeprefix(prefix)}


def columns(change: Change) -> dict[str, Any]:
    """A change as it is stored: the inverse of `parse`."""
    values = asdict(change.action)
    text = change.action.text.format(**values)
    inside = {name: value for name, value in values.items() if f"{{{name}}}" not in change.action.text}
    evidence = change.evidence | {name: value for name, value in inside.items() if value is not None}
    texts = {"actor": change.actor, "action": text, "reason": change.reason}
    return {name: as_text(value) for name, value in texts.items()} | {"at": change.at, "evidence": evidence}
