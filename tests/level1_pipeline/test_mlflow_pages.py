"""What MLflow's own pages say of a training."""

from __future__ import annotations

import base64
import json
import zlib

from level1_pipeline import problem
from level1_pipeline.registry import mlflow_pages


def test_a_training_is_described_by_its_day_verdict_gain_and_trigger() -> None:
    said = mlflow_pages.description("2013-07-01", "fail", 0.5, -0.0123, "1", "staleness")
    metric = f"{problem.PRIMARY_METRIC} 0.5000"
    assert said == f"2013-07-01 · gate FAIL · {metric} · 0.0123 worse than champion 1 · trigger: staleness"
    assert "0.0123 better than champion 1" in mlflow_pages.description("2013-07-01", "pass", 0.5, 0.0123, "1", "")
    assert "with no champion to compare with" in mlflow_pages.description("2013-07-01", "pass", 0.5, None, None, "")
    unjudged = mlflow_pages.description("2013-07-01", "error", None, None, "1", "schedule")
    assert unjudged == "2013-07-01 · gate ERROR · trigger: schedule"


def test_the_shared_view_of_an_experiment_names_the_columns_as_mlflow_packs_them() -> None:
    packed = mlflow_pages.experiment_tags()["mlflow.sharedViewState.trainings"]
    view = json.loads(zlib.decompress(base64.b64decode(packed.removeprefix("deflate;"))))
    assert {f"metrics.`{problem.PRIMARY_METRIC}`", "metrics.`gain`", "tags.`verdict`"} <= set(view["selectedColumns"])
