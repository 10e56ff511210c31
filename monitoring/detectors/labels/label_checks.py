"""The single checks of what labels say: each compares those of a window with what it knows, and yields what is wrong.

A check of values needs both kinds of labels to be possible: it counts what the scores expected. A check against the
history of the labels stays silent where there is none. Rows that are too young to have a label are in no check.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.schema.scores import by_part, from_columns
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task
from monitoring import thresholds
from monitoring.data.aggregates import ALL

VALUE, MADE = "value", "made"  # the label as it was reported, and as the training code makes it


class Hit(NamedTuple):
    """Something is wrong with the labels of a slice on some days."""

    kind: str
    slice: str
    days: tuple[date, ...]
    message: str
    wrong: float = 0.0  # labels, as far as a check counts them


def against_training_code(rows: pd.DataFrame, made: pd.DataFrame | str) -> Iterator[Hit]:
    """Labels of the log against those that the training code makes of the same ids: other values, and missing ones."""
    if isinstance(made, str):
        return
    labels = made.set_index(problem.ID)[problem.TARGET]
    both = rows[rows["id"].isin(labels.index)]
    both = both.assign(**{MADE: labels.reindex(both["id"]).to_numpy("float64")})
    # Where the source has few labels itself, it cannot be asked yet.
    can_tell = both[MADE].notna().groupby(both["day"]).transform("mean") >= thresholds.LABEL_SOURCE_MIN_COVERAGE
    both = both[can_tell]
    reported, exists = both[both[VALUE].notna()], both[both[MADE].notna()]
    other = ~np.isclose(reported[VALUE], reported[MADE], rtol=1e-9, atol=0)
    yield from _shares("other values", reported, other, "differ from those that the training code makes")
    missing = exists[VALUE].isna().to_numpy()
    yield from _shares("never reported", exists, missing, "were not reported, and the training code has them")


def _shares(kind: str, rows: pd.DataFrame, wrong: np.ndarray, message: str) -> Iterator[Hit]:
    by_day = sums(rows, pd.DataFrame({"rows": 1, "wrong": wrong}, rows.index))
    for where, part in by_day.groupby(level="slice"):
        count, of = part["wrong"].sum(), part["rows"].sum()
        limit = thresholds.LABEL_SLICE_MAX_SHARE if where else thresholds.LABEL_MAX_SHARE
        if count >= thresholds.LABEL_MIN_WRONG and count >= limit * of:
            bad = part[part["wrong"] >= limit * part["rows"]].index.get_level_values("day")
            yield Hit(kind, where, tuple(bad), f"{count:,} of {of:,} labels {message}", float(count))


def constant(rows: pd.DataFrame, opinions: Sequence[np.ndarray]) -> Iterator[Hit]:
    """One class only, or none of a class, on some days, where all models (their scores for the rows) expect many others."""
    if not task().has_classes:
        return
    y, labelled = rows[VALUE].to_numpy(), rows[VALUE].notna()
    for about, labels in task().parts(y).items():
        scores = np.array([dict(_by_name(y, opinion))[about] for opinion in opinions])
        for value, expected in ((0.0, scores.min(axis=0)), (1.0, 1 - scores.max(axis=0))):
            figures = pd.DataFrame({"expected": expected, "other": labels != value}, rows.index)
            by_day = sums(rows[labelled], figures[labelled])
            never = by_day[by_day["other"] == 0]["expected"]
            what = (
                f"all labels are {value:g}"
                if not several()
                else f"{'all labels are' if value else 'no label is'} {about}"
            )
            for where, part in never.groupby(level="slice"):
                least = thresholds.CONSTANT_SLICE_MIN_EXPECTED if where else thresholds.CONSTANT_MIN_EXPECTED
                if part.sum() >= least:
                    message = f"{what} on {len(part)} of the days, and the scores expect {part.sum():.0f} others"
                    yield Hit("constant", where, tuple(part.index.get_level_values("day")), message, float(part.sum()))


def _by_name(y: np.ndarray, scores: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The parts of scores by what they are about."""
    yield from ((about, part) for about, _, part in by_part(y, scores))


def direction(rows: pd.DataFrame, opinions: Sequence[np.ndarray], reference: pd.DataFrame) -> Iterator[Hit]:
    """Whether scores order the labels backwards, or no longer at all: labels are inverted, or belong to other rows.

    Args:
        rows: of the window.
        opinions: scores of several models for these rows. A release may be bad: the best of them counts.
        reference: earlier rows with their scores.
    """
    from scipy.stats import t

    daily = [association(rows[VALUE], scores, rows["day"]) for scores in opinions]
    best = max(daily, key=lambda each: each.mean(), default=pd.Series(dtype=float))
    if len(best) < thresholds.DRIFT_MIN_MATURED_DAYS:
        return
    error = best.std(ddof=1) / np.sqrt(len(best))
    upper = best.mean() + t.ppf(thresholds.WINDOW_CONFIDENCE, len(best) - 1) * error
    usual = best[:0]
    if len(reference):
        usual = association(reference[problem.TARGET], from_columns(reference), reference["day"])
    if upper < 0:
        yield Hit("inverted", ALL, tuple(best.index), f"the scores order the labels backwards on {len(best)} days")
    elif len(usual) >= thresholds.REFERENCE_MIN_DAYS:
        limit = usual.mean() * np.array([thresholds.UNRELATED_RATIO, thresholds.UNRELATED_MAX_RATIO])
        if best.mean() < limit[0] and upper < limit[1]:
            message = f"the scores no longer order the labels ({best.mean():+.2f}, and {usual.mean():+.2f} before)"
            yield Hit("unrelated", ALL, tuple(best.index), message)


