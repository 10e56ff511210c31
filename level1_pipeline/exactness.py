"""Is a compiled model the trained one? Asked on real rows, and where a difference would hide: at the
thresholds, right beside them, with missing values and with categories that training never saw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.compiled import NotCompilable, Scorer

TOLERANCE = 1e-12
UNSEEN = "\x00never seen"


def prove(scorer: Scorer, pipeline: Any, rows: pd.DataFrame) -> dict[str, Any]:
    """Compare on every row of `rows` and on as many made-up ones as there are edges.

    Raises:
        NotCompilable: a prediction differs by more than 1e-12, is no number, or leads to another decision.
    """
    from level1_pipeline import bundle

    largest, count = 0.0, 0
    for kind, some in (("real", rows[schema.names()]), ("edge", edges(scorer, rows)), ("mixed", _mixed(scorer, rows))):
        ours = scorer.predict_frame(some)
        try:
            theirs = bundle.predict(pipeline, some)
        except Exception as error:  # an estimator that cannot take missing values, say
            raise NotCompilable(f"the pipeline itself cannot score {kind} rows ({error!r})") from error
        difference = float(np.abs(ours - theirs).max(initial=0.0))
        flips = sum(problem.decide(a) != problem.decide(b) for a, b in zip(ours.tolist(), theirs.tolist(), strict=True))
        if not difference <= TOLERANCE or flips:
            raise NotCompilable(f"{kind} rows differ by up to {difference:.2g}, and {flips} decisions flip")
        largest, count = max(largest, difference), count + len(some)
    return {"rows_compared": count, "largest_difference": largest}


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
    draws, found = np.random.default_rng(0), edges(scorer, rows)
    return pd.DataFrame({name: found[name].array.take(draws.permutation(len(found))) for name in found})


def _around(values: list[Any]) -> Iterator[Any]:
    if values and isinstance(values[0], str):
        yield from (*values, UNSEEN)
    else:
        for value in values:
            yield from (value, np.nextafter(value, -np.inf), np.nextafter(value, np.inf))
    yield None
