"""The steps of a training run as plain functions: each reads files of the run's folder, and writes some.

A step gets the facts of the steps before it and returns its own: small JSON values, and the SHA-256
of each file that it wrote. Frames and models stay in files, so that a step can be resumed in another
process and its inputs can be trusted. `flow.py` wires the steps together.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import bundle, evaluation, gate, problem, quarantine, report, training, validation
from level1_pipeline.gate import Check, Verdict
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings

Facts = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What a training run was asked to do. JSON-ready, as Prefect passes it to every step."""

    key: str
    folder: str
    as_of: str
    promote_to: str = "champion"
    experiment: str | None = None
    tune: int = 0
    trigger: str = "on demand"
    reason: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)  # what the trigger rests on
    identity: dict[str, str] = field(default_factory=dict)  # code revision, digests: see identity.py
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def time(self) -> pd.Timestamp:
        """The time as of which the world is known, in UTC."""
        return pd.Timestamp(self.as_of).tz_convert("UTC")

    @property
    def day(self) -> str:
        """The local day that begins at the run's time."""
        return f"{self.time.tz_convert(problem.TIMEZONE):%Y-%m-%d}"

    @property
    def registry(self) -> Registry:
        """The registry of the run's home."""
        return Registry(Settings(**self.settings))

    def path(self, name: str) -> Path:
        """A file of this run."""
        return Path(self.folder) / name


class StepFileChanged(RuntimeError):
    """A file is not what the step that wrote it had written."""


def step(function: Callable[..., Facts]) -> Callable[[Run, dict[str, Facts]], Facts]:
    """Time a step, check the files it depends on, and add the digests of those that it wrote."""

    @wraps(function)
    def timed(run: Run, facts: dict[str, Facts]) -> Facts:
        started, watch = time.time(), time.perf_counter()
        for before in facts.values():
            for name, digest in before["files"].items():
                if not run.path(name).exists() or _digest(run.path(name)) != digest:
                    raise StepFileChanged(
                        f"{run.path(name)} was changed or removed after it was written; delete {run.folder} and run again"
                    )
        Path(run.folder).mkdir(parents=True, exist_ok=True)
        result = function(run, facts)
        files = {name: _digest(run.path(name)) for name in result.pop("files", [])}
        return {**result, "files": files, "started": started, "seconds": round(time.perf_counter() - watch, 3)}

    return timed


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@step
def extract(run: Run, facts: dict[str, Facts]) -> Facts:
    """The rows of the problem as known at the run's time."""
    settings = run.registry.settings
    try:
        rows = problem.load(run.time, settings.source, settings.home / "cache")
    except (ValueError, OSError) as error:
        raise validation.DataCheckFailed(f"the rows of {problem.NAME} cannot be loaded: {error}") from error
    rows.to_parquet(run.path("rows.parquet"), index=False)
    return {"files": ["rows.parquet"], "rows": len(rows), "repaired": rows.attrs.get("glitches", {})}


@step
def validate(run: Run, facts: dict[str, Facts]) -> Facts:
    """Schema skew stops here; value skew against the champion's data is written down."""
    rows = pd.read_parquet(run.path("rows.parquet"))
    newest = (
        rows[rows[problem.EVENT_TIME] > run.time - pd.Timedelta(days=gate.rules().holdout_days)] if len(rows) else rows
    )
    broken, checked = validation.check(rows, newest)
    skew = None if broken else _skew_against_champion(run, newest)
    report.checks_page(run.path("checks.html"), broken, checked, len(rows), skew)
    validation.stop(broken)
    return {"files": ["checks.html"], "expectations": checked, "value_skew": asdict(skew) if skew else None}


def _skew_against_champion(run: Run, newest: pd.DataFrame) -> validation.ValueSkew | None:
    champion = run.registry.route().champion
    if champion is None:
        return None
    folder = run.registry.bundle_folder(champion)
    try:
        bundle.verify(folder)
    except bundle.BundleRefused as error:
        return validation.ValueSkew("inconclusive", None, {}, str(error))
    reference = pd.read_parquet(folder / bundle.PROFILE)
    return validation.value_skew(reference, validation.day_summaries(newest, like=reference))


@step
def split(run: Run, facts: dict[str, Facts]) -> Facts:
    """Older matured rows to train on, the newest days to judge on; rows in quarantine are for neither."""
    rows = pd.read_parquet(run.path("rows.parquet"))
    hidden = quarantine.covers(rows, quarantine.spans(run.registry.store))
    parts = training.split(rows[~hidden], run.time)
    parts.train.to_parquet(run.path("train.parquet"), index=False)
    parts.holdout.to_parquet(run.path("holdout.parquet"), index=False)
    times = {
        f"{name}_{end}": getattr(part[problem.EVENT_TIME], end)().isoformat()
        for name, part in parts._asdict().items()
        for end in ("min", "max")
    }
    return {
        "files": ["train.parquet", "holdout.parquet"],
        "train": len(parts.train),
        "holdout": len(parts.holdout),
        "quarantined": int(hidden.sum()),
        **times,
    }


