"""How many bikes will be taken at a station in an hour that begins in one hour?

The canvas
----------
*Who decides what, by when?*  One hour before each hour begins, the night and day shift decides whether to bring bikes.
*What do we predict?*  The number of bikes that are taken in that hour.
*What does an error cost?*  A bike too few is a customer lost; a bike too many is a ride of the van.
*When is the truth known?*  Five minutes after the end of the hour.
"""

# The data is made by a seeded generator: 420 days of 24 rows. From CHANGED on, a new bike path brings more people at the
# hours of commuting: the same inputs have other outcomes.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline

NAME = "demand_by_the_hour"
TASK: Literal["classification", "multiclass", "regression"] = "regression"
TIMEZONE = "Europe/Berlin"
START, DAYS, CHANGED = "2023-01-01", 420, "2023-11-06"


class Record(BaseModel):
    """What is known one hour before the hour begins."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    hour: float = Field(ge=0, le=23, description="local hour of the day")
    weekday: float = Field(ge=0, le=6, description="0 is Monday")
    temperature: float | None = Field(ge=-30, le=50, description="°C, of the forecast")
    taken_3_hours_before: float | None = Field(ge=0, le=2000, description="bikes, in the newest hour that is counted")
    taken_a_day_before: float | None = Field(ge=0, le=2000, description="bikes, in the same hour")
    taken_a_week_before: float | None = Field(ge=0, le=2000, description="bikes, in the same hour")
    part_of_day: Literal["night", "morning", "noon", "evening"]


TARGET = "taken"
ID = "hour_id"
ENTITY = "hour_id"  # nothing has to stay in one arm of a canary; a station would be one entity for all rows
EVENT_TIME = "decision_time"
LABEL_TIME = "counted_at"
SLICES = ("part_of_day",)

PRIMARY_METRIC = "rmse"
GATE: dict[str, Any] = {
    "holdout_days": 21,
    "maturity_hours": 3,  # two hours to the end of the hour, and five minutes
    "min_rows": 400,  # 24 rows a day: the holdout has 504
    "limits": {"rmse": (None, 20.0), "r2": (0.7, None)},
    "min_gain": 1e-6,
    "max_harm": 0.5,
    "slice_min_rows": 100,
    "slice_max_harm": 2.0,
    "max_single_feature_r2": 0.97,  # the same hour a week before has 0.91, and is known in time
}
COSTS = {"too_few": 3.0, "too_many": 1.0}  # euros a bike
TRUSTED_TYPES = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
SEARCH: dict[str, list[Any]] = {"model__max_iter": [60, 120]}
DEMO = {  # 24 rows a day: a rollout needs weeks, so the days are many
    "as_of": "2023-08-07",
    "simulate": {"first": "2023-09-04", "last": "2024-01-28", "fault_from": "2023-10-02", "fault_days": 5},
}


def load(until: pd.Timestamp, source: Path | None = None, cache: Path | None = None) -> pd.DataFrame:
    """All hours decided before `until`, with the counts known before `until`.

    The decision about the hour that begins at H is made at H - 1 h. The count of an hour is there five minutes after its
    end. So at H - 1 h the newest hour that is counted is the one that began at H - 3 h: the one that began at H - 2 h ends
    only now.
    """
    import numpy as np
    import pandas as pd

    rows = _hours()
    begin, taken = rows.pop("begin"), rows[TARGET]
    rows[EVENT_TIME] = begin - pd.Timedelta("1h")
    rows[LABEL_TIME] = begin + pd.Timedelta("1h5min")
    for name, hours in (("3_hours", 3), ("a_day", 24), ("a_week", 168)):
        rows[f"taken_{name}_before"] = taken.shift(hours)
    rows[ID] = begin.dt.strftime("hour-%Y-%m-%dT%HZ")
    rows = rows[rows[EVENT_TIME] < until].reset_index(drop=True)
    return rows.assign(**{TARGET: rows[TARGET].where(rows[LABEL_TIME] < until, np.nan)})[
        [*Record.model_fields, TARGET, ID, EVENT_TIME, LABEL_TIME]
    ]


def _hours() -> pd.DataFrame:
    """Each hour with what was taken in it."""
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(0)
    begin = pd.Series(pd.date_range(START, periods=24 * DAYS, freq="h", tz=TIMEZONE))
    local, day = begin.dt, np.arange(24 * DAYS) / 24
    hour, weekday = local.hour.to_numpy("float64"), local.weekday.to_numpy("float64")
    season = 10 - 9 * np.cos(2 * np.pi * (day - 20) / 365.25)
    weather = np.repeat(random.normal(0, 4, DAYS), 24)  # of a day, all day long
    temperature = season + weather + 3 * np.sin(2 * np.pi * (hour - 9) / 24)
    commuting = (np.isin(hour, (7, 8, 16, 17, 18)) & (weekday < 5)).astype("float64")
    daylight = np.clip(np.sin(np.pi * (hour - 5) / 17), 0, None)
    changed = (begin >= pd.Timestamp(CHANGED, tz=TIMEZONE)).to_numpy()
    mean = 2 + 25 * daylight * (1 + 0.03 * temperature).clip(0.2) + commuting * np.where(changed, 85, 40)
    rows = pd.DataFrame({"hour": hour, "weekday": weekday, "temperature": temperature.round(1).clip(-30, 50)})
    rows.loc[np.arange(len(rows)) % 97 == 0, "temperature"] = np.nan  # no forecast came
    parts = np.select([hour < 6, hour < 11, hour < 16], ["night", "morning", "noon"], "evening")
    rows["part_of_day"] = pd.Series(parts, dtype="str")
    rows[TARGET] = random.poisson(mean).astype("float64")
    rows["begin"] = begin.dt.tz_convert("UTC")
    return rows


def fingerprint(source: Path | None = None) -> str:
    """The generator always makes the same rows."""
    return f"bikes-{START}-{DAYS}-0"


def build_model() -> Pipeline:
    """Gradient-boosted trees on the numbers and the code of the part of the day."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encode = ColumnTransformer([("codes", codes, ["part_of_day"])], remainder="passthrough")
    trees = HistGradientBoostingRegressor(max_iter=100, early_stopping=False, random_state=0)
    return Pipeline([("encode", encode), ("model", trees)])


def evaluate(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Scores of predicted counts `p` against counts `y`, both of shape (n,); one row has no r2."""
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    return {
        "rmse": float(root_mean_squared_error(y, p)),
        "mae": float(mean_absolute_error(y, p)),
        "r2": float(r2_score(y, p)) if len(y) > 1 else float("nan"),
    }


def choose_action(p: float) -> str:
    """Bring bikes when more are wanted than the station holds."""
    return "bring bikes" if p >= 60 else "nothing"
