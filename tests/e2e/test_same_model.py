"""Level 0 by its notebook and Level 1 by its flow, on the same date, make the same model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import load_bundle
from level1_pipeline.bundle.predict import predict
from level1_pipeline.settings import Settings
from serving.server import temporary
from tests.support import ROOT

AS_OF = "2013-04-01"

pytestmark = [pytest.mark.flights, pytest.mark.slow]


def train(folder: Path, home: Path, *message: str) -> str:
    """Level 1's flow as a command; returns what it printed."""
    command = [sys.executable, "-m", "level1_pipeline", "train", "--as-of", AS_OF, *message]
    places = os.environ | {"MLOPS_HOME": str(home)}
    done = subprocess.run(command, cwd=folder, env=places, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows_of(home: Path) -> pd.DataFrame:
    """The rows that a run of the flow stopped with."""
    (run,) = (home / "runs" / problem.NAME).iterdir()
    return pd.read_parquet(run / "rows.parquet")


def differences(rows0: pd.DataFrame, rows1: pd.DataFrame) -> list[str]:
    """The columns of Level 1 in which the two levels differ in any bit."""
    assert len(rows0) == len(rows1)
    return [name for name in rows1 if not rows0[name].equals(rows1[name])]


@pytest.fixture(scope="module")
def level0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the notebooks that train and hand over have written."""
    out = tmp_path_factory.mktemp("level0")
    code = "import run; run.NOTEBOOKS = ['02_train', '03_handoff']; raise SystemExit(run.main())"
    places = os.environ | {
        "LEVEL0_OUT": str(out),
        "MLOPS_HOME": str(out / "home"),
        "PYTHONPATH": str(ROOT / "level0_notebooks"),
    }
    done = subprocess.run([sys.executable, "-c", code], env=places, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a flow that stopped after extracting the rows."""
    home = tmp_path_factory.mktemp("level1")
    train(ROOT, home, "--until", "extract")
    return home


def test_both_levels_have_the_same_features_and_make_the_same_models(level0: Path, home: Path) -> None:
    assert differences(pd.read_parquet(level0 / "rows.parquet"), rows_of(home)) == []

    printed = train(ROOT, home)  # the rest of the same run
    assert "models:/flight_delay/1 -> champion" in printed
    served = load_bundle(home / "bundles" / problem.NAME / "1")
    assert served.manifest["metrics"] == pytest.approx(json.loads((level0 / "metrics.json").read_text()), abs=1e-9)
    assert served.evaluation_model is not None
    saved = pd.read_parquet(level0 / "holdout.parquet")
    for model, file in ((served.evaluation_model, "judged.joblib"), (served, "handoff/model.joblib")):
        theirs = joblib.load(level0 / file).predict_proba(saved[schema.names()])[:, 1]
        np.testing.assert_allclose(predict(model.pipeline, saved), theirs, rtol=0, atol=1e-9, err_msg=file)
    record = json.loads((level0 / "handoff/example.json").read_text())
    assert served.predict([record["record"]])[0] == pytest.approx(record["probability"], abs=1e-12)
    with temporary(Settings(home=home)) as url:
        body = json.dumps({"record": record["record"]}).encode()
        request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            output = json.load(answer)
    assert output["score"] == pytest.approx(record["probability"], abs=1e-12)
    assert output["version"] == "1"


def test_a_feature_changed_in_level_1_is_found(level0: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(ROOT / "level1_pipeline", changed / "level1_pipeline")
    flights = changed / "level1_pipeline/flights.py"
    assert 'RECENT = pd.Timedelta("2h")' in flights.read_text()
    flights.write_text(flights.read_text().replace('RECENT = pd.Timedelta("2h")', 'RECENT = pd.Timedelta("3h")'))
    train(changed, tmp_path / "home", "--until", "extract")
    result = differences(pd.read_parquet(level0 / "rows.parquet"), rows_of(tmp_path / "home"))
    assert result == ["recent_delay", "recent_departures"]
