"""The figures for Prometheus, and alert rules that ring when a run finds something and are silent otherwise."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from level1_pipeline import problem
from level1_pipeline.evaluation.decisions import Decisions
from level1_pipeline.settings import Settings
from monitoring.reporting import prometheus
from monitoring.results import Coverage, Interval, MonitoringRun, Skew
from tests.support.monitoring_runs import (
    CHANGE,
    DOLLARS,
    FAULT,
    METRIC,
    NOTHING,
    RELEASE,
    RETURN,
    SHIFT,
    UNSURE,
    a_run,
    performance,
)

RULES = Path(__file__).parents[3] / "monitoring" / "alerts.yml"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="no promtool: install Debian's package `prometheus`")
WALL = 0.0  # promtool's test begins at the epoch


def samples(run: MonitoringRun, open_tickets: int = 0) -> dict[tuple[str, ...], float]:
    """What a scrape reads: name and labels (without the problem) to value."""
    text = generate_latest(prometheus.registry(run, open_tickets, WALL)).decode()
    read = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels["problem"] == problem.NAME
            labels = [f"{name}={value}" for name, value in sorted(sample.labels.items()) if name != "problem"]
            read[sample.name.removeprefix("mlops_monitor_"), *labels] = sample.value
    return read


def test_the_file_holds_what_the_run_found() -> None:
    read = samples(a_run(CHANGE), open_tickets=2)
    own = ("arm=champion", "bound=low", f"metric={METRIC}", "version=2")
    assert read["metric", *own] == 0.44
    assert read["promised", "arm=champion", f"metric={METRIC}", "version=2"] == 0.47
    assert read["predictions", "state=all"] == 6000
    assert read["predictions", "state=never"] == 200
    assert (read["cause", "cause=concept drift"], read["cause", "cause=nothing"]) == (1, 0)
    assert (read["action", "action=retrain"], read["action", "action=none"]) == (1, 0)
    assert read["drift_effect", "column=temp|mean"] == 3.1
    assert read["open_tickets",] == 2
    assert read["window_end_timestamp_seconds",] == a_run().window.end.timestamp()
    assert not [key for key in read if "metric=roc_auc" in key]  # what is not defined is not there, rather than NaN


@pytest.mark.flights
def test_the_file_holds_the_dollars_of_the_champion_since_its_promotion() -> None:
    read = samples(a_run(dollars=DOLLARS))
    assert read["dollars", "kind=lost", "version=2"] == 10_000
    assert read["dollars", "kind=saved", "version=2"] == 8_000
    assert read["dollars_per_day", "kind=lost", "version=2"] == 1_000
    assert read["dollars_per_day", "kind=saved", "version=2"] == 800
    assert read["decisions_matured", "version=2"] == 2000
    young = samples(a_run(dollars=replace(DOLLARS, until=DOLLARS.since, total=Decisions())))
    assert young["dollars_per_day", "kind=lost", "version=2"] == 0  # promoted a moment ago
    assert not [key for key in samples(a_run(dollars=None)) if "dollars" in key[0]]  # a problem without COSTS


def test_a_run_without_anything_still_gives_a_file(home: Settings) -> None:
    run = a_run(UNSURE, champion=None, coverage=Coverage(0, 0, 0, 0), performances=())
    path = prometheus.write(home, run, 0)
    assert path == home.home / "reports" / "monitor" / f"{problem.NAME}.prom"
    assert 'cause="inconclusive"' in path.read_text()


def test_a_reader_never_sees_half_a_file(home: Settings) -> None:
    path = prometheus.write(home, a_run(), 0)
    before = path.stat().st_ino
    prometheus.write(home, a_run(weeks=1), 0)
    assert path.stat().st_ino != before  # a new file in its place, not the old one rewritten
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_the_exporter_serves_the_newest_file_and_an_empty_page_before_the_first(home: Settings) -> None:
    with prometheus.exporter(home, "127.0.0.1:0") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert httpx2.get(f"{url}/metrics").content == b""
        written = prometheus.write(home, a_run(CHANGE), 2)
        assert httpx2.get(f"{url}/metrics").content == written.read_bytes()
        assert httpx2.get(f"{url}/{problem.NAME}.prom").status_code == 404
        server.shutdown()


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_rules_or_the_page() -> None:
    checked = subprocess.run([str(PROMTOOL), "check", "rules", str(RULES)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    page = generate_latest(prometheus.registry(a_run(FAULT, dollars=DOLLARS), 1, WALL))
    linted = subprocess.run([str(PROMTOOL), "check", "metrics"], input=page, capture_output=True)
    assert (linted.returncode, linted.stderr) == (0, b"")


def series(run: MonitoringRun, hours: int) -> list[dict[str, str]]:
    """The page of a run as promtool's input: scraped every hour, always the same."""
    lines = generate_latest(prometheus.registry(run, 1, WALL)).decode().splitlines()
    values = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return [{"series": name, "values": f"{float(value):g}+0x{hours}"} for name, value in values]


def ringing(folder: Path, run: MonitoringRun, alert: str, hours: int) -> bool:
    """Whether promtool says that an alert fires, after the same page was there for so many hours."""
    silent = {"eval_time": f"{hours}h", "alertname": alert, "exp_alerts": []}
    test = {"interval": "1h", "input_series": series(run, hours + 1), "alert_rule_test": [silent]}
    file = folder / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1h", "tests": [test]}))
    done = subprocess.run([str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0 or f"alertname: {alert}" in done.stderr + done.stdout, done.stderr + done.stdout
    return done.returncode != 0


OFF = performance(ratio=1.5)
CASES: dict[str, tuple[MonitoringRun, int]] = {  # what makes each alert ring, and after how many hours at the latest
    "ModelActionDue": (a_run(CHANGE), 1),
    "DataFault": (a_run(FAULT), 1),
    "MonitoringInconclusive": (a_run(UNSURE), 73),
    "MonitoringStopped": (a_run(NOTHING), 49),
    "OutcomesMissing": (a_run(NOTHING, coverage=Coverage(6000, 2000, 3000, 1000)), 49),
    "ModelMiscalibrated": (a_run(NOTHING, performances=(OFF,)), 49),
    "TrainingServingSkew": (a_run(NOTHING, skew=Skew("different", 200, 3, (), "3 of 200 differ")), 1),
}


def test_every_rule_has_a_case() -> None:
    names = [line.split(":")[1].strip() for line in RULES.read_text().splitlines() if "- alert:" in line]
    assert names == list(CASES)


@needs_promtool
@pytest.mark.parametrize("alert", CASES)
def test_an_alert_rings_for_its_planted_pass_and_is_silent_for_a_healthy_one(tmp_path: Path, alert: str) -> None:
    result, hours = CASES[alert]
    assert ringing(tmp_path, result, alert, hours)
    assert not ringing(tmp_path, a_run(SHIFT), alert, hours if alert != "MonitoringStopped" else 40)


@needs_promtool
@pytest.mark.parametrize("answer", [RELEASE, RETURN], ids=lambda item: item.cause)
def test_every_due_action_rings(tmp_path: Path, answer: Any) -> None:
    assert ringing(tmp_path, a_run(answer), "ModelActionDue", 1)


@needs_promtool
def test_an_interval_that_reaches_the_bound_does_not_ring(tmp_path: Path) -> None:
    wide = replace(OFF, metrics={"calibration": Interval(1.5, 1.1, 1.9)})
    assert not ringing(tmp_path, a_run(performances=(wide,)), "ModelMiscalibrated", 60)
