"""Is a compiled model the trained one? Asked on real rows, and where a difference would hide: at every
threshold of every tree and right beside it, with missing values and with categories that training never saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import nextafter
from sys import float_info
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.tree_scorer import Scorer
from level1_pipeline.errors import NotCompilable

TOLERANCE = 1e-12
UNSEEN = "\x00never seen"


def prove(compiled: Mapping[str, Any], pipeline: Any, rows: pd.DataFrame) -> dict[str, Any]:
    """Compare on every row of `rows` and on made-up ones: a few for each edge, and for each comparison of each tree.

    Raises:
        NotCompilable: a prediction differs by more than 1e-12, is no number, or leads to another decision.
    """
    scorer = Scorer(compiled)
    kinds = {
        "real": rows[schema.names()],
        "edge": edges(scorer, rows),
        "mixed": _mixed(scorer, rows),
        "reaching": reaching(compiled, rows),
    }
    differences = [_compare(kind, scorer, pipeline, some) for kind, some in kinds.items()]
    return {"rows_compared": sum(map(len, kinds.values())), "largest_difference": max(differences)}


def _compare(kind: str, scorer: Scorer, pipeline: Any, some: pd.DataFrame) -> float:
    ours = scorer.predict_frame(some)
    try:
        theirs = predict(pipeline, some)
    except Exception as error:  # an estimator that cannot take missing values, say
        raise NotCompilable(f"the pipeline itself cannot score {kind} rows ({error!r})") from error
    difference = float(np.abs(ours - theirs).max(initial=0.0))
    flips = sum(
        problem.choose_action(a) != problem.choose_action(b)
        for a, b in zip(ours.tolist(), theirs.tolist(), strict=True)
    )
    if not difference <= TOLERANCE or flips:
        raise NotCompilable(f"{kind} rows differ by up to {difference:.2g}, and {flips} decisions flip")
    return difference


def edges(scorer: Scorer, rows: pd.DataFrame) -> pd.DataFrame:
    """Real rows with one input at a time set to an edge: a threshold, the numbers next to it, missing, unseen."""
    typed, types = rows[schema.names()].astype(schema.dtypes()), schema.dtypes()
    blocks = []
    for name, values in scorer.edges().items():
        placed = pd.Series(list(_around(values)), dtype=types[name])
        company = typed.sample(len(placed), replace=True, random_state=0).reset_index(drop=True)
        blocks.append(company.assign(**{name: placed}))
    return pd.concat(blocks or [typed.head(1)], ignore_index=True)


def _mixed(scorer: Scorer, rows: pd.DataFrame) -> pd.DataFrame:
    """The same values of each input, in random company: several edges meet in one row."""
    draws, ordered = np.random.default_rng(0), edges(scorer, rows)
    return pd.DataFrame({name: ordered[name].array.take(draws.permutation(len(ordered))) for name in ordered})


def _around(values: list[Any]) -> Iterator[Any]:
    if values and isinstance(values[0], str):
        yield from (*values, UNSEEN)
    else:
        for value in values:
            yield from (value, np.nextafter(value, -np.inf), np.nextafter(value, np.inf))
    yield None


def reaching(compiled: Mapping[str, Any], rows: pd.DataFrame) -> pd.DataFrame:
    """Real rows changed so that each comparison of each tree is reached by some, which stand at its threshold, on
    both sides of it, and miss the value: a threshold deep in a tree decides about few rows, and chance may miss it."""
    placed = [values for tree in compiled["trees"] for values in _to_each_comparison(compiled["inputs"], tree, 0, {})]
    typed = rows[schema.names()].astype(schema.dtypes())
    company = typed.sample(max(1, len(placed)), replace=True, random_state=0)
    columns = {name: company[name].astype(object).to_numpy(copy=True) for name in company}
    for row, values in enumerate(placed):
        for feature, value in values.items():
            columns[compiled["inputs"][feature]["name"]][row] = value
    return pd.DataFrame(columns).astype(schema.dtypes())


def _to_each_comparison(
    inputs: list[dict[str, Any]], tree: Mapping[str, Any], node: int, path: dict[int, tuple[float, float, bool]]
) -> Iterator[dict[int, Any]]:
    """Values by feature. The path says for each feature which interval it lies in, and whether it may be missing."""
    left, right, feature, threshold = (tree[name][node] for name in ("left", "right", "feature", "threshold"))
    if left < 0:
        return
    low, high, missing = path.get(feature, (-np.inf, np.inf, True))
    others = {
        other: _near(inputs[other], bounds[1] if bounds[1] < np.inf else bounds[0], bounds)
        for other, bounds in path.items()
    }
    if not all(others.values()):
        return  # no input leads here
    chosen = {other: near[0] for other, near in others.items()}
    for value in _near(inputs[feature], threshold, (low, high, missing)):
        yield {**chosen, feature: value}
    goes_left = tree["missing_left"][node]
    below, above = (
        (low, min(high, threshold), missing and goes_left),
        (max(low, threshold), high, missing and not goes_left),
    )
    yield from _to_each_comparison(inputs, tree, left, {**path, feature: below})
    yield from _to_each_comparison(inputs, tree, right, {**path, feature: above})


def _near(column: Mapping[str, Any], at: float, bounds: tuple[float, float, bool]) -> list[Any]:
    """Values of an input at `at`, right above and right below it, and missing: those within the bounds."""
    low, high, missing = bounds
    if "codes" not in column:
        numbers = (at, nextafter(at, np.inf), nextafter(at, -np.inf))
        near: list[Any] = [value for value in numbers if low < value <= high and abs(value) <= float_info.max]
        return [*near, None] if missing else near
    codes = {**column["codes"], UNSEEN: column["unknown"], None: column["missing"]}
    ordered = sorted(
        (code, number) for number, code in enumerate(codes.values()) if code is not None and low < code <= high
    )
    values = list(codes)
    near = [values[number] for code, number in ordered if code <= at][-1:]
    near += [values[number] for code, number in ordered if code > at][:1]
    return near + [value for value, code in codes.items() if code is None and missing]
