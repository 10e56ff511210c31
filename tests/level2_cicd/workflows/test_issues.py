"""The issues are as the tickets are, whatever happened between two runs."""

from __future__ import annotations

import shutil

import pytest

from level1_pipeline.errors import NoAnswer
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level2_cicd.workflows import issues
from level2_cicd.workflows.github import OUTPUT, SUMMARY, add_to_summary, gh, set_output
from monitoring.alerting.tickets import follow
from tests.level2_cicd.workflows.conftest import Promote
from tests.support.github import GitHub
from tests.support.monitoring_runs import CHANGE, FAULT, NOTHING, a_run

pytestmark = pytest.mark.integration


@pytest.fixture
def tickets(loop: Settings, promote: Promote) -> Store:
    """A home whose audit log has begun."""
    promote("1")
    return Store(loop.operations)


def events(github: GitHub) -> list[tuple[int, str, list[str]]]:
    return [(issue["number"], issue["state"], issue["events"]) for issue in github.issues]


def test_an_issue_is_opened_updated_and_closed_with_its_ticket(tickets: Store, github: GitHub) -> None:
    assert issues.follow(tickets) == []
    follow(tickets, a_run(FAULT))
    assert len(issues.follow(tickets)) == 1
    assert issues.follow(tickets) == [], "a second look changes nothing"
    follow(tickets, a_run(FAULT, weeks=1))
    issues.follow(tickets)
    follow(tickets, a_run(NOTHING, weeks=2))
    issues.follow(tickets)
    assert issues.follow(tickets) == []
    assert events(github) == [(1, "CLOSED", ["created", "edited", "edited", "closed"])]
    assert github.issues[0]["title"].startswith("[ticket 1] ")
    assert "## Closed" in github.issues[0]["body"]


def test_what_happened_while_nobody_looked_is_made_up_for(tickets: Store, github: GitHub) -> None:
    follow(tickets, a_run(FAULT))
    follow(tickets, a_run(CHANGE, weeks=1))
    issues.follow(tickets)
    assert events(github) == [(1, "CLOSED", ["created", "closed"]), (2, "OPEN", ["created"])]


def test_a_home_that_begins_again_leaves_the_issues_of_the_one_before_alone(
    tickets: Store, loop: Settings, promote: Promote, github: GitHub
) -> None:
    follow(tickets, a_run(FAULT))
    issues.follow(tickets)
    before = github.issues
    tickets.close()
    shutil.rmtree(loop.home)
    promote("1")
    again = Store(loop.operations)
    follow(again, a_run(CHANGE))
    issues.follow(again)
    follow(again, a_run(NOTHING, weeks=1))
    issues.follow(again)
    assert github.issues[:1] == before
    assert events(github)[1:] == [(2, "CLOSED", ["created", "edited", "closed"])]


def test_an_issue_to_which_a_person_added_words_is_still_found(tickets: Store, github: GitHub) -> None:
    follow(tickets, a_run(FAULT))
    issues.follow(tickets)
    (github.folder / "body").write_text(github.issues[0]["body"] + "\nI look into it.")
    gh("issue", "edit", "1", "--body-file", str(github.folder / "body"))
    follow(tickets, a_run(NOTHING, weeks=1))
    issues.follow(tickets)
    assert events(github) == [(1, "CLOSED", ["created", "edited", "edited", "closed"])]


def test_an_issue_of_a_stranger_with_the_same_title_is_left_alone(tickets: Store, github: GitHub) -> None:
    follow(tickets, a_run(FAULT))
    gh("label", "create", "question", "--force")
    (github.folder / "body").write_text("mine")
    gh(
        "issue",
        "create",
        "--title",
        "[ticket 1] mine",
        "--label",
        "question",
        "--body-file",
        str(github.folder / "body"),
    )
    issues.follow(tickets)
    assert [issue["labels"] for issue in github.issues] == [["question"], [issues.LABEL]]
    assert github.issues[0]["events"] == ["created"]


def test_what_a_step_says_goes_into_the_files_of_its_job_and_elsewhere_nowhere(
    tickets: Store, github: GitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (SUMMARY, OUTPUT):
        monkeypatch.delenv(name, raising=False)
    add_to_summary("nobody reads this")
    for name in (SUMMARY, OUTPUT):
        monkeypatch.setenv(name, str(github.folder / name))
    add_to_summary("# One\n")
    add_to_summary("# Two")
    set_output("step", "canary 5 %")
    assert (github.folder / SUMMARY).read_text() == "# One\n\n# Two\n\n"
    assert (github.folder / OUTPUT).read_text() == "step=canary 5 %\n"
    with pytest.raises(ValueError, match="more than one line"):
        set_output("step", "a\nversion=9")
    with pytest.raises(NoAnswer, match="gh issue close ended with exit code"):
        gh("issue", "close", "7", "--comment", "there is none")
