"""Files with outcomes: taken only whole, kept as evidence under a name of their own, and none is overlooked."""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path

import pytest

from level1_pipeline.errors import OutcomeFileRefused
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level2_cicd.control_loop import outcome_inbox
from monitoring.alerting import tickets
from monitoring.data import outcome_files
from tests.support.problems import ONE_NUMBER
from tests.support.serving import known_outcomes

pytestmark = ONE_NUMBER


@pytest.fixture
def inbox(home: Settings) -> Path:
    folder = home.home / "outcomes"
    folder.mkdir(parents=True)
    return folder


def write(path: Path, text: str, seconds_ago: float = 3600) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    os.utime(path, (time.time() - seconds_ago,) * 2)
    return path


@pytest.mark.evidence("a file is half written")
def test_a_file_that_is_still_being_written_is_left_alone_until_it_has_rested(
    home: Settings, store: Store, inbox: Path
) -> None:
    whole = "id,value\n" + "".join(f"id-{number:04},1\n" for number in range(1000))
    write(inbox / "late.csv", whole[:5000], seconds_ago=1)
    (message,) = outcome_inbox.take_in(home, store)
    assert message == "outcomes: late.csv may still be written; it is taken when it has not changed for 60 seconds"
    assert known_outcomes(home) == {}
    write(inbox / "late.csv", whole, seconds_ago=61)
    (message,) = outcome_inbox.take_in(home, store)
    assert message == "outcomes: 1,000 new ones from late.csv, 0 bad rows"
    assert (inbox / "done/late.csv").read_text() == whole


def test_a_file_that_changes_while_it_is_read_is_read_again(
    home: Settings, store: Store, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = write(inbox / "late.csv", "id,value\na,1\n"), outcome_files.ingest

    def grows(*arguments: object) -> outcome_files.Report:
        with path.open("a") as file:
            file.write("b,1\n")
        raise OutcomeFileRefused("it changed while it was read")

    monkeypatch.setattr(outcome_files, "ingest", grows)
    assert "still being written" in outcome_inbox.take_in(home, store)[0]
    assert path.exists()
    assert tickets.open_tickets(store) == []
    monkeypatch.setattr(outcome_files, "ingest", real)
    os.utime(path, (0, 0))
    assert "2 new ones" in outcome_inbox.take_in(home, store)[0]


def test_a_time_of_change_that_is_still_to_come_keeps_no_file_for_ever(
    home: Settings, store: Store, inbox: Path
) -> None:
    write(inbox / "late.csv", "id,value\na,1\n", seconds_ago=-1e6)
    time.sleep(0.06)
    assert "1 new ones" in outcome_inbox.take_in(home.changed({"outcomes_rest_seconds": 0.05}), store)[0]


def test_no_evidence_replaces_another(home: Settings, store: Store, inbox: Path) -> None:
    for value in (0, 1, 1):
        write(inbox / "late.csv.gz", f"id,value,known_at\na,{value},2013-03-0{value + 1}T00:00Z\n")
        outcome_inbox.take_in(home, store)
    assert sorted(file.name for file in (inbox / "done").iterdir()) == ["late-2.csv.gz", "late-3.csv.gz", "late.csv.gz"]
    assert gzip.decompress((inbox / "done/late.csv.gz").read_bytes()).endswith(b"a,0,2013-03-01T00:00Z\n")
    for _ in range(2):
        write(inbox / "late.parquet", "no parquet")
        outcome_inbox.take_in(home, store)
    assert sorted(file.name for file in (inbox / "refused").iterdir()) == ["late-2.parquet", "late.parquet"]


def test_every_file_is_read_or_named(home: Settings, store: Store, inbox: Path) -> None:
    for name in ("a.CSV", "b.csv.gz", "c.csv.part", "notes.txt", ".being-written.csv"):
        write(inbox / name, f"id,value\n{name},1\n")
    (inbox / "2013").mkdir()
    (inbox / "gone.csv").symlink_to(inbox / "nowhere.csv")
    messages = outcome_inbox.take_in(home, store)
    named = [message for message in messages if "is not read, because" in message]
    assert [message.split()[1] for message in named] == ["2013", "c.csv.part", "gone.csv", "notes.txt"]
    assert sorted(known_outcomes(home)) == ["a.CSV", "b.csv.gz"]
    assert sorted(file.name for file in (inbox / "done").iterdir()) == ["a.CSV", "b.csv.gz"]


def test_bad_rows_are_told_with_their_lines_and_a_file_of_nothing_else_is_refused(
    home: Settings, store: Store, inbox: Path
) -> None:
    write(inbox / "a.csv", 'id,value\n"a,1\nb,1\nc,many\n')
    write(inbox / "b.csv", "id,value\nx,late\n")
    taken, refused = outcome_inbox.take_in(home, store)
    assert taken.startswith(
        "outcomes: 1 new ones from a.csv, 2 bad rows (row 3: value is no number; row 1 (line 2): a quote"
    )
    assert refused == "outcomes: b.csv is refused, see the ticket"
    (ticket,) = tickets.open_tickets(store)
    assert "not one of the 1 rows is an outcome: row 1: value is no number" in ticket["body"]
    assert str(inbox / "refused/b.csv") in ticket["body"]
