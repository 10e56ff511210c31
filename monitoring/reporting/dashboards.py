"""Evidently's, MLflow's and Prefect's own pages, side by side on 127.0.0.1, with one page that leads to all of them.

None outlives the command, however it ends.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from level1_pipeline import problem
from level1_pipeline.errors import NoAnswer, NotFound
from level1_pipeline.processes import sigterm_like_ctrl_c, wait_until_answers
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from monitoring.reporting import evidently_snapshot, overview, page_server
from monitoring.reporting.overview import Link

STARTUP_SECONDS = 180
OVERVIEW_PORT = 8020  # wanted, like those of the dashboards
VIEW = "mlflow.sharedViewState."  # a tag of an experiment: columns that somebody chose to show others
# A process of its own that reads the ids of process groups and ends them when its standard input closes: the
# operating system closes it for every command that ends, also for one that is killed with -9.
END_WITH_COMMAND = """
import os, signal, sys, time
for sign in (signal.SIGINT, signal.SIGTERM): signal.signal(sign, signal.SIG_IGN)
groups = [int(line) for line in sys.stdin]
for sign, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 0)):
    for group in groups:
        try: os.killpg(group, sign)
        except ProcessLookupError: pass
    time.sleep(seconds)
"""


@dataclass(frozen=True)
class Dashboard:
    """One tool: how it is started on a port, and the path that answers when it is ready."""

    name: str
    port: int  # wanted; another one is taken when it is in use
    command: tuple[str, ...]  # `{port}` is filled in
    health: str


@dataclass(frozen=True)
class Started:
    """A dashboard that was started."""

    name: str
    address: str
    health: str
    process: subprocess.Popen[str]
    log: Path


def tools(settings: Settings) -> list[Dashboard]:
    """The three dashboards of a home. Their programs stand beside the Python that runs this."""
    binaries = Path(sys.executable).parent
    local = ("--host", "127.0.0.1", "--port", "{port}")
    pages = ("--workspace", str(evidently_snapshot.workspace(settings)))
    return [
        Dashboard("Evidently", 8010, (str(binaries / "evidently"), "ui", *local, *pages), "/api/version"),
        Dashboard("MLflow", 5000, (str(binaries / "mlflow"), "server", *local, "--workers", "1"), "/health"),
        Dashboard("Prefect", 4200, (str(binaries / "prefect"), "server", "start", *local), "/api/health"),
    ]


def home_shown(settings: Settings, show: str = "") -> Settings:
    """The settings of the home whose dashboards open.

    Args:
        settings: of the user's home.
        show: `own` or `summer`; empty: the summer as long as it is all that there is to see, so that it opens after a
            demo, and the user's own home from its first monitoring run on.

    Raises:
        NotFound: no summer was simulated.
    """
    summer = Settings.model_construct(home=settings.summer, clock="replay")
    exists = (summer.home / "operations.db").exists()
    if show == "summer" and not exists:
        raise NotFound(f"there is no summer in {summer.home}; simulate one: make level2")
    if show == "own" or not exists:
        return settings
    return summer if show == "summer" or not _was_monitored(settings) else settings


def _was_monitored(settings: Settings) -> bool:
    store = Store(settings.operations)
    try:
        return bool(overview.monitored(store))
    finally:
        store.close()


def run(settings: Settings, say: Callable[[str], None], wanted: list[Dashboard] | None = None, show: str = "") -> int:
    """Start all, say where they are once they answer, and end all at Ctrl-C or SIGTERM, or when one of them ends.

    Raises:
        NoAnswer: one of them does not start; the message names its log.
        NotFound: see `home_shown`.
    """
    shown = home_shown(settings, show).prepare()
    # Everybody on the machine sees the arguments of a program, and this address may hold a password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = shown.tracking
    evidently_snapshot.workspace(shown).mkdir(parents=True, exist_ok=True)
    logs = shown.home / "reports" / "dashboards"
    logs.mkdir(parents=True, exist_ok=True)
    with suppress(KeyboardInterrupt), sigterm_like_ctrl_c(), _running(wanted or tools(shown), logs) as dashboards:
        for dashboard in dashboards:
            wait_until_answers(dashboard.address + dashboard.health, STARTUP_SECONDS, dashboard.log, dashboard.process)
            say(f"  {dashboard.name:<10} {dashboard.address}")
        with page_server.serve(settings.home, OVERVIEW_PORT, _overview(settings, shown, dashboards)) as port:
            addresses = ", ".join(f"{dashboard.name} {dashboard.address}" for dashboard in dashboards)
            say(f"  begin here: http://127.0.0.1:{port} ({title(settings, shown)})")
            say(f"ui | Overview http://127.0.0.1:{port}, {addresses} | stop with Ctrl-C")
            while all(dashboard.process.poll() is None for dashboard in dashboards):
                time.sleep(0.2)
        ended = next(dashboard for dashboard in dashboards if dashboard.process.poll() is not None)
        say(f"ui | {ended.name} ended by itself, so all are stopped; see {ended.log}")
        return 1
    return 0


def title(settings: Settings, shown: Settings) -> str:
    """What people call the home that is shown."""
    return overview.OWN if shown.home == settings.home else overview.SUMMER


def _overview(settings: Settings, shown: Settings, dashboards: list[Started]) -> Path:
    """The page that leads to all, written anew at each start, because ports change."""
    address = {dashboard.name: dashboard.address for dashboard in dashboards}
    links = [link for name, root in address.items() if name in LINKS for link in LINKS[name](root)]
    year, own = settings.home / "year" / "scoreboard.html", shown.home == settings.home
    others = [Link("your own home", "", "stop this and run: make ui SHOW=own")] if not own else []
    if own and settings.summer.exists():
        others = [Link("the simulated summer", "", "stop this and run: make ui SHOW=summer")]
    if year.exists():
        others.append(Link("the simulated year", overview.relative(shown, year), "every policy on the same traffic"))
    service = f"http://127.0.0.1:{settings.serving_port}/docs"
    others.append(Link("the service's API page", service, "while `make serve` runs in another terminal"))
    return overview.write(shown, title(settings, shown), links, others)


def _evidently_links(root: str) -> list[Link]:
    project = f"{root}/projects/{evidently_snapshot.project_id(problem.NAME)}"
    return [Link("Evidently", project, "which columns looked different, week by week; for diagnosis, never an alarm")]


def _mlflow_links(root: str) -> list[Link]:
    links = [Link("MLflow: versions", f"{root}/#/models/{problem.NAME}", "each version in one line, with its card")]
    lookup = f"{root}/api/2.0/mlflow/experiments/get-by-name?experiment_name={quote(problem.NAME)}"
    with suppress(OSError), urllib.request.urlopen(lookup) as answer:  # noqa: S310  (ours; no experiment: nothing was trained)
        experiment = json.load(answer)["experiment"]
        views = (tag["key"].removeprefix(VIEW) for tag in experiment.get("tags", []) if tag["key"].startswith(VIEW))
        page = f"{root}/#/experiments/{experiment['experiment_id']}/runs"
        page += next((f"?viewStateShareKey={view}" for view in views), "")
        links.insert(0, Link("MLflow: trainings", page, "verdict, loss and gain of every training, accepted or not"))
    return links


def _prefect_links(root: str) -> list[Link]:
    return [Link("Prefect", f"{root}/runs", "each pipeline run and its steps, and how long they took")]


LINKS = {"Evidently": _evidently_links, "MLflow": _mlflow_links, "Prefect": _prefect_links}


@contextmanager
def _running(wanted: list[Dashboard], logs: Path) -> Iterator[list[Started]]:
    """Dashboards that end with this block, and with this process."""
    ending = subprocess.Popen(
        [sys.executable, "-c", END_WITH_COMMAND], stdin=subprocess.PIPE, start_new_session=True, text=True
    )
    assert ending.stdin
    started: list[Started] = []
    try:
        for dashboard in wanted:
            started.append(_start(dashboard, logs))
            print(started[-1].process.pid, file=ending.stdin, flush=True)
        yield started
    finally:
        ending.stdin.close()
        for each in started:
            each.process.wait()
        ending.kill()  # all have ended, so nothing is left to be killed
        ending.wait()


def _start(dashboard: Dashboard, logs: Path) -> Started:
    port, log = _free_port(dashboard.port), logs / f"{dashboard.name.lower()}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [part.format(port=port) for part in dashboard.command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
            env={name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"},
            start_new_session=True,  # a process group of its own, which ends as a whole
        )
    return Started(dashboard.name, f"http://127.0.0.1:{port}", dashboard.health, process, log)


def _free_port(wanted: int) -> int:
    """The wanted port, or another one."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise NoAnswer("no port of 127.0.0.1 is free; end another program that listens there")
