"""TODO docstring."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.load import PROFILE, verify_bundle
from level1_pipeline.errors import BundleRefused
from level1_pipeline.evaluation import data_checks, gate
from level1_pipeline.evaluation.drift import DriftTest, day_summaries, drift_test
from level1_pipeline.steps import model_card
from level1_pipeline.steps.step import Facts, Run, step


@step
def validate(run: Run, facts: dict[str, Facts]) -> Facts:
    """Schema skew stops here; value skew against the champion's data is written down."""
    rows = pd.read_parquet(run.path("rows.parquet"))
    newest = (
        rows[rows[problem.EVENT_TIME] > run.time - pd.Timedelta(days=gate.rules().holdout_days)] if len(rows) else rows
    )
    broken, checked = data_checks.check(rows, newest)
    skew = None if broken else _skew_against_champion(run, newest)
    model_card.checks_page(run.path("checks.html"), broken, checked, len(rows), skew)
    data_checks.stop(broken)
    return {"files": ["checks.html"], "expectations": checked, "value_skew": asdict(skew) if skew else None}


def _skew_against_champion(run: Run, newest: pd.DataFrame) -> DriftTest | None:
    champion = run.registry.route().champion
    if champion is None:
        return None
    folder = run.registry.bundle_folder(champion)
    try:
        verify_bundle(folder)
    except BundleRefused as error:
        return DriftTest("inconclusive", None, {}, str(error))
    reference = pd.read_parquet(folder / PROFILE)
    return drift_test(reference, day_summaries(newest, like=reference))
