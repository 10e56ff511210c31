"""Container images of a release. Their context is its files, so they hold the bytes that a local deployment installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from level1_pipeline.errors import ReleaseRefused
from level2_cicd.delivery.release import Release

TARGETS = ("serving", "pipeline", "monitoring")
OFFICIAL = "images.env"
BESIDE = ("Dockerfile", "with-secrets")  # of the folder `containers`
SETUP_LOCK = "requirements-setup.lock"  # of the checkout: uv, which installs and stays out of the images
# How this machine reaches packages; the builder passes proxies on to each step by itself.
MIRRORS = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")
PROXIES = tuple(f"{kind}_PROXY" for kind in ("HTTP", "HTTPS", "NO"))


def official(containers: Path) -> dict[str, str]:
    """The images that are not ours, by the name of their variable. The environment wins."""
    lines = (containers / OFFICIAL).read_text(encoding="utf-8").splitlines()
    named = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name: os.environ.get(name) or image for name, image in named.items()}


def tag(target: str, release_id: str) -> str:
    """The name of an image of a release."""
    return f"mlops-{target}:{release_id}"


def build(release: Release, containers: Path, python_image: str) -> list[str]:
    """Build the images of a release, and return their tags. What was built before costs seconds.

    Args:
        release: checked.
        containers: the folder with the Dockerfile, in a checkout.
        python_image: a Debian with the Python that runs everything.

    Raises:
        ReleaseRefused: an image cannot be built.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-images-") as folder:
        context = Path(folder)
        for name in (*release.files, "release.json"):
            shutil.copyfile(release.folder / name, context / name)
        for name in BESIDE:
            shutil.copy(containers / name, context / name)
        shutil.copyfile(containers.parent / SETUP_LOCK, context / SETUP_LOCK)
        arguments = {"PYTHON_IMAGE": python_image, **network(os.environ)}
        for target in TARGETS:
            options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
            _docker(["build", "--quiet", f"--target={target}", f"--tag={tag(target, release.id)}", *options, folder])
    return [tag(target, release.id) for target in TARGETS]


def network(environment: Mapping[str, str]) -> dict[str, str]:
    """The mirror, named for pip or for uv, and the proxies."""
    pip, uv = (environment.get(name) for name in MIRRORS)
    mirror = dict.fromkeys(MIRRORS, pip or uv) | {
        name: value for name, value in zip(MIRRORS, (pip, uv), strict=True) if value
    }
    proxies = {name: environment.get(name.lower()) or environment.get(name) for name in PROXIES}
    return {name: value for name, value in (mirror | proxies).items() if value}


def _docker(arguments: list[str]) -> None:
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ReleaseRefused("docker is not installed; make doctor says how to get it") from error
    if done.returncode:
        raise ReleaseRefused(f"docker {arguments[0]} failed: {(done.stdout + done.stderr).strip()[-800:]}")
