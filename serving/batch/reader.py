"""Parquet and CSV, a file or a folder of them, as tables of one size: what batch scoring reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from level1_pipeline import problem, schema
from level1_pipeline.errors import InputFileRefused

CHUNK = 50_000  # rows scored together; the results of one chunk are one file
BLOCK = 1 << 22  # bytes of a CSV file read together
ROW = "row"  # number of the row in the input; the first is 1


class Source:
    """The files of an input, read in the order of their names.

    Raises:
        InputRefused: there is none, or they are not of one kind.
    """

    def __init__(self, path: Path):
        self.path, self.files = path, [path]
        if not path.is_file():
            inside = (one.relative_to(path) for one in path.rglob("*") if one.is_file())
            self.files = sorted(path / one for one in inside if not any(part[0] in "._" for part in one.parts))
        kinds = {one.suffix.lower() for one in self.files}
        if kinds not in ({".parquet"}, {".csv"}):
            held = ", ".join(sorted(kinds)) or "no files"
            raise InputFileRefused(f"{path} holds {held}; a .parquet or .csv file is needed, or a folder of one kind")
        self.ragged: list[tuple[int, str]] = []  # rows of CSV with a wrong number of fields, and why
        self._before = 0  # rows in the files read so far

    def identity(self) -> list[list[Any]]:
        """Name, size and time of change of each file: where these are equal, the input is taken to be the same."""
        found = [(one.relative_to(self.path.parent).as_posix(), one.stat()) for one in self.files]
        return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in found]

    def chunks(self) -> Iterator[tuple[pa.Table, float]]:
        """Tables of CHUNK rows (the last may be smaller) however the files are built, and the share read so far.

        Raises:
            InputRefused: a file cannot be read, lacks columns, or has them in another type.
        """
        waiting: list[pa.Table] = []
        for table, share in self._tables():
            waiting.append(table)
            while sum(map(len, waiting)) >= CHUNK:
                together = pa.concat_tables(waiting)
                yield together.slice(0, CHUNK), share
                waiting = [together.slice(CHUNK)]
        if any(map(len, waiting)):
            yield pa.concat_tables(waiting), 1.0

    def _tables(self) -> Iterator[tuple[pa.Table, float]]:
        total, read = max(1, sum(one.stat().st_size for one in self.files)), 0
        for file in self.files:
            size = file.stat().st_size
            try:
                for table, numbers, share in (self._csv if file.suffix.lower() == ".csv" else self._parquet)(file):
                    yield table.append_column(ROW, pa.array(numbers)), (read + share * size) / total
            except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
                raise InputFileRefused(f"{file} cannot be read ({error}); mend the file or take it away") from error
            read += size

    def _csv(self, file: Path) -> Iterator[tuple[pa.Table, np.ndarray, float]]:
        gaps: list[int] = []  # numbers of the ragged rows of this file

        def ragged(row: Any) -> str:
            gaps.append(row.number - 1)  # the first line holds the names
            message = f"{row.actual_columns} fields where {row.expected_columns} are expected: {row.text[:200]}"
            self.ragged.append((self._before + gaps[-1], message))
            return "skip"

        size, readable = file.stat().st_size, 0
        wanted = _present(file, _open_csv(file, lambda _: "skip").schema.names if size else [])
        with file.open("rb") as opened:
            for batch in _open_csv(opened, ragged, wanted):
                counted = np.arange(readable + 1, readable + 1 + len(batch))
                readable += len(batch)
                skipped = np.searchsorted(np.array(gaps) - np.arange(len(gaps)), counted, side="right")
                yield pa.Table.from_batches([batch]), self._before + counted + skipped, opened.tell() / size
        self._before += readable + len(gaps)

    def _parquet(self, file: Path) -> Iterator[tuple[pa.Table, np.ndarray, float]]:
        with pyarrow.parquet.ParquetFile(file) as opened:
            wanted = _present(file, opened.schema_arrow.names)
            types = {name: _type(file, opened.schema_arrow.field(name)) for name in wanted}
            total, read = max(1, opened.metadata.num_rows), 0
            for batch in opened.iter_batches(CHUNK, columns=wanted):
                table = pa.Table.from_batches([batch]).select(wanted)
                numbers = self._before + read + np.arange(1, len(table) + 1)
                read += len(table)
                yield table.cast(pa.schema(list(types.items())), safe=False), numbers, read / total
        self._before += read


def _open_csv(file: Any, ragged: Any, wanted: list[str] | None = None) -> Any:
    """All values stay text, so that one that is no number spoils its own row only; what is empty is missing."""
    return pyarrow.csv.open_csv(
        file,
        pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK),
        pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=ragged),
        pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(wanted or [], pa.string()),
            include_columns=wanted,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )


def _present(file: Path, names: list[str]) -> list[str]:
    missing = [name for name in schema.names() if name not in names]
    if missing:
        raise InputFileRefused(f"{file} has no column {', '.join(missing)}; needed are: {', '.join(schema.names())}")
    return [*schema.names(), *[name for name in (problem.ID,) if name in names]]


def _type(file: Path, column: pa.Field) -> pa.DataType:
    """The type in which a Parquet column is scored; ids that are no text keep theirs."""
    texts = {one.name: one.text for one in schema.columns()}
    held = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    kinds = pa.types
    text = kinds.is_string(held) or kinds.is_large_string(held) or kinds.is_string_view(held)
    number = kinds.is_integer(held) or kinds.is_floating(held) or kinds.is_decimal(held)
    if column.name not in texts:
        return pa.string() if text else column.type
    wanted, fits = ("text", text) if texts[column.name] else ("numbers", number)
    if not fits and not kinds.is_null(held):
        raise InputFileRefused(f"{file}: column {column.name} is of type {column.type}, but the model takes {wanted}")
    return pa.string() if texts[column.name] else pa.float64()
