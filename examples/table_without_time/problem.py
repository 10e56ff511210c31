"""Is this lump malignant?  The breast cancer table of scikit-learn: 569 rows, and nothing says when they were made.

The canvas
----------
*Who decides what, by when?*  A doctor decides after the measurement whether a sample is looked at again.
*What do we predict?*  The probability that the sample is malignant.
*What does an error cost?*  A malignant sample that nobody looks at again costs far more than a second look for nothing.
*When is the truth known?*  The table does not say; we assume a day.
"""

# The table has no times, so it gets some, and they are drawn: ROWS_A_DAY rows a day in an order that is drawn with a
# seed. Then the newest days are a sample of all rows, which is the honest holdout for rows without an order. Nothing that
# is said about time holds: see README.md.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline

NAME = "table_without_time"
TASK: Literal["classification", "multiclass", "regression"] = "classification"
TIMEZONE = "UTC"
START, ROWS_A_DAY = "2024-01-01", 8
FIRST_ROWS = 569  # of the table when its times were drawn


class Record(BaseModel):
    """Means over the cells of a sample."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    mean_radius: float = Field(ge=0, le=50)
    mean_texture: float = Field(ge=0, le=60)
    mean_smoothness: float = Field(ge=0, le=1)
    mean_compactness: float = Field(ge=0, le=1)
    mean_concavity: float = Field(ge=0, le=1)
    mean_symmetry: float = Field(ge=0, le=1)
    mean_fractal_dimension: float = Field(ge=0, le=1)
    radius_error: float = Field(ge=0, le=10)
    texture_error: float = Field(ge=0, le=10)


TARGET = "malignant"
ID = "sample_id"
ENTITY = "sample_id"
EVENT_TIME = "measured_at"
LABEL_TIME = "known_at"
SLICES: tuple[str, ...] = ()

PRIMARY_METRIC = "log_loss"
GATE: dict[str, Any] = {
    "holdout_days": 21,
    "maturity_hours": 25,
    "min_rows": 150,
    "limits": {"log_loss": (None, 0.4), "roc_auc": (0.9, 0.9999), "calibration": (0.6, 1.7)},
    "min_gain": 1e-6,
    "max_harm": 0.05,
    "slice_min_rows": 100,
    "slice_max_harm": 0.1,
    "max_single_feature_auc": 0.98,  # the radius alone has 0.94, and is no leak
}
COSTS = {"missed_malignant": 500.0, "needless_look": 20.0}
TRUSTED_TYPES: tuple[str, ...] = ()
DEMO = {"as_of": "2024-02-26"}  # the few rows are nearly all needed for training and holdout
SEARCH: dict[str, list[Any]] = {"model__C": [0.1, 1.0]}


def load(until: pd.Timestamp, source: Path | None = None, cache: Path | None = None) -> pd.DataFrame:
    """All samples whose drawn time lies before `until`, with the outcomes known before `until`."""
    import numpy as np
    import pandas as pd
    from sklearn.datasets import load_breast_cancer

    table = load_breast_cancer(as_frame=True)
    rows = table.data.rename(columns=lambda name: name.replace(" ", "_"))[list(Record.model_fields)]
    rows[TARGET] = 1.0 - table.target  # the table says 1 for benign
    rows[ID] = [f"sample-{number}" for number in range(len(rows))]
    # Rows that are appended later get later days: those that a champion has learned stay before its holdout.
    place = np.append(np.random.default_rng(0).permutation(FIRST_ROWS), np.arange(FIRST_ROWS, len(rows)))
    rows[EVENT_TIME] = pd.Timestamp(START, tz="UTC") + pd.to_timedelta(place / ROWS_A_DAY, unit="D").round("s")
    rows[LABEL_TIME] = rows[EVENT_TIME] + pd.Timedelta("1D")
    rows = rows[rows[EVENT_TIME] < until].sort_values(EVENT_TIME).reset_index(drop=True)
    rows.loc[rows[LABEL_TIME] >= until, [TARGET]] = np.nan
    return rows


def fingerprint(source: Path | None = None) -> str:
    """The table never changes; its times do, when these two do."""
    return f"breast-cancer-{START}-{ROWS_A_DAY}-0"


def build_model() -> Pipeline:
    """A logistic regression: 569 rows are few."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    return Pipeline([("scale", StandardScaler()), ("model", LogisticRegression(C=1.0, max_iter=1000))])


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
    """Look again when a miss would cost more than a look for nothing."""
    threshold = COSTS["needless_look"] / (COSTS["needless_look"] + COSTS["missed_malignant"])
    return "look again" if p >= threshold else "done"
