"""One chunk of batch scoring: its rows checked, scored and decided, and written as one part."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import Bundle, load_bundle
from serving.batch import record_checks
from serving.batch.reader import ROW

SCORES, BAD = "scores", "bad"


def compute(output: Path, model: Path, number: int, table: pa.Table) -> int:
    """Check and score one chunk and write its files, the scores last: where they are, the chunk is done.
    Returns its rows."""
    inputs, unread = _inputs(table)
    why = _refusals(inputs, unread)
    asked = np.setdiff1d(np.arange(len(table)), list(why), assume_unique=True)
    scores, failures = _scores(_bundle(model), schema.take(inputs, asked) if why else inputs)
    fine = np.isfinite(scores)
    why.update(zip(asked[~fine].tolist(), failures, strict=True))
    kept = table.select([name for name in (problem.ID, ROW) if name in table.column_names])
    if why:
        bad = sorted(why)
        reasons = pa.array([why[place] for place in bad], pa.string())
        write_table(path(output, BAD, number), kept.take(bad).append_column("reasons", reasons))
        kept, scores = kept.take(asked[fine]), scores[fine]
    decisions = pa.array([*map(problem.choose_action, scores.tolist())], pa.string())
    said = kept.append_column("score", pa.array(scores, pa.float64())).append_column("decision", decisions)
    write_table(path(output, SCORES, number), said)
    return len(table)


@cache
def _bundle(model: Path) -> Bundle:
    return load_bundle(model)


def _inputs(table: pa.Table) -> tuple[schema.Columns, dict[int, dict[str, str]]]:
    """The inputs as the model takes them, and the texts (by row and column) that should be numbers and are none."""
    inputs: schema.Columns = {}
    unread: dict[int, dict[str, str]] = {}
    for column in schema.columns():
        values = table[column.name].combine_chunks()
        if column.text:
            different = values.cast(pa.string()).dictionary_encode()
            places = different.indices.fill_null(-1).to_numpy()
            inputs[column.name] = schema.Texts(places, [*different.dictionary.to_pylist(), None])
            continue
        try:
            inputs[column.name] = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:  # one by one, then: each spoils its own row only
            inputs[column.name], texts = _read(values.to_pylist())
            for place, text in texts.items():
                unread.setdefault(place, {})[column.name] = text
    return inputs, unread


def _read(texts: list[str | None]) -> tuple[np.ndarray, dict[int, str]]:
    """The numbers that texts say, NaN where they say none, and by place the texts that are no number."""
    import pandas as pd

    numbers = pd.to_numeric(pd.Series(texts, dtype="str"), errors="coerce").to_numpy("float64")
    strange = {place: texts[place] for place in np.flatnonzero(np.isnan(numbers)).tolist()}
    return numbers, {place: text for place, text in strange.items() if text is not None and text.lower() != "nan"}


def _refusals(inputs: schema.Columns, unread: dict[int, dict[str, str]]) -> dict[int, str]:
    """By row what the Record says against it; the others are good."""
    refused = record_checks.refused(inputs)
    refused[list(unread)] = True
    places = np.flatnonzero(refused)
    records = zip(places.tolist(), record_checks.records(schema.take(inputs, places)), strict=True)
    return {
        place: record_checks.reasons({**record, **unread.get(place, {})}) or "a value is not a finite number"
        for place, record in records
    }


def _scores(model: Bundle, inputs: schema.Columns) -> tuple[np.ndarray, list[str]]:
    """The scores, NaN where there is none, and for each NaN the reason."""
    height = len(next(iter(inputs.values())))
    if not height:
        return np.empty(0), []
    try:
        scores = model.predict_columns(inputs)
        return scores, ["the score is not a finite number"] * int((~np.isfinite(scores)).sum())
    except Exception:  # one row that the model cannot take must not cost the others theirs
        found = [_score_alone(model, schema.take(inputs, np.array([place]))) for place in range(height)]
        return np.array([one for one, _ in found]), [failure for one, failure in found if not np.isfinite(one)]


def _score_alone(model: Bundle, row: schema.Columns) -> tuple[float, str]:
    try:
        return float(model.predict_columns(row)[0]), "the score is not a finite number"
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
