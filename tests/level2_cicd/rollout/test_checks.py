"""The checks behind a rollout, one by one, on small tables; and for a regression, too."""

from __future__ import annotations

import zlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from examples.simulated_regression import problem as friedman
from level1_pipeline import problem, schema
from level1_pipeline.bundle.time_limit import OVERDUE
from level1_pipeline.evaluation import gate
from level1_pipeline.policies import RolloutPolicy
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.outcomes import Reported, keep
from level1_pipeline.store.routes import Route
from level2_cicd.control_loop import expected_gain
from level2_cicd.rollout import alarms, quality, queries
from level2_cicd.rollout.queries import Arm, Counts
from serving.errors import Refusal
from serving.models.loaded_model import Model
from serving.models.routing import Case, Scored, Serving
from serving.schemas import PredictRequest
from serving.service.service import Service
from serving.telemetry.metrics import Metrics
from serving.telemetry.prediction_log import PredictionLog
from tests.support.problems import ONE_NUMBER

POLICY = RolloutPolicy(canary_shares=(0.25, 0.5))
NOW = datetime(2013, 4, 1, 4, tzinfo=UTC)
SHAPE = ("NAME", "TASK", "TARGET", "EVENT_TIME", "TIMEZONE", "SLICES", "PRIMARY_METRIC", "GATE", "COSTS")


@pytest.fixture
def regression(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SHAPE, "evaluate", "choose_action"):
        monkeypatch.setattr(problem, name, getattr(friedman, name))


def table(days: int, gains: list[float]) -> pd.DataFrame:
    """`days` days of 300 rows; the candidate's error is smaller than the champion's by the day's gain."""
    draws, n = np.random.default_rng(0), days * 300
    day = np.repeat(np.arange(days), 300)
    y, sign = draws.normal(15, 5, n), draws.choice([-1.0, 1.0], n)
    at = pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta(day * 24 + 6, unit="h")
    frame = {
        problem.EVENT_TIME: at,
        problem.TARGET: y,
        **{name: draws.choice(["a", "b"], n) for name in problem.SLICES},
    }
    return pd.DataFrame(
        frame | {"first score": y + sign * 1.5, "second score": y + sign * (1.5 - np.array(gains)[day])}
    )


@pytest.mark.usefixtures("regression")
@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ([0.1, 0.12, 0.09], "pass"),
        ([-0.1, -0.12, -0.09], "fail"),
        ([0.3, -0.4, 0.2], "inconclusive"),
        ([0.1, 0.1], "inconclusive"),
        ([0.0, 0.0, 0.0], "fail"),  # identical: no gain
    ],
)
def test_a_regression_is_judged_in_shadow_by_the_same_rule(gains: list[float], verdict: str) -> None:
    checks, days = quality.quality(table(len(gains), gains), POLICY)
    outcomes = {check.status for check in checks}
    assert days == len(gains)
    assert max(outcomes, key=gate.SEVERITY.index) == verdict, checks


@pytest.mark.usefixtures("regression")
def test_gross_harm_of_a_regression_has_no_calibration_and_its_costs_are_not_applicable() -> None:
    y = np.linspace(0, 20, 200)
    assert alarms.harm(y, y + 1.2, y + 1.0, POLICY).status == "pass"
    assert alarms.harm(y, y + 3.0, y + 1.0, POLICY).status == "fail"
    assert expected_gain.dollars_lost(y, y) is None


def test_too_few_outcomes_show_no_harm_and_say_who_waits_for_them() -> None:
    check = alarms.harm(np.zeros(99), np.zeros(99), np.zeros(99), POLICY)
    assert "the bake waits" in check.message


@pytest.mark.parametrize(
    ("own", "outcome"),
    [
        (Counts(1000, errors=1, alone=1), "pass"),
        (Counts(999, errors=1, alone=1), "fail"),
        (Counts(1000, errors=20, alone=0), "pass"),  # what breaks both is not the candidate's fault
        (Counts(), "pass"),
    ],
)
def test_one_failure_in_a_thousand_is_allowed(own: Counts, outcome: str) -> None:
    assert alarms.errors(own, Counts(1000), POLICY).status == outcome


class Crashing:
    """Stands in for a bundle: scores a record, or raises for some per cent of them, counted from `first`."""

    scorer = None

    def __init__(self, first: int, percent: int):
        self.fails = range(first, first + percent)

    def predict(self, records: list[dict[str, Any]]) -> np.ndarray:
        if any(zlib.crc32(repr(record).encode()) % 100 in self.fails for record in records):
            raise ZeroDivisionError("planted")
        return np.full(len(records), 0.5)


def asked(home: Settings, rows: pd.DataFrame, serving: Serving) -> Store:
    """A store with the log of a service that was asked about each of the rows, one by line."""
    service = Service(home.changed({"clock": NOW.isoformat()}))  # its threads never run
    service.hot_swap.serving = serving
    for n, record in enumerate(schema.records(rows)):
        with suppress(Refusal):  # where the champion fails nothing is said
            service.predict([PredictRequest(id=f"{n}", record=problem.Record(**record))])
    service.stop()
    return service.store


