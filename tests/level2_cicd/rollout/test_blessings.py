"""Before a version gets any copy: it was judged, and it can serve in bounded time and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.policies import RolloutPolicy
from level1_pipeline.steps.fit import fit_model
from level2_cicd.rollout import blessings
from level2_cicd.rollout.blessings import INFRASTRUCTURE, QUALITY
from tests.support.planted import BLOCK, KEPT, TYPE, Planted

pytestmark = [pytest.mark.flights, pytest.mark.integration]


@pytest.fixture(scope="module")
def bundle(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Makes the bundle of a small model with a fault."""
    labelled = rows[rows[problem.TARGET].notna()].head(2000)
    few = {name: 5 for name in problem.build_model().get_params() if name.endswith("max_iter")}
    pipeline = fit_model(labelled, few)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(problem, "TRUSTED_TYPES", (*problem.TRUSTED_TYPES, TYPE))
        patch.setitem(problem.GATE, "max_seconds_1000_rows", 60.0)  # a busy machine is no reason here

        def make(fault: str, verdict: str = "pass") -> Path:
            wrapped = type(pipeline)([*pipeline.steps[:-1], ("model", Planted(pipeline[-1], fault))])
            folder = tmp_path_factory.mktemp("planted") / "bundle"
            profile = pd.DataFrame({"day": ["2013-01-01"]})
            write_bundle(folder, wrapped, labelled.tail(50), {"verdict": verdict}, profile)
            return folder

        yield make
    KEPT.clear()


def statuses(checks: list[Any]) -> dict[str, str]:
    return {check.name: check.status for check in checks}


@pytest.mark.slow
def test_a_sound_version_gets_both_and_the_message_has_the_figures(bundle: Callable[..., Path]) -> None:
    checks = blessings.blessings(bundle("none"))
    assert statuses(checks) == {QUALITY: "pass", INFRASTRUCTURE: "pass"}, checks
    assert " MB (allowed: 500)" in checks[1].message
    assert statuses(blessings.blessings(bundle("none", "fail"))) == {QUALITY: "fail", INFRASTRUCTURE: "pass"}


@pytest.mark.evidence("Monitor 6", "a model hangs, is slow or takes memory")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "figure"),
    [("memory", "MB (allowed: 500)"), ("leak in bursts", "more calls"), ("leak", "more calls")],
)
def test_a_version_that_takes_too_much_memory_is_not_blessed(
    bundle: Callable[..., Path], fault: str, figure: str
) -> None:
    KEPT.clear()
    (_, check) = blessings.blessings(bundle(fault))
    assert (check.status, figure in check.message) == ("fail", True), check.message


@pytest.mark.slow
def test_memory_that_is_taken_once_between_the_calls_is_no_leak(bundle: Callable[..., Path]) -> None:
    KEPT.clear()
    (_, check) = blessings.blessings(bundle("once"))
    assert max(map(len, KEPT)) == BLOCK, "the memory was never taken"
    assert check.status == "pass", check.message


@pytest.mark.slow
def test_how_much_memory_is_too_much_is_a_setting(bundle: Callable[..., Path]) -> None:
    (_, check) = blessings.blessings(bundle("memory"), RolloutPolicy(max_memory_mb=2000))
    assert check.status == "pass", check.message


@pytest.mark.slow
def test_a_version_that_hangs_is_not_blessed_and_does_not_hang_the_rollout(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blessings, "TRIAL_SECONDS", 3.0)
    (check,) = blessings.blessings(bundle("hang"))
    assert (check.status, "it hangs" in check.message) == ("fail", True)
