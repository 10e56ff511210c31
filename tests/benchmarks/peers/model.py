"""The same pipeline for every peer, read from the bundle that we serve; or, to compare servers alone, our engine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["PEER_BUNDLE"])


def pipeline() -> Any:
    """The scikit-learn pipeline."""
    import skops.io

    return skops.io.load(FOLDER / "model.skops", trusted=json.loads(os.environ["PEER_TRUSTED"]))


def predictor() -> Any:
    """From records to scores: pandas and scikit-learn, as anybody would write it, or the compiled trees."""
    if os.environ.get("PEER_ENGINE") == "compiled":
        from level1_pipeline.bundle.tree_scorer import Scorer

        return Scorer(json.loads((FOLDER / "compiled.json").read_text())).predict
    import pandas as pd

    model, types = pipeline(), json.loads(os.environ["PEER_TYPES"])

    def predict(records: list[dict[str, Any]]) -> Any:
        rows = pd.DataFrame(records).astype(types)
        return model.predict_proba(rows)[:, 1] if hasattr(model, "predict_proba") else model.predict(rows)

    return predict
