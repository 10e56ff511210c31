"""One chunk of batch scoring: its rows checked, scored and decided, and written as one part."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from level1_pipeline import bundle, problem, schema
from serving import checking
from serving.reading import ROW

SCORES, BAD = "scores", "bad"


def compute(output: Path, model: Path, number: int, table: pa.Table) -> int:
    """Check and score one chunk and write its files, the scores last: where they are, the chunk is done.
    Returns its rows."""
    rows, unread = _rows(table)
    why = _refusals(rows, unread)
    good = rows[[one is None for one in why]] if any(why) else rows
    scores, failures = _scores(_bundle(model), good)
    kept = table.select([name for name in (problem.ID, ROW) if name in table.column_names])
    fine = np.isfinite(scores)
    for place, failure in zip(good.index[~fine], failures, strict=True):
        why[place] = failure
    bad = np.array([one is not None for one in why], bool)
    if bad.any():
        reasons = pa.array([one for one in why if one is not None], pa.string())
        write_table(path(output, BAD, number), kept.filter(pa.array(bad)).append_column("reasons", reasons))
    said = kept.filter(pa.array(~bad)).append_column("score", pa.array(scores[fine], pa.float64()))
    decisions = pa.array([problem.decide(one) for one in scores[fine].tolist()], pa.string())
    write_table(path(output, SCORES, number), said.append_column("decision", decisions))
    return len(table)


@cache
def _bundle(model: Path) -> bundle.Bundle:
    return bundle.load(model)


def _rows(table: pa.Table) -> tuple[pd.DataFrame, dict[int, dict[str, str]]]:
    """The inputs in the types of the model, and the texts (by row and column) that should be numbers and are none."""
    unread: dict[int, dict[str, str]] = {}
    columns: dict[str, Any] = {}
    for column in schema.columns():
        values = table[column.name]
        if column.text or not pa.types.is_string(values.type):
            columns[column.name] = values.to_pandas()
            continue
        try:
            columns[column.name] = values.cast(pa.float64()).to_pandas()
        except pa.ArrowInvalid:
            text = values.to_pandas()
            columns[column.name] = pd.to_numeric(text, errors="coerce")
            for place in np.flatnonzero(columns[column.name].isna() & text.notna() & (text.str.lower() != "nan")):
                unread.setdefault(int(place), {})[column.name] = text[place]
    return pd.DataFrame(columns).astype(schema.dtypes()), unread


def _refusals(rows: pd.DataFrame, unread: dict[int, dict[str, str]]) -> list[str | None]:
    """For each row what the Record says against it, or None."""
    refused = checking.refused(rows)
    refused[list(unread)] = True
    why: list[str | None] = [None] * len(rows)
    places = np.flatnonzero(refused)
    for place, record in zip(places.tolist(), checking.records(rows.iloc[places]), strict=True):
        why[place] = checking.reasons({**record, **unread.get(place, {})}) or "a value is not a finite number"
    return why


def _scores(model: bundle.Bundle, rows: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """The scores, NaN where there is none, and for each NaN the reason."""
    if rows.empty:
        return np.empty(0), []
    try:
        scores = model.predict_frame(rows)
        return scores, ["the score is not a finite number"] * int((~np.isfinite(scores)).sum())
    except Exception:  # one row that the model cannot take must not cost the others theirs
        found = [_score_alone(model, rows.iloc[[place]]) for place in range(len(rows))]
        return np.array([one for one, _ in found]), [failure for one, failure in found if not np.isfinite(one)]


def _score_alone(model: bundle.Bundle, row: pd.DataFrame) -> tuple[float, str]:
    try:
        return float(model.predict_frame(row)[0]), "the score is not a finite number"
    except Exception as error:  # whatever a model raises
        return float("nan"), f"the model cannot score it ({type(error).__name__}: {error})"


def path(output: Path, kind: str, number: int) -> Path:
    """Where the part of a chunk lies."""
    return output / kind / f"part-{number:05d}.parquet"


def write_table(place: Path, table: pa.Table) -> None:
    """As Parquet, whole or not at all."""
    sink = pa.BufferOutputStream()
    repeated = [name for name in ("decision", "reasons") if name in table.column_names]
    pyarrow.parquet.write_table(table, sink, use_dictionary=repeated)
    write(place, sink.getvalue())


def write(place: Path, content: Any) -> None:
    """Whole or not at all."""
    partial = place.with_name(f".{place.name}-{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)
