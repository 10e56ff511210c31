"""What the images and the containers of a release are described by, without an engine: `make test-containers` has one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from level1_pipeline.errors import ReleaseRefused
from level1_pipeline.settings import Settings
from level2_cicd.delivery import images, stack
from level2_cicd.delivery.release import Release
from tests.support import ROOT

CONTAINERS = ROOT / "containers"


def test_official_images_are_named_by_digest_and_a_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    for image in images.official(CONTAINERS).values():
        assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image)
    monkeypatch.setenv("POSTGRES_IMAGE", "my/postgres")
    assert images.official(CONTAINERS)["POSTGRES_IMAGE"] == "my/postgres"


def test_the_compose_file_follows_the_schema_of_compose() -> None:
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*checker, CONTAINERS / "compose.yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        ({}, {}),
        ({"PIP_INDEX_URL": "p"}, {"PIP_INDEX_URL": "p", "UV_DEFAULT_INDEX": "p"}),
        ({"UV_DEFAULT_INDEX": "u"}, {"PIP_INDEX_URL": "u", "UV_DEFAULT_INDEX": "u"}),
        ({"PIP_INDEX_URL": "p", "UV_DEFAULT_INDEX": "u"}, {"PIP_INDEX_URL": "p", "UV_DEFAULT_INDEX": "u"}),
        ({"https_proxy": "x", "HTTPS_PROXY": "y", "NO_PROXY": "z"}, {"HTTPS_PROXY": "x", "NO_PROXY": "z"}),
    ],
)
def test_a_build_reaches_packages_as_this_machine_does(environment: dict[str, str], arguments: dict[str, str]) -> None:
    assert images.network(environment) == arguments


def test_without_docker_a_build_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "release.json").touch()
    with pytest.raises(ReleaseRefused, match="docker is not installed; make doctor says how to get it"):
        images.build(Release(tmp_path, "commit", {}), CONTAINERS, "python")


def test_secrets_are_made_once_and_are_for_the_owner_of_the_folder(home: Settings) -> None:
    folder = stack.write_secrets(home)
    before = {file.name: file.read_text() for file in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert before["database_password"] in before["mlops_store_uri"]
    assert len({*before.values()}) == len(before)
    assert stack.write_secrets(home) == folder
    assert {file.name: file.read_text() for file in folder.iterdir()} == before


def test_every_secret_that_compose_names_is_written(home: Settings) -> None:
    named = set(re.findall(r"\{MLOPS_SECRETS\}/(\w+)", (CONTAINERS / "compose.yaml").read_text()))
    assert named <= {file.name for file in stack.write_secrets(home).iterdir()}
