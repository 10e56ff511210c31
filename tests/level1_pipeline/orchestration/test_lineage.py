"""A run's identity: what it is made of must change its key, or a stale result would be used again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from level1_pipeline.orchestration import lineage

PACKAGE = lineage.PACKAGE
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "level1_pipeline"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(lineage, "PACKAGE", folder)
    return folder


def test_a_change_in_any_source_file_of_the_package_changes_the_digest(copy: Path) -> None:
    before = lineage.source_digest()
    for name in FILES:
        text = (copy / name).read_bytes()
        (copy / name).write_bytes(text + b"# a change\n")
        assert lineage.source_digest() != before, name
        (copy / name).write_bytes(text)
    assert lineage.source_digest() == before


def test_a_file_that_moves_or_comes_changes_the_digest(copy: Path) -> None:
    before = lineage.source_digest()
    (copy / "steps" / "fit.py").rename(copy / "steps" / "fitted.py")
    moved = lineage.source_digest()
    (copy / "steps" / "new").mkdir()
    (copy / "steps" / "new" / "one.py").write_text("")
    assert len({before, moved, lineage.source_digest()}) == 3


def test_the_files_of_all_folders_are_digested() -> None:
    assert len(FILES) > 20
    assert {path.parts[0] for path in FILES if len(path.parts) > 1} >= {"bundle", "evaluation", "steps", "store"}
