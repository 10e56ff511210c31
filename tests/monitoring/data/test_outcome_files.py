"""Outcomes from files: whatever is in them, only what is right is kept, and twice is once."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.errors import OutcomeFileRefused
from level1_pipeline.inputs.csv_file import CsvFile
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from monitoring.data import outcome_files as files
from monitoring.data.outcome_files import Report, check
from tests.serving.conftest import both
from tests.support.prediction_log import log_predictions
from tests.support.problems import ONE_NUMBER
from tests.support.serving import NOW, known_outcomes, opened

__all__ = ["both"]  # a fixture
pytestmark = ONE_NUMBER
CLASSIFY = problem.TASK == "classification"


def csv(folder: Path, *lines: str, name: str = "outcomes.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def take(settings: Settings, path: Path) -> Report:
    with opened(settings) as store:
        return files.ingest(store, path, NOW)


def test_a_file_is_kept_and_the_same_file_again_changes_nothing(both: Settings, tmp_path: Path) -> None:
    path = csv(tmp_path, "id,value,known_at", "a,1,2013-03-01T00:00:00Z", "b,0,2013-03-01T00:00:00-05:00", "c,1,")
    first = take(both, path)
    assert (first.rows, first.new, first.unknown, first.bad.total()) == (3, 3, 3, 0)
    before = known_outcomes(both)
    assert (before["a"]["value"], before["c"]["known_at"]) == (1, NOW)
    again = take(both, path)
    assert (again.new, again.unchanged) == (0, 3)
    assert known_outcomes(both) == before


def test_a_later_known_value_corrects_and_an_earlier_one_does_not(both: Settings, tmp_path: Path) -> None:
    take(both, csv(tmp_path, "id,value,known_at", "a,1,2013-03-02T00:00Z"))
    assert take(both, csv(tmp_path, "id,value,known_at", "a,0,2013-03-01T00:00Z")).unchanged == 1
    assert known_outcomes(both)["a"]["value"] == 1
    assert take(both, csv(tmp_path, "id,value,known_at", "a,0,2013-03-03T00:00Z")).corrected == 1
    assert known_outcomes(both)["a"]["value"] == 0


@pytest.mark.evidence("a label comes twice or is corrected", "Level 2: labels late, twice, corrected")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.slow
def test_a_file_in_any_order_with_repeats_gives_the_same_end(home: Settings, tmp_path: Path, seed: int) -> None:
    lines = [f"o{n},{(n + day) % 2},2013-03-0{day}T00:00Z" for n in range(700) for day in (1, 2, 3)] * 2
    random.Random(seed).shuffle(lines)
    report = take(home, csv(tmp_path, "id,value,known_at", *lines))
    assert (report.rows, report.new) == (4200, 700)
    assert {name: item["value"] for name, item in known_outcomes(home).items()} == {
        f"o{n}": (n + 3) % 2 for n in range(700)
    }


@pytest.mark.parametrize("values", [(0, 1), (1, 0)])
@pytest.mark.parametrize("together", [True, False])
def test_of_two_values_of_the_same_moment_the_same_one_counts_in_any_order(
    both: Settings, tmp_path: Path, values: tuple[int, int], together: bool
) -> None:
    """In one file or in two; and the same again changes nothing."""
    lines = [f"{name},{value},2013-03-01T00:00Z" for value in values for name in ("a", "b")]
    parts = [lines] if together else [lines[:2], lines[2:]]
    paths = [csv(tmp_path, "id,value,known_at", *part, name=f"{n}.csv") for n, part in enumerate(parts)]
    reports = [take(both, path) for path in paths]
    assert sum(report.new for report in reports) == 2
    before = known_outcomes(both)
    assert [before[name]["value"] for name in ("a", "b")] == [1, 1]
    assert [take(both, path).corrected for path in paths] == [0] * len(paths)
    assert known_outcomes(both) == before


def test_bad_rows_are_counted_by_reason_and_the_good_ones_are_kept(home: Settings, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.csv"
    lines = [
        "id,value,known_at",
        "good,1,",
        "words,late,",
        "nan,nan,",
        ",1,",
        "naive,1,2013-03-01",
        "future,1,2013-05-01T00:00Z",
    ]
    path.write_bytes("\n".join([*lines, "more,1,,fields", "short"]).encode() + b"\n\xff\xfe,1,\n")
    report = take(home, path)
    assert list(known_outcomes(home)) == ["good"]
    assert (report.rows, report.new, report.bad.total()) == (9, 1, 8)
    assert report.bad["4 fields where 3 are expected"] == report.bad["1 fields where 3 are expected"] == 1
    assert report.bad["not UTF-8"] == report.bad["id is not 1 to 128 printable ASCII characters"] == 1
    assert sum(count for reason, count in report.bad.items() if reason.startswith("known_at")) == 2
    assert report.examples[0] == "row 2: value is no number"


@pytest.mark.parametrize(
    ("lines", "rows"),
    [
        (['"a,1', "b,0", "c,1"], [1]),
        (["a,1", '"b,0', 'c",1'], [2, 3]),
        (["a", "b,1,2,3", "c,1"], [1, 2]),
        (["a,1", "b,0", 'c,"1'], [3]),
    ],
)
def test_a_damaged_line_is_a_bad_row_and_costs_no_other(
    home: Settings, tmp_path: Path, lines: list[str], rows: list[int]
) -> None:
    report = take(home, csv(tmp_path, "id,value", *lines))
    assert (report.rows, report.new, report.bad.total()) == (3, 3 - len(rows), len(rows))
    places = [example.partition(":")[0] for example in report.examples]
    assert places == [f"row {row} (line {row + 1})" for row in rows]
    assert list(known_outcomes(home)) == [name for row, name in enumerate("abc", 1) if row not in rows]


@pytest.mark.parametrize(
    ("content", "value"), [("1", 1), ("1.0", 1), ("+1", 1), ("0e5", 0), ("NULL", None), ("1_0", None), ("١", None)]
)
def test_a_value_is_read_as_everywhere(home: Settings, tmp_path: Path, content: str, value: float | None) -> None:
    report = take(home, csv(tmp_path, "id,value,known_at", f'"a","{content}","NULL"'))
    assert report.bad.total() == (value is None)
    assert [row["value"] for row in known_outcomes(home).values()] == [value] * (value is not None)


@pytest.mark.parametrize("name", ["late.CSV", "late.csv.gz", "late.PARQUET"])
def test_other_names_of_the_same_formats_are_read(home: Settings, tmp_path: Path, name: str) -> None:
    table, path = pd.DataFrame({"id": ["a", "b"], "value": [1, 0]}), tmp_path / name
    table.to_parquet(path) if "P" in name else table.to_csv(path, index=False)
    assert take(home, path).new == 2


@pytest.mark.evidence("a file is half written")
def test_of_a_file_that_is_cut_nothing_is_kept(home: Settings, tmp_path: Path) -> None:
    path = tmp_path / "late.csv.gz"
    pd.DataFrame({"id": range(50_000), "value": 1}).to_csv(path, index=False)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(OutcomeFileRefused, match="nothing of it was kept"):
        take(home, path)
    assert known_outcomes(home) == {}


@pytest.mark.evidence("a file is half written")
def test_of_a_file_that_grows_meanwhile_nothing_is_kept(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = csv(tmp_path, "id,value", "a,1"), CsvFile

    def grows(path: Path) -> CsvFile:
        with path.open("a") as file:
            file.write("b,1\n")
        return real(path)

    monkeypatch.setattr(files, "CsvFile", grows)
    with pytest.raises(OutcomeFileRefused, match="changed while it was read"):
        take(home, path)
    assert known_outcomes(home) == {}


def test_whole_numbers_may_be_ids(home: Settings, tmp_path: Path) -> None:
    pd.DataFrame({"id": [0, 7], "value": [1, 0]}).to_parquet(tmp_path / "late.parquet")
    assert take(home, tmp_path / "late.parquet").new == 2
    assert list(known_outcomes(home)) == ["0", "7"]


def test_a_parquet_file_gives_what_the_csv_file_gives(home: Settings, tmp_path: Path) -> None:
    known_at = pd.to_datetime(["2013-03-01T05:00Z", "2013-03-02T05:00Z", None])
    table = pd.DataFrame({"id": ["a", "b", "c"], "value": [1, 0, 1], "known_at": known_at, "more": 5})
    table.to_parquet(tmp_path / "outcomes.parquet")
    report = take(home, tmp_path / "outcomes.parquet")
    assert (report.new, report.bad.total()) == (3, 0)
    result = known_outcomes(home)
    assert result["b"]["known_at"] == datetime(2013, 3, 2, 5, tzinfo=UTC)
    assert result["c"]["known_at"] == NOW


def test_naive_times_in_a_parquet_file_are_bad_rows(home: Settings, tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a"], "value": [1.0], "known_at": pd.to_datetime(["2013-03-01"])})
    table.to_parquet(tmp_path / "outcomes.parquet")
    report = take(home, tmp_path / "outcomes.parquet")
    assert "UTC offset" in next(iter(report.bad))
    assert known_outcomes(home) == {}


def test_a_truncated_parquet_file_is_refused_with_what_to_do(home: Settings, tmp_path: Path) -> None:
    path = tmp_path / "outcomes.parquet"
    pd.DataFrame({"id": ["a"] * 1000, "value": 1.0}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OutcomeFileRefused, match=r"is damaged .* nothing of it was kept; .* send it again"):
        take(home, path)


def test_other_formats_and_missing_columns_are_refused(home: Settings, tmp_path: Path) -> None:
    with pytest.raises(OutcomeFileRefused, match=r"neither \.csv nor \.parquet"):
        take(home, csv(tmp_path, "id,value", name="outcomes.xlsx"))
    with pytest.raises(OutcomeFileRefused, match="no column id and no column value"):
        take(home, csv(tmp_path, "flight,late"))
    with pytest.raises(OutcomeFileRefused, match="more than one column value"):
        take(home, csv(tmp_path, "id,value,value", "a,1,0"))
    with pytest.raises(OutcomeFileRefused, match="separated by ';'"):
        take(home, csv(tmp_path, "id;value", "a;1"))
    with pytest.raises(OutcomeFileRefused, match="there is no file"):
        take(home, tmp_path / "nowhere.csv")


def test_an_empty_file_and_one_of_a_spreadsheet_are_read(home: Settings, tmp_path: Path) -> None:
    assert take(home, csv(tmp_path, "id,value")).rows == 0
    path = tmp_path / "marked.csv"
    path.write_text("\ufeffid,value\r\na,1\r\n")  # with a byte order mark and other line ends
    assert take(home, path).new == 1


def test_a_large_file_is_read_in_pieces(home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_ROWS", 100)
    report = take(home, csv(tmp_path, "id,value", *(f"o{n},1" for n in range(1050)), "o1,1"))
    assert (report.new, report.unchanged, len(known_outcomes(home))) == (1050, 1, 1050)


def test_only_ids_of_no_logged_prediction_count_as_unknown(store: Store, home: Settings, tmp_path: Path) -> None:
    log_predictions(store, [{"id": "a", "at": NOW, "record": {}, "score": 0.5}])
    assert files.ingest(store, csv(tmp_path, "id,value", "a,1", "b,1"), NOW).unknown == 1


@pytest.mark.skipif(not CLASSIFY, reason="a regression takes any number")
@pytest.mark.parametrize("value", ["2", "0.5", "-1", "inf"])
def test_a_value_that_is_no_class_is_no_outcome(value: str) -> None:
    assert "neither 0 nor 1" in str(check({"id": "a", "value": value}, NOW))


@pytest.mark.skipif(not CLASSIFY, reason="a regression takes no truth values")
def test_a_truth_value_is_an_outcome_in_each_kind_of_file(home: Settings, tmp_path: Path) -> None:
    report = take(home, csv(tmp_path, "id,value", "a,True", "b,false", "c,1.0", "d,0"))
    assert (report.new, report.bad.total()) == (4, 0)
    assert [check({"id": "a", "value": value}, NOW).value for value in (True, "TRUE", 1.0, "1.0")] == [1.0] * 4  # type: ignore[union-attr]


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_no_value_is_a_reason_and_not_an_error(value: Any) -> None:
    assert check({"id": "a", "value": value}, NOW) == "value is no number"


def test_an_outcome_of_this_very_moment_is_possible_and_one_after_it_is_not() -> None:
    now = {"id": "a", "value": "1", "known_at": NOW}
    assert not isinstance(check(now, NOW), str)
    assert "the time on the clock" in str(check({**now, "known_at": NOW + timedelta(seconds=1)}, NOW))
