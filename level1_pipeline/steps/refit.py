"""TODO docstring."""

from __future__ import annotations

from dataclasses import asdict, replace

import pandas as pd

from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation import gate
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.split import Split
from level1_pipeline.steps.step import Facts, Run, step
from level1_pipeline.steps.write_bundle import _write_bundle


@step
def refit(run: Run, facts: dict[str, Facts]) -> Facts:
    """Fit the judged recipe on all matured rows: this one will be served, and must agree with its twin."""
    if facts["evaluate"]["outcome"] != "pass":
        return {"checks": []}
    parts = Split(*(pd.read_parquet(run.path(f"{part}.parquet")) for part in Split._fields))
    rows, holdout = parts.pool, parts.holdout
    refitted = fit_model(rows, facts["train"]["parameters"])
    predicted = predict(refitted, holdout)
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
