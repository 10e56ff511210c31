"""The main commands give the same answers in every environment: behind proxies, in shells of other projects, as users
without a name, in other locales and time zones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.registry import CHAMPION
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from tests.support import ROOT
from tests.support.homes import Models

pytestmark = pytest.mark.integration
NOBODY_LISTENS = "http://ann:s3cret@127.0.0.1:9"
NAMELESS = 54321
AS_NAMELESS = ("setpriv", f"--reuid={NAMELESS}", f"--regid={NAMELESS}", "--clear-groups")
CLOCK = "2013-04-02T00:00:00-04:00"
PROXIES = dict.fromkeys(
    ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), NOBODY_LISTENS
)
OTHER_PROJECT = {
    "PREFECT_API_URL": f"{NOBODY_LISTENS}/api",
    "PREFECT_API_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////nowhere/prefect.db",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:////nowhere/prefect.db",
    "PREFECT_SERVER_API_AUTH_STRING": "ann:s3cret",
    "PREFECT_API_AUTH_STRING": "bob:s3cret",
    "PREFECT_PROFILE": "of-another-project",
    "PREFECT_HOME": "/nowhere",
    "PREFECT_SERVER_API_BASE_PATH": "/elsewhere",
    "MLFLOW_RUN_ID": "0123456789abcdef0123456789abcdef",
    "MLFLOW_EXPERIMENT_NAME": "of another project",
    "MLFLOW_TRACKING_URI": NOBODY_LISTENS,
    "MLFLOW_REGISTRY_URI": NOBODY_LISTENS,
    "GX_CLOUD_ACCESS_TOKEN": "s3cret",
    "UVICORN_ROOT_PATH": "/elsewhere",
    "WEB_CONCURRENCY": "3",
    "PROMETHEUS_MULTIPROC_DIR": "/nowhere",
    "GIT_DIR": "/nowhere",
    "MPLBACKEND": "module://nowhere",
}
EMPTY = {name: "" for name in Settings.model_construct().environment() if name not in ("MLOPS_HOME", "MLOPS_CLOCK")}
ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "another project's shell, behind a proxy": {**OTHER_PROJECT, **PROXIES, "no_proxy": "intranet.example", **EMPTY},
    "an interpreter with other manners, an old locale, an unknown time zone": {
        "PYTHONWARNINGS": "error",
        "PYTHONOPTIMIZE": "2",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii",
        "TZ": "Nowhere/Land",
        "ALL_PROXY": "socks5://127.0.0.1:9",
        "NO_PROXY": "fe80::/10",
    },
    "a German locale, the other side of the world, no home, a cautious user": {
        "LC_ALL": "de_DE.UTF-8",
        "LANGUAGE": "de",
        "PYTHONIOENCODING": "latin-1",
        "TZ": "Pacific/Apia",
        "HOME": None,
        "USER": "",
        "LOGNAME": "",
    },
}
# One interpreter for all commands, because importing the libraries is most of what they cost.
COMMANDS = """
import json, sys
from level1_pipeline.cli import main as level1
from monitoring.cli import main as monitoring
from serving.__main__ import main as serving
commands = [
    (level1, "history"),
    (level1, "promote", "2", "--reason", "in another environment"),
    (level1, "rollback", "--reason", "and back"),
    (serving, "score", "--id", sys.argv[1], "--json"),
    (monitoring, "run"),
]
codes = [main(arguments) for main, *arguments in commands]
print(json.dumps(codes))
"""


@dataclass(frozen=True)
class Answers:
    """What the commands answered, and who acted."""

    codes: list[int]
    score: dict[str, Any]
    actors: set[str]
    errors: str


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, rows: pd.DataFrame, cache: Path) -> Path:
    """A home with two blessed versions, of which the first is champion."""
    home = tmp_path_factory.mktemp("environments") / "häuser und mehr"
    shutil.copytree(cache, home / "cache")
    models = Models(Settings(home=home, actor="tester", clock=CLOCK).prepare(), rows)
    first, _ = models.register(1.0), models.register(0.1)
    models.registry.promote(first, CHAMPION, "planted by a test")
    models.registry.store.close()
    return home


def answers(home: Path, given: dict[str, str | None], user: tuple[str, ...] = (), **options: Any) -> Answers:
    """Run the commands in an environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLOPS_", "PREFECT_", "MLFLOW_"))}
    kept |= {"MLOPS_HOME": str(home), "MLOPS_CLOCK": CLOCK, "PYTHONPATH": str(ROOT)}
    environment = {name: value for name, value in {**kept, **given}.items() if value is not None}
    row = problem.load(pd.Timestamp("2013-04-02", tz="UTC"), cache=home / "cache")[problem.ID].iloc[-1]
    done = subprocess.run(
        [*user, sys.executable, "-c", COMMANDS, row],
        cwd=home,
        env=environment,
        capture_output=True,
        timeout=300,
        **options,
    )
    lines, errors = done.stdout.decode(errors="replace").splitlines(), done.stderr.decode(errors="replace")
    assert done.returncode == 0, errors
    assert "s3cret" not in done.stdout.decode(errors="replace") + errors
    score = next(json.loads(line) for line in lines if line.startswith('{"'))
    store = Store(Settings(home=home).operations)
    actors = {line.actor for line in store.audit_log(problem.NAME) if line.reason == "in another environment"}
    store.close()
    return Answers(json.loads(lines[-1]), {"score": score["score"], "version": score["version"]}, actors, errors)


