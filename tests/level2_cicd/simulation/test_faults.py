"""Planted faults: what each spoils and what it leaves alone, who is told when one does not exist, and its figures."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from level1_pipeline import problem, schema
from level1_pipeline.inputs import source
from level1_pipeline.settings import Settings
from level1_pipeline.store import audit
from level1_pipeline.store.days import start_of
from level2_cicd.cli import main
from level2_cicd.simulation import checkpoint, pipelines, replay, year
from level2_cicd.simulation.faults import report, spoiling, table
from level2_cicd.simulation.faults.figures import FaultFigures, Log, figures
from level2_cicd.simulation.faults.table import Planted, named
from level2_cicd.simulation.policies import Played
from level2_cicd.simulation.world import World

FIRST = "2013-06-03"
BY_NAME = {fault.name: fault for fault in table.TABLE}
flights = pytest.mark.flights
SHORT = ("celsius", "flipped", "release")


@pytest.fixture(scope="module")
def some(rows: pd.DataFrame) -> pd.DataFrame:
    """Days before, in and after every fault but the longest ones."""
    time = rows[problem.EVENT_TIME]
    return rows[(time >= start_of("2013-05-20")) & (time < start_of("2013-07-08"))].reset_index(drop=True)


def changed(name: str, rows: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """The spoilt rows, which ones are touched, and the columns that differ."""
    spoilt = Planted(BY_NAME[name], FIRST).spoil(rows)
    return (
        spoilt,
        spoiling.touched(rows, spoilt),
        [column for column in rows if not rows[column].equals(spoilt[column])],
    )


@flights
@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("celsius", ["temp"]),
        ("stuck", ["temp"]),
        ("feed", [*spoiling.readings()]),
        ("carrier", ["carrier"]),
        ("clock", [*spoiling.readings()]),
        ("flipped", ["late"]),
        ("unlabelled", ["label_time"]),
        ("release", []),
        ("concept", ["late"]),
        ("drift", ["temp"]),
    ],
)
def test_a_fault_touches_its_columns_on_its_days_only_and_breaks_no_rule_of_the_schema(
    some: pd.DataFrame, name: str, columns: list[str]
) -> None:
    spoilt, touched, different = changed(name, some)
    planted = Planted(BY_NAME[name], FIRST)
    assert different == columns
    assert touched.any() == bool(columns)
    times = some[problem.LABEL_TIME if name == "unlabelled" else problem.EVENT_TIME][touched]
    assert ((times >= planted.start) & (times < planted.end)).all()
    assert schema.violations(spoilt) == []
    assert spoilt.dtypes.equals(some.dtypes)


@flights
def test_a_stuck_sensor_says_the_same_at_each_airport(some: pd.DataFrame) -> None:
    spoilt, _, _ = changed("stuck", some)
    inside = spoiling.in_span(some, start_of(FIRST), start_of("2013-06-17"))
    assert {len(set(part)) for _, part in spoilt[inside].groupby("origin")["temp"]} == {1}


@flights
def test_a_missing_feed_is_that_of_one_airport(some: pd.DataFrame) -> None:
    spoilt, touched, _ = changed("feed", some)
    assert len(set(some["origin"][touched])) == 1
    assert spoilt.loc[touched, spoiling.readings()].isna().all(axis=None)


@flights
def test_a_new_carrier_has_a_code_that_no_row_had(some: pd.DataFrame) -> None:
    spoilt, touched, _ = changed("carrier", some)
    (code,) = set(spoilt["carrier"][touched])
    assert code not in set(some["carrier"])
    assert set(some["carrier"][touched]) == {"UA"}


@flights
def test_a_clock_that_is_an_hour_behind_gives_what_was_known_an_hour_ago(some: pd.DataFrame) -> None:
    spoilt, _, _ = changed("clock", some)
    late = some[(some["origin"] == "JFK") & (some[problem.EVENT_TIME] >= start_of("2013-06-05"))].iloc[300]
    before = some[(some["origin"] == "JFK") & (some[problem.EVENT_TIME] <= late[problem.EVENT_TIME] - spoiling.HOUR)]
    assert spoilt.loc[late.name, "temp"] == before["temp"].iloc[-1]
    assert spoilt.loc[late.name, "distance"] == late["distance"]


@flights
def test_flipped_labels_are_all_those_of_one_carrier_and_unknown_ones_stay_unknown(some: pd.DataFrame) -> None:
    spoilt, touched, _ = changed("flipped", some)
    assert len(set(some["carrier"][touched])) == 1
    assert (spoilt["late"][touched] == 1 - some["late"][touched]).all()
    assert (spoilt["late"].isna() == some["late"].isna()).all()


@flights
def test_labels_that_are_missing_come_at_the_end_of_the_fault_and_not_before(some: pd.DataFrame) -> None:
    planted = Planted(BY_NAME["unlabelled"], FIRST)
    before, after = (planted.as_seen(some, start_of(day)) for day in ("2013-06-20", "2013-07-08"))
    open_ = (some[problem.LABEL_TIME] >= planted.start) & (some[problem.LABEL_TIME] < start_of("2013-06-20"))
    assert before["late"][open_].isna().all()
    pd.testing.assert_series_equal(after["late"][open_], some["late"][open_])


@flights
def test_a_sensor_drifts_a_little_more_each_day(some: pd.DataFrame) -> None:
    spoilt, _, _ = changed("drift", some)
    error = (spoilt["temp"] - some["temp"]).groupby(some[problem.EVENT_TIME].dt.date).median().dropna()
    inside = error[(error.index > start_of(FIRST).date()) & (error.index < start_of("2013-07-07").date())]
    assert inside.is_monotonic_increasing
    assert inside.iloc[-1] > 10 * inside.iloc[0] > 0


@flights  # the days are of 2013
def test_a_fault_spoils_every_load_alike(some: pd.DataFrame) -> None:
    for fault in named("all"):
        planted = Planted(fault, FIRST)
        shuffled = planted.spoil(some.sample(frac=1, random_state=1)).sort_index()
        pd.testing.assert_frame_equal(shuffled, planted.spoil(some))


@flights  # the days are of 2013
def test_the_training_rows_of_a_bad_release_have_the_inputs_of_other_rows(some: pd.DataFrame) -> None:
    mixed = spoiling.inputs_of_others(some)
    assert schema.violations(mixed) == []
    pd.testing.assert_frame_equal(mixed.drop(columns=schema.names()), some.drop(columns=schema.names()))
    for name in schema.names():
        assert sorted(mixed[name].fillna(-1) if mixed[name].dtype.kind == "f" else mixed[name]) == sorted(
            some[name].fillna(-1) if some[name].dtype.kind == "f" else some[name]
        )


def test_the_gate_of_a_bad_release_is_there_again_when_it_is_gone() -> None:
    before = json.dumps(problem.GATE)
    with table.bad_release():
        assert json.dumps(problem.GATE) != before
    assert json.dumps(problem.GATE) == before


@flights
@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize(("name", "in_source"), [("celsius", False), ("stuck", True)])
def test_callers_always_send_what_is_wrong_and_the_source_has_it_where_the_fault_says_so(
    home: Settings, name: str, in_source: bool
) -> None:
    planted, own = Planted(BY_NAME[name], "2013-04-02"), home.changed({"home": home.home.parent})
    clean = source.load(own, start_of("2013-04-05")).set_index(problem.ID)["temp"]
    with planted.world():
        seen = source.load(own, start_of("2013-04-05")).set_index(problem.ID)["temp"]
        moments = list(replay.moments(home, "2013-04-02", "2013-04-03", planted))
    sent = pd.concat([rows for _, rows, _ in moments]).set_index(problem.ID)["temp"]
    assert (sent != clean[sent.index]).mean() > 0.5
    assert ((seen != clean) & clean.notna()).any() == in_source


# ---- names


@pytest.mark.parametrize("text", ["", "celsius,typo", "Celsius"])
def test_a_name_that_is_no_fault_is_refused_with_all_names(text: str) -> None:
    with pytest.raises(ValueError, match=r"there is no fault '.*'; there are celsius, stuck, .*, drift, and all"):
        named(text)


def test_the_command_refuses_an_unknown_fault_and_a_year_that_ends_too_early_as_other_usage_errors(
    home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(home.home))
    assert main(["year", "--faults", "typo"]) == 2
    assert "there is no fault 'typo'" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert main(["year", "--until", "2013-04-30", "--faults", "release"]) == 2
    assert "before its tenth week" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_fault_that_does_not_fit_the_problem_is_refused_in_a_sentence_and_all_leaves_it_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(problem, "SLICES", ())
    with pytest.raises(ValueError, match=f"the fault 'carrier' does not fit the problem {problem.NAME}: it needs"):
        named("carrier")
    assert [fault.name for fault in named("all")] == ["unlabelled", "release", "concept"]


def test_spaces_and_a_name_twice_do_no_harm() -> None:
    assert [fault.name for fault in named("release, unlabelled,release")] == ["release", "unlabelled"]


# ---- checkpoints and figures


def test_a_checkpoint_has_all_rows_of_an_open_database_and_is_made_once(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "checkpoints" / FIRST
    (home / "bundles").mkdir(parents=True)
    (home / "bundles" / "model").write_text("1")
    for name in checkpoint.DATABASES:
        with closing(sqlite3.connect(home / name)) as made:
            made.execute("CREATE TABLE t (x)")
            made.commit()
    with closing(sqlite3.connect(home / "operations.db")) as written:
        written.execute("PRAGMA journal_mode=WAL")
        written.execute("INSERT INTO t VALUES (1)")
        written.commit()
        checkpoint.keep_checkpoint(home, folder)
        written.execute("INSERT INTO t VALUES (2)")
        written.commit()
        checkpoint.keep_checkpoint(home, folder)
    with closing(sqlite3.connect(folder / "operations.db")) as copy:
        assert copy.execute("SELECT x FROM t").fetchall() == [(1,)]
    assert (folder / "bundles" / "model").read_text() == "1"
    assert not list(tmp_path.glob("checkpoints/*.partial"))


def line(day: str, action: audit.Action, **evidence: Any) -> audit.Line:
    at: datetime = start_of(day).to_pydatetime()
    return audit.Line(1, at, at, "loop", action, action.text, "", None, None, evidence)


@pytest.fixture
def lived(home: Settings, rows: pd.DataFrame, cache: Path) -> Callable[..., FaultFigures]:
    """Figures of a fault of three days, whose answers are `wrong` in these days, and `after` in the fortnight after it."""
    own = home.changed({"home": cache.parent / "of-figures"})
    own.home.mkdir(exist_ok=True)
    if not (own.home / "cache").exists():
        (own.home / "cache").symlink_to(cache)
    world = World(own, "2013-06-01", "2013-06-20")
    good = np.where(np.nan_to_num(world.labels) == 1, 0.6, 0.2)

    def make(wrong: float, after: float, causes: dict[str, str], log: list[audit.Line]) -> FaultFigures:
        planted = Planted(replace(BY_NAME["celsius"], days=3), FIRST)
        scores = np.where(world.since(FIRST), wrong, good)
        scores = np.where(world.since("2013-06-06"), good + after, scores)
        scores = np.where(world.since("2013-06-09"), good, scores)
        clean = Log(
            [line("2013-06-10", audit.TrainingJudged(status="pass"), trigger="staleness")], {"2013-06-04": "nothing"}
        )
        runs_of = [Played("level 2", 0, (), scores=each) for each in (scores, good)]
        return figures(world, world, planted, runs_of[0], runs_of[1], Log(log, causes), clean)

    return make


@flights
def test_the_figures_say_when_a_fault_was_seen_what_it_did_and_when_all_was_well(
    lived: Callable[..., FaultFigures],
) -> None:
    judged = line("2013-06-11", audit.TrainingJudged(status="fail"), trigger="performance drop")
    others = [line("2013-06-12", audit.TrainingJudged(status="pass"), trigger="staleness")]
    both = lived(0.9, 0.1, {"2013-06-04": "nothing", "2013-06-05": "data fault"}, [judged, *others])
    assert (both.detected, both.alarm, both.caused, both.bad) == (2, "data fault", 1, 0)
    assert both.recovered == 3
    assert 2000 < both.other_actions < 3000
    assert both.ratio is not None
    assert both.ratio > 1.01
    assert len(both.misses) == 2
    assert both.trainings[0].startswith("2013-06-11 performance drop")
    harmless = lived(0.9, 0.0, {"2013-06-05": "data fault"}, others)
    assert (harmless.caused, harmless.recovered, harmless.ratio, harmless.misses) == (0, 0, 1.0, [])


@flights
def test_a_fault_that_nobody_sees_is_a_missed_goal_and_a_rollback_is_an_alarm(
    lived: Callable[..., FaultFigures],
) -> None:
    unseen = lived(0.9, 0.0, {"2013-06-05": "covariate shift"}, [])
    assert unseen.detected is None
    assert unseen.misses == ["celsius: no alarm named it."]
    stopped = lived(0.9, 0.0, {}, [line("2013-06-04", audit.RolloutMoved("2", step="rolled back"))])
    assert (stopped.detected, stopped.misses) == (1, [])


@flights
def test_figures_are_read_again_as_they_were_and_shown_with_each_missed_goal(
    lived: Callable[..., FaultFigures], tmp_path: Path
) -> None:
    unseen = lived(0.9, 0.0, {}, [])
    assert FaultFigures.load(tmp_path, unseen.name) is None
    unseen.save(tmp_path)
    assert FaultFigures.load(tmp_path, unseen.name) == unseen
    report.show([unseen], Console(file=(out := io.StringIO())))
    assert "no alarm named it" in out.getvalue()
    assert len(report.cells(unseen)) == len(report.COLUMNS)
    assert report.missed([replace(unseen, detected=1)]) == ["Every goal was reached."]


@flights
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("prepared")
def test_faults_in_spring_lead_to_no_bad_promotion_and_degrees_celsius_go_into_quarantine_and_start_no_training(
    home: Settings, cache: Path
) -> None:
    """With three weeks of history, wrong labels are still taken for a concept drift: their candidate fails the gate."""
    lived = replace(year.of(home, "2013-04-01", "2013-04-30"), faults_week=3)
    lived.settings.home.mkdir(parents=True)
    (lived.settings.home / "cache").symlink_to(cache)
    own = lived.home("level2")

    def keep(day: str) -> None:
        if day == lived.faults_begin:
            checkpoint.keep_checkpoint(own.home, lived.checkpoints / day)

    pipelines.managed(lived.world, own, lambda *_: None, keep).save(lived.settings.home)
    short = [replace(BY_NAME[name], days=min(BY_NAME[name].days, 7), after_days=2) for name in SHORT]
    short = [replace(fault, after_days=7) if fault.name == "release" else fault for fault in short]
    lines = {each.name: each for each in year.run_faults(lived, short, Console(file=io.StringIO()))}
    assert set(lines) == set(SHORT)
    assert [each.bad for each in lines.values()] == [0, 0, 0]
    celsius, flipped = lines["celsius"], lines["flipped"]
    assert (celsius.detected, celsius.alarm, celsius.caused, celsius.ratio) == (1, "data fault", 0, 1.0)
    assert celsius.other_actions > 100
    assert flipped.other_actions == 0
    assert all(training.endswith("gate fail") for training in flipped.trainings)
    assert lines["release"].ratio == 1.0  # it is other code, so it has to wait in the shadow: nobody got its answers
