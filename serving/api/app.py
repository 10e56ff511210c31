"""The FastAPI application. Nothing is opened, loaded or started before the server runs it."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from serving.api import routes
from serving.api.middleware import FAILED, Middleware
from serving.errors import Refusal, not_valid
from serving.service.service import Service
from serving.telemetry.json_logging import REQUEST_ID, write_json_lines

COLLECT = (10_000, 20, 20)  # a request of a hundred rows makes thousands of objects, and none of them in cycles
SWITCH_SECONDS = 0.0005  # an answer waits this long for the thread that writes the log (Python's default: 0.005)


def create_app(settings: Settings) -> Middleware:
    """The application for these settings, behind its middleware."""
    service = Service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.stop()

    app = FastAPI(
        title=f"{problem.NAME}: predictions",
        description=_description(),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # an address has one form
    )
    app.state.service = service
    app.include_router(routes.router)
    app.include_router(routes.probes)
    app.mount("/docs", StaticFiles(packages=[("fastapi_offline", "static")]))  # Swagger's files
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Exception, _failed)
    return Middleware(app, service)


def _description() -> str:
    """What a user of the service reads first: the model in the words of its problem, and where to begin."""
    about = "\n\n".join((problem.__doc__ or "").strip().split("\n\n")[:2])
    return (
        f"{about}\n\nBegin with `POST /predict`. Report what really happened with `POST /outcomes`, under the same id."
    )


def from_environment() -> Middleware:
    """The application for the environment's settings: what each worker of the server calls."""
    write_json_lines()
    sys.setswitchinterval(SWITCH_SECONDS)
    app = create_app(Settings().prepare())
    gc.freeze()  # what was imported stays, so the collector need not visit it again and again
    gc.set_threshold(*COLLECT)
    return app


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return error.response(REQUEST_ID.get())


async def _failed(_: Request, error: Exception) -> JSONResponse:
    return FAILED.response(REQUEST_ID.get())  # the middleware logs the error, which goes on to it


async def _not_valid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return not_valid(error.errors()).response(REQUEST_ID.get())


async def _http(_: Request, error: Exception) -> JSONResponse:
    """What the framework refuses by itself: an unknown address, another method, a body that cannot be read."""
    assert isinstance(error, HTTPException)
    message = {
        400: "the body is not JSON",
        404: "there is no such address; see /docs",
        405: "this address does not take that method; see /docs",
    }
    refusal = Refusal(error.status_code, message.get(error.status_code, str(error.detail)), headers=error.headers)
    return refusal.response(REQUEST_ID.get())
