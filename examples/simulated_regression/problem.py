"""What will this sensor show?  A simulated regression.

20,000 rows of scikit-learn's `make_friedman1`, spread over 200 days; the outcome is known a day later. From 1 June 2024 on
the input x3 has twice its effect: the same inputs have other outcomes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline

NAME = "friedman"
TASK: Literal["classification", "multiclass", "regression"] = "regression"
TIMEZONE = "UTC"


class Record(BaseModel):
    """Ten numbers, of which five matter, and where they were measured."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    region: Literal["north", "south"]
    x0: float = Field(ge=0, le=1)
    x1: float = Field(ge=0, le=1)
    x2: float = Field(ge=0, le=1)
    x3: float = Field(ge=0, le=1)
    x4: float | None = Field(ge=0, le=1)
    x5: float = Field(ge=0, le=1)
    x6: float = Field(ge=0, le=1)
    x7: float = Field(ge=0, le=1)
    x8: float = Field(ge=0, le=1)
    x9: float = Field(ge=0, le=1)


TARGET = "y"
ID = "row_id"
ENTITY = "sensor_id"
EVENT_TIME = "measured_at"
LABEL_TIME = "known_at"
SLICES = ("region",)

PRIMARY_METRIC = "rmse"
GATE: dict[str, Any] = {
    "holdout_days": 14,
    "maturity_hours": 25,
    "min_rows": 500,
    "limits": {"rmse": (None, 2.0), "r2": (0.8, None)},
    "min_gain": 1e-6,
    "max_harm": 0.05,
    "slice_min_rows": 200,
    "slice_max_harm": 0.1,
}
COSTS = {"too_high": 1.0}
TRUSTED_TYPES = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
SEARCH: dict[str, list[Any]] = {"model__max_iter": [100, 200]}


def load(until: pd.Timestamp, source: Path | None = None, cache: Path | None = None) -> pd.DataFrame:
    """All rows measured before `until`, with the outcomes known before `until`."""
    import numpy as np
    import pandas as pd
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(n_samples=20_000, noise=1.0, random_state=0)
    number = np.arange(len(y))
    rows = pd.DataFrame(x, columns=[f"x{i}" for i in range(10)])
    rows.insert(0, "region", np.where(number % 7 < 2, "south", "north"))
    rows["region"] = rows["region"].astype("str")
    rows.loc[number % 50 == 0, "x4"] = np.nan
    rows[ID] = [f"row-{i}" for i in number]
    rows[ENTITY] = [f"sensor-{i % 500}" for i in number]
    rows[EVENT_TIME] = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(number * 200 / len(y), unit="D").round(
        "s"
    )
    rows[LABEL_TIME] = rows[EVENT_TIME] + pd.Timedelta("1D")
    effect = 10.0  # of x3, in what `make_friedman1` simulates
    rows[TARGET] = y + effect * rows["x3"] * (rows[EVENT_TIME] >= pd.Timestamp("2024-06-01", tz="UTC"))
    rows = rows[rows[EVENT_TIME] < until].reset_index(drop=True)
    rows.loc[rows[LABEL_TIME] >= until, [TARGET]] = np.nan
    return rows


def fingerprint(source: Path | None = None) -> str:
    """The simulation never changes."""
    return "make_friedman1-20000-0-changed-in-june"


def build_model() -> Pipeline:
    """Gradient-boosted trees on the numbers and the region's code."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encode = ColumnTransformer([("codes", codes, ["region"])], remainder="passthrough")
    return Pipeline(
        [("encode", encode), ("model", HistGradientBoostingRegressor(early_stopping=False, random_state=0))]
    )


def evaluate(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Scores of predicted values `p` against outcomes `y`, both of shape (n,)."""
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "rmse": float(root_mean_squared_error(y, p)),
        "mae": float(mean_absolute_error(y, p)),
        "r2": float(r2_score(y, p)),
    }


def choose_action(p: float) -> str:
    """Act on high values."""
    return "high" if p >= 20 else "normal"
