"""Score files: in chunks of one size, on all cores, resumable, with the numbers that the API would give.

    OUTPUT/scores/part-00000.parquet   row, id (if the input has one), score, decision
    OUTPUT/bad/part-00000.parquet      row, id, reasons: what the Record refuses, or the model cannot score
    OUTPUT/scored.json                 which version scored what, and how many rows (written last)

A part is written whole or not at all, and those that are there are not computed again. So a run that was
killed goes on where it stopped, if the input and the version are still the same, to the same bytes.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from level1_pipeline import bundle, problem, schema
from serving import checking
from serving.reading import CHUNK, ROW, Source

BEGUN, DONE = "begun.json", "scored.json"
SCORES, BAD = "scores", "bad"
AHEAD = 2  # chunks that wait for each process: more would only take memory


class BatchRefused(RuntimeError):
    """These rows cannot be scored into this folder; the message says why and what to do."""


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    rows: int
    bad: int
    computed: int  # rows that this run scored; the others were there


def score(source: Source, output: Path, model: Path, version: str, processes: int | None = None) -> Result:
    """Score all rows of the source with the bundle in the folder `model`.

    Raises:
        BatchRefused: the folder belongs to another run, or cannot be written.
        InputRefused: the input cannot be read.
    """
    about = _about(source, model, version)
    if not _begin(output, about):
        done = json.loads((output / DONE).read_text())
        return Result(done["rows"], done["bad"], 0)
    try:
        computed = _score_missing(source, output, model, processes or os.cpu_count() or 1)
        result = Result(_count(output / SCORES) + _count(output / BAD), _count(output / BAD), computed)
        _write(output / DONE, json.dumps({**about, "rows": result.rows, "bad": result.bad}, indent=2).encode())
        (output / BEGUN).unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(output, error) from error
    return result


def _about(source: Source, model: Path, version: str) -> dict[str, Any]:
    manifest = bundle.verify(model)
    return {
        "problem": problem.NAME,
        "version": version,
        "run_id": manifest.get("run_id"),
        "checksum": bundle.checksum(model),
        "engine": manifest.get("engine", {}).get("name"),
        "rows_in_a_part": CHUNK,
        "input": source.identity(),
    }


def _begin(output: Path, about: dict[str, Any]) -> bool:
    """Whether there is something to do in this folder."""
    for name in (DONE, BEGUN):
        if (output / name).exists():
            before = json.loads((output / name).read_text())
            changed = [key for key in about if before.get(key) != about[key]]
            if changed:
                words = "; ".join(f"{key} was {before.get(key)}, is {about[key]}" for key in changed)
                raise BatchRefused(
                    f"{output} holds the scores of something else ({words}); choose another OUTPUT or remove this one"
                )
            return name == BEGUN
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BatchRefused(f"{output} exists and holds no scores of ours; choose another OUTPUT")
    try:
        for folder in (output / SCORES, output / BAD):
            folder.mkdir(parents=True)
        _write(output / BEGUN, json.dumps(about, indent=2).encode())
    except OSError as error:
        raise _unwritable(output, error) from error
    return True


def _unwritable(output: Path, error: OSError) -> BatchRefused:
    return BatchRefused(
        f"{output} cannot be written ({error}); make room, or choose another OUTPUT; the same command goes on where this one stopped"
    )


def _score_missing(source: Source, output: Path, model: Path, processes: int) -> int:
    """Compute the parts that are not there yet; returns their rows."""
    computed = 0
    with _bar() as show:
        numbered = enumerate(source.chunks())
        missing = _missing(numbered, output, show)
        first = next(missing, None)
        if first is None:
            _empty_part_if_nothing(output)
        else:
            second = next(missing, None)
            jobs = [one for one in (first, second) if one]
            if second is None or processes == 1:
                computed = sum(_part(output, model, *one) for one in _chain(jobs, missing))
            else:
                computed = sum(_in_parallel(output, model, _chain(jobs, missing), processes))
    if source.ragged:
        _write_bad(output / BAD / "unreadable.parquet", pd.DataFrame(source.ragged, columns=[ROW, "reasons"]))
    return computed
