"""The acceptance of a release: the installed pipeline is used end to end, in a home that is thrown away.

Every command runs in the release's own interpreter, as in production, and the service is asked over HTTP. Nothing of
the environment is touched: a release that fails here has changed nothing.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from level1_pipeline import problem
from level1_pipeline.bundle.load import GOLDEN_TOLERANCE
from level1_pipeline.errors import ReleaseRefused
from level1_pipeline.processes import child_process
from level1_pipeline.schema.scores import as_answer, difference
from level2_cicd.delivery.environments import Installed

NOT_PASSED = 3  # exit code of a training whose model the gate did not take
WINDOWS_APART = (21, 42, 63)  # days after the first training, until a second model passes the gate
LOAD_REQUESTS = 200
MAX_LATENCY_RATIO = 2.0  # median latency against that of the running release, on the same machine
SECONDS = 900  # for one command
SEEN = (0, 3, 4, 5)  # exit codes of a monitoring run that came to an answer
WRONG_BODIES = (
    "{",
    "[]",
    "{}",
    '{"record": {}}',
    '{"record": {"unknown": 1}}',
    '{"record": NaN}',
    '{"record": null, "id": 7}',
)


@dataclass
class Acceptance:
    """One acceptance: what is tried, and what came out so far."""

    candidate: Installed
    running: Installed | None
    running_home: Path
    scratch: Path
    as_of: date
    progress: Callable[[str], None] = print
    facts: dict[str, Any] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Try everything; the figures.

        Raises:
            ReleaseRefused: something does not work; the message says what.
        """
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        first, second = self._train_two_models()
        with self._service(self.candidate, self.scratch) as port:
            self._answers_as_trained(port, second)
            self._refuses_wrong_bodies(port)
            self._is_fast(port, second)
            self._monitors()
            self._goes_back(port, first)
        shutil.rmtree(self.scratch, ignore_errors=True)
        return self.facts

    def _train_two_models(self) -> tuple[str, str]:
        self._command("level1_pipeline", "train", "--as-of", str(self.as_of), allowed=(0,))
        (first,) = self._published()
        for days in WINDOWS_APART:
            day = self.as_of + timedelta(days=days)
            if self._command("level1_pipeline", "train", "--as-of", str(day), allowed=(0, NOT_PASSED)) == 0:
                self.facts["trained as of"] = [str(self.as_of), str(day)]
                (second,) = self._published() - {first}
                return first, second
        raise ReleaseRefused(
            f"no second model passed the gate {', '.join(map(str, WINDOWS_APART))} days after {self.as_of}, so no rollback "
            "could be tried; name another day: --as-of"
        )

    def _published(self) -> set[str]:
        return {folder.name for folder in (self.scratch / "bundles" / problem.NAME).iterdir()}

    def _answers_as_trained(self, port: int, version: str) -> None:
        golden = self._golden(version)
        cases = [{"record": record} for record in golden["records"]]
        status, answer = _post(port, cases)
        if status != 200:
            raise ReleaseRefused(f"the golden records of version {version} are answered with {status}: {answer}")
        pairs = zip((part["score"] for part in answer), golden["predictions"], strict=True)
        largest = max(difference(score, as_answer(expected)) for score, expected in pairs)
        if not largest <= GOLDEN_TOLERANCE:
            raise ReleaseRefused(
                f"over HTTP version {version} says other numbers than after its training ({largest:.2g})"
            )
        self.facts["golden requests"] = len(cases)

    def _golden(self, version: str) -> dict[str, Any]:
        return json.loads((self.scratch / "bundles" / problem.NAME / version / "golden.json").read_text())

    def _refuses_wrong_bodies(self, port: int) -> None:
        for body in WRONG_BODIES:
            status, _ = _post(port, body)
            if not 400 <= status < 500:
                raise ReleaseRefused(f"the body {body} is answered with {status}, and not refused")
        self.facts["wrong bodies refused"] = len(WRONG_BODIES)

    def _is_fast(self, port: int, version: str) -> None:
        """Requests to both releases in turns, so that what else this machine does hits both."""
        if self.running is None or not (self.running_home / "bundles" / problem.NAME).exists():
            self.facts["latency ratio"] = "no release serves here yet"
            return
        case = {"record": self._golden(version)["records"][0]}
        with self._service(self.running, self.running_home) as other:
            took: dict[int, list[float]] = {port: [], other: []}
            for _ in range(LOAD_REQUESTS):
                for address, seconds in took.items():
                    started = time.perf_counter()
                    if (status := _post(address, case)[0]) != 200:
                        raise ReleaseRefused(f"a request under load was answered with {status}")
                    seconds.append(time.perf_counter() - started)
        ratio = statistics.median(took[port]) / statistics.median(took[other])
        self.facts["latency ratio"] = round(ratio, 2)
        if ratio > MAX_LATENCY_RATIO:
            raise ReleaseRefused(f"a request takes {ratio:.1f} times as long as in the running release")

    def _monitors(self) -> None:
        code = self._command("monitoring", "run", "--no-snapshot", allowed=SEEN)
        self.facts["monitoring run"] = f"exit code {code}"

    def _goes_back(self, port: int, first: str) -> None:
        self._command("level1_pipeline", "rollback", "--reason", "acceptance of a release", allowed=(0,))
        deadline = time.monotonic() + 30
        while _served(port) != first:
            if time.monotonic() > deadline:
                raise ReleaseRefused(f"after a rollback the service does not serve version {first}")
            time.sleep(0.1)
        self._answers_as_trained(port, first)
        self.facts["rolled back to"] = first

    def _command(self, module: str, *arguments: str, allowed: tuple[int, ...]) -> int:
        self.progress(f"{module} {' '.join(arguments)}")
        done = self._run(module, *arguments)
        if done.returncode not in allowed:
            last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
            raise ReleaseRefused(f"{module} {arguments[0]} ended with exit code {done.returncode}: {last}")
        return done.returncode

    def _run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.candidate.python), "-m", module, *arguments]
        env = in_home(self.scratch)
        return subprocess.run(
            command, cwd=self.scratch, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    @contextmanager
    def _service(self, installed: Installed, home: Path) -> Iterator[int]:
        command = [str(installed.python), "-m", "serving", "run"]
        env = in_home(home) | {"MLOPS_SERVING_PORT": "0", "MLOPS_RATE_LIMIT": "0"}
        with child_process(command, self.scratch / "service.log", env, piped=True) as process:
            assert process.stdout
            line = process.stdout.readline()
            if "http" not in line:
                raise ReleaseRefused(f"the service of {installed.release.id} does not start; {line}")
            yield int(line.partition("http://")[2].partition(" ")[0].rpartition(":")[2])


def in_home(home: Path) -> dict[str, str]:
    """The environment of a command that works in this home, whatever the settings of ours are."""
    foreign = {name: value for name, value in os.environ.items() if not name.upper().startswith("MLOPS_")}
    return foreign | {"MLOPS_HOME": str(home)}


def _post(port: int, body: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        content = body if isinstance(body, str) else json.dumps(body)
        connection.request("POST", "/predict", content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def _served(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/model")
        return str(json.loads(connection.getresponse().read())["version"])
    finally:
        connection.close()
