"""The simulated days: what is sent, when, and the story that it must end in."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from rich.console import Console

from level1_pipeline import problem
from level1_pipeline.processes import environment
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import DataQuarantined, RolloutMoved, TrainingJudged
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import start_of
from level2_cicd.cli import FAILED_REQUESTS, main
from level2_cicd.simulation import replay
from level2_cicd.simulation import story as summer
from level2_cicd.simulation.faults.table import Planted, in_another_unit
from level2_cicd.simulation.replay import Traffic
from monitoring.reporting import evidently_snapshot, overview
from tests.support import ROOT
from tests.support.days import Days
from tests.support.serving import Models, known_outcomes, logged, serve, set_route

pytestmark = pytest.mark.flights


@pytest.fixture
def production(home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose `.env` and environment name a production store (its file is given back), keys and a webhook."""
    there = tmp_path / "production.db"
    lines = {
        "STORE_URI": f"sqlite:///{there}",
        "TRACKING_URI": f"sqlite:///{tmp_path / 'production-mlflow.db'}",
        "ADMIN_KEY_HASH": "a" * 64,
        "APPROVALS": "all",
        "SHADOW_DAYS": "9",
    }
    (tmp_path / ".env").write_text("".join(f"MLOPS_{name}={value}\n" for name, value in lines.items()))
    given = {"HOME": home.home, "ACTOR": "ann", "PREDICT_KEY_HASH": "b" * 64, "WEBHOOK": "http://127.0.0.1:9/"}
    for name, value in given.items():
        monkeypatch.setenv(f"MLOPS_{name}", str(value))
    return there


@pytest.mark.usefixtures("prepared")
@pytest.mark.slow
def test_a_simulated_day_touches_no_production_store_and_needs_none_of_the_users_keys(
    production: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Settings] = []

    def first_champion(settings: Settings, as_of: str) -> None:
        seen.append(settings)
        models.publish(settings.home, "1", 0)
        set_route(settings, champion="1")

    monkeypatch.setattr(summer, "_first_champion", first_champion)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    story = summer.run(Settings(), "2013-04-01", "2013-04-02", "2013-04-02", None, Console(file=io.StringIO()))
    assert not production.exists()
    sent = story.traffic
    assert (sent.failed_predictions, sent.failed_outcomes, len(logged(seen[0]))) == (0, 0, sent.predictions), (
        sent.reasons
    )
    assert sent.predictions > 500


def test_the_processes_of_the_simulation_get_its_settings_and_of_the_users_the_rules_and_who_acts_on_which_data(
    production: Path, home: Settings
) -> None:
    with Path(".env").open("a") as lines:
        lines.write("MLOPS_SOURCE=raw\nMLOPS_CANARY_SHARES=0.1\nMLOPS_COOLDOWN_DAYS=3\nMLOPS_APPROVALS=all\n")
    own = summer.apart(Settings())
    code = "from level1_pipeline.settings import Settings; print(Settings().model_dump_json())"
    given = environment(own) | {"PYTHONPATH": str(ROOT)}
    answer = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == own.model_dump(mode="json")
    assert own.operations == f"sqlite:///{home.home / 'level2' / 'operations.db'}"
    changed = {f"MLOPS_{name.upper()}" for name in ("home", *summer.FAST)}
    usual = Settings.model_construct(actor="ann", source=Path("raw")).environment()
    different = {name for name, value in own.environment().items() if value != usual[name]}
    assert different <= changed | {"MLOPS_COOLDOWN_DAYS", "MLOPS_SHADOW_DAYS"}
    assert (own.rollout.canary_shares, own.retraining.cooldown_days) == ((0.1,), 3.0)
    assert not own.rollout.approvals


def test_a_fault_spoils_its_days_only_and_stays_within_the_bounds(rows: pd.DataFrame) -> None:
    some = rows[
        (rows[problem.EVENT_TIME] >= start_of("2013-05-05")) & (rows[problem.EVENT_TIME] < start_of("2013-05-09"))
    ]
    spoilt = Planted(in_another_unit("temp", 2), "2013-05-06").spoil(some)
    hit = (some[problem.EVENT_TIME] >= start_of("2013-05-06")) & (some[problem.EVENT_TIME] < start_of("2013-05-08"))
    assert hit.any()
    assert (spoilt["temp"][hit] - (some["temp"][hit] - 32) / 1.8).abs().max() < 1e-9
    pd.testing.assert_frame_equal(spoilt[~hit], some[~hit])
    pd.testing.assert_frame_equal(spoilt.drop(columns="temp"), some.drop(columns="temp"))


