"""Batch scoring: the API's numbers, every row accounted for, and a kill that costs nothing but time."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import sqlalchemy as sa

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import COMPILED, MANIFEST, Bundle, bundle_checksum, load_bundle
from level1_pipeline.bundle.predict import predict
from level1_pipeline.errors import BatchRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import predictions
from serving.__main__ import main
from serving.batch import chunk, job, reader
from tests.support import ROOT
from tests.support.serving import Models, asked, set_route

NUMBERS = [column.name for column in schema.columns() if not column.text]
BOUNDED = next(column for column in schema.columns() if column.high is not None and not column.nullable)
NULLABLE = next((column.name for column in schema.columns() if column.nullable and not column.text), None)


@pytest.fixture
def at_home(served: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("MLOPS_HOME", str(served.home))
    return served


@pytest.fixture
def some(rows: pd.DataFrame) -> pd.DataFrame:
    return asked(rows)[[problem.ID, *schema.names()]].reset_index(drop=True)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 30 rows."""
    monkeypatch.setattr(reader, "CHUNK", 30)


def run(source: Path, output: Path, *more: str) -> int:
    return main(["batch", "--input", str(source), "--output", str(output), *more])


def scores(output: Path) -> pd.DataFrame:
    return pd.read_parquet(output / "scores")


def bad(output: Path) -> pd.DataFrame:
    return pd.read_parquet(output / "bad")


def files(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}


