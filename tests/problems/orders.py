"""A small problem with an input of each kind: will this order be sent back?

6,000 orders over 100 days, made from a seed. Tests put it in the place of problem.py, and plant mistakes in it.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline

NAME = "orders"
TASK: Literal["classification", "multiclass", "regression"] = "classification"
TIMEZONE = "UTC"


class Record(BaseModel):
    """What is known when the order is placed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    shop: Literal["north", "south"]
    items: int = Field(ge=1, le=20)
    returned_before: int | None = Field(ge=0, le=50)
    gift: bool
    member_since: date | None = Field(ge=date(2020, 1, 1))
    price: float = Field(ge=0, le=1000)


TARGET = "sent_back"
ID = "order_id"
ENTITY = "customer_id"
EVENT_TIME = "placed_at"
LABEL_TIME = "known_at"
SLICES = ("shop", "gift")

PRIMARY_METRIC = "log_loss"
GATE: dict[str, Any] = {
    "holdout_days": 14,
    "maturity_hours": 49,
    "min_rows": 300,
    "limits": {"log_loss": (None, 0.69), "roc_auc": (0.55, 0.98)},
    "min_gain": 1e-6,
    "max_harm": 0.05,
    "slice_min_rows": 200,
    "slice_max_harm": 0.2,
}
COSTS = {"unexpected_return": 10.0, "needless_call": 4.0}
TRUSTED_TYPES = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
SEARCH: dict[str, list[Any]] = {"model__max_iter": [20, 40]}


def load(until: pd.Timestamp, source: Path | None = None, cache: Path | None = None) -> pd.DataFrame:
    """All orders placed before `until`, with what is known of them before `until`."""
    import numpy as np
    import pandas as pd

    draws, n = np.random.default_rng(0), 6000
    number = np.arange(n)
    rows = pd.DataFrame({"shop": np.where(draws.random(n) < 0.4, "south", "north")})
    rows["items"] = draws.integers(1, 9, n)  # a column of int64
    rows["returned_before"] = pd.Series(draws.poisson(1.5, n), dtype="Int64").mask(draws.random(n) < 0.1)
    rows["gift"] = draws.random(n) < 0.3
    days = pd.to_timedelta(draws.integers(0, 1500, n), unit="D")
    rows["member_since"] = (pd.Timestamp("2020-01-01") + days).where(draws.random(n) < 0.8)
    rows["price"] = draws.gamma(2, 30, n).clip(0, 1000).round(2)
    score = 0.4 * rows["returned_before"].fillna(1).astype("float64") - 1.5
    score += ((rows["items"] > 4) ^ rows["gift"]) * 2.0  # which no line can say
    score += (rows["member_since"] > pd.Timestamp("2022-06-01")) * 0.8
    rows[ID] = [f"order-{i}" for i in number]
    rows[ENTITY] = [f"customer-{i % 700}" for i in number]
    rows[EVENT_TIME] = pd.Timestamp("2024-06-01", tz="UTC") + pd.to_timedelta(number * 24, unit="min")
    rows[LABEL_TIME] = rows[EVENT_TIME] + pd.Timedelta("2D")
    known = pd.Series(draws.random(n) < 1 / (1 + np.exp(-score)))
    rows = rows.assign(**{TARGET: known.astype("boolean")})[lambda table: table[EVENT_TIME] < until]
    rows[TARGET] = rows[TARGET].mask(rows[LABEL_TIME] >= until)
    return rows.reset_index(drop=True)


def fingerprint(source: Path | None = None) -> str:
    """The orders never change."""
    return "orders-6000-0"


def build_model() -> Pipeline:
    """Gradient-boosted trees; a truth value is 0 or 1 to them, and a date is its number of days."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encode = ColumnTransformer([("codes", codes, ["shop"])], remainder="passthrough")
    trees = HistGradientBoostingClassifier(max_iter=40, early_stopping=False, random_state=0)
    return Pipeline([("encode", encode), ("model", trees)])


def evaluate(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Scores of probabilities `p` against outcomes `y`, both of shape (n,)."""
    from sklearn.metrics import log_loss, roc_auc_score

    both = 0 < y.sum() < len(y)
    return {
        "log_loss": float(log_loss(y, p, labels=[0, 1])),
        "roc_auc": float(roc_auc_score(y, p)) if both else float("nan"),
    }


def choose_action(p: float) -> str:
    """Call the customer where a return is likely enough."""
    threshold = COSTS["needless_call"] / (COSTS["needless_call"] + COSTS["unexpected_return"])
    return "call" if p >= threshold else "wait"