def association(labels: pd.Series, scores: pd.Series | np.ndarray, day: pd.Series) -> pd.Series:
    """By day how well scores order labels: 2 AUC - 1 for classes (of several the mean of each against all others), the
    rank correlation for numbers; 1 at best, 0 by chance."""
    y, p = labels.to_numpy("float64"), np.asarray(scores, "float64")
    if not several():
        return _association(y, p, day)
    labelled = ~np.isnan(y)
    each = [_association(own, part, day[labelled]) for _, own, part in by_part(y[labelled], p[labelled])]
    return pd.concat(each, axis=1).mean(axis=1)


def _association(y: np.ndarray, p: np.ndarray, day: pd.Series) -> pd.Series:
    """Of one part of the scores."""
    from scipy.stats import rankdata

    table = pd.DataFrame({"y": y, "p": p, "day": day.to_numpy()})
    values = {}
    for key, part in table.dropna().groupby("day"):
        if len(part) < thresholds.DAY_MIN_ROWS or part["y"].nunique() < 2 or part["p"].nunique() < 2:
            continue
        ranks = rankdata(part["p"])
        if task().has_classes:
            late = part["y"].to_numpy() == 1
            values[key] = 2 * (ranks[late].mean() - ranks[~late].mean()) / len(part)
        else:
            values[key] = float(np.corrcoef(ranks, rankdata(part["y"]))[0, 1])
    return pd.Series(values, dtype="float64")


def rate(rows: pd.DataFrame, before: pd.DataFrame) -> Iterator[Hit]:
    """The mean label outside everything that the weeks before have shown, with room; `before` has EVENT_TIME and TARGET."""
    labels, history = rows[VALUE].dropna(), before[before[problem.TARGET].notna()]
    if len(labels) < thresholds.DRIFT_MIN_MATURED_ROWS or not len(history):
        return
    weeks_back = (rows[problem.EVENT_TIME].min() - history[problem.EVENT_TIME]) // pd.Timedelta(weeks=1)
    past, now = task().parts(history[problem.TARGET].to_numpy()), task().parts(labels.to_numpy())
    for about in now:
        by_week = pd.Series(past[about], history.index).groupby(weeks_back).agg(["mean", "size"])
        means, mean = by_week["mean"][by_week["size"] >= thresholds.DRIFT_MIN_MATURED_ROWS], float(now[about].mean())
        if len(means) < thresholds.RATE_MIN_WEEKS:
            return
        scale, room = (
            (_log_odds, thresholds.RATE_ROOM) if task().has_classes else (float, float(past[about].std(ddof=1)))
        )
        if not scale(means.min()) - room <= scale(mean) <= scale(means.max()) + room:
            usual = f"{means.min():.3g} to {means.max():.3g} in the {len(means)} weeks before"
            what = f"share of {about} among the labels" if several() else "mean of the labels"
            yield Hit("rate", ALL, tuple(sorted(set(rows["day"]))), f"the {what} is {mean:.3g}, and was {usual}")


def _log_odds(share: float) -> float:
    share = float(np.clip(share, 1e-6, 1 - 1e-6))
    return float(np.log(share / (1 - share)))


def corrected(rows: pd.DataFrame, made: pd.DataFrame | str) -> Iterator[Hit]:
    """Labels that were reported with two values, where the training code cannot tell which of them is right."""
    rows = rows[rows[VALUE].notna()]
    if not isinstance(made, str):
        rows = rows[~rows["id"].isin(made[problem.ID])]
    if len(rows) and rows["corrected"].mean() >= thresholds.CORRECTED_MAX_SHARE:
        yield from _shares("corrected", rows, rows["corrected"].to_numpy(bool), "were reported with two values")


def sums(rows: pd.DataFrame, figures: pd.DataFrame, slices: Sequence[str] = tuple(problem.SLICES)) -> pd.DataFrame:
    """Sums of figures (the index is that of the rows) by slice (ALL, `column=value`) and day."""
    names = by_slice(rows, slices).join(figures)
    return names.groupby(["slice", "day"])[list(figures)].sum()


def by_slice(rows: pd.DataFrame, slices: Sequence[str]) -> pd.DataFrame:
    """The day and the slice of each row, once for ALL and once for each column that is there; the index is the rows'."""
    there = [f"{name}=" + rows[name].astype(str) for name in slices if name in rows]
    parts = [pd.Series(ALL, rows.index, dtype=object), *there]
    return pd.concat([pd.DataFrame({"slice": part, "day": rows["day"]}) for part in parts])


def several() -> bool:
    """Whether there are several classes, each with a share of its own."""
    return bool(classes())
