"""The training pipeline: the steps in their order, and what each one takes and gives. The only place that says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar

from level1_pipeline.steps.evaluate import Evaluated, evaluate
from level1_pipeline.steps.extract import Extracted, extract
from level1_pipeline.steps.publish import Published, publish
from level1_pipeline.steps.refit import Refitted, refit
from level1_pipeline.steps.register import Registered, register
from level1_pipeline.steps.split import Split, split
from level1_pipeline.steps.step import Run, StepResult
from level1_pipeline.steps.train import Trained, train
from level1_pipeline.steps.validate import Validated, validate

Result = TypeVar("Result", bound=StepResult)


class Runner(Protocol):
    """Runs one step: at once, or as a task of an orchestrator that remembers its result."""

    def __call__(self, step: Callable[..., Result], run: Run, *inputs: StepResult) -> Result:
        """The result of the step."""


@dataclass(frozen=True)
class TrainingResults:
    """What every step gave."""

    extracted: Extracted
    validated: Validated
    parts: Split
    trained: Trained
    evaluated: Evaluated
    refitted: Refitted
    registered: Registered
    published: Published

    def __iter__(self) -> Iterator[StepResult]:
        return (getattr(self, part.name) for part in fields(self))


def at_once(step: Callable[..., Result], run: Run, *inputs: StepResult) -> Result:
    """A runner without an orchestrator."""
    return step(run, *inputs)


def pipeline(run: Run, do: Runner = at_once) -> TrainingResults:
    """All steps of a training."""
    extracted = do(extract, run)
    validated = do(validate, run, extracted)
    parts = do(split, run, extracted)
    trained = do(train, run, extracted, parts)
    evaluated = do(evaluate, run, extracted, parts, trained)
    refitted = do(refit, run, extracted, parts, trained, evaluated)
    registered = do(register, run, extracted, validated, parts, trained, evaluated, refitted)
    published = do(publish, run, evaluated, registered)
    return TrainingResults(extracted, validated, parts, trained, evaluated, refitted, registered, published)


def step_names() -> list[str]:
    """The names of the steps in their order, read off the pipeline itself."""
    names: list[str] = []
    pipeline(Run("", "", ""), lambda step, run, *inputs: names.append(step.__name__))  # type: ignore[arg-type]
    return names
