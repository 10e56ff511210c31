"""Versions are compared on rows that neither was trained on: on its own training days every model looks good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.load import Bundle, load_bundle
from monitoring.detectors import past_champions
from tests.support.world import World, midnight

pytestmark = pytest.mark.flights


@pytest.fixture
def newer(world: World) -> Bundle:
    """Version 2, trained until the end of April."""
    world.publish("2", "may")
    return load_bundle(world.settings.home / "bundles" / problem.NAME / "2")


def with_days(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[rows[problem.TARGET].notna()].reset_index(drop=True)
    return rows.assign(day=rows[problem.EVENT_TIME].dt.tz_convert(problem.TIMEZONE).dt.date)


def test_a_rival_is_compared_only_on_rows_that_it_was_not_trained_on(world: World, newer: Bundle) -> None:
    """After a rollback the earlier champion is the newer model, and has seen days that the champion has not."""
    until = pd.Timestamp(newer.manifest["trained_until"])
    assert midnight("2013-04-29") < until < midnight("2013-05-01")
    rows = with_days(world.between("2013-04-20", "2013-05-06"))
    unseen = with_days(rows[rows[problem.EVENT_TIME] > until])
    result = past_champions.compare(rows, world.score(rows, "1"), newer, "2")
    assert result == past_champions.compare(unseen, world.score(unseen, "1"), newer, "2")
    assert 5 <= result.days <= 7
    assert result.gain != 0
    seen = rows[rows[problem.EVENT_TIME] <= until].reset_index(drop=True)
    nothing = past_champions.compare(seen, world.score(seen, "1"), newer, "2")
    assert (nothing.gain, nothing.days, nothing.clearly_better, nothing.beyond_doubt) == (0.0, 0, False, False)


def test_a_rival_that_does_not_say_until_when_it_was_trained_is_compared_on_no_row(world: World, newer: Bundle) -> None:
    silent = replace(newer, manifest={name: item for name, item in newer.manifest.items() if name != "trained_until"})
    rows = with_days(world.between("2013-05-01", "2013-05-06"))
    assert past_champions.compare(rows, np.full(len(rows), 0.9), newer, "2").beyond_doubt
    assert past_champions.compare(rows, np.full(len(rows), 0.9), silent, "2").days == 0
