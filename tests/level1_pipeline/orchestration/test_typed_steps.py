"""Steps hand on typed results: readable as a pipeline, kept as JSON, and refused when a file of theirs has changed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from pydantic import TypeAdapter

from level1_pipeline.errors import StepFileChanged
from level1_pipeline.evaluation.drift import DriftTest
from level1_pipeline.evaluation.gate import Check, Verdict
from level1_pipeline.evaluation.metrics import Comparison
from level1_pipeline.orchestration.pipeline import TrainingResults, step_names
from level1_pipeline.steps import evaluate, extract, publish, refit, register, split, train, validate
from level1_pipeline.steps.step import Run, StepResult, step

CHECKS = (Check("speed", "pass", "0.1 s"), Check("harm is bounded", "fail", "too much"))
COMPARISON = Comparison(14, 0.001, 0.002, False, 3, {"origin=EWR": 2})
RESULTS = [
    extract.Extracted(rows=3, repaired={"wind_speed": 1}, files={"rows.parquet": "abc"}, step="extract", seconds=0.25),
    validate.Validated(expectations=120, drift=DriftTest("moved", 0.001, {"temp|mean": 3.5}, "warmer")),
    validate.Validated(expectations=120, drift=None),
    split.Split(train=split.Part(9, "2013", "2014"), holdout=split.Part(2, "2014", "2015"), quarantined=0),
    train.Trained(parameters={"model__max_iter": 60}),
    evaluate.Evaluated(metrics={"log_loss": 0.5}, verdict=Verdict(CHECKS, COMPARISON), champion="1"),
    refit.Refitted(checks=CHECKS),
    register.Registered(run_id="r", status="fail", reasons=["why"], version=None),
    publish.Published(alias=None),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_result_comes_back_from_json_as_it_was(result: StepResult) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(type(result))
    text = json.dumps(adapter.dump_python(result, mode="json"))
    assert adapter.validate_python(json.loads(text)) == result


def test_a_metric_that_is_no_number_survives_json() -> None:
    adapter = TypeAdapter(evaluate.Evaluated)
    result = evaluate.Evaluated(metrics={"roc_auc": math.nan}, verdict=Verdict(CHECKS), champion=None)
    again = adapter.validate_python(json.loads(json.dumps(adapter.dump_python(result, mode="json"))))
    assert math.isnan(again.metrics["roc_auc"])


@pytest.mark.evidence("Checklist 3")
def test_there_is_one_file_for_each_step_and_each_has_its_own_kind_of_result() -> None:
    names = step_names()
    modules = (extract, validate, split, train, evaluate, refit, register, publish)
    assert names == [module.__name__.rpartition(".")[2] for module in modules]
    kinds = [get_type_hints(getattr(module, name))["return"] for module, name in zip(modules, names, strict=True)]
    assert kinds == [get_type_hints(TrainingResults)[part.name] for part in fields(TrainingResults)]


@dataclass(frozen=True, kw_only=True)
class Written(StepResult):
    """A result with a file."""


@step
def write(run: Run) -> Written:
    run.path("a.txt").write_text("as it was")
    return Written(files=run.digests("a.txt"))


@step
def read(run: Run, written: Written) -> StepResult:
    return StepResult(files=run.digests("a.txt"))


@pytest.mark.evidence("Checklist 13")
@pytest.mark.parametrize("content", ["changed", None])
def test_a_step_refuses_a_file_that_is_not_what_the_step_before_wrote(content: str | None, tmp_path: Path) -> None:
    run = Run("key", str(tmp_path / "run"), "2013-03-01T05:00:00+00:00")
    written = write(run)
    assert (written.step, written.seconds >= 0, written.started > 0) == ("write", True, True)
    assert read(run, written).files == written.files
    if content is None:
        run.path("a.txt").unlink()
    else:
        run.path("a.txt").write_text(content)
    with pytest.raises(StepFileChanged, match=r"a\.txt was changed or removed .* delete .* and run again"):
        read(run, written)
