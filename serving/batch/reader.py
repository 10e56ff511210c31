"""Parquet and CSV, a file or a folder of them, as tables of one size: what batch scoring reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.fs

from level1_pipeline import problem, schema
from level1_pipeline.errors import InputFileRefused

CHUNK = 50_000  # rows scored together; the results of one chunk are one file
CSV_BLOCK_BYTES = 1 << 22  # of a CSV file, read together
ROW = "row"  # number of the row in the input; the first is 1
DISK = pyarrow.fs.LocalFileSystem()


class Source:
    """The files of an input, read in the order of their names.

    Raises:
        InputFileRefused: there is none, or they are not of one kind.
    """

    def __init__(self, path: Path):
        self.path, self.files = path, [path]
        if not path.is_file():
            inside = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
            self.files = sorted(path / file for file in inside if not any(part[0] in "._" for part in file.parts))
        kinds = {file.suffix.lower() for file in self.files}
        if kinds not in ({".parquet"}, {".csv"}):
            held = ", ".join(sorted(kinds)) or "no files"
            raise InputFileRefused(f"{path} holds {held}; a .parquet or .csv file is needed, or a folder of one kind")
        self.ragged: list[tuple[int, str]] = []  # rows of CSV with a wrong number of fields, and why
        self._rows = 0  # in the files read so far

    def identity(self) -> list[list[Any]]:
        """Name, size and time of change of each file: where these are equal, the input is taken to be the same."""
        stats = [(file.relative_to(self.path.parent).as_posix(), file.stat()) for file in self.files]
        return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]

    def chunks(self) -> Iterator[pa.Table]:
        """Tables of CHUNK rows (the last may be smaller), however the files are divided.

        Raises:
            InputFileRefused: a file cannot be read, or its columns are not those of the model or of the first file.
        """
        waiting, columns = pa.table({}), None
        for file in self.files:
            try:
                types = _columns(file)
                if types != (columns := columns or types):
                    raise InputFileRefused(f"{file} has other columns or types than {self.files[0]}; make them alike")
                for table in self._read(file, types):
                    waiting = pa.concat_tables([waiting, table]) if len(waiting) else table
                    while len(waiting) >= CHUNK:
                        yield waiting.slice(0, CHUNK)
                        waiting = waiting.slice(CHUNK)
            except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
                raise InputFileRefused(f"{file} cannot be read ({error}); mend the file or take it away") from error
        if len(waiting):
            yield waiting

    def _read(self, file: Path, types: pa.Schema) -> Iterator[pa.Table]:
        before, read, ragged = self._rows, 0, list[int]()  # numbers of the ragged rows of this file

        def skip(row: Any) -> str:
            ragged.append(row.number - 1)  # the first line holds the names
            message = f"{row.actual_columns} fields where {row.expected_columns} are expected: {row.text[:200]}"
            self.ragged.append((before + ragged[-1], message))
            return "skip"

        wanted = types if _is_csv(file) else None  # Parquet is read as it is, and converted below
        for batch in _fragment(file, skip).to_batches(wanted, types.names, batch_size=CHUNK, batch_readahead=4):
            numbers = np.arange(read + 1, read + 1 + len(batch))
            read += len(batch)
            numbers += np.searchsorted(np.array(ragged) - np.arange(len(ragged)), numbers, side="right")
            table = pa.Table.from_batches([batch]).cast(types, safe=False)
            yield table.append_column(ROW, pa.array(before + numbers))
        self._rows += read + len(ragged)


def _is_csv(file: Path) -> bool:
    return file.suffix.lower() == ".csv"


def _fragment(file: Path, skip: Callable[[Any], str]) -> pyarrow.dataset.Fragment:
    """A file to scan. In CSV an empty cell is missing, and `skip` hears of each row with too many or few fields."""
    if not _is_csv(file):
        return pyarrow.dataset.ParquetFileFormat().make_fragment(str(file), DISK)
    cells = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""])
    lines = pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip)
    blocks = pyarrow.csv.ReadOptions(block_size=CSV_BLOCK_BYTES)
    format = pyarrow.dataset.CsvFileFormat(parse_options=lines, convert_options=cells, read_options=blocks)
    return format.make_fragment(str(file), DISK)


def _columns(file: Path) -> pa.Schema:
    """What is read of a file: the inputs and, if it has one, the id, with the types in which they are scored."""
    held = _fragment(file, lambda _: "skip").physical_schema
    missing = [name for name in schema.names() if name not in held.names]
    if missing:
        raise InputFileRefused(f"{file} has no column {', '.join(missing)}; needed are: {', '.join(schema.names())}")
    names = [*schema.names(), *[name for name in (problem.ID,) if name in held.names]]
    if twice := [name for name in names if held.names.count(name) > 1]:
        raise InputFileRefused(f"{file} has more than one column {', '.join(twice)}; keep one of each")
    # The cells of CSV stay text, so that one that is no number spoils its own row only.
    return pa.schema([(name, pa.string() if _is_csv(file) else _type(file, held.field(name))) for name in names])


def _type(file: Path, column: pa.Field) -> pa.DataType:
    """The type in which a Parquet column is scored; ids that are no text keep theirs."""
    texts, kinds = {column.name: column.text for column in schema.columns()}, pa.types
    held = column.type.value_type if kinds.is_dictionary(column.type) else column.type
    is_text = kinds.is_string(held) or kinds.is_large_string(held) or kinds.is_string_view(held)
    if column.name not in texts:
        return pa.string() if is_text else column.type
    is_number = kinds.is_integer(held) or kinds.is_floating(held) or kinds.is_decimal(held)
    wanted, fits = ("text", is_text) if texts[column.name] else ("numbers", is_number)
    if not fits and not kinds.is_null(held):
        raise InputFileRefused(f"{file}: column {column.name} is of type {column.type}, but the model takes {wanted}")
    return pa.string() if texts[column.name] else pa.float64()
