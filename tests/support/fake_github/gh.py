"""A small `gh` for tests: releases with their files, labels and issues, kept in the folder GH_FAKE. It refuses what it does
not know, and what GitHub would refuse: a release that is not there, a file that is there already, a closed issue to close."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

State = dict[str, Any]
HOME = Path(os.environ["GH_FAKE"])
STATE = HOME / "state.json"


def main() -> None:
    if not os.environ.get("GH_TOKEN"):
        sys.exit("gh: To use GitHub CLI in a GitHub Actions workflow, set the GH_TOKEN environment variable")
    with (HOME / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    state = json.loads(STATE.read_text()) if STATE.exists() else {"releases": {}, "labels": [], "issues": []}
    print(COMMANDS[sys.argv[1], sys.argv[2]](state, sys.argv[3:]), end="")
    STATE.write_text(json.dumps(state, indent=1))


def parsed(arguments: list[str], *names: str) -> Any:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in names:
        flag = name in ("--clobber", "--yes", "--prerelease", "--force")
        options: Any = {"action": "store_true"} if flag else {"nargs": "+"} if name == "files" else {}
        parser.add_argument(name, **options)
    return parser.parse_args(arguments)


def release(state: State, tag: str) -> None:
    if tag not in state["releases"]:
        sys.exit("release not found")


def release_list(state: State, arguments: list[str]) -> str:
    parsed(arguments, "--limit", "--json")
    return json.dumps([{"tagName": tag} for tag in state["releases"]])


def release_create(state: State, arguments: list[str]) -> str:
    given = parsed(arguments, "tag", "--prerelease", "--title", "--notes")
    if given.tag in state["releases"]:
        sys.exit("a release with the same tag name already exists: " + given.tag)
    (HOME / given.tag).mkdir()
    state["releases"][given.tag] = {"title": given.title}
    return ""


def release_view(state: State, arguments: list[str]) -> str:
    given = parsed(arguments, "tag", "--json")
    release(state, given.tag)
    return json.dumps({"assets": [{"name": file.name} for file in (HOME / given.tag).iterdir()]})


def release_upload(state: State, arguments: list[str]) -> str:
    given = parsed(arguments, "tag", "files", "--clobber")
    release(state, given.tag)
    for file in map(Path, given.files):
        if (HOME / given.tag / file.name).exists() and not given.clobber:
            sys.exit("asset under the same name already exists: " + file.name)
        shutil.copyfile(file, HOME / given.tag / file.name)
    return ""


def release_download(state: State, arguments: list[str]) -> str:
    given = parsed(arguments, "tag", "--pattern", "--dir")
    release(state, given.tag)
    files = list((HOME / given.tag).glob(given.pattern))
    if not files:
        sys.exit("no assets match the file pattern")
    for file in files:
        shutil.copyfile(file, Path(given.dir) / file.name)
    return ""


def release_delete_asset(state: State, arguments: list[str]) -> str:
    given = parsed(arguments, "tag", "asset", "--yes")
    release(state, given.tag)
    (HOME / given.tag / given.asset).unlink()
    return ""


def label_create(state: State, arguments: list[str]) -> str:
    given = parsed(arguments, "name", "--force", "--description", "--color")
    state["labels"] = sorted({*state["labels"], given.name})
    return ""


def issue_list(state: State, arguments: list[str]) -> str:
    given = parsed(arguments, "--label", "--state", "--limit", "--json")
    shown = [issue for issue in state["issues"] if given.label in issue["labels"]]
    return json.dumps([{name: issue[name] for name in given.json.split(",")} for issue in shown])


def issue_create(state: State, arguments: list[str]) -> str:
    given = parsed(arguments, "--title", "--label", "--body-file")
    if given.label not in state["labels"]:
        sys.exit(f"could not add label: '{given.label}' not found")
    number = len(state["issues"]) + 1
    body = Path(given.body_file).read_text().strip().replace("\n", "\r\n")  # as GitHub may give it back
    issue = {
        "number": number,
        "title": given.title,
        "labels": [given.label],
        "body": body,
        "state": "OPEN",
        "events": ["created"],
    }
    state["issues"].append(issue)
    return f"https://github.com/owner/repository/issues/{number}\n"


def issue_edit(state: State, arguments: list[str]) -> str:
    given = parsed(arguments, "number", "--body-file")
    issue = state["issues"][int(given.number) - 1]
    issue["body"] = Path(given.body_file).read_text()
    issue["events"].append("edited")
    return ""


def issue_close(state: State, arguments: list[str]) -> str:
    given = parsed(arguments, "number", "--comment")
    issue = state["issues"][int(given.number) - 1]
    if issue["state"] == "CLOSED":
        sys.exit("issue is already closed")
    issue["state"] = "CLOSED"
    issue["events"].append("closed")
    return ""


COMMANDS = {
    ("release", "list"): release_list,
    ("release", "create"): release_create,
    ("release", "view"): release_view,
    ("release", "upload"): release_upload,
    ("release", "download"): release_download,
    ("release", "delete-asset"): release_delete_asset,
    ("label", "create"): label_create,
    ("issue", "list"): issue_list,
    ("issue", "create"): issue_create,
    ("issue", "edit"): issue_edit,
    ("issue", "close"): issue_close,
}

if __name__ == "__main__":
    main()
