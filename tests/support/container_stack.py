"""A stack of containers under test: commands inside, requests from outside, kills, and what stands in its store."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2

from level1_pipeline.settings import Settings
from level2_cicd.delivery import stack
from tests.support.stand_in_images import docker

PROJECT = "mlops-test"
SERVICES = ("database", "mlflow", "prefect", "worker", "control-loop", "monitoring", "serving", "prometheus")
LOGGED = """
import json, sqlalchemy as sa
from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import predictions
store = Store(Settings().operations)
with store.engine.connect() as connection:
    ids = list(connection.scalars(sa.select(predictions.c.id)))
print(json.dumps({"champion": store.route(problem.NAME).champion, "ids": ids}))
"""


@dataclass(frozen=True)
class Stack:
    """The containers of the project, and the ports of this machine under which they answer."""

    settings: Settings
    release: str
    ports: dict[str, int]

    def container(self, service: str) -> str:
        """The id of a service's container."""
        labels = {"project": PROJECT, "service": service}
        filters = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        return docker("ps", "--all", "--quiet", *filters)

    def run(self, service: str, *command: str, text: str | None = None, check: bool = True) -> str:
        """What a command inside a container prints; `text` is its input."""
        inside = ["docker", "exec", "--interactive", self.container(service), *command]
        done = subprocess.run(inside, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, f"{service}: {done.stdout}{done.stderr}\n{self.log(service)}"
        return done.stdout

    def log(self, service: str) -> str:
        """The end of what a container wrote."""
        done = subprocess.run(["docker", "logs", "--tail=30", self.container(service)], capture_output=True, text=True)
        return done.stdout + done.stderr

    def state(self, service: str) -> dict[str, Any]:
        """What the engine says of a container."""
        (facts,) = json.loads(docker("inspect", self.container(service)))
        return {**facts["State"], "restarts": facts["RestartCount"]}

    def is_well(self, service: str) -> bool:
        """Whether it runs and, where it has a health check, passes it."""
        state = self.state(service)
        return bool(state["Running"]) and state.get("Health", {"Status": "healthy"})["Status"] == "healthy"

    def kill(self, service: str) -> None:
        """kill -9 of all its processes; as the engine itself did not do it, it starts the container again."""
        self.run(service, "sh", "-c", "kill -9 -1", check=False)

    def key(self, scope: str) -> str:
        """A key for the service."""
        return stack.key_file(self.settings, scope).read_text()

    def predict(self, case: dict[str, Any]) -> dict[str, Any]:
        """The answer of the service to one case."""
        headers = {"Authorization": f"Bearer {self.key('predict')}"}
        url = f"http://127.0.0.1:{self.ports['serving']}/predict"
        answer = httpx2.post(url, json=case, headers=headers, timeout=5)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def health(self) -> dict[str, Any]:
        """What the service says about itself."""
        return httpx2.get(f"http://127.0.0.1:{self.ports['serving']}/readyz", timeout=30).json()

    def query(self, expression: str) -> list[Any]:
        """What Prometheus answers to a query."""
        url = f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/query"
        answer = httpx2.get(url, params={"query": expression}, timeout=30).json()
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def stored(self) -> dict[str, Any]:
        """The champion of the route, and the ids of all logged predictions."""
        return json.loads(self.run("control-loop", "python", "-", text=LOGGED))


def eventually(what: str, check: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait until something is true; a check that raises is not true yet."""
    until, last = time.monotonic() + seconds, None
    while time.monotonic() < until:
        try:
            if last := check():
                return last
        except (AssertionError, httpx2.TransportError, ValueError) as error:
            last = error
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within {seconds:g} seconds; last: {last!r}")
