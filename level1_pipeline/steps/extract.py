"""TODO docstring."""

from __future__ import annotations

from level1_pipeline import problem
from level1_pipeline.errors import DataCheckFailed
from level1_pipeline.steps.step import Facts, Run, step


@step
def extract(run: Run, facts: dict[str, Facts]) -> Facts:
    """The rows of the problem as known at the run's time."""
    settings = run.registry.settings
    try:
        rows = problem.load(run.time, settings.source, settings.home / "cache")
    except (ValueError, OSError) as error:
        raise DataCheckFailed(f"the rows of {problem.NAME} cannot be loaded: {error}") from error
    rows.to_parquet(run.path("rows.parquet"), index=False)
    return {"files": ["rows.parquet"], "rows": len(rows), "repaired": rows.attrs.get("glitches", {})}
