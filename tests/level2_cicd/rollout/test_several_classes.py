"""A candidate with several classes is judged from the whole of its logged scores, class by class where that matters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from examples.several_classes import problem as tickets
from level1_pipeline import problem
from level1_pipeline.policies import RolloutPolicy
from level1_pipeline.schema.scores import as_columns, from_columns
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level2_cicd.rollout import alarms, quality, queries
from level2_cicd.rollout.queries import FIRST, SECOND, Arm, Counts
from tests.support.postgres import NEEDS_POSTGRES, empty_schema
from tests.support.prediction_log import log_outcomes, log_predictions
from tests.support.problems import in_place

POLICY = RolloutPolicy(canary_shares=(0.25, 0.5))
BEGAN = datetime(2024, 3, 1, 4, tzinfo=UTC)
NOW = BEGAN + timedelta(days=10)
CHAMPION, COPIES = Arm("1", "champion", BEGAN), Arm("2", "shadow", BEGAN)


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tickets are the problem."""
    with in_place(tickets, monkeypatch):
        yield


@pytest.fixture(params=["SQLite", pytest.param("PostgreSQL", marks=NEEDS_POSTGRES)])
def store(home: Settings, request: pytest.FixtureRequest) -> Iterator[Store]:
    there = empty_schema("classes_tests") if request.param == "PostgreSQL" else nullcontext(home.operations)
    with there as url:
        made = Store(url)
        yield made
        made.close()


def drawn(n: int, strength: float, y: np.ndarray) -> np.ndarray:
    """Probabilities that know the label so surely; shape (n, 3)."""
    draws = np.random.default_rng(1).dirichlet([2.0, 2.0, 2.0], n)
    return (1 - strength) * draws + strength * np.eye(3)[y.astype(int)]


def labels(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, n).astype("float64")


def logged(store: Store, scores: np.ndarray, version: str, arm: str) -> None:
    """A case an hour."""
    lines: list[dict[str, Any]] = [
        {"id": f"case-{place}", "version": version, "arm": arm, "at": BEGAN + timedelta(hours=place)}
        | {"record": {"channel": "web", "product": "app"}, "score": max(score), "scores": score}
        for place, score in enumerate(scores.tolist())
    ]
    log_predictions(store, lines)


def outcomes(store: Store, y: np.ndarray) -> None:
    times = [BEGAN + timedelta(hours=place + 24) for place in range(len(y))]
    lines = [{"id": f"case-{place}", "value": value, "known_at": times[place]} for place, value in enumerate(y)]
    log_outcomes(store, lines)


def test_the_whole_scores_of_both_arms_come_out_of_the_log_as_they_went_in(store: Store) -> None:
    y = labels(72)
    usual, candidate = drawn(72, 0.2, y), drawn(72, 0.4, y)
    logged(store, usual, "1", "champion")
    logged(store, candidate, "2", "shadow")
    outcomes(store, y)
    pairs = queries.pairs(store, CHAMPION, COPIES, NOW)
    assert from_columns(pairs, FIRST).tobytes() == usual.tobytes()
    assert from_columns(pairs, SECOND).tobytes() == candidate.tobytes()
    assert pairs[problem.TARGET].tolist() == y.tolist()
    answers = queries.answers(store, COPIES, NOW)
    assert from_columns(answers).tobytes() == candidate.tobytes()
    records, table = queries.records(store, COPIES, NOW, 10)
    assert len(records) == 10
    assert from_columns(table).tolist() == candidate[::-1][:10].tolist(), "the newest come first"
    counts = queries.counts(store, COPIES)
    assert (counts.rows, counts.errors) == (72, 0)
    np.testing.assert_allclose(counts.mean, candidate.mean(axis=0))
    np.testing.assert_allclose(counts.sd, candidate.std(axis=0))


