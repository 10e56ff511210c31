"""A BentoML service."""

from __future__ import annotations

from typing import Any

import bentoml

from tests.benchmarks.peers.model import predictor


@bentoml.service(workers=1)
class Peer:
    """One model."""

    def __init__(self) -> None:
        self.score = predictor()

    @bentoml.api
    def predict(self, records: list[dict[str, Any]]) -> list[float]:
        return self.score(records).tolist()
