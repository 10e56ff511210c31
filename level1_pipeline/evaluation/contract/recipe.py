"""`build_model` and TRUSTED_TYPES: an unfitted pipeline, which a few rows show to work as the bundle needs it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import OWN_TYPES
from level1_pipeline.bundle.predict import predict
from level1_pipeline.evaluation.contract.mistake import Mistake, did_you_mean
from level1_pipeline.schema.scores import shape
from level1_pipeline.schema.task import task

FEW_ROWS = 400  # fitted on, to see that it can be done


def pipeline() -> Iterator[Mistake]:
    """An unfitted scikit-learn Pipeline, a new one each time, of the task's kind."""
    from sklearn.base import is_classifier, is_regressor
    from sklearn.pipeline import Pipeline

    try:
        model, again = problem.build_model(), problem.build_model()
    except Exception as error:  # whatever the cloner's code raises
        yield Mistake("build_model", f"raises {type(error).__name__} ({error}); mend it")
        return
    if not isinstance(model, Pipeline):
        yield Mistake("build_model", f"gives a {type(model).__name__}; wrap it: Pipeline([('model', …)])")
        return
    if model is again:
        yield Mistake(
            "build_model", "gives the same object twice, so one training would change another; build a new one"
        )
    if _is_fitted(model):
        yield Mistake("build_model", "gives a fitted pipeline, whose rows nobody judged; leave the fit to the training")
    wanted = is_classifier if task().has_classes else is_regressor
    if not wanted(model):
        yield Mistake("build_model", f"ends in a {type(model[-1]).__name__}, which is no model for a {problem.TASK}")
    elif task().has_classes and not hasattr(model[-1], "predict_proba"):
        kind = type(model[-1]).__name__
        yield Mistake("build_model", f"ends in a {kind}, which gives no probabilities; take one with predict_proba")
    parameters = model.get_params()
    for name in problem.SEARCH:
        if name not in parameters:
            yield Mistake("SEARCH", f"names '{name}', which the model does not have; {did_you_mean(name, parameters)}")


def _is_fitted(model: Any) -> bool:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model[-1])
    except (NotFittedError, TypeError):
        return False
    return True


def on_few_rows(rows: pd.DataFrame) -> Iterator[Mistake]:
    """Fit on a few rows with labels, predict, and see whether the types of the model are trusted."""
    some = _sample(rows[rows[problem.TARGET].notna()])
    if some is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few rows
        try:
            model = problem.build_model().fit(some[schema.names()], some[problem.TARGET])
        except Exception as error:  # whatever the model raises
            yield Mistake(
                "build_model", f"cannot be fitted on {len(some)} rows: {type(error).__name__}: {_first(error)}"
            )
            return
        try:
            scores = np.asarray(predict(model, some), dtype="float64")
        except Exception as error:  # whatever the model raises
            yield Mistake("build_model", f"cannot predict its own rows: {type(error).__name__}: {_first(error)}")
            return
    if scores.shape != shape(len(some)) or not task().sound(scores).all():
        yield Mistake(
            "build_model",
            f"does not give the {task().score_means} for each row, but {scores.shape} for {len(some)} rows, or numbers "
            "that are none",
        )
    yield from _trusted(model)


def trusted_types(rows: pd.DataFrame) -> Iterator[Mistake]:
    """Before a training: the types of a model fitted on a few rows, of which one that nobody reviewed would end it late.

    What else is wrong with a fit may lie in the rows; the training tells it in the step that it belongs to.
    """
    for mistake in on_few_rows(rows):
        if mistake.where == "TRUSTED_TYPES":
            yield mistake


def _sample(rows: pd.DataFrame) -> pd.DataFrame | None:
    """Some rows in their order, with each class alike, because one may be rare; None if there is nothing to learn."""
    rows = rows.reset_index(drop=True)
    parts = [rows]
    if task().has_classes:
        parts = [of_class for _, of_class in rows.groupby(problem.TARGET)]
    each = FEW_ROWS // max(len(parts), 1)
    some = pd.concat([rows.head(0), *(part.sample(min(each, len(part)), random_state=0) for part in parts)])
    return some.sort_index() if len(some) > 1 and len(some[problem.TARGET].unique()) > 1 else None


def _first(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


def _trusted(model: Any) -> Iterator[Mistake]:
    import skops.io

    try:
        types = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    except Exception as error:  # a type that skops cannot keep
        yield Mistake(
            "build_model", f"holds what skops cannot keep: {type(error).__name__}: {_first(error)}; take another part"
        )
        return
    new = sorted(set(types) - {*problem.TRUSTED_TYPES, *OWN_TYPES})
    if new:
        yield Mistake(
            "TRUSTED_TYPES",
            f"lacks {', '.join(new)}, which the model holds and nobody reviewed; look at what they do, then add them",
        )