@step
def train(run: Run, facts: dict[str, Facts]) -> Facts:
    """Fit the recipe on the older rows (after a search, if asked for), and what it has to beat."""
    rows, holdout = pd.read_parquet(run.path("train.parquet")), pd.read_parquet(run.path("holdout.parquet"))
    parameters, searched = training.tune(rows, run.tune) if run.tune else ({}, pd.DataFrame())
    searched.to_json(run.path("search.json"), orient="records")
    judged = training.fit(rows, parameters)
    models = {"judged": judged, **training.baselines(rows)}
    predictions = pd.DataFrame({name: bundle.predict(model, holdout) for name, model in models.items()})
    predictions.to_parquet(run.path("predictions.parquet"), index=False)
    _write_bundle(run, facts, "judged", judged, holdout, rows)
    return {"files": ["predictions.parquet", "search.json", "judged/bundle.json"], "parameters": parameters}


@step
def evaluate(run: Run, facts: dict[str, Facts]) -> Facts:
    """The gate on the judged model: absolute, against baselines, against the champion, and as a bundle."""
    holdout, predictions = (pd.read_parquet(run.path(f"{name}.parquet")) for name in ("holdout", "predictions"))
    y, p = holdout[problem.TARGET].to_numpy(), predictions["judged"].to_numpy()
    checks, comparison = [gate.enough_data(holdout), gate.sound_numbers(p), gate.no_leakage(holdout)], None
    metrics = {}
    if checks[1].outcome == "pass":
        metrics = problem.evaluate(y, p)
        baselines = {str(name): predictions[name].to_numpy() for name in predictions if name != "judged"}
        checks += [*gate.within_limits(metrics), *gate.beats(holdout, p, baselines)]
        relative, comparison = _against_champion(run, holdout, p, predictions["constant"].to_numpy())
        checks += relative
    checks += gate.fit_for_service(run.path("judged"), holdout, p)
    verdict = Verdict(tuple(checks), comparison)
    run.path("verdict.json").write_text(json.dumps(verdict.as_dict(), indent=2))
    return {
        "files": ["verdict.json"],
        "metrics": metrics,
        "verdict": json.dumps(verdict.as_dict()),
        "champion": run.registry.route().champion,
        "outcome": verdict.outcome,
        "reasons": verdict.reasons,
    }


def _against_champion(run: Run, holdout: pd.DataFrame, p: np.ndarray, constant: np.ndarray) -> tuple[list[Check], Any]:
    """Compare with the champion on days that it has not seen; if it saw too many, with its judged twin."""
    registry = run.registry
    version = registry.route().champion
    if version is None:
        return [gate.no_slice_harmed(holdout, p, constant, "a constant")], None
    try:
        champion, who = registry.load(version), f"champion {version}"
        unseen = holdout[problem.EVENT_TIME] > pd.Timestamp(champion.manifest["trained_until"])
        twin = champion.manifest.get("judged_version")
        if len(np.unique(evaluation.days(holdout[unseen]))) < gate.MIN_DAYS and twin:
            champion, who = (
                registry.load(twin),
                f"champion {version}'s judged twin {twin} (the champion has seen these days)",
            )
            unseen = holdout[problem.EVENT_TIME] > pd.Timestamp(champion.manifest["trained_until"])
    except bundle.BundleRefused as error:
        return [Check("better than champion", "error", str(error))], None
    fresh = holdout[unseen]
    theirs = bundle.predict(champion.pipeline, fresh) if len(fresh) else np.empty(0)
    return gate.better_than_champion(fresh, theirs, p[unseen.to_numpy()], who)


@step
def refit(run: Run, facts: dict[str, Facts]) -> Facts:
    """Fit the judged recipe on all matured rows: this one will be served, and must agree with its twin."""
    if facts["evaluate"]["outcome"] != "pass":
        return {"checks": []}
    parts = training.Split(*(pd.read_parquet(run.path(f"{part}.parquet")) for part in training.Split._fields))
    rows, holdout = parts.pool, parts.holdout
    refitted = training.fit(rows, facts["train"]["parameters"])
    predicted = bundle.predict(refitted, holdout)
    judged = pd.read_parquet(run.path("predictions.parquet"))["judged"].to_numpy()
    _write_bundle(run, facts, "refitted", refitted, holdout, rows)
    checks = [
        *gate.agrees_with_twin(holdout, judged, predicted),
        *gate.fit_for_service(run.path("refitted"), holdout, predicted),
    ]
    checks = [replace(check, name=f"refitted: {check.name}") for check in checks]
    return {
        "files": ["refitted/bundle.json"],
        "checks": [asdict(check) for check in checks],
    }


def _write_bundle(
    run: Run, facts: dict[str, Facts], name: str, pipeline: Any, holdout: pd.DataFrame, rows: pd.DataFrame
) -> None:
    info = {
        "kind": name,
        "as_of": run.as_of,
        "trained_from": rows[problem.EVENT_TIME].min().isoformat(),
        "trained_until": rows[problem.EVENT_TIME].max().isoformat(),
        "rows": len(rows),
        "data_digest": facts["extract"]["files"]["rows.parquet"],
        "typical": training.typical(rows),
        "categories": training.categories(rows),
        **run.identity,
    }
    bundle.write(run.path(name), pipeline, holdout, info, validation.day_summaries(rows))
