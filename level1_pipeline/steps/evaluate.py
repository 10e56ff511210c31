"""Step 5: the gate (`evaluation.gate`) on the evaluation model: absolute, against baselines and champion, as a bundle;
and what the age of such models costs (`staleness.measure`), which blocks nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.load import EVALUATION_MODEL, Bundle, load_bundle
from level1_pipeline.bundle.predict import predict
from level1_pipeline.errors import BundleRefused, OtherContract, TrustedSetRefused
from level1_pipeline.evaluation import gate, infrastructure, leakage, staleness
from level1_pipeline.evaluation.gate import Check, Verdict
from level1_pipeline.evaluation.labels import trusted_checks
from level1_pipeline.evaluation.labels.label_rates import label_rates
from level1_pipeline.evaluation.labels.trusted_set import TrustedSets, trusted_span
from level1_pipeline.evaluation.metrics import Comparison, days
from level1_pipeline.steps.extract import ROWS, Extracted
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.model_card import EVALUATED
from level1_pipeline.steps.split import Split, SplitRows, maturity_cutoff, read_parts
from level1_pipeline.steps.step import Run, StepResult, step
from level1_pipeline.steps.train import Trained, read_predictions

VERDICT = "verdict.json"


@dataclass(frozen=True, kw_only=True)
class Evaluated(StepResult):
    """The gate's verdict about the evaluation model."""

    metrics: dict[str, float]  # on the holdout; empty if a prediction is no number
    verdict: Verdict
    champion: str | None  # that it was compared with
    staleness: dict[str, Any] | None = None  # what the age of models of this recipe costs; None: not known yet

    @property
    def message(self) -> str:
        """The verdict in a word."""
        return f"gate {self.verdict.status}"


@step
def evaluate(run: Run, extracted: Extracted, parts: Split, trained: Trained) -> Evaluated:
    """Put every question of the gate."""
    rows, predictions = read_parts(run), read_predictions(run)
    holdout = rows.holdout
    y, p = holdout[problem.TARGET].to_numpy(), predictions[EVALUATED]
    champion = run.registry.route().champion
    trusted, checks = _trusted_rows(run, parts)
    checks += [gate.enough_data(holdout), leakage.no_leakage(*rows), label_rates(*rows, trusted)]
    checks.append(sound := gate.sound_numbers(p))
    comparison, metrics = None, {}
    if sound.status == "pass":
        metrics = problem.evaluate(y, p)
        baselines = {name: scores for name, scores in predictions.items() if name != EVALUATED}
        relative, comparison = _against_champion(run, champion, rows, p, baselines["constant"])
        checks += [*gate.within_limits(metrics), *gate.beats(holdout, p, baselines), *relative]
        checks += _on_trusted_rows(run, champion, trusted) if trusted is not None else []
    checks += infrastructure.fit_for_service(run.path(EVALUATION_MODEL), holdout, p)
    verdict = Verdict(tuple(checks), comparison)
    run.path(VERDICT).write_text(json.dumps(verdict.as_dict(), indent=2))
    age = staleness.measure(rows.pool, run.time, partial(_model_of, rows.pool, trained.parameters))
    price = age.as_dict() if age else None
    return Evaluated(metrics=metrics, verdict=verdict, champion=champion, staleness=price, files=run.digests(VERDICT))


def _model_of(rows: pd.DataFrame, parameters: dict[str, Any], time: pd.Timestamp) -> staleness.Predict | None:
    """What a training as of an earlier time would have made; None where it would have stopped."""
    matured = rows[(rows[problem.EVENT_TIME] <= maturity_cutoff(time)) & (rows[problem.LABEL_TIME] < time)]
    if len(matured) < problem.GATE["min_rows"] or matured[problem.TARGET].nunique() < 2:
        return None
    return partial(predict, fit_model(matured, parameters))


