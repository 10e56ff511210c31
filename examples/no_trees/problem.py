"""Will this customer cancel within three days?

The canvas
----------
*Who decides what, by when?*  Each night customer care decides whom to call the next day.
*What do we predict?*  The probability that the customer cancels within three days.
*What does an error cost?*  A customer who leaves without a call costs five times as much as a needless call.
*Who may be harmed?*  Customers of a rare plan, if the model is worse for them.
*When is the truth known?*  On the day of the cancellation, or after three days.
"""

# The data is made by a seeded generator: few rows, 60 a day. From CHANGED on a competitor takes customers with a monthly
# plan: the same inputs have other outcomes. MODEL chooses one of four models that the project does not compile; the service
# then scores with the library of the model itself.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline

NAME = "no_trees"
TASK: Literal["classification", "multiclass", "regression"] = "classification"
TIMEZONE = "UTC"
MODEL = "logistic"  # or "forest", "calibrated", or "lightgbm", which needs the extra of that name
START, DAYS, ROWS_A_DAY, CHANGED = "2024-01-01", 210, 60, "2024-06-03"


class Record(BaseModel):
    """What is known of a customer at night."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    plan: Literal["monthly", "yearly", "family"]
    channel: str = Field(pattern=r"^[a-z]{2,12}$", description="where the customer came from")
    months: float = Field(ge=0, le=240, description="since the customer came")
    visits: float | None = Field(ge=0, le=500, description="of the last 30 days")
    complaints: float = Field(ge=0, le=50, description="of the last 30 days")


TARGET = "cancelled"
ID = "question_id"  # a customer on a day
ENTITY = "customer_id"
EVENT_TIME = "asked_at"
LABEL_TIME = "known_at"
SLICES = ("plan",)

PRIMARY_METRIC = "log_loss"
GATE: dict[str, Any] = {
    "holdout_days": 14,
    "maturity_hours": 73,
    "min_rows": 500,
    "limits": {"log_loss": (None, 0.7), "roc_auc": (0.6, 0.95), "calibration": (0.5, 2.0)},
    "min_gain": 1e-6,
    "max_harm": 0.01,
    "slice_min_rows": 150,
    "slice_max_harm": 0.04,
}
COSTS = {"missed_cancellation": 50.0, "needless_call": 10.0}
TRUSTED_TYPES = {
    "logistic": ("numpy.dtype",),  # of the one-hot encoder
    "forest": ("numpy.dtype", "sklearn.tree._tree.Tree"),
    "calibrated": (
        "numpy.dtype",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.model_selection._split.TimeSeriesSplit",
    ),
    "lightgbm": ("numpy.dtype", "collections.OrderedDict", "lightgbm.basic.Booster", "lightgbm.sklearn.LGBMClassifier"),
}[MODEL]
SEARCH: dict[str, list[Any]] = {}
DEMO = {
    "as_of": "2024-03-18",
    "simulate": {"first": "2024-04-15", "last": "2024-07-21", "fault": "visits", "fault_from": "2024-05-06"},
}


def load(until: pd.Timestamp, source: Path | None = None, cache: Path | None = None) -> pd.DataFrame:
    """All questions asked before `until`, with the outcomes known before `until`."""
    import numpy as np
    import pandas as pd

    random, size = np.random.default_rng(0), DAYS * ROWS_A_DAY
    number = np.arange(size)
    day = number // ROWS_A_DAY
    customer = random.integers(0, 4000, size)
    rows = pd.DataFrame(
        {
            "plan": pd.Series(np.array(["monthly", "monthly", "yearly", "family"])[customer % 4], dtype="str"),
            "channel": pd.Series(np.array(["shop", "web", "friend"])[customer % 3], dtype="str"),
            "months": (customer * 7 % 60 + day / 30).round(1),
            "visits": random.poisson(40 + 20 * (customer % 5), size).astype("float64"),
            "complaints": random.poisson(0.4, size).astype("float64"),
        }
    )
    monthly, late = (rows["plan"] == "monthly").to_numpy(), day >= (pd.Timestamp(CHANGED) - pd.Timestamp(START)).days
    odds = 0.3 + 0.8 * monthly - 0.03 * rows["visits"] + 0.9 * rows["complaints"] - 0.01 * rows["months"]
    leaves = random.random(size) < 1 / (1 + np.exp(-(odds + 1.5 * (monthly & late))))
    rows.loc[number % 40 == 0, "visits"] = np.nan
    rows[TARGET] = leaves.astype("float64")
    rows[ID] = [f"question-{i}" for i in number]
    rows[ENTITY] = [f"customer-{i}" for i in customer]
    rows[EVENT_TIME] = pd.Timestamp(START, tz="UTC") + pd.to_timedelta(number / ROWS_A_DAY, unit="D").round("s")
    rows[LABEL_TIME] = rows[EVENT_TIME] + pd.to_timedelta(np.where(leaves, 1 + number % 2, 3), unit="D")
    rows = rows[rows[EVENT_TIME] < until].reset_index(drop=True)
    return rows.assign(**{TARGET: rows[TARGET].where(rows[LABEL_TIME] < until)})


def fingerprint(source: Path | None = None) -> str:
    """The generator always makes the same rows."""
    return f"customers-{START}-{DAYS}-{ROWS_A_DAY}-0"


def build_model() -> Pipeline:
    """One column for each value of a text, missing numbers filled in, and one of four models."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import TimeSeriesSplit
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    texts = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    encode = ColumnTransformer(
        [("texts", texts, ["plan", "channel"]), ("numbers", numbers, ["months", "visits", "complaints"])]
    )
    if MODEL == "lightgbm":
        from lightgbm import LGBMClassifier

        # One thread and one way to sum up: equal rows give an equal model.
        boosted = LGBMClassifier(n_estimators=100, learning_rate=0.05, num_leaves=7, n_jobs=1, verbose=-1)
        boosted.set_params(random_state=0, deterministic=True, force_row_wise=True)
        return Pipeline([("encode", encode), ("model", boosted)])
    models = {
        "logistic": LogisticRegression(max_iter=1000),
        "forest": RandomForestClassifier(100, min_samples_leaf=20, random_state=0),
        # In time order: a fold drawn at random would calibrate on rows between those it was fitted on.
        "calibrated": CalibratedClassifierCV(LogisticRegression(max_iter=1000), cv=TimeSeriesSplit(4)),
    }
    return Pipeline([("encode", encode), ("model", models[MODEL])])


def evaluate(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Scores of probabilities `p` against outcomes `y` (both of shape (n,)); AUC is NaN for one class."""
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    both = 0 < y.sum() < len(y)
    return {
        "log_loss": float(log_loss(y, p, labels=[0, 1])),
        "roc_auc": float(roc_auc_score(y, p)) if both else float("nan"),
        "brier": float(brier_score_loss(y, p)),
        "calibration": float(y.sum() / p.sum()),
    }


def choose_action(p: float) -> str:
    """Call when silence would cost more than a needless call."""
    threshold = COSTS["needless_call"] / (COSTS["needless_call"] + COSTS["missed_cancellation"])
    return "call" if p >= threshold else "nothing"
