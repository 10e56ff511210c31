"""Step 6: the served model, which is the judged recipe fitted on all matured rows (`fit_model`), and its own checks."""

from __future__ import annotations

from dataclasses import dataclass, replace

from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation import gate, infrastructure
from level1_pipeline.evaluation.gate import Check
from level1_pipeline.steps.evaluate import Evaluated
from level1_pipeline.steps.extract import Extracted
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.model_card import EVALUATED
from level1_pipeline.steps.split import Split, read_parts
from level1_pipeline.steps.step import Run, StepResult, step
from level1_pipeline.steps.train import Trained, read_predictions
from level1_pipeline.steps.write_bundle import write_model

SERVED_MODEL = "served_model"


@dataclass(frozen=True, kw_only=True)
class Refitted(StepResult):
    """The served model as a bundle, and its checks; none if the evaluation model did not pass."""

    checks: tuple[Check, ...] = ()


@step
def refit(run: Run, extracted: Extracted, parts: Split, trained: Trained, evaluated: Evaluated) -> Refitted:
    """Fit once more, with the newest rows; the served model must agree with the evaluation model."""
    if evaluated.verdict.status != "pass":
        return Refitted()
    matured = read_parts(run)
    rows, holdout = matured.pool, matured.holdout
    served = fit_model(rows, trained.parameters)
    predicted = predict(served, holdout)
    judged = read_predictions(run)[EVALUATED]
    more = {"parameters": trained.parameters, "staleness": evaluated.staleness}
    files = write_model(run, extracted, SERVED_MODEL, served, holdout, rows, **more)
    checks = [
        *gate.agrees_with_evaluation_model(holdout, judged, predicted),
        *infrastructure.fit_for_service(run.path(SERVED_MODEL), holdout, predicted),
    ]
    named = tuple(replace(check, name=f"served model: {check.name}") for check in checks)
    return Refitted(checks=named, files=run.digests(*files))
