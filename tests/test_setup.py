"""`make setup` on machines that lack something: each failure is one line that says what to do here."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support import ROOT


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return importlib.import_module("machine")


@pytest.fixture
def setup(machine: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The set-up in a folder with a small lock."""
    (tmp_path / "requirements.lock").write_text("some-package==1.0\n")
    monkeypatch.setenv("INSTALL", "--require-hashes")
    return importlib.import_module("setup")


def program(name: str, script: str = "exit 0") -> None:
    """A program of this name on the PATH."""
    path = Path("bin", name)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "apt-get install python3-venv"),
        ("dnf", "dnf install python3-pip"),
        ("apk", "apk add py3-pip"),
        ("zypper", "zypper install python3-pip"),
        ("pacman", "pacman -S uv"),
        ("brew", "brew install uv"),
    ],
)
@pytest.mark.parametrize("user", [0, 1000])
def test_what_to_install_is_said_for_the_package_manager_of_the_machine(
    machine: ModuleType, monkeypatch: pytest.MonkeyPatch, manager: str, command: str, user: int
) -> None:
    program(manager)
    monkeypatch.setattr(os, "getuid", lambda: user)
    assert machine.how_to_install() == ("sudo " if user and manager != "brew" else "") + command


def test_a_machine_with_nothing_that_makes_environments_gets_one_line(
    setup: Any, machine: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "has_modules", lambda *names: False)
    program("apt-get")
    with pytest.raises(setup.SetupFailed, match=r"neither venv, pip nor virtualenv; .* apt-get install python3-venv$"):
        setup.main([])


@pytest.mark.parametrize(
    ("modules", "way"),
    [
        ({"venv", "ensurepip", "pip", "virtualenv"}, "venv"),
        ({"venv", "pip"}, "pip"),
        ({"venv", "virtualenv"}, "virtualenv"),
        ({"venv"}, None),  # as Debian ships it
    ],
)
def test_whatever_can_install_uv_is_taken(
    machine: ModuleType, monkeypatch: pytest.MonkeyPatch, modules: set[str], way: str | None
) -> None:
    monkeypatch.setattr(machine, "has_modules", lambda *names: modules.issuperset(names))
    assert machine.way_to_uv() == way


def test_a_uv_on_the_path_that_does_not_run_is_none(machine: ModuleType) -> None:
    program("uv", "exit 1")
    assert machine.uv() is None
    program("uv")
    assert machine.uv() == "uv"


@pytest.fixture
def own_uv(machine: ModuleType) -> Path:
    """A uv 1.0 in .tools, which the lock names."""
    Path(machine.TOOLS, "bin").mkdir(parents=True)
    Path("requirements-setup.lock").write_text("uv==1.0 \\\n    --hash=sha256:0\n")
    uv = Path(machine.TOOLS, "bin", "uv")
    uv.write_text("#!/bin/sh\necho 'uv 1.0 (a build)'\n")
    uv.chmod(0o755)
    return uv


@pytest.mark.parametrize("newer", ["1.0.1", "1.1", "11.0"])
def test_our_own_uv_is_taken_only_while_it_has_the_pinned_version(
    machine: ModuleType, own_uv: Path, newer: str
) -> None:
    assert machine.uv() == str(own_uv)
    Path("requirements-setup.lock").write_text(f"uv=={newer} \\\n    --hash=sha256:0\n")
    assert machine.uv() is None
    program("uv", "echo uv 0.1")
    assert machine.uv() == "uv"  # the user's own, of any version


