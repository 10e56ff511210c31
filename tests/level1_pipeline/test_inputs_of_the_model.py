"""The inputs as a whole: which may be used, what they cost, and how much work a new one is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from level1_pipeline import flights, problem, schema
from level1_pipeline.steps.fit import fit_model
from tests.support import ROOT

# What the Record may not hold: learned after the decision, or a mark of one aircraft or flight that a model could learn.
FORBIDDEN = {
    "dep_time",
    "dep_delay",
    "arr_time",
    "arr_delay",
    "air_time",
    "tailnum",
    "flight",
    *(problem.TARGET, problem.ID, problem.ENTITY, problem.EVENT_TIME, problem.LABEL_TIME),
}


@pytest.mark.evidence("Data 4")
@pytest.mark.flights
def test_no_forbidden_column_is_an_input_and_a_planted_one_is_refused(rows: pd.DataFrame) -> None:
    assert not FORBIDDEN & set(schema.names())
    record = schema.records(rows.tail(1))[0]
    problem.Record.model_validate(record)
    for name in sorted(FORBIDDEN):
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            problem.Record.model_validate(record | {name: 1.0})


@pytest.mark.evidence("Data 3")
@pytest.mark.flights
@pytest.mark.integration
def test_all_inputs_together_cost_less_than_half_of_a_training_and_need_three_files() -> None:
    """CPU time of both on the same month, so that another machine does not change the answer."""
    raw = flights.read()
    scheduled = flights.schedule(raw)
    march = scheduled[scheduled["decision_time"].between("2013-03-01", "2013-04-01")]
    events = flights.events(raw)

    started = time.process_time()
    inputs = flights.features_at(events, march, march["decision_time"])
    made = time.process_time()
    late = flights.outcomes(raw, scheduled).loc[march.index, problem.TARGET]
    labelled = inputs.assign(**{problem.TARGET: late}).dropna(subset=problem.TARGET)
    before = time.process_time()
    fit_model(labelled)
    trained = time.process_time() - before

    assert made - started < 0.5 * trained, f"{made - started:.2f} s for the inputs, {trained:.2f} s for the training"
    assert len(flights.SOURCE_FILES) == 3


EXERCISE = """
import sys
import pandas as pd
from pathlib import Path
from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.steps.fit import fit_model

rows = problem.load(pd.Timestamp("2013-02-01", tz="UTC"), cache=Path(sys.argv[1]))
rows = rows[rows[problem.TARGET].notna()]
assert schema.names()[-1] == "planned"
assert list(schema.violations(rows)) == []
assert list(schema.violations(rows.assign(planned=999.0)))[0].column == "planned"
model = fit_model(rows.head(4000), {"model__max_iter": 20})
record = schema.records(rows.tail(1))[0]
problem.Record.model_validate(record)
others = schema.frame([record | {"planned": float(count)} for count in range(1, 60)])
print("scores", len(set(predict(model, others))))
"""


@pytest.mark.evidence("Data 6")
@pytest.mark.flights
@pytest.mark.slow
@pytest.mark.integration
def test_a_new_input_is_a_field_and_a_column_in_one_file(tmp_path: Path, cache: Path, rows: pd.DataFrame) -> None:
    """The exercise of a cloner: what follows (schema, training, scoring) takes the new input without another edit."""
    shutil.copytree(
        ROOT / "level1_pipeline", tmp_path / "level1_pipeline", ignore=shutil.ignore_patterns("__pycache__")
    )
    file = tmp_path / "level1_pipeline/problem.py"
    edits = {
        "\n\nTARGET = ": '    planned: float = Field(ge=1, le=200, description="flights of this hour here")\n\n\nTARGET = ',
        '.drop(columns="scheduled_departure")': '.drop(columns="scheduled_departure").assign(planned=lambda table: table'
        '.groupby(["origin", table[EVENT_TIME].dt.floor("h")])["distance"].transform("size").astype("float64"))',
    }
    text = file.read_text()
    for old, new in edits.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    file.write_text(text)
    command: list[Any] = [sys.executable, "-W", "ignore", "-c", EXERCISE, cache]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 1, "the model does not look at the new input"
