"""The command line of a rollout: what a person types, what is printed, and the exit codes that scripts use."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import BudgetReset
from level1_pipeline.store.tables import rollouts
from level2_cicd.cli import main
from level2_cicd.control_loop import operate as control_loop
from level2_cicd.control_loop import outcome_inbox, situation
from level2_cicd.control_loop.next_action import NextAction
from level2_cicd.rollout import advance
from level2_cicd.rollout.state_machine import Decision
from monitoring import history
from tests.support.days import Days
from tests.support.serving import set_route


@pytest.fixture
def typed(days: Days, monkeypatch: pytest.MonkeyPatch, quiet: None) -> Days:
    days.settings = days.settings.changed({"clock": "replay"})
    days.store.set_replay_time(days.now)
    for name in ("home", "tracking_uri", "clock"):
        monkeypatch.setenv(f"MLOPS_{name.upper()}", str(getattr(days.settings, name)))
    return days


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_a_rollout_is_started_looked_at_advanced_and_rejected(typed: Days, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "status"]) == 0
    assert last_line(capsys) == f"rollout | {problem.NAME} | none is going on | champion 1"
    assert main(["rollout", "start", "2", "--reason", "new month"]) == 0
    assert last_line(capsys).startswith(f"rollout | {problem.NAME} | advance: shadow | PASS")
    assert main(["rollout", "advance"]) == 5
    assert "stay: shadow | INCONCLUSIVE" in last_line(capsys)
    assert main(["rollout", "stop", "--reason", "a look first"]) == 5
    assert "waits for a person: stopped" in last_line(capsys)
    assert main(["rollout", "approve", "2", "stopped", "--reason", "seen"]) == 5
    assert main(["rollout", "reject", "--reason", "no"]) == 0
    assert "roll back: rolled back" in last_line(capsys)


def test_a_candidate_that_is_rolled_back_has_its_own_exit_code(typed: Days, capsys: pytest.CaptureFixture[str]) -> None:
    typed.sometimes = 0.1
    typed.start()
    typed.pass_day()
    typed.store.set_replay_time(typed.now)
    assert main(["rollout", "advance"]) == 3
    assert "roll back: rolled back | FAIL | champion 1, challenger None" in last_line(capsys)


@pytest.mark.parametrize("meanwhile", ["the loop writes", "somebody rolls back"])
def test_an_approval_that_another_process_overtakes_stands_and_says_what_happens(
    typed: Days, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    monkeypatch.setenv("MLOPS_APPROVALS", "all")
    set_route(typed.settings, previous="3")
    assert main(["rollout", "start", "2", "--reason", "new month"]) == 5
    real = advance.advance

    def overtaken(settings: Settings, now: datetime | None = None) -> Decision | None:
        if meanwhile == "somebody rolls back":
            Registry(settings).rollback("an emergency")
            return real(settings, now)
        with Registry(settings).promotion():
            return real(settings, now)

    monkeypatch.setattr(advance, "advance", overtaken)
    assert main(["rollout", "approve", "2", "shadow", "--reason", "seen"]) == 0
    message = {
        "the loop writes": "approved; the loop takes the step",
        "somebody rolls back": "approved; but the rollout was ended meanwhile; see: make history",
    }
    assert last_line(capsys) == f"rollout | {problem.NAME} | {message[meanwhile]}"
    assert "rollout: approved" in [action for action, *_ in typed.audit()]
    monkeypatch.setattr(advance, "advance", real)
    taken = advance.advance(typed.settings.changed({"approvals": "all"}), typed.now)
    assert (taken and str(taken.step)) == (None if meanwhile == "somebody rolls back" else "shadow")


def test_what_is_refused_is_said_without_a_traceback(typed: Days, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "approve", "2", "shadow", "--reason", "yes"]) == 1
    assert capsys.readouterr().err.startswith("NoRollout: no rollout is going on")
    assert main(["rollout", "start", "1", "--reason", "again"]) == 1
    assert "champion already" in capsys.readouterr().err


def test_the_status_says_what_to_type_to_approve_and_nothing_else_is_approved(
    typed: Days, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_APPROVALS", "all")
    main(["rollout", "start", "2", "--reason", "new month"])
    assert main(["rollout", "status"]) == 5
    assert 'make approve VERSION=2 STEP="shadow"' in last_line(capsys)
    for meant in (["3", "shadow"], ["2", "canary 25 %"], ["2", "champion"], ["2", ""], ["", "shadow"]):
        assert main(["rollout", "approve", *meant, "--reason", "meant for something else"]) == 1
        assert "what waits is version 2, step 'shadow'" in capsys.readouterr().err
    assert "rollout: approved" not in [action for action, *_ in typed.audit()]
    assert main(["rollout", "approve", "--reason", "whatever waits"]) == 2
    main(["rollout", "approve", "2", "sha dow", "--reason", "spaces do not count"])
    assert "rollout: approved" in [action for action, *_ in typed.audit()]


@pytest.mark.parametrize("phase", ["take in outcomes", "monitor", "order a training"])
@pytest.mark.slow
def test_a_phase_of_the_loop_that_failed_shows_in_the_exit_code(
    typed: Days, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    assert main(["operate", "--once"]) == 0

    def fails(*_: object) -> list[str]:
        raise RuntimeError("planted")

    module, name = {
        "take in outcomes": (outcome_inbox, "take_in"),
        "monitor": (history, "newest"),
        "order a training": (control_loop, "due"),
    }[phase]
    monkeypatch.setattr(control_loop, "next_action", lambda _: NextAction("nothing"))
    monkeypatch.setattr(situation, "read", lambda *_: None)
    monkeypatch.setattr(module, name, fails)
    assert main(["operate", "--once"]) == 1
    printed = capsys.readouterr().out
    assert f"{phase}: failed (RuntimeError: planted)" in printed
    assert f"FAILED: {phase}" in printed.splitlines()[-1]


def test_a_person_resets_the_retraining_budget(typed: Days, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reset", "--reason", "the feed is mended"]) == 0
    assert typed.store.audit_log(problem.NAME)[-1].action == BudgetReset()


def test_a_script_reads_the_status_of_a_rollout_as_json(typed: Days, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollout", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) is None
    typed.start()
    assert main(["rollout", "status", "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["version"], status["champion"], status["step"]["state"]) == ("2", "1", "shadow")
    assert status["decision"]["kind"] == "advance"


def test_a_last_decision_that_other_code_wrote_is_left_out_of_the_status_and_the_rollout_goes_on(
    typed: Days, capsys: pytest.CaptureFixture[str]
) -> None:
    typed.start()
    with typed.store.engine.begin() as connection:
        (evidence,) = connection.execute(sa.select(rollouts.c.evidence)).scalars()
        checks = [{"name": "quality", "outcome": "pass", "words": "as an earlier release wrote it"}]
        older = evidence | {"decision": evidence["decision"] | {"checks": checks}}
        connection.execute(rollouts.update().values(evidence=older))
    assert main(["rollout", "status"]) == 0
    assert last_line(capsys).startswith(f"rollout | {problem.NAME} | version 2 in shadow since")
    assert main(["rollout", "advance"]) == 5


@pytest.mark.parametrize("command", ["operate", "trigger", "simulate", "rollout", "trace", "rollback", "reset"])
def test_the_help_of_each_command_teaches_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"Example: python -m level2_cicd {command}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "--until", "2013-1"], "Invalid value for '--until'"),
        (["trigger", "now", "--reason", "x"], "'now' is not one of"),
        (["reset"], "Missing option '--reason'"),
        (["rollouts"], "No such command 'rollouts'"),
    ],
)
def test_a_command_that_nobody_understands_ends_with_code_2_and_says_where(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
