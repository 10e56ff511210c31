"""The whole system in containers: its secrets, and `compose up` and `down` for the images of a release."""

from __future__ import annotations

import os
import secrets
import subprocess
from pathlib import Path

from level1_pipeline.errors import NoAnswer
from level1_pipeline.settings import Settings
from level2_cicd.delivery import images
from serving.api.security import new_key

COMPOSE = (("docker", "compose"), ("docker-compose",))
OLD_COMPOSE_SECONDS = "600"  # docker-compose 1 gives up after 60, and a cold start of all takes longer
READABLE = 0o444  # inside a folder of 0o700: by the users of the containers, and by nobody else here


def up(settings: Settings, release_id: str, containers: Path) -> list[str]:
    """Start the containers of a release, whose images are there; returns what there is to say."""
    variables = images.official(containers) | {
        "MLOPS_RELEASE": release_id,
        "MLOPS_SECRETS": str(write_secrets(settings)),
    }
    grafana = _can_be_had(variables["GRAFANA_IMAGE"])
    profile = ["--profile", "grafana"] if grafana else []
    _compose(containers, variables, *profile, "up", "--detach", "--no-build", "--remove-orphans")
    return [] if grafana else [f"without Grafana: its image cannot be had here ({variables['GRAFANA_IMAGE']})"]


def down(settings: Settings, containers: Path) -> None:
    """Stop and remove the containers. The volumes, which hold all state, stay."""
    named = {"MLOPS_RELEASE": "any", "MLOPS_SECRETS": str(_folder(settings))}
    _compose(containers, images.official(containers) | named, "--profile", "grafana", "down", "--remove-orphans")


def key_file(settings: Settings, scope: str) -> Path:
    """Where the key of callers (scope `predict` or `admin`) was written."""
    return _folder(settings) / f"{scope}_key"


def _folder(settings: Settings) -> Path:
    return settings.home / "containers" / "secrets"


def write_secrets(settings: Settings) -> Path:
    """Passwords and keys as files, made once: the volume of the database remembers its own."""
    folder = _folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if not (folder / "grafana_password").exists():  # written last
        (predict, predict_hash), (admin, admin_hash) = new_key(), new_key()
        password = secrets.token_urlsafe(32)
        address = f"mlops:{password}@database"
        for name, value in {
            "database_password": password,
            "mlops_store_uri": f"postgresql://{address}/operations",
            "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg://{address}/mlflow",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{address}/prefect",
            "predict_key": predict,
            "mlops_predict_key_hash": predict_hash,
            "admin_key": admin,
            "mlops_admin_key_hash": admin_hash,
            "grafana_password": secrets.token_urlsafe(16),
        }.items():
            file = folder / name
            file.unlink(missing_ok=True)
            file.write_text(value, encoding="utf-8")
            file.chmod(READABLE)
    return folder


def _can_be_had(image: str) -> bool:
    return any(_run(["docker", *command, image]).returncode == 0 for command in (("image", "inspect"), ("pull", "-q")))


def _compose(containers: Path, variables: dict[str, str], *arguments: str) -> None:
    command = next((list(way) for way in COMPOSE if _run([*way, "version"]).returncode == 0), None)
    if command is None:
        raise NoAnswer("neither docker compose nor docker-compose is there; make doctor says how to get it")
    environment = os.environ | variables | {"COMPOSE_HTTP_TIMEOUT": OLD_COMPOSE_SECONDS}
    environment.setdefault("COMPOSE_PROJECT_NAME", "mlops")
    done = _run([*command, "--file", str(containers / "compose.yaml"), *arguments], environment)
    if done.returncode:
        raise NoAnswer(f"{' '.join(command)} failed: {done.stderr.strip()[-800:]}")


def _run(command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", f"{command[0]} is not installed")
