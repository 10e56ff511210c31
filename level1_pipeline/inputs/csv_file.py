"""CSV as other tools write it, of which no row is ever lost: each line is a row, or there is a reason why it is none.

It may be compressed (`.gz`), begin with a byte order mark, end its lines in any way, and have values in double quotes,
in which a double quote is written twice. A value may not hold a line break: so a quote that is never closed costs its
own line and no other. A number is written as 12, -0.5 or 1.4e3. A number is missing where the cell is empty, quoted or
not, or one of the texts of MISSING. A text is missing only where the cell is empty, because NA may be a name.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv

from level1_pipeline import schema

SUFFIXES = (".csv", ".csv.gz")  # in capitals, too
BLOCK_BYTES = 1 << 22  # read together; no line may be longer
ROW = "row"  # number of the row in the file; the first is 1
MISSING = {"", "na", "n/a", "#n/a", "<na>", "null", "none", "nan", "-nan", "nat", "\\n"}  # in capitals, too
# Infinity is a number that is not finite, so that whoever checks the value can say so.
MIDNIGHT = re.compile(r"[ T]00:00:00(\.0+)?(Z|\+00:00)?$")  # of a date that a tool keeps as a time
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity)", re.ASCII | re.IGNORECASE)
COMMA, QUOTE, LINE_END = b',"\n'
TEXT_SHOWN = 200  # bytes of a line that is no row


class Fault(NamedTuple):
    """A line that is no row."""

    row: int  # the number that it has among the rows
    line: int  # of the file; the first is 1
    reason: str
    text: str  # its beginning


def is_csv(path: Path) -> bool:
    """Whether the name says so."""
    return path.name.lower().endswith(SUFFIXES)


def is_missing(text: str | None) -> bool:
    """Whether a cell of a column of numbers or times is one of the texts that stand for a missing value."""
    return text is None or text.strip().lower() in MISSING


def number(text: str | None) -> float | str | None:
    """The number that a cell holds, None if it is missing; a text that is no number stays a text."""
    if text is None or is_missing(text):
        return None
    return float(text) if NUMBER.fullmatch(text.strip()) else text


def truth(text: str | None) -> float | str | None:
    """The truth value that a cell holds, as 0 or 1: true or false, in capitals, too, or a number that is 0 or 1, as 1.0."""
    if text is None or is_missing(text):
        return None
    named = {"true": 1.0, "false": 0.0}.get(text.strip().lower())
    value = number(text) if named is None else named
    return value if value in (0.0, 1.0) else text


def day(text: str | None) -> float | str | None:
    """The date that a cell holds, as the model takes it; written as 2024-02-29."""
    if text is None or is_missing(text):
        return None
    try:
        return float(schema.as_number(MIDNIGHT.sub("", text.strip())))
    except ValueError:
        return text


class CsvFile:
    """A file whose first line holds the names of its columns.

    Raises:
        ValueError: it has no such line, or another separator than the comma.
        OSError: it cannot be opened, or is not compressed as its name says.
    """

    def __init__(self, path: Path):
        self.path = path
        self.faults: list[Fault] = []  # of the lines that were read so far
        self._header, text = self._first_line()
        try:
            self.names = [name.strip() for name in next(csv.reader([text.decode("utf-8-sig")], strict=True), [])]
        except csv.Error as error:
            raise ValueError(f"line {self._header}, which holds the names of the columns: {error}") from error
        if not self.names:
            raise ValueError("it has no line with the names of the columns")
        if len(self.names) == 1 and (other := re.search("[;\t|]", self.names[0])):
            raise ValueError(f"its columns are separated by {other[0]!r}; a comma is needed")

    def tables(self, wanted: list[str]) -> Iterator[pa.Table]:
        """The wanted columns as texts, with ROW. Lines that are no rows go to `faults`.

        Raises:
            ValueError: a line is too long.
            OSError: the file is cut, or cannot be read to its end.
        """
        self.faults, rows = [], 0
        columns = [str(self.names.index(name)) for name in wanted]
        for first, block in self._blocks():
            table, rows = self._table(first, block, rows, columns)
            yield table.rename_columns([*wanted, ROW])

    def _first_line(self) -> tuple[int, bytes]:
        """The first that is not blank, with its number."""
        for first, block in self._blocks():
            for number, line in enumerate(block.split(b"\n"), first):
                if line.strip():
                    return number, line
        return 0, b""

    def _blocks(self) -> Iterator[tuple[int, bytes]]:
        """The file in whole lines that end with a line feed, with the number of the first."""
        line, rest = 1, b""
        compression = "gzip" if self.path.name.lower().endswith(".gz") else None
        with self.path.open("rb") as opened, pa.input_stream(opened, compression=compression) as file:
            while content := file.read(BLOCK_BYTES):
                content = rest + content
                # A carriage return at the very end may be half of a line end.
                cut = max(content.rfind(b"\n"), content.rfind(b"\r", 0, -1)) + 1
                if not cut and len(content) > BLOCK_BYTES:
                    raise ValueError(f"line {line} has more than {BLOCK_BYTES:,} bytes, so these are no lines of CSV")
                block, rest = _with_line_feeds(content[:cut]), content[cut:]
                if block:
                    yield line, block
                line += block.count(b"\n")
        if rest:
            yield line, _with_line_feeds(rest + b"\n" * (rest[-1:] != b"\r"))

    def _table(self, first: int, block: bytes, rows_before: int, columns: list[str]) -> tuple[pa.Table, int]:
        """The rows of a block of whole lines, and how many rows there are up to its end."""
        data = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(data == LINE_END)
        lengths = np.diff(ends, prepend=-1)
        is_row = (lengths > 1) & (np.arange(first, first + len(ends)) > self._header)
        rows = rows_before + np.cumsum(is_row)
        reasons = _misquoted(data, ends) | _not_utf8(block)
        sound = is_row.copy()
        sound[list(reasons)] = False
        places = np.flatnonzero(sound)

        def skip(row: Any) -> str:
            reasons[int(places[row.number - 1])] = (
                f"{row.actual_columns} fields where {row.expected_columns} are expected"
            )
            return "skip"

        text = block if sound.all() else data[np.repeat(sound, lengths)].tobytes()
        table = _parsed(text, self.names, columns, skip)
        for place in sorted(place for place in reasons if is_row[place]):
            line = block[ends[place] - lengths[place] + 1 : ends[place]]
            shown = line[:TEXT_SHOWN].decode(errors="replace")
            self.faults.append(Fault(int(rows[place]), first + place, reasons[place], shown))
        numbers = rows[[place for place in places.tolist() if place not in reasons] if reasons else places]
        return table.append_column(ROW, pa.array(numbers, pa.int64())), int(rows[-1])


def _with_line_feeds(block: bytes) -> bytes:
    return block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in block else block


def _misquoted(data: np.ndarray, ends: np.ndarray) -> dict[int, str]:
    """The lines in which a quote stands at another place than at the begin and the end of a value."""
    quotes = np.flatnonzero(data == QUOTE)
    if not len(quotes):
        return {}
    line = np.searchsorted(ends, quotes)
    opens = (np.arange(len(quotes)) - np.searchsorted(line, line)) % 2 == 0
    before = np.where(quotes > 0, data[quotes - 1], LINE_END)
    # Two quotes in a row are one that is part of the value: they close and open.
    stray = ~np.isin(np.where(opens, before, data[quotes + 1]), [COMMA, QUOTE, LINE_END])
    reasons = dict.fromkeys(np.flatnonzero(np.bincount(line) % 2).tolist(), "a quote is opened and never closed")
    return reasons | dict.fromkeys(line[stray].tolist(), "a quote stands within a value; write it twice, in quotes")


def _not_utf8(block: bytes) -> dict[int, str]:
    try:
        block.decode()
    except UnicodeDecodeError:
        lines = enumerate(block.split(b"\n"))
        return {place: "not UTF-8" for place, line in lines if line.decode(errors="ignore").encode() != line}
    return {}


def _parsed(text: bytes, names: list[str], columns: list[str], skip: Any) -> pa.Table:
    """Lines as texts. Columns have their places as names, because a file may have a name twice."""
    texts = dict.fromkeys(columns, pa.string())
    if not text.strip(b"\n"):
        return pa.table({name: pa.array([], kind) for name, kind in texts.items()})
    return pyarrow.csv.read_csv(
        pa.BufferReader(text),
        pyarrow.csv.ReadOptions(
            column_names=[str(place) for place in range(len(names))], use_threads=False, block_size=len(text) + 1
        ),
        pyarrow.csv.ParseOptions(invalid_row_handler=skip),
        pyarrow.csv.ConvertOptions(
            include_columns=columns, column_types=texts, null_values=[""], strings_can_be_null=True, check_utf8=False
        ),
    )
