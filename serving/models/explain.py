"""Why this score? And what would it be if? Works for any model, because it only asks for more predictions."""

from __future__ import annotations

import logging
import math
from typing import Any

from pydantic import ValidationError

from level1_pipeline import problem
from serving.errors import Refusal, not_valid
from serving.models.loaded_model import Model, Record
from serving.schemas import Contribution, Explanation, Question, WhatIf

logger = logging.getLogger(__name__)


def explain(model: Model, question: Question) -> Explanation:
    """The score, what each input contributes, and the score after the changes.

    An input contributes the difference that it makes against its typical value in training, all other
    inputs being as they are.

    Raises:
        Refusal: the changed record is not valid (422), or the model gives no number for one of the records (500).
    """
    record, typical = question.record.model_dump(), model.typical
    variants = [{**record, name: typical[name]} for name in record]
    changed = _changed(record, question)
    score, *others = _scores(model, [record, *variants, *([changed] if changed else [])])
    contributions = [
        Contribution(input=name, value=value, typical=typical[name], score_if_typical=other, contribution=score - other)
        for (name, value), other in zip(record.items(), others, strict=False)
    ]
    contributions.sort(key=lambda one: -abs(one.contribution))
    what_if = _what_if(changed, others[-1], score) if changed else None
    return Explanation(
        score=score,
        decision=problem.choose_action(score),
        version=model.version,
        contributions=contributions,
        what_if=what_if,
    )


def _scores(model: Model, records: list[Record]) -> list[float]:
    found: list[float] = model.bundle.predict(records).tolist()
    if not all(map(math.isfinite, found)):
        logger.error("version %s said %s where a finite number was asked for", model.version, found)
        raise Refusal(500, "the model gave no number for the record or a change of it; the log of the service says why")
    return found


def _what_if(record: Record, score: float, before: float) -> WhatIf:
    return WhatIf(record=record, score=score, decision=problem.choose_action(score), difference=score - before)


def _changed(record: Record, question: Question) -> Record | None:
    """The record with the changes, checked as a whole: a rule may join several fields."""
    if question.changes is None:
        return None
    wanted: dict[str, Any] = question.changes.model_dump(exclude_unset=True)
    try:
        return problem.Record(**{**record, **wanted}).model_dump()
    except ValidationError as error:
        raise not_valid({**one, "loc": ("body", "changes", *one["loc"])} for one in error.errors()) from error