def saved(table: pd.DataFrame | pa.Table, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(table, pa.Table):
        write = pyarrow.csv.write_csv if path.suffix == ".csv" else pyarrow.parquet.write_table
        write(table, path)
        return path
    table.to_csv(path, index=False) if ".csv" in path.suffixes else table.to_parquet(path)
    return path


# ---- the numbers


def test_the_numbers_are_those_of_the_api(
    at_home: Settings, client: httpx2.Client, some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(saved(some, tmp_path / "in.parquet"), tmp_path / "out") == 0
    result = scores(tmp_path / "out")
    answer = client.post("/predict", json=[{"record": record} for record in schema.records(some)]).json()
    assert result["score"].tolist() == [item["score"] for item in answer]
    assert result["decision"].tolist() == [item["decision"] for item in answer]
    assert result[problem.ID].tolist() == some[problem.ID].tolist()
    assert result["row"].tolist() == list(range(1, 201))
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"score | {problem.NAME} | 200 rows, 0 bad | version 1 | ")
    assert line.endswith(f" rows/s | {tmp_path / 'out'}")
    assert [path.name for path in (tmp_path / "out/bad").iterdir()] == []


def test_what_scored_it_is_written_beside_the_result(at_home: Settings, some: pd.DataFrame, tmp_path: Path) -> None:
    assert run(saved(some, tmp_path / "in.parquet"), tmp_path / "out", "--version", "2") == 0
    about = json.loads((tmp_path / "out/scored.json").read_text())
    place = at_home.home / "bundles" / problem.NAME / "2"
    assert (about["problem"], about["version"], about["run_id"]) == (problem.NAME, "2", "a run")
    assert about["checksum"] == bundle_checksum(place)
    assert (about["rows"], about["bad"]) == (200, 0)
    assert [item[0] for item in about["input"]] == ["in.parquet"]
    expected = load_bundle(place).predict(schema.records(some))
    assert scores(tmp_path / "out")["score"].tolist() == expected.tolist()


@pytest.mark.usefixtures("small", "at_home")
def test_csv_parquet_and_folders_of_them_give_the_same(some: pd.DataFrame, tmp_path: Path) -> None:
    saved(some, tmp_path / "a.csv")
    saved(some, tmp_path / "a.parquet")
    for number, rows in enumerate((some.head(0), some.head(37), some.iloc[37:41], some.iloc[41:])):
        saved(rows, tmp_path / f"csv/{number}.csv")
        saved(rows.iloc[:, ::-1].assign(other=1), tmp_path / f"parquet/deep/{number}.parquet")
    saved(some.astype(dict.fromkeys(NUMBERS, "float32")), tmp_path / "parquet/.hidden.parquet")
    result = []
    for name in ("a.csv", "a.parquet", "csv", "parquet"):
        assert run(tmp_path / name, tmp_path / f"out {name}") == 0
        result.append({path: content for path, content in files(tmp_path / f"out {name}").items() if path != job.DONE})
    assert result[0] == result[1] == result[2] == result[3]
    assert len(result[0]) == 7


def test_the_numbers_are_the_same_on_several_threads(
    at_home: Settings, models: Models, some: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHUNK", 5)
    source, model = saved(some, tmp_path / "in.parquet"), load_bundle(at_home.home / "bundles" / problem.NAME / "1")
    for threads in (1, 4):
        result = job.score(reader.Source(source), tmp_path / f"out{threads}", model, "1", threads)
        assert result == job.Result(200, 0, 200)
    assert files(tmp_path / "out1") == files(tmp_path / "out4")
    assert scores(tmp_path / "out4")["score"].tolist() == models.alike(models.scores[0])


def test_without_a_compiled_model_scikit_learn_scores(at_home: Settings, some: pd.DataFrame, tmp_path: Path) -> None:
    place = at_home.home / "bundles" / problem.NAME / "1"
    pipeline = load_bundle(place).pipeline
    (place / COMPILED).unlink(missing_ok=True)
    manifest = json.loads((place / MANIFEST).read_text())
    manifest["files"].pop(COMPILED, None)
    (place / MANIFEST).write_text(json.dumps(manifest | {"engine": {"name": "scikit-learn", "why": "a test"}}))
    assert run(saved(some, tmp_path / "in.parquet"), tmp_path / "out") == 0
    assert scores(tmp_path / "out")["score"].tolist() == predict(pipeline, some).tolist()
    assert json.loads((tmp_path / "out/scored.json").read_text())["engine"] == "scikit-learn"


# ---- bad rows


@pytest.mark.usefixtures("small")
def test_bad_rows_are_kept_apart_with_the_words_of_the_api(
    at_home: Settings, client: httpx2.Client, some: pd.DataFrame, tmp_path: Path
) -> None:
    assert BOUNDED.high is not None
    for place, value in ((3, BOUNDED.high + 1), (50, None), (51, np.inf)):
        some.loc[place, BOUNDED.name] = value
    assert run(saved(some, tmp_path / "in.parquet"), tmp_path / "out") == 0
    result = bad(tmp_path / "out")
    assert result["row"].tolist() == [4, 51, 52]
    assert result[problem.ID].tolist() == some.loc[[3, 50, 51], problem.ID].tolist()
    for place, reasons in zip((3, 50), result["reasons"], strict=False):
        answer = client.post("/predict", json={"record": schema.records(some.iloc[[place]])[0]})
        assert answer.status_code == 422
        assert reasons.partition(": ")[2] in answer.text
        assert reasons.startswith(f"{BOUNDED.name}: ")
    kept = scores(tmp_path / "out")
    assert sorted([*kept["row"], *result["row"]]) == list(range(1, 201))
    assert json.loads((tmp_path / "out/scored.json").read_text())["bad"] == 3


@pytest.mark.usefixtures("small", "at_home")
def test_a_csv_cell_that_is_no_number_and_a_row_of_too_few_fields_cost_only_their_rows(
    some: pd.DataFrame, tmp_path: Path, models: Models
) -> None:
    lines = saved(some, tmp_path / "in.csv").read_text().splitlines()
    width, place = lines[0].count(",") + 1, lines[0].split(",").index(BOUNDED.name)
    cells = lines[101].split(",")
    lines[101] = ",".join([*cells[:place], "many", *cells[place + 1 :]])
    lines[40] = "a,b"
    lines[180] = lines[180][:20]
    (tmp_path / "in.csv").write_text("\n".join(lines))  # no newline at the end either
    assert run(tmp_path / "in.csv", tmp_path / "out") == 0
    result = bad(tmp_path / "out").set_index("row").sort_index()["reasons"]
    assert list(result.index) == [40, 101, 180]
    assert result[40] == f"line 41: 2 fields where {width} are expected: a,b"
    assert result[101] == f"{BOUNDED.name}: Input should be a valid number ({BOUNDED.name} is 'many')"
    kept = scores(tmp_path / "out")
    assert kept["row"].tolist() == [row for row in range(1, 201) if row not in (40, 101, 180)]
    assert kept["score"].tolist() == models.alike(np.delete(models.scores[0], [39, 100, 179]))


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("cell", ["many", "+1", "1_000", "inf", "n/a", "nan(1)", " 1", "1,000", "1e400"])
def test_a_number_is_the_same_to_the_last_bit_beside_a_strange_cell(
    some: pd.DataFrame, tmp_path: Path, models: Models, cell: str
) -> None:
    lines = saved(some, tmp_path / "in.csv").read_text().splitlines()
    place = lines[0].split(",").index(BOUNDED.name)
    cells = lines[7].split(",")
    lines[7] = ",".join([*cells[:place], f'"{cell}"', *cells[place + 1 :]])
    (tmp_path / "in.csv").write_text("\n".join(lines))
    assert run(tmp_path / "in.csv", tmp_path / "out") == 0
    kept = scores(tmp_path / "out").set_index("row")["score"]
    assert kept.drop(7, errors="ignore").tolist() == models.alike(np.delete(models.scores[0], 6))


@pytest.mark.usefixtures("small", "at_home")
def test_a_quote_that_is_never_closed_costs_its_own_row(some: pd.DataFrame, tmp_path: Path, models: Models) -> None:
    lines = saved(some, tmp_path / "in.csv").read_text().splitlines()
    lines[20], lines[150] = f'"{lines[20]}', f'{lines[150]}"'
    lines[60] = lines[60].replace(",", '",', 1)
    (tmp_path / "in.csv").write_text("\n".join(lines))
    assert run(tmp_path / "in.csv", tmp_path / "out") == 0
    rows = bad(tmp_path / "out").set_index("row").sort_index()["reasons"]
    assert list(rows.index) == [20, 60, 150]
    assert rows[20].startswith("line 21: a quote is opened and never closed: ")
    assert scores(tmp_path / "out")["score"].tolist() == models.alike(np.delete(models.scores[0], [19, 59, 149]))


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("in.csv", {"quoting": csv.QUOTE_ALL}),
        ("in.csv", {"quoting": csv.QUOTE_NONNUMERIC, "lineterminator": "\r\n", "encoding": "utf-8-sig"}),
        ("in.csv.gz", {}),
        ("IN.CSV", {"lineterminator": "\r"}),
    ],
)
def test_a_file_as_another_tool_writes_it_gives_the_same(
    some: pd.DataFrame, tmp_path: Path, models: Models, name: str, options: dict[str, Any]
) -> None:
    some.to_csv(tmp_path / name, index=False, **options)
    assert run(tmp_path / name, tmp_path / "out") == 0
    assert scores(tmp_path / "out")["score"].tolist() == models.alike(models.scores[0])
    assert scores(tmp_path / "out")[problem.ID].tolist() == some[problem.ID].tolist()


