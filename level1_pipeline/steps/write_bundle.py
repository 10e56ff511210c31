"""A fitted model as a bundle of the run, with what its manifest says about its data."""

from __future__ import annotations

from typing import Any

import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import MANIFEST
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.evaluation.drift import day_summaries
from level1_pipeline.steps.extract import Extracted
from level1_pipeline.steps.step import Run


def write_model(
    run: Run, extracted: Extracted, name: str, pipeline: Any, holdout: pd.DataFrame, rows: pd.DataFrame, **more: Any
) -> list[str]:
    """Write the bundle `name` of a pipeline that was fitted on `rows`; `more` goes into its manifest. Returns the file
    that vouches for all others."""
    info = {
        "kind": name.replace("_", " "),
        "as_of": run.as_of,
        "trained_from": rows[problem.EVENT_TIME].min().isoformat(),
        "trained_until": rows[problem.EVENT_TIME].max().isoformat(),
        "rows": len(rows),
        "data_digest": extracted.data_digest,
        "typical": typical(rows),
        "categories": categories(rows),
        **run.identity,
        **more,
    }
    write_bundle(run.path(name), pipeline, holdout, info, day_summaries(rows))
    return [f"{name}/{MANIFEST}"]


def typical(rows: pd.DataFrame) -> dict[str, Any]:
    """An ordinary value of each input: the median or the most frequent one, None if it is mostly missing.

    An explanation asks what the model would say with it in an input's place.
    """
    values: dict[str, Any] = {}
    for column in schema.columns():
        present = rows[column.name].dropna()
        if 2 * len(present) < len(rows):
            values[column.name] = None
        else:
            values[column.name] = _middle(column, present)
    return values


def _middle(column: schema.Column, present: pd.Series) -> Any:
    """As the Record has it: a whole number is whole, and a truth value is no half."""
    if column.text:
        return str(present.mode().iloc[0])
    if column.kind is schema.Kind.NUMBER:
        return float(present.median())
    middle = present.mode().iloc[0] if column.kind is schema.Kind.TRUTH else present.median() // 1
    return schema.as_json(schema.as_given(column, float(middle)))


def categories(rows: pd.DataFrame) -> dict[str, list[str]]:
    """The values seen of each text input that the Record does not list: others are legal, but unknown."""
    open_ended = [column.name for column in schema.columns() if column.text and column.allowed is None]
    return {name: sorted(map(str, rows[name].dropna().unique())) for name in open_ended}
