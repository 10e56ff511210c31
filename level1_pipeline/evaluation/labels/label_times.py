"""When each label became known: a label without its time, or one that was known before the decision, is wrong.

In some rows that is bad data, and stops a training as other bad data do. In every row `load` itself is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from level1_pipeline import problem


@dataclass(frozen=True)
class WrongTimes:
    """What is wrong with LABEL_TIME, and in which of the rows with a label."""

    rule: str  # that they break
    todo: str
    ids: tuple[str, ...]
    labelled: int  # rows that have a label

    @property
    def everywhere(self) -> bool:
        """Whether no label of the problem has a right time: then the source is not to blame."""
        return len(self.ids) == self.labelled


def wrong_times(rows: pd.DataFrame) -> list[WrongTimes]:
    """What is wrong with the times of labels. EVENT_TIME and LABEL_TIME must be aware times."""
    labelled = rows[rows[problem.TARGET].notna()]
    times = labelled[problem.LABEL_TIME]
    kinds = (
        ("is missing where there is a label", "say when it was known", times.isna()),
        (
            f"lies before {problem.EVENT_TIME}, so the label was known before the decision",
            "correct one of the two",
            times < labelled[problem.EVENT_TIME],
        ),
    )
    return [
        WrongTimes(rule, todo, tuple(map(str, labelled[problem.ID][broken])), len(labelled))
        for rule, todo, broken in kinds
        if broken.any()
    ]
