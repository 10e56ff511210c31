"""The gate's checks on the trusted set: are labels of the source, and a model of them, at odds with confirmed labels?

All differences are in standard deviations of the label, so that the limits hold for any problem.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.evaluation.gate import Check, judge, rules
from level1_pipeline.evaluation.metrics import by_slice
from level1_pipeline.schema.scores import residuals
from level1_pipeline.schema.task import task

UNCHANGED, LABELS, AGAINST_CHAMPION = "confirmed labels", "trusted set", "trusted set against champion"


def not_judged(why: str) -> list[Check]:
    """What the gate says without a trusted set; it is no reason to refuse a model."""
    return [Check(LABELS, "pass", f"{why}, so labels that are wrong in all of the source are not seen")]


def confirmed_labels(trusted: pd.DataFrame, source: pd.DataFrame) -> Check:
    """Does the source still hold the labels that were confirmed, as a whole and in each slice?

    A trusted row that the source does not hold any more says nothing; one without its label has another label.
    """
    present = trusted[trusted[problem.ID].isin(source[problem.ID])]
    if present.empty:
        return Check(UNCHANGED, "pass", "the source no longer holds any of these rows")
    now = source.set_index(problem.ID)[problem.TARGET].reindex(present[problem.ID]).to_numpy("float64")
    changed = ~np.isclose(now, present[problem.TARGET].to_numpy("float64"), rtol=1e-9, atol=0)
    shares = {name: float(changed[index].mean()) for name, index in _parts(present, rules().label_min_rows)}
    worst, limit = max(shares, key=shares.__getitem__), rules().max_trusted_changes
    message = f"{changed.sum():,} of {len(present):,} have another label in the source, most in {worst}: {shares[worst]:.1%} (allowed: {limit:.0%})"
    return judge(UNCHANGED, shares[worst] <= limit, message)


def agrees_with_labels(trusted: pd.DataFrame, p: np.ndarray) -> Check:
    """Are the model's predictions right on average, as a whole and in each slice?

    A model of wrong labels is not, even if it has seen these very rows: it knows them with their wrong labels.
    """
    if not np.isfinite(p).all():
        return Check(LABELS, "fail", f"{(~np.isfinite(p)).sum():,} of {len(p):,} predictions are NaN or infinite")
    rule, errors = rules(), _mean_errors(trusted, p)
    limits = {name: rule.max_trusted_bias if name == "all" else rule.max_trusted_slice_bias for name in errors}
    worst = max(errors, key=lambda name: abs(errors[name]) / limits[name])
    message = (
        f"labels less predictions, in standard deviations: {errors['all']:+.3f} in all (allowed: ±{rule.max_trusted_bias}), "
        f"worst {worst}: {errors[worst]:+.3f} (allowed: ±{limits[worst]})"
    )
    return judge(LABELS, abs(errors[worst]) <= limits[worst], message)


def agrees_as_champion_does(trusted: pd.DataFrame, p: np.ndarray, champion: np.ndarray, who: str) -> Check:
    """Does the model not move away from the labels beside the champion, in mean error and loss, in all and by slice?

    A champion that is right within `max_trusted_bias` may be so by chance: what it does better than that does not count.
    """
    rule, y, metric = rules(), trusted[problem.TARGET].to_numpy("float64"), problem.PRIMARY_METRIC
    errors, theirs = _mean_errors(trusted, p), _mean_errors(trusted, champion)
    growth = {name: abs(errors[name]) - max(abs(theirs[name]), rule.max_trusted_bias) for name in errors}
    away = max(growth, key=growth.__getitem__)
    harm = {"all": problem.evaluate(y, p)[metric] - problem.evaluate(y, champion)[metric]}
    table, other = (by_slice(trusted, values, rule.slice_min_rows) for values in (p, champion))
    if not table.empty:
        harm |= dict(zip(table["slice"] + "=" + table["value"], table[metric] - other[metric], strict=True))
    worst = max(harm, key=harm.__getitem__)
    message = (
        f"beside {who} the mean error grew most in {away}: by {growth[away]:+.3f} standard deviations (allowed: "
        f"{rule.max_trusted_growth:+}); {worst} is {harm[worst]:+.4f} in {metric} (allowed: {rule.slice_max_harm:+})"
    )
    passed = growth[away] <= rule.max_trusted_growth and harm[worst] <= rule.slice_max_harm
    return judge(AGAINST_CHAMPION, passed, message)


def _mean_errors(trusted: pd.DataFrame, p: np.ndarray) -> dict[str, float]:
    """Labels less predictions, in standard deviations of the label; of several classes, that which is off most."""
    y = trusted[problem.TARGET].to_numpy("float64")
    spread = [max(float(labels.std()), 1e-12) for labels in task().parts(y).values()]
    off = residuals(y, p).reshape(len(y), -1)
    means = {name: off[index].mean(axis=0) / spread for name, index in _parts(trusted, rules().slice_min_rows)}
    return {name: float(max(mean, key=abs)) for name, mean in means.items()}


def _parts(rows: pd.DataFrame, min_rows: int) -> Iterator[tuple[str, np.ndarray]]:
    """All rows, and those of each slice value that is large enough: a name and positions."""
    yield "all", np.arange(len(rows))
    for name in problem.SLICES:
        for value, index in rows.groupby(name, observed=True).indices.items():
            if len(index) >= min_rows:
                yield f"{name}={value}", index
