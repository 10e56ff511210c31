"""The bodies of requests and answers. The record is the problem's `Record`; everything else here wraps it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    Strict,
    Tag,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from level1_pipeline import problem, schema
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task

Identifier = Annotated[str, Field(pattern="^[!-~]{1,128}$")]  # printable ASCII: safe in every database and log
Value = str | bool | int | float | None  # of an input
STRICT = ConfigDict(extra="forbid", frozen=True)
SCORE = task().score_means
LABELS = classes() or task().labels or ()  # empty: any number


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("literal_error", f"Input should be {' or '.join(map(str, LABELS))}")
    return value


# As strict as the Record. Python's True equals 1, so a Literal alone would take it.
TrueValue: Any = Annotated[Literal[LABELS], BeforeValidator(_no_bool)] if LABELS else Annotated[FiniteFloat, Strict()]
ScoreValue: Any = dict[str, float] if classes() else float  # of several classes the probability of each, by its name


def _with_dates(record: Any) -> Any:
    """A record of which FastAPI has parsed the JSON: a strict Record takes the text of a date from JSON only."""
    return schema.with_dates(record) if isinstance(record, dict) else record


HAS_DATES = any(column.kind is schema.Kind.DATE for column in schema.columns())


def _body(model: Any) -> Any:
    return Annotated[model, BeforeValidator(_with_dates)] if HAS_DATES else model


class PredictRequest(BaseModel):
    """One thing to predict: its inputs and, if the caller has them, its ids."""

    model_config = STRICT

    record: _body(problem.Record)  # type: ignore[valid-type]
    id: Identifier | None = Field(
        None, description="of this prediction; the same id is logged once (default: made)", examples=["request-1"]
    )
    entity_id: Identifier | None = Field(
        None,
        description="what keeps its arm during a canary (default: the id of the prediction)",
        examples=["customer-1"],
    )


class Prediction(TypedDict):  # not a model, which would take longer to make than to fill
    """What the model says about one case, and which model said it."""

    id: Annotated[str, Field(description="send it back with the outcome")]
    score: Annotated[ScoreValue, Field(description=SCORE)]
    decision: str
    version: Annotated[str, Field(description="of the model")]
    arm: Annotated[str, Field(json_schema_extra={"enum": ["champion", "canary"]})]


class OutcomeRequest(BaseModel):
    """What really happened."""

    model_config = STRICT

    id: Identifier = Field(description="of the prediction", examples=["request-1"])
    value: TrueValue = Field(description=f"the true {problem.TARGET}")
    known_at: AwareDatetime | None = Field(
        None, description="when it became known, with UTC offset (default: now); of two values the later known counts"
    )


class Ingested(BaseModel):
    """What became of posted outcomes."""

    new: int
    unchanged: int = Field(description="known before: the same value, or one that became known earlier")
    corrected: int = Field(description="replaced an earlier value")
    unknown: list[str] = Field(description="ids of no logged prediction (yet); kept, and joined when it appears")


def _tag(body: Any) -> str:
    return "list" if isinstance(body, list) else "single"


def list_of(item: Any) -> Any:
    """The type of a body that is a list. It stops at its first bad item, because a megabyte of nonsense must
    not become a million errors."""
    return Annotated[list[item], Field(min_length=1, fail_fast=True)]


def single_or_list(item: Any) -> Any:
    """The type of a body that is one item or a list of them."""
    return Annotated[Annotated[item, Tag("single")] | Annotated[list_of(item), Tag("list")], Discriminator(_tag)]


def _optional(field: FieldInfo) -> tuple[Any, FieldInfo]:
    return field.annotation, FieldInfo.merge_field_infos(field, default_factory=lambda: None)


# The Record with every field optional: what is left out stays as it is.
Changes: type[BaseModel] = create_model(
    "Changes",
    __config__=problem.Record.model_config,
    __doc__="Inputs to change.",
    **{name: _optional(field) for name, field in problem.Record.model_fields.items()},  # type: ignore[call-overload]
)


class ExplainRequest(BaseModel):
    """A record to explain and, if wanted, changes to try on it."""

    model_config = STRICT

    record: _body(problem.Record)  # type: ignore[valid-type]
    changes: _body(Changes | None) = Field(  # type: ignore[valid-type]
        None, description="what if these inputs were different?"
    )


class Contribution(BaseModel):
    """How much one input moves the score away from what it would be with a typical value in its place."""

    input: str
    value: Value
    typical: Value = Field(description="median (or most frequent value) of the training data")
    score_if_typical: ScoreValue
    contribution: ScoreValue = Field(description="score minus score_if_typical")


class WhatIf(BaseModel):
    """The same record with the changes."""

    record: dict[str, Value]
    score: ScoreValue
    decision: str
    difference: ScoreValue = Field(description="of the scores: changed minus original")


class Explanation(BaseModel):
    """Why this score, largest contribution first. Contributions need not add up: inputs act together."""

    score: ScoreValue = Field(description=SCORE)
    decision: str
    version: str
    contributions: list[Contribution]
    what_if: WhatIf | None


class ModelCard(BaseModel):
    """What is served, traceable to the data and the code that made it."""

    problem: str
    version: str
    since: str | None = Field(description="when it became champion, on the clock of decisions")
    checksum: str = Field(description="SHA-256 of the bundle's manifest")
    engine: Literal["compiled", "scikit-learn"] = Field(description="what scores")
    engine_reason: str | None = Field(None, description="why the model is not compiled, when scikit-learn scores")
    trained_from: str | None
    trained_until: str | None
    rows: int | None
    data_digest: str | None
    code_revision: str | None
    metrics: dict[str, float]
    run_id: str | None
    challenger: str | None
    mode: str | None
    share: float


class Health(BaseModel):
    """Whether this worker can answer. *degraded* answers with the last good model, and says what is wrong."""

    state: Literal["ready", "degraded", "not ready"]
    version: str | None
    challenger: str | None = Field(description="loaded beside the champion")
    reasons: list[str]
    lost_predictions: int = Field(description="answers that could not be logged since this worker started")
