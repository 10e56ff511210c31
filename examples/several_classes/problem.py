"""Which team will solve this ticket?

The canvas
----------
*Who decides what, by when?*  When a ticket comes in, the desk sends it to a team, or has a person read it first.
*What do we predict?*  For each of the three teams the probability that it will solve the ticket.
*What does an error cost?*  A ticket at the wrong team costs 12 euros, one that a person reads first costs 5. So a ticket goes
to the likeliest team where a wrong one would cost less than that on average.
*Who may be harmed?*  Customers of a rare product, and those whose tickets belong to the smallest team.
*When is the truth known?*  When the ticket is solved, a day later.
"""

# The data is made by a seeded generator: 120 rows a day for 200 days. From CHANGED on a page of advice helps customers
# who see errors, so that fewer of them need the technical team: the same inputs have other outcomes.

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline

NAME = "several_classes"
TASK: Literal["classification", "multiclass", "regression"] = "multiclass"
CLASSES = ("billing", "sales", "technical")  # the order of a score's parts
TIMEZONE = "UTC"
START, DAYS, ROWS_A_DAY, CHANGED = "2024-01-01", 200, 120, "2024-06-01"


class Record(BaseModel):
    """What is known when the ticket comes in."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    channel: Literal["mail", "phone", "web"]
    product: Literal["app", "card", "loan", "shop"]
    words: float = Field(ge=1, le=2000)
    invoices: float = Field(ge=0, le=100, description="in the last month")
    errors: float | None = Field(ge=0, le=500, description="that the customer saw today; missing by phone")
    age_days: float = Field(ge=0, le=5000, description="since the first purchase")


TARGET = "team"
ID = "ticket_id"
ENTITY = "customer_id"
EVENT_TIME = "came_in_at"
LABEL_TIME = "solved_at"
SLICES = ("channel", "product")

PRIMARY_METRIC = "log_loss"
GATE: dict[str, Any] = {
    "holdout_days": 14,
    "maturity_hours": 25,
    "min_rows": 500,
    "limits": {"log_loss": (None, 0.95), "accuracy": (0.5, None)},
    "min_gain": 1e-6,
    "max_harm": 0.05,
    "slice_min_rows": 200,
    "slice_max_harm": 0.1,
    "max_single_feature_auc": 0.9,  # invoices alone tell billing from the others well, and are known in time
}
COSTS: dict[str, float] = {"wrong_team": 12.0, "read_by_a_person": 5.0}  # euros; for `choose_action` below
TRUSTED_TYPES = ("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",)
SEARCH: dict[str, list[Any]] = {"model__max_iter": [30, 60]}


def load(until: pd.Timestamp, source: Path | None = None, cache: Path | None = None) -> pd.DataFrame:
    """All tickets that came in before `until`, with the teams known before `until`."""
    import numpy as np
    import pandas as pd

    draws, n = np.random.default_rng(0), DAYS * ROWS_A_DAY
    number = np.arange(n)
    rows = pd.DataFrame({"channel": np.array(["mail", "phone", "web"])[draws.choice(3, n, p=[0.5, 0.2, 0.3])]})
    rows["product"] = np.array(["app", "card", "loan", "shop"])[draws.choice(4, n, p=[0.4, 0.3, 0.1, 0.2])]
    rows = rows.astype("str")
    rows["words"] = np.clip(draws.gamma(2, 60, n).round(), 1, 2000)
    rows["invoices"] = draws.poisson(2, n).astype("float64")
    rows["errors"] = pd.Series(draws.poisson(3, n).astype("float64")).mask(rows["channel"] == "phone")
    rows["age_days"] = draws.gamma(1.5, 300, n).clip(0, 5000).round()
    came = pd.Timestamp(START, tz="UTC") + pd.to_timedelta(number / ROWS_A_DAY, unit="D").round("s")
    new, changed = rows["age_days"] < 120, came >= pd.Timestamp(CHANGED, tz="UTC")
    technical = (0.5 - 0.3 * changed) * rows["errors"].fillna(2) - 1.5 + 1.0 * (rows["product"] == "app")
    billing = 0.6 * rows["invoices"] - 1.2 + 0.8 * (rows["product"] == "card")
    sales = 1.8 * new - 0.5 + 0.004 * rows["words"] * (rows["product"] == "loan")
    gumbel = draws.gumbel(size=(n, 3))
    place = (1.4 * np.column_stack([billing, sales, technical]) + gumbel).argmax(axis=1)
    rows[ID] = [f"ticket-{i}" for i in number]
    rows[ENTITY] = [f"customer-{i % 900}" for i in number]
    rows[EVENT_TIME] = came
    rows[LABEL_TIME] = rows[EVENT_TIME] + pd.Timedelta("1D")
    rows[TARGET] = pd.Series(np.array(CLASSES)[place], dtype="str")
    rows = rows[rows[EVENT_TIME] < until].reset_index(drop=True)
    rows[TARGET] = rows[TARGET].mask(rows[LABEL_TIME] >= until)
    return rows


def fingerprint(source: Path | None = None) -> str:
    """The tickets never change."""
    return f"tickets-{START}-{DAYS}-{ROWS_A_DAY}-0"


def build_model() -> Pipeline:
    """Gradient-boosted trees: one tree for each class in each iteration."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    encode = ColumnTransformer([("codes", codes, ["channel", "product"])], remainder="passthrough")
    trees = HistGradientBoostingClassifier(max_iter=40, early_stopping=False, random_state=0)
    return Pipeline([("encode", encode), ("model", trees)])


def evaluate(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Scores of probabilities `p` of shape (n, 3) against outcomes `y` of shape (n,), the places of classes in CLASSES."""
    import numpy as np
    from sklearn.metrics import log_loss

    return {
        "log_loss": float(log_loss(y, p, labels=range(len(CLASSES)))),
        "accuracy": float(np.mean(p.argmax(axis=1) == y)),
    }


def choose_action(p: Sequence[float]) -> str:
    """Send the ticket to the likeliest team, or let a person read it where a wrong team would cost more than that."""
    likeliest = max(range(len(CLASSES)), key=lambda place: p[place])
    wrong = (1 - p[likeliest]) * COSTS["wrong_team"]
    return f"send to {CLASSES[likeliest]}" if wrong <= COSTS["read_by_a_person"] else "let a person read it"
