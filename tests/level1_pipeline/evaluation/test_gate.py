"""The gate, proved with real planted models: each runs through the real steps, and each has its own reason.

No Prefect here: the steps are plain functions. What a run reads is spoiled where a real fault would be
(`problem.load`, `problem.build_model`), never the gate or its numbers.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from level1_pipeline import flights, problem, schema
from level1_pipeline.bundle.load import MODEL
from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation import gate, metrics
from level1_pipeline.orchestration import run as training_run
from level1_pipeline.orchestration.pipeline import pipeline
from level1_pipeline.orchestration.run import Request
from level1_pipeline.registry import CHAMPION, Registry
from level1_pipeline.settings import Settings
from level1_pipeline.steps import model_card
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.step import Run, StepResult
from level1_pipeline.store.days import start_of
from tests.support.bundles import make_bundle
from tests.support.homes import register

pytestmark = [pytest.mark.flights, pytest.mark.integration]

AS_OF = start_of("2013-03-01")
UNTIL_EARLY = pd.Timestamp("2013-02-06", tz="UTC")  # a champion of three weeks before
TREES = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
BUILD, LOAD = problem.build_model, problem.load
ABSOLUTE = {
    "enough data",
    "sound numbers",
    "no leakage",
    "not too good",
    "limit on log_loss",
    "limit on roc_auc",
    "limit on calibration",
}
BASELINES = {"beats constant", "beats linear", "beats one rule"}
ON_TRUSTED_LABELS = {"confirmed labels", "trusted set", "trusted set against champion"}


# ---- real, bad models; their types are on the list of the test that plants them


class SometimesNaN(HistGradientBoostingClassifier):
    """Says nothing about flights with much delay before them."""

    def predict_proba(self, X: Any) -> np.ndarray:
        p = super().predict_proba(X)
        p[np.asarray(X[:, -2], float) > 60] = np.nan
        return p


class Slow(HistGradientBoostingClassifier):
    """Answers row by row, and looks something up for each."""

    def predict_proba(self, X: Any) -> np.ndarray:
        if len(X) <= 1000:  # the holdout as a whole would only make the test slow
            time.sleep(0.003 * len(X))
        return super().predict_proba(X)


class CrashesOnOneRow(HistGradientBoostingClassifier):
    """Was only ever tried on tables."""

    def predict_proba(self, X: Any) -> np.ndarray:
        if len(X) == 1:
            raise IndexError("at least two rows, please")
        return super().predict_proba(X)


class CrashesWhenLoaded(HistGradientBoostingClassifier):
    """Needs something that only the training machine has."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise OSError("/mnt/training/lookup.bin is not here")


# ---- running the steps


@dataclass
class Outcome:
    """How one run ended."""

    results: dict[str, Any]  # by the name of the step
    registry: Registry
    folder: Path

    @property
    def verdict(self) -> gate.Verdict:
        return gate.Verdict((*self.results["evaluate"].verdict.checks, *self.results["refit"].checks))

    @property
    def checks(self) -> dict[str, str]:
        return {check.name: check.status for check in self.verdict.checks}

    @property
    def against(self) -> set[str]:
        """The names of the checks that did not pass."""
        return {name for name, outcome in self.checks.items() if outcome != "pass"}

    def message(self, name: str) -> str:
        return next(check.message for check in self.verdict.checks if check.name == name)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Settings:
    """One home for all; MLflow's database is migrated once."""
    home = Settings(home=tmp_path_factory.mktemp("gate"), actor="tester").prepare()
    (home.home / "cache").symlink_to(cache)
    return home


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds, and the gate does not look at them; test_pipeline.py does."""
    monkeypatch.setattr(model_card, "plots", lambda *_: [])


@pytest.fixture
def registry(settings: Settings) -> Registry:
    return Registry(settings)


def new_run(settings: Settings) -> Run:
    return training_run.new_run(settings, Request(AS_OF), Registry(settings).route().champion)


class Stop(Exception):
    """The last step that a test wants is done."""


def run_steps(settings: Settings, until: str = "publish", before: dict[str, Any] | None = None) -> Outcome:
    run, results = new_run(settings), dict(before or {})
    if not before:
        shutil.rmtree(run.folder, ignore_errors=True)

    def do(step: Callable[..., Any], run: Run, *inputs: StepResult) -> Any:
        if until in results:
            raise Stop
        if step.__name__ not in results:
            results[step.__name__] = step(run, *inputs)
        return results[step.__name__]

    with suppress(Stop):
        pipeline(run, do)
    return Outcome(results, run.registry, Path(run.folder))


@pytest.fixture(scope="module")
def prepared(settings: Settings) -> tuple[Path, dict[str, Any]]:
    """Extract, validate and split, done once on good data."""
    run = new_run(settings)
    results = run_steps(settings, "split").results
    return Path(shutil.copytree(run.folder, settings.home / "prepared")), results


@pytest.fixture(scope="module")
def train_rows(prepared: tuple[Path, dict[str, Any]]) -> pd.DataFrame:
    return pd.read_parquet(prepared[0] / "train.parquet")


@pytest.fixture
def train(settings: Settings, prepared: tuple[Path, dict[str, Any]]) -> Callable[..., Outcome]:
    """Run the remaining steps on the good split."""

    def go(until: str = "publish") -> Outcome:
        run = new_run(settings)
        shutil.rmtree(run.folder, ignore_errors=True)
        shutil.copytree(prepared[0], run.folder)
        return run_steps(settings, until, prepared[1])

    return go


class Champions:
    """Puts a fitted model into service: registered, published, promoted, as if it had passed the gate."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def install(self, pipeline: Pipeline, rows: pd.DataFrame, promote: bool = True, **info: Any) -> str:
        number = len(list(self.registry.bundle_folder("x").parent.glob("*")))
        folder = self.registry.settings.home / "made" / str(number)
        return register(self.registry, make_bundle(folder, pipeline, rows.tail(20), rows, **info), promote=promote)


