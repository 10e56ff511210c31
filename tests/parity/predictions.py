"""Print what a model trained on real rows says about others, to the last bit: `python -m tests.parity.predictions`."""

from __future__ import annotations

import json

import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.steps.fit import fit_model

ROWS = 6000


def predictions() -> list[str]:
    """Predictions for 1,000 rows by a model of the 5,000 before them, as hexadecimal floats."""
    rows = problem.load(pd.Timestamp("2100-01-01", tz="UTC"))
    rows = rows[rows[problem.TARGET].notna()].head(ROWS)
    model = fit_model(rows.head(5000))
    return [float(p).hex() for p in predict(model, rows.tail(1000)[schema.names()])]


if __name__ == "__main__":
    print(json.dumps(predictions()))
