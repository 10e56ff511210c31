"""The service and its callers in one process, without HTTP: the simulated year needs a hundredth of the time.

A day ends when every copy for a shadow is scored, every row is logged and the new route is followed; no thread and no
clock of the machine has a say, so the same days give the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import TypeAdapter

from level1_pipeline.settings import Settings
from level2_cicd.simulation.replay import Traffic
from serving.errors import Refusal
from serving.schemas import OutcomeRequest, PredictRequest
from serving.service.service import Service

PREDICT, OUTCOMES = TypeAdapter(list[PredictRequest]), TypeAdapter(list[OutcomeRequest])


class DirectTraffic(Traffic):
    """What callers send, handed to a service by a function call. The same bytes are checked as over HTTP."""

    def __init__(self, service: Service):
        super().__init__("http://in-process")
        self._service = service

    def settle(self) -> None:
        """Finish what the service does behind its answers, and follow the route."""
        self._service.shadow.finish(float("inf"))
        self._service.log.flush()
        self._service.hot_swap.look()

    def _post(self, path: str, body: Any) -> bool:
        content = json.dumps(body)
        try:
            if path == "predict":
                self._service.predict(PREDICT.validate_json(content))
            else:
                self._service.ingest(OUTCOMES.validate_json(content))
        except (Refusal, ValueError) as refusal:
            self.reasons.append(f"{path}: {refusal}")
            return False
        return True


@contextmanager
def service(settings: Settings) -> Iterator[DirectTraffic]:
    """A service that follows the route of a home, with its callers."""
    held = Service(settings)
    held.hot_swap.look()
    traffic = DirectTraffic(held)
    try:
        yield traffic
        traffic.settle()
    finally:
        held.stop()
