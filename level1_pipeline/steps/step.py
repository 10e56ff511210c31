"""TODO docstring."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.errors import StepFileChanged
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings

Facts = dict[str, Any]


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
    identity: dict[str, str] = field(default_factory=dict)  # code revision, digests: see identity.py
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def time(self) -> pd.Timestamp:
        """The time as of which the world is known, in UTC."""
        return pd.Timestamp(self.as_of).tz_convert("UTC")

    @property
    def day(self) -> str:
        """The local day that begins at the run's time."""
        return f"{self.time.tz_convert(problem.TIMEZONE):%Y-%m-%d}"

    @property
    def registry(self) -> Registry:
        """The registry of the run's home."""
        return Registry(Settings(**self.settings))

    def path(self, name: str) -> Path:
        """A file of this run."""
        return Path(self.folder) / name


def step(function: Callable[..., Facts]) -> Callable[[Run, dict[str, Facts]], Facts]:
    """Time a step, check the files it depends on, and add the digests of those that it wrote."""

    @wraps(function)
    def timed(run: Run, facts: dict[str, Facts]) -> Facts:
        started, watch = time.time(), time.perf_counter()
        for before in facts.values():
            for name, digest in before["files"].items():
                if not run.path(name).exists() or _digest(run.path(name)) != digest:
                    raise StepFileChanged(
                        f"{run.path(name)} was changed or removed after it was written; delete {run.folder} and run again"
                    )
        Path(run.folder).mkdir(parents=True, exist_ok=True)
        result = function(run, facts)
        files = {name: _digest(run.path(name)) for name in result.pop("files", [])}
        return {**result, "files": files, "started": started, "seconds": round(time.perf_counter() - watch, 3)}

    return timed


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
