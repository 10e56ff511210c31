"""From one served prediction back to the model, its rollout, its training run, its code and its data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.bundle.load import GOLDEN_TOLERANCE, load_bundle
from level1_pipeline.errors import BundleRefused, NotFound
from level1_pipeline.inputs import training_data
from level1_pipeline.registry import Registry
from level1_pipeline.schema.scores import as_answer, is_of_today, likeliest
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import Line
from level1_pipeline.store.audit_queries import route_change_before
from level1_pipeline.store.routes import SHADOW
from level1_pipeline.store.tables import outcomes, predictions

UNKNOWN = "unknown (made before this was recorded)"


@dataclass(frozen=True)
class Trace:
    """One logged answer, or failed try, and where it comes from.

    `again` is the score that its version gives today; None where there was none, or its bundle is refused. A score is
    a number, or a list with the probability of each class.
    """

    id: str
    arm: str
    version: str
    at: datetime
    score: Any
    again: Any
    compiled: bool  # whether trees answered that say the same of a row alone as in a list
    facts: dict[str, str]
    record: dict[str, Any]

    @property
    def reproduced(self) -> bool:
        """Whether re-scoring gives the logged number: bit for bit, if compiled trees answered. A product of matrices in
        scikit-learn may differ in the last bits between a row alone and the same row in a list."""
        if self.score is None or self.again is None:
            return False
        allowed = 0.0 if self.compiled else GOLDEN_TOLERANCE * max(1.0, abs(likeliest(self.score)))
        return float(np.abs(np.subtract(self.score, self.again)).max()) <= allowed

    @property
    def check(self) -> str:
        """What became of the re-scoring."""
        if self.score is None:
            return "failed, nothing to reproduce"
        if self.score == self.again:
            return "reproduced bit for bit"
        within = f"reproduced within {GOLDEN_TOLERANCE:g}, which is what scikit-learn allows a row alone"
        return within if self.reproduced else "NOT reproduced"

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What to print, in order."""
        did = "tried" if self.score is None else "answered"
        about = {"prediction": f"{self.id}, {did} by the {self.arm} on {self.at.isoformat()}"}
        today = f", it says {self.again!r} today" if self.again is not None and not self.reproduced else ""
        about |= {"request": json.dumps(self.record), "score": self._answer, "version": self.version}
        return [*about.items(), *self.facts.items(), ("re-scoring", self.check + today)]

    @property
    def _answer(self) -> str:
        """The score, and what it made us do."""
        if self.score is None:
            return "failed"
        if not is_of_today(self.score):
            return f"{self.score!r}, by a model for other classes than today's"
        return f"{as_answer(self.score)!r} -> {problem.choose_action(self.score)}"


def trace(settings: Settings, prediction_id: str) -> list[Trace]:
    """Every logged answer about a prediction id: first the one that was served, then failed tries, then a shadow's.

    Needs the store and the published bundles; MLflow only adds the address of the run. A bundle that is damaged
    or gone costs the answers of its own version their re-scoring, and no other.

    Raises:
        NotFound: no prediction with this id is in the log (any more).
    """
    registry = Registry(settings)
    same_id = (predictions.c.problem == problem.NAME) & (predictions.c.id == prediction_id)
    with registry.store.engine.connect().execution_options(reads_only=True) as connection:
        rows = [dict(row._mapping) for row in connection.execute(sa.select(predictions).where(same_id))]
        same = (outcomes.c.problem == problem.NAME) & (outcomes.c.id == prediction_id)
        outcome = connection.execute(sa.select(outcomes).where(same)).first()
    if not rows:
        raise NotFound(
            f"no prediction {prediction_id!r} is in the log: "
            "it was never made, is not written yet, or was deleted by retention"
        )
    log = registry.store.audit_log(problem.NAME)
    truth = f"{_named(outcome.value)}, known at {outcome.known_at.isoformat()}" if outcome else "not known"
    for row in rows:
        row["score"] = row["scores"] or row["score"]
    # A shadow's answer was never served, not even where all others failed.
    rows.sort(key=lambda row: (row["arm"] == SHADOW, row["score"] is None))
    return [_traced(registry, row, log, truth) for row in rows]


def _traced(registry: Registry, row: dict[str, Any], log: list[Line], truth: str) -> Trace:
    facts = {"outcome": truth, "error": row["error"] or "none", "rollout step": _step(row, log)}
    again, compiled = None, True
    try:
        # What answered is what the log says; in rows of an earlier release, what the store recorded later.
        checksum = row["checksum"] or registry.published.checksum(row["version"])
        facts["bundle checksum"] = checksum or UNKNOWN
        bundle = load_bundle(registry.bundle_folder(row["version"]), checksum)
        facts |= _origin(bundle.manifest)
        compiled = bundle.scorer is not None
        facts["training rows"] = training_data.where(registry.settings, facts["data digest"])
        if row["score"] is not None:
            again = bundle.predict([row["record"]])[0].tolist()
    except (BundleRefused, NotFound) as refused:
        facts["bundle"] = f"refused: {refused}"
    kept = {name: row[name] for name in ("id", "arm", "version", "at", "score", "record")}
    return Trace(**kept, again=again, compiled=compiled, facts=facts)


def _named(label: float) -> str:
    """A label for people: a class by its name."""
    return str(classes()[int(label)]) if label in range(len(classes())) else f"{label:g}"


def _origin(manifest: dict[str, Any]) -> dict[str, str]:
    """What a bundle's manifest knows about how it was made."""
    until = manifest.get("recalibration", manifest).get("trained_until", UNKNOWN)
    window = f"{manifest.get('trained_from', UNKNOWN)} to {until}"
    origin = {
        "gate's verdict": str(manifest.get("verdict", UNKNOWN)) + _judged(manifest),
        "training run": str(manifest.get("run_id", UNKNOWN)),
        "release": str(manifest.get("release", UNKNOWN)),
        "code revision": str(manifest.get("code_revision", UNKNOWN)),
        "lock digest": str(manifest.get("lock_digest", UNKNOWN)),
        "data window": f"{window}, {manifest.get('rows', 0):,} rows",
        "data digest": str(manifest.get("data_digest", UNKNOWN)),
    }
    if offset := manifest.get("recalibration"):
        outcomes = f"{offset['rows']:,} outcomes from {offset['from']} to {offset['until']}"
        origin["recalibration"] = (
            f"{offset['offset']:+.3f} on the scores of version {offset['parent']}, from {outcomes}"
        )
    return origin


def _judged(manifest: dict[str, Any]) -> str:
    scores = " ".join(f"{name}={value:.4f}" for name, value in manifest.get("metrics", {}).items())
    evaluated = f", judged as version {manifest['judged_version']}" if "judged_version" in manifest else ""
    return f"{evaluated} ({scores})" if scores else evaluated


def _step(row: dict[str, Any], log: list[Line]) -> str:
    """What the route said about the version when it answered: the last change before that, from the audit log."""
    line = route_change_before(log, row["at"])
    if line is None or line.route is None:
        return UNKNOWN
    route = line.route
    if row["version"] == route.champion:
        role = "champion"
    elif row["version"] == route.challenger:
        role = f"{route.mode or 'no traffic'}, share {route.share:.0%}"
    else:
        role = "no longer in the route (the service was about to follow it)"
    return f"{role}, since {line.at.isoformat()} by {line.actor}: {line.text}, {line.reason}"
