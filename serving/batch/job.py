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
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.dataset

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import Bundle
from level1_pipeline.command_line import LiteralConsole
from level1_pipeline.errors import BatchRefused, InputFileRefused
from level1_pipeline.inputs.csv_file import ROW
from serving.batch import chunk, reader
from serving.batch.chunk import BAD, SCORES
from serving.batch.log import BatchLog
from serving.batch.reader import Source

BEGUN, DONE = "begun.json", "scored.json"


class Result(NamedTuple):
    """What a run came to, in rows."""

    rows: int
    bad: int
    computed: int  # by this run; the others were there


def score(
    source: Source, output: Path, model: Bundle, version: str, threads: int | None = None, log: BatchLog | None = None
) -> Result:
    """Score all rows of the source with a version's bundle, on so many threads (default: one for each core), and log them.

    Raises:
        BatchRefused: the folder belongs to another run, lies in the input, is damaged, or cannot be written.
        InputFileRefused: the input cannot be read, or changes while it is read.
    """
    about = {
        "problem": problem.NAME,
        "version": version,
        "run_id": model.manifest.get("run_id"),
        "checksum": model.checksum,
        "engine": model.manifest.get("engine", {}).get("name"),
        "rows_in_a_part": reader.CHUNK,
        "input": source.identity(),
    }
    if log:
        about["logged"] = True  # a folder that was scored without is refused: its rows were not logged
    if output.resolve().is_relative_to(source.path.resolve()):
        raise BatchRefused(f"{output} lies in the input, and would be read as input next time; choose another OUTPUT")
    if done := _done(output, about):
        return Result(done["rows"], done["bad"], 0)
    try:
        for folder in (output / SCORES, output / BAD):
            folder.mkdir(parents=True, exist_ok=True)
        chunk.write(output / BEGUN, json.dumps(about, indent=2).encode())
        computed = _score_missing(source, output, model, threads or os.cpu_count() or 1, log)
        if source.identity() != about["input"]:
            raise InputFileRefused(f"{source.path} changed while it was read; score it when it is complete")
        bad = _count(output / BAD)
        result = Result(_count(output / SCORES) + bad, bad, computed)
        chunk.write(output / DONE, json.dumps({**about, "rows": result.rows, "bad": bad}, indent=2).encode())
        for rest in (output / BEGUN, *output.glob("*/.*")):  # and what a killed run had half written
            rest.unlink(missing_ok=True)
    except OSError as error:
        todo = "make room, or choose another OUTPUT; the same command goes on where this one stopped"
        raise BatchRefused(f"{output} cannot be written ({error}); {todo}") from error
    return result


def begun_by(output: Path) -> str | None:
    """The version of a run that was cut off in this folder: it goes on with that one, whatever is champion now."""
    return str(_read(output / BEGUN)["version"]) if (output / BEGUN).exists() else None


def _done(output: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """What a complete run wrote about itself; None if there is something to do in this folder."""
    for name in (DONE, BEGUN):
        if (output / name).exists():
            before = _read(output / name)
            changed = [
                f"{key} was {before.get(key)}, is {about[key]}" for key in about if before.get(key) != about[key]
            ]
            if changed:
                todo = "choose another OUTPUT or remove this one"
                raise BatchRefused(f"{output} holds the scores of something else ({'; '.join(changed)}); {todo}")
            if name == DONE and (rows := _count(output / SCORES) + _count(output / BAD)) != before["rows"]:
                message = f"{output} holds {rows} of the {before['rows']} rows that {DONE} tells of"
                raise BatchRefused(f"{message}; remove {DONE} to have the others scored, or choose another OUTPUT")
            return before if name == DONE else None
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BatchRefused(f"{output} exists and holds no scores of ours; choose another OUTPUT")
    return None


def _read(file: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads(file.read_bytes())
        about["input"]
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise BatchRefused(f"{file} is damaged ({error}); remove its folder, or choose another OUTPUT") from error
    return about


def _score_missing(source: Source, output: Path, model: Bundle, threads: int, log: BatchLog | None) -> int:
    """Compute the parts that are not there yet; returns their rows. Reading, trees and writing are work outside of
    Python's lock, so threads use the cores, and share the model and the chunks."""
    computed, read, waiting = 0, 0, deque[Future[int]]()
    with LiteralConsole(stderr=True).status("scoring") as status, ThreadPoolExecutor(threads) as pool:
        for number, table in enumerate(source.chunks()):
            status.update(f"scoring: {(read := read + len(table)):,} rows")
            if not chunk.path(output, SCORES, number).exists():
                waiting.append(pool.submit(chunk.compute, output, model, number, table, log))
            if len(waiting) > threads:  # more chunks ahead would only take memory
                computed += waiting.popleft().result()
        computed += sum(part.result() for part in waiting)
    if source.unreadable:
        rows, reasons = zip(*source.unreadable, strict=True)
        chunk.write_table(output / BAD / "unreadable.parquet", pa.table({ROW: rows, "reasons": reasons}))
    if not any((output / SCORES).glob("*.parquet")):  # no rows, no parts: a table all the same
        chunk.compute(output, model, 0, pa.table({name: [] for name in (*schema.names(), ROW)}))
    return computed


def _count(folder: Path) -> int:
    try:
        return pyarrow.dataset.dataset(folder, format="parquet").count_rows()
    except pa.ArrowException as error:
        raise BatchRefused(
            f"{folder} is damaged ({error}); remove {folder.parent}, or choose another OUTPUT"
        ) from error
