"""Which marked tests passed, on exactly these files. pytest writes it down; the commands of this folder read it.

The runs of `make test`, `make test-slow` and `make test-containers` add up in one file, as long as no file of the
repository changes between them. The pages that `make scorecard` writes do not count: it writes them afterwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.evidence.pages import PAGES
from tests.support import ROOT

FILE = ROOT / ".evidence.json"  # not committed
NOT_RUN = "did not run"
ABOUT_FLIGHTS = "about flights, and this repository's problem is "  # how tests/conftest.py says why it skips


def content_digest(root: Path = ROOT) -> str:
    """Of all files of the checkout, committed or not, except the pages that are written from the results.

    Empty outside a git checkout: then nobody can say which files the repository consists of.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root, capture_output=True, check=False
    )
    if listed.returncode:
        return ""
    digest = hashlib.sha256()
    for name in sorted({os.fsdecode(name) for name in listed.stdout.split(b"\0") if name} - set(PAGES)):
        content = (root / name).read_bytes() if (root / name).is_file() else b"gone"
        digest.update(f"{name}\n{hashlib.sha256(content).hexdigest()}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@dataclass
class Results:
    """How each marked test ended: `passed`, `failed`, or why it was skipped. A key is a test with its parameters."""

    content: str
    tests: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, content: str, file: Path = FILE) -> Results:
        """The results of this content; none if those of the file belong to another one."""
        kept = json.loads(file.read_text()) if file.exists() else {}
        return cls(content, kept["tests"] if kept.get("content") == content else {})

    def write(self, file: Path = FILE) -> None:
        """In one step, so that nobody reads half of it."""
        beside = file.with_name(f"{file.name}.{os.getpid()}")
        beside.write_text(json.dumps({"content": self.content, "tests": self.tests}, indent=1, sort_keys=True))
        beside.replace(file)

    def of(self, test: str) -> str:
        """How a test ended over all its parameters: the worst of them counts."""
        ends = {end for key, end in self.tests.items() if key.partition("[")[0] == test}
        if not ends:
            return NOT_RUN
        if "failed" in ends:
            return "failed"
        return min(ends - {"passed"}, default="passed")


class Recorder:
    """The plugin of pytest. It runs in the one process that hears of every test, also under xdist."""

    def __init__(self, root: Path = ROOT, file: Path = FILE) -> None:
        self.file = file
        self.content = content_digest(root)  # before the first test: what is edited meanwhile was not tested
        self.root = root
        self.ends: dict[str, str] = {}
        self.said = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep how a marked test ended; a set-up or clean-up that fails counts as the test."""
        if "evidence" not in report.keywords or self.ends.get(report.nodeid) == "failed":
            return
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", "")
            self.ends[report.nodeid] = f"skipped: {reason.removeprefix('Skipped: ')}"
        elif report.failed or report.when == "call":
            self.ends[report.nodeid] = report.outcome

    def pytest_sessionfinish(self) -> None:
        """Add this session's ends to those of earlier sessions on the same content."""
        if not self.ends or not self.content:
            return
        if self.content != content_digest(self.root):
            self.said = "files changed during this run, so it is no evidence for the scorecard: run it again"
            return
        results = Results.read(self.content, self.file)
        results.tests |= self.ends
        results.write(self.file)
        self.said = f"{len(self.ends)} marked tests are noted for make scorecard and make assess"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the results went."""
        if self.said:
            terminalreporter.write_line(f"evidence | {self.said}")
