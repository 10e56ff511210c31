"""A release is made of a clean commit only, has the same bytes each time, and says where it comes from."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest

from level1_pipeline.errors import ReleaseRefused
from level2_cicd import cli
from level2_cicd.delivery import build, components, provenance
from level2_cicd.delivery.release import COMPONENTS, CONTRACT, PIPELINE_LOCK, PROVENANCE, Release, open_release
from tests.support.checkout import UV, git, needs_uv


@pytest.fixture
def release(checkout: Path, tmp_path: Path) -> Release:
    return build.build(checkout, tmp_path / "releases", ["good", "silent"], UV)[0]


pytestmark = [pytest.mark.integration, pytest.mark.slow, needs_uv]


def test_the_same_commit_gives_the_same_bytes_wherever_it_is_built(
    release: Release, checkout: Path, tmp_path: Path
) -> None:
    """In another folder, later, and by a user with another umask."""
    git(tmp_path, "clone", "--quiet", str(checkout), "another")
    before = os.umask(0o077)
    try:
        again = build.build(tmp_path / "another", tmp_path / "elsewhere", [], UV)[0]
    finally:
        os.umask(before)
    assert (again.id, again.files) == (release.id, release.files)
    assert again.folder.name == release.id


def test_a_release_that_was_made_without_checks_is_the_same_one_with_them(checkout: Path, tmp_path: Path) -> None:
    first, _ = build.build(checkout, tmp_path / "releases", [], UV)
    assert provenance.tested(first) == {}
    again, _ = build.build(checkout, tmp_path / "releases", ["good"], UV)
    assert again.folder == first.folder
    assert provenance.tested(again)["good"]["passed"] == 4


def test_another_commit_is_another_release(release: Release, checkout: Path, tmp_path: Path) -> None:
    with (checkout / "level1_pipeline/problem.py").open("a") as file:
        file.write("# changed\n")
    git(checkout, "commit", "--quiet", "--all", "--message", "changed")
    assert build.build(checkout, tmp_path / "releases", [], UV)[0].id != release.id
    assert len(list((tmp_path / "releases").iterdir())) == 2


def test_it_holds_our_code_all_packages_the_contract_and_where_it_comes_from(release: Release) -> None:
    names = zipfile.ZipFile(release.wheel).namelist()
    assert {"level1_pipeline/problem.py", "monitoring/alerts.yml", "monitoring/reporting/report.html"} <= set(names)
    assert any("store/migrations/versions/" in name for name in names)
    listed = json.loads((release.folder / COMPONENTS).read_text())
    locked = components.packages((release.folder / PIPELINE_LOCK).read_text())
    assert {part["name"]: part["version"] for part in listed["components"]} == locked
    assert "pytest" not in locked
    contract = json.loads((release.folder / CONTRACT).read_text())
    assert contract["properties"]
    stated = json.loads((release.folder / PROVENANCE).read_text())
    assert {part["name"]: part["digest"]["sha256"] for part in stated["subject"]} == release.files
    sources = [part["digest"] for part in stated["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert {"gitCommit": release.commit} in sources
    assert provenance.tested(release) == {
        "good": {"target": "good", "passed": 4, "skipped": 1},
        "silent": {"target": "silent", "passed": 0, "skipped": 0},
    }


@pytest.mark.evidence("Model 1")
def test_a_changed_or_new_file_in_the_checkout_is_refused(checkout: Path, tmp_path: Path) -> None:
    (checkout / "new.py").write_text("")
    with pytest.raises(ReleaseRefused, match=r"1 files differ from the commit \(new.py\)"):
        build.build(checkout, tmp_path / "releases", [], UV)
    (checkout / "new.py").unlink()
    (checkout / "LICENSE").write_text("another")
    with pytest.raises(ReleaseRefused, match="LICENSE"):
        build.build(checkout, tmp_path / "releases", [], UV)


def test_a_check_that_fails_means_no_release(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match="make bad failed with exit code"):
        build.build(checkout, tmp_path / "releases", ["good", "bad"], UV)
    assert not (tmp_path / "releases").exists()


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match="a release is made of a git commit"):
        build.build(tmp_path, tmp_path / "releases", [], UV)


def test_a_file_that_was_changed_afterwards_is_noticed(release: Release) -> None:
    assert open_release(release.folder) == release
    (release.folder / PIPELINE_LOCK).write_text("numpy==1.0\n")
    with pytest.raises(ReleaseRefused, match=f"was changed after it was made: {PIPELINE_LOCK}"):
        open_release(release.folder)


def test_an_index_that_was_changed_with_its_file_is_noticed(release: Release) -> None:
    """Whoever changes a file and its digest has another release, under a name that is not its own."""
    (release.folder / PIPELINE_LOCK).write_text("numpy==1.0\n")
    index = json.loads((release.folder / "release.json").read_text())
    from level2_cicd.delivery.release import digest

    index["files"][PIPELINE_LOCK] = digest(release.folder / PIPELINE_LOCK)
    (release.folder / "release.json").write_text(json.dumps(index))
    with pytest.raises(ReleaseRefused, match=r"was changed after it was made: release\.json"):
        open_release(release.folder)


def test_the_command_ends_with_one_line_that_says_it_all(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UV", os.path.relpath(UV))  # as make names the one in .tools
    code = cli.main(["delivery", "release", "--repository", str(checkout), "--checks", "good"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert code == 0
    assert " | tests: 4 passed | " in last
    assert open_release(Path(last.split(" | ")[-1])).id in last