@pytest.mark.usefixtures("prepared")
def test_every_row_is_asked_about_once_and_no_outcome_is_told_before_it_is_known(home: Settings) -> None:
    seen = list(replay.moments(home, "2013-04-01", "2013-04-03", None))
    request = pd.concat([rows for _, rows, _ in seen])
    everything = problem.load(start_of("2013-04-20"), None, home.home.parent / "cache")
    wanted = everything[
        (everything[problem.EVENT_TIME] >= start_of("2013-04-01"))
        & (everything[problem.EVENT_TIME] < start_of("2013-04-04"))
    ]
    assert sorted(request[problem.ID]) == sorted(wanted[problem.ID])
    for now, rows, told in seen:
        assert (rows[problem.EVENT_TIME] < now).all()
        assert (told[problem.LABEL_TIME] < now).all()
    assert not pd.concat([told for _, _, told in seen])[problem.ID].duplicated().any()


@pytest.mark.usefixtures("prepared")
def test_every_local_midnight_is_a_moment_also_after_the_clocks_were_changed(home: Settings) -> None:
    seen = [now for now, _, _ in replay.moments(home, "2013-11-02", "2013-11-04", None)]
    assert {start_of("2013-11-03"), start_of("2013-11-04"), start_of("2013-11-05")} <= set(seen)
    assert seen[-1] == start_of("2013-11-05")


def test_traffic_counts_what_failed(days: Days, rows: pd.DataFrame) -> None:
    some = rows[rows[problem.TARGET].notna()].head(700)
    days.store.set_replay_time(rows[problem.LABEL_TIME].max().to_pydatetime())
    settings = days.settings.changed({"clock": "replay", "flush_seconds": 0.1})
    with serve(settings) as client:
        traffic = Traffic(str(client.base_url))
        traffic.predict(some)
        traffic.tell(some)
        assert (traffic.predictions, traffic.failed_predictions) == (700, 0)
        assert (traffic.outcomes, traffic.failed_outcomes) == (700, 0)
        traffic.predict(some.head(3).assign(distance=-1.0))
        assert (traffic.predictions, traffic.failed_predictions) == (703, 3)
        traffic.tell(some.head(2).assign(**{problem.ID: ""}))
        assert (traffic.outcomes, traffic.failed_outcomes) == (702, 2)
        assert [reason[:13] for reason in traffic.reasons] == ["predict: 422 ", "outcomes: 422"]
        traffic.close()
    assert {row["id"] for row in logged(settings)} == set(known_outcomes(settings))
    assert len(known_outcomes(settings)) == 700


def test_the_end_of_a_simulation_counts_every_failure_and_says_what_failed_first(
    days: Days, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    some = rows[rows[problem.TARGET].notna()].head(4)
    locked = days.settings.changed({"predict_key_hash": "b" * 64, "admin_key_hash": "a" * 64})
    with serve(locked) as client:
        traffic = Traffic(str(client.base_url))
        traffic.tell(some)
        traffic.predict(some)
        traffic.close()
    monkeypatch.setattr(summer, "run", lambda *_: summer.Story([], traffic, "1", days.settings.home))
    assert main(["simulate"]) == FAILED_REQUESTS
    printed = capsys.readouterr().out.splitlines()
    assert "champion 1 | failed requests 4 of 4 | failed outcomes 4 of 4" in printed[-1]
    assert [line.split()[:2] for line in printed[-3:-1]] == [["outcomes:", "401"], ["predict:", "401"]]
    assert "service.log" in printed[-4]
    monkeypatch.setattr(
        summer, "run", lambda *_: summer.Story([], Traffic(traffic.url, 4, outcomes=4), "1", days.settings.home)
    )
    assert main(["simulate"]) == 0
    assert "first" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_story_of_the_summer_quarantines_the_fault_and_ends_with_a_new_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What `make level2` does, and docs/level2.md tells."""
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    assert main(["simulate"]) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    told = (ROOT / "docs" / "level2.md").read_text()
    result: Any = re.search(
        r"1 faults quarantined \| 4 retrainings \| 0 rollbacks \| champion 2 \| failed requests 0 of ([\d,]+) \|", line
    )
    assert result, line
    assert f"0 of {result[1]} requests" in told
    store = Store(f"sqlite:///{tmp_path / 'level2' / 'operations.db'}")
    runs = overview.monitored(store)
    summer_home = Settings(home=tmp_path / "level2")
    assert len(list(evidently_snapshot.workspace(summer_home).glob("*/snapshots/*.json"))) == len(runs) > 10
    assert f"{runs[0].window.end:%Y-%m-%d}.html" in overview.path(summer_home).read_text()
    log = store.audit_log(problem.NAME)
    moved = [line for line in log if isinstance(line.action, DataQuarantined | RolloutMoved | TrainingJudged)]
    days = {f"{line.at.astimezone(ZoneInfo(problem.TIMEZONE)):%-d %B}" for line in moved}
    assert all(day in told for day in days), days
    store.close()
