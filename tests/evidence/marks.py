"""Which tests are evidence, and for what: read from the source, so that a test which did not run is known, too."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from tests.support import ROOT


@dataclass(frozen=True)
class MarkedTest:
    """A test function with the rows of the pages that it shows."""

    file: str  # below the repository, as pytest writes it
    name: str
    rows: tuple[str, ...]

    @property
    def id(self) -> str:
        """As pytest names it, without parameters."""
        return f"{self.file}::{self.name}"

    @property
    def link(self) -> str:
        """From a page in docs/."""
        return f"[`{self.name}`](../{self.file})"


def rows_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, ...]:
    """What the markers of a test name. Only texts count: a marker that is computed could not be read here."""
    rows: list[str] = []
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.evidence":
            rows += [str(ast.literal_eval(argument)) for argument in decorator.args]
    return tuple(rows)


def marked_tests(root: Path = ROOT) -> list[MarkedTest]:
    """All tests with the marker, in the order of files and lines."""
    marked = []
    for path in sorted((root / "tests").rglob("test_*.py")):
        text = path.read_text()
        if "mark.evidence" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (rows := rows_of(node)):
                marked.append(MarkedTest(path.relative_to(root).as_posix(), node.name, rows))
    return marked
