"""What really happened, of a problem with several classes: files name the class itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from examples.several_classes import problem as tickets
from level1_pipeline import problem
from level1_pipeline.store.outcomes import Reported
from monitoring.data.outcome_files import check
from tests.support.problems import in_place

NOW = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def several(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tickets are the problem."""
    with in_place(tickets, monkeypatch):
        yield


@pytest.mark.parametrize(("given", "place"), [("billing", 0.0), ("technical", 2.0)])
def test_a_class_is_kept_as_its_place(given: str, place: float) -> None:
    assert check({"id": "a", "value": given}, NOW) == Reported("a", place)


@pytest.mark.parametrize("given", ["Billing", "", None, 1, 0.0, "legal", float("nan")], ids=repr)
def test_what_is_no_class_is_refused_with_the_classes_that_there_are(given: Any) -> None:
    assert check({"id": "a", "value": given}, NOW) == "value is none of billing, sales, technical"


@pytest.mark.parametrize("given", [10, 10.0, "10"], ids=repr)
def test_classes_that_are_numbers_may_stand_as_numbers_or_as_texts(monkeypatch: pytest.MonkeyPatch, given: Any) -> None:
    monkeypatch.setattr(problem, "CLASSES", (30, 20, 10))
    assert check({"id": "a", "value": given}, NOW) == Reported("a", 2.0)
