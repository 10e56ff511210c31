"""Names the tests that failed on the page of the job on GitHub, where a person looks first. Elsewhere it writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

PAGE = "GITHUB_STEP_SUMMARY"  # the variable that names its file
MOST = 100  # are named; a page has a limit, and so has a reader
LENGTH = 300  # of one line


class JobSummary:
    """The plugin of pytest. It runs in the one process that hears of every test, also under xdist."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.failed: dict[str, str] = {}  # why, by the name of the test or of the file that cannot be imported

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep why a test failed; a set-up or clean-up that fails counts as the test."""
        self._keep(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep why the tests of a file cannot be found."""
        self._keep(report)

    def _keep(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = str(crash.message if crash else report.longrepr).strip()
            line = why.partition("\n")[0] if crash else why.rpartition("\n")[2]
            self.failed.setdefault(report.nodeid, line)

    def pytest_sessionfinish(self) -> None:
        """Append the list to the page. Indented lines are shown as they are, whatever signs stand in them."""
        if not self.failed:
            return
        lines = [f"    {name}: {why}"[:LENGTH] for name, why in list(self.failed.items())[:MOST]]
        more = [f"    … and {len(self.failed) - MOST} more"] if len(self.failed) > MOST else []
        with self.file.open("a", encoding="utf-8") as page:
            page.write("\n".join([f"## {len(self.failed)} tests failed", "", *lines, *more, "", ""]))
