"""More than a year of operation: a home that is pruned stays small, and its service and its monitoring stay fast."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

FIRST, YOUNG, OLD = "2024-04-01", "2024-11-10", "2025-05-25"  # 224 and 420 days, each a number of whole months
PLACED = {  # in the example of 200 days: 60 rows a day for 560 days, and a world that changes from month to month
    "n_samples=20_000": "n_samples=33_600",
    "number * 200 / len(y)": "number * 560 / len(y)",
    "effect = 10.0": "effect = 1.0",
    '(rows[EVENT_TIME] >= pd.Timestamp("2024-06-01", tz="UTC"))': "(number // 1680)",
    '"limits": {"rmse": (None, 2.0), "r2": (0.8, None)}': '"limits": {"rmse": (None, 20.0)}',
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the simulated regression, whose data last for 560 days."""
    folder = tmp_path_factory.mktemp("clone")
    for package in ("level1_pipeline", "level2_cicd", "monitoring", "serving", "tests/support"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests/__init__.py").touch()
    text = (ROOT / "examples/simulated_regression/problem.py").read_text()
    for old, new in PLACED.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "level1_pipeline/problem.py").write_text(text)
    return folder


def call(clone: Path, *arguments: str) -> str:
    """What the program of the long life prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    command = [sys.executable, "-m", "tests.support.long_life", *arguments]
    environment = kept | {"PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sizes(home: Path) -> dict[str, int]:
    """The bytes of each part of a home; a database and its write-ahead log are one part."""
    parts: dict[str, int] = {}
    for file in home.rglob("*"):
        if file.is_file() and not file.is_symlink():
            part = file.relative_to(home).parts[0].partition("-")[0]
            parts[part] = parts.get(part, 0) + file.stat().st_size
    return parts


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(3000)
def test_after_420_days_a_pruned_home_is_no_larger_and_no_slower_than_after_224(clone: Path) -> None:
    home, young = clone / "home", clone / "young"
    call(clone, "live", str(home), FIRST, YOUNG)
    shutil.copytree(home, young, symlinks=True)
    call(clone, "live", str(home), FIRST, OLD)
    # Versions came and went.
    early, late = ({int(bundle.name) for bundle in folder.glob("bundles/*/[0-9]*")} for folder in (young, home))
    assert max(late) >= max(early) + 5
    assert 1 not in late
    # No part of the home goes on growing.
    for part, size in sizes(home).items():
        before = sizes(young).get(part, 0)
        assert size <= 1.5 * before + 500_000, f"{part}: {before:,} bytes after 224 days, {size:,} after 420"
    # And nothing becomes slower: both homes are timed in turn.
    timed: dict[Path, list[dict[str, float]]] = {home: [], young: []}
    for _ in range(3):
        for folder, times in timed.items():
            times.append(json.loads(call(clone, "time", str(folder)).splitlines()[-1]))
    for what in timed[home][0]:
        old, new = (min(times[what] for times in timed[folder]) for folder in (home, young))
        assert old < 1.6 * new + 0.1, f"{what}: {new:.2f} s of a core after 224 days, {old:.2f} s after 420"
