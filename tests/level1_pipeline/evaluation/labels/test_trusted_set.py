"""The trusted set is frozen once, a changed copy is refused, and it shows a source whose labels are wrong everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from level1_pipeline import problem
from level1_pipeline.bundle.predict import predict
from level1_pipeline.errors import ProblemRefused, TrustedSetRefused
from level1_pipeline.evaluation.labels import trusted_checks
from level1_pipeline.evaluation.labels.trusted_set import TrustedSets, TrustedSpan, label_digest, trusted_span
from level1_pipeline.settings import Settings
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.store.audit import TrustedSetFrozen
from level1_pipeline.store.database import Store
from level1_pipeline.store.days import start_of
from tests.support.wrong_labels import flip

pytestmark = pytest.mark.flights

SPAN = TrustedSpan(first="2013-01-01", last="2013-01-14")
AFTER = start_of("2013-01-15")  # faults from here on: the source's labels of the trusted rows are right
SIBLINGS: dict[str, dict[str, Any]] = {
    "JFK": {"share": 0.4, "slices": {"origin": "JFK"}},
    "EWR": {"share": 0.4, "slices": {"origin": "EWR"}},
    "LGA": {"share": 0.4, "slices": {"origin": "LGA"}},
    "one carrier": {"share": 0.4, "slices": {"carrier": "UA"}},
    "a small carrier": {"share": 0.4, "slices": {"carrier": "VX"}},
    "late to not late": {"share": 0.4, "slices": {"origin": "JFK"}, "only": 1.0},
    "not late to late": {"share": 0.4, "slices": {"origin": "LGA"}, "only": 0.0},
    "a tenth of all": {"share": 0.1},
    "a fifth of all": {"share": 0.2},
}


@pytest.fixture(scope="module")
def quarter(rows: pd.DataFrame) -> pd.DataFrame:
    early = rows[rows[problem.EVENT_TIME] < start_of("2013-04-01")]
    return early[early[problem.TARGET].notna()].reset_index(drop=True)


@pytest.fixture(scope="module")
def trusted(quarter: pd.DataFrame) -> pd.DataFrame:
    return SPAN.labelled(quarter)


def said_by_a_model_of(rows: pd.DataFrame, trusted: pd.DataFrame) -> np.ndarray:
    return predict(fit_model(rows, {"model__max_iter": 30, "model__learning_rate": 0.2}), trusted)


@pytest.fixture(scope="module")
def champion(quarter: pd.DataFrame, trusted: pd.DataFrame) -> np.ndarray:
    """What an older model of right labels says."""
    return said_by_a_model_of(quarter[quarter[problem.EVENT_TIME] < start_of("2013-03-04")], trusted)


# ---- the checks


@pytest.mark.evidence("the source itself has wrong labels")
@pytest.mark.parametrize("fault", SIBLINGS)
@pytest.mark.slow
def test_confirmed_labels_that_the_source_holds_otherwise_are_found(
    fault: str, quarter: pd.DataFrame, trusted: pd.DataFrame
) -> None:
    check = trusted_checks.confirmed_labels(trusted, flip(quarter, **SIBLINGS[fault]))
    assert check.status == "fail", check.message


def test_labels_that_went_missing_count_as_changed_and_rows_that_went_do_not(
    quarter: pd.DataFrame, trusted: pd.DataFrame
) -> None:
    gone = quarter[problem.TARGET].where(quarter["origin"] != "JFK")
    assert trusted_checks.confirmed_labels(trusted, quarter.assign(**{problem.TARGET: gone})).status == "fail"
    assert trusted_checks.confirmed_labels(trusted, quarter[quarter["origin"] != "JFK"]).status == "pass"
    newer = quarter[quarter[problem.EVENT_TIME] >= AFTER]
    assert "no longer holds" in trusted_checks.confirmed_labels(trusted, newer).message


def test_an_ordinary_model_agrees_with_the_trusted_labels(
    quarter: pd.DataFrame, trusted: pd.DataFrame, champion: np.ndarray
) -> None:
    p = said_by_a_model_of(quarter, trusted)
    checks = [
        trusted_checks.confirmed_labels(trusted, quarter),
        trusted_checks.agrees_with_labels(trusted, p),
        trusted_checks.agrees_as_champion_does(trusted, p, champion, "the champion"),
    ]
    assert [check.status for check in checks] == ["pass"] * 3, checks


@pytest.mark.evidence("labels are poisoned")
@pytest.mark.parametrize("fault", [name for name in SIBLINGS if name != "a small carrier"])
@pytest.mark.slow
def test_a_model_of_labels_that_are_wrong_since_the_trusted_days_is_found(
    fault: str, quarter: pd.DataFrame, trusted: pd.DataFrame, champion: np.ndarray
) -> None:
    """Training rows and holdout are wrong alike, so nothing else in the gate can see it."""
    p = said_by_a_model_of(flip(quarter, since=AFTER, **SIBLINGS[fault]), trusted)
    checks = [
        trusted_checks.agrees_with_labels(trusted, p),
        trusted_checks.agrees_as_champion_does(trusted, p, champion, "the champion"),
    ]
    assert "fail" in {check.status for check in checks}, checks


def test_a_better_model_than_a_poor_champion_is_not_refused_for_saying_something_else(
    quarter: pd.DataFrame, trusted: pd.DataFrame
) -> None:
    p = said_by_a_model_of(quarter, trusted)
    poor = np.full(len(trusted), 0.4)
    assert trusted_checks.agrees_as_champion_does(trusted, p, poor, "a poor champion").status == "pass"


def test_predictions_that_are_no_numbers_fail(trusted: pd.DataFrame) -> None:
    p = np.full(len(trusted), 0.2)
    p[3] = np.nan
    assert trusted_checks.agrees_with_labels(trusted, p).status == "fail"


def test_without_a_trusted_set_the_gate_says_what_it_cannot_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(problem, "TRUSTED_LABELS")
    assert trusted_span() is None
    (check,) = trusted_checks.not_judged("no trusted set")
    assert (check.status, "not seen" in check.message) == ("pass", True)


# ---- frozen


@pytest.fixture
def sets(home: Settings) -> TrustedSets:
    return TrustedSets(home.prepare(), Store(home.operations))


def test_it_is_frozen_once_and_later_changes_of_the_source_do_not_reach_it(
    sets: TrustedSets, quarter: pd.DataFrame, trusted: pd.DataFrame
) -> None:
    pd.testing.assert_frame_equal(sets.rows(SPAN, quarter), trusted)
    again = sets.rows(SPAN, flip(quarter, 0.4).assign(temp=1.0))
    pd.testing.assert_frame_equal(again, trusted)
    (line,) = sets.store.audit_log(problem.NAME)
    assert isinstance(line.action, TrustedSetFrozen)
    assert (line.action.span, line.action.labels) == ("2013-01-01 to 2013-01-14", label_digest(trusted))


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_copy_that_was_changed_is_refused(damage: str, sets: TrustedSets, quarter: pd.DataFrame) -> None:
    sets.rows(SPAN, quarter)
    (file,) = (sets.settings.home / "trusted" / problem.NAME).iterdir()
    if damage == "changed":
        flip(pd.read_parquet(file), 0.01).to_parquet(file, index=False)
    else:
        file.unlink()
    with pytest.raises(TrustedSetRefused, match=r"changed or removed after it was frozen; bring it back"):
        sets.rows(SPAN, quarter)


def test_a_source_with_other_labels_than_the_confirmed_ones_is_not_frozen(
    sets: TrustedSets, quarter: pd.DataFrame, trusted: pd.DataFrame
) -> None:
    confirmed = SPAN.model_copy(update={"digest": label_digest(trusted)})
    with pytest.raises(TrustedSetRefused, match="not those that were confirmed"):
        sets.rows(confirmed, flip(quarter, 0.001))
    assert sets.store.audit_log(problem.NAME) == []
    pd.testing.assert_frame_equal(sets.rows(confirmed, quarter), trusted)


def test_labels_that_a_person_confirms_anew_are_frozen_beside_the_old_ones(
    sets: TrustedSets, quarter: pd.DataFrame
) -> None:
    sets.rows(SPAN, quarter)
    corrected = flip(quarter, 0.001)
    anew = SPAN.model_copy(update={"digest": label_digest(SPAN.labelled(corrected))})
    assert label_digest(sets.rows(anew, corrected)) == anew.digest
    assert len(list((sets.settings.home / "trusted" / problem.NAME).iterdir())) == 2
    assert len(sets.store.audit_log(problem.NAME)) == 2


def test_days_without_labels_are_refused(sets: TrustedSets, quarter: pd.DataFrame) -> None:
    with pytest.raises(TrustedSetRefused, match="no labelled row"):
        sets.rows(SPAN, quarter[quarter[problem.EVENT_TIME] >= AFTER])


@pytest.mark.parametrize(
    "wrong",
    [{"first": "2013-01-14", "last": "2013-01-01"}, {"first": "2013-01-01"}, {"from": "2013-01-01"}],
    ids=["the wrong way round", "no end", "a misspelt name"],
)
def test_a_mistake_in_the_contract_is_refused(wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(problem, "TRUSTED_LABELS", wrong)
    with pytest.raises(ProblemRefused, match="TRUSTED_LABELS cannot be read"):
        trusted_span()


def test_the_confirmed_labels_of_the_flights_are_those_of_the_data_package(trusted: pd.DataFrame) -> None:
    span = trusted_span()
    assert span is not None
    assert label_digest(span.labelled(trusted)) == span.digest
