"""A home that travels through GitHub comes back whole, goes on from itself only, and belongs to one writer."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from level1_pipeline import problem
from level1_pipeline.errors import HomeRefused, NoAnswer
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level2_cicd.maintenance.archive import Kept
from level2_cicd.maintenance.audit_chain import Chain, chain, refuse_broken
from level2_cicd.workflows import kept_home, release_assets
from level2_cicd.workflows.release_assets import KEPT, RELEASE
from tests.level2_cicd.workflows.conftest import Promote
from tests.support.github import GitHub

pytestmark = pytest.mark.integration


def next_machine(loop: Settings) -> None:
    """The runner is thrown away."""
    shutil.rmtree(loop.home.parent, ignore_errors=True)


def champions(loop: Settings) -> list[str | None]:
    store = Store(loop.operations)
    log = store.audit_log(problem.NAME)
    store.close()
    return [line.to_version for line in log]


def test_a_home_comes_back_on_another_machine_and_goes_on(loop: Settings, promote: Promote, github: GitHub) -> None:
    assert release_assets.restore(loop) is None
    promote("1")
    (loop.home / "cache").mkdir()
    (loop.home / "bundles").mkdir()
    (loop.home / "bundles" / "model").write_text("trees")
    first = release_assets.keep(loop)
    next_machine(loop)
    assert release_assets.restore(loop) == first
    assert (loop.home / "bundles" / "model").read_text() == "trees"
    assert not (loop.home / "cache").exists()
    promote("2")
    second = release_assets.keep(loop)
    assert (second.number, second.day, second.champion, second.audit_lines) == (2, "2013-04-03", "2", 2)
    promote("3")
    assert release_assets.keep(loop).number == 3, "the same machine goes on, too"
    next_machine(loop)
    release_assets.restore(loop)
    assert champions(loop) == ["1", "2", "3"]


def test_only_the_newest_homes_are_kept_and_the_facts_are_sent_last(
    loop: Settings, promote: Promote, github: GitHub
) -> None:
    for version in range(1, KEPT + 3):
        promote(str(version))
        release_assets.keep(loop)
    assert sorted(asset.partition(".")[0][:9] for asset in github.assets(RELEASE)) == [
        f"home-{number:04d}" for number in range(3, KEPT + 3) for _ in ("facts", "archive")
    ]
    sent = [Path(call[3]) for call in github.calls if call[:2] == ["release", "upload"]]
    assert [file.suffix for file in sent] == [".gz", ".json"] * (KEPT + 2)


def test_a_run_that_was_killed_before_the_facts_were_sent_has_kept_nothing(
    loop: Settings, promote: Promote, github: GitHub
) -> None:
    promote("1")
    first = release_assets.keep(loop)
    (github.folder / RELEASE / "home-0002.tar.gz").write_text("half of an archive")
    next_machine(loop)
    assert release_assets.restore(loop) == first
    promote("2")
    assert release_assets.keep(loop).number == 2
    next_machine(loop)
    release_assets.restore(loop)
    assert champions(loop) == ["1", "2"]


def test_a_second_writer_is_refused_and_keeps_nothing(loop: Settings, promote: Promote, github: GitHub) -> None:
    promote("1")
    release_assets.keep(loop)
    before = shutil.copytree(loop.home.parent, loop.home.parent.with_name("slow"))
    promote("2")
    release_assets.keep(loop)
    shutil.rmtree(loop.home.parent)
    before.rename(loop.home.parent)
    promote("3")
    with pytest.raises(HomeRefused, match="another run was quicker"):
        release_assets.keep(loop)
    assert [name for name in github.assets(RELEASE) if "json" in name] == ["home-0001.json", "home-0002.json"]


def test_of_two_runs_that_keep_at_the_same_moment_one_wins_and_its_home_stays_whole(
    loop: Settings, promote: Promote, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both looked before either had sent something. No workflow does this, but a person beside one can."""
    promote("1")
    release_assets.keep(loop)
    other = Settings.model_construct(home=loop.home.parent.with_name("other") / loop.home.name, clock="replay")
    shutil.copytree(loop.home.parent, other.home.parent)
    promote("2")
    pack, winner = kept_home.pack, list[Kept]()

    def overtaken(settings: Settings, folder: Path) -> Kept:
        monkeypatch.setattr(kept_home, "pack", pack)
        winner.append(release_assets.keep(other))
        return pack(settings, folder)

    monkeypatch.setattr(kept_home, "pack", overtaken)
    with pytest.raises(HomeRefused, match="another run was quicker"):
        release_assets.keep(loop)
    next_machine(loop)
    assert release_assets.restore(loop) == winner[0]
    assert champions(loop) == ["1"]
    for version in range(3, KEPT + 3):
        promote(str(version))
        release_assets.keep(loop)
    assert len(github.assets(RELEASE)) == 2 * KEPT, "what the loser sent is deleted with the others"


