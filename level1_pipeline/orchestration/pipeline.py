"""TODO docstring."""

from __future__ import annotations

from collections.abc import Callable

from level1_pipeline.steps import evaluate, extract, refit, validate
from level1_pipeline.steps.publish import publish
from level1_pipeline.steps.register import register
from level1_pipeline.steps.split import split
from level1_pipeline.steps.step import Facts, Run
from level1_pipeline.steps.train import train

PIPELINE: tuple[Callable[[Run, dict[str, Facts]], Facts], ...] = (
    extract.extract,
    validate.validate,
    split,
    train,
    evaluate.evaluate,
    refit.refit,
    register,
    publish,
)
