"""Level 0: the notebooks are well kept, run to their end (all four in `make test-slow`), and make Level 1's model."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import joblib
import nbformat
import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from level1_pipeline import problem
from tests.support import ROOT

FOLDER = ROOT / "level0_notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
OURS = {"level0_notebooks", "level1_pipeline", "level2_cicd", "serving", "monitoring", "tests"}
TODAY = pd.Timestamp("2013-04-01", tz=problem.TIMEZONE)

pytestmark = pytest.mark.flights
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
with_outputs = pytest.mark.slow  # the notebooks are run once for all of these


def run(notebooks: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Execute the runner of the folder `notebooks` with a home and an output folder of its own."""
    places = {"LEVEL0_OUT": str(out), "MLOPS_HOME": str(out / "home")}
    command = [sys.executable, str(notebooks / "run.py")]
    return subprocess.run(command, env=os.environ | places, capture_output=True, text=True, check=False)


def copy(target: Path, names: str, old: str = "", new: str = "", until: str = "") -> Path:
    """The runner and the notebooks called `names` in the folder `target`, with `old` replaced in their code.

    The last cell that is copied is the first one that holds `until`; without it all are.
    """
    target.mkdir()
    stems = sorted(path.stem for path in FOLDER.glob(names))
    runner = re.sub(r"NOTEBOOKS = \(.*\)", f"NOTEBOOKS = {stems}", (FOLDER / "run.py").read_text())
    (target / "run.py").write_text(runner)
    for stem in stems:
        notebook = nbformat.read(FOLDER / f"{stem}.ipynb", as_version=4)
        for cell in notebook.cells:
            cell.source = cell.source.replace(old, new) if old else cell.source
        last = next((n for n, cell in enumerate(notebook.cells) if until and until in cell.source), None)
        notebook.cells = notebook.cells[: None if last is None else last + 1]
        nbformat.write(notebook, target / f"{stem}.ipynb")
    return target


@pytest.fixture(scope="module")
def all_four(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with everything the four notebooks wrote, and the runner's last line."""
    out = tmp_path_factory.mktemp("all_four")
    done = run(FOLDER, out)
    assert done.returncode == 0, done.stderr[-2000:]
    return out, done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def level0(all_four: tuple[Path, str]) -> Path:
    return all_four[0]


@pytest.fixture(scope="module")
def level1(cache: Path) -> pd.DataFrame:
    return problem.load(TODAY, cache=cache)


def compare(rows0: pd.DataFrame, rows1: pd.DataFrame) -> None:
    """Raise AssertionError, naming the column, unless both levels have the same rows, bit by bit."""
    assert set(rows0) - set(rows1) <= {"scheduled_departure"}, "columns that Level 1 does not hand out"
    pd.testing.assert_frame_equal(rows0[list(rows1)], rows1, check_exact=True)


def holdout_of(pool: pd.DataFrame) -> pd.Series:
    newest = TODAY - pd.Timedelta(hours=problem.GATE["maturity_hours"])
    return pool[problem.EVENT_TIME] > newest - pd.Timedelta(days=problem.GATE["holdout_days"])


@every_notebook
def test_a_notebook_is_valid_short_and_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) <= 22
    for cell in notebook.cells:
        assert cell.cell_type == "markdown" or (cell.outputs == [] and cell.execution_count is None), cell.id
        assert "show()" not in cell.source or cell.metadata.get("alt"), f"{cell.id}: a plot needs an `alt` text"


