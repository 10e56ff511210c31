"""What most people write: FastAPI, pydantic, pandas and scikit-learn. And a route that does nothing at all."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from level1_pipeline.problem import Record


def bare() -> FastAPI:
    """The ceiling of the framework: no body is read, nothing is computed."""
    app = FastAPI()

    @app.post("/predict")
    async def predict() -> dict[str, bool]:
        return {"ok": True}

    return app


def usual() -> FastAPI:
    """Checked records, one prediction each."""
    from tests.benchmarks.peers.model import predictor

    app, score = FastAPI(), predictor()

    @app.post("/predict")
    def predict(records: list[Record]) -> dict[str, Any]:
        return {"scores": score([record.model_dump() for record in records]).tolist()}

    return app
