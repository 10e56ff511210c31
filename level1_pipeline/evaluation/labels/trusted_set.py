"""The trusted set: rows whose labels a person has confirmed, kept apart from the source, on which each model is judged.

A gate that judges by the newest labels of a source believes the source: where training rows and holdout are wrong
alike, a model of wrong labels looks good. The trusted set does not change with the source. It tests labels, not skill,
because most models were trained on its very rows.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import sha256
from level1_pipeline.errors import ProblemRefused, TrustedSetRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store import clock
from level1_pipeline.store.audit import Change, TrustedSetFrozen
from level1_pipeline.store.audit_queries import frozen_trusted_set
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import start_of


class TrustedSpan(BaseModel):
    """`problem.TRUSTED_LABELS`: the days whose labels a person has confirmed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: date  # local days, both included
    last: date
    digest: str = ""  # of the confirmed labels (`label_digest`); empty: those of the first training count

    @model_validator(mode="after")
    def _ordered(self) -> TrustedSpan:
        if self.last < self.first:
            raise ValueError(f"the last day, {self.last}, lies before the first, {self.first}")
        return self

    def __str__(self) -> str:
        """The days, for people and for the audit log."""
        return f"{self.first} to {self.last}"

    @property
    def end(self) -> pd.Timestamp:
        """The first moment after it."""
        return start_of(self.last + timedelta(days=1))

    def labelled(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The rows of these days that have a label, and of their columns those that a judgement needs."""
        inside = (rows[problem.EVENT_TIME] >= start_of(self.first)) & (rows[problem.EVENT_TIME] < self.end)
        columns = dict.fromkeys([problem.ID, problem.EVENT_TIME, *schema.names(), *problem.SLICES, problem.TARGET])
        return rows.loc[inside & rows[problem.TARGET].notna(), list(columns)].reset_index(drop=True)


def trusted_span() -> TrustedSpan | None:
    """The span that the problem names, or None.

    Raises:
        ProblemRefused: a name is misspelt or missing, or a day is none.
    """
    named = getattr(problem, "TRUSTED_LABELS", None)
    try:
        return TrustedSpan(**named) if named else None
    except (ValidationError, TypeError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise ProblemRefused(
            f"problem.py: TRUSTED_LABELS cannot be read ({why}); give the days `first` and `last` and, if labels were "
            "confirmed, their `digest`, or leave it out"
        ) from error


def label_digest(rows: pd.DataFrame) -> str:
    """SHA-256 of the ids and labels of rows, in the order of the ids."""
    ordered = rows.sort_values(problem.ID)
    lines = [f"{i}\t{label:.10g}" for i, label in zip(ordered[problem.ID], ordered[problem.TARGET], strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True)
class TrustedSets:
    """The trusted sets of a home: one file for each set of confirmed labels, written once, named in the audit log."""

    settings: Settings
    store: Store

    def rows(self, span: TrustedSpan, source: pd.DataFrame) -> pd.DataFrame:
        """The frozen rows of the span. The first call freezes them; later changes of the source do not reach them.

        Raises:
            TrustedSetRefused: the copy was changed or is gone; or there is none yet, and the labels in the source are
                not those that were confirmed.
        """
        line = frozen_trusted_set(self.store.audit_log(problem.NAME), str(span), span.digest)
        if line is None:
            return self._freeze(span, source)
        path = self._path(line.labels)
        if not path.exists() or sha256(path) != line.sha256:
            raise TrustedSetRefused(
                f"{path} was changed or removed after it was frozen; bring it back from a backup of the home, "
                "or confirm labels anew: another digest in TRUSTED_LABELS freezes another copy"
            )
        return pd.read_parquet(path)

    def _freeze(self, span: TrustedSpan, source: pd.DataFrame) -> pd.DataFrame:
        rows = span.labelled(source)
        if rows.empty:
            raise TrustedSetRefused(f"the source has no labelled row of {span}; name other days in TRUSTED_LABELS")
        labels = label_digest(rows)
        if span.digest and labels != span.digest:
            raise TrustedSetRefused(
                f"the labels of {span} in the source are not those that were confirmed (digest {labels}, in "
                f"TRUSTED_LABELS {span.digest}): mend the source, or look at the labels and confirm the new digest"
            )
        path = self._path(labels)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{uuid4().hex}")
        rows.to_parquet(partial, index=False)
        os.replace(partial, path)
        action = TrustedSetFrozen(str(span), labels, sha256(path))
        reason = (
            "confirmed by its digest in TRUSTED_LABELS" if span.digest else "first use; TRUSTED_LABELS has no digest"
        )
        change = Change(self.settings.who, action, reason, clock.now(self.settings), {"rows": len(rows)})
        self.store.record(problem.NAME, change)
        return rows

    def _path(self, labels: str) -> Path:
        return self.settings.home / "trusted" / problem.NAME / f"{labels[:16]}.parquet"