def test_a_newer_lock_with_the_same_uv_is_looked_at_once(own_uv: Path) -> None:
    shutil.copytree(ROOT / ".ci", ".ci")
    for name in ("bash", "make", "touch"):
        Path("bin", name).symlink_to(shutil.which(name, path=os.defpath) or "")
    os.utime(own_uv, (0, 0))
    command = ["bin/make", "-f", str(ROOT / "Makefile"), f"PYTHON={sys.executable}", str(own_uv)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert subprocess.run([*command, "--question"]).returncode == 0


# A uv that makes environments, brings Pythons, and installs nothing.
UV = f"""
case "$1 $2" in
  "python find") exit 1 ;;
  "venv --clear") mkdir -p .venv/bin && ln -sf '{sys.executable}' .venv/bin/python ;;
esac
echo "$@" >> calls
"""


@pytest.fixture
def old_python(machine: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    real = machine.fits
    monkeypatch.setattr(machine, "fits", lambda python=None: real(python) if python else False)
    monkeypatch.setattr(machine, "version", lambda: "3.10.13")


def test_a_python_that_does_not_fit_is_replaced_by_one_that_uv_brings(
    setup: Any, old_python: None, capfd: pytest.CaptureFixture[str]
) -> None:
    program("uv", f"PATH=/usr/bin:/bin\n{UV}")
    setup.main([])
    answer = capfd.readouterr().out
    assert "Python 3.11 to 3.14 is needed, and this is 3.10.13; no other one is here, so uv brings 3.13" in answer
    assert re.search(r"setup \| Python 3\.\d+\.\d+ in \.venv with 1 locked packages", answer)
    assert Path("calls").read_text().splitlines() == [
        "--version",
        "python install 3.13",
        "venv --clear --python 3.13 .venv",
        "pip sync --python .venv/bin/python --require-hashes requirements.lock",
    ]


def test_another_python_of_the_machine_is_taken_first(
    setup: Any, old_python: None, capfd: pytest.CaptureFixture[str]
) -> None:
    found_here = UV.replace("exit 1", f"echo '{sys.executable}'; exit 0")
    program("uv", f"PATH=/usr/bin:/bin\n{found_here}")
    setup.main([])
    assert f"this is 3.10.13; {sys.executable} fits" in capfd.readouterr().out
    assert f"venv --clear --python {sys.executable} .venv" in Path("calls").read_text()


def test_a_python_that_a_person_names_is_not_replaced(
    setup: Any, old_python: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("uv")
    monkeypatch.setenv("PYTHON_NAMED", "command line")
    with pytest.raises(setup.SetupFailed, match=r"this is 3\.10\.13; name another one, or none: make setup PYTHON="):
        setup.main([])


def test_a_uv_without_a_network_ends_in_one_line_with_the_cause_and_without_a_password(setup: Any) -> None:
    failure = "error: no\\n  cause: http://ann:s3cret@mirror.example/simple: dns error\\n  more"
    program("uv", f'PATH=/usr/bin:/bin\nif [ "$1" = pip ]; then printf "{failure}"; exit 2; fi\n{UV}')
    with pytest.raises(setup.SetupFailed) as failed:
        setup.main([])
    line = str(failed.value)
    assert re.search(
        r"^the packages could not be installed: .*\(UV_DEFAULT_INDEX\) \(cause: http://mirror.*dns error\)", line
    )
    assert "\n" not in line
    assert "s3cret" not in line


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ({"PIP_INDEX_URL": "a"}, {"UV_DEFAULT_INDEX": "a"}),
        ({"UV_DEFAULT_INDEX": "a"}, {"PIP_INDEX_URL": "a"}),
        ({"UV_INDEX_URL": "a"}, {"PIP_INDEX_URL": "a"}),
        ({"UV_INDEX_URL": "a", "PIP_INDEX_URL": "b"}, {}),
        ({"PIP_EXTRA_INDEX_URL": "a"}, {"UV_EXTRA_INDEX_URL": "a"}),
        ({"PIP_CERT": "a"}, {"SSL_CERT_FILE": "a"}),
        ({"SSL_CERT_FILE": "a", "PIP_CERT": "b"}, {}),
    ],
)
def test_a_mirror_and_certificates_hold_for_pip_and_uv(
    setup: Any, given: dict[str, str], added: dict[str, str]
) -> None:
    environment = dict(given)
    setup.share_mirror_and_certificates(environment)
    ours = {"PIP_DISABLE_PIP_VERSION_CHECK", "PIP_REQUIRE_VIRTUALENV", "PIP_USER"}
    assert {name: value for name, value in environment.items() if name not in ours} == given | added


def test_a_machine_without_python_gets_one_line() -> None:
    command = ["make", "--no-print-directory", "--always-make", "setup", "PYTHON=python-of-nobody"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stderr.splitlines()[0].startswith("setup: there is no python-of-nobody on this machine; install Python")


def test_the_doctor_and_the_set_up_name_the_same_pythons_as_the_project(machine: ModuleType) -> None:
    oldest, newest = (".".join(map(str, version)) for version in (machine.OLDEST, machine.NEWEST))
    assert f"Python {oldest} to {newest}" == machine.PYTHONS
    assert f'requires-python = ">={oldest},<3.{machine.NEWEST[1] + 1}"' in (ROOT / "pyproject.toml").read_text()
    for page in ("README.md", "Makefile"):
        assert machine.PYTHONS in (ROOT / page).read_text(), page
    pythons = [f"3.{minor}" for minor in range(machine.OLDEST[1], machine.NEWEST[1] + 1)]
    matrix = ", ".join(f'"{python}"' for python in pythons)
    assert f"python: [{matrix}]" in (ROOT / ".github/workflows/ci.yml").read_text()
    assert f"for version in {' '.join(pythons)}; do" in (ROOT / ".ci/other-pythons").read_text()


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md", ".ci/setup.py"])
def test_every_page_names_the_same_least_python_of_the_set_up(page: str) -> None:
    assert "sys.version_info < (3, 8)" in (ROOT / ".ci/setup.py").read_text()
    assert "eeds Python 3.8 or newer" in (ROOT / page).read_text()


@pytest.mark.parametrize("name", ["setup", "doctor", "machine"])
def test_an_old_python_understands_the_set_up(name: str) -> None:
    ast.parse((ROOT / f".ci/{name}.py").read_text(), feature_version=(3, 6))


def test_each_package_of_the_set_up_is_locked_with_its_hashes() -> None:
    for name, package in (("requirements-setup.lock", "uv"), ("build-constraints.txt", "setuptools")):
        text = (ROOT / name).read_text()
        assert re.findall("^[a-z]+(?===)", text, re.MULTILINE) == [package]
        assert "--hash=sha256:" in text
    version = re.search("setuptools==[0-9.]+", (ROOT / "build-constraints.txt").read_text())
    assert version is not None
    assert version[0] in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("present", "absent"),
    [
        ({}, ["docker", "docker compose", "container engine"]),
        ({"docker": '[ "$1" = --version ]'}, ["docker compose", "container engine"]),
        ({"docker": '[ "$1" != compose ]'}, ["docker compose"]),
        ({"docker": '[ "$1" != compose ]', "docker-compose": "exit 0"}, []),
    ],
)
def test_the_doctor_names_what_is_missing_for_containers(
    machine: ModuleType, capsys: pytest.CaptureFixture[str], present: dict[str, str], absent: list[str]
) -> None:
    for name, script in present.items():
        program(name, script)
    importlib.import_module("doctor").main()
    lines = [line for line in capsys.readouterr().out.splitlines() if "only for containers" in line]
    assert [line.split(" - ")[0].removeprefix("absent").strip() for line in lines] == absent


@pytest.mark.parametrize(
    ("docker", "printed"), [("exit 1", "containers: NOT TESTED: no engine answers"), ("exit 0", "tested")]
)
def test_without_an_engine_ci_says_that_containers_are_not_tested(
    machine: ModuleType, docker: str, printed: str
) -> None:
    program("id", "echo 1000")
    program("docker", docker)
    for name in ("bash", "echo"):
        Path("bin", name).symlink_to(shutil.which(name, path=os.defpath) or "")
    done = subprocess.run([ROOT / ".ci/containers", "echo", "tested"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[: len(printed)]) == (0, printed), done.stderr
