"""Split by time, fit the recipe, and fit what it has to beat. Pure functions on frames."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from level1_pipeline import bundle, problem, schema


class NotEnoughData(RuntimeError):
    """There are too few rows with a known outcome to train and to judge a model."""


class Split(NamedTuple):
    """Matured rows by time: the older ones to train on, the newest days to judge on."""

    train: pd.DataFrame
    holdout: pd.DataFrame

    @property
    def pool(self) -> pd.DataFrame:
        """All matured rows, on which the recipe is fitted again once it was judged."""
        return pd.concat([self.train, self.holdout])


def maturity_cutoff(as_of: pd.Timestamp) -> pd.Timestamp:
    """The newest EVENT_TIME whose outcomes have all arrived at `as_of` (but for those that never do).

    Without it the still open labels would be missing, and they are mostly the late ones.
    """
    return as_of - pd.Timedelta(hours=problem.GATE["maturity_hours"])


def split(rows: pd.DataFrame, as_of: pd.Timestamp) -> Split:
    """Cut the matured rows in two at a point in time; never shuffled.

    Raises:
        NotEnoughData: fewer than the gate's `min_rows` on either side, or a single class to learn.
    """
    newest = maturity_cutoff(as_of)
    pool = rows[rows[problem.TARGET].notna() & (rows[problem.EVENT_TIME] <= newest)]
    in_holdout = pool[problem.EVENT_TIME] > newest - pd.Timedelta(days=problem.GATE["holdout_days"])
    parts = Split(pool[~in_holdout], pool[in_holdout])
    need = problem.GATE["min_rows"]
    if min(map(len, parts)) < need:
        raise NotEnoughData(
            f"as of {as_of:%Y-%m-%d} there are {len(parts.train):,} rows to train on and {len(parts.holdout):,} to judge with; "
            f"{need:,} of each are needed: choose a later --as-of, or lower GATE['min_rows']"
        )
    if problem.TASK == "classification" and parts.train[problem.TARGET].nunique() < 2:
        raise NotEnoughData(
            f"every row to train on has {problem.TARGET} = {parts.train[problem.TARGET].iloc[0]:g}: there is nothing to learn"
        )
    return parts


def fit(rows: pd.DataFrame, parameters: dict[str, Any] | None = None) -> Any:
    """Fit the problem's recipe, with changed parameters where given. Deterministic."""
    return problem.build_model().set_params(**(parameters or {})).fit(rows[schema.names()], rows[problem.TARGET])


def baselines(rows: pd.DataFrame) -> dict[str, Any]:
    """What a model must beat: a constant, and a linear model of the same inputs."""
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
    classify = problem.TASK == "classification"
    models = {
        "constant": DummyClassifier(strategy="prior") if classify else DummyRegressor(),
        "linear": make_pipeline(encode, LogisticRegression(solver="newton-cholesky") if classify else Ridge()),
    }
    return {name: model.fit(rows[schema.names()], rows[problem.TARGET]) for name, model in models.items()}


def typical(rows: pd.DataFrame) -> dict[str, str | float | None]:
    """An ordinary value of each input: the median or the most frequent one, None if it is mostly missing.

    An explanation asks what the model would say with it in an input's place.
    """
    values: dict[str, str | float | None] = {}
    for column in schema.columns():
        known = rows[column.name].dropna()
        if 2 * len(known) < len(rows):
            values[column.name] = None
        else:
            values[column.name] = str(known.mode().iloc[0]) if column.text else float(known.median())
    return values


def categories(rows: pd.DataFrame) -> dict[str, list[str]]:
    """The values seen of each text input that the Record does not list: others are legal, but unknown."""
    open_ended = [column.name for column in schema.columns() if column.text and column.allowed is None]
    return {name: sorted(map(str, rows[name].dropna().unique())) for name in open_ended}


def tune(train: pd.DataFrame, tries: int) -> tuple[dict[str, Any], pd.DataFrame]:
    """Try `tries` settings drawn from the problem's SEARCH, plus the recipe as it stands.

    Each is fitted on the older part of `train` and scored on its newest days (time-ordered
    validation: the gate's holdout stays unseen). Returns the best one and the table of all.
    """
    from sklearn.model_selection import ParameterSampler

    cut = train[problem.EVENT_TIME].max() - pd.Timedelta(days=problem.GATE["holdout_days"])
    older, newer = train[train[problem.EVENT_TIME] <= cut], train[train[problem.EVENT_TIME] > cut]
    if len(older) < problem.GATE["min_rows"]:
        raise NotEnoughData(
            f"a search fits on rows older than {cut:%Y-%m-%d} and there are {len(older):,}: choose a later --as-of, or leave out --tune"
        )
    size = int(np.prod([len(values) for values in problem.SEARCH.values()]))
    drawn = list(ParameterSampler(problem.SEARCH, min(tries, size), random_state=0))
    rows = []
    for parameters in [{}, *drawn]:
        predicted = bundle.predict(fit(older, parameters), newer)
        score = problem.evaluate(newer[problem.TARGET].to_numpy(), predicted)[problem.PRIMARY_METRIC]
        rows.append({"parameters": parameters, problem.PRIMARY_METRIC: score})
    best = min(rows, key=lambda row: row[problem.PRIMARY_METRIC])
    return best["parameters"], pd.DataFrame(rows)
