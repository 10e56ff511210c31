"""Will this flight arrive 15 minutes late or more?

The model gives the probability that a flight from New York arrives 15 minutes late or more, as it can be known one
hour before the scheduled departure: from the timetable, the weather, and the delays of the last two hours. It
knows the airports EWR, JFK and LGA, and was made from flights of the year 2013.

The canvas
----------
*Who decides what, by when?*  One hour before each scheduled departure from New York the connections
desk decides whether to warn the passengers of that flight (and hold a seat on a later connection).
*What do we predict?*  The probability that the flight arrives 15 minutes late or more, which is the
US Bureau of Transportation Statistics' own definition of a late arrival.
*What does an error cost?*  A late flight without a warning costs three times as much as a warning for
nothing. So we warn from a probability of one quarter on.
*Who may be harmed?*  Travellers of small carriers and of one airport, if the model is worse for them:
airports and carriers are judged one by one, and the gaps between them stand in the model card.
*When is the truth known?*  At arrival: usually within hours, after 33 hours at the latest, and never
for flights that were cancelled or diverted.
"""

# THE ONE FILE THAT A CLONER EDITS: what we predict, from what, and how good is good enough.
# Change the values and the bodies, keep the names. The text above is what users of the model read, in MLflow and in
# the model card. Joins and aggregates belong to `load`; encoding and imputation belong to `build_model`, so that they
# travel with the model.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline

NAME = "flight_delay"
TASK: Literal["classification", "multiclass", "regression"] = "classification"
TIMEZONE = "America/New_York"  # a day, and "as of D", begin at 00:00 here


class Record(BaseModel):
    """The inputs of the model, one bounded field each: what the API takes, what the data checks
    expect, and the columns whose drift is watched. `None` is a missing value."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    carrier: str = Field(pattern=r"^[A-Z0-9]{2}$", description="IATA code of the airline")
    origin: Literal["EWR", "JFK", "LGA"] = Field(description="airport of departure")
    dest: str = Field(pattern=r"^[A-Z0-9]{3}$", description="IATA code of the destination")
    distance: float = Field(ge=10, le=6000, description="miles")
    departure_minute: float = Field(ge=0, le=1439, description="scheduled departure, minute of the local day")
    weekday: float = Field(ge=0, le=6, description="of the departure, 0 is Monday")
    scheduled_minutes: float = Field(ge=10, le=1440, description="scheduled departure to scheduled arrival")
    temp: float | None = Field(ge=-40, le=130, description="°F")
    dewp: float | None = Field(ge=-60, le=100, description="dew point, °F")
    humid: float | None = Field(ge=0, le=100, description="relative humidity, %")
    wind_dir: float | None = Field(ge=0, le=360, description="degrees")
    wind_speed: float | None = Field(ge=0, le=150, description="mph")
    wind_gust: float | None = Field(ge=0, le=200, description="mph, missing when there is none")
    precip: float | None = Field(ge=0, le=10, description="inches in the hour")
    pressure: float | None = Field(ge=870, le=1085, description="hPa at sea level")
    visib: float | None = Field(ge=0, le=10, description="visibility, miles")
    recent_delay: float | None = Field(
        ge=-10, le=180, description="mean delay of the last two hours' departures here, minutes"
    )
    recent_departures: float = Field(ge=0, le=200, description="flights that left here in the last two hours")


TARGET = "late"
ID = "flight_id"  # one prediction: carrier-flight-origin-date
ENTITY = "entity_id"  # what keeps its arm in a canary: carrier and flight number
EVENT_TIME = "decision_time"  # nothing learned after it may be an input
LABEL_TIME = "label_time"  # when the outcome is known
SLICES = ("origin", "carrier")

PRIMARY_METRIC = "log_loss"  # lower is better
GATE: dict[str, Any] = {
    "holdout_days": 14,
    "maturity_hours": 37,  # from the decision; the largest lag of a label is 33.7 h
    "min_rows": 1000,
    "limits": {"log_loss": (None, 0.80), "roc_auc": (0.60, 0.95), "calibration": (0.5, 2.0)},
    "min_gain": 1e-6,
    "max_harm": 0.01,  # the non-inferiority margin
    "slice_min_rows": 400,
    "slice_max_harm": 0.03,
    "max_single_feature_auc": 0.85,
}
TRUSTED_LABELS = {  # optional: days whose labels a person has confirmed, and their digest (docs/level1.md, "Wrong labels")
    "first": "2013-01-01",
    "last": "2013-01-14",
    "digest": "615d4b93b933e73ba93a0e862d565a7d17ffc16e26484ffab0b68e68a04daa76",
}
DEMO: dict[str, Any] = {  # optional: days and row of `make demo`; what it does not say follows from the data
    "as_of": "2013-04-01",
    "row": "UA-1545-EWR-2013-04-01",
    "simulate": {
        "first": "2013-05-18",
        "last": "2013-08-09",
        "fault": "temp",
        "fault_from": "2013-05-28",
        "fault_days": 3,
    },
    "year": ("2013-04-01", "2013-12-29"),
}
COSTS = {"missed_late_flight": 60.0, "needless_warning": 20.0}  # US dollars a flight
TRUSTED_TYPES = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)


def load(until: pd.Timestamp, source: Path | None = None, cache: Path | None = None) -> pd.DataFrame:
    """All rows whose EVENT_TIME lies before `until`, with the outcomes known before `until`.

    Args:
        until: aware time; the world as it was then.
        source: folder of the raw files, by default those of the installed data package.
        cache: folder in which prepared rows may be kept.
    """
    from level1_pipeline import flights

    return flights.load(until, source, cache).drop(columns="scheduled_departure")


def fingerprint(source: Path | None = None) -> str:
    """A digest of everything that `load` reads: equal fingerprints mean equal rows."""
    from level1_pipeline import flights

    return flights.digest(source)


def build_model() -> Pipeline:
    """An unfitted pipeline from the Record's columns to a probability.

    Early stopping stays off because its validation part is drawn at random, across time; the number
    of iterations was chosen by time-ordered validation (`train --tune`).
    """
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    trees = HistGradientBoostingClassifier(max_iter=120, learning_rate=0.08, early_stopping=False, random_state=0)
    encode = ColumnTransformer([("codes", codes, ["carrier", "origin", "dest"])], remainder="passthrough")
    return Pipeline([("encode", encode), ("model", trees)])


SEARCH: dict[str, list[Any]] = {
    "model__max_iter": [60, 90, 120, 160],
    "model__learning_rate": [0.05, 0.08],
    "model__max_leaf_nodes": [15, 31],
}


def evaluate(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Scores of probabilities `p` against outcomes `y` (both of shape (n,)); AUC is NaN for one class."""
    from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

    both = 0 < y.sum() < len(y)
    return {
        "log_loss": float(log_loss(y, p, labels=[0, 1])),
        "roc_auc": float(roc_auc_score(y, p)) if both else float("nan"),
        "brier": float(brier_score_loss(y, p)),
        "calibration": float(y.sum() / p.sum()),  # observed / expected
    }


def choose_action(p: float) -> str:
    """Warn when the expected cost of silence exceeds that of a needless warning."""
    threshold = COSTS["needless_warning"] / (COSTS["needless_warning"] + COSTS["missed_late_flight"])
    return "warn" if p >= threshold else "stay silent"
