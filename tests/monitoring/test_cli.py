"""`python -m monitoring` as a person or a script uses it: real processes, a real store, exit codes that mean something."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import psutil
import pytest
import sqlalchemy as sa

from level1_pipeline import problem
from level1_pipeline.errors import NoAnswer
from level1_pipeline.settings import Settings
from level1_pipeline.store import quarantine
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import monitoring_runs, predictions, tickets
from monitoring import cli, history
from monitoring.alerting import tickets as incidents
from monitoring.data import retention
from monitoring.data.prediction_window import last_days
from monitoring.reporting import dashboards, evidently_snapshot, plots
from monitoring.reporting.dashboards import Dashboard
from monitoring.results import Cause, MonitoringRun, Window
from monitoring.thresholds import WINDOW_DAYS
from tests.support import ROOT
from tests.support.homes import Done, in_process
from tests.support.monitoring_runs import CHANGE, END, FAULT, NOTHING, RELEASE, RETURN, SHIFT, UNSURE, a_run
from tests.support.prediction_log import log_predictions
from tests.support.problems import ONE_NUMBER
from tests.support.serving import eventually
from tests.support.webhook import listener
from tests.support.world import midnight

PAGES = ROOT / "docs" / "monitoring-operations.md"


@pytest.fixture(autouse=True)
def _without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures of a report are looked at where reports are tested; they take most of the time of a run."""
    monkeypatch.setattr(plots, "picture", lambda _, alt, *__: plots.Picture(alt, "data:,"))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `python -m monitoring …` in this process, two hours after END, on the settings of the test."""
    run = in_process(cli.main, monkeypatch, capsys)
    now = (END + timedelta(hours=2)).isoformat()
    return lambda settings, *arguments, **more: run(settings.home, *arguments, **{"MLOPS_CLOCK": now, **more})


def run(settings: Settings, monkeypatch: pytest.MonkeyPatch, result: MonitoringRun) -> int:
    """One run by the command's own code, with a finding given."""
    with monkeypatch.context() as patch:
        patch.setattr(cli, "run_monitoring", lambda *_, **__: result)
        patch.setattr(cli, "open_settings", lambda: settings)
        return cli.main(["run", "--no-snapshot"])


@pytest.mark.parametrize(
    ("answer", "code"),
    [(NOTHING, 0), (SHIFT, 0), (CHANGE, 3), (RELEASE, 3), (RETURN, 3), (FAULT, 4), (UNSURE, 5)],
    ids=lambda item: getattr(item, "cause", str(item)),
)
def test_the_exit_code_says_what_is_due(
    home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: Any, code: int
) -> None:
    assert run(home, monkeypatch, a_run(answer)) == code
    last = capsys.readouterr().out.strip().splitlines()[-1]
    start, end = "2013-07-01", "2013-07-08"
    assert last.startswith(f"monitor | {problem.NAME} | window {start} to {end} | verdict {answer.cause}")
    page = Path(last.split(" | report ")[1])
    assert answer.message in page.read_text()
    assert "mlops_monitor_cause" in (home.home / "reports" / "monitor" / f"{problem.NAME}.prom").read_text()


def test_every_cause_has_an_exit_code_and_the_page_lists_each() -> None:
    assert set(cli.CODES) == set(get_args(Cause))
    text = PAGES.read_text()
    assert [code for code in {0, 1, 2, *cli.CODES.values()} if f"| {code} |" not in text] == []


@pytest.mark.evidence("nothing is there yet")
def test_the_first_run_of_an_empty_home_says_what_is_missing_and_is_not_a_success(
    home: Settings, command: Callable[..., Done]
) -> None:
    done = command(home, "run")
    assert done.returncode == cli.INCONCLUSIVE, done.stderr
    assert "| verdict inconclusive: wait (0 matured outcomes of 0 predictions" in done.stdout.splitlines()[-1]
    assert "missing:" in done.stdout


