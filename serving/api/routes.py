"""The HTTP addresses. Each hands a checked body to the service and gives back its answer."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Body, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from level1_pipeline import problem
from level1_pipeline.errors import StoreRefused
from serving.api.security import PAGE_FILES
from serving.errors import Refusal, RefusalBody, not_valid
from serving.schemas import (
    ExplainRequest,
    Explanation,
    Health,
    Ingested,
    ModelCard,
    OutcomeRequest,
    Prediction,
    PredictRequest,
    list_of,
    single_or_list,
)
from serving.service.service import Service

logger = logging.getLogger(__name__)

# The page of the API may load and call nothing but this service.
PAGE_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data:; "
    "script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'"
)

REFUSAL_TEXTS = {
    400: "the body is not JSON",
    401: "no valid key",
    403: "a key of another scope, or without keys a caller from elsewhere",
    409: "an outcome from the future",
    408: "the body did not arrive in time",
    413: "too large a body",
    415: "another content type than application/json",
    422: "a field breaks a rule, or too many rows",
    429: "too many requests",
    500: "the model gave no number, or an error inside",
    503: "no champion yet, or the store fails",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"description": text, "model": RefusalBody} for code, text in REFUSAL_TEXTS.items()
}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Asks = Annotated[Service, Depends(_service)]
# Keys are checked in the middleware, before a body is read; this only documents them.
router = APIRouter(responses=REFUSALS, dependencies=[Depends(HTTPBearer(auto_error=False, description="an API key"))])
probes = APIRouter()


REQUEST: TypeAdapter[PredictRequest] = TypeAdapter(PredictRequest)
REQUESTS: TypeAdapter[list[PredictRequest]] = TypeAdapter(list_of(PredictRequest))
PREDICTION: TypeAdapter[Prediction] = TypeAdapter(Prediction)
PREDICTIONS: TypeAdapter[list[Prediction]] = TypeAdapter(list[Prediction])
SCRAPES = CapacityLimiter(2)  # pages of metrics at once
ROWS_ON_THE_LOOP = 100  # are scored between two other requests; more go to a thread


async def answer(service: Service, raw: bytes) -> bytes:
    """The answer of the middleware to POST /predict, past FastAPI: pydantic checks the bytes of the body and writes those
    of the answer. A compiled model takes microseconds, so it scores right here; scikit-learn scores on a thread."""
    several = raw.lstrip()[:1] == b"["
    try:
        requests = REQUESTS.validate_json(raw) if several else [REQUEST.validate_json(raw)]
    except ValidationError as error:
        raise not_valid({**detail, "loc": ("body", *detail["loc"])} for detail in error.errors()) from error
    here = len(requests) <= ROWS_ON_THE_LOOP and service.is_quick(requests)
    predictions = service.predict(requests) if here else await run_in_threadpool(service.predict, requests)
    return PREDICTIONS.dump_json(predictions) if several else PREDICTION.dump_json(predictions[0])


# The readable form of `answer`: documents the address, and answers as soon as the middleware no longer does.
@router.post("/predict", tags=["predict"], summary="Score one case, or a list of cases")
def predict(service: Asks, body: Annotated[single_or_list(PredictRequest), Body()]) -> Prediction | list[Prediction]:  # type: ignore[valid-type]
    """A list gets a list, in the same order and from one and the same version of the model and each arm. Send the
    ids that you know: an id that comes again is scored again but logged once."""
    return service.predict(body) if isinstance(body, list) else service.predict([body])[0]


@router.post("/explain", tags=["predict"], summary="Why this score, and what if")
def explain(service: Asks, body: ExplainRequest) -> Explanation:
    """The champion's view of one record: what each input contributes against a typical value, and the score
    after changes. Nothing is logged as a prediction."""
    return service.explain(body)


@router.get("/model", tags=["predict"], summary="What is served")
def model(service: Asks) -> ModelCard:
    """The champion, traceable to its data and its code, and the challenger beside it."""
    return service.card()


@router.post("/outcomes", tags=["admin"], summary="Report what really happened")
def outcomes(service: Asks, body: Annotated[single_or_list(OutcomeRequest), Body()]) -> Ingested:  # type: ignore[valid-type]
    """Late, twice, corrected or in any order: the value that became known last counts. Ids that no logged
    prediction has are kept and reported."""
    try:
        return Ingested(**asdict(service.ingest(body if isinstance(body, list) else [body])))
    except (SQLAlchemyError, StoreRefused, OSError) as error:
        logger.exception("outcomes cannot be kept")
        message = "the store cannot be written now; nothing was kept, send it again"
        raise Refusal(503, message, headers={"Retry-After": "5"}) from error


@router.get("/metrics", tags=["admin"], summary="Numbers for Prometheus", response_class=Response)
async def metrics(service: Asks) -> Response:
    """Requests, errors, latency, scores by version and arm, lost log rows, age of the model."""
    # On threads of their own: while a model hangs, its requests hold those that all others share.
    page = await to_thread.run_sync(service.metrics_page, limiter=SCRAPES)
    return Response(page, media_type=CONTENT_TYPE_LATEST)


@probes.get("/livez", tags=["probes"], summary="Is the process alive?")
async def livez() -> dict[str, str]:
    """Says nothing about the model: a restart would not mend that."""
    return {"state": "alive"}


@probes.get("/readyz", tags=["probes"], summary="Can it answer?", responses={503: {"model": Health}})
async def readyz(request: Request, response: Response) -> Health:
    """200 when a model is loaded whose checksums and golden predictions are right and which is warmed up.
    A degraded service still answers, with the last good model. The reasons name files, so they are told in full only
    to whoever holds a key or, without keys, asks from this machine."""
    health = _service(request).health()
    if not getattr(request.state, "trusted", False):
        health.reasons = ["ask with a key, or read the log of the service"] if health.reasons else []
    response.status_code = 503 if health.state == "not ready" else 200
    return health


@probes.get("/docs", include_in_schema=False)
async def docs() -> HTMLResponse:
    """Swagger's page of the API, with its files from this service."""
    style, script, icon = (f".{path}" for path in PAGE_FILES)
    page = get_swagger_ui_html(
        openapi_url="./openapi.json",
        title=f"{problem.NAME}: predictions",
        swagger_css_url=style,
        swagger_js_url=script,
        swagger_favicon_url=icon,
        swagger_ui_parameters={"validatorUrl": None, "defaultModelsExpandDepth": 0},
    )
    page.headers["Content-Security-Policy"] = PAGE_POLICY
    return page
