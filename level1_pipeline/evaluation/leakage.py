"""Leakage: has an input, or the model as a whole, seen what it should predict?

Each input is asked alone, given the others, and in pairs: a small tree is fitted on older rows and judged on newer
ones, as a model would be. An input that is honest is far from the limits (docs/level1.md has the figures).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.evaluation import encodings
from level1_pipeline.evaluation.gate import Check, rules
from level1_pipeline.evaluation.metrics import days
from level1_pipeline.schema.scores import by_part
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task

TRAIN_ROWS, HOLDOUT_ROWS = 10_000, 5_000  # that a tree sees: more rows change no verdict and cost time
MIN_PRESENT = 100  # newer rows on which an input that is mostly missing is judged
# Groups: the rows without a value, or with the same value. Largest in twelve months of real flights: odds of 5.2.
GROUPED_ROWS = 20_000  # of which groups are made
GROUP_ROWS, GROUP_DAYS = 50, 5  # of a group, on newer days: a storm is over sooner
GROUP_MIN_ODDS = 20.0  # of a group's label, against all other rows
GROUP_MIN_SHARE = 0.9  # of the group that has the label to which the odds point
GROUP_MIN_GAP = 1.5  # of a regression: standard deviations between rows with and without a value
# What the other inputs cannot say is a part of an input only, and knows less: 0.68 at most on the same flights.
GIVEN_OTHERS_LIMIT = 0.7  # of the way from a guess to the limit
GIVEN_OTHERS = " given the other inputs"
PAST_FOLDS = 2  # older fortnights on which a model of ours shows what is plausible, where there is no champion


def no_leakage(train: pd.DataFrame, holdout: pd.DataFrame) -> Check:
    """Does an input know the label too well: alone, given the others, with a second one, or on some of the rows?

    Args:
        train: older rows, with labels.
        holdout: newer rows, with labels; a tree of the older ones is judged here.
    """
    if task().has_classes and min(part[problem.TARGET].nunique() for part in (train, holdout)) < 2:
        return Check("no leakage", "inconclusive", "there is only one label, so nothing can be told from it")
    scores = pd.Series(
        {
            f"{name}{about}": score
            for about, *parts in _by_class(_sample(train, TRAIN_ROWS), _sample(holdout, HOLDOUT_ROWS))
            for name, score in _scores(*parts)
        }
    )
    limit, guess = (rules().max_single_feature_auc, 0.5) if task().has_classes else (rules().max_single_feature_r2, 0.0)
    part = np.where(scores.index.str.contains(GIVEN_OTHERS, regex=False), GIVEN_OTHERS_LIMIT, 1.0)
    limits = pd.Series(guess + part * (limit - guess), scores.index)
    worst = (scores - limits).sort_values(ascending=False).index
    lines = [f"{what} has {_metric()} {scores[what]:.3f} on newer rows (allowed: {limits[what]:.2f})" for what in worst]
    against = [line for line, what in zip(lines, worst, strict=True) if scores[what] > limits[what]][:3]
    against += [line + about for about, *both in _by_class(train, holdout) for line in _telling_groups(*both)][:3]
    if not against:
        return Check("no leakage", "pass", f"nothing knows too much: {lines[0]}")
    todo = "find out when it is known, and leave out what is learned after EVENT_TIME"
    return Check("no leakage", "fail", f"{'; '.join(against)}: this has seen the outcome; {todo}")


def _by_class(older: pd.DataFrame, newer: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """The rows as they are; of several classes, once for each class with labels that say whether it is this class."""
    tables = (older, newer)
    parts = [task().parts(rows[problem.TARGET].to_numpy("float64")) for rows in tables]
    for name in parts[0]:
        about = f" (about {name})" if classes() else ""
        yield about, *(rows.assign(**{problem.TARGET: part[name]}) for rows, part in zip(tables, parts, strict=True))


class Past(NamedTuple):
    """What a model that is known says about rows of the holdout."""

    name: str
    predictions: np.ndarray  # shape (k,)
    rows: np.ndarray  # shape (n,), True for the k rows of the holdout that were predicted


def not_too_good(train: pd.DataFrame, holdout: pd.DataFrame, p: np.ndarray, past: Past | None = None) -> Check:
    """Is the model as a whole too good to be true, held against the past?

    A new model may take away a part of what was left to gain (1 - AUC, or 1 - R²), not most of it at once.

    Args:
        train, holdout: older rows, and those that were predicted; with labels.
        p: the candidate's predictions for `holdout`, shape (n,).
        past: the champion on the same rows; without one, boosted trees on older days show what is plausible.
    """
    y, left = holdout[problem.TARGET].to_numpy(), rules().min_error_left
    if past:
        score, before = _score(y[past.rows], p[past.rows]), _score(y[past.rows], past.predictions)
    else:
        score, before = _score(y, p), max((_score(*fold) for fold in _folds(train)), default=np.nan)
    if not np.isfinite([score, before]).all():
        return Check("not too good", "pass", "there is no past to hold it against")
    highest = 1 - left * (1 - max(before, 0.0))
    who = past.name if past else "boosted trees on older days"
    message = f"{_metric()} {score:.3f} against {before:.3f} of {who} (allowed: {highest:.3f})"
    if score <= highest:
        return Check("not too good", "pass", message)
    todo = "look for an input that is learned after EVENT_TIME; if all are honest, lower GATE['min_error_left']"
    return Check("not too good", "fail", f"{message}: no model improves so much at once; {todo}")


def _metric() -> str:
    return "AUC" if task().has_classes else "R²"


def _sample(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    return rows if len(rows) <= most else rows.sample(most, random_state=0)


def _score(y: np.ndarray, p: np.ndarray) -> float:
    """AUC (of several classes, the mean of each against all others) or R²; NaN where it is not defined."""
    from sklearn.metrics import r2_score, roc_auc_score

    if len(y) < 2 or len(np.unique(y)) < 2:
        return np.nan
    if p.ndim > 1:
        return float(np.nanmean([_score(labels, part) for _, labels, part in by_part(y, p)]))
    return float(roc_auc_score(y, p) if task().has_classes else r2_score(y, p))


def _fit_predict(model: str, older: np.ndarray, y: np.ndarray, newer: np.ndarray) -> np.ndarray:
    """Predictions for newer rows, by a tree of a few leaves or by boosted trees."""
    from sklearn import ensemble, tree

    kind = "Classifier" if task().has_classes else "Regressor"
    if model == "tree":
        fitted = getattr(tree, f"DecisionTree{kind}")(max_depth=5, min_samples_leaf=encodings.MIN_LEAF, random_state=0)
    else:
        fitted = getattr(ensemble, f"HistGradientBoosting{kind}")(max_iter=50, early_stopping=False, random_state=0)
    fitted.fit(older, y)
    if not task().has_classes:
        return fitted.predict(newer)
    p = fitted.predict_proba(newer)
    return p[:, 1] if set(fitted.classes_) <= {0.0, 1.0} else task().scores(fitted, newer)


def _scores(older: pd.DataFrame, newer: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """How well each input predicts newer rows: alone, given the others, and with another one."""
    y, truth = older[problem.TARGET].to_numpy("float64"), newer[problem.TARGET].to_numpy("float64")
    first, second = encodings.alone(older, older), encodings.alone(older, newer)
    for name in schema.names():
        p = _fit_predict("tree", first[[name]].to_numpy(), y, second[[name]].to_numpy())
        present = newer[name].notna().to_numpy()
        parts = [slice(None), present] if MIN_PRESENT <= present.sum() < len(present) else [slice(None)]
        yield name, max(np.nan_to_num(_score(truth[part], p[part])) for part in parts)
    first, second = encodings.together(older, older), encodings.together(older, newer)
    for name, direction in encodings.given_others(first).items():
        p = _fit_predict("tree", first.to_numpy() @ direction, y, second.to_numpy() @ direction)
        yield name + GIVEN_OTHERS, np.nan_to_num(_score(truth, p))
    first, second = encodings.codes(older, older), encodings.codes(older, newer)
    for pair in encodings.suspicious_pairs(first, y):
        weights = np.linalg.lstsq(first[list(pair)].to_numpy(), y - y.mean())[0]
        tables = [encodings.combined(table, pair, weights) for table in (first, second)]
        p = _fit_predict("tree", tables[0], y, tables[1])
        yield f"{pair[0]} with {pair[1]}", np.nan_to_num(_score(truth, p))


def _telling_groups(train: pd.DataFrame, holdout: pd.DataFrame) -> list[str]:
    """Groups of rows (without a value, or with the same one) whose label is all but known, now as before."""
    parts = [_sample(part, GROUPED_ROWS) for part in (train, holdout)]
    lines = []
    for name in schema.names():
        values = [part[name] for part in parts]
        if values[0].isna().any():
            lines += _telling(f"{name} is missing:", [part.isna() for part in values], parts)
        if task().has_classes:  # of a regression, a value may well have labels of its own
            lines += _telling(f"{name} is", [part.dropna() for part in values], parts)
    return lines


def _telling(what: str, groups: list[pd.Series], parts: list[pd.DataFrame]) -> list[str]:
    was, now = (_effects(group, part[problem.TARGET]) for group, part in zip(groups, parts, strict=True))
    both = was.join(now, lsuffix="_before", how="inner")
    size = np.minimum(both["size"].abs(), both["size_before"].abs()).where(both["size"] * both["size_before"] > 0, 0.0)
    far = size >= (np.log(GROUP_MIN_ODDS) if task().has_classes else GROUP_MIN_GAP)
    lines = []
    for value, group in both[far & both["sure"] & both["sure_before"]].iterrows():
        rows = groups[1].index[groups[1] == value]
        if len(np.unique(days(parts[1].loc[rows]))) >= GROUP_DAYS:
            lines.append(f"where {what} {value}, the mean label is {group['mean']:.3f} (elsewhere {group['rest']:.3f})")
    return lines


def _effects(groups: pd.Series, labels: pd.Series) -> pd.DataFrame:
    """By group: its mean label, that of all other rows, and how far they are apart (log odds, or standard deviations).

    The odds are drawn to those of all rows, as by one more event, so that a group without an event is not infinite.
    """
    y = labels.loc[groups.index].to_numpy("float64")
    places, names = pd.factorize(groups)
    rows, total = np.bincount(places), np.bincount(places, weights=y)
    rest, rest_total = len(labels) - rows, labels.sum() - total
    table = pd.DataFrame({"mean": total / rows, "rest": rest_total / np.maximum(rest, 1)}, index=names)
    if task().has_classes:
        rate = labels.mean()
        prior = 1 / min(rate, 1 - rate)
        inside, outside = ((k + prior * rate) / (n + prior) for k, n in ((total, rows), (rest_total, rest)))
        table["size"] = np.log(inside / (1 - inside)) - np.log(outside / (1 - outside))
        table["sure"] = np.where(table["size"] > 0, table["mean"], 1 - table["mean"]) >= GROUP_MIN_SHARE
    else:
        table["size"], table["sure"] = (table["mean"] - table["rest"]) / (labels.std() or 1.0), True
    return table[np.minimum(rows, rest) >= GROUP_ROWS]


def _folds(train: pd.DataFrame) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Labels and predictions of older days, by boosted trees of the rows before them."""
    age = train[problem.EVENT_TIME].max() - train[problem.EVENT_TIME]
    length = pd.Timedelta(days=rules().holdout_days)
    for number in range(PAST_FOLDS):
        older = _sample(train[age >= (number + 1) * length], TRAIN_ROWS)
        newer = _sample(train[(age >= number * length) & (age < (number + 1) * length)], HOLDOUT_ROWS)
        if min(len(older), len(newer)) >= rules().min_rows and len(np.unique(older[problem.TARGET])) > 1:
            tables = [encodings.alone(older, part).to_numpy() for part in (older, newer)]
            y = older[problem.TARGET].to_numpy()
            yield newer[problem.TARGET].to_numpy(), _fit_predict("boosted trees", tables[0], y, tables[1])