def test_a_home_with_the_same_number_in_a_release_that_began_again_is_another_one(
    loop: Settings, promote: Promote, github: GitHub
) -> None:
    promote("1")
    release_assets.keep(loop)
    old = shutil.copytree(loop.home.parent, loop.home.parent.with_name("old"))
    shutil.rmtree(github.folder / RELEASE)
    (github.folder / RELEASE).mkdir()
    next_machine(loop)
    promote("1")
    release_assets.keep(loop)
    next_machine(loop)
    old.rename(loop.home.parent)
    promote("2")
    with pytest.raises(HomeRefused, match="another run was quicker"):
        release_assets.keep(loop)


def test_a_home_that_an_older_template_kept_comes_back(loop: Settings, promote: Promote, github: GitHub) -> None:
    promote("1")
    kept = release_assets.keep(loop)
    (archive,) = (github.folder / RELEASE).glob("*.tar.gz")
    archive.rename(archive.with_name(kept.archive))
    next_machine(loop)
    assert release_assets.restore(loop) == kept


def test_a_damaged_archive_is_refused_and_nothing_takes_its_place(
    loop: Settings, promote: Promote, github: GitHub
) -> None:
    promote("1")
    release_assets.keep(loop)
    (archive,) = (github.folder / RELEASE).glob("*.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-1] + b"?")
    next_machine(loop)
    with pytest.raises(HomeRefused, match="is damaged"):
        release_assets.restore(loop)
    assert not loop.home.exists()


def test_an_archive_with_another_audit_log_is_refused_although_its_checksum_fits(
    loop: Settings, promote: Promote, github: GitHub
) -> None:
    promote("1")
    kept = release_assets.keep(loop)
    facts = github.folder / RELEASE / kept.facts
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"audit_sha256": "0" * 64}))
    next_machine(loop)
    with pytest.raises(HomeRefused, match="the audit log in"):
        release_assets.restore(loop)
    assert not loop.home.exists()


def changed(loop: Settings, statement: str) -> None:
    """What somebody can do who has the file."""
    with closing(sqlite3.connect(loop.home / "operations.db")) as connection:
        for trigger in ("audit_no_update", "audit_no_delete", "audit_no_replace"):
            connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET reason = 'another' WHERE id = 1", "DELETE FROM audit WHERE id = 2"]
)
def test_a_home_whose_earlier_lines_were_changed_is_not_kept(
    loop: Settings, promote: Promote, github: GitHub, statement: str
) -> None:
    for version in ("1", "2"):
        promote(version)
    release_assets.keep(loop)
    promote("3")
    changed(loop, statement)
    with pytest.raises(HomeRefused, match="does not go on"):
        release_assets.keep(loop)


def test_a_log_in_which_a_champion_is_missing_is_broken(loop: Settings, promote: Promote) -> None:
    for version in ("1", "2", "3"):
        promote(version)
    store = Store(loop.operations)
    log = store.audit_log(problem.NAME)
    store.close()
    refuse_broken(log, chain(log[:2]))
    with pytest.raises(HomeRefused, match="a line is missing"):
        refuse_broken([log[0], log[2]], Chain())
    assert chain(log) != chain([log[0], replace(log[1], reason="another"), log[2]])


def test_a_home_that_is_there_is_not_replaced(loop: Settings, promote: Promote, github: GitHub) -> None:
    promote("1")
    release_assets.keep(loop)
    with pytest.raises(HomeRefused, match="not replaced"):
        release_assets.restore(loop)


def test_without_rights_or_without_the_program_one_sentence_says_so(
    loop: Settings, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GH_TOKEN")
    with pytest.raises(NoAnswer, match=r"set the GH_TOKEN environment variable; are GH_TOKEN and"):
        release_assets.restore(loop)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoAnswer, match="there is no program gh"):
        release_assets.restore(loop)


def test_facts_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "home-0001.json").write_text('{"number": 1}')
    with pytest.raises(HomeRefused, match="does not hold the facts"):
        Kept.load(tmp_path / "home-0001.json")
    assert kept_home.restored(Settings(home=tmp_path / "home" / "loop")) is None