def test_a_script_can_have_the_run_and_the_tickets_as_json(
    home: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "run_monitoring", lambda *_, **__: a_run(FAULT))
    monkeypatch.setattr(cli, "open_settings", lambda: home)
    assert cli.main(["run", "--no-snapshot", "--json"]) == cli.FAULT
    printed = json.loads(capsys.readouterr().out)
    assert MonitoringRun.from_dict({name: printed[name] for name in printed if name != "report"}) == a_run(FAULT)
    assert Path(printed["report"]).exists()
    assert cli.main(["tickets", "--json"]) == 0
    assert [row["incident"] for row in json.loads(capsys.readouterr().out)] == ["data fault: origin=JFK"]


@pytest.mark.slow
def test_the_same_pass_again_leaves_one_row_and_one_page(
    home: Settings, store: Store, command: Callable[..., Done]
) -> None:
    for _ in range(2):
        command(home, "run", "--no-snapshot")
    with store.engine.begin() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(monitoring_runs)) == 1
    assert len(list((home.home / "reports" / "monitor" / problem.NAME).iterdir())) == 1


def test_a_run_opens_its_ticket_tells_the_webhook_and_the_ticket_can_be_read(
    home: Settings, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Done]
) -> None:
    with listener() as (url, got):
        settings = home.changed({"webhook": url})
        run(settings, monkeypatch, a_run(FAULT))
        run(settings, monkeypatch, a_run(NOTHING, weeks=1))
    assert [(item["event"], item["incident"]) for item in got] == [
        ("opened", "data fault: origin=JFK"),
        ("closed", "data fault: origin=JFK"),
    ]
    assert "How to decide" in command(home, "tickets", "1").stdout
    assert command(home, "tickets").stdout.splitlines()[-1] == f"tickets | {problem.NAME} | 0 open"
    assert command(home, "tickets", "9").returncode == 1


def test_a_webhook_that_fails_does_not_stop_the_run(
    home: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with listener(fail=99) as (url, _), caplog.at_level(logging.ERROR):
        assert run(home.changed({"webhook": url}), monkeypatch, a_run(CHANGE)) == cli.ACT
    assert "did not take ticket 1" in caplog.text


def test_an_evidently_that_fails_does_not_hide_what_the_run_found(
    home: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(cli, "run_monitoring", lambda *_, **__: a_run(CHANGE))
    monkeypatch.setattr(evidently_snapshot, "write", fails)
    monkeypatch.setattr(cli, "open_settings", lambda: home)
    assert cli.main(["run"]) == cli.ACT
    assert "the snapshot failed" in caplog.text


def test_each_run_applies_the_retention(home: Settings, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    times = {"a": END - timedelta(days=402)} | {f"young {n}": END - timedelta(days=1) for n in range(9)}
    log_predictions(store, [{"id": name, "at": at, "record": {}, "score": 0.5} for name, at in times.items()])
    run(home, monkeypatch, a_run(NOTHING))
    with store.engine.begin() as connection:
        assert set(connection.scalars(sa.select(predictions.c.id))) == times.keys() - {"a"}


def test_a_run_that_would_delete_much_deletes_nothing_and_asks_a_person(
    home: Settings, store: Store, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Done]
) -> None:
    times = {"old": END - timedelta(days=440), "young": END - timedelta(days=1)}
    log_predictions(store, [{"id": name, "at": at, "record": {}, "score": 0.5} for name, at in times.items()])
    assert run(home, monkeypatch, a_run(NOTHING)) == cli.FINE
    with store.engine.begin() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(predictions)) == 2
    (ticket,) = incidents.open_tickets(store)
    assert "1 predictions and 0 outcomes are older than 400 days" in ticket["body"]
    assert "retain --confirm" in ticket["body"]
    done = command(home, "retain")
    assert (done.returncode, "Traceback" in done.stderr, "nothing was deleted" in done.stderr) == (1, False, True)
    assert "| 1 predictions and 0 outcomes" in command(home, "retain", "--confirm").stdout


@ONE_NUMBER
def test_outcomes_forget_and_retain_end_with_a_line_and_a_code(
    home: Settings, store: Store, tmp_path: Path, command: Callable[..., Done]
) -> None:
    log_predictions(store, [{"id": "a", "at": END, "entity_id": "person-4711", "record": {}, "score": 0.5}])
    (tmp_path / "some.csv").write_text("id,value\na,1\nb,\n")
    done = command(home, "outcomes", str(tmp_path / "some.csv"))
    assert (done.returncode, "row 2: value is no number" in done.stdout) == (cli.FAULT, True)
    assert done.stdout.splitlines()[-1].endswith(
        "2 rows | 1 new, 0 unchanged, 0 corrected, 0 of no logged prediction | 1 bad"
    )
    assert command(home, "outcomes", str(tmp_path / "none.csv")).returncode == 1
    done = command(home, "forget", "--entity", "person-4711")
    assert (done.returncode, done.stdout.startswith(f"forget | {problem.NAME} | 1 predictions, 1 outcomes")) == (
        0,
        True,
    )
    done = command(home, "forget", "--entity", "person-4711x")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert command(home, "retain").stdout.startswith(f"retain | {problem.NAME} | 0 predictions")


def _write_and_die(settings: Settings, result: MonitoringRun) -> None:
    """The command, whose process is killed right after its row is written."""

    def record_and_die(*_: Any, **__: Any) -> None:
        history.record(Store(settings.operations), result)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(cli, "run_monitoring", record_and_die)  # noqa: B010
    setattr(cli, "open_settings", lambda: settings)  # noqa: B010
    cli.main(["run", "--no-snapshot"])


@pytest.mark.slow
def test_a_run_killed_between_its_row_and_its_ticket_is_made_good_by_the_next(
    home: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(home, a_run(FAULT)))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    with store.engine.begin() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(monitoring_runs)) == 1
        assert connection.scalar(sa.select(sa.func.count()).select_from(tickets)) == 0
    for _ in range(2):
        run(home, monkeypatch, a_run(FAULT))
    with store.engine.begin() as connection:
        assert [(row.number, row.seen) for row in connection.execute(sa.select(tickets))] == [(1, 1)]


