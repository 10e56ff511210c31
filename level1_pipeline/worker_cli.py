"""The command that registers the deployments of a home with Prefect, and runs them."""

from __future__ import annotations

import os
from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal

from typer import BadParameter, Option

from level1_pipeline.command_line import open_settings, print_result
from level1_pipeline.environment import without_password
from level1_pipeline.errors import NotFound
from level1_pipeline.inputs.demo import DEMO

if TYPE_CHECKING:
    from level1_pipeline.settings import Settings


def day(text: str | None) -> str | None:
    """What an option of the kind DAY takes: a day, or the word `demo`, which stands for that of the demo."""
    try:
        return date.fromisoformat(text).isoformat() if text and text != DEMO else text
    except ValueError:
        raise BadParameter(f"'{text}' is no day; write for example 2013-04-01, or {DEMO}") from None


# Of a worker, which tells what it does on its terminal and on Prefect's pages.
LOGGING = {"PREFECT_LOGGING_LEVEL": "INFO", "PREFECT_LOGGING_TO_API_ENABLED": "true"}
PromoteTo = Annotated[Literal["champion", "challenger", "none"], Option(help="Alias of the version after the gate.")]
CRON = Option(help="When to train (default: Mondays at 06:00; with a replay clock, every 2 minutes).")
FILES_CRON = Option(help="When to score the files in the folder `inbox` of the home.")
REPLAY_FROM = Option(
    metavar="DAY", callback=day, help="Where a replay begins; without MLOPS_CLOCK, in the folder `replay` of the home."
)
ONLY_REGISTER = Option("--only-register", help="Register and end; a worker that runs takes them over.")


def worker(
    cron: Annotated[str | None, CRON] = None,
    files_cron: Annotated[str, FILES_CRON] = "0 5 * * *",
    promote_to: PromoteTo = "champion",
    replay_from: Annotated[str | None, REPLAY_FROM] = None,
    only_register: Annotated[bool, ONLY_REGISTER] = False,
) -> None:
    """Register the deployments of this home with Prefect, and run what is due, until stopped.

    Without MLOPS_PREFECT_API_URL it starts a Prefect server of its own, with Prefect's pages.

    Example: python -m level1_pipeline worker --cron "0 6 * * 1"
    """
    from level1_pipeline.orchestration import deployments
    from level1_pipeline.orchestration.prefect_server import prefect_server, wait_until_ready

    settings = open_settings()
    if only_register and not settings.prefect_api_url:
        print_result("level 1", "nothing is registered: MLOPS_PREFECT_API_URL names no Prefect server")
        return
    if replay_from and "clock" not in settings.model_fields_set:
        settings = settings.changed({"clock": "replay", "home": settings.home / "replay"}).prepare()
    _begin_replay(settings, replay_from)
    trainings = cron or (deployments.EVERY_TWO_MINUTES if settings.clock == "replay" else deployments.MONDAYS)
    timetable, log = deployments.Timetable(trainings, files_cron, promote_to), settings.home / "prefect" / "server.log"
    with prefect_server(log, settings.prefect_api_url, complete=True) as api:
        settings = settings.changed({"prefect_api_url": api})
        os.environ.update(settings.environment())  # the runs are child processes, wherever they start
        wait_until_ready(api, log)
        deployments.register(settings, timetable)
        address = without_password(api).removesuffix("/api")
        end = "registered" if only_register else "stop with Ctrl-C"
        print_result("level 1", f"training on schedule '{trainings}' | Prefect {address} | {end}")
        if not only_register:
            os.environ.update(LOGGING)
            from level1_pipeline.orchestration import flow

            flow.run_worker(deployments.place(settings))


def _begin_replay(settings: Settings, day: str | None) -> None:
    """Set a replay clock that was never set. Another clock than that of the home is refused."""
    from level1_pipeline.inputs import demo
    from level1_pipeline.store import clock
    from level1_pipeline.store.database import Store
    from level1_pipeline.store.days import start_of

    try:
        clock.now(settings)
    except NotFound:
        if day is None:
            raise
        Store(settings.operations).set_replay_time(start_of(demo.day(settings, day)).to_pydatetime())
