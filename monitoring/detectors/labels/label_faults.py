"""Are the labels right and complete?  They are data, and are checked before anything is judged by them.

A label fault sets labels apart and never inputs. It is found in two independent ways: the training code makes labels of
the same ids, and labels have a history of their own (which classes, which rate, how many, how late, in which order the
scores put them). Where the training code cannot be asked, only the second way is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from level1_pipeline import problem
from level1_pipeline.schema.scores import from_columns
from level1_pipeline.store import quarantine
from level1_pipeline.store.days import start_of
from level1_pipeline.store.quarantine import LABELS, Quarantined
from monitoring import thresholds
from monitoring.data.aggregates import ALL
from monitoring.detectors.fault_checks import overlaps
from monitoring.detectors.labels import label_arrival, label_checks
from monitoring.detectors.labels.label_checks import VALUE, Hit
from monitoring.results import Span, Window


@dataclass(frozen=True)
class LabelFault:
    """One thing that is wrong with the labels of one slice (or of all rows), on these days."""

    kind: str
    slice: str
    days: tuple[date, ...]
    message: str


def old_enough(rows: pd.DataFrame, lifted: Iterable[Quarantined] = ()) -> pd.DataFrame:
    """The cases of a log whose labels can be judged: with a score, of an age at which all labels have arrived, each
    once, and without those whose labels a person has found right."""
    if not len(rows):
        return rows
    kept = rows[rows["score"].notna() & ~rows["open"]].drop_duplicates("id")
    return kept[~quarantine.covers(kept, lifted, LABELS)].reset_index(drop=True)


def find(
    rows: pd.DataFrame,
    reference: pd.DataFrame,
    made: pd.DataFrame | str,
    opinions: Sequence[np.ndarray] = (),
    quarantined: Iterable[Quarantined] = (),
) -> tuple[LabelFault, ...]:
    """All faults of a window's labels, the surest first; none where no label has come at all: there is nothing to judge.

    Args:
        rows: of the window, `old_enough`. Labels in quarantine are looked at, too (`value`).
        reference: the days before; labels in quarantine are no reference.
        made: rows of the training code, or why it cannot be asked.
        opinions: scores of other models for `rows`, beside those of the log.
        quarantined: what is set apart already: a fault of only these labels is not reported again.
    """
    if not len(rows) or not rows[VALUE].notna().any():
        return ()
    before = reference[~reference["open"] & ~reference["label_hidden"]] if len(reference) else reference
    history = _history(made, rows[problem.EVENT_TIME].min(), before, quarantined)
    if not isinstance(made, str):  # those of the window, because a look-up of all ids is slow
        made = made[made[problem.EVENT_TIME].between(*_around(rows))].drop_duplicates(problem.ID)
    scores = [from_columns(rows), *opinions]
    hits = [
        *label_checks.against_training_code(rows, made),
        *label_checks.constant(rows, scores),
        *label_checks.rate(rows, history),
        *label_checks.direction(rows, scores, before),
    ]
    if len(before):
        hits += [*label_arrival.coverage(rows, before), *label_arrival.delay(rows, before)]
    hits += label_checks.corrected(rows, made)
    new = [hit for hit in hits if not _set_apart(hit, tuple(quarantined))]
    return tuple(LabelFault(*hit[:4]) for hit in _narrow(new, rows))


def spans(faults: Iterable[LabelFault], window: Window) -> tuple[Span, ...]:
    """The labels to set apart: whole local days, from the first to the last bad day of each fault."""
    parts: dict[tuple[date, date, str], list[str]] = {}
    for fault in faults:
        parts.setdefault((min(fault.days), max(fault.days), fault.slice), []).append(fault.message)
    return tuple(
        Span(
            max(start_of(first).to_pydatetime(), window.start),
            min(start_of(last + timedelta(days=1)).to_pydatetime(), window.end),
            where,
            "; ".join(messages[:3]),
            LABELS,
        )
        for (first, last, where), messages in parts.items()
    )


def _history(
    made: pd.DataFrame | str, start: pd.Timestamp, before: pd.DataFrame, quarantined: Iterable[Quarantined]
) -> pd.DataFrame:
    """Labels before the window, as far back as anybody knows them."""
    if isinstance(made, str):
        return before
    past = made[made[problem.EVENT_TIME] < start]
    return past[~quarantine.covers(past, quarantined, LABELS)]


def _around(rows: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The times of the rows, and a day before and after: a clock may be wrong."""
    times, day = rows[problem.EVENT_TIME], pd.Timedelta(days=1)
    return times.min() - day, times.max() + day


def _set_apart(hit: Hit, quarantined: tuple[Quarantined, ...]) -> bool:
    """Whether all labels of a hit are in quarantine already."""
    own = [span for span in quarantined if span.what == LABELS and span.slice in (ALL, hit.slice)]
    return all(any(overlaps(span, day) for span in own) for day in hit.days)


def _narrow(hits: list[Hit], rows: pd.DataFrame) -> list[Hit]:
    """Of each kind the hits that explain it most narrowly: those of the column with the fewest bad values, if these hold
    less than half of the rows and nearly all wrong labels; otherwise one for all rows."""
    narrowed: list[Hit] = []
    for kind in dict.fromkeys(hit.kind for hit in hits):
        same = [hit for hit in hits if hit.kind == kind]
        columns = dict.fromkeys(hit.slice.partition("=")[0] for hit in same if hit.slice != ALL)
        by_column = [[hit for hit in same if hit.slice.startswith(f"{name}=")] for name in columns]
        total = thresholds.BLAMED_SLICES_MIN_WRONG * max((hit.wrong for hit in same if hit.slice == ALL), default=0.0)
        few = [
            part
            for part in by_column
            if _share(part, rows) < thresholds.BLAMED_SLICES_MAX_SHARE and sum(hit.wrong for hit in part) >= total
        ]
        if few:
            narrowed += [hit._replace(message=f"{hit.slice}: {hit.message}") for hit in min(few, key=len)]
        else:
            first = next((hit for hit in same if hit.slice == ALL), same[0])
            narrowed.append(first._replace(slice=ALL, days=tuple(sorted({day for hit in same for day in hit.days}))))
    return narrowed


def _share(hits: list[Hit], rows: pd.DataFrame) -> float:
    """The share of the rows that the values of one column have together."""
    column = hits[0].slice.partition("=")[0]
    return float((f"{column}=" + rows[column].astype(str)).isin([hit.slice for hit in hits]).mean())