def test_the_webhook_is_told_before_a_retention_can_fail(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: Any) -> None:
        raise TimeoutError("planted")

    monkeypatch.setattr(retention, "retain", locked)
    with listener() as (url, got):
        assert run(home.changed({"webhook": url}), monkeypatch, a_run(FAULT)) == 1
    assert [item["event"] for item in got] == ["opened"]


@pytest.mark.parametrize(
    "line",
    [
        ["run", "--days", "0"],
        ["run", "--days", "-3"],
        ["run", "--days", "seven"],
        ["quarantine", "--lift", "1"],
        ["quarantine", "--lift", "0", "--reason", "it was well"],
        ["quarantine", "--reason", "it was well"],
    ],
)
def test_a_wrong_command_line_ends_with_2_before_anything_happens(home: Settings, line: list[str]) -> None:
    assert cli.main(line) == 2
    assert not home.home.exists()


def test_a_look_over_another_length_leaves_its_page_and_nothing_else(
    home: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = home.home / "reports" / "monitor" / f"{problem.NAME}.prom"
    short = Window(END - timedelta(days=3), END)
    with listener() as (url, got):
        settings = home.changed({"webhook": url})
        history.record(store, a_run(FAULT))
        run(settings, monkeypatch, a_run(FAULT))
        before = (figures.read_text(), history.newest(store, END), quarantine.spans(store), len(got))
        for item in (NOTHING, CHANGE):
            look = a_run(item, window=short)
            history.record(store, look)
            run(settings, monkeypatch, look)
    assert (figures.read_text(), history.newest(store, END), quarantine.spans(store), len(got)) == before
    assert [row["seen"] for row in incidents.open_tickets(store)] == [1]
    pages = {page.name for page in (home.home / "reports" / "monitor" / problem.NAME).iterdir()}
    assert pages == {"2013-07-08.html", "2013-07-08-from-2013-07-05.html"}


@pytest.mark.parametrize("end", ["2013-03-11", "2013-11-04"])
def test_a_week_in_which_the_clock_changes_counts_as_a_week(end: str) -> None:
    assert history.counts(last_days(midnight(end).to_pydatetime(), WINDOW_DAYS))
    assert not history.counts(last_days(midnight(end).to_pydatetime(), WINDOW_DAYS - 1))


def test_the_quarantine_can_be_listed_and_a_span_lifted(
    home: Settings, store: Store, command: Callable[..., Done]
) -> None:
    history.record(store, a_run(FAULT))
    done = command(home, "quarantine")
    assert "origin=JFK" in done.stdout
    assert done.stdout.splitlines()[-1] == f"quarantine | {problem.NAME} | 1 in force, 0 lifted"
    done = command(home, "quarantine", "--lift", "1", "--reason", "a new sensor")
    assert (done.returncode, done.stdout.startswith(f"quarantine | {problem.NAME} | lifted | origin=JFK from")) == (
        0,
        True,
    ), done.stderr
    assert command(home, "quarantine").stdout.splitlines()[-1].endswith("0 in force, 1 lifted")
    done = command(home, "quarantine", "--lift", "1", "--reason", "again")
    assert (done.returncode, "was lifted before" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


# ---- the dashboards; here three small servers stand for the real ones, which test_dashboards.py opens

SERVER = "import http.server,sys; http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()"
STAND_IN = (
    sys.executable,
    "-c",
    f"import subprocess,sys; subprocess.run([sys.executable, '-c', {SERVER!r}, sys.argv[1]])",
    "{port}",
)


def start(home: Settings, *names: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """`ui` with stand-ins as a process; returns it, and the addresses that it says."""
    wanted = [Dashboard(name, 0, STAND_IN, "/") for name in names]
    code = (
        "import sys; from level1_pipeline.settings import Settings; from monitoring.reporting.dashboards import Dashboard, run; "
        f"sys.exit(run(Settings(), lambda message: print(message, flush=True), {wanted!r}))"
    )
    environment = {**os.environ, "MLOPS_HOME": str(home.home)}
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    assert child.stdout
    for line in child.stdout:
        if line.startswith("ui | "):
            answer = line.split(" | ")[1]
            return child, dict(item.split(" ") for item in answer.strip().split(", "))
    raise AssertionError("it ended without a word")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.slow
def test_the_dashboards_end_with_the_command_however_it_ends(home: Settings, sign: int) -> None:
    child, addresses = start(home, "one", "two", "three")
    family = psutil.Process(child.pid).children(recursive=True)
    assert len(family) == 7  # a command and its child, three times, and the process that ends them
    for address in addresses.values():
        assert urllib.request.urlopen(address, timeout=10).status == 200
    child.send_signal(sign)
    assert child.wait(60) == (-signal.SIGKILL if sign == signal.SIGKILL else 0)
    eventually(lambda: not [item for item in family if item.is_running() and item.status() != psutil.STATUS_ZOMBIE], 30)
    assert child.stdout
    child.stdout.close()


@pytest.mark.slow
def test_when_one_dashboard_dies_all_end_and_it_is_said_which(home: Settings) -> None:
    child, addresses = start(home, "one", "two")
    family = psutil.Process(child.pid).children(recursive=True)
    port = addresses["two"].rsplit(":", 1)[1]
    next(item for item in family if item.cmdline()[-1] == port and "subprocess" not in " ".join(item.cmdline())).kill()
    assert child.stdout
    assert "two ended by itself" in child.stdout.read()
    assert child.wait(60) == 1
    eventually(lambda: not [item for item in family if item.is_running() and item.status() != psutil.STATUS_ZOMBIE], 30)
    child.stdout.close()


def test_a_dashboard_that_cannot_start_is_said_with_its_log(home: Settings) -> None:
    broken = Dashboard("broken", 0, (sys.executable, "-c", "raise SystemExit('no such thing')"), "/")
    with pytest.raises(NoAnswer, match=r"ended.*'no such thing'.*broken\.log"):
        dashboards.run(home, print, [broken])


def test_the_tools_are_told_to_stay_on_this_machine(home: Settings) -> None:
    for tool in dashboards.tools(home):
        assert tool.command[tool.command.index("--host") + 1] == "127.0.0.1"
        assert Path(tool.command[0]).exists()
