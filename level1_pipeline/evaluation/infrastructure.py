"""The infrastructure blessing: does the bundle load in the serving code, repeat the model's numbers, and is it fast?"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from level1_pipeline import schema
from level1_pipeline.bundle.load import GOLDEN_TOLERANCE, Bundle, load_bundle
from level1_pipeline.evaluation.gate import Check, judge, rules


def fit_for_service(folder: Path, rows: pd.DataFrame, expected: np.ndarray) -> list[Check]:
    """The infrastructure blessing: the bundle loads in the serving code and gives the trained model's numbers."""
    try:
        served = load_bundle(folder)
        served.pipeline  # noqa: B018  (the compiled numbers serve, but their source must be readable, too)
        records = schema.records(rows.head(1000))
        served.predict(records[:1])
        start = time.perf_counter()
        many = served.predict(records)
        seconds = time.perf_counter() - start
    except Exception as error:  # whatever a candidate raises, it is not served
        return [Check("bundle", "error", f"{type(error).__name__}: {error}")]
    difference = float(np.abs(many - expected[: len(many)]).max())
    return [
        judge(
            "bundle",
            difference <= GOLDEN_TOLERANCE,
            f"largest difference to the trained model over {len(many):,} rows: {difference:.2g}; {_engine(served)}",
        ),
        judge(
            "speed",
            seconds <= rules().max_seconds_1000_rows,
            f"{seconds:.2f} s for {len(many):,} rows (allowed: {rules().max_seconds_1000_rows} s)",
        ),
    ]


def _engine(served: Bundle) -> str:
    engine = served.manifest["engine"]
    return "compiled" if served.scorer else f"served by scikit-learn, because {engine['why']}"
