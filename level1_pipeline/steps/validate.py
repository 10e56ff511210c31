"""Step 2: schema skew stops the run (`data_checks.check`); drift against the champion's data is written down."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.bundle.load import PROFILE
from level1_pipeline.errors import BundleRefused
from level1_pipeline.evaluation import data_checks, gate
from level1_pipeline.evaluation.contract.rows import entity_warning
from level1_pipeline.evaluation.drift import DriftTest, day_summaries, drift_test
from level1_pipeline.steps import model_card
from level1_pipeline.steps.extract import ROWS, Extracted
from level1_pipeline.steps.step import Run, StepResult, step

PAGE = "checks.html"


@dataclass(frozen=True, kw_only=True)
class Validated(StepResult):
    """The rows are fit to train on."""

    expectations: int  # that were checked and hold
    drift: DriftTest | None  # of the newest days against the champion's data; None without a champion
    warning: str = ""  # about the rows as a whole, for a person

    @property
    def drift_verdict(self) -> str:
        """The verdict of the drift test, in a word."""
        return self.drift.verdict if self.drift else "no champion yet"

    @property
    def message(self) -> str:
        """What holds, and whether the data moved."""
        warning = f"; warning: {self.warning}" if self.warning else ""
        return f"{self.expectations} expectations hold; value skew: {self.drift_verdict}{warning}"


@step
def validate(run: Run, extracted: Extracted) -> Validated:
    """Check the rows, and write the page of the checks.

    Raises:
        DataCheckFailed: the rows break the Record's rules.
    """
    rows = pd.read_parquet(run.path(ROWS))
    holdout = pd.Timedelta(days=gate.rules().holdout_days)
    newest = rows[rows[problem.EVENT_TIME] > run.time - holdout] if len(rows) else rows
    broken, checked = data_checks.check(rows, newest)
    drift = None if broken else _drift_against_champion(run, newest)
    model_card.checks_page(run.path(PAGE), broken, checked, len(rows), drift)
    data_checks.stop(broken)
    return Validated(expectations=checked, drift=drift, warning=entity_warning(rows), files=run.digests(PAGE))


def _drift_against_champion(run: Run, newest: pd.DataFrame) -> DriftTest | None:
    champion = run.registry.route().champion
    if champion is None:
        return None
    folder = run.registry.bundle_folder(champion)
    try:
        run.registry.published.verify(champion)
    except BundleRefused as error:
        return DriftTest("inconclusive", None, {}, str(error))
    reference = pd.read_parquet(folder / PROFILE)
    return drift_test(reference, day_summaries(newest, like=reference))
