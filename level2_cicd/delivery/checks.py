"""The checks of a release: targets of make, and how many tests each of them ran."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from level1_pipeline.errors import ReleaseRefused


@dataclass(frozen=True)
class CheckResult:
    """A target of make that succeeded, and its tests, if it has any."""

    target: str
    passed: int
    skipped: int


def run_checks(repository: Path, targets: Sequence[str]) -> list[CheckResult]:
    """Run targets of make one after the other; what they print is shown.

    Raises:
        ReleaseRefused: one of them fails.
    """
    return [_run(repository, target) for target in targets]


def _run(repository: Path, target: str) -> CheckResult:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "tests.xml"
        options = f"{os.environ.get('PYTEST_ADDOPTS', '')} --junitxml={report}".strip()
        env = os.environ | {"PYTEST_ADDOPTS": options}
        code = subprocess.run(["make", "--no-print-directory", target], cwd=repository, env=env, check=False).returncode
        if code:
            raise ReleaseRefused(f"make {target} failed with exit code {code}, so there is no release; see above")
        suites = ElementTree.parse(report).getroot().iter("testsuite") if report.exists() else ()  # noqa: S314 (our own)
        counts = [{name: int(suite.get(name, 0)) for name in ("tests", "skipped")} for suite in suites]
    skipped = sum(count["skipped"] for count in counts)
    return CheckResult(target, sum(count["tests"] for count in counts) - skipped, skipped)