def _trusted_rows(run: Run, parts: Split) -> tuple[pd.DataFrame | None, list[Check]]:
    """The trusted set, frozen now if it was not yet, and what its labels say about those of the source."""
    span = trusted_span()
    if span is None:
        return None, trusted_checks.not_judged("no trusted set: the problem names no TRUSTED_LABELS")
    if span.end > pd.Timestamp(parts.holdout.first):
        return None, trusted_checks.not_judged(f"no trusted set yet: {span} is not older than the holdout")
    source = pd.read_parquet(run.path(ROWS))
    try:
        rows = TrustedSets(run.registry.settings, run.registry.store).rows(span, source)
    except TrustedSetRefused as error:
        return None, [Check(trusted_checks.LABELS, "fail", str(error))]
    return rows, [trusted_checks.confirmed_labels(rows, source)]


def _on_trusted_rows(run: Run, champion: str | None, trusted: pd.DataFrame) -> list[Check]:
    """What the model says about them. One that cannot be loaded is the affair of the bundle's own check."""
    try:
        model = load_bundle(run.path(EVALUATION_MODEL)).pipeline
    except Exception:  # whatever a candidate raises
        return []
    p = predict(model, trusted)
    checks = [trusted_checks.agrees_with_labels(trusted, p)]
    if champion is None or not np.isfinite(p).all():
        return checks
    try:
        opponent, name = _without_offset(run, champion)
        theirs = predict(opponent.pipeline, trusted)
    except BundleRefused:  # which the comparison with the champion says
        return checks
    return [*checks, trusted_checks.agrees_as_champion_does(trusted, p, theirs, name)]


def _against_champion(
    run: Run, version: str | None, rows: SplitRows, p: np.ndarray, constant: np.ndarray
) -> tuple[list[Check], Comparison | None]:
    """Compare with the champion on days that it has not seen; if it saw too many, with its evaluation model."""
    holdout = rows.holdout
    if version is None:
        return _without_champion(rows, p, constant), None
    try:
        opponent, name = _without_offset(run, version)
        unseen = _unseen(holdout, opponent)
        if len(np.unique(days(holdout[unseen]))) < gate.COMPARISON_MIN_DAYS and (
            earlier := _evaluation_model(run, opponent)
        ):
            opponent, name = earlier, f"the evaluation model of {name} (which has seen these days itself)"
            unseen = _unseen(holdout, opponent)
    except OtherContract as error:
        told = f"not asked, because champion {version} cannot take these rows; the baselines are the measure: {error}"
        return [Check("better than champion", "pass", told), *_without_champion(rows, p, constant)], None
    except BundleRefused as error:
        return [Check("better than champion", "error", str(error))], None
    fresh = holdout[unseen]
    theirs = predict(opponent.pipeline, fresh) if len(fresh) else np.empty(0)
    checks, comparison = gate.better_than_champion(fresh, theirs, p[unseen.to_numpy()], name)
    past = leakage.Past(name, theirs, unseen.to_numpy()) if comparison else None
    return [*checks, leakage.not_too_good(*rows, p, past)], comparison


def _without_champion(rows: SplitRows, p: np.ndarray, constant: np.ndarray) -> list[Check]:
    """What a first model has to show, and one whose champion cannot take the rows."""
    against = (rows.holdout, p, constant, "a constant")
    return [gate.no_slice_harmed(*against), *gate.no_class_lost(*against), leakage.not_too_good(*rows, p)]


def _without_offset(run: Run, champion: str) -> tuple[Bundle, str]:
    """What a candidate is compared with: the champion, and of a recalibrated one the version below it, because an offset
    is for the days after it, and could be put on the candidate's scores, too. Raises BundleRefused."""
    bundle, name = run.registry.load(champion), f"champion {champion}"
    while offset := bundle.manifest.get("recalibration"):
        bundle, name = run.registry.load(offset["parent"]), f"champion {champion} without its offset"
    return bundle, name


def _evaluation_model(run: Run, served: Bundle) -> Bundle | None:
    """The model that the gate judged in the place of a served one, if there is one. It lies in the served model's
    bundle; in a home made before, it is a version of its own. Raises BundleRefused when it is damaged or gone."""
    older = served.manifest.get("judged_version")
    return run.registry.load(older) if older else served.evaluation_model


def _unseen(holdout: pd.DataFrame, model: Bundle) -> pd.Series:
    return holdout[problem.EVENT_TIME] > pd.Timestamp(model.manifest["trained_until"])
