"""Whether an audit log is whole, and goes on from the one that was kept before.

A home that travels through somebody else's storage comes without the database that refuses changes. So its audit log is
folded into one number: each line is hashed together with the number before it. Whoever changes, removes or inserts an
earlier line changes the number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from level1_pipeline.errors import HomeRefused
from level1_pipeline.store.audit import Line
from level1_pipeline.store.audit_queries import releases

BEGIN = "0" * 64


@dataclass(frozen=True)
class Chain:
    """How many lines an audit log has, and the number they were folded into."""

    lines: int = 0
    sha256: str = BEGIN


def chain(log: Sequence[Line]) -> Chain:
    """Fold an audit log."""
    number = BEGIN
    for line in log:
        number = hashlib.sha256((number + _as_text(line)).encode()).hexdigest()
    return Chain(len(log), number)


def _as_text(line: Line) -> str:
    parts = (line.id, line.at, line.recorded_at, line.actor, line.text, line.reason)
    return json.dumps([*parts, line.from_version, line.to_version, line.evidence], default=str, sort_keys=True)


def home_id(log: Sequence[Line]) -> str:
    """Which home this is: twelve digits of its first line, which says to the microsecond when it was written."""
    return chain(log[:1]).sha256[:12]


def refuse_broken(log: Sequence[Line], before: Chain) -> None:
    """Look whether each champion follows the one before it, and the log goes on from an earlier one.

    Raises:
        HomeRefused: it does not.
    """
    if chain(log[: before.lines]) != before:
        raise HomeRefused(
            f"the audit log does not go on from the {before.lines} lines that were kept: lines were changed or are gone. "
            "Find out who changed the home; to begin again, delete the release that holds it, or name a new folder: BACKUP=…"
        )
    champion = None
    for line in releases(log):
        if line.from_version != champion:
            raise HomeRefused(
                f"line {line.id} of the audit log says that version {line.from_version} was champion, and the lines before "
                f"it say {champion}: a line is missing"
            )
        champion = line.to_version
