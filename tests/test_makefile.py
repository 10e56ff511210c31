"""What a person types after `make` arrives in the command as it was typed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

SHOW_ARGUMENTS = f"{sys.executable} -c 'import json, sys; print(json.dumps(sys.argv[1:]))'"
HOSTILE = [
    'said "no" & cost $5',
    "it's `id` $(shell touch made) $$x ${HOME}",
    "see [hotfix] #7, 100% \\ done; exit 1",
    "two\nlines",
    "--help",
    "",
]
TYPED = [
    ("approve", "REASON", "--reason={}"),
    ("approve", "STEP", "{}"),
    ("reject", "REASON", "--reason={}"),
    ("rollback", "REASON", "--reason={}"),
    ("repair", "VERSION", "{}"),
    ("repair", "BACKUP", "--from={}"),
    ("history", "SHOW", "--show={}"),
    ("trace", "PREDICTION", "{}"),
    ("level1", "AS_OF", "--as-of={}"),
    ("serve", "WORKERS", "--workers={}"),
]


def arguments(folder: Path, target: str, *typed: str, **environment: str) -> list[str]:
    command = ["make", "-f", str(ROOT / "Makefile"), "-o", "setup", target, f"PY={SHOW_ARGUMENTS}", *typed]
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(command, cwd=folder, env=variables | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    shown: list[str] = json.loads(done.stdout)
    return shown


@pytest.mark.parametrize("text", HOSTILE[:-1])
@pytest.mark.parametrize(("target", "variable", "form"), TYPED)
def test_what_is_typed_arrives_unharmed(tmp_path: Path, target: str, variable: str, form: str, text: str) -> None:
    assert form.format(text) in arguments(tmp_path, target, f"{variable}={text}")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_stands_in_the_environment_arrives_unharmed(tmp_path: Path, text: str) -> None:
    assert arguments(tmp_path, "rollback", REASON=text)[-1] == f"--reason={text}"


@pytest.mark.parametrize("text", HOSTILE)
def test_paths_arrive_unharmed(tmp_path: Path, text: str) -> None:
    shown = arguments(tmp_path, "score", f"INPUT={text}", f"OUTPUT=out {text}")
    assert shown[-2:] == [f"--input={text}", f"--output=out {text}"]


def test_without_a_word_the_defaults_hold(tmp_path: Path) -> None:
    assert arguments(tmp_path, "reject")[-1] == "--reason=by hand"
    assert arguments(tmp_path, "history")[-1] == "history"
    assert arguments(tmp_path, "serve")[-1] == "--workers=1"
    assert arguments(tmp_path, "level1")[-1] == "--as-of=demo"
    assert arguments(tmp_path, "level2")[-1] == "simulate"
    assert "--fault-from" in arguments(tmp_path, "level2", "SIMULATION=--fault temp --fault-from 2013-05-20")


@pytest.mark.parametrize("target", ["prune", "restore"])
def test_only_the_word_1_on_the_command_line_confirms(tmp_path: Path, target: str) -> None:
    assert arguments(tmp_path, target, "CONFIRM=1")[-1] == "--confirm"
    for typed in ("CONFIRM=0", "CONFIRM=no", "CONFIRM=", "KEEP=3"):
        assert "--confirm" not in arguments(tmp_path, target, typed)
    assert "--confirm" not in arguments(tmp_path, target, CONFIRM="1"), "that of another tool"


def test_every_variable_of_a_command_comes_through_the_environment() -> None:
    """Also those of targets to come: a recipe that writes `$(REASON)` would let make and the shell read the words."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    typed = next(line for line in lines if line.startswith("TYPED :=")).split()[2:]
    recipes = [line for line in lines if line.startswith("\t")]
    used = {name for line in recipes if "$(PY) " in line for name in re.findall(r"\$\$\{?([A-Z_]+)", line)}
    assert used == set(typed)
    assert not [line for line in recipes for name in typed if f"$({name})" in line]
