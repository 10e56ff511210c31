"""A home is backed up while it is in use and comes back whole; nothing newer is lost without a word, and nothing is half."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.load import bundle_checksum
from level1_pipeline.errors import HomeRefused, NotFound
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import Change, HomeMaintained, Promoted
from level2_cicd.maintenance import archive
from level2_cicd.maintenance import backup as backups
from level2_cicd.maintenance.backup import back_up, restore
from tests.serving.conftest import models, served, start
from tests.support import ROOT
from tests.support.serving import NOW, Models, ServiceProcess, edit_manifest, logged, logged_when, opened

__all__ = ["models", "served", "start"]  # fixtures
pytestmark = pytest.mark.integration
CHANGE = Change("tester", Promoted("champion"), "a test", NOW)


@pytest.fixture
def used(served: Settings) -> Settings:
    """A home with a champion, the bundles of three versions, MLflow's database and artifacts, and what no backup needs."""
    with opened(served) as store:
        for version in ("1", "2", "3"):
            store.record_checksum(problem.NAME, version, bundle_checksum(served.bundles / version))
    with closing(sqlite3.connect(served.home / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE runs (id TEXT)")
        connection.execute("INSERT INTO runs VALUES ('a run')")
        connection.commit()
    for name in ("mlartifacts/model/m.bin", "cache/rows.parquet", "level2/operations.db", "reports/page.html"):
        (served.home / name).parent.mkdir(parents=True, exist_ok=True)
        (served.home / name).write_text("")
    (served.home / "level2" / "operations.db").unlink()
    with closing(sqlite3.connect(served.home / "level2" / "operations.db")) as connection:
        connection.execute("CREATE TABLE another (home TEXT)")
    return served


def add_line(settings: Settings) -> None:
    with opened(settings) as store:
        store.record(problem.NAME, CHANGE)


def lines(settings: Settings) -> list[str]:
    with opened(settings) as store:
        return [line.text for line in store.audit_log(problem.NAME)]


def go_back(settings: Settings, folder: Path, number: int | None = None, confirmed: bool = False) -> backups.Restored:
    return restore(settings, folder, number, "a test", confirmed)


def test_a_home_that_was_lost_comes_back_with_store_mlflow_bundles_and_its_history(
    used: Settings, tmp_path: Path
) -> None:
    kept = back_up(used, tmp_path / "backups")
    shutil.rmtree(used.home)
    assert go_back(used, tmp_path / "backups").before is None
    assert lines(used) == ["promote to champion", "maintain home"]
    with closing(sqlite3.connect(used.home / "mlflow.db")) as connection:
        assert connection.execute("SELECT * FROM runs").fetchall() == [("a run",)]
    assert bundle_checksum(used.bundles / "2")
    assert (used.home / "mlartifacts/model/m.bin").exists()
    assert not (used.home / "cache").exists()
    assert not (used.home / "level2").exists(), "another home"
    with opened(used) as store:
        restored = store.audit_log(problem.NAME)[-1]
    assert (restored.action, restored.evidence["archive"]) == (HomeMaintained(), kept.archive)


def test_a_home_with_a_linked_folder_is_not_backed_up_without_it(used: Settings, tmp_path: Path) -> None:
    (used.home / "mlartifacts").rename(tmp_path / "elsewhere")
    (used.home / "mlartifacts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HomeRefused, match=r"mlartifacts is a link, and no archive would hold what it leads to"):
        back_up(used, tmp_path / "backups")
    assert backups.backups(tmp_path / "backups") == []


def test_a_backup_of_a_home_in_which_others_write_is_of_one_moment(used: Settings, tmp_path: Path) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            add_line(used)
            (used.home / "reports" / "page.html").write_text("x" * 1000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        kept = [back_up(used, tmp_path / "backups") for _ in range(3)]
    finally:
        stop.set()
        writer.join()
    assert kept[0].audit_lines < kept[1].audit_lines < kept[2].audit_lines < len(lines(used))
    for one in kept:
        archive.unpack(one, tmp_path / "backups", tmp_path / f"home-{one.number}")


def test_a_running_service_goes_on_during_a_backup_and_forbids_a_restore(
    used: Settings, models: Models, start: Callable[..., ServiceProcess], tmp_path: Path
) -> None:
    service = start(used, flush_seconds=0.1)
    assert httpx2.post(f"{service.url}/predict", json={"id": "1", "record": models.records[0]}).status_code == 200
    logged_when(used, 1)
    back_up(used, tmp_path / "backups")
    with pytest.raises(HomeRefused, match=r"is in use .* end it, then restore again"):
        go_back(used, tmp_path / "backups", confirmed=True)
    assert httpx2.post(f"{service.url}/predict", json={"id": "2", "record": models.records[0]}).status_code == 200
    service.stop()
    with pytest.raises(HomeRefused, match="0 more lines in its audit log and 1 more predictions"):
        go_back(used, tmp_path / "backups")
    go_back(used, tmp_path / "backups", confirmed=True)
    assert [row["id"] for row in logged(used)] == ["1"]


def test_what_is_newer_is_replaced_only_when_a_person_says_so_and_then_stays_beside(
    used: Settings, tmp_path: Path
) -> None:
    back_up(used, tmp_path / "backups")
    add_line(used)
    with pytest.raises(HomeRefused, match=r"1 more lines .* home-0001.tar.gz .* make restore CONFIRM=1"):
        go_back(used, tmp_path / "backups")
    before = go_back(used, tmp_path / "backups", confirmed=True).before
    assert before
    assert lines(used) == ["promote to champion", "maintain home"]
    assert lines(used.changed({"home": before})) == ["promote to champion"] * 2
    assert (used.home / "cache" / "rows.parquet").exists(), "what is no part of a backup stays in its place"
    assert (used.home / "level2" / "operations.db").exists()


def test_a_newer_line_of_another_problem_in_the_home_counts_too(used: Settings, tmp_path: Path) -> None:
    back_up(used, tmp_path / "backups")
    with opened(used) as store:
        store.record("another", CHANGE)
    with pytest.raises(HomeRefused, match=r"1 more lines in its audit log and 0 more predictions"):
        go_back(used, tmp_path / "backups")


def test_the_newest_backup_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    for number in (10_000, 9999, 1):
        kept = archive.Kept(number, "", "2013-04-01", None, 0, "")
        kept.save(tmp_path / kept.facts)
    assert [kept.number for kept in backups.backups(tmp_path)] == [1, 9999, 10_000]


def test_a_home_that_was_restored_from_an_older_backup_can_be_backed_up_again(used: Settings, tmp_path: Path) -> None:
    back_up(used, tmp_path / "backups")
    add_line(used)
    back_up(used, tmp_path / "backups")
    go_back(used, tmp_path / "backups", number=1, confirmed=True)
    assert back_up(used, tmp_path / "backups").number == 3
    add_line(used)
    assert back_up(used, tmp_path / "backups").number == 4


def test_a_home_whose_history_was_changed_is_not_backed_up_over_the_last_one(used: Settings, tmp_path: Path) -> None:
    add_line(used)
    back_up(used, tmp_path / "backups")
    with closing(sqlite3.connect(used.home / "operations.db")) as connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET reason = 'another' WHERE id = 2")
        connection.commit()
    with pytest.raises(HomeRefused, match="does not go on"):
        back_up(used, tmp_path / "backups")


def test_a_damaged_archive_is_refused_and_the_home_stays(used: Settings, tmp_path: Path) -> None:
    kept = back_up(used, tmp_path / "backups")
    file = tmp_path / "backups" / kept.archive
    whole = file.read_bytes()
    for damaged in (whole[:-100], whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], b""):
        file.write_bytes(damaged)
        with pytest.raises(HomeRefused, match="is damaged: its SHA-256"):
            go_back(used, tmp_path / "backups", confirmed=True)
    file.unlink()
    with pytest.raises(HomeRefused, match="is gone: only its facts"):
        go_back(used, tmp_path / "backups", confirmed=True)
    assert lines(used) == ["promote to champion"]
    assert not list(used.home.parent.glob("*restor*"))


def test_a_damaged_bundle_is_noticed_when_the_backup_is_made(used: Settings, tmp_path: Path) -> None:
    edit_manifest(used.bundles / "1", verdict="fail")
    with pytest.raises(HomeRefused, match=r"version 1 .* is damaged .* make repair VERSION=1"):
        back_up(used, tmp_path / "backups")
    assert not list((tmp_path / "backups").iterdir())


def test_a_home_whose_store_is_damaged_can_be_replaced(used: Settings, tmp_path: Path) -> None:
    back_up(used, tmp_path / "backups")
    (used.home / "operations.db").write_bytes(b"no database" * 1000)
    for beside in used.home.glob("operations.db-*"):
        beside.unlink()
    with pytest.raises(HomeRefused, match="its store cannot be read"):
        go_back(used, tmp_path / "backups")
    go_back(used, tmp_path / "backups", confirmed=True)
    assert lines(used) == ["promote to champion", "maintain home"]


def test_what_a_backup_would_lack_is_refused_in_words(used: Settings, tmp_path: Path) -> None:
    for name in ("store_uri", "tracking_uri"):
        elsewhere = used.changed({name: "postgresql+psycopg://nobody@127.0.0.1/none"})
        for act in (lambda: back_up(elsewhere, tmp_path / "b"), lambda: go_back(elsewhere, tmp_path / "b")):  # noqa: B023
            with pytest.raises(HomeRefused, match=f"MLOPS_{name.upper()} names a database outside .* pg_dump"):
                act()
    with pytest.raises(HomeRefused, match="lies in the home"):
        back_up(used, used.home / "backups")
    with pytest.raises(HomeRefused, match="nothing to back up"):
        back_up(used.changed({"home": tmp_path / "empty"}), tmp_path / "b")
    with pytest.raises(NotFound, match="holds no backup; make one"):
        go_back(used, tmp_path / "b")


KILLED = """
import json, os, shutil, signal, sys, time
from pathlib import Path
from level1_pipeline.settings import Settings
from level2_cicd.maintenance.backup import back_up, restore
import alembic.command, sqlalchemy.dialects.sqlite
what, home, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
settings = Settings(home=home, actor="tester", lease_seconds=0.2)
act = {"backup": lambda: back_up(settings, folder), "restore": lambda: restore(settings, folder, None, "a test", True)}
WATCHED = ("os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree", "sqlite3.connect", "open")

def states():
    return {"backups": sorted(p.name for p in folder.glob("home-*")), "homes": sorted(p.name for p in home.parent.glob("home*"))}

number, seen = 0, []
while True:
    child = os.fork()
    if child == 0:
        left = [number]
        def hook(event, arguments):
            writes = event != "open" or (isinstance(arguments[1], str) and "r" not in arguments[1])
            if event in WATCHED and writes:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
        sys.addaudithook(hook)
        act[what]()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    seen.append(states())
    if os.WIFEXITED(status):
        break
    time.sleep(0.25)  # the lease of the killed one ends
    number += 1 if number < 12 else 3
print(json.dumps([os.waitstatus_to_exitcode(status), seen]))
"""


def killed(what: str, home: Path, folder: Path) -> list[dict[str, list[str]]]:
    """Do it again and again, each time killed a little later; what lies there after each time."""
    command = [sys.executable, "-c", KILLED, what, str(home), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    code, seen = json.loads(done.stdout)
    assert code == 0, done.stderr
    return seen


@pytest.mark.slow
def test_a_backup_or_restore_that_is_killed_anywhere_leaves_nothing_half(used: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    seen = killed("backup", used.home, folder)
    assert len(seen) > 10
    for names in (state["backups"] for state in seen):
        facts = [name for name in names if name.endswith(".json")]
        assert {name.replace(".json", ".tar.gz") for name in facts} <= set(names)
    assert len(backups.backups(folder)) >= 1
    for kept in backups.backups(folder):
        archive.unpack(kept, folder, tmp_path / f"try-{kept.number}")
        shutil.rmtree(tmp_path / f"try-{kept.number}")
    add_line(used)
    seen = killed("restore", used.home, folder)
    assert len(seen) > 10
    assert all(any(name == "home" or "before" in name for name in state["homes"]) for state in seen), seen
    assert lines(used) == ["promote to champion", "maintain home"]
    (first, *_) = sorted(used.home.parent.glob("home.before-restore-*"))
    assert lines(used.changed({"home": first})) == ["promote to champion"] * 2
