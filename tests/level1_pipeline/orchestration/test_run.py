"""Starting a training: what is a skip, and what is not."""

from __future__ import annotations

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.errors import LeaseHeld
from level1_pipeline.orchestration import conclusion, run
from level1_pipeline.settings import Settings
from level1_pipeline.store import leases
from level1_pipeline.store.database import Store

REQUEST = run.Request(pd.Timestamp("2013-04-01", tz="UTC"))


@pytest.mark.evidence("two trainings start at once")
def test_a_second_training_is_skipped_and_says_who_holds_the_lease(home: Settings) -> None:
    with leases.hold(Store(home.operations), f"train {problem.NAME}", 60):
        result = run.run_training(home, REQUEST)
    assert result.code == conclusion.PASSED
    assert "skipped: another training is going on" in result.line


def test_a_training_that_could_not_promote_is_an_error_and_not_a_skip(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot_promote(*_: object) -> None:
        leases.acquire(Store(home.operations), leases.promotion(problem.NAME), 60)

    monkeypatch.setattr(run, "_orchestrate", cannot_promote)
    with (
        leases.hold(Store(home.operations), leases.promotion(problem.NAME), 60),
        pytest.raises(LeaseHeld, match="promote"),
    ):
        run.run_training(home, REQUEST)
