"""The commands: a route is changed safely and with an audit line; a key is made; a flight is scored over HTTP."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store.routes import Route
from serving import server
from serving.__main__ import main
from tests.support.child_processes import living_children
from tests.support.serving import Models, edit_manifest, logged, opened, serve, set_route


@pytest.fixture
def at_home(served: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The commands read their settings from the environment."""
    for name in ("home", "actor"):
        monkeypatch.setenv(f"MLOPS_{name.upper()}", str(getattr(served, name)))
    return served


def route_of(settings: Settings) -> Route:
    with opened(settings) as store:
        return store.route(problem.NAME)


def test_a_challenger_goes_through_shadow_and_canary_and_out_again(
    at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["route", "--mode", "shadow", "--challenger", "2", "--reason", "look at it"]) == 0
    assert route_of(at_home) == Route("1", "2", "shadow", 0.0)
    assert main(["route", "--mode", "canary", "--share", "0.25", "--reason", "it looks good"]) == 0
    assert route_of(at_home) == Route("1", "2", "canary", 0.25)
    assert capsys.readouterr().out.splitlines()[-1].endswith("champion 1, challenger 2, mode canary, share 0.25")
    assert main(["route", "--mode", "none", "--reason", "enough"]) == 0
    assert route_of(at_home) == Route("1", "2", None, 0.0)
    with opened(at_home) as store:
        lines = store.audit_log(problem.NAME)[1:]
    assert [(line.text, line.reason, line.actor) for line in lines] == [
        ("route: shadow", "look at it", "tester"),
        ("route: canary", "it looks good", "tester"),
        ("route: no challenger", "enough", "tester"),
    ]
    after = lines[1].evidence["route_after"]
    assert (after["challenger"], after["mode"], after["share"]) == ("2", "canary", 0.25)


def test_scripts_get_json(at_home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "--mode", "shadow", "--challenger", "2", "--reason", "look at it", "--json"]) == 0
    assert Route(**json.loads(capsys.readouterr().out)) == route_of(at_home) == Route("1", "2", "shadow", 0.0)


def test_the_help_of_each_command_teaches_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "key", "route", "score", "batch"):
        assert main([command, "--help"]) == 0
        assert f"Example: python -m serving {command}" in capsys.readouterr().out


def test_a_command_line_that_nobody_understands_has_the_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "--mode", "sideways", "--reason", "a try"]) == 2
    assert "sideways" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["-1", "0", "two"])
def test_a_service_has_at_least_one_process(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--workers", workers]) == 2
    assert "--workers" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "shadow"], "name a published one with --challenger"),
        (["--mode", "shadow", "--challenger", "1"], "is the champion already"),
        (["--mode", "shadow", "--challenger", "99"], "not a complete bundle"),
        (["--mode", "shadow", "--challenger", "../1"], "is no version"),
        (["--mode", "shadow", "--challenger", ".."], "is no version"),
        (["--mode", "canary", "--challenger", "2"], "needs --share"),
        (["--mode", "canary", "--challenger", "2", "--share", "1.5"], "needs --share"),
        (["--mode", "shadow", "--challenger", "2", "--share", "0.5"], "a shadow has none"),
        (["--mode", "shadow", "--challenger", "3"], "has not passed the gate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_route_that_makes_no_sense_is_refused_and_changes_nothing(
    at_home: Settings, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    edit_manifest(at_home.home / "bundles" / problem.NAME / "3", verdict="fail")
    assert main(["route", *arguments, "--reason", "a try"]) == 1
    assert message in capsys.readouterr().err
    assert route_of(at_home) == Route("1")


def test_a_route_cannot_change_while_somebody_promotes(at_home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with Registry(at_home).promotion():
        assert main(["route", "--mode", "shadow", "--challenger", "2", "--reason", "a try"]) == 1
    assert "LeaseHeld" in capsys.readouterr().err
    assert route_of(at_home) == Route("1")


def test_without_a_champion_there_is_no_route_to_change(
    home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(home.home))
    assert main(["route", "--mode", "shadow", "--challenger", "2", "--reason", "a try"]) == 1
    assert "make level1" in capsys.readouterr().err


def test_a_key_comes_with_the_hash_to_configure(at_home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["key"]) == 0
    first, _, last = capsys.readouterr().out.splitlines()
    key, fingerprint = first.rpartition(" ")[2], last.rpartition(" ")[2]
    assert hashlib.sha256(key.encode()).hexdigest() == fingerprint
    assert len(key) >= 43
    Settings(predict_key_hash=fingerprint)
    assert not list(Path(at_home.home).rglob("*key*"))  # kept nowhere


@pytest.fixture
def no_threads_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "restored at the end")
    monkeypatch.delenv("OMP_NUM_THREADS")


@pytest.mark.usefixtures("no_threads_set")
@pytest.mark.slow
def test_a_worker_scores_on_one_thread(served: Settings, start: Any) -> None:
    service = start(served, "--workers", "2")
    workers = living_children(service.process.pid, "spawn_main")
    assert len(workers) == 2
    assert [worker.environ()["OMP_NUM_THREADS"] for worker in workers] == ["1", "1"]


@pytest.mark.usefixtures("no_threads_set")
@pytest.mark.parametrize(("given", "result"), [(None, "1"), ("4", "4")])
def test_one_thread_is_set_before_a_single_worker_starts_unless_somebody_wants_more(
    at_home: Settings, monkeypatch: pytest.MonkeyPatch, given: str | None, result: str
) -> None:
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    seen: list[str | None] = []
    monkeypatch.setattr(server, "run", lambda *_: seen.append(os.environ.get("OMP_NUM_THREADS")))
    assert main(["run"]) == 0
    assert seen == [result]


def test_a_row_is_scored_over_http_by_a_service_started_for_it(
    at_home: Settings, models: Models, rows: pd.DataFrame, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (at_home.home / "cache").symlink_to(cache)  # prepared once for all tests
    row = rows.iloc[5007]
    assert main(["score", "--id", row[problem.ID]]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"score over HTTP | {problem.NAME} | {row[problem.ID]} | {models.scores[0][7]:.6f} -> ")
    (kept,) = logged(at_home)
    assert (kept["id"], kept["entity_id"], kept["record"]) == (row[problem.ID], row[problem.ENTITY], models.records[7])


def test_a_row_is_scored_over_http_by_a_running_service(
    at_home: Settings, models: Models, rows: pd.DataFrame, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (at_home.home / "cache").symlink_to(cache)
    set_route(at_home, champion="2")
    with serve(at_home) as client:
        assert main(["score", "--id", rows.iloc[5007][problem.ID], "--url", str(client.base_url)]) == 0
    assert f"{models.scores[1][7]:.6f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "message"), [("http://127.0.0.1:9", "make serve"), ("file:///etc/passwd", "is no address of a service")]
)
def test_a_service_that_is_not_there_is_said_so(
    at_home: Settings, rows: pd.DataFrame, cache: Path, capsys: pytest.CaptureFixture[str], url: str, message: str
) -> None:
    (at_home.home / "cache").symlink_to(cache)
    seen_before: Any = rows.iloc[0][problem.ID]
    assert main(["score", "--id", seen_before, "--url", url]) == 1
    assert message in capsys.readouterr().err
