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
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import bundle_checksum, verify_bundle
from level1_pipeline.errors import BatchRefused
from serving.batch import chunk, reader
from serving.batch.chunk import BAD, SCORES
from serving.batch.reader import ROW, Source

BEGUN, DONE = "begun.json", "scored.json"


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    rows: int
    bad: int
    computed: int  # rows that this run scored; the others were there


def score(source: Source, output: Path, model: Path, version: str, threads: int | None = None) -> Result:
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
        computed = _score_missing(source, output, model, threads or os.cpu_count() or 1)
        result = Result(_count(output / SCORES) + _count(output / BAD), _count(output / BAD), computed)
        chunk.write(output / DONE, json.dumps({**about, "rows": result.rows, "bad": result.bad}, indent=2).encode())
        for rest in (output / BEGUN, *output.glob("*/.*")):  # and what a killed run had half written
            rest.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(output, error) from error
    return result


def _about(source: Source, model: Path, version: str) -> dict[str, Any]:
    manifest = verify_bundle(model)
    return {
        "problem": problem.NAME,
        "version": version,
        "run_id": manifest.get("run_id"),
        "checksum": bundle_checksum(model),
        "engine": manifest.get("engine", {}).get("name"),
        "rows_in_a_part": reader.CHUNK,
        "input": source.identity(),
    }


def _begin(output: Path, about: dict[str, Any]) -> bool:
    """Whether there is something to do in this folder."""
    for name in (DONE, BEGUN):
        if (output / name).exists():
            before = json.loads((output / name).read_text())
            changed = [key for key in about if before.get(key) != about[key]]
            if changed:
                message = "; ".join(f"{key} was {before.get(key)}, is {about[key]}" for key in changed)
                raise BatchRefused(
                    f"{output} holds the scores of something else ({message}); choose another OUTPUT or remove this one"
                )
            return name == BEGUN
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BatchRefused(f"{output} exists and holds no scores of ours; choose another OUTPUT")
    try:
        for folder in (output / SCORES, output / BAD):
            folder.mkdir(parents=True)
        chunk.write(output / BEGUN, json.dumps(about, indent=2).encode())
    except OSError as error:
        raise _unwritable(output, error) from error
    return True


def _unwritable(output: Path, error: OSError) -> BatchRefused:
    return BatchRefused(
        f"{output} cannot be written ({error}); make room, or choose another OUTPUT; the same command goes on where this one stopped"
    )


def _score_missing(source: Source, output: Path, model: Path, threads: int) -> int:
    """Compute the parts that are not there yet; returns their rows. Reading, trees and writing are work outside of
    Python's lock, so threads use the cores, and share the model and the chunks."""
    computed, waiting = 0, deque[Future[int]]()
    with _progress() as show, ThreadPoolExecutor(threads) as pool:
        for number, table in _missing(source, output, show):
            waiting.append(pool.submit(chunk.compute, output, model, number, table))
            if len(waiting) > threads:  # more chunks ahead would only take memory
                computed += waiting.popleft().result()
        computed += sum(one.result() for one in waiting)
    if source.ragged:
        rows, reasons = zip(*source.ragged, strict=True)
        chunk.write_table(output / BAD / "unreadable.parquet", pa.table({ROW: rows, "reasons": reasons}))
    if not any((output / SCORES).glob("*.parquet")):  # no rows, no parts: a table all the same
        chunk.compute(output, model, 0, pa.table({name: [] for name in (*schema.names(), ROW)}))
    return computed


def _missing(source: Source, output: Path, show: Callable[[float], None]) -> Iterator[tuple[int, pa.Table]]:
    for number, (table, share) in enumerate(source.chunks()):
        if not chunk.path(output, SCORES, number).exists():
            yield number, table
        show(share)


def _count(folder: Path) -> int:
    return sum(pyarrow.parquet.read_metadata(one).num_rows for one in folder.glob("*.parquet"))


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """A bar on standard error, if a person looks at it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("scoring"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("scoring", total=1.0)
        yield lambda share: bar.update(task, completed=share)
