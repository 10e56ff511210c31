"""One GitHub issue for each ticket: opened, brought up to date and closed as the ticket is.

The issues are compared with the tickets in the store, so a run that was killed is made up for by the next one. Issues are
found by a label, which only people with rights in the repository can give, and by a mark in their text: the home and the
number of the ticket. A home that begins again counts its tickets from 1, too, and leaves the issues of another one alone.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

from level1_pipeline import problem
from level1_pipeline.store.database import Store
from level2_cicd.maintenance.audit_chain import home_id
from level2_cicd.workflows.github import gh
from monitoring.alerting import tickets

LABEL = "ticket"
MARK = re.compile(r"<!-- home \w+, ticket \d+ -->")  # GitHub does not show it; the last one of a text counts
MOST = 1000  # issues that are read


def follow(store: Store) -> list[str]:
    """Bring the issues up to date; a message for each one that changed.

    Raises:
        NoAnswer: GitHub refuses.
    """
    gh("label", "create", LABEL, "--force", "--description", "A ticket of the monitoring", "--color", "d93f0b")
    fields = ("--json", "number,title,body,state")
    read = json.loads(gh("issue", "list", "--label", LABEL, "--state", "all", "--limit", str(MOST), *fields))
    issues = {marks[-1]: issue for issue in read if (marks := MARK.findall(issue["body"]))}
    home, messages = home_id(store.audit_log(problem.NAME)), list[str]()
    for ticket in tickets.all_tickets(store):
        mark = f"<!-- home {home}, ticket {ticket['number']} -->"
        messages += _follow(ticket, f"{ticket['body']}\n\n{mark}\n", issues.get(mark))
    return messages


def _follow(ticket: dict[str, Any], body: str, issue: dict[str, Any] | None) -> list[str]:
    name = f"ticket {ticket['number']} ({ticket['incident']})"
    done = []
    if issue is None:
        number = _write("create", "--title", _title(ticket), "--label", LABEL, body=body)
        issue = {"number": number.strip().rpartition("/")[2], "state": "OPEN", "body": body}
        done.append(f"{name}: issue {issue['number']} opened")
    elif issue["state"] == "OPEN" and _plain(issue["body"]) != _plain(body):
        _write("edit", str(issue["number"]), body=body)
        done.append(f"{name}: issue {issue['number']} updated")
    if ticket["closed_at"] and issue["state"] == "OPEN":
        gh("issue", "close", str(issue["number"]), "--comment", "The ticket is closed; its last words stand above.")
        done.append(f"{name}: issue {issue['number']} closed")
    return done


def _title(ticket: dict[str, Any]) -> str:
    return f"[ticket {ticket['number']}] {ticket['title']}"


def _write(command: str, *arguments: str, body: str) -> str:
    """The text goes by a file: it may be longer than a command line may be."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "body.md"
        file.write_text(body, encoding="utf-8")
        return gh("issue", command, *arguments, "--body-file", str(file))


def _plain(text: str) -> str:
    """GitHub may end lines in another way, and a text without empty lines at its end."""
    return text.replace("\r\n", "\n").strip()
