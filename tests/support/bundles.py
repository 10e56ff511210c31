"""Bundles of fitted pipelines, without a training run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.load import COMPILED, MANIFEST
from level1_pipeline.bundle.write import seal_bundle, write_bundle
from level1_pipeline.evaluation.drift import day_summaries


def is_compiled(folder: Path) -> bool:
    """Whether the model of this bundle is compiled. That of flights has to be, so it always counts as such."""
    return problem.NAME == "flight_delay" or COMPILED in json.loads((folder / MANIFEST).read_text())["files"]


def demand_compiled(folder: Path) -> None:
    """Skip a test about the compiled form where another problem's model has none."""
    if not is_compiled(folder):
        why = json.loads((folder / MANIFEST).read_text())["engine"]["why"]
        pytest.skip(f"the model of {problem.NAME} is not compiled: {why}")


def make_bundle(
    folder: Path,
    pipeline: Any,
    rows: pd.DataFrame,
    trained_on: pd.DataFrame | None = None,
    evaluation_model: Any = None,
    **info: Any,
) -> Path:
    """A bundle that passed the gate, unless `info` says otherwise.

    Args:
        folder: where it goes.
        pipeline: the fitted model.
        rows: that the compiled model is compared on, and of which some become golden.
        trained_on: whose day summaries and end go into the bundle; by default `rows`.
        evaluation_model: the fitted model that was judged in its place, which goes into the bundle.
        info: more of the manifest.
    """
    trained_on = rows if trained_on is None else trained_on
    until = trained_on[problem.EVENT_TIME].max().isoformat()
    profile = day_summaries(trained_on)
    write_bundle(folder, pipeline, rows, {"verdict": "pass", "trained_until": until, **info}, profile)
    if evaluation_model is not None:
        judged = folder.with_name(f"{folder.name}-judged")
        write_bundle(judged, evaluation_model, rows, {"trained_until": until}, profile)
        seal_bundle(folder, folder, {}, judged)
    return folder
