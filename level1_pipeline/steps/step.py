"""What all steps share: the run that they are part of, the result that they give, and the check of their files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import pandas as pd

from level1_pipeline.bundle.load import sha256
from level1_pipeline.errors import StepFileChanged
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store.days import date_of


@dataclass(frozen=True)
class Run:
    """What a training run was asked to do. JSON-ready, as Prefect passes it to every step."""

    key: str
    folder: str
    as_of: str
    promote_to: str = "champion"
    experiment: str | None = None
    tune: int = 0
    trigger: str = "on demand"
    reason: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)  # what the trigger rests on
    identity: dict[str, str] = field(default_factory=dict)  # code revision and digests, see orchestration/lineage.py
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def time(self) -> pd.Timestamp:
        """The time as of which the world is known, in UTC."""
        return pd.Timestamp(self.as_of).tz_convert("UTC")

    @property
    def day(self) -> str:
        """The local day that begins at the run's time."""
        return str(date_of(self.time))

    @property
    def registry(self) -> Registry:
        """The registry of the run's home."""
        return Registry(Settings(**self.settings))

    def path(self, name: str) -> Path:
        """A file of this run."""
        return Path(self.folder) / name

    def digests(self, *names: str) -> dict[str, str]:
        """SHA-256 of files of this run, for the result of the step that wrote them."""
        return {name: sha256(self.path(name)) for name in names}


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """What every step gives; each step has its own kind. JSON-ready with pydantic's TypeAdapter."""

    step: str = ""
    started: float = 0.0  # seconds since 1970
    seconds: float = 0.0
    files: dict[str, str] = field(default_factory=dict)  # that it wrote, and their SHA-256

    @property
    def message(self) -> str:
        """What came out, for the person who watches."""
        return ""


Inputs = ParamSpec("Inputs")
Result = TypeVar("Result", bound=StepResult)


def step(function: Callable[Concatenate[Run, Inputs], Result]) -> Callable[Concatenate[Run, Inputs], Result]:
    """Time a step, and check the files of the results that it builds on.

    The step raises StepFileChanged when one of them is not what the earlier step wrote.
    """

    @wraps(function)
    def timed(run: Run, /, *inputs: Inputs.args, **named: Inputs.kwargs) -> Result:
        started, watch = time.time(), time.perf_counter()
        for earlier in inputs:
            _refuse_changed_files(run, earlier)  # type: ignore[arg-type]
        Path(run.folder).mkdir(parents=True, exist_ok=True)
        result = function(run, *inputs, **named)
        seconds = round(time.perf_counter() - watch, 3)
        return replace(result, step=function.__name__, started=started, seconds=seconds)

    return timed


def _refuse_changed_files(run: Run, earlier: StepResult) -> None:
    for name, digest in earlier.files.items():
        if not run.path(name).exists() or sha256(run.path(name)) != digest:
            raise StepFileChanged(
                f"{run.path(name)} was changed or removed after it was written; delete {run.folder} and run again"
            )
