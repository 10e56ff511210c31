"""New data as a trigger: has a new month of labelled rows arrived since the last training?"""

from __future__ import annotations

import pandas as pd

from level1_pipeline import problem
from level1_pipeline.inputs import source
from level1_pipeline.orchestration.run import today
from level1_pipeline.settings import Settings
from level1_pipeline.steps.split import maturity_cutoff
from level1_pipeline.store.audit_queries import last_judged_as_of
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import start_of


def new_month(settings: Settings) -> str | None:
    """The newest complete month with outcomes that no training has seen ('2013-04'), or None.

    A month is complete when the outcomes of its last hour have matured on the clock, and when rows of
    its last days are really there: an empty delivery is not new data.

    Raises:
        DataCheckFailed: the rows cannot be loaded.
    """
    now = today(settings)
    month = _complete_month(now)
    trained = last_judged_as_of(Store(settings.operations).audit_log(problem.NAME), now)
    if trained and _complete_month(pd.Timestamp(trained)) >= month:
        return None
    rows = source.load(settings, now)
    labelled = rows.loc[rows[problem.TARGET].notna(), problem.EVENT_TIME]
    end = start_of((month + 1).start_time.date())
    arrived = labelled[(labelled >= end - pd.Timedelta(days=3)) & (labelled < end)]
    return str(month) if len(arrived) else None


def _complete_month(as_of: pd.Timestamp) -> pd.Period:
    """The last month that ended before the maturity cut-off of `as_of`."""
    return maturity_cutoff(as_of).tz_convert(problem.TIMEZONE).tz_localize(None).to_period("M") - 1
