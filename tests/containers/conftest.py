"""The stack under test, built from a release of the working files and started once."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import partial

import pandas as pd
import pytest

from level1_pipeline import problem, schema
from level1_pipeline.processes import free_port
from level1_pipeline.settings import Settings
from level1_pipeline.store.days import start_of
from level2_cicd.delivery import build, images, stack
from tests.support import ROOT
from tests.support.checkout import UV, make_checkout
from tests.support.container_stack import PROJECT, SERVICES, Stack, eventually
from tests.support.stand_in_images import available, docker

PORTS = {
    "serving": "MLOPS_SERVING_PORT",
    "mlflow": "PORT_OF_MLFLOW",
    "prefect": "PORT_OF_PREFECT",
    "prometheus": "PORT_OF_PROMETHEUS",
}
NEVER = "0 0 30 2 *"  # the tests say when
BEGIN = "2013-04-01"


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All containers, well; gone with their volumes afterwards."""
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no container engine answers here: make doctor says what is missing")
    folder = tmp_path_factory.mktemp("containers")
    (folder / "checkout").mkdir()
    ports = {service: free_port() for service in PORTS}
    variables = {name: str(ports[service]) for service, name in PORTS.items()}
    variables |= {"COMPOSE_PROJECT_NAME": PROJECT, "MLOPS_CLOCK": "replay", "REPLAY_FROM": BEGIN, "CRON": NEVER}
    variables |= {"MLOPS_OPERATE_SECONDS": "1", "MLOPS_MONITOR_EVERY_DAYS": "7", "MLOPS_CANARY_SHARES": "0.25,0.5"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (variables | available()).items():
            patch.setenv(name, value)
        settings = Settings(home=folder / "home")
        release, _ = build.build(make_checkout(folder / "checkout"), settings.home / "releases", [], UV)
        place = ROOT / "containers"
        images.build(release, place, images.official(place)["PYTHON_IMAGE"])
        try:
            stack.up(settings, release.id, place)
            running = Stack(settings, release.id, ports)
            for service in SERVICES:
                eventually(f"{service} is well", partial(running.is_well, service))
            yield running
        finally:
            stack.down(settings, place)
            volumes = docker("volume", "ls", "--quiet", f"--filter=label=com.docker.compose.project={PROJECT}")
            docker("volume", "rm", *volumes.split())


@pytest.fixture(scope="module")
def case(rows: pd.DataFrame) -> dict[str, object]:
    """A flight of the day on which the replay begins, as a caller sends it."""
    flight = rows[rows[problem.EVENT_TIME] >= start_of(BEGIN)].head(1)
    return {"entity_id": str(flight[problem.ENTITY].iloc[0]), "record": schema.records(flight)[0]}