@pytest.mark.parametrize(("mode", "share"), [("shadow", 0.0), ("canary", 0.05), ("canary", 0.25)])
@pytest.mark.parametrize(
    ("champion", "candidate", "outcome"),
    [
        (Crashing(0, 5), Crashing(0, 5), "pass"),
        (Crashing(10, 5), Crashing(10, 5), "pass"),  # by chance its share of the canary's cases is the larger one
        (Crashing(45, 5), Crashing(45, 5), "pass"),  # here, too
        (Crashing(0, 5), Crashing(0, 3), "pass"),
        (Crashing(0, 5), Crashing(0, 10), "fail"),
        (Crashing(0, 5), Crashing(5, 4), "fail"),  # as seldom as the champion, but on other cases
        (Crashing(0, 0), Crashing(0, 5), "fail"),
    ],
)
@ONE_NUMBER
def test_a_candidate_is_blamed_for_failing_where_the_champion_answers_and_only_there(
    home: Settings, rows: pd.DataFrame, mode: str, share: float, champion: Any, candidate: Any, outcome: str
) -> None:
    models = (Model("1", champion, "", {}, {}), Model("2", candidate, "", {}, {}))
    store = asked(home, rows.head(1000), Serving(Route("1", "2", mode, share), *models))
    own, theirs = (queries.counts(store, Arm(*arm, NOW)) for arm in (("2", mode), ("1", "champion")))
    store.close()
    check = alarms.errors(own, theirs, POLICY)
    assert check.status == outcome, check.message
    assert (theirs.errors > 0) == bool(champion.fails)


@ONE_NUMBER
def test_harm_is_judged_on_the_cases_that_the_champion_can_score(home: Settings, rows: pd.DataFrame) -> None:
    """Else a candidate that mends a crash could never be shown to do no harm."""
    labelled = rows[rows[problem.TARGET].notna()].head(300)
    crashing, mended = Crashing(0, 20), Crashing(0, 0)
    serving = Serving(Route("1", "2", "canary", 1.0), Model("1", crashing, "", {}, {}), Model("2", mended, "", {}, {}))  # type: ignore[arg-type]
    store = asked(home, labelled, serving)
    keep(store, [Reported(f"{n}", float(value), NOW) for n, value in enumerate(labelled[problem.TARGET])], NOW)
    later = NOW + timedelta(days=5)
    check, cases = alarms.canary_harm(store, Arm("2", "canary", NOW), lambda: crashing, later, POLICY)  # type: ignore[arg-type, return-value]
    store.close()
    assert check.status == "pass", check.message
    assert 200 < cases < 280, "the others broke the champion"
    assert f"on the same {cases} cases" in check.message


def test_failed_calls_say_nothing_about_speed(store: Store) -> None:
    """A crash is quicker than any answer; a candidate that mends it is not slow."""
    log, model = PredictionLog(store, 1000, Metrics()), Model("1", None, "", {}, {})  # type: ignore[arg-type]
    for n in range(300):
        score, ms = (None, 0.01) if n % 3 else (0.5, 25.0)
        case = Case(f"{n}", "somebody", {}, NOW)
        log.add(Scored("champion", model, [case], [score], "ValueError", ms + n * 1e-6, NOW))
    log.close()
    result = queries.calls(store, Arm("1", "champion", NOW))
    store.close()
    assert result["rows"].sum() == 100
    assert alarms.latency(calls(26, 1, 200), result, POLICY).status == "pass"


@ONE_NUMBER
def test_a_distribution_is_judged_in_the_standard_deviations_of_both_models() -> None:
    usual = Counts(1000, mean=(0.2,), sd=(0.1,))
    assert alarms.distribution(Counts(1000, mean=(0.29,), sd=(0.1,)), usual, POLICY).status == "pass"
    assert alarms.distribution(Counts(1000, mean=(0.31,), sd=(0.1,)), usual, POLICY).status == "fail"
    assert alarms.distribution(Counts(1000, mean=(0.35,), sd=(0.2,)), usual, POLICY).status == "pass"
    assert alarms.distribution(Counts(1000, mean=(0.29,), sd=(0.0,)), usual, POLICY).status == "fail"
    assert alarms.distribution(Counts(), usual, POLICY).status == "inconclusive"
    assert Counts().mean == ()


def calls(ms: float, size: int, count: int) -> pd.DataFrame:
    return pd.DataFrame({"ms": np.full(count, ms), "rows": np.full(count, size)})


@pytest.mark.evidence("Monitor 6")
@pytest.mark.parametrize(
    ("own", "theirs", "outcome"),
    [
        (calls(25, 1, 200), calls(25, 1, 200), "pass"),
        (calls(250, 1, 200), calls(25, 1, 200), "fail"),
        (calls(0.3, 1, 200), calls(0.03, 1, 200), "pass"),  # ten times nothing
        (calls(60, 500, 2), calls(25, 1, 1000), "pass"),  # copies in batches
        (calls(26, 230, 1), calls(30, 690, 1), "pass"),  # the canary's part of one big request
        (calls(260, 5, 50), calls(26, 15, 50), "fail"),
        (calls(25, 1, 99), calls(25, 1, 200), "inconclusive"),
    ],
)
def test_latency_is_compared_for_calls_of_like_size(own: pd.DataFrame, theirs: pd.DataFrame, outcome: str) -> None:
    assert alarms.latency(own, theirs, POLICY).status == outcome


