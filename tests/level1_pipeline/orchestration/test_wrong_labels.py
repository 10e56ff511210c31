"""A real training on a source whose labels are wrong, in the rows to train on and in the holdout alike: no champion."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import flights, problem
from level1_pipeline.orchestration import run as training_run
from level1_pipeline.orchestration.pipeline import TrainingResults, pipeline
from level1_pipeline.orchestration.run import Request
from level1_pipeline.registry import Registry
from level1_pipeline.settings import Settings
from level1_pipeline.steps import model_card
from level1_pipeline.store.audit import TrustedSetFrozen
from level1_pipeline.store.days import start_of

pytestmark = [pytest.mark.flights, pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    """The flights of the first quarter, as the data package has them."""
    table = pd.read_csv(flights.source_folder() / "flights.csv.zip")
    return table[table["month"] <= 3]


def planted(folder: Path, raw: pd.DataFrame, airport: str | None) -> Path:
    """A source in which 40 % of one airport's flights have another outcome than they had."""
    folder.mkdir()
    for name in flights.SOURCE_FILES[1:]:
        shutil.copyfile(flights.source_folder() / name, folder / name)
    hit = (raw["origin"] == airport) & (np.random.default_rng(0).random(len(raw)) < 0.4) & raw["arr_delay"].notna()
    turned = np.where(raw["arr_delay"] < flights.LATE_MINUTES, 60.0, 0.0)
    raw.assign(arr_delay=raw["arr_delay"].where(~hit, turned)).to_csv(folder / "flights.csv.zip", index=False)
    return folder


@pytest.fixture
def train(home: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str], TrainingResults]:
    """Run every step of a training as of a day, on a source."""
    monkeypatch.setattr(model_card, "plots", lambda *_: [])  # they take seconds, and the gate does not look at them

    def go(source: Path, day: str) -> TrainingResults:
        monkeypatch.setenv("MLOPS_SOURCE", str(source))
        settings = Settings(home=home.home, actor="tester").prepare()
        champion = Registry(settings).route().champion
        return pipeline(training_run.new_run(settings, Request(start_of(day)), champion))

    return go


def test_a_source_with_wrong_labels_makes_no_champion_in_a_new_home_and_none_after_a_good_one(
    tmp_path: Path,
    raw: pd.DataFrame,
    home: Settings,
    train: Callable[[Path, str], TrainingResults],
) -> None:
    wrong, right = planted(tmp_path / "wrong", raw, "JFK"), planted(tmp_path / "right", raw, None)
    first = train(wrong, "2013-03-01")
    assert (first.registered.status, first.published.alias) == ("fail", None)
    assert any("not those that were confirmed" in reason for reason in first.registered.reasons)

    good = train(right, "2013-03-01")
    assert good.registered.status == "pass", good.registered.reasons
    store = Registry(Settings(home=home.home)).store
    frozen = [line for line in store.audit_log(problem.NAME) if isinstance(line.action, TrustedSetFrozen)]
    assert len(frozen) == 1

    second = train(wrong, "2013-03-25")
    assert (second.registered.status, second.registered.version) == ("fail", None)
    reasons = " ".join(second.registered.reasons)
    for check in ("confirmed labels: ", "trusted set: ", "trusted set against champion: "):
        assert check in reasons
    assert "origin=JFK" in reasons
    assert Registry(Settings(home=home.home)).route().champion == good.registered.version
