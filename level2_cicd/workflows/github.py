"""GitHub, as a step of a workflow sees it: the program `gh`, the job summary, and the outputs of the step.

Where a file of the job is not named (on a laptop), nothing is written into it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from level1_pipeline.errors import NoAnswer

SUMMARY, OUTPUT = "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"  # variables that name files of the job
SECONDS = 600  # for one call, which may move a home


def gh(*arguments: str) -> str:
    """What a command of `gh` prints.

    Raises:
        NoAnswer: it is not installed, not logged in, or GitHub refuses.
    """
    try:
        done = subprocess.run(["gh", *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError as error:
        raise NoAnswer("there is no program gh here, which speaks with GitHub; install it: cli.github.com") from error
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"gh {arguments[0]} did not end within {SECONDS} s; start the workflow again") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise NoAnswer(
            f"gh {' '.join(arguments[:2])} ended with exit code {done.returncode}: {last}; are GH_TOKEN and the "
            "permissions of the job right?"
        )
    return done.stdout


def add_to_summary(markdown: str) -> None:
    """Append Markdown to the page of the job."""
    _append(SUMMARY, markdown.rstrip() + "\n\n")


def set_output(name: str, value: str) -> None:
    """Hand a value of one line to the later steps and jobs.

    Raises:
        ValueError: a second line would be another output.
    """
    if "\n" in value or "\r" in value:
        raise ValueError(f"the output {name} has more than one line")
    _append(OUTPUT, f"{name}={value}\n")


def _append(variable: str, text: str) -> None:
    if file := os.environ.get(variable):
        with Path(file).open("a", encoding="utf-8") as target:
            target.write(text)