def test_answers_from_before_the_classes_changed_are_left_out(store: Store) -> None:
    y = labels(48)
    logged(store, np.column_stack([drawn(48, 0.2, y)[:, :1], 1 - drawn(48, 0.2, y)[:, :1]]), "1", "champion")
    outcomes(store, y)
    assert len(queries.answers(store, CHAMPION, NOW)) == 0
    assert queries.records(store, CHAMPION, NOW, 10)[0] == []
    counts = queries.counts(store, CHAMPION)
    assert alarms.distribution(counts, counts, POLICY).status == "inconclusive"


def test_the_class_that_is_shifted_most_decides(store: Store) -> None:
    usual = Counts(1000, mean=(0.4, 0.3, 0.3), sd=(0.1, 0.1, 0.1))
    near, off = (Counts(1000, mean=mean, sd=(0.1, 0.1, 0.1)) for mean in ((0.42, 0.3, 0.28), (0.4, 0.42, 0.18)))
    assert alarms.distribution(near, usual, POLICY).status == "pass"
    check = alarms.distribution(off, usual, POLICY)
    assert (check.status, check.message) == (
        "fail",
        f"mean score technical 0.18 against 0.3: 1.20 standard deviations (allowed: {POLICY.max_shift:g})",
    )


def shadow(strength: float, days: int = 7) -> pd.DataFrame:
    """Whole days of both arms; the champion knows the label with a strength of 0.3."""
    n = 300 * days
    y, draws = labels(n), np.random.default_rng(2)
    at = pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta(np.repeat(np.arange(days), 300) * 24 + 6, unit="h")
    frame = pd.DataFrame({problem.EVENT_TIME: at, problem.TARGET: y})
    frame = frame.assign(**{name: draws.choice(["a", "b"], n) for name in problem.SLICES})
    return frame.assign(**as_columns(drawn(n, 0.3, y), FIRST), **as_columns(drawn(n, strength, y), SECOND))


@pytest.mark.parametrize(("strength", "verdict"), [(0.4, "pass"), (0.2, "fail"), (0.3, "fail")])
def test_the_shadow_is_judged_by_the_rule_of_the_gate(strength: float, verdict: str) -> None:
    checks, days = quality.quality(shadow(strength), POLICY)
    assert days == 7
    by_name = {check.name: check.status for check in checks}
    assert by_name["quality"] == verdict, checks


def test_the_trial_and_the_harm_of_a_canary_use_all_classes(store: Store) -> None:
    rows = shadow(0.4)
    arms = [rows.rename(columns=lambda name, prefix=prefix: name.removeprefix(prefix)) for prefix in (SECOND, FIRST)]
    assert "log_loss gain +0." in quality.effect(*arms)
    y, champion = rows[problem.TARGET].to_numpy(), from_columns(rows, FIRST)
    sure = np.eye(3)[((y + 1) % 3).astype(int)] * 0.98 + 0.01 / 1.5
    assert alarms.harm(y, from_columns(rows, SECOND), champion, POLICY).status == "pass"
    assert alarms.harm(y, sure / sure.sum(axis=1, keepdims=True), champion, POLICY).status == "fail"


class Halting:
    """A champion that cannot score one of the cases."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def predict(self, records: list[dict[str, Any]]) -> np.ndarray:
        places = [record["place"] for record in records]
        if 3 in places:
            raise ValueError("planted")
        return self.scores[places]


def test_harm_is_judged_where_the_champion_answers(store: Store) -> None:
    n = 120
    y = labels(n)
    lines = [
        {"id": f"case-{place}", "version": "2", "arm": "canary", "at": BEGAN + timedelta(hours=place)}
        | {"record": {"place": place}, "score": max(score), "scores": score}
        for place, score in enumerate(drawn(n, 0.4, y).tolist())
    ]
    log_predictions(store, lines)
    outcomes(store, y)
    champion: Any = Halting(drawn(n, 0.3, y))
    check, cases = alarms.canary_harm(store, Arm("2", "canary", BEGAN), lambda: champion, NOW, POLICY)
    assert (check.status, cases) == ("pass", n - 1)
