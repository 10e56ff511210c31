"""Images for machines that reach no registry of images: Debian with Python, its PostgreSQL and its Prometheus.

Made once by mmdebstrap from the archive that apt uses here, and kept in the engine under a tag. They behave as the
official images where `compose.yaml` relies on it: the names of variables, users, folders and programs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from level2_cicd.delivery import images
from tests.support import ROOT

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
STAND_INS = Path(__file__).parent / "stand_ins"
NAMES = {"PYTHON_IMAGE": "python", "POSTGRES_IMAGE": "postgres", "PROMETHEUS_IMAGE": "prometheus"}


def archive() -> str | None:
    """The address of Debian's packages in the configuration of apt."""
    files = sorted([*Path("/etc/apt").glob("sources.list"), *Path("/etc/apt/sources.list.d").glob("debian*")])
    for file in files:
        address = re.search(r"^(?:URIs:|deb(?: \[.*\])?) *(\S+/debian)/?\s", file.read_text(), re.MULTILINE)
        if address:
            return address[1]
    return None


def docker(*arguments: str, check: bool = True) -> str:
    """What a command of docker prints; a test fails with its error output."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def available() -> dict[str, str]:
    """The images that are not ours: the official ones, or else stand-ins. Skips where neither can be had."""
    official = images.official(ROOT / "containers")
    if subprocess.run(["docker", "pull", "--quiet", official["PYTHON_IMAGE"]], capture_output=True).returncode == 0:
        return {name: official[name] for name in NAMES}
    stand_ins = {name: f"mlops-stand-in/{image}" for name, image in NAMES.items()}
    if not all(docker("image", "ls", "--quiet", image) for image in stand_ins.values()):
        _make()
    return stand_ins


def _make() -> None:
    address = archive()
    if sys.platform != "linux" or os.getuid() != 0 or not shutil.which("mmdebstrap") or not address:
        pytest.skip("no registry of images is reached, and stand-ins need root, Debian's apt and mmdebstrap")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "base.tar"
        python = "--include=python3,python3-venv,ca-certificates"
        slim = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
        options = ["--quiet", "--variant=minbase", python, *slim, *_certificates()]
        command = ["mmdebstrap", *options, "stable", str(base), address]
        subprocess.run(command, check=True, timeout=300)
        variables = [f"{name}={CERTIFICATES}" for name in ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")]
        changes = [f"--change=ENV {variable}" for variable in variables]
        docker("import", *changes, str(base), "mlops-stand-in/python")
    for name in ("postgres", "prometheus"):
        docker("build", "--quiet", f"--target={name}", f"--tag=mlops-stand-in/{name}", str(STAND_INS))


def _certificates() -> list[str]:
    """Where the network signs with a certificate of its own, this machine knows it."""
    own = os.environ.get("SSL_CERT_FILE", CERTIFICATES)
    return [f"--customize-hook=upload {own} {CERTIFICATES}"] if Path(own).exists() else []
