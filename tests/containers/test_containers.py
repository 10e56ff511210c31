"""The system in containers, from the first training on: one story, told in the order of its tests."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx2
import pytest

from level2_cicd.delivery import images
from tests.containers.conftest import BEGIN
from tests.support import ROOT
from tests.support.container_stack import SERVICES, Stack, eventually
from tests.support.stand_in_images import docker

pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.flights, pytest.mark.timeout(900)]

MEGABYTES = 600
OURS = ("mlflow", "prefect", "worker", "control-loop", "monitoring", "serving")
AWAY_SECONDS = 60  # without PostgreSQL
LAST = "2013-04-14"
TRAIN = """
PREFECT_API_URL=$MLOPS_PREFECT_API_URL PREFECT_HOME=/tmp/client prefect --no-prompt deployment run \
  "retrain flight_delay/flight_delay mlops by hand" --param promote_to=champion --watch
"""
answered: list[str] = []  # the ids of all predictions that the service has answered


def ask(containers: Stack, case: dict[str, Any], name: str) -> dict[str, Any]:
    """Score the flight under an id of its own."""
    own = name.replace(" ", "-")
    prediction = containers.predict({**case, "id": own})
    answered.append(own)
    return prediction


def test_the_serving_image_is_small(containers: Stack) -> None:
    size = int(docker("image", "inspect", "--format={{.Size}}", images.tag("serving", containers.release)))
    assert size < MEGABYTES * 1e6


@pytest.mark.parametrize("service", SERVICES)
def test_no_container_has_more_rights_than_it_needs_or_a_password_in_its_description(
    containers: Stack, service: str
) -> None:
    (facts,) = json.loads(docker("inspect", containers.container(service)))
    host = facts["HostConfig"]
    assert facts["Config"]["User"] not in ("", "root", "0")
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert {port["HostIp"] for bound in (host["PortBindings"] or {}).values() for port in bound} <= {"127.0.0.1"}
    for file in (containers.settings.home / "containers" / "secrets").iterdir():
        assert file.read_text() not in json.dumps(facts)


def test_an_image_holds_the_release_that_it_was_built_from(containers: Stack) -> None:
    index = json.loads(containers.run("worker", "cat", "/opt/mlops/release.json"))
    assert index["id"] == containers.release
    assert json.loads(containers.run("serving", "cat", "/opt/mlops/release.json")) == index


def test_the_worker_trains_and_publishes_and_the_service_scores_a_flight(
    containers: Stack, case: dict[str, Any]
) -> None:
    assert containers.health()["state"] == "not ready"
    said = containers.run("worker", "sh", "-c", TRAIN)
    assert "prefect.flow-run.Completed" in said, containers.log("worker")
    eventually("the service has a champion", lambda: containers.health()["state"] == "ready")
    prediction = ask(containers, case, "first")
    assert prediction["version"] == "1"
    assert 0 < prediction["score"] < 1
    models = httpx2.get(
        f"http://127.0.0.1:{containers.ports['mlflow']}/api/2.0/mlflow/registered-models/search", timeout=60
    )
    assert [model["name"] for model in models.json()["registered_models"]] == ["flight_delay"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_that_is_killed_comes_back_with_the_same_champion(
    containers: Stack, case: dict[str, Any], service: str
) -> None:
    before, restarts = ask(containers, case, f"before {service}"), containers.state(service)["restarts"]
    time.sleep(1.5)  # what kill -9 may lose is half a second of the log
    containers.kill(service)
    if service != "serving":
        assert ask(containers, case, f"without {service}")["score"] == before["score"]
    eventually(f"{service} is back", lambda: containers.state(service)["restarts"] > restarts)
    after = eventually("the service answers", lambda: ask(containers, case, f"after {service}"))
    assert (after["version"], after["score"]) == (before["version"], before["score"])


def test_all_of_them_are_well_again_and_no_prediction_was_lost(containers: Stack) -> None:
    for service in SERVICES:
        eventually(f"{service} is well", partial(containers.is_well, service))
    stored = containers.stored()
    assert stored["champion"] == "1"
    assert set(stored["ids"]) == set(answered)


def test_the_service_answers_without_postgresql_and_logs_what_it_said_when_it_is_back(
    containers: Stack, case: dict[str, Any]
) -> None:
    database = containers.container("database")
    docker("stop", database)
    until, count = time.monotonic() + AWAY_SECONDS, 0
    while time.monotonic() < until:
        ask(containers, case, f"minute {count}")
        count += 1
        time.sleep(2)
    assert containers.health()["state"] == "degraded"
    docker("start", database)
    eventually("the service is ready", lambda: containers.health()["state"] == "ready")
    eventually("all is logged", lambda: set(containers.stored()["ids"]) == set(answered))
    assert containers.health()["lost_predictions"] == 0


def test_the_control_loop_lives_through_a_fortnight_on_postgresql(containers: Stack) -> None:
    keys = {"predict": containers.key("predict"), "outcomes": containers.key("admin")}
    code = (ROOT / "tests/containers/fortnight.py").read_text()
    code += f"\nimport json\nprint(json.dumps(main({BEGIN!r}, {LAST!r}, json.loads({json.dumps(json.dumps(keys))}))))\n"
    told = json.loads(containers.run("control-loop", "python", "-", text=code).splitlines()[-1])
    assert told["failed"] == []
    assert told["midnights"] == 14
    assert told["predictions"] > 10_000
    assert told["monitoring runs"] == 3, "at the beginning, and after each week"
    trained = [action for action in told["actions"] if action.startswith("train: gate")]
    assert len(trained) == 2, "one by the worker, one by the control loop, because of the champion's age"
    assert "rollout: shadow" in told["actions"]
    assert len(set(containers.stored()["ids"]) - set(answered)) == told["predictions"]


def queries() -> Iterator[str]:
    """Those of all panels of the dashboard."""
    dashboard = json.loads((ROOT / "containers/grafana/model.json").read_text())
    yield from (target["expr"] for panel in dashboard["panels"] for target in panel["targets"])


def test_every_query_of_the_dashboard_gets_an_answer_from_prometheus(containers: Stack, case: dict[str, Any]) -> None:
    for count in range(12):  # rates need traffic in more than one scrape
        ask(containers, case, f"for the dashboard {count}")
        time.sleep(1)
    assert len(list(queries())) > 12
    for query in queries():
        assert eventually(query, partial(containers.query, query), 30)


def test_prometheus_watches_our_rules(containers: Stack) -> None:
    url = f"http://127.0.0.1:{containers.ports['prometheus']}/api/v1/rules"
    names = re.findall(r"- alert: (\w+)", (ROOT / "monitoring/alerts.yml").read_text())
    (group,) = eventually("the rules are loaded", lambda: httpx2.get(url, timeout=30).json()["data"]["groups"])
    assert [rule["name"] for rule in group["rules"]] == names
    assert {target["value"][1] for target in containers.query("up")} == {"1"}


def test_every_container_ends_by_itself_when_it_is_asked_to(containers: Stack) -> None:
    docker("stop", "--time=25", *(containers.container(service) for service in SERVICES))
    killed = [service for service in SERVICES if containers.state(service)["ExitCode"] == 137]
    assert killed == []
