"""Step 1: the rows of the problem, as they were known at the run's time (`problem.load`)."""

from __future__ import annotations

from dataclasses import dataclass

from level1_pipeline import problem
from level1_pipeline.errors import DataCheckFailed
from level1_pipeline.inputs import source, training_data
from level1_pipeline.steps.step import Run, StepResult, step

ROWS = "rows.parquet"


@dataclass(frozen=True, kw_only=True)
class Extracted(StepResult):
    """All rows, in a file."""

    rows: int
    repaired: dict[str, int]  # impossible readings that were made missing, by column

    @property
    def data_digest(self) -> str:
        """SHA-256 of the file of all rows."""
        return self.files[ROWS]

    @property
    def repairs(self) -> str:
        """The same in words."""
        return ", ".join(f"{name} {count:,}" for name, count in self.repaired.items())

    @property
    def message(self) -> str:
        """How many there are."""
        return f"{self.rows:,} rows" + (f", impossible readings made missing: {self.repairs}" if self.repairs else "")


@step
def extract(run: Run) -> Extracted:
    """Load the rows and keep them.

    Raises:
        DataCheckFailed: they cannot be loaded.
    """
    rows = source.load(run.registry.settings, run.time)
    try:
        rows.to_parquet(run.path(ROWS), index=False)
    except (ValueError, TypeError) as error:  # a word among numbers, say
        raise DataCheckFailed(
            f"the rows of {problem.NAME} hold values of several kinds in a column: {error}"
        ) from error
    files = run.digests(ROWS)
    training_data.keep(run.registry.settings, run.path(ROWS), files[ROWS])
    return Extracted(rows=len(rows), repaired=rows.attrs.get("glitches", {}), files=files)
