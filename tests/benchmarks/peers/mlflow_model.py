"""Save the pipeline as an MLflow model, in the folder named on the command line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Save it with a signature, as the documentation says."""
    import mlflow
    import pandas as pd

    from tests.benchmarks.peers.model import FOLDER, pipeline

    model, golden = pipeline(), json.loads((FOLDER / "golden.json").read_text())
    rows = pd.DataFrame(golden["records"])
    method = "predict_proba" if hasattr(model, "predict_proba") else "predict"
    signature = mlflow.models.infer_signature(rows, getattr(model, method)(rows))
    mlflow.sklearn.save_model(
        model,
        Path(sys.argv[1]),
        signature=signature,
        pyfunc_predict_fn=method,
        pip_requirements=["scikit-learn"],
        skops_trusted_types=json.loads(os.environ["PEER_TRUSTED"]),
    )


if __name__ == "__main__":
    main()
