"""The figures of a monitoring run for Prometheus: a text file (the node exporter's textfile collector reads it), and a
page with its content, where no node exporter can read the file."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from level1_pipeline import problem
from level1_pipeline.processes import sigterm_like_ctrl_c
from level1_pipeline.settings import Settings
from monitoring.results import Action, Cause, MonitoringRun, Performance

if TYPE_CHECKING:  # it looks into the environment when it is imported: not before the command has cleared that
    from prometheus_client import CollectorRegistry, Gauge


def path(settings: Settings) -> Path:
    """The file of this problem."""
    return settings.home / "reports" / "monitor" / f"{problem.NAME}.prom"


def write(settings: Settings, run: MonitoringRun, open_tickets: int) -> Path:
    """Replace the file in one step (a reader never sees half of it); returns where it is."""
    from prometheus_client import write_to_textfile

    target = path(settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(target), registry(run, open_tickets, time.time()))
    return target


def exporter(settings: Settings, address: str) -> ThreadingHTTPServer:
    """A server, not yet started, whose /metrics is the file of the newest run; empty before the first run."""
    file, (host, _, port) = path(settings), address.rpartition(":")

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            right = self.path == "/metrics"
            self.send_response(200 if right else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.end_headers()
            if right and file.exists():
                self.wfile.write(file.read_bytes())

        def log_message(self, *_: object) -> None:
            """Silent: Prometheus asks every few seconds."""

    return ThreadingHTTPServer((host, int(port)), Page)


def serve(settings: Settings, address: str, tell: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C or SIGTERM, after telling its address."""
    with exporter(settings, address) as server, suppress(KeyboardInterrupt), sigterm_like_ctrl_c():
        tell("http://{}:{}/metrics".format(*server.server_address))
        server.serve_forever()


def registry(run: MonitoringRun, open_tickets: int, wall: float) -> CollectorRegistry:
    """Every figure of a run as gauges, all labelled with the problem. `wall` is the wall time, in seconds."""
    page = Page()
    page.add("last_pass_timestamp_seconds", "wall time of the last monitoring run", wall)
    page.add("window_end_timestamp_seconds", "end of its window, on the clock", run.window.end.timestamp())
    page.add("open_tickets", "incidents that are not over", open_tickets)
    for cause in get_args(Cause):
        page.add("cause", "1 for the cause that was diagnosed", cause == run.diagnosis.cause, cause=cause)
    for action in get_args(Action):
        page.add("action", "1 for the action that is due", action == run.diagnosis.action, action=action)
    for state in ("predictions", "matured", "open", "never", "quarantined", "labels_quarantined"):
        name = "all" if state == "predictions" else state.replace("_", " ")
        page.add("predictions", "of the window, by state", getattr(run.coverage, state), state=name)
    page.add("drift_moved", "1 if the inputs of the window moved as a whole", run.drift.verdict == "moved")
    page.add("drift_persisted", "how many of the last windows moved", run.drift.persisted)
    if run.drift.p_value is not None:
        page.add("drift_p_value", "of the one decision on the whole data set", run.drift.p_value)
    for effect in run.drift.effects:
        message = "standard deviations between days; for diagnosis, not for alarms"
        page.add("drift_effect", message, effect.size, column=effect.column)
    page.add("skew_checked", "requests replayed through the training code", run.skew.checked)
    page.add("skew_mismatched", "of these, how many differ", run.skew.mismatched)
    for performance in run.performances:
        _performance(page, performance)
    _dollars(page, run)
    return page.registry


class Page:
    """Gauges by name, made when they are first used."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry

        self.registry, self._gauges = CollectorRegistry(), dict[str, "Gauge"]()

    def add(self, name: str, message: str, value: float, **labels: str) -> None:
        """Set one figure."""
        from prometheus_client import Gauge

        if name not in self._gauges:
            self._gauges[name] = Gauge(f"mlops_monitor_{name}", message, ["problem", *labels], registry=self.registry)
        self._gauges[name].labels(problem.NAME, *labels.values()).set(float(value))


def _performance(page: Page, performance: Performance) -> None:
    who = {"version": performance.version, "arm": performance.arm}
    page.add("errors", "predictions without a score", performance.errors, **who)
    for state in ("matured", "open", "never"):
        page.add("version_predictions", "by version and arm", getattr(performance.coverage, state), **who, state=state)
    kinds = {"metric": performance.metrics, "estimate": performance.estimate.metrics if performance.estimate else {}}
    message = {
        "metric": "on matured outcomes, with its 95 % interval",
        "estimate": "before outcomes; it cannot see concept drift",
    }
    for kind, metrics in kinds.items():
        for name, interval in metrics.items():
            for bound in ("value", "low", "high"):
                value = getattr(interval, bound)
                if value is not None:
                    page.add(kind, message[kind], value, **who, metric=name, bound=bound)
    for name, value in performance.promised.items():
        page.add("promised", "what the model scored at promotion", value, **who, metric=name)


def _dollars(page: Page, run: MonitoringRun) -> None:
    """Totals and means a day, so that an alert can be set on either; nothing where the problem has no COSTS."""
    if not run.dollars or not run.champion:
        return
    total, days = run.dollars.total, run.dollars.days
    page.add("decisions_matured", "of the champion since its promotion", total.rows, version=run.champion)
    for kind, value in (("lost", total.lost), ("saved", total.saved)):
        who = {"version": run.champion, "kind": kind}
        page.add("dollars", "lost by wrong decisions since the promotion; saved against a constant one", value, **who)
        page.add("dollars_per_day", "the same, a day since the promotion", value / days if days else 0.0, **who)