@pytest.fixture(scope="module")
def champions(settings: Settings) -> Champions:
    return Champions(Registry(settings))


def fitted(rows: pd.DataFrame, **parameters: Any) -> Pipeline:
    return fit_model(rows, {f"model__{name}": value for name, value in parameters.items()})


@pytest.fixture(scope="module")
def strong(champions: Champions, train_rows: pd.DataFrame) -> str:
    """The real recipe on the very rows of the challenger."""
    return champions.install(fitted(train_rows), train_rows)


@pytest.fixture(scope="module")
def weak(champions: Champions, train_rows: pd.DataFrame) -> str:
    """Three trees, three weeks ago."""
    rows = train_rows[train_rows[problem.EVENT_TIME] < UNTIL_EARLY]
    return champions.install(fitted(rows, max_iter=3), rows)


@pytest.fixture
def serve(registry: Registry) -> Callable[[str], None]:
    """Make a version champion for one test."""

    def now(version: str) -> None:
        if registry.route().champion != version:
            registry.promote(version, CHAMPION, "planted by a test")

    return now


def plant(monkeypatch: pytest.MonkeyPatch, model: type[HistGradientBoostingClassifier]) -> None:
    """The recipe with another last step, whose type the cloner has put on the list."""

    def build() -> Pipeline:
        pipeline = BUILD()
        pipeline.set_params(model=model(**pipeline.named_steps["model"].get_params()))
        return pipeline

    monkeypatch.setattr(problem, "build_model", build)
    monkeypatch.setattr(problem, "TRUSTED_TYPES", (TREES, f"{model.__module__}.{model.__qualname__}"))