@every_notebook
def test_a_notebook_starts_with_prose_and_ends_with_its_manual_steps_and_what_can_go_wrong(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    for heading in ("What this shows", "What came before", "How to play with it"):
        assert heading in cells[0].source
    by_hand, wrong = cells[-1].source.split("## What can go wrong")
    assert by_hand.startswith("## What you did by hand here")
    assert wrong.strip().splitlines()[-1].startswith("In this notebook we ")
    tagged = sum("manual-step" in cell.metadata.get("tags", ()) for cell in cells)
    assert len(re.findall(r"^\d+\. ", by_hand, flags=re.M)) == tagged


@every_notebook
def test_a_notebook_imports_nothing_of_ours(path: Path) -> None:
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    for node in ast.walk(ast.parse(code)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not OURS & {name.split(".")[0] for name in names}


@pytest.mark.evidence("Checklist 1", "Level 0: the notebooks run")
@pytest.mark.slow
def test_the_runner_ends_with_the_scores_the_handover_and_the_counted_manual_steps(all_four: tuple[Path, str]) -> None:
    out, last = all_four
    scores = json.loads((out / "metrics.json").read_text())
    steps = sum(path.read_text().count('"manual-step"') for path in NOTEBOOKS)
    assert last == (
        f"level 0 | flight_delay | log_loss={scores['log_loss']:.4f} roc_auc={scores['roc_auc']:.4f}"
        f" | handed over: {out / 'handoff'} | {steps} manual steps"
    )


def check_pages(home: Path, notebooks: list[str]) -> None:
    """Each notebook has a page with plots that fetches nothing from the network."""
    for notebook in notebooks:
        text = (home / "reports" / "level0" / f"{notebook}.html").read_text()
        assert "data:image/png;base64," in text
        assert "No description has been provided" not in text
        assert not re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=(?![\"']?data:)", text)
        assert not re.findall(r"@import|import\(|url\([\"']?(?:https?:)?//", text)


@pytest.mark.slow
def test_every_page_shows_plots_and_fetches_nothing_from_the_network(all_four: tuple[Path, str]) -> None:
    check_pages(all_four[0] / "home", [path.stem for path in NOTEBOOKS])


@pytest.mark.evidence("Checklist 1", "Level 0: a model is handed over")
@with_outputs
def test_the_handover_holds_the_model_a_list_a_card_and_a_reproducible_example(level0: Path) -> None:
    out = level0
    handoff = out / "handoff"
    assert {path.name for path in handoff.iterdir()} == {
        "model.joblib",
        "requirements.txt",
        "model_card.md",
        "example.json",
    }
    example = json.loads((handoff / "example.json").read_text())
    problem.Record.model_validate(example["record"])  # Level 1's service takes the same record
    row = pd.DataFrame([example["record"]]).astype(
        pd.read_parquet(out / "holdout.parquet").dtypes[list(example["record"])]
    )
    assert joblib.load(handoff / "model.joblib").predict_proba(row)[0, 1] == pytest.approx(
        example["probability"], abs=1e-12
    )


@with_outputs
def test_the_numbers_typed_into_the_card_are_still_right(level0: Path) -> None:
    scores = json.loads((level0 / "metrics.json").read_text())
    card = (level0 / "handoff" / "model_card.md").read_text()
    assert f"log loss {scores['log_loss']:.3f}, AUC {scores['roc_auc']:.3f}" in card


@with_outputs
def test_both_levels_have_the_same_rows(level0: Path, level1: pd.DataFrame) -> None:
    rows0 = pd.read_parquet(level0 / "rows.parquet")
    assert list(problem.Record.model_fields) == list(rows0.columns[4:22])
    compare(rows0, level1)


@pytest.mark.evidence("Level 0: the same model")
@with_outputs
def test_both_levels_make_the_same_models_and_scores(level0: Path, level1: pd.DataFrame) -> None:
    out = level0
    matured = level1[problem.EVENT_TIME] <= TODAY - pd.Timedelta(hours=problem.GATE["maturity_hours"])
    pool = level1[matured & (level1[problem.LABEL_TIME] < TODAY)]
    held, features = holdout_of(pool), list(problem.Record.model_fields)
    saved = pd.read_parquet(out / "holdout.parquet")
    assert list(saved["flight_id"]) == list(pool.loc[held, "flight_id"])
    for file, rows in (("judged.joblib", pool[~held]), ("handoff/model.joblib", pool)):
        with threadpool_limits(limits=1):  # the same bits as with more, and no slower on a busy machine
            model = problem.build_model().fit(rows[features], rows[problem.TARGET])
        expected = model.predict_proba(pool.loc[held, features])[:, 1]
        actual = joblib.load(out / file).predict_proba(saved[features])[:, 1]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9, err_msg=file)
        if file == "judged.joblib":
            scores = problem.evaluate(saved["y"].to_numpy(), expected)
            assert json.loads((out / "metrics.json").read_text()) == pytest.approx(scores, abs=1e-9)


@pytest.mark.integration
@pytest.mark.slow
def test_a_feature_changed_in_the_notebook_is_found(tmp_path: Path, level1: pd.DataFrame) -> None:
    change = ('RECENT = pd.Timedelta("2h")', 'RECENT = pd.Timedelta("3h")')
    planted = copy(tmp_path / "planted", "02_train.ipynb", *change, until="rows.parquet")
    run(planted, tmp_path / "out")  # ends without a model, which this test does not need
    with pytest.raises(AssertionError, match="recent_delay"):
        compare(pd.read_parquet(tmp_path / "out" / "rows.parquet"), level1)


@pytest.mark.integration
@pytest.mark.slow
def test_a_failing_notebook_is_reported_with_its_cell_and_error(tmp_path: Path) -> None:
    broken = copy(tmp_path / "broken", "01_explore.ipynb", "flights.csv.zip", "no_such_file.csv")
    done = run(broken, tmp_path / "out")
    assert done.returncode == 1
    assert "01_explore.ipynb, cell 4 (read): FileNotFoundError" in done.stderr.splitlines()[-1]
    assert "FileNotFoundError" in (tmp_path / "out/home/reports/level0/01_explore.html").read_text()
