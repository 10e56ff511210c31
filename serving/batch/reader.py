"""Parquet and CSV, a file or a folder of them, as tables of one size: what batch scoring reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs

from level1_pipeline import problem, schema
from level1_pipeline.errors import InputFileRefused
from level1_pipeline.inputs.csv_file import ROW, CsvFile, is_csv

CHUNK = 50_000  # rows scored together; the results of one chunk are one file
TAKES = {
    schema.Kind.TEXT: "text",
    schema.Kind.NUMBER: "numbers",
    schema.Kind.WHOLE: "numbers",
    schema.Kind.TRUTH: "truth values",
    schema.Kind.DATE: "dates",
}
DISK = pyarrow.fs.LocalFileSystem()
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # the folder of rows without a value


class Source:
    """The files of an input, read in the order of their names.

    Raises:
        InputFileRefused: there is none, they are not of one kind, or their columns are not those of the model or differ.
    """

    def __init__(self, path: Path):
        self.path = path
        self.files, self.aside = _files(path)
        kinds = {_kind(file) for file in self.files}
        if kinds not in ({".parquet"}, {".csv"}):
            held = ", ".join(sorted(kinds)) or "no files"
            message = f"{path} holds {held}; a .parquet, .csv or .csv.gz file is needed, or a folder of one kind"
            raise InputFileRefused(message)
        self.unreadable: list[tuple[int, str]] = []  # rows of CSV that are none, and why
        self._rows = 0  # in the files read so far
        self._types = _readable(self.files[0], self._columns)
        for file in self.files[1:]:
            _demand_alike(self.files[0], self._types, file, _readable(file, self._columns))

    def identity(self) -> list[list[Any]]:
        """Name, size and time of change of each file: where these are equal, the input is taken to be the same."""
        stats = [(file.relative_to(self.path.parent).as_posix(), _readable(file, Path.stat)) for file in self.files]
        return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]

    def chunks(self) -> Iterator[pa.Table]:
        """Tables of CHUNK rows (the last may be smaller), however the files are divided.

        Raises:
            InputFileRefused: a file cannot be read to its end.
        """
        waiting = pa.table({})
        for file in self.files:
            try:
                for table in self._read(file):
                    waiting = pa.concat_tables([waiting, table]) if len(waiting) else table
                    while len(waiting) >= CHUNK:
                        yield waiting.slice(0, CHUNK)
                        waiting = waiting.slice(CHUNK)
            except (ValueError, OSError, pa.ArrowException) as error:
                raise _refused(file, error) from error
        if len(waiting):
            yield waiting

    def _columns(self, file: Path) -> pa.Schema:
        """What is read of a file: the inputs and, if it has one, the id, with the types in which they are scored."""
        folders = _in_folder_names(self.path, file)
        held = _held(file)
        names = [*held.names, *folders]
        missing = [name for name in schema.names() if name not in names]
        if missing:
            needed = ", ".join(schema.names())
            raise InputFileRefused(f"{file} has no column {', '.join(missing)}; needed are: {needed}")
        wanted = [*schema.names(), *[name for name in (problem.ID,) if name in names]]
        if twice := [name for name in wanted if names.count(name) > 1]:
            raise InputFileRefused(f"{file} has more than one column {', '.join(twice)}; keep one of each")
        return pa.schema([(name, pa.string() if name in folders else _type(file, held.field(name))) for name in wanted])

    def _read(self, file: Path) -> Iterator[pa.Table]:
        before, rows, csv = self._rows, 0, CsvFile(file) if is_csv(file) else None
        folders = _in_folder_names(self.path, file)
        types = pa.schema([column for column in self._types if column.name not in folders])
        for table in csv.tables(types.names) if csv else _parquet_tables(file, types):
            for name in folders.keys() & set(self._types.names):
                table = table.append_column(name, pa.array([folders[name]] * len(table), pa.string()))
            numbers = pa.array(table[ROW].to_numpy() + before)
            rows += len(table)
            yield table.select(self._types.names).append_column(ROW, numbers)
        faults = csv.faults if csv else []
        lines = f"{file.name}, line" if len(self.files) > 1 else "line"
        self.unreadable += [(before + row, f"{lines} {line}: {reason}: {text}") for row, line, reason, text in faults]
        self._rows = before + rows + len(faults)


def _files(path: Path) -> tuple[list[Path], list[Path]]:
    """The files of the input, and those that look like data and are not read: their names begin with . or _."""
    if not path.is_dir():
        if not path.is_file():
            raise InputFileRefused(f"there is no file or folder {path}; name the one that holds the rows")
        return [path], []
    files, aside = [], []
    for file in sorted(path.rglob("*")):
        if file.is_dir():
            if file.is_symlink():
                raise InputFileRefused(f"{file} is a link to a folder; name that folder itself, or copy it")
        elif not any(part[0] in "._" for part in file.relative_to(path).parts):
            files.append(file)
        elif _kind(file) in (".csv", ".parquet"):
            aside.append(file)
    return files, aside


def _kind(file: Path) -> str:
    return ".csv" if is_csv(file) else file.suffix.lower()


def _in_folder_names(path: Path, file: Path) -> dict[str, str | None]:
    """Columns of which the value stands in the name of a folder, as in `origin=EWR/part-0.parquet`."""
    pairs = [part.split("=", 1) for part in file.relative_to(path).parts[:-1] if "=" in part]
    return {unquote(name): None if value == NO_VALUE else unquote(value) for name, value in pairs}


def _held(file: Path) -> pa.Schema:
    """The columns of a file. The cells of CSV stay text, so that one that is no number spoils its own row only."""
    if is_csv(file):
        return pa.schema([(name, pa.string()) for name in CsvFile(file).names])
    return _fragment(file).physical_schema


def _fragment(file: Path) -> pyarrow.dataset.Fragment:
    return pyarrow.dataset.ParquetFileFormat().make_fragment(str(file), DISK)


def _parquet_tables(file: Path, types: pa.Schema) -> Iterator[pa.Table]:
    """Columns in the given types, with ROW."""
    read = 0
    for batch in _fragment(file).to_batches(columns=types.names, batch_size=CHUNK, batch_readahead=4):
        table = pa.Table.from_batches([batch])
        for place, column in enumerate(table.schema):
            if pa.types.is_decimal(column.type):  # only by way of a text it becomes the nearest number
                table = table.set_column(place, column.name, table[place].cast(pa.string()))
        numbers = pa.array(np.arange(read + 1, read + 1 + len(table)))
        read += len(table)
        yield table.cast(types, safe=False).append_column(ROW, numbers)


def _type(file: Path, column: pa.Field) -> pa.DataType:
    """The type in which a column is scored; ids that are no text keep theirs."""
    wanted, kinds = {column.name: column.kind for column in schema.columns()}, pa.types
    held = column.type.value_type if kinds.is_dictionary(column.type) else column.type
    is_text = kinds.is_string(held) or kinds.is_large_string(held) or kinds.is_string_view(held)
    if is_csv(file):
        return pa.string()
    if column.name not in wanted:
        return pa.string() if is_text else column.type
    kind = wanted[column.name]
    if kind is schema.Kind.TRUTH and kinds.is_boolean(held):
        return pa.bool_()
    if kind is schema.Kind.DATE and (is_text or kinds.is_temporal(held)):
        return pa.string()
    is_number = kinds.is_integer(held) or kinds.is_floating(held) or kinds.is_decimal(held)
    fits = is_text if kind is schema.Kind.TEXT else is_number and kind is not schema.Kind.DATE
    if not fits and not kinds.is_null(held):
        takes = TAKES[kind]
        raise InputFileRefused(f"{file}: column {column.name} is of type {column.type}, but the model takes {takes}")
    return pa.string() if kind is schema.Kind.TEXT else pa.float64()


def _demand_alike(first: Path, types: pa.Schema, file: Path, others: pa.Schema) -> None:
    kinds = [{field.name: str(field.type) for field in columns} for columns in (types, others)]
    different = [name for name in {**kinds[0], **kinds[1]} if kinds[0].get(name) != kinds[1].get(name)]
    if different:
        pairs = [
            f"{name} is {kinds[1].get(name, 'missing')}, there {kinds[0].get(name, 'missing')}" for name in different
        ]
        raise InputFileRefused(f"{file} has other columns or types than {first} ({'; '.join(pairs)}); make them alike")


def _readable(file: Path, read: Any) -> Any:
    try:
        return read(file)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise _refused(file, error) from error


def _refused(file: Path, error: Exception) -> InputFileRefused:
    if isinstance(error, InputFileRefused):
        return error
    return InputFileRefused(f"{file} cannot be read ({error}); mend the file or take it away")
