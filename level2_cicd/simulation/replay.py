"""The world of a simulated summer: real rows of the past are sent, answered and judged again, on the replay clock.

A service and the control loop run as they would in production; only the clock is ours. Rows are sent at
their EVENT_TIME, outcomes when they became known. A planted fault spoils what the callers send for some days.
"""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.errors import NoAnswer
from level1_pipeline.inputs import source
from level1_pipeline.processes import child_process, environment
from level1_pipeline.schema.task import task
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import date_of, start_of
from level2_cicd.simulation.faults.table import Planted

HOURS = 3  # between two moments of the clock
ROWS = 500  # of a request


@dataclass
class Traffic:
    """What was sent, and what came back."""

    url: str
    predictions: int = 0  # rows that were asked about
    failed_predictions: int = 0  # of these
    outcomes: int = 0  # that were reported
    failed_outcomes: int = 0  # of these: the service did not take them
    reasons: list[str] = field(default_factory=list)  # of all failures, in order
    keys: Mapping[str, str] = field(default_factory=dict)  # by path, where the service wants some

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)

    @property
    def failed(self) -> bool:
        """Whether the service failed once."""
        return self.failed_predictions + self.failed_outcomes > 0

    def predict(self, rows: pd.DataFrame) -> None:
        """Ask about rows."""
        names = zip(rows[problem.ID], rows[problem.ENTITY], schema.records(rows), strict=True)
        cases = [{"id": str(i), "entity_id": str(e), "record": record} for i, e, record in names]
        for start in range(0, len(cases), ROWS):
            part = cases[start : start + ROWS]
            self.predictions += len(part)
            self.failed_predictions += 0 if self._post("predict", part) else len(part)

    def tell(self, rows: pd.DataFrame) -> None:
        """Report outcomes with the time at which they became known."""
        labels = zip(rows[problem.ID], rows[problem.TARGET], rows[problem.LABEL_TIME], strict=True)
        body = [{"id": str(i), "value": task().as_json(value), "known_at": at.isoformat()} for i, value, at in labels]
        for start in range(0, len(body), ROWS):
            part = body[start : start + ROWS]
            self.outcomes += len(part)
            self.failed_outcomes += 0 if self._post("outcomes", part) else len(part)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _post(self, path: str, body: Any) -> bool:
        try:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.keys.get(path, '')}"}
            self._connection.request("POST", f"/{path}", json.dumps(body), headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.reasons.append(f"{path}: {error!r}")
            self.close()
            return False
        if answer.status != 200:
            self.reasons.append(f"{path}: {answer.status} {content.decode()[:300]}")
        return answer.status == 200


@contextmanager
def service(settings: Settings) -> Iterator[str]:
    """`python -m serving run` for these settings; gives its address, and ends it cleanly, or with us if we are killed."""
    command = [sys.executable, "-m", "serving", "run", "--with-parent"]
    log = settings.home / "service.log"
    with child_process(command, log, environment(settings), piped=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        if "http" not in line:
            raise NoAnswer(f"the service did not start; its log: {log}")
        yield next(word for word in line.split(" | ") if word.startswith("http"))


def moments(
    settings: Settings, first: str, last: str, fault: Planted | None, since: str | None = None
) -> Iterator[tuple[pd.Timestamp, pd.DataFrame, pd.DataFrame]]:
    """The time, the rows to ask about at that time, and the rows whose outcome has become known since the last one.

    Args:
        settings: of the home.
        first: the first local day.
        last: the last one.
        fault: what goes wrong.
        since: the day of the first row that was ever asked about, where it is an earlier one than `first`.
    """
    midnights = [start_of(date) for date in pd.date_range(first, pd.Timestamp(last) + pd.Timedelta(days=1))]
    begin, end = midnights[0], midnights[-1]
    everything = source.load(settings.changed({"home": settings.home.parent}), end + pd.Timedelta(days=7))
    everything = fault.sent(everything) if fault else everything
    rows = everything[
        (everything[problem.EVENT_TIME] >= start_of(since or first)) & (everything[problem.EVENT_TIME] < end)
    ]
    sent = rows.sort_values(problem.EVENT_TIME)
    labelled = rows.dropna(subset=[problem.TARGET]).sort_values(problem.LABEL_TIME)
    # After the clocks were changed, no step of so many hours hits a local midnight any more.
    times = pd.date_range(begin, end, freq=f"{HOURS}h").union(pd.DatetimeIndex(midnights))
    for start, now in pairwise(times):
        due = slice(*sent[problem.EVENT_TIME].searchsorted([start, now]))
        matured = slice(*labelled[problem.LABEL_TIME].searchsorted([start, now]))
        yield now, sent.iloc[due], labelled.iloc[matured]


def live(
    settings: Settings, traffic: Traffic, first: str, last: str, fault: Planted | None, since: str | None = None
) -> Iterator[pd.Timestamp]:
    """Live through the days; gives the time at each local midnight, when all before it was sent and reported."""
    store = Store(settings.operations)
    for now, due, labelled in moments(settings, first, last, fault, since):
        for at, part in due.groupby(due[problem.EVENT_TIME].dt.ceil("h")):
            store.set_replay_time(min(at, now).to_pydatetime())
            traffic.predict(part)
        store.set_replay_time(now.to_pydatetime())
        traffic.tell(labelled)
        if now == start_of(date_of(now)):
            traffic.close()  # a training may come, and the service hangs up on who is silent for so long
            yield now
    traffic.close()
    store.close()
