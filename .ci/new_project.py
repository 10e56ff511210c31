"""Make a project of its own from this template and one problem: `make new NAME=churn FROM=examples/no_trees`.

Copies the files of the checkout beside it (or to TO), puts the problem in place under the new name, and begins version,
changes and README anew. The template's own tests come along: those about flights skip themselves.
"""

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROBLEM = Path("level1_pipeline", "problem.py")
NAME = re.compile("[a-z][a-z0-9_]{1,39}")
NAME_LINE = re.compile('^NAME = ".*"$', re.MULTILINE)
LEFT_OUT = ("docs/pictures/",)  # they show flights; `make pictures` takes them anew
README = """# {title}

This project predicts with the MLOps template: {question}

```sh
make level1   # train, judge, publish
make serve    # the prediction service on 127.0.0.1:8000
make level2   # past days through the service and the control loop
```

The first command makes the environment: Python 3.11 to 3.14 with the locked packages. It needs Python 3.8 or newer, make and git.

## The data

The one file to edit is [`level1_pipeline/problem.py`](level1_pipeline/problem.py); [the page about it](docs/your-own-problem.md) says how.
Its `load` says where the rows come from.

The other pages in `docs/` are those of the template. Their figures were measured on its flights from New York.
`make test` runs the template's tests on this problem, and `make` lists all commands.
"""
CHANGES = """# Changes

This page lists what changed, newest first.

## 0.1.0 — unreleased

- The project begins, from version {version} of the MLOps template.
"""


class NotMade(Exception):
    """Why there is no project, and what to do."""


def files(root):
    """The names of all files of the checkout that belong to it, committed or not."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=str(root), capture_output=True)
    except OSError as error:
        raise NotMade("git is needed to tell which files belong to the template (%s); install it" % error) from None
    if listed.returncode:
        raise NotMade("%s is no git checkout, so nobody can tell which files belong to it; clone the template" % root)
    names = {os.fsdecode(name) for name in listed.stdout.split(b"\0") if name}
    return sorted(name for name in names if (root / name).is_file() and not name.startswith(LEFT_OUT))


def problem_of(source, name):
    """The text of the problem under its new name, and the first line that it says of itself."""
    path = source / "problem.py" if source.is_dir() else source
    if not path.is_file():
        raise NotMade("FROM=%s has no problem.py; choose one of: %s" % (source, ", ".join(examples())))
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise NotMade("%s is no text in UTF-8 (%s); save it so" % (path, error)) from None
    if len(NAME_LINE.findall(text)) != 1:
        raise NotMade('%s needs one line NAME = "…" to put the new name in; write it so' % path)
    try:
        question = (ast.get_docstring(ast.parse(text)) or name).splitlines()[0]
    except (SyntaxError, ValueError) as error:  # ValueError: of a null byte, in an older Python
        raise NotMade("%s is no Python that can be read (%s); mend it first" % (path, error)) from None
    return NAME_LINE.sub('NAME = "%s"' % name, text), question


def examples():
    """The examples of this checkout, as FROM takes them."""
    return sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("examples/*/problem.py"))


def rename(folder, name, question):
    """The project's own name, version, changes and README. The locks name the project in comments only."""
    pyproject = (folder / "pyproject.toml").read_text(encoding="utf-8")
    old, version = (re.search('^%s = "(.*)"$' % key, pyproject, re.MULTILINE).group(1) for key in ("name", "version"))
    own = {"name": name.replace("_", "-"), "version": "0.1.0", "description": question.replace('"', "'")}
    for key, value in own.items():
        line = '%s = "%s"' % (key, value.replace("\\", ""))
        pyproject = re.sub('^%s = ".*"$' % key, lambda _, line=line: line, pyproject, count=1, flags=re.MULTILINE)
    (folder / "pyproject.toml").write_text(pyproject, encoding="utf-8")
    for lock in folder.glob("requirements*.lock"):
        text = lock.read_text(encoding="utf-8").replace(old + " (pyproject.toml", own["name"] + " (pyproject.toml")
        lock.write_text(text, encoding="utf-8")
    title = name.replace("_", " ").capitalize()
    (folder / "README.md").write_text(README.format(title=title, question=question), encoding="utf-8")
    (folder / "CHANGELOG.md").write_text(CHANGES.format(version=version), encoding="utf-8")


def begin_history(folder):
    """A repository that goes on from the template's history, so that it can merge a newer template (docs/updating.md)."""
    subprocess.check_call(["git", "init", "--quiet"], cwd=str(folder))
    fetched = subprocess.run(["git", "fetch", "--quiet", "--no-tags", str(ROOT), "HEAD"], cwd=str(folder))
    if fetched.returncode == 0:  # a shallow checkout has no history to go on from
        subprocess.check_call(["git", "reset", "--quiet", "--soft", "FETCH_HEAD"], cwd=str(folder))
    subprocess.check_call(["git", "add", "--all"], cwd=str(folder))


def make(name, source, target):
    """The project in its folder; returns how many files it has. Raises NotMade before anything is written."""
    if not NAME.fullmatch(name):
        raise NotMade("NAME=%s is no name; write 2 to 40 small letters, digits and _, for example NAME=churn" % name)
    blocked = [place for place in (target, *target.parents) if place.exists() and not place.is_dir()]
    if blocked:
        raise NotMade("%s is a file, so no folder can be there; name another folder with TO=…" % blocked[0])
    if target.exists() and any(target.iterdir()):
        raise NotMade("%s is there already and not empty; name another folder with TO=…" % target)
    if target.resolve() == ROOT or ROOT in target.resolve().parents:
        raise NotMade("%s lies inside the template; name a folder outside of it with TO=…" % target)
    problem, question = problem_of(source, name)
    names = files(ROOT)
    for each in names:
        (target / each).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(ROOT / each), str(target / each))
    (target / PROBLEM).write_text(problem, encoding="utf-8")
    rename(target, name, question)
    begin_history(target)
    return len(names)


def main():
    """One line says what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True, help="of the problem and, with - for _, of the project")
    parser.add_argument("--from", dest="source", required=True, help="a folder with a problem.py, or such a file")
    parser.add_argument("--to", default="", help="the folder of the project (default: NAME beside this checkout)")
    given = parser.parse_args()
    if not given.source:
        raise NotMade("FROM is missing; choose one of: %s" % ", ".join(examples()))
    target = Path(given.to) if given.to else ROOT.parent / given.name
    count = make(given.name, Path(given.source), target)
    print("new | %s | %d files from %s | next: cd %s && make level1" % (given.name, count, given.source, target))


if __name__ == "__main__":
    try:
        main()
    except NotMade as error:
        sys.exit("new: %s" % error)
