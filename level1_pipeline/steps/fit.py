"""The one fit of the recipe, for every model that a training makes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from level1_pipeline import problem, schema


def fit_model(rows: pd.DataFrame, parameters: dict[str, Any] | None = None) -> Any:
    """Fit the problem's recipe, with changed parameters where given. Deterministic."""
    return problem.build_model().set_params(**(parameters or {})).fit(rows[schema.names()], rows[problem.TARGET])
