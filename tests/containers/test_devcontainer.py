"""The container of developers: it builds, and a clone in it can be set up and worked on."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from level2_cicd.delivery import images
from tests.support import ROOT
from tests.support.checkout import make_checkout
from tests.support.stand_in_images import available, docker

pytestmark = [pytest.mark.containers, pytest.mark.integration, pytest.mark.timeout(900)]
IMAGE = "mlops-devcontainer"


def test_a_clone_in_the_container_of_developers_has_all_that_it_needs(tmp_path: Path) -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no container engine answers here: make doctor says what is missing")
    proxies = {name: value for name, value in images.network(os.environ).items() if name in images.PROXIES}
    arguments = {"PYTHON_IMAGE": available()["PYTHON_IMAGE"], **proxies}
    options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    docker("build", "--quiet", f"--tag={IMAGE}", *options, str(ROOT / ".devcontainer"))
    clone = make_checkout(tmp_path)
    shutil.copyfile(ROOT / "Makefile", clone / "Makefile")
    for folder in (clone, *clone.rglob("*")):
        folder.chmod(0o777 if folder.is_dir() else folder.stat().st_mode | 0o444)
    mounted = ["--rm", f"--volume={clone}:/workspace", "--workdir=/workspace"]
    said = docker("run", *mounted, IMAGE, "make", "doctor")
    assert said.splitlines()[-1].startswith("doctor | nothing is missing")
    assert docker("run", "--rm", IMAGE, "id", "--user", "--name") == "developer"