@pytest.mark.usefixtures("at_home")
@pytest.mark.skipif(NULLABLE is None, reason="no input of this problem may be missing")
@pytest.mark.parametrize("text", ["NA", "NULL", "nan", "None", "#N/A", "\\N"])
def test_the_texts_that_stand_for_a_missing_number_give_the_scores_of_missing_ones(
    some: pd.DataFrame, tmp_path: Path, text: str
) -> None:
    some.loc[::2, NULLABLE] = None
    saved(some, tmp_path / "in.parquet")
    some[NULLABLE] = some[NULLABLE].astype(object).where(some[NULLABLE].notna(), text)
    saved(some, tmp_path / "in.csv")
    for kind in ("csv", "parquet"):
        assert run(tmp_path / f"in.{kind}", tmp_path / kind) == 0
    assert files(tmp_path / "csv/scores") == files(tmp_path / "parquet/scores")


@pytest.mark.usefixtures("at_home")
def test_a_decimal_is_the_number_nearest_to_its_digits(some: pd.DataFrame, tmp_path: Path) -> None:
    assert BOUNDED.low is not None
    decimals = [f"{(BOUNDED.low or 0) + 1 + n / 7919:.9f}" for n in range(len(some))]
    some[BOUNDED.name] = [float(text) for text in decimals]
    saved(some, tmp_path / "in.parquet")
    table = pa.Table.from_pandas(some)
    place = table.schema.get_field_index(BOUNDED.name)
    exact = pa.array([Decimal(text) for text in decimals], pa.decimal128(38, 12))
    saved(table.set_column(place, BOUNDED.name, exact), tmp_path / "exact.parquet")
    for name in ("in", "exact"):
        assert run(tmp_path / f"{name}.parquet", tmp_path / name) == 0
    assert files(tmp_path / "in/scores") == files(tmp_path / "exact/scores")


