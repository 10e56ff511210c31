"""What a change does to the model: the base commit makes the champion, the change makes a candidate, and the gate compares.

Both train as of the same day, each with its own code and its own locked packages, in one home that is made anew. The gate
of the change judges; it compares the two on days that neither of the compared models has seen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.errors import TrainingStopped
from level1_pipeline.orchestration.conclusion import NOT_PASSED, PASSED
from level1_pipeline.processes import environment
from level1_pipeline.settings import Settings
from level1_pipeline.store.audit import TrainingJudged
from level1_pipeline.store.database import Store

FOLDER = "pull-request"  # in the user's home


@dataclass(frozen=True)
class Judged:
    """The metrics of both on the newest days, and what the gate says about the candidate."""

    base: dict[str, float]
    candidate: dict[str, float]
    status: str
    reason: str
    card: str  # the candidate's model card, in Markdown

    @property
    def markdown(self) -> str:
        """For the page of the job."""
        names = [*dict.fromkeys([*self.base, *self.candidate])]
        rows = [f"| {name} | {_figure(self.base, name)} | {_figure(self.candidate, name)} |" for name in names]
        head = [
            f"## The gate says: {self.status}",
            "",
            self.reason,
            "",
            "| metric | base | this change |",
            "|---|---|---|",
        ]
        card = ["", "<details><summary>Model card of the candidate</summary>", "", self.card, "", "</details>"]
        return "\n".join([*head, *rows, *card])


def _figure(metrics: dict[str, float], name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else ""


def judge(settings: Settings, base: str, as_of: str, uv: str, progress: Callable[[str], None]) -> Judged:
    """Train with both commits.

    Args:
        settings: of the user.
        base: the commit that the change is based on.
        as_of: day of both trainings.
        uv: the program with which the base makes its environment.
        progress: is told what happens.

    Raises:
        TrainingStopped: git does not have the commit, or a training ended without a verdict.
    """
    folder = settings.home / FOLDER
    home, tree = folder / "home", folder / "base"
    _remove(tree)
    shutil.rmtree(folder, ignore_errors=True)
    own = Settings.model_construct(home=home, source=settings.source).prepare()
    given = environment(own) | {"AS_OF": as_of, "PATH": f"{Path(uv).absolute().parent}:{os.environ['PATH']}"}
    try:
        _call(["git", "worktree", "add", "--detach", str(tree), base], Path(), given)
        progress("train the champion, with the code and the packages of the base")
        _call(["make", "level1"], tree, given)
    finally:
        _remove(tree)
    progress("train the candidate, with those of this change")
    train = [sys.executable, "-m", "level1_pipeline", "train", "--as-of", as_of, "--promote-to", "challenger"]
    _call(train, Path(), given, (PASSED, NOT_PASSED))
    return _judged(own, as_of)


def _remove(tree: Path) -> None:
    subprocess.run(["git", "worktree", "remove", "--force", str(tree)], capture_output=True, check=False)


def _call(command: list[str], folder: Path, given: dict[str, str], allowed: tuple[int, ...] = (PASSED,)) -> None:
    clean = {name: value for name, value in given.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    if done.returncode not in allowed:
        last = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise TrainingStopped(f"{' '.join(command[:3])} ended with exit code {done.returncode}: {last}")


def _judged(settings: Settings, as_of: str) -> Judged:
    store = Store(settings.operations)
    judged = [line for line in store.audit_log(problem.NAME) if isinstance(line.action, TrainingJudged)]
    store.close()
    if len(judged) != 2:
        raise TrainingStopped(f"{len(judged)} of two trainings have a verdict in {settings.home}")
    before, after = judged
    assert isinstance(after.action, TrainingJudged)
    card = settings.home / "reports" / "level1" / problem.NAME / as_of / "model_card.md"
    own, other = after.evidence["metrics"], before.evidence["metrics"]
    return Judged(other, own, after.action.status, after.reason, card.read_text(encoding="utf-8"))
