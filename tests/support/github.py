"""A small GitHub for tests: the program `gh` on the PATH, and what it was told."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import ROOT

PROGRAM = ROOT / "tests/support/fake_github"  # the folder with `gh`


@dataclass(frozen=True)
class GitHub:
    """What it keeps: releases with their files, and issues."""

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """For the environment of who calls `gh`, beside PROGRAM on the PATH."""
        return {"GH_FAKE": str(self.folder), "GH_FAKE_PYTHON": sys.executable, "GH_TOKEN": "a token"}

    @property
    def issues(self) -> list[dict[str, Any]]:
        """All of them, in order."""
        state = self.folder / "state.json"
        return json.loads(state.read_text())["issues"] if state.exists() else []

    @property
    def calls(self) -> list[list[str]]:
        """What was asked of it, in order."""
        return [json.loads(line) for line in (self.folder / "calls.jsonl").read_text().splitlines()]

    def assets(self, release: str) -> list[str]:
        """The names of the files of a release."""
        return sorted(file.name for file in (self.folder / release).iterdir())