@pytest.mark.usefixtures("at_home")
def test_a_row_that_the_model_fails_on_is_bad_and_the_others_are_scored(
    some: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Bundle.predict_columns
    poison = some.loc[7, BOUNDED.name]

    def fails(self: Bundle, inputs: schema.Columns) -> np.ndarray:
        if poison in inputs[BOUNDED.name].tolist():
            raise ValueError("not this one")
        return real(self, inputs)

    monkeypatch.setattr(Bundle, "predict_columns", fails)
    assert run(saved(some, tmp_path / "in.parquet"), tmp_path / "out") == 0
    wrong = some.index[some[BOUNDED.name] == poison] + 1
    assert bad(tmp_path / "out")["row"].tolist() == wrong.tolist()
    assert set(bad(tmp_path / "out")["reasons"]) == {"the model cannot score it (ValueError: not this one)"}
    assert len(scores(tmp_path / "out")) == 200 - len(wrong)


# ---- a kill, and the same command again


def begin(settings: Settings, source: Path, output: Path) -> subprocess.Popen[bytes]:
    """The command as a process, in small chunks so that there is time to kill it."""
    code = "import sys; from serving.batch import reader; reader.CHUNK = 40; from serving.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "batch", "--input", str(source), "--output", str(output)]
    environment = os.environ | {"MLOPS_HOME": str(settings.home)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_where_it_stopped_to_the_same_bytes(
    at_home: Settings, rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = rows.iloc[5000:9000][[problem.ID, *schema.names()]].reset_index(drop=True)
    table.loc[::500, BOUNDED.name] = np.inf
    source, output = saved(table, tmp_path / "in.parquet"), tmp_path / "out"
    for wanted in (5, 30):
        process = begin(at_home, source, output)
        until = time.monotonic() + 60
        while len(list(output.glob("scores/*.parquet"))) < wanted and time.monotonic() < until:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.005)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        assert process.stderr
        process.stderr.close()
        assert psutil.wait_procs(children, timeout=30)[1] == [], "processes that outlive the first one"
    before = files(output)
    assert job.DONE not in before
    assert 30 <= len([name for name in before if name.startswith("scores/part")]) < 100
    monkeypatch.setattr(reader, "CHUNK", 40)
    model = load_bundle(at_home.home / "bundles" / problem.NAME / "1")
    result = job.score(reader.Source(source), output, model, "1", 1)
    assert (result.rows, result.bad) == (4000, 8)
    assert 0 < result.computed <= 4000 - 30 * 40
    job.score(reader.Source(source), tmp_path / "whole", model, "1", 1)
    after = files(output)
    assert after == files(tmp_path / "whole")
    assert {
        name: content for name, content in before.items() if name.startswith("scores/part")
    }.items() <= after.items()


@pytest.mark.usefixtures("at_home")
def test_done_is_done(some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = saved(some, tmp_path / "in.parquet")
    assert run(source, tmp_path / "out") == 0
    before = files(tmp_path / "out")
    assert run(source, tmp_path / "out", "--json") == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (facts["rows"], facts["bad"], facts["computed"], facts["version"]) == (200, 0, 0, "1")
    assert run(source, tmp_path / "out") == 0
    assert "200 rows, 0 bad | version 1 | all there already" in capsys.readouterr().out.splitlines()[-1]
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize(("done", "what"), [(True, "input"), (True, "version"), (False, "input")])
def test_another_input_or_version_does_not_mix_with_what_is_there(
    at_home: Settings, some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, done: bool
) -> None:
    source, output = saved(some, tmp_path / "in.parquet"), tmp_path / "out"
    assert run(source, output) == 0
    if not done:
        (output / job.DONE).rename(output / job.BEGUN)
        (output / "scores/part-00000.parquet").unlink()
    saved(some.head(100), source) if what == "input" else set_route(at_home, champion="2")
    before = files(output)
    assert run(source, output) == 1
    answer = capsys.readouterr().err
    assert "holds the scores of something else" in answer
    assert f"{what} was " in answer
    assert files(output) == before


def test_a_run_that_was_cut_off_goes_on_with_its_version_when_there_is_another_champion(
    at_home: Settings, some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = saved(some, tmp_path / "in.parquet"), tmp_path / "out"
    assert run(source, output) == 0
    before = files(output)
    (output / job.DONE).rename(output / job.BEGUN)
    (output / "scores/part-00000.parquet").unlink()
    set_route(at_home, champion="2")
    assert run(source, output, "--version", "2") == 1
    assert "version was 1, is 2" in capsys.readouterr().err
    assert run(source, output) == 0
    assert "version 1" in capsys.readouterr().out
    assert files(output) == before


# ---- the log


def logged(settings: Settings) -> pd.DataFrame:
    with Store(settings.operations).engine.connect() as connection:
        return pd.read_sql(sa.select(predictions), connection)


@pytest.mark.usefixtures("small")
def test_predictions_of_files_are_logged_under_an_arm_of_their_own_as_the_service_would_log_them(
    at_home: Settings, some: pd.DataFrame, tmp_path: Path
) -> None:
    source, output = saved(some, tmp_path / "in.parquet"), tmp_path / "out"
    assert run(source, output, "--log") == 0
    log = logged(at_home).set_index("id")
    assert set(log["arm"]) == {"batch"}
    assert set(log["version"]) == {"1"}
    answers = scores(output).set_index(problem.ID)["score"]
    assert log["score"].to_dict() == answers.to_dict()
    assert log["record"].tolist() == schema.records(some.set_index(problem.ID).loc[log.index])
    assert (log["latency_ms"] > 0).all()


@pytest.mark.usefixtures("small")
def test_a_run_that_was_cut_off_logs_each_row_once(at_home: Settings, some: pd.DataFrame, tmp_path: Path) -> None:
    source, output = saved(some, tmp_path / "in.parquet"), tmp_path / "out"
    assert run(source, output, "--log") == 0
    before = logged(at_home)
    (output / job.DONE).rename(output / job.BEGUN)
    (output / "scores/part-00002.parquet").unlink()
    assert run(source, output, "--log") == 0
    assert logged(at_home).equals(before)


def test_only_what_has_ids_and_was_not_scored_without_a_log_can_be_logged(
    at_home: Settings, some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nameless = saved(some.drop(columns=problem.ID), tmp_path / "nameless.parquet")
    assert run(nameless, tmp_path / "nameless", "--log") == 1
    assert f"no column {problem.ID}" in capsys.readouterr().err
    source = saved(some, tmp_path / "in.parquet")
    assert run(source, tmp_path / "out") == 0
    assert run(source, tmp_path / "out", "--log") == 1
    assert "logged was None, is True" in capsys.readouterr().err
    assert logged(at_home).empty


@pytest.mark.usefixtures("at_home")
def test_a_folder_with_other_things_in_it_is_left_alone(
    some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = saved(some, tmp_path / "in.parquet"), tmp_path / "out"
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    assert run(source, output) == 1
    assert "holds no scores of ours" in capsys.readouterr().err
    assert files(output) == {"thesis.txt": b"mine"}


@pytest.mark.usefixtures("at_home")
def test_an_output_within_the_input_is_refused(
    some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(some, tmp_path / "in/a.parquet")
    for output in ("in/out", "in", "other/../in/deep/out"):
        assert run(tmp_path / "in", tmp_path / output) == 1
        assert "lies in the input" in capsys.readouterr().err
    assert list(files(tmp_path / "in")) == ["a.parquet"]


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"version": "1"}', b"\xff"])
def test_a_damaged_account_of_a_run_is_refused(
    some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    source, output = saved(some, tmp_path / "in.parquet"), tmp_path / "out"
    assert run(source, output) == 0
    (output / job.DONE).write_bytes(content)
    assert run(source, output) == 1
    message = capsys.readouterr().err
    assert "is damaged" in message or "something else" in message
    assert "Traceback" not in message


@pytest.mark.usefixtures("at_home", "small")
@pytest.mark.parametrize("content", [None, b"no parquet"])
def test_a_done_run_of_which_parts_are_gone_is_not_taken_for_done(
    some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    source, output = saved(some, tmp_path / "in.parquet"), tmp_path / "out"
    assert run(source, output) == 0
    part = output / "scores/part-00002.parquet"
    part.unlink() if content is None else part.write_bytes(content)
    assert run(source, output) == 1
    assert ("170 of the 200 rows" if content is None else "is damaged") in capsys.readouterr().err


# ---- folders


@pytest.mark.usefixtures("at_home")
def test_columns_in_the_names_of_folders_are_read(some: pd.DataFrame, tmp_path: Path) -> None:
    column = next((column.name for column in schema.columns() if column.text), None)
    if column is None:
        pytest.skip("this problem has no text inputs")
    some = some.sort_values(column, kind="stable").reset_index(drop=True)
    saved(some, tmp_path / "in.parquet")
    pyarrow.parquet.write_to_dataset(pa.Table.from_pandas(some), tmp_path / "hive", partition_cols=[column])
    for value, rows in some.groupby(column):
        saved(rows.drop(columns=column), tmp_path / f"text/{column}={value}/a.csv")
    for name in ("in.parquet", "hive", "text"):
        assert run(tmp_path / name, tmp_path / f"out {name}") == 0
    assert files(tmp_path / "out hive/scores") == files(tmp_path / "out in.parquet/scores")
    assert files(tmp_path / "out text/scores") == files(tmp_path / "out in.parquet/scores")


@pytest.mark.usefixtures("at_home")
def test_a_file_of_a_folder_that_is_not_read_is_told(
    some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(some, tmp_path / "in/a.csv")
    saved(some, tmp_path / "in/_late.csv")
    (tmp_path / "in/_SUCCESS").touch()
    assert run(tmp_path / "in", tmp_path / "out") == 0
    assert "not read, because the name begins with . or _: _late.csv\n" in capsys.readouterr().err
    (tmp_path / "in/notes.txt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "links").mkdir()
    (tmp_path / "links/in").symlink_to(tmp_path / "in")
    assert run(tmp_path / "in", tmp_path / "new") == 1
    assert "holds .csv, .txt;" in capsys.readouterr().err
    assert run(tmp_path / "links", tmp_path / "new") == 1
    assert "is a link to a folder" in capsys.readouterr().err


@pytest.mark.usefixtures("at_home", "small")
def test_bad_lines_of_several_files_have_their_numbers_in_all_of_them(some: pd.DataFrame, tmp_path: Path) -> None:
    for name, rows in (("a", some.head(50)), ("b", some.iloc[50:])):
        with saved(rows, tmp_path / f"in/{name}.csv").open("a") as file:
            file.write("short\n")
    assert run(tmp_path / "in", tmp_path / "out") == 0
    rows = bad(tmp_path / "out").set_index("row").sort_index()["reasons"]
    assert list(rows.index) == [51, 202]
    assert [text.partition(":")[0] for text in rows] == ["a.csv, line 52", "b.csv, line 152"]
    assert sorted([*rows.index, *scores(tmp_path / "out")["row"]]) == list(range(1, 203))


# ---- what cannot be scored at all


def no_column(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=BOUNDED.name)


def column_twice(table: pd.DataFrame) -> pa.Table:
    whole = pa.Table.from_pandas(table)
    return whole.append_column(BOUNDED.name, whole[BOUNDED.name])


def cut(whole: Path) -> bytes:
    return whole.read_bytes()[:-100]


def text_for_numbers(table: pd.DataFrame) -> pd.DataFrame:
    return table.astype({BOUNDED.name: "str"})


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.parquet", no_column, f"has no column {BOUNDED.name}"),
        ("in.csv", no_column, f"has no column {BOUNDED.name}"),
        ("in.parquet", column_twice, f"has more than one column {BOUNDED.name}"),
        ("in.csv", column_twice, f"has more than one column {BOUNDED.name}"),
        ("in.parquet", text_for_numbers, "but the model takes numbers"),
        ("in.parquet", b"no parquet at all", "cannot be read"),
        ("in.parquet", cut, "cannot be read"),
        ("in.csv.gz", cut, "cannot be read"),
        ("in.csv", b"", "cannot be read (it has no line with the names"),
        ("in.csv", b"a;b\n1;2\n", "separated by ';'"),
        ("in.csv", b"\xff\xfe\x00\xff", "cannot be read"),
        ("in.xlsx", b"", "a .parquet, .csv or .csv.gz file is needed"),
        ("in", None, "there is no file or folder"),
    ],
)
def test_an_input_that_cannot_be_read_is_refused_and_the_message_says_why(
    some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: Any, message: str
) -> None:
    source = tmp_path / name
    if content is cut:
        source.write_bytes(cut(saved(some, source)))
    elif callable(content):
        saved(content(some), source)
    elif content is not None:
        source.write_bytes(content)
    assert run(source, tmp_path / "out") == 1
    answer = capsys.readouterr().err
    assert message in answer
    assert "Traceback" not in answer
    assert not (tmp_path / "out" / job.DONE).exists()
    assert run(saved(some, tmp_path / "good.parquet"), tmp_path / ("out" if content != cut else "new")) == 0


@pytest.mark.usefixtures("at_home")
def test_files_of_a_folder_that_differ_in_their_columns_are_refused(
    some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(some, tmp_path / "in/a.csv")
    saved(some.drop(columns=problem.ID), tmp_path / "in/b.csv")
    assert run(tmp_path / "in", tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert "b.csv has other columns or types than" in message
    assert f"{problem.ID} is missing, there string" in message
    saved(some, tmp_path / "ids/a.parquet")
    saved(some.assign(**{problem.ID: range(len(some))}), tmp_path / "ids/b.parquet")
    assert run(tmp_path / "ids", tmp_path / "out") == 1
    assert f"{problem.ID} is int64, there string" in capsys.readouterr().err


@pytest.mark.usefixtures("at_home", "small")
def test_an_input_that_grows_while_it_is_read_is_refused(
    some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, real = saved(some, tmp_path / "in.csv"), chunk.compute

    def grows(*arguments: Any) -> int:
        with source.open("a") as file:
            file.write("\n")
        return real(*arguments)

    monkeypatch.setattr(chunk, "compute", grows)
    assert run(source, tmp_path / "out") == 1
    assert "changed while it was read" in capsys.readouterr().err
    assert not (tmp_path / "out" / job.DONE).exists()


@pytest.mark.usefixtures("at_home")
@pytest.mark.parametrize("name", ["in.csv", "in.parquet"])
def test_no_rows_are_no_trouble(
    some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert run(saved(some.head(0), tmp_path / name), tmp_path / "out") == 0
    assert "| 0 rows, 0 bad |" in capsys.readouterr().out
    assert list(scores(tmp_path / "out").columns) == ["row", "score", "decision"]


@pytest.mark.usefixtures("at_home")
def test_an_input_with_nothing_but_bad_rows_is_accounted_for(some: pd.DataFrame, tmp_path: Path) -> None:
    some[BOUNDED.name] = -1e9
    source = saved(some, tmp_path / "in.csv")
    assert run(source, tmp_path / "out") == 4
    assert run(source, tmp_path / "out") == 4  # nothing is left to do, and it is still no success
    assert (len(scores(tmp_path / "out")), len(bad(tmp_path / "out"))) == (0, 200)


@pytest.mark.usefixtures("at_home")
@pytest.mark.skipif(NULLABLE is None, reason="no input of this problem may be missing")
def test_a_column_that_is_missing_throughout_is_scored_as_missing(some: pd.DataFrame, tmp_path: Path) -> None:
    some[NULLABLE] = None
    for name in ("in.csv", "in.parquet"):
        assert run(saved(some, tmp_path / name), tmp_path / f"out {name}") == 0
        assert len(scores(tmp_path / f"out {name}")) == 200


@pytest.mark.evidence("the disk is full")
def test_a_disk_that_is_full_stops_the_run_which_goes_on_later(
    at_home: Settings, some: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    source, output = saved(some, tmp_path / "in.parquet"), tmp_path / "out"
    model, real, room = load_bundle(at_home.home / "bundles" / problem.NAME / "1"), chunk.write, [4]

    def full(path: Path, content: Any) -> None:
        if room[0] == 0:
            raise OSError(28, "No space left on device")
        room[0] -= 1
        real(path, content)

    monkeypatch.setattr(chunk, "write", full)
    with pytest.raises(BatchRefused, match=r"cannot be written .*No space left.* goes on where this one stopped"):
        job.score(reader.Source(source), output, model, "1")
    room[0] = 100
    assert job.score(reader.Source(source), output, model, "1") == job.Result(200, 0, 200 - 3 * 30)


@pytest.mark.usefixtures("at_home")
def test_an_output_that_cannot_be_made_is_said_so(
    some: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    assert run(saved(some, tmp_path / "in.parquet"), tmp_path / "file/out") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_without_a_champion_it_says_what_to_do(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(home.home))
    assert run(tmp_path / "in.csv", tmp_path / "out") == 1
    assert "make level1" in capsys.readouterr().err


# ---- much


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_ten_years_stay_under_one_gibibyte(at_home: Settings, rows: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    inputs, source = rows[[problem.ID, *schema.names()]], tmp_path / f"in.{kind}"
    copies = max(1, 3_400_000 // len(inputs))
    if kind == "csv":
        for number in range(copies):
            inputs.to_csv(source, index=False, mode="a", header=number == 0)
    else:
        pd.concat([inputs] * copies).to_parquet(source)
    process, peak = begin_big(at_home, source, tmp_path / "out"), 0.0
    while process.poll() is None:
        peak = max(peak, together(process.pid))
        time.sleep(0.05)
    assert process.returncode == 0
    assert len(scores(tmp_path / "out")) == copies * len(inputs)
    print(f"\n{copies * len(inputs):,} rows of {kind}: {peak / 2**20:.0f} MiB at most")
    assert peak < 2**30


def begin_big(settings: Settings, source: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "serving", "batch", "--input", str(source), "--output", str(output)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"MLOPS_HOME": str(settings.home)})


def together(pid: int) -> float:
    try:
        process = psutil.Process(pid)
        return sum(item.memory_info().rss for item in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return 0.0
