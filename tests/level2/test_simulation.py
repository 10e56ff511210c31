"""The simulated year: what is sent, when, and the story that it must end in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.launch import day
from level1_pipeline.settings import Settings
from level2_cicd import replay
from level2_cicd.__main__ import main
from level2_cicd.replay import Fault, Traffic
from serving.outcomes import unknown
from tests.level2.conftest import Year
from tests.serving.conftest import in_process, known_outcomes, logged

pytestmark = pytest.mark.flights


def test_a_fault_spoils_its_days_only_and_stays_within_the_bounds(rows: pd.DataFrame) -> None:
    some = rows[(rows[problem.EVENT_TIME] >= day("2013-05-05")) & (rows[problem.EVENT_TIME] < day("2013-05-09"))]
    spoilt = Fault("temp", day("2013-05-06"), day("2013-05-08")).spoil(some)
    hit = (some[problem.EVENT_TIME] >= day("2013-05-06")) & (some[problem.EVENT_TIME] < day("2013-05-08"))
    assert hit.any()
    assert (spoilt["temp"][hit] - (some["temp"][hit] - 32) / 1.8).abs().max() < 1e-9
    pd.testing.assert_frame_equal(spoilt[~hit], some[~hit])
    pd.testing.assert_frame_equal(spoilt.drop(columns="temp"), some.drop(columns="temp"))


def test_every_row_is_asked_about_once_and_no_outcome_is_told_before_it_is_known(home: Settings) -> None:
    seen = list(replay.moments(home, "2013-04-01", "2013-04-03", None))
    asked = pd.concat([rows for _, rows, _ in seen])
    everything = problem.load(day("2013-04-20"), None, home.home.parent / "cache")
    wanted = everything[
        (everything[problem.EVENT_TIME] >= day("2013-04-01")) & (everything[problem.EVENT_TIME] < day("2013-04-04"))
    ]
    assert sorted(asked[problem.ID]) == sorted(wanted[problem.ID])
    for now, rows, told in seen:
        assert (rows[problem.EVENT_TIME] < now).all()
        assert (told[problem.LABEL_TIME] < now).all()
    assert not pd.concat([told for _, _, told in seen])[problem.ID].duplicated().any()


def test_traffic_counts_what_failed(year: Year, rows: pd.DataFrame) -> None:
    some = rows[rows[problem.TARGET].notna()].head(700)
    year.store.set_replay_time(rows[problem.LABEL_TIME].max().to_pydatetime())
    settings = year.settings.model_copy(update={"clock": "replay", "flush_seconds": 0.1})
    with in_process(settings) as client:
        traffic = Traffic(str(client.base_url))
        traffic.predict(some)
        traffic.tell(some)
        assert (traffic.asked, traffic.failed, traffic.outcomes) == (700, 0, 700)
        traffic.predict(some.head(3).assign(distance=-1.0))
        assert (traffic.asked, traffic.failed) == (703, 3)
        traffic.close()
    assert len(logged(settings)) == len(known_outcomes(settings)) == 700
    assert not unknown(year.store)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_story_of_the_summer_quarantines_the_fault_and_ends_with_a_new_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    fault = ["--fault", "temp", "--fault-from", "2013-05-07", "--fault-days", "3"]
    assert main(["simulate", "--from", "2013-04-01", "--until", "2013-07-26", *fault]) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    found: Any = re.search(
        r"(\d+) faults quarantined \| (\d+) retrainings \| \d+ rollbacks \| champion (\d+) \| failed requests 0", line
    )
    assert found, line
    quarantined, retrainings, champion = map(int, found.groups())
    assert quarantined == 1
    assert retrainings >= 1
    assert champion > 2
