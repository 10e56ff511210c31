"""Monitoring of a problem with several classes: each class is held against its own probability."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from matplotlib.figure import Figure

from examples.several_classes import problem as tickets
from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.schema.scores import as_columns, from_columns
from level1_pipeline.settings import Settings
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import predictions
from monitoring import thresholds
from monitoring.data.prediction_window import read
from monitoring.detectors import concept_drift, past_champions, performance
from monitoring.detectors.labels import label_faults
from monitoring.reporting import plots
from monitoring.results import DayFigures, Window
from tests.support.prediction_log import log_outcomes, log_predictions
from tests.support.problems import in_place

CHANGE = pd.Timestamp("2024-06-01", tz="UTC")
CLASSES = [f"team {name}" for name in tickets.CLASSES]


@pytest.fixture(autouse=True, scope="module")
def several() -> Iterator[None]:
    """The tickets are the problem."""
    with in_place(tickets):
        yield


@pytest.fixture(scope="module")
def answered(several: None) -> pd.DataFrame:
    """All tickets since the middle of March with the scores of a model that was trained before."""
    rows = schema.typed(problem.load(pd.Timestamp("2024-07-15", tz="UTC"))).dropna(subset=problem.TARGET)
    new = rows[problem.EVENT_TIME] >= "2024-03-15"
    model = fit_model(rows[rows[problem.EVENT_TIME] < "2024-03-14"], {})
    asked = rows[new].reset_index(drop=True)
    asked["day"] = asked[problem.EVENT_TIME].dt.date
    scores = predict(model, asked)
    return asked.assign(score=scores.max(axis=1), **as_columns(scores))


def between(rows: pd.DataFrame, first: str, last: str) -> pd.DataFrame:
    inside = (rows[problem.EVENT_TIME] >= first) & (rows[problem.EVENT_TIME] < last)
    return rows[inside].reset_index(drop=True)


def test_ordinary_weeks_are_no_concept_drift(answered: pd.DataFrame) -> None:
    found = [
        concept_drift.check(week, from_columns(week)).changed
        for week in (between(answered, f"2024-05-{day:02}", f"2024-05-{day + 7:02}") for day in (1, 8, 15, 22))
    ]
    assert found == [False] * 4


def test_a_concept_drift_names_the_class_that_is_off_most_and_is_no_matter_of_one_slice(answered: pd.DataFrame) -> None:
    after = between(answered, "2024-06-01", "2024-06-15")
    drift = concept_drift.check(after, from_columns(after))
    assert (drift.changed, drift.everywhere, drift.outlier_slices) == (True, True, ())
    assert (drift.about, drift.bias < -0.1) == ("team technical", True)
    assert drift.excess is not None
    assert drift.excess > 0.1


def test_a_slice_whose_classes_left_those_of_all_others_is_named(answered: pd.DataFrame) -> None:
    week = between(answered, "2024-05-08", "2024-05-15")
    of_app = (week["product"] == "app") & (week[problem.TARGET] == 2)
    drift = concept_drift.check(*with_labels(week, week[problem.TARGET].mask(of_app, 0.0)))
    assert [part.slice for part in drift.outlier_slices] == ["product=app"]
    assert drift.explained_by_slice == "product=app"


def with_labels(rows: pd.DataFrame, labels: pd.Series) -> tuple[pd.DataFrame, np.ndarray]:
    return rows.assign(**{problem.TARGET: labels}), from_columns(rows)


def test_two_rare_classes_that_change_places_are_seen_although_the_third_is_as_before(answered: pd.DataFrame) -> None:
    week = between(answered, "2024-05-08", "2024-05-15")
    places = week[problem.TARGET]
    drift = concept_drift.check(*with_labels(week, places.mask(places == 1, 2.0)))
    assert drift.changed
    assert drift.about in ("team sales", "team technical")


def test_a_single_class_can_be_asked_about(answered: pd.DataFrame) -> None:
    after = between(answered, "2024-06-01", "2024-06-15")
    tests = [concept_drift.check(after, from_columns(after), about=name) for name in CLASSES]
    assert [test.about for test in tests] == CLASSES
    assert concept_drift.check(after, from_columns(after)).bias == tests[2].bias


@pytest.mark.slow
def test_the_chance_of_a_false_alarm_is_shared_by_the_classes(answered: pd.DataFrame) -> None:
    """Labels that are drawn from the scores themselves, 60 weeks of them."""
    week, draws = between(answered, "2024-05-08", "2024-05-15"), np.random.default_rng(0)
    steps, alarms, weeks = from_columns(week).cumsum(axis=1), 0, 60
    for _ in range(weeks):
        places = (draws.random(len(week))[:, None] > steps).sum(axis=1) * 1.0
        drawn = week.assign(**{problem.TARGET: places.clip(max=2.0)})
        alarms += bool(concept_drift.check(drawn, from_columns(drawn)).changed)
    assert alarms / weeks <= 3 * (1 - thresholds.WINDOW_CONFIDENCE) + 0.05, "higher, lower and worse"


def test_metrics_skill_calibration_and_the_estimate_are_those_of_all_classes(answered: pd.DataFrame) -> None:
    weeks = between(answered, "2024-05-01", "2024-06-01")
    y, p = weeks[problem.TARGET].to_numpy(), from_columns(weeks)
    table = performance.with_intervals(weeks)
    assert table["log_loss"].value == pytest.approx(problem.evaluate(y, p)["log_loss"])
    shares = np.bincount(y.astype(int)) / len(y)
    plain = -np.log(shares[y.astype(int)]).mean()
    assert table["skill"].value == pytest.approx(1 - table["log_loss"].value / plain)
    bins = performance._bins(weeks)
    assert list(dict.fromkeys(part.about for part in bins)) == CLASSES
    assert max(abs(part.expected - part.observed) for part in bins) < 0.12
    estimate = performance.estimate(weeks.drop(columns=problem.TARGET), weeks)
    assert estimate is not None
    for name, observed in (("log_loss", table["log_loss"].value), ("accuracy", table["accuracy"].value)):
        assert estimate.metrics[name].value == pytest.approx(observed, abs=1e-6), "corrected by the very same days"


def logged(answered: pd.DataFrame, home: Settings) -> Any:
    """A week of the log, and what monitoring reads of it."""
    week, store = between(answered, "2024-05-08", "2024-05-15"), Store(home.operations)
    records, scores = schema.records(week), from_columns(week).tolist()
    ids, times = week[problem.ID], week[problem.EVENT_TIME].dt.to_pydatetime()
    lines = zip(ids, times, records, scores, strict=True)
    log_predictions(
        store,
        [
            {"problem": problem.NAME, "id": i, "at": at, "record": record, "score": max(p), "scores": p}
            for i, at, record, p in lines
        ],
    )
    happened = zip(ids, week[problem.TARGET], times, strict=True)
    log_outcomes(store, [{"id": i, "value": y, "known_at": at + timedelta(hours=24)} for i, y, at in happened])
    start = datetime.fromisoformat("2024-05-08T00:00+00:00")
    log = read(store, Window(start, start + timedelta(days=7)), start + timedelta(days=20))
    store.close()
    return week, log.answers[("1", "champion")]


def test_a_window_of_the_log_has_the_probabilities_of_each_class_with_the_same_bits(
    answered: pd.DataFrame, home: Settings
) -> None:
    week, answers = logged(answered, home)
    rows = answers.rows.set_index("id").loc[week[problem.ID]]
    assert from_columns(rows).tobytes() == from_columns(week).tobytes()
    assert (rows["score"] == from_columns(week).max(axis=1)).all()
    assert rows[problem.TARGET].tolist() == week[problem.TARGET].tolist()


def test_a_version_is_measured_from_the_log(answered: pd.DataFrame, home: Settings) -> None:
    week, answers = logged(answered, home)
    measured = performance.measure(answers, {"log_loss": 0.7}, None)
    y, p = week[problem.TARGET].to_numpy(), from_columns(week)
    assert measured.metrics["log_loss"].value == pytest.approx(problem.evaluate(y, p)["log_loss"])
    by_day = pd.Series(p.argmax(axis=1) == y).groupby(week["day"]).mean()
    assert [day.observed for day in measured.days] == pytest.approx(list(by_day))
    assert {part.slice.split("=")[0] for part in measured.slices} == {"channel", "product"}


def test_answers_from_before_the_classes_changed_are_left_out(answered: pd.DataFrame, home: Settings) -> None:
    week, _ = logged(answered, home)
    store, other = Store(home.operations), set(week[problem.ID].head(100))
    with store.engine.begin() as connection:
        of_other_classes = predictions.c.id.in_(other)
        connection.execute(sa.update(predictions).where(of_other_classes).values(scores=[0.5, 0.5]))
    start = datetime.fromisoformat("2024-05-08T00:00+00:00")
    log = read(store, Window(start, start + timedelta(days=7)), start + timedelta(days=20))
    store.close()
    answers = log.answers[("1", "champion")]
    assert (answers.predictions, answers.errors) == (len(week) - 100, 0)
    assert not other & set(answers.rows["id"])
    assert performance.measure(answers, {}, None).metrics["log_loss"].value is not None


def test_the_share_of_each_class_stands_beside_what_the_scores_promise_for_each_day(
    answered: pd.DataFrame, home: Settings
) -> None:
    week, answers = logged(answered, home)
    days = performance.measure(answers, {}, None).days
    assert [list(day.shares) for day in days] == [CLASSES] * 7
    day = week[week["day"] == week["day"].iloc[0]]
    observed, expected = days[0].shares["team sales"]
    assert observed == pytest.approx((day[problem.TARGET] == 1.0).mean())
    assert expected == pytest.approx(day["score sales"].mean())
    assert sum(observed for observed, _ in days[0].shares.values()) == pytest.approx(1.0)
    assert DayFigures.from_dict(days[0].as_dict()) == days[0]


def test_the_report_draws_each_class_in_a_colour_of_its_own() -> None:
    shares = {name: (0.3 + 0.1 * place, 0.3) for place, name in enumerate(CLASSES)}
    days = [DayFigures(f"2024-05-0{n}", 100, 100, {}, 0.7, 0.7, {} if n == 2 else shares) for n in (1, 2, 3)]
    axes = Figure().subplots()
    plots.shares(axes, days)
    observed, expected = axes.get_lines()[::2], axes.get_lines()[1::2]
    assert [line.get_label() for line in observed] == CLASSES
    assert [line.get_color() for line in observed] == [line.get_color() for line in expected] == ["C0", "C1", "C2"]
    assert np.asarray(observed[2].get_ydata()).tolist() == pytest.approx([0.5, np.nan, 0.5], nan_ok=True)


@pytest.mark.parametrize(("changed", "better"), [(True, True), (False, False)])
def test_a_past_champion_that_fits_again_is_found_by_the_loss_of_all_classes(
    answered: pd.DataFrame, changed: bool, better: bool
) -> None:
    """The champion has learned what holds since June; the past champion knows only the weeks before the middle of March."""
    rows = schema.typed(problem.load(pd.Timestamp("2024-07-15", tz="UTC"))).dropna(subset=problem.TARGET)
    weeks = between(answered, "2024-05-01", "2024-05-22") if changed else between(answered, "2024-06-20", "2024-07-11")
    newer = predict(fit_model(between(rows, "2024-06-01", "2024-06-20"), {}), weeks)
    past: Any = SimpleNamespace(
        manifest={"trained_until": "2024-03-14T00:00:00+00:00"}, predict_frame=lambda some: from_columns(some)
    )
    found = past_champions.compare(weeks, newer, past, "1")
    assert (found.days, found.clearly_better, found.gain > 0) == (21, better, better)


def faults(week: pd.DataFrame, before: pd.DataFrame) -> list[str]:
    """The kinds of faults that the labels of a week have, beside those of the weeks before, and what is told of them."""
    labelled, reference = (
        rows.assign(
            id=rows[problem.ID],
            value=rows[problem.TARGET],
            at=rows[problem.EVENT_TIME],
            known_at=rows[problem.LABEL_TIME],
            open=False,
            label_hidden=False,
            corrected=False,
        )
        for rows in (week, before)
    )
    hits = label_faults.find(labelled, reference, "there is no training code")
    return [f"{hit.kind}: {hit.message}" for hit in hits]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda places: places, []),
        (lambda places: places * 0.0 + 1.0, ["constant: no label is team billing on 7 of the days"]),
        (lambda places: places.replace(1.0, 0.0), ["constant: no label is team sales on 7 of the days"]),
        (lambda places: places.sample(frac=1, random_state=0).set_axis(places.index), ["unrelated: the scores no longer"]),
        (lambda places: places.replace({0.0: 1.0, 1.0: 2.0, 2.0: 0.0}), ["inverted: the scores order the labels backwards"]),
        (lambda places: places.mask(places.index % 5 > 0, 2.0), ["rate: the share of team billing among the labels is"]),
    ],
    ids=["right", "one class only", "a class is gone", "of other rows", "classes in another order", "many are one class"],
)  # fmt: skip
def test_labels_that_are_wrong_are_found_and_right_ones_are_not(
    answered: pd.DataFrame, change: Any, told: list[str]
) -> None:
    week, before = between(answered, "2024-05-22", "2024-05-29"), between(answered, "2024-03-15", "2024-05-22")
    found = faults(week.assign(**{problem.TARGET: change(week[problem.TARGET])}), before)
    assert all(any(text.startswith(line) for text in found) for line in told), found
    assert told or not found