def refused(outcome: Outcome, champion: str | None) -> None:
    """Nothing was registered, and the champion is what it was."""
    assert outcome.verdict.status != "pass"
    assert outcome.results["register"].version is None
    assert outcome.results["register"].status == outcome.verdict.status
    assert outcome.results["publish"].alias is None
    assert outcome.registry.route().champion == champion
    run = outcome.registry.client.get_run(outcome.results["register"].run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["verdict"] == outcome.verdict.status
    for name in outcome.against:
        assert name in run.data.tags["reasons"]


# ---- the first model: nothing to compare with, so the absolute thresholds decide


@pytest.mark.evidence("Model 5", "Checklist 6")
@pytest.mark.slow
def test_a_first_model_is_judged_by_absolute_thresholds_and_is_promoted(tmp_path: Path, cache: Path) -> None:
    home = Settings(home=tmp_path / "first", actor="tester").prepare()
    (home.home / "cache").symlink_to(cache)
    outcome = run_steps(home)
    assert outcome.verdict.status == "pass"
    assert not {"better than champion", "harm is bounded"} & set(outcome.checks)
    assert set(outcome.checks) >= ABSOLUTE | BASELINES | {"slices against a constant", "bundle", "speed"}
    assert set(outcome.checks) >= {
        "served model: agrees with the evaluation model",
        "served model: no worse than the evaluation model",
        "served model: bundle",
    }
    version = outcome.results["register"].version
    assert outcome.registry.route().champion == version
    served = outcome.registry.load(version)
    judged = served.evaluation_model
    assert judged is not None
    assert (served.manifest["kind"], judged.manifest["kind"]) == ("served model", "evaluation model")
    assert served.manifest["trained_until"] > judged.manifest["trained_until"]


@pytest.mark.evidence("nothing is there yet")
@pytest.mark.slow
def test_a_first_model_that_misses_an_absolute_threshold_is_refused(
    tmp_path: Path, prepared: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(problem.GATE, "limits", problem.GATE["limits"] | {"roc_auc": (0.9, 0.95)})
    home = Settings(home=tmp_path / "empty", actor="tester").prepare()
    run = new_run(home)
    shutil.copytree(prepared[0], run.folder)
    outcome = run_steps(home, before=prepared[1])
    refused(outcome, None)
    assert outcome.against == {"limit on roc_auc"}
    assert "allowed 0.9 to 0.95" in outcome.message("limit on roc_auc")


@pytest.mark.evidence("nothing is there yet")
@pytest.mark.parametrize("limits", [None, {}], ids=["left out", "empty"])
def test_the_absolute_thresholds_are_mandatory(limits: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    without = {name: value for name, value in problem.GATE.items() if name != "limits"}
    monkeypatch.setattr(problem, "GATE", without if limits is None else without | {"limits": limits})
    with pytest.raises(ValidationError, match="limits"):
        gate.rules()


# ---- better, equal, worse


@pytest.mark.evidence("Checklist 6")
def test_a_clearly_better_model_is_promoted(train: Callable[..., Outcome], weak: str, serve: Any) -> None:
    serve(weak)
    outcome = train()
    assert outcome.verdict.status == "pass", outcome.verdict.reasons
    assert outcome.checks["better than champion"] == outcome.checks["harm is bounded"] == "pass"
    assert f"over champion {weak} on" in outcome.message("better than champion")
    route = outcome.registry.route()
    assert route.champion == outcome.results["register"].version != weak
    assert route.previous == weak
    last = outcome.registry.store.audit_log(problem.NAME)[-1]
    assert (last.text, last.from_version, last.to_version) == ("promote to champion", weak, route.champion)


@pytest.mark.slow
def test_an_identical_model_is_refused(train: Callable[..., Outcome], strong: str, serve: Any) -> None:
    serve(strong)
    outcome = train()
    refused(outcome, strong)
    assert outcome.against == {"better than champion"}
    assert "identical" in outcome.message("better than champion")


@pytest.mark.slow
def test_a_worse_model_is_refused(
    train: Callable[..., Outcome], strong: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes every absolute threshold: only the comparison on the same rows tells."""
    serve(strong)
    monkeypatch.setattr(problem, "build_model", lambda: BUILD().set_params(model__max_iter=10))
    outcome = train()
    refused(outcome, strong)
    assert "better than champion" in outcome.against <= ON_TRUSTED_LABELS | {"better than champion", "harm is bounded"}
    assert "mean daily gain -" in outcome.message("better than champion")


@pytest.mark.slow
def test_a_much_worse_model_is_refused_for_its_harm_as_well(
    train: Callable[..., Outcome], strong: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(strong)
    monkeypatch.setattr(problem, "build_model", lambda: BUILD().set_params(model__learning_rate=0.4))
    outcome = train()
    refused(outcome, strong)
    assert outcome.against >= {"better than champion", "harm is bounded", f"slices against champion {strong}"}


# ---- spoiled data


def spoil(monkeypatch: pytest.MonkeyPatch, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    def load(until: pd.Timestamp, source: Path | None = None, cache: Path | None = None) -> pd.DataFrame:
        return change(LOAD(until, source, cache))

    monkeypatch.setattr(problem, "load", load)


def to_train_on(rows: pd.DataFrame) -> pd.Series:
    holdout = (
        AS_OF - pd.Timedelta(hours=problem.GATE["maturity_hours"]) - pd.Timedelta(days=problem.GATE["holdout_days"])
    )
    return (rows[problem.EVENT_TIME] <= holdout) & rows[problem.TARGET].notna()


@pytest.mark.evidence("Model 5", "a candidate is worse")
@pytest.mark.slow
def test_a_model_of_shuffled_labels_is_refused(
    settings: Settings, strong: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shuffle(rows: pd.DataFrame) -> pd.DataFrame:
        old = to_train_on(rows)
        labels = rows[problem.TARGET].copy()
        labels[old] = np.random.default_rng(0).permutation(labels[old])
        return rows.assign(**{problem.TARGET: labels})

    serve(strong)
    spoil(monkeypatch, shuffle)
    outcome = run_steps(settings)
    refused(outcome, strong)
    assert {"limit on roc_auc", "beats constant", "better than champion"} <= outcome.against
    assert "no leakage" not in outcome.against


@pytest.mark.slow
def test_a_model_that_sees_the_future_sets_off_the_leakage_alarm(
    settings: Settings, strong: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The actual departure delay in the place of the airport's recent one, as published tutorials have it."""
    raw = flights.read()
    delay = pd.Series(raw.flights["dep_delay"].to_numpy(), flights.schedule(raw)[problem.ID]).clip(-10, 180)

    serve(strong)
    spoil(monkeypatch, lambda rows: rows.assign(recent_delay=rows[problem.ID].map(delay)))
    outcome = run_steps(settings)
    refused(outcome, strong)
    assert "no leakage" in outcome.against
    assert "recent_delay has AUC 0.8" in outcome.message("no leakage")
    assert outcome.checks["better than champion"] == "pass"  # looking only at the score would have promoted it


@pytest.mark.evidence("Model 6", "Checklist 6")
@pytest.mark.slow
def test_a_model_that_is_better_on_average_but_bad_for_one_airport_is_refused(
    settings: Settings, weak: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(rows: pd.DataFrame) -> pd.DataFrame:
        hit = to_train_on(rows) & (rows["origin"] == "EWR") & (np.random.default_rng(0).random(len(rows)) < 0.3)
        return rows.assign(**{problem.TARGET: rows[problem.TARGET].where(~hit, 1 - rows[problem.TARGET])})

    serve(weak)
    spoil(monkeypatch, poison)
    outcome = run_steps(settings)
    refused(outcome, weak)
    alone = f"slices against champion {weak}"
    assert alone in outcome.against <= ON_TRUSTED_LABELS | {alone, "harm is bounded"}  # two weeks bound no harm tightly
    assert "confirmed labels" in outcome.against
    holdout, judged = (pd.read_parquet(outcome.folder / f"{name}.parquet") for name in ("holdout", "predictions"))
    champion = predict(outcome.registry.load(weak).pipeline, holdout)
    own, theirs = (
        metrics.by_slice(holdout, p, 400).set_index(["slice", "value"])["log_loss"]
        for p in (judged["evaluation model"].to_numpy(), champion)
    )
    harm = (own - theirs)["origin"]
    assert harm["EWR"] > problem.GATE["slice_max_harm"] > harm[["JFK", "LGA"]].max()


# ---- not fit for service


@pytest.mark.evidence("Monitor 5")
@pytest.mark.slow
def test_a_model_that_returns_nan_is_refused(
    train: Callable[..., Outcome], strong: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(strong)
    plant(monkeypatch, SometimesNaN)
    outcome = train()
    refused(outcome, strong)
    assert "sound numbers" in outcome.against
    assert "predictions are NaN" in outcome.message("sound numbers")
    assert not outcome.message("sound numbers").startswith("0 of")


@pytest.mark.slow
def test_a_slow_model_is_refused(
    train: Callable[..., Outcome], weak: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is better than the champion; that does not help."""
    serve(weak)
    plant(monkeypatch, Slow)
    outcome = train("refit")
    assert outcome.verdict.status == "fail"
    assert outcome.against == {"speed"}
    assert "for 1,000 rows (allowed: 2.0 s)" in outcome.message("speed")


@pytest.mark.evidence("Checklist 7")
@pytest.mark.slow
def test_a_model_that_crashes_on_a_single_record_is_refused(
    train: Callable[..., Outcome], weak: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(weak)
    plant(monkeypatch, CrashesOnOneRow)
    outcome = train()
    refused(outcome, weak)
    assert outcome.against == {"bundle"}
    assert outcome.checks["bundle"] == "error"
    assert "at least two rows" in outcome.message("bundle")


@pytest.mark.slow
def test_a_model_that_crashes_when_it_is_loaded_is_refused(
    train: Callable[..., Outcome], weak: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(weak)
    plant(monkeypatch, CrashesWhenLoaded)
    outcome = train()
    refused(outcome, weak)
    assert outcome.against == {"bundle"}
    assert "lookup.bin is not here" in outcome.message("bundle")


@pytest.mark.slow
def test_a_model_of_a_type_that_nobody_reviewed_is_refused(
    train: Callable[..., Outcome], weak: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(weak)
    plant(monkeypatch, Slow)
    monkeypatch.setattr(problem, "TRUSTED_TYPES", (TREES,))
    outcome = train()
    refused(outcome, weak)
    assert outcome.against == {"bundle"}
    assert "TRUSTED_TYPES" in outcome.message("bundle")


# ---- inconclusive and error are not success


@pytest.mark.slow
def test_a_champion_that_has_seen_the_days_makes_the_comparison_inconclusive(
    train: Callable[..., Outcome], champions: Champions, train_rows: pd.DataFrame
) -> None:
    poor = champions.install(fitted(train_rows, max_iter=3), train_rows, trained_until=AS_OF.isoformat())
    outcome = train()
    refused(outcome, poor)
    assert outcome.verdict.status == "inconclusive"
    assert outcome.against == {"better than champion"}
    assert "only 0 days" in outcome.message("better than champion")


@pytest.mark.slow
def test_a_champion_that_has_seen_most_of_the_days_makes_the_comparison_inconclusive(
    train: Callable[..., Outcome], champions: Champions, train_rows: pd.DataFrame
) -> None:
    seen = AS_OF - pd.Timedelta(hours=problem.GATE["maturity_hours"]) - pd.Timedelta(days=5)
    poor = champions.install(fitted(train_rows, max_iter=3), train_rows, trained_until=seen.isoformat())
    outcome = train()
    refused(outcome, poor)
    assert outcome.verdict.status == "inconclusive"
    assert f"needed: {gate.COMPARISON_MIN_DAYS}" in outcome.message("better than champion")


@pytest.mark.parametrize("home", ["of today", "made before"])
@pytest.mark.slow
def test_instead_of_a_champion_that_has_seen_the_days_its_evaluation_model_is_compared(
    home: str, train: Callable[..., Outcome], champions: Champions, train_rows: pd.DataFrame
) -> None:
    """It lies in the bundle of the champion; in a home made before, it is a version that the manifest names."""
    served, info = fitted(train_rows, max_iter=3), {"trained_until": AS_OF.isoformat()}
    if home == "of today":
        refit = champions.install(served, train_rows, evaluation_model=fitted(train_rows), **info)
    else:
        judged = champions.install(fitted(train_rows), train_rows, promote=False)
        refit = champions.install(served, train_rows, judged_version=judged, **info)
    outcome = train()
    refused(outcome, refit)
    assert outcome.against == {"better than champion"}
    expected = f"identical to those of the evaluation model of champion {refit}"
    assert expected in outcome.message("better than champion")


@pytest.mark.slow
def test_too_few_rows_to_judge_with_are_inconclusive(
    train: Callable[..., Outcome], weak: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(weak)
    monkeypatch.setitem(problem.GATE, "min_rows", 20_000)
    outcome = train()
    refused(outcome, weak)
    assert (outcome.verdict.status, outcome.against) == ("inconclusive", {"enough data"})


@pytest.mark.slow
def test_a_damaged_champion_is_an_error_and_nothing_is_promoted(
    train: Callable[..., Outcome], champions: Champions, train_rows: pd.DataFrame
) -> None:
    poor = champions.install(fitted(train_rows.head(3000), max_iter=3), train_rows.head(3000))
    model = champions.registry.bundle_folder(poor) / MODEL
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    outcome = train()
    refused(outcome, poor)
    assert (outcome.verdict.status, outcome.against) == ("error", {"better than champion"})
    assert "SHA-256 differs" in outcome.message("better than champion")


# ---- what is served was judged


@pytest.mark.parametrize(
    ("second", "check"),
    [
        ({"model__max_iter": 1, "model__learning_rate": 0.001}, "served model: no worse than the evaluation model"),
        ({}, "served model: agrees with the evaluation model"),
    ],
    ids=["a constant", "a model of the opposite"],
)
@pytest.mark.slow
def test_a_served_model_that_says_something_else_than_the_evaluation_model_is_refused(
    second: dict[str, Any],
    check: str,
    train: Callable[..., Outcome],
    weak: str,
    serve: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A recipe that is not the same at every call: what would be served is not what was judged."""
    calls = []

    def build() -> Pipeline:
        calls.append(1)
        pipeline = BUILD()
        if len(calls) > 1:
            pipeline.set_params(**second)
            if not second:
                plain = pipeline.fit
                pipeline.fit = lambda X, y: plain(X, 1 - y)
        return pipeline

    serve(weak)
    monkeypatch.setattr(problem, "build_model", build)
    outcome = train()
    assert outcome.results["evaluate"].verdict.status == "pass"
    refused(outcome, weak)
    assert check in outcome.against


def test_the_holdout_is_counted_in_days_of_the_comparison(prepared: tuple[Path, dict[str, Any]]) -> None:
    holdout = pd.read_parquet(prepared[0] / "holdout.parquet")
    assert len(np.unique(metrics.days(holdout))) >= problem.GATE["holdout_days"]
    assert set(schema.names()) <= set(holdout.columns)
