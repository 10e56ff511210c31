"""Step 4: the evaluation model, fitted on the older rows (`fit_model`), and the baselines that it has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import EVALUATION_MODEL
from level1_pipeline.bundle.predict import predict
from level1_pipeline.errors import NotEnoughData
from level1_pipeline.evaluation.one_rule import OneRule
from level1_pipeline.schema.scores import as_columns, from_columns
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task
from level1_pipeline.steps.extract import Extracted
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.steps.model_card import EVALUATED
from level1_pipeline.steps.split import Split, read_parts
from level1_pipeline.steps.step import Run, StepResult, step
from level1_pipeline.steps.write_bundle import write_model
from level1_pipeline.store.days import date_of

PREDICTIONS, SEARCHED = "predictions.parquet", "search.json"
ONE_RULE = "one rule"  # the name of that baseline


@dataclass(frozen=True, kw_only=True)
class Trained(StepResult):
    """The evaluation model as a bundle, and what it and the baselines say about the holdout."""

    parameters: dict[str, Any]  # that the search chose; empty: the recipe as it stands
    one_rule: str = ""  # the best threshold on one input, for people
    rows: int = 0  # that it was fitted on

    @property
    def message(self) -> str:
        """How many rows it was fitted on, and the rule that it has to beat."""
        searched = f", found by the search: {self.parameters}" if self.parameters else ""
        return f"{self.rows:,} rows{searched}; one rule: {self.one_rule}"


@step
def train(run: Run, extracted: Extracted, parts: Split) -> Trained:
    """Fit the recipe on the older rows, after a search if one was asked for, and the baselines."""
    rows, holdout = read_parts(run)
    parameters, searched = tune_model(rows, run.tune) if run.tune else ({}, pd.DataFrame())
    searched.to_json(run.path(SEARCHED), orient="records")
    model = fit_model(rows, parameters)
    baselines = fit_baselines(rows)
    models = {EVALUATED: model, **baselines}
    _write_predictions(run, {name: predict(fitted, holdout) for name, fitted in models.items()})
    files = [PREDICTIONS, SEARCHED, *write_model(run, extracted, EVALUATION_MODEL, model, holdout, rows)]
    return Trained(parameters=parameters, one_rule=str(baselines[ONE_RULE]), rows=len(rows), files=run.digests(*files))


def _write_predictions(run: Run, predictions: dict[str, np.ndarray]) -> None:
    """A column for each model; of several classes one for each model and class."""
    columns = predictions
    if classes():
        parts = [as_columns(scores, f"{name}|") for name, scores in predictions.items()]
        columns = {name: part for model in parts for name, part in model.items()}
    pd.DataFrame(columns).to_parquet(run.path(PREDICTIONS), index=False)


def read_predictions(run: Run) -> dict[str, np.ndarray]:
    """What each model says about the holdout, the evaluation model first."""
    table = pd.read_parquet(run.path(PREDICTIONS))
    if not classes():
        return {name: table[name].to_numpy() for name in table}
    return {name: from_columns(table, f"{name}|") for name in dict.fromkeys(name.split("|")[0] for name in table)}


def fit_baselines(rows: pd.DataFrame) -> dict[str, Any]:
    """What a model must beat: a constant, a linear model of the same inputs, and the best threshold on one of them."""
    from sklearn.compose import ColumnTransformer
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    text = [column.name for column in schema.columns() if column.text]
    numbers = [column.name for column in schema.columns() if not column.text]
    encode = ColumnTransformer(
        [
            ("text", OneHotEncoder(handle_unknown="ignore", min_frequency=50), text),
            ("numbers", make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler()), numbers),
        ],
        sparse_threshold=0,
    )
    classify = task().has_classes
    models: dict[str, Any] = {
        "constant": DummyClassifier(strategy="prior") if classify else DummyRegressor(),
        "linear": make_pipeline(encode, LogisticRegression(solver="newton-cholesky") if classify else Ridge()),
        ONE_RULE: OneRule(),
    }
    return {name: model.fit(rows[schema.names()], rows[problem.TARGET]) for name, model in models.items()}


def tune_model(train: pd.DataFrame, tries: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """Try `tries` settings drawn from the problem's SEARCH, plus the recipe as it stands.

    Each is fitted on the older part of `train` and scored on its newest days (time-ordered
    validation: the gate's holdout stays unseen). Returns the best one and the table of all.
    """
    from sklearn.model_selection import ParameterSampler

    cut = train[problem.EVENT_TIME].max() - pd.Timedelta(days=problem.GATE["holdout_days"])
    older, newer = train[train[problem.EVENT_TIME] <= cut], train[train[problem.EVENT_TIME] > cut]
    if len(older) < problem.GATE["min_rows"]:
        raise NotEnoughData(
            f"a search fits on rows older than {date_of(cut)} and there are {len(older):,}: choose a later --as-of, or leave out --tune"
        )
    size = int(np.prod([len(values) for values in problem.SEARCH.values()]))
    drawn = list(ParameterSampler(problem.SEARCH, min(tries, size), random_state=0))
    rows = []
    for parameters in [{}, *drawn]:
        predicted = predict(fit_model(older, parameters), newer)
        score = problem.evaluate(newer[problem.TARGET].to_numpy(), predicted)[problem.PRIMARY_METRIC]
        rows.append({"parameters": parameters, problem.PRIMARY_METRIC: score})
    best = min(rows, key=lambda row: row[problem.PRIMARY_METRIC])
    return best["parameters"], pd.DataFrame(rows)