@pytest.fixture
def home(promoted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(promoted, tmp_path / promoted.name))


@pytest.fixture(scope="module")
def usual(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    copy = Path(shutil.copytree(promoted, tmp_path_factory.mktemp("usual") / promoted.name))
    result = answers(copy, {})
    assert result.codes[:4] == [0, 0, 0, 0]
    return result


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_commands_answer_the_same_in(usual: Answers, home: Path, name: str) -> None:
    result = answers(home, ENVIRONMENTS[name], umask=0o077 if "cautious" in name else -1)
    assert (result.codes, result.score) == (usual.codes, usual.score), result.errors


@pytest.fixture
def open_home(promoted: Path) -> Iterator[Path]:
    """A home that belongs to a user whom the machine does not know."""
    if os.getuid() != 0:
        pytest.skip("only root may start a process as another user")
    folder = Path(tempfile.mkdtemp(prefix="nameless-"))
    copy = Path(shutil.copytree(promoted, folder / "home"))
    for path in [folder, copy, *copy.rglob("*")]:
        os.chown(path, NAMELESS, NAMELESS)
    if not shutil.which("setpriv") or subprocess.run([*AS_NAMELESS, sys.executable, "-c", "import pandas"]).returncode:
        pytest.skip("another user may not read this Python")
    yield copy
    shutil.rmtree(folder)


@pytest.mark.slow
def test_a_user_without_a_name_acts_under_a_number(usual: Answers, open_home: Path) -> None:
    nameless: dict[str, str | None] = {"HOME": "/", "USER": None, "LOGNAME": ""}
    result = answers(open_home, nameless, AS_NAMELESS)
    assert (result.codes, result.score) == (usual.codes, usual.score), result.errors
    assert result.actors == {f"uid-{NAMELESS}"}


TRAIN = ["train", "--as-of", "2013-03-01"]


@pytest.mark.slow
@pytest.mark.usefixtures("rows")
def test_a_training_ends_well_in_a_shell_of_nobody_and_of_another_project(tmp_path: Path, cache: Path) -> None:
    nobody = {"HOME": None, "PYTHONWARNINGS": "error", "ALL_PROXY": "socks5://127.0.0.1:9"}
    given: dict[str, str | None] = {**OTHER_PROJECT, **PROXIES, **nobody}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLOPS_", "PREFECT_", "MLFLOW_"))}
    kept |= {"MLOPS_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    environment = {name: value for name, value in {**kept, **given}.items() if value is not None}
    shutil.copytree(cache, tmp_path / "home" / "cache")
    done = subprocess.run(
        [sys.executable, "-m", "level1_pipeline", *TRAIN],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert f"models:/{problem.NAME}/1 -> champion" in done.stdout
    assert (tmp_path / "home" / "prefect" / "prefect.db").exists()
    assert "s3cret" not in done.stdout + done.stderr


UNREACHABLE = {
    "history": ("MLOPS_STORE_URI", "postgresql://ann:s3cret@127.0.0.1:9/x", ["history"]),
    "train": ("MLOPS_TRACKING_URI", NOBODY_LISTENS, TRAIN),
}


@pytest.mark.parametrize("name", [pytest.param("train", marks=pytest.mark.slow), "history"])
def test_a_server_that_does_not_answer_is_one_line_without_its_password(
    tmp_path: Path, name: str, run_command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    variable, address, arguments = UNREACHABLE[name]
    done = run_command(arguments, {variable: address})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "s3cret" not in done.stdout + done.stderr
    # The HTTP client warns when it tries again.
    assert len([line for line in done.stderr.strip().splitlines() if "| WARNING |" not in line]) == 1


@pytest.fixture
def run_command(tmp_path: Path, cache: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(arguments: list[str], given: dict[str, str]) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
        kept |= {"MLOPS_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
        (tmp_path / "home").mkdir(exist_ok=True)
        (tmp_path / "home" / "cache").symlink_to(cache)
        command = [sys.executable, "-m", "level1_pipeline", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=kept | given, capture_output=True, text=True, timeout=600)

    return run
