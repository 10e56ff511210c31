"""One chunk of batch scoring: its rows checked, scored and decided, and written as one part."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import Bundle
from level1_pipeline.inputs.csv_file import ROW, day, number, truth
from level1_pipeline.schema.scores import as_columns, finite, shape
from serving.batch.log import BatchLog

SCORES, BAD = "scores", "bad"
CELLS = {schema.Kind.TRUTH: truth, schema.Kind.DATE: day}  # how a text is read, where it is no number
CELL_SHOWN = 40  # characters of a text that is no number


def compute(output: Path, model: Bundle, number: int, table: pa.Table, log: BatchLog | None = None) -> int:
    """Check and score one chunk, log it and write its files, the scores last: where they are, the chunk is done.
    Returns its rows."""
    inputs = {column.name: _values(column, table[column.name].combine_chunks()) for column in schema.columns()}
    reasons = schema.reasons(schema.violations(inputs))
    _add_cells(reasons, inputs)
    valid = np.setdiff1d(np.arange(len(table)), list(reasons), assume_unique=True)
    if reasons:
        inputs = {name: _numbers(values) for name, values in schema.take(inputs, valid).items()}
    started = time.perf_counter()
    scores, failures = _scores(model, inputs, len(valid))
    took, fine = time.perf_counter() - started, finite(scores)
    reasons |= zip(valid[~fine].tolist(), failures, strict=True)
    ids = table.select([name for name in (problem.ID, ROW) if name in table.column_names])
    if reasons:
        texts = pa.array([reasons[row] for row in sorted(reasons)], pa.string())
        write_table(path(output, BAD, number), ids.take(sorted(reasons)).append_column("reasons", texts))
    if log:
        log.write(ids.take(valid[fine]), schema.take(inputs, fine.nonzero()[0]), scores[fine], model, took * 1000)
    decisions = pa.array([*map(problem.choose_action, scores[fine].tolist())], pa.string())
    scored = ids.take(valid[fine])
    for name, part in as_columns(scores[fine]).items():
        scored = scored.append_column(name, pa.array(part, pa.float64()))
    write_table(path(output, SCORES, number), scored.append_column("decision", decisions))
    return len(table)


def _values(column: schema.Column, values: pa.Array) -> np.ndarray | schema.Texts:
    """An input as the model takes it; as objects where a cell of CSV holds a text that is no number."""
    if column.kind in CELLS and not pa.types.is_floating(values.type):
        return _cells(CELLS[column.kind], values.cast(pa.string()).dictionary_encode())
    if column.text:
        different = values.cast(pa.string()).dictionary_encode()
        return schema.Texts(different.indices.fill_null(-1).to_numpy(), [*different.dictionary.to_pylist(), None])
    # Both ways give the number that is nearest to the text. Arrow is fast, but takes a few texts that are no numbers.
    try:
        numbers = values.cast(pa.float64())
    except pa.ArrowInvalid:
        numbers = None
    if numbers is None or (pa.types.is_string(values.type) and pc.any(pc.is_nan(numbers)).as_py()):
        return _cells(number, values.dictionary_encode())
    return numbers.to_numpy(zero_copy_only=False)


def _cells(read: Callable[[str | None], Any], different: pa.DictionaryArray) -> np.ndarray:
    """A column of texts of which each different one is read once; one that cannot be read stays a text."""
    cells = [*map(read, different.dictionary.to_pylist()), None]
    kind = object if any(isinstance(cell, str) for cell in cells) else float
    return np.array(cells, kind)[different.indices.fill_null(-1).to_numpy()]


def _add_cells(reasons: dict[int, str], inputs: schema.Columns) -> None:
    """Tell the text that stands in the place of a number."""
    for name, values in inputs.items():
        if isinstance(values, np.ndarray) and values.dtype == object:
            for row in reasons:
                if isinstance(values[row], str):
                    reasons[row] += f" ({name} is {values[row][:CELL_SHOWN]!r})"


def _numbers(values: np.ndarray | schema.Texts) -> np.ndarray | schema.Texts:
    """Valid values, which may stand in an array of objects, as numbers."""
    return values if isinstance(values, schema.Texts) else values.astype("float64")


def _scores(model: Bundle, inputs: schema.Columns, rows: int) -> tuple[np.ndarray, list[str]]:
    """The scores, NaN where there is none, and for each NaN the reason."""
    if not rows:
        return np.empty(shape(0)), []
    try:
        scores = model.predict_columns(inputs)
        return scores, ["the score is not a finite number"] * int((~finite(scores)).sum())
    except Exception as error:  # whatever a model raises
        if rows == 1:
            return np.full(shape(1), np.nan), [f"the model cannot score it ({type(error).__name__}: {error})"]
    # One row that the model cannot take must not cost the others theirs.
    alone = [_scores(model, schema.take(inputs, np.array([row])), 1) for row in range(rows)]
    return np.concatenate([score for score, _ in alone]), [reason for _, reasons in alone for reason in reasons]


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
