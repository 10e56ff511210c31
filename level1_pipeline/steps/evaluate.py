"""TODO docstring."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.predict import predict
from level1_pipeline.errors import BundleRefused
from level1_pipeline.evaluation import gate
from level1_pipeline.evaluation import metrics as scores_
from level1_pipeline.evaluation.gate import Check, Verdict
from level1_pipeline.steps.step import Facts, Run, step


@step
def evaluate(run: Run, facts: dict[str, Facts]) -> Facts:
    """The gate on the judged model: absolute, against baselines, against the champion, and as a bundle."""
    holdout, predictions = (pd.read_parquet(run.path(f"{name}.parquet")) for name in ("holdout", "predictions"))
    y, p = holdout[problem.TARGET].to_numpy(), predictions["judged"].to_numpy()
    checks, comparison = [gate.enough_data(holdout), gate.sound_numbers(p), gate.no_leakage(holdout)], None
    metrics = {}
    if checks[1].status == "pass":
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
        "outcome": verdict.status,
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
        if len(np.unique(scores_.days(holdout[unseen]))) < gate.MIN_DAYS and twin:
            champion, who = (
                registry.load(twin),
                f"champion {version}'s judged twin {twin} (the champion has seen these days)",
            )
            unseen = holdout[problem.EVENT_TIME] > pd.Timestamp(champion.manifest["trained_until"])
    except BundleRefused as error:
        return [Check("better than champion", "error", str(error))], None
    fresh = holdout[unseen]
    theirs = predict(champion.pipeline, fresh) if len(fresh) else np.empty(0)
    return gate.better_than_champion(fresh, theirs, p[unseen.to_numpy()], who)
