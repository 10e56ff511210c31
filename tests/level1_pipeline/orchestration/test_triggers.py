"""Who else starts a training: a schedule, and new data. (On demand: test_pipeline.py.)"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from level1_pipeline import cli as command_line
from level1_pipeline import flights, problem
from level1_pipeline.orchestration import new_data
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import Change, Line, TrainingJudged, TrainingStopped
from level1_pipeline.store.database import Store

pytestmark = [pytest.mark.flights, pytest.mark.integration]


@pytest.fixture
def seeded(home: Settings, rows: pd.DataFrame, cache: Path) -> Settings:
    """A new home with the prepared rows."""
    home.home.mkdir()
    (home.home / "cache").symlink_to(cache)
    return home


def at(settings: Settings, local: str) -> Settings:
    """The same home at noon of another day."""
    noon = pd.Timestamp(f"{local} 12:00").tz_localize(problem.TIMEZONE)
    return settings.changed({"clock": noon.isoformat()})


def trainings(settings: Settings) -> list[Line]:
    lines = Store(settings.operations).audit_log(problem.NAME)
    return [line for line in lines if isinstance(line.action, TrainingJudged)]


def trained_as_of(settings: Settings, local: str) -> None:
    """What a training writes down when it ends."""
    when = pd.Timestamp(local).tz_localize(problem.TIMEZONE).tz_convert("UTC")
    change = Change("tester", TrainingJudged(as_of=when.isoformat(), status="fail"), "", when)
    Store(settings.operations).record(problem.NAME, change)


# ---- new data


def test_a_month_is_new_once_its_last_outcomes_have_matured_and_not_before(seeded: Settings) -> None:
    trained_as_of(seeded, "2013-03-04")
    result = {
        local: new_data.new_month(at(seeded, local))
        for local in ("2013-03-31", "2013-04-01", "2013-04-02", "2013-04-03", "2013-04-29")
    }
    assert result == {
        "2013-03-31": None,
        "2013-04-01": None,
        "2013-04-02": None,  # the outcomes of the last evening are open until noon
        "2013-04-03": "2013-03",
        "2013-04-29": "2013-03",
    }


def test_a_month_that_was_trained_is_not_new_whatever_the_gate_said(seeded: Settings) -> None:
    trained_as_of(seeded, "2013-04-05")
    assert new_data.new_month(at(seeded, "2013-04-20")) is None
    assert new_data.new_month(at(seeded, "2013-05-05")) == "2013-04"


def test_a_training_that_was_stopped_by_bad_data_does_not_count(seeded: Settings) -> None:
    stopped = TrainingStopped(as_of="2013-04-05T04:00:00+00:00")
    change = Change("tester", stopped, "a column is missing", pd.Timestamp("2013-04-05", tz="UTC"))
    Store(seeded.operations).record(problem.NAME, change)
    assert new_data.new_month(at(seeded, "2013-04-05")) == "2013-03"


def test_a_month_without_rows_is_not_new_data(seeded: Settings) -> None:
    trained_as_of(seeded, "2013-12-04")
    assert new_data.new_month(at(seeded, "2014-01-10")) == "2013-12"
    trained_as_of(seeded, "2014-01-10")
    assert new_data.new_month(at(seeded, "2014-03-10")) is None


@pytest.mark.slow
def test_the_watcher_trains_once_for_a_new_month_and_then_not_again(
    seeded: Settings, prefect: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(seeded.home))
    monkeypatch.setenv("COLUMNS", "300")
    look: Callable[[], int] = lambda: command_line.main(["watch", "--once", "--promote-to", "none"])  # noqa: E731
    monkeypatch.setenv("MLOPS_CLOCK", at(seeded, "2013-03-03").clock)
    assert look() == 0
    assert "gate PASS" in capsys.readouterr().out
    assert [(line.evidence["trigger"], line.reason) for line in trainings(seeded)] == [
        ("new data", "all of 2013-02 has its outcomes")
    ]
    monkeypatch.setenv("MLOPS_CLOCK", at(seeded, "2013-03-20").clock)
    assert look() == 0
    assert "no new month of labelled rows as of 2013-03-20" in capsys.readouterr().out
    assert len(trainings(seeded)) == 1


def test_the_watcher_outlives_data_that_cannot_be_read(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(flights.source_folder(), tmp_path / "source"))
    archive = folder / "flights.csv.zip"
    archive.write_bytes(archive.read_bytes()[:1000])
    monkeypatch.setenv("MLOPS_HOME", str(home.home))
    monkeypatch.setenv("MLOPS_SOURCE", str(folder))
    monkeypatch.setenv("MLOPS_CLOCK", at(home, "2013-03-03").clock)
    assert command_line.main(["watch", "--once"]) == 4
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        archive.unlink(missing_ok=True)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", pause)
    command_line.main(["watch", "--every", "7"])
    assert pauses == [7.0] * 3
    lines = [line for line in capsys.readouterr().out.splitlines() if "not trained: " in line]
    assert len(lines) == 4
    assert all("flights.csv.zip" in line for line in lines)
