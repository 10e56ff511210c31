"""Why this score, and what would it be after a change? Works for any model: it only needs more predictions."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from pydantic import ValidationError

from level1_pipeline import problem, schema
from level1_pipeline.bundle.time_limit import Overdue
from level1_pipeline.schema.scores import as_answer
from serving.errors import Refusal, not_valid
from serving.models.loaded_model import Model, Record
from serving.models.routing import PREDICT_SECONDS, Score
from serving.schemas import Contribution, ExplainRequest, Explanation, WhatIf

logger = logging.getLogger(__name__)


def explain(model: Model, request: ExplainRequest, seconds: float = PREDICT_SECONDS) -> Explanation:
    """The score, what each input contributes, and the score after the changes.

    An input contributes the difference that it makes against its typical value in training, all other
    inputs being as they are.

    Raises:
        Refusal: the changed record is not valid (422), the model gives no number for one of the records (500) or
            does not answer in time (503).
    """
    record, typical = dict(schema.json_record(vars(request.record))), model.typical
    variants = [{**record, name: typical[name]} for name in record]
    changed = _changed(request)
    score, *others = _scores(model, [record, *variants, *([changed] if changed else [])], seconds)
    contributions = [
        Contribution(
            input=name,
            value=value,
            typical=typical[name],
            score_if_typical=as_answer(other),
            contribution=as_answer(_less(score, other)),
        )
        for (name, value), other in zip(record.items(), others, strict=False)
    ]
    contributions.sort(key=lambda entry: -_size(entry.contribution))
    what_if = _what_if(changed, others[-1], score) if changed else None
    return Explanation(
        score=as_answer(score),
        decision=problem.choose_action(score),
        version=model.version,
        contributions=contributions,
        what_if=what_if,
    )


def _scores(model: Model, records: list[Record], seconds: float) -> list[Score]:
    try:
        scores = model.predict(records, seconds)
    except Overdue as overdue:
        raise Refusal(503, f"the model is not to be had: {overdue}", headers={"Retry-After": "5"}) from overdue
    if not np.isfinite(scores).all():
        logger.error("version %s gave %s where a finite number is needed", model.version, scores.tolist())
        raise Refusal(500, "the model gave no number for the record or a change of it; the log of the service says why")
    return scores.tolist()


def _what_if(record: Record, score: Score, before: Score) -> WhatIf:
    decision, difference = problem.choose_action(score), as_answer(_less(score, before))
    return WhatIf(record=record, score=as_answer(score), decision=decision, difference=difference)


def _less(score: Any, other: Any) -> Any:
    """The difference of two scores, of each class for itself."""
    return [a - b for a, b in zip(score, other, strict=True)] if isinstance(score, list) else score - other


def _size(contribution: Any) -> float:
    """By which inputs are ordered: of several classes the largest change."""
    return max(map(abs, contribution.values())) if isinstance(contribution, dict) else abs(contribution)


def _changed(request: ExplainRequest) -> Record | None:
    """The record with the changes, checked as a whole: a rule may join several fields."""
    if request.changes is None:
        return None
    changes: dict[str, Any] = request.changes.model_dump(exclude_unset=True)
    try:
        changed = problem.Record(**{**vars(request.record), **changes})
    except ValidationError as error:
        details = error.errors()
        raise not_valid({**detail, "loc": ("body", "changes", *detail["loc"])} for detail in details) from error
    return dict(schema.json_record(vars(changed)))