@pytest.mark.evidence("Checklist 19")
def test_one_slow_call_is_no_slow_model() -> None:
    mixed = pd.concat([calls(25, 1, 199), calls(9000, 1, 1)], ignore_index=True)
    assert alarms.latency(mixed, calls(25, 1, 200), POLICY).status == "pass"


def spread(count: int, slow: float = 0.0, heavy: float = 0.7, seed: int = 0) -> pd.DataFrame:
    """Calls of one row of about 4 ms, as unequal as those of a busy machine, of which a share takes 5 s."""
    draws = np.random.default_rng(seed)
    ms = 4 * draws.lognormal(0, heavy, count) + 5000 * (draws.random(count) < slow)
    return pd.DataFrame({"ms": ms, "rows": np.ones(count, int)})


@pytest.mark.evidence("Monitor 6")
@pytest.mark.parametrize(
    ("slow", "count"), [(0.001, 20_000), (0.01, 3000), (0.1, 500), (0.1, 200), (0.49, 200), (0.49, 100)]
)
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_a_candidate_of_which_some_calls_are_slow_is_blamed(slow: float, count: int, share: float) -> None:
    usual = spread(int(count * (1 - share) / share), seed=1)
    check = alarms.latency(spread(count, slow), usual, POLICY)
    assert check.status == "fail"
    assert "percentile" in check.message


@pytest.mark.parametrize("heavy", [0.3, 1.0, 1.5])
@pytest.mark.parametrize("slow", [0.0, 0.001, 0.01, 0.1])
@pytest.mark.slow
def test_equal_candidates_are_not_blamed_for_what_makes_both_slow(slow: float, heavy: float) -> None:
    for seed in range(20):
        for count, usual in ((100, 300), (500, 500), (3000, 9000), (20_000, 20_000)):
            pair = spread(count, slow, heavy, seed), spread(usual, slow, heavy, 1000 + seed)
            check = alarms.latency(*pair, POLICY)
            assert check.status == "pass", check.message


def test_in_shadow_single_calls_say_nothing() -> None:
    assert alarms.latency(spread(500, 0.1), spread(500, seed=1), POLICY, tails=False).status == "pass"


def test_a_call_that_was_given_up_counts_as_a_slow_one(store: Store) -> None:
    log, model = PredictionLog(store, 1000, Metrics()), Model("1", None, "", {}, {})  # type: ignore[arg-type]
    for n in range(300):
        score, ms, error = (0.5, 25.0, "") if n % 10 else (None, 2000.0, f"{OVERDUE} 2 s")
        case = Case(f"{n}", "somebody", {}, NOW)
        log.add(Scored("champion", model, [case], [score], error, ms + n * 1e-6, NOW))
    log.close()
    given_up = queries.calls(store, Arm("1", "champion", NOW))
    store.close()
    assert (given_up["ms"] > 1000).sum() == 30
    assert alarms.latency(given_up, calls(25, 1, 300), POLICY).status == "fail"


@pytest.mark.evidence("Checklist 17")
@pytest.mark.usefixtures("regression")
def test_the_effect_per_arm_has_an_interval_or_is_called_underpowered() -> None:
    rows = table(4, [0.5, 0.52, 0.49, 0.5])
    arms = [rows.rename(columns={name: "score"}) for name in ("second score", "first score")]
    assert "gain +0.5" in quality.effect(*arms)
    assert "underpowered" not in quality.effect(*arms)
    assert "underpowered, 1 whole days" in quality.effect(*(arm.head(300) for arm in arms))


@pytest.mark.parametrize(
    ("candidate", "champion", "wanted", "status"),
    [
        (835, 5, 0.05, "inconclusive"),  # a constant entity in the canary
        (0, 840, 0.05, "inconclusive"),  # and outside of it
        (840, 0, 0.5, "inconclusive"),
        (45, 795, 0.05, "pass"),
        (400, 440, 0.5, "pass"),
        (150, 690, 0.05, "inconclusive"),  # one large entity among others
        (10, 20, 0.5, "inconclusive"),  # too few to say
    ],
)
def test_the_real_share_of_a_canary_is_held_against_the_one_asked_for(
    candidate: int, champion: int, wanted: float, status: str
) -> None:
    check = alarms.real_share(Counts(candidate), Counts(champion), wanted, POLICY)
    assert check.status == status
    assert ("finer ENTITY" in check.message) == (status == "inconclusive" and candidate + champion > 100)


def test_cases_that_the_champion_answered_in_the_place_of_the_candidate_count_once() -> None:
    assert alarms.real_share(Counts(50, errors=50, alone=50), Counts(1000), 0.05, POLICY).status == "pass"
