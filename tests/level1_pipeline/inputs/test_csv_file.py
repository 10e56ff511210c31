"""CSV files: each line is a row or has a reason why it is none, whatever other tools, or accidents, have made of it."""

from __future__ import annotations

import csv
import gzip
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from level1_pipeline.inputs import csv_file
from level1_pipeline.inputs.csv_file import ROW, CsvFile, Fault, is_csv, is_missing, number

A_FILE_EACH = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, content: bytes, *wanted: str) -> tuple[list[dict[str, Any]], list[Fault]]:
    path.write_bytes(content)
    file = CsvFile(path)
    rows = [row for table in file.tables([*wanted]) for row in table.to_pylist()]
    return rows, file.faults


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.csv"


@pytest.mark.parametrize(
    "content",
    [
        b"id,value\na,1\nb,2\n",
        b"id,value\na,1\nb,2",
        b"\xef\xbb\xbfid,value\r\na,1\r\nb,2\r\n",
        b"id,value\ra,1\rb,2",
        b'"id","value"\n"a","1"\n"b","2"\n',
        b" id , value\na,1\n\nb,2\n\n",
        b"\n\nid,other,value\na,,1\nb,,2\n",
        b"id,value,other,other\na,1,,\nb,2,,\n",
    ],
)
def test_what_other_tools_write_is_read(path: Path, content: bytes) -> None:
    rows, faults = read(path, content, "id", "value")
    assert rows == [{"id": "a", "value": "1", ROW: 1}, {"id": "b", "value": "2", ROW: 2}]
    assert faults == []


def test_quotes_hold_commas_and_quotes_and_an_empty_cell_is_missing_quoted_or_not(path: Path) -> None:
    rows, faults = read(path, b'id,value\n"a, ""b""",""\n"""",\n', "id", "value")
    assert [(row["id"], row["value"]) for row in rows] == [('a, "b"', None), ('"', None)]
    assert faults == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'"b,2', "a quote is opened and never closed"),
        (b'b,"2', "a quote is opened and never closed"),
        (b'b",2', "a quote stands within a value"),
        (b'b"b"b,2', "a quote stands within a value"),
        (b'"b"b,2', "a quote stands within a value"),
        (b'"b" ,2', "a quote stands within a value"),
        (b"b", "1 fields where 2 are expected"),
        (b"b,2,3", "3 fields where 2 are expected"),
        (b" ", "1 fields where 2 are expected"),
        (b"b\xff,2", "not UTF-8"),
    ],
)
def test_a_damaged_line_costs_no_other(path: Path, line: bytes, reason: str) -> None:
    rows, (fault,) = read(path, b"id,value\na,1\n\n" + line + b'\nc,"3"\n', "id")
    assert [(row["id"], row[ROW]) for row in rows] == [("a", 1), ("c", 3)]
    assert (fault.row, fault.line) == (2, 4)
    assert fault.reason.startswith(reason)
    assert fault.text == line.decode(errors="replace")


def test_a_replacement_character_that_stands_in_the_file_is_no_damage(path: Path) -> None:
    rows, (fault,) = read(path, "id,value\n\ufffd,1\n".encode() + b"b\xff,2\n", "id")
    assert ([row["id"] for row in rows], fault.row) == (["\ufffd"], 2)


@pytest.mark.evidence("a file is half written")
def test_two_stray_quotes_do_not_swallow_the_rows_between_them(path: Path) -> None:
    lines = [b"%d,1" % number for number in range(1000)]
    lines[10], lines[900] = b'"10,1', b'900",1'
    rows, faults = read(path, b"id,value\n" + b"\n".join(lines), "id")
    assert (len(rows), [fault.row for fault in faults]) == (998, [11, 901])


PARTS = [b"a", b",", b'"', b"\n", b"\r", b" ", b"\xc3\xa9", b"\xff", "\ufffd".encode()]


@given(st.lists(st.sampled_from(PARTS)), st.integers(8, 40))
@example([b"\r", b"\n", b"\r"], 8)
@A_FILE_EACH
def test_no_bytes_make_a_row_disappear(path: Path, body: list[bytes], size: int) -> None:
    """Whatever the blocks in which the file is read, each line is a row, as the standard library reads it, or a fault."""
    content = b"".join(body)
    lines = [line for line in re.split(b"\r\n|\r|\n", content) if line]
    if max(map(len, lines), default=0) >= size:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_file, "BLOCK_BYTES", size)
        rows, faults = read(path, b"x,y\n" + content, "x", "y")
    assert sorted([row[ROW] for row in rows] + [fault.row for fault in faults]) == list(range(1, len(lines) + 1))
    for row in rows:
        assert next(csv.reader([lines[row[ROW] - 1].decode()], strict=True)) == [row["x"] or "", row["y"] or ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no line with the names"),
        (b"\n\n", "no line with the names"),
        (b"id;value\na;1\n", "separated by ';'"),
        (b"id\tvalue\na\t1\n", "separated by '\\t'"),
        (b'"id,value\na,1\n', "the names of the columns"),
        ("id,value\na,1\n".encode("utf-16"), "utf-8"),
        (b"id,value\n" + b"a" * 5000, "line 2 has more than"),
    ],
)
def test_what_is_no_csv_is_refused_and_the_message_says_why(
    path: Path, content: bytes, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", 1000)
    with pytest.raises(ValueError, match=re.escape(message)):
        read(path, content, "id")


def test_a_compressed_file_is_read_and_a_cut_one_is_not(tmp_path: Path) -> None:
    content = gzip.compress(b"id\n" + b"a\n" * 1000)
    assert len(read(tmp_path / "in.CSV.GZ", content, "id")[0]) == 1000
    assert len(read(tmp_path / "in.csv.gz", content + gzip.compress(b"b\n"), "id")[0]) == 1001
    for damaged in (content[:-9], content + b"more", b"id\na\n"):
        with pytest.raises(OSError, match=r"."):
            read(tmp_path / "in.csv.gz", damaged, "id")


def test_the_name_tells_what_is_csv() -> None:
    assert [is_csv(Path(name)) for name in ("a.csv", "a.CSV", "a.Csv.Gz", "a.gz", "csv", "a.csv.zip")] == [True] * 3 + [
        False
    ] * 3


@pytest.mark.parametrize(
    "text", ["12", "-0.5", "+1", "1.", ".5", "1.4e3", "1E-7", " 7 ", "00012", "1e400", "inf", "-Infinity"]
)
def test_a_number_is_the_one_nearest_to_its_text(text: str) -> None:
    assert number(text) == float(text)


@pytest.mark.parametrize("text", ["1,400", "1 400", "0x578", "1_000", "nan(1)", "١", "1e", "--1", "many", "1;2"])
def test_what_is_no_number_stays_a_text(text: str) -> None:
    assert number(text) == text


@pytest.mark.parametrize(
    "text", ["", " ", "NA", "n/a", "#N/A", "<NA>", "NULL", "None", "nan", "-NaN", "NaT", "\\N", None]
)
def test_the_listed_texts_are_missing_values(text: str | None) -> None:
    assert number(text) is None
    assert is_missing(text)


@given(st.floats(allow_nan=False, allow_infinity=False) | st.decimals(-1000, 1000, places=25))
@A_FILE_EACH
def test_arrow_reads_the_same_number_as_python(value: float) -> None:
    assert pa.array([str(value)]).cast(pa.float64())[0].as_py() == number(str(value))
