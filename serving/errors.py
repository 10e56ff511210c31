"""One shape for every answer that is not a success: what happened, which field broke which rule, and the id
under which the log tells more. Never a traceback."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

MAX_DETAILS = 20
TAGS = ("single", "list")  # how `schemas` tells a single item from a list; no field of the caller
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 80


class Detail(BaseModel):
    """One broken rule."""

    field: str = Field(description="where in the request")
    rule: str = Field(description="what is expected there")
    value: str = Field(description="what came")


class RefusalBody(BaseModel):
    """Why a request got no result."""

    error: str = Field(description="what happened, and what to do")
    details: list[Detail] = Field(description=f"the broken rules, at most {MAX_DETAILS} of them")
    request_id: str = Field(description="the log knows more under this id")


class Refusal(Exception):
    """A request that gets no result, with the status and the message of the answer."""

    def __init__(
        self, status: int, error: str, details: Iterable[Detail] = (), headers: Mapping[str, str] | None = None
    ):
        super().__init__(error)
        self.status, self.error, self.details, self.headers = status, error, list(details), headers

    def response(self, request_id: str) -> JSONResponse:
        """The answer to send."""
        body = RefusalBody(error=self.error, details=self.details[:MAX_DETAILS], request_id=request_id)
        return JSONResponse(body.model_dump(), self.status, headers=self.headers)


def not_valid(errors: Iterable[Mapping[str, Any]]) -> Refusal:
    """A refusal (422, or 400 for what is not JSON) from pydantic's errors."""
    errors = list(errors)
    if errors and errors[0]["type"] == "json_invalid":
        return not_json(errors[0].get("ctx", {}).get("error", "not JSON"), errors[0]["input"])
    details = [Detail(field=_field(error["loc"]), rule=error["msg"], value=shown(error["input"])) for error in errors]
    what = f"{len(details)} broken rule{'s' * (len(details) > 1)}"
    return Refusal(422, f"the request is not valid: {what}; the details name each field and its rule", details)


def not_json(reason: str, body: object) -> Refusal:
    """A refusal (400) of what is no JSON."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    return Refusal(400, "the body is not JSON", [Detail(field="body", rule=f"JSON ({reason})", value=shown(text))])


def _field(place: tuple[int | str, ...]) -> str:
    """`body.list.3.record.temp` as `[3].record.temp`, short whatever the caller named it."""
    steps = [step for at, step in enumerate(place) if not (at == 0 or (at == 1 and step in TAGS))]
    message = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
    return (message or str(place[0]))[:200]


def shown(value: Any) -> str:
    """What came, short and as JSON writes it."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | float):
        return json.dumps(value)
    return SHORT.repr(value)[:200]
