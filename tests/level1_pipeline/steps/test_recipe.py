"""The recipe learns: the loss falls with the iterations, and a few rows are learned by heart."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.predict import predict
from level1_pipeline.schema.scores import means
from level1_pipeline.schema.several_classes import classes
from level1_pipeline.schema.task import task
from level1_pipeline.steps.fit import fit_model

pytestmark = pytest.mark.integration


def loss(rows: pd.DataFrame, **parameters: float) -> float:
    """Of the recipe on the rows that it was fitted on."""
    changed = {f"model__{name}": value for name, value in parameters.items()}
    p = predict(fit_model(rows, changed), rows)
    return problem.evaluate(rows[problem.TARGET].to_numpy(), p)[problem.PRIMARY_METRIC]


def of_a_constant(rows: pd.DataFrame) -> float:
    y = rows[problem.TARGET].to_numpy()
    return problem.evaluate(y, means(y))[problem.PRIMARY_METRIC]


@pytest.fixture(scope="module")
def some(rows: pd.DataFrame) -> pd.DataFrame:
    trees = {"model__max_iter", "model__min_samples_leaf"}
    if problem.NAME != "flight_delay" and not trees <= problem.build_model().get_params().keys():
        pytest.skip(f"the model of {problem.NAME} is not boosted trees, whose number the tests vary")
    return rows[rows[problem.TARGET].notna()].iloc[2000:4000]


@pytest.mark.evidence("Infra 2", "Checklist 13")
def test_the_loss_falls_with_each_step_of_the_training(some: pd.DataFrame) -> None:
    losses = [loss(some, max_iter=count) for count in (1, 5, 20, 60)]
    assert of_a_constant(some) > losses[0]
    assert all(later < earlier for earlier, later in itertools.pairwise(losses)), losses


@pytest.mark.evidence("Infra 2", "Checklist 13")
def test_sixteen_rows_are_learned_by_heart(some: pd.DataFrame) -> None:
    full = some.dropna()
    few = full.groupby(problem.TARGET).head(8) if task().has_classes else full.head(16)
    assert len(few) == 8 * max(len(classes()), 2)
    assert loss(few, min_samples_leaf=1, max_iter=120) < 0.01 * of_a_constant(few)
