"""The deployments of a home (prefect.yaml), registered with a Prefect server for the workers of a process work pool.

A deployment names the Python that runs it. So a worker that was started by one release runs the next one as soon as
that has registered its deployments, and the one before after a rollback.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.errors import NoAnswer
from level1_pipeline.orchestration import lineage
from level1_pipeline.settings import Settings

FILE = Path(__file__).with_name("prefect.yaml")
MONDAYS = "0 6 * * 1"
EVERY_TWO_MINUTES = "*/2 * * * *"  # with a replay clock, which moves on by a week with each run
EVERY_MORNING = "0 5 * * *"  # for files to score
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


@dataclass(frozen=True)
class Timetable:
    """When the deployments run by themselves (cron, in the problem's time zone), and what a new version becomes."""

    trainings: str = MONDAYS
    files: str = EVERY_MORNING
    promote_to: str = "champion"


def place(settings: Settings) -> str:
    """The name of a home's work pool and deployments, which says whose they are: `flight_delay production`."""
    return f"{problem.NAME} {settings.home.name.lstrip('.')}"


def register(settings: Settings, timetable: Timetable) -> None:
    """Create or update the work pool and the deployments of this home, so that they run with this interpreter.

    Raises:
        NoAnswer: the Prefect server of `settings.prefect_api_url` does not take them.
    """
    env = _environment(settings, timetable)
    pool = ["work-pool", "create", "--type", "process", "--overwrite", place(settings)]
    for command in (pool, ["deploy", "--all", "--prefect-file", str(FILE)]):
        done = subprocess.run([*PREFECT, *command], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = re.sub(r"\s+", " ", done.stdout + done.stderr)[-500:]
            raise NoAnswer(
                f"the deployments cannot be registered with the Prefect server of MLOPS_PREFECT_API_URL: {reason}"
            )


def _environment(settings: Settings, timetable: Timetable) -> dict[str, str]:
    """What prefect.yaml and the Prefect client read."""
    variables = {
        "PREFECT_API_URL": settings.prefect_api_url,
        "MLOPS_PLACE": place(settings),
        "MLOPS_FOLDER": os.getcwd(),  # where our packages, and a file .env, were found
        "MLOPS_PLACE_HOME": str(settings.home),
        "MLOPS_PYTHON": shlex.quote(sys.executable),
        "MLOPS_RELEASE": lineage.release().get("id") or lineage.code_revision()[:20],
        "MLOPS_PROMOTE_TO": timetable.promote_to,
        "MLOPS_CRON": timetable.trainings,
        "MLOPS_CRON_OF_FILES": timetable.files,
        "MLOPS_TIMEZONE": problem.TIMEZONE,
    }
    return {**os.environ, **variables}
