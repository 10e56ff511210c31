"""`make setup` on a machine that has only python3, make and git: a bare Debian in a folder, once stable, once its
newest release (with Python 3.14). As root, with `mmdebstrap` and the package archive that this machine uses."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.stand_in_images import archive

pytestmark = [pytest.mark.slow, pytest.mark.integration]
BARE = "python3,make,git,ca-certificates"
# How this machine reaches packages: mirrors, proxies, certificates.
NETWORK = re.compile("(UV|PIP)_(DEFAULT_|EXTRA_)?INDEX|PIP_CERT|SSL_CERT_FILE|(https?|all|no)_proxy", re.IGNORECASE)
CLONE = "a clone, größer"  # with a space and letters that are not ASCII, and without .git


@dataclass(frozen=True)
class Debian:
    """A bare Debian in a folder."""

    root: Path

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of a shell in it, in the folder of the clone."""
        variables = [f"{name}={value}" for name, value in os.environ.items() if NETWORK.fullmatch(name)]
        variables += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]
        inside = ["/usr/bin/env", "-i", *variables, "bash", "-c", f"cd '/{CLONE}' && {command}"]
        return subprocess.run(["chroot", self.root, *inside], capture_output=True, text=True, timeout=280)


@pytest.fixture(params=["stable", "sid"])
def debian(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Debian]:
    if sys.platform != "linux" or os.getuid() != 0 or not shutil.which("mmdebstrap"):
        pytest.skip("a bare Debian needs root and mmdebstrap (Debian's package of this name)")
    address, root = archive(), tmp_path / "root"
    if address is None:
        pytest.skip("apt on this machine names no archive of Debian")
    # The newest release may be a frozen copy, whose date of expiry has passed.
    options = ["--quiet", "--variant=minbase", f"--include={BARE}", '--aptopt=Acquire::Check-Valid-Until "false"']
    made = subprocess.run(["mmdebstrap", *options, request.param, root, address], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no bare Debian {request.param} can be made here: {made.stderr.strip().splitlines()[-1:]}")
    try:
        for name in ("/etc/resolv.conf", "/etc/hosts", os.environ.get("SSL_CERT_FILE", "")):
            if name and Path(name).exists():
                target = root / name.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(Path(name).read_bytes())
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            target = root / CLONE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        yield Debian(root)
    finally:
        subprocess.run(["rm", "-rf", root])  # in half the time of shutil.rmtree


def test_a_bare_debian_is_told_what_to_install_and_then_set_up(debian: Debian) -> None:
    first = debian.run("make setup")
    assert first.returncode != 0
    assert not first.stdout
    line, *of_make = first.stderr.splitlines()
    advice = re.fullmatch("setup: .* install one of them here: (apt-get install .*)", line)
    assert advice is not None, line
    assert all(text.startswith("make: ") for text in of_make)
    doctor = debian.run("make doctor")
    assert advice[1] in doctor.stdout

    update = "apt-get -qq -o Acquire::Check-Valid-Until=false update && DEBIAN_FRONTEND=noninteractive"
    installed = debian.run(f"{update} {advice[1]} -y -qq --no-install-recommends")
    assert installed.returncode == 0, installed.stderr
    done = debian.run("make setup")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^  Downloading numpy ", done.stdout, re.MULTILINE)
    python = debian.run("python3 --version").stdout.strip()
    assert re.fullmatch(rf"setup \| {python} in \.venv with \d+ locked packages", done.stdout.splitlines()[-1])
    assert debian.run("make doctor").returncode == 0
    assert debian.run("make setup").stdout.startswith("make: Nothing to be done")
    checked = debian.run(".venv/bin/python -m pytest -q tests/test_setup.py tests/level1_pipeline/test_environment.py")
    assert checked.returncode == 0, checked.stdout
