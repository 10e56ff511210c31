"""What is different in a release?  A change of a package or of Python is a change of the product, even without one of ours.

Both releases train on the same window, each in its own interpreter and a home that is thrown away, and score the same
records. Models that are made alike from the same data agree to the last digits.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.errors import ReleaseRefused
from level1_pipeline.schema.scores import difference
from level2_cicd.delivery.acceptance import in_home
from level2_cicd.delivery.components import packages
from level2_cicd.delivery.environments import Environment, Installed
from level2_cicd.delivery.release import PIPELINE_LOCK, Release

TOLERANCE = 1e-9  # of a prediction: compiled sums may differ in the last digits, and nothing else
COMPARISON = "comparison"  # the environment in which releases are compared


@dataclass(frozen=True)
class Comparison:
    """What changed between two releases."""

    packages: dict[str, tuple[str | None, str | None]]  # version before and after, by package; None: not there
    largest: float  # difference of two predictions for the same record
    beyond: int  # records whose predictions differ by more than TOLERANCE
    records: int

    @property
    def alike(self) -> bool:
        """Whether all predictions agree."""
        return self.beyond == 0


def compare(
    base: Release, new: Release, home: Path, uv: str, as_of: date, progress: Callable[[str], None]
) -> Comparison:
    """Install both, train both as of a day, and compare what they say.

    Raises:
        ReleaseRefused: one of them cannot be installed, or trains no model.
    """
    environment = Environment.of(home, COMPARISON)
    scores, records = [], ""
    for release in (base, new):
        progress(f"train with {release.id}")
        installed, scratch = environment.install(release, uv), environment.home / f"home-{release.id}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        _command(installed, scratch, "train", "--as-of", str(as_of))
        if not records:  # those of the base, for both
            (golden,) = (scratch / "bundles" / problem.NAME).glob("*/golden.json")
            records = json.dumps(json.loads(golden.read_text())["records"])
        (scratch / "records.json").write_text(records)
        answer = _command(installed, scratch, "score", "--json", "records.json", "--as-json")
        scores.append([part["score"] for part in json.loads(answer)])
        shutil.rmtree(scratch)
    differences = [difference(before, after) for before, after in zip(*scores, strict=True)]
    beyond = sum(each > TOLERANCE for each in differences)
    return Comparison(changed_packages(base, new), max(differences), beyond, len(differences))


def changed_packages(base: Release, new: Release) -> dict[str, tuple[str | None, str | None]]:
    """Which packages (and Python) two releases have in another version, or only one of them has."""
    before, after = (
        {"python": release.python, **packages((release.folder / PIPELINE_LOCK).read_text())} for release in (base, new)
    )
    names = sorted({*before, *after})
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _command(installed: Installed, scratch: Path, *arguments: str) -> str:
    command = [str(installed.python), "-m", "level1_pipeline", *arguments]
    done = subprocess.run(command, cwd=scratch, env=in_home(scratch), capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise ReleaseRefused(
            f"with {installed.release.id}, {arguments[0]} ended with exit code {done.returncode}: {last}"
        )
    return done.stdout
