"""One mistake is planted in a problem that has none, and one line answers it: where, what, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from examples.demand_by_the_hour import problem as demand
from examples.no_trees import problem as no_trees
from examples.several_classes import problem as tickets
from examples.simulated_regression import problem as friedman
from examples.table_without_time import problem as table
from level1_pipeline import problem, schema
from level1_pipeline.errors import ProblemRefused
from level1_pipeline.evaluation.contract import check
from level1_pipeline.inputs import source
from level1_pipeline.orchestration.conclusion import DATA_FAULT
from level1_pipeline.orchestration.run import Request, run_training
from level1_pipeline.settings import Settings
from tests.problems import orders
from tests.support.problems import forget_the_record, in_place

TIME = pd.Timestamp("2024-08-20", tz="UTC")
ALL = orders.load(pd.Timestamp("2100-01-01", tz="UTC"))
GONE = object()  # the name is taken out
Change = dict[str, Any]


@pytest.fixture(params=[orders], ids=["orders"])
def sound(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A problem without a mistake."""
    with in_place(request.param, monkeypatch):
        yield


def record(config: dict[str, Any] | None = None, **fields: Any) -> type[BaseModel]:
    """The Record of the orders with another field."""
    own = {name: (field.annotation, field) for name, field in orders.Record.model_fields.items()}
    given: Any = {**own, **fields}
    settings = ConfigDict(**{**orders.Record.model_config, **(config or {})})  # type: ignore[typeddict-item]
    return create_model("Record", __config__=settings, **given)


def gate(**changes: Any) -> dict[str, Any]:
    return {"GATE": {name: value for name, value in {**orders.GATE, **changes}.items() if value is not GONE}}


def with_metric(name: str, metric: Callable[[np.ndarray, np.ndarray], Any], **more: Any) -> Change:
    return {"evaluate": lambda y, p: {**orders.evaluate(y, p), name: metric(y, p)}, **more}


def fails(*_: Any) -> Any:
    raise RuntimeError("not done yet")


def one_pipeline() -> Callable[[], Any]:
    only = orders.build_model()
    return lambda: only


def fitted() -> Any:
    some = ALL.head(500)
    inputs = pd.DataFrame({"items": some["items"].astype("float64")})
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    return Pipeline([("model", LogisticRegression())]).fit(inputs, some["sent_back"].astype("float64"))


def support_vectors() -> Any:
    from sklearn.pipeline import Pipeline
    from sklearn.svm import LinearSVC

    return Pipeline([("model", LinearSVC())])


def needs_no_gap() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    return Pipeline([("model", LogisticRegression())])


def demo(**simulate: Any) -> Change:
    return {"DEMO": {"simulate": simulate}}


EXAMPLES = [friedman, demand, table, no_trees]
STATIC: dict[str, tuple[Change, str]] = {
    "a name is missing": ({"LABEL_TIME": GONE}, "LABEL_TIME: is missing; docs/level1.md"),
    "a name is misspelt": (
        {"SLICES": GONE, "SLICE": ("shop",)},
        "SLICES: is missing; is it written as 'SLICE'?",
    ),
    "slices are one text": ({"SLICES": "shop"}, "SLICES: must be a tuple of names"),
    "no function": ({"load": ALL}, "load: must be a function, and it is of the type DataFrame"),
    "costs are a list": ({"COSTS": [1, 2]}, "COSTS: must be a dict of prices"),
    "a slash in NAME": ({"NAME": "orders/eu"}, "NAME: 'orders/eu' is no name; use 1 to 64 letters"),
    "NAME is empty": ({"NAME": ""}, "NAME: '' is no name"),
    "an unknown task": (
        {"TASK": "clustering"},
        "TASK: 'clustering' is no task .* classification or multiclass or regression",
    ),
    "a demo that is a list": ({"DEMO": ["2024-08-20"]}, "DEMO: must be a dict, and it is of the type list"),
    "a misspelt key of the demo": ({"DEMO": {"asof": "2024-08-20"}}, "DEMO: knows no 'asof'; did you mean 'as_of'?"),
    "a day of the demo in another form": (
        {"DEMO": {"as_of": "20.08.2024"}},
        "DEMO\\['as_of'\\]: is '20.08.2024'; write a day, written as \"2024-02-29\"",
    ),
    "a year of one day": (
        {"DEMO": {"year": "2024-08-20"}},
        "DEMO\\['year'\\]: is '2024-08-20'; write the first and the",
    ),
    "a year backwards": (
        {"DEMO": {"year": ("2024-09-01", "2024-08-01")}},
        "DEMO\\['year'\\]: ends on 2024-08-01, before",
    ),
    "a simulation that is a text": (
        {"DEMO": {"simulate": "2024"}},
        "DEMO\\['simulate'\\]: must be a dict of trained, first",
    ),
    "a misspelt key of the simulation": (
        demo(frist="2024-08-20"),
        "DEMO\\['simulate'\\]: knows no 'frist'; did you mean",
    ),
    "a fault in no number": (
        demo(fault="shop"),
        "DEMO\\['simulate'\\]\\['fault'\\]: 'shop' is no number of the Record; possible",
    ),
    "a fault of no day": (demo(fault_days=0), "DEMO\\['simulate'\\]\\['fault_days'\\]: is 0, and must be"),
    "an unknown zone": ({"TIMEZONE": "Europe/Zuerich"}, "TIMEZONE: 'Europe/Zuerich' is no time zone"),
    "the same column twice": (
        {"LABEL_TIME": "placed_at"},
        "LABEL_TIME: names the column 'placed_at', as EVENT_TIME does",
    ),
    "the target as an input": ({"TARGET": "gift"}, "TARGET: names the column 'gift', which is an input .* take it out"),
    "the entity as an input": ({"ENTITY": "shop"}, "ENTITY: names the column 'shop', which is an input"),
    "a misspelt slice": ({"SLICES": ("shopp",)}, "SLICES: 'shopp' is no field of the Record; did you mean 'shop'?"),
    "load without a cache": ({"load": lambda until: ALL}, "load: cannot be called as load\\(until, source, cache\\)"),
    "a rule of the gate is misspelt": (gate(max_harms=0.1), "GATE: has no rule 'max_harms'; did you mean 'max_harm'?"),
    "a rule of the gate is missing": (gate(min_gain=GONE), "GATE: lacks the rule 'min_gain'; add it"),
    "a rule of the gate is a text": (gate(min_rows="many"), "GATE\\['min_rows'\\]: .*valid integer.* it is 'many'"),
    "no holdout": (gate(holdout_days=0), "GATE\\['holdout_days'\\]: is 0, and must be at least 1"),
    "limits that exclude all": (gate(limits={"log_loss": (1, 0)}), "GATE\\['limits'\\]\\['log_loss'\\]: nothing is"),
    "a limit on an unknown metric": (
        gate(limits={"log_los": (None, 1)}),
        "GATE\\['limits'\\]: names 'log_los', .* did you mean 'log_loss'?",
    ),
    "an unknown primary metric": ({"PRIMARY_METRIC": "logloss"}, "PRIMARY_METRIC: names 'logloss', .* 'log_loss'?"),
    "more is better": (
        with_metric("accuracy", lambda y, p: float(((p > 0.5) == y).mean()), PRIMARY_METRIC="accuracy"),
        "PRIMARY_METRIC: more of 'accuracy' is better .* choose a loss",
    ),
    "the metric sees nothing": (
        with_metric("rate", lambda y, p: float(y.mean()), PRIMARY_METRIC="rate"),
        "PRIMARY_METRIC: 'rate' is 0.357 for good predictions as for bad ones",
    ),
    "evaluate raises on one row": (
        with_metric("median", lambda y, p: fails() if len(y) == 1 else 0.0),
        "evaluate: raises RuntimeError on a day with one row \\(not done yet\\); give NaN",
    ),
    "evaluate gives a tuple": ({"evaluate": lambda y, p: (0.1,)}, "evaluate: must give a dict of metrics"),
    "evaluate gives a text": (with_metric("note", lambda y, p: "good"), "evaluate: gives no number for 'note'"),
    "a cost is infinite": (
        {"COSTS": {**orders.COSTS, "needless_call": float("inf")}},
        "COSTS\\['needless_call'\\]: is inf, and must be a finite number",
    ),
    "a cost is a text": ({"COSTS": {**orders.COSTS, "needless_call": "4"}}, "COSTS\\['needless_call'\\]: is '4'"),
    "a cost is misspelt": (
        {"COSTS": {"unexpected_return": 10.0, "needles_call": 4.0}},
        "choose_action: names COSTS\\['needless_call'\\], .* did you mean 'needles_call'?",
    ),
    "an action is a number": ({"choose_action": lambda p: p > 0.5}, "choose_action: gives False for the score 0"),
    "choose_action raises": ({"choose_action": fails}, "choose_action: raises RuntimeError for the score 0"),
    "build_model raises": ({"build_model": lambda: fails()}, "build_model: raises RuntimeError \\(not done yet\\)"),
    "build_model gives None": ({"build_model": lambda: None}, "build_model: gives a NoneType; wrap it"),
    "the same model twice": ({"build_model": one_pipeline()}, "build_model: gives the same object twice"),
    "a fitted model": ({"build_model": fitted, "SEARCH": {}}, "build_model: gives a fitted pipeline"),
    "a model of the other task": (
        {"build_model": friedman.build_model, "SEARCH": {}},
        "build_model: ends in a HistGradientBoostingRegressor, which is no model for a classification",
    ),
    "no probabilities": (
        {"build_model": support_vectors, "SEARCH": {}},
        "build_model: ends in a LinearSVC, which gives no probabilities",
    ),
    "a search of an unknown setting": (
        {"SEARCH": {"model__max_iters": [1]}},
        "SEARCH: names 'model__max_iters', .* did you mean 'model__max_iter'?",
    ),
    "no pydantic model": ({"Record": dict, "SLICES": ()}, "Record: is no pydantic model"),
    "a field with an alias": (
        {"Record": record(price=(float, Field(alias="Price EUR")))},
        "Record.price: has the alias 'Price EUR', .* take the alias out",
    ),
    "an alias for validation only": (
        {"Record": record(price=(float, Field(validation_alias="cost")))},
        "Record.price: has the alias 'cost'",
    ),
    "a field that is a time": (
        {"Record": record(paid_at=(datetime, ...))},
        "Record.paid_at: is a time; give what the model can",
    ),
    "a field with a name of the log": (
        {"Record": record(score=(float, ...))},
        "Record.score: has the name of a column of the",
    ),
    "a target with a name of the log": (
        {"TARGET": "score"},
        "TARGET: 'score' is the name of a column of the prediction",
    ),
    "a field that is a list": ({"Record": record(tags=(list[str], ...))}, "Record.tags: is of the type list"),
    "a field that is a decimal": ({"Record": record(sum=(Decimal, ...))}, "Record.sum: is of the type Decimal"),
    "a field of two types": ({"Record": record(code=(int | str, ...))}, "Record.code: may be of several types"),
    "a lenient Record": (
        {"Record": record({"strict": False})},
        "Record: model_config needs strict=True, else the text",
    ),
    "a Record that ignores": ({"Record": record({"extra": "ignore"})}, "Record: model_config needs extra='forbid'"),
}


def applied(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    for name, value in change.items():
        if value is GONE:
            monkeypatch.delattr(problem, name)
        else:
            monkeypatch.setattr(problem, name, value, raising=False)
    forget_the_record()


def only(found: list[Any]) -> str:
    assert len(found) == 1, [str(mistake) for mistake in found]
    line = str(found[0])
    assert "\n" not in line
    assert "cannot be checked" not in line
    return line


@pytest.mark.parametrize(("change", "line"), STATIC.values(), ids=STATIC)
def test_a_mistake_that_needs_no_data_is_one_line(
    sound: None, monkeypatch: pytest.MonkeyPatch, change: Change, line: str
) -> None:
    applied(monkeypatch, change)
    assert re.match(line, told := only(check.static())), told


def without_the_later(rows: pd.DataFrame, time: pd.Timestamp) -> pd.DataFrame:
    """What a correct `load` does at its end."""
    rows = rows[rows["placed_at"] < time]
    return rows.assign(sent_back=rows["sent_back"].mask(rows["known_at"] >= time))


def with_column(name: str, values: Callable[[pd.DataFrame], Any]) -> Callable[[pd.DataFrame, pd.Timestamp], Any]:
    return lambda rows, time: without_the_later(rows, time).assign(**{name: values})


def some(name: str, value: Any, kind: Any = None) -> Callable[[pd.DataFrame], Any]:
    """The column with another value in its third row."""

    def changed(rows: pd.DataFrame) -> pd.Series:
        values = rows[name].astype(kind or rows[name].dtype).copy()
        values.iloc[2] = value
        return values

    return changed


def as_objects(name: str, value: Callable[[Any], Any]) -> Callable[[pd.DataFrame, pd.Timestamp], Any]:
    """A column of Python objects, as a database driver gives it."""
    return with_column(name, lambda t: pd.Series([None if pd.isna(v) else value(v) for v in t[name]], t.index, object))


ROWS: dict[str, tuple[Callable[[pd.DataFrame, pd.Timestamp], Any], str]] = {
    "load raises": (fails, "load: the rows of orders cannot be loaded: RuntimeError: not done yet"),
    "load has no return": (lambda rows, time: None, "load: gives no table \\(it is of the type NoneType\\); end it with `return rows`"),
    "load gives a list": (lambda rows, time: [rows], "load: gives no table \\(it is of the type list\\)"),
    "times as objects": (
        as_objects("placed_at", lambda v: v.to_pydatetime()),
        "EVENT_TIME: the column 'placed_at' holds objects of datetime, and is no column of times; make it one",
    ),
    "labels as objects": (as_objects("sent_back", lambda v: "y" if v else "n"), "TARGET: 'sent_back' holds 'n', 'y', as str; make them 0 and 1"),
    "a date with an hour": (
        as_objects("member_since", lambda v: v.to_pydatetime().replace(hour=3)),
        "Record.member_since: Input should be a valid date, and it is datetime.datetime",
    ),
    "load gives nothing": (lambda rows, time: rows.head(0), "load: gives no rows; there is no row before 2024-08-20"),
    "rows after until": (lambda rows, time: rows.assign(sent_back=rows["sent_back"].mask(rows["known_at"] >= time)),
        "load: gives 1,200 rows whose placed_at is not before `until`",
    ),
    "labels known later": (
        lambda rows, time: rows[rows["placed_at"] < time],
        "load: gives 120 labels that become known only at or after `until`",
    ),
    "times without a zone": (
        lambda rows, time: without_the_later(rows, time).assign(placed_at=lambda t: t["placed_at"].dt.tz_localize(None)),
        "EVENT_TIME: the times in 'placed_at' have no zone; .*tz_localize\\('UTC'\\)",
    ),
    "times as texts": (with_column("known_at", lambda t: t["known_at"].astype(str)), "LABEL_TIME: the column 'known_at' holds str"),
    "no decision time": (with_column("placed_at", some("placed_at", pd.NaT)), "EVENT_TIME: is missing in 1 rows"),
    "a label without its time": (
        with_column("known_at", some("known_at", pd.NaT)),
        "LABEL_TIME: is missing where there is a label: 1 rows, for example 'order-2'; say when",
    ),
    "a label before its decision": (
        with_column("known_at", lambda t: t["placed_at"] - pd.Timedelta("1h")),
        "LABEL_TIME: lies before placed_at, so the label .* decision: 4,680 rows, for example 'order-0'; correct one",
    ),
    "classes one and two": (
        with_column("sent_back", lambda t: t["sent_back"].astype("float64") + 1),
        "TARGET: 'sent_back' holds 2; a classification needs 0 and 1",
    ),
    "classes that are words": (
        with_column("sent_back", lambda t: t["sent_back"].map({True: "yes", False: "no"}).astype("str")),
        "TARGET: 'sent_back' holds 'no', 'yes', as str; make them 0 and 1",
    ),
    "one class": (with_column("sent_back", lambda t: t["sent_back"].astype("float64") * 0), "TARGET: 'sent_back' is 0 in every row"),
    "no label at all": (with_column("sent_back", lambda t: np.nan), "TARGET: 'sent_back' is missing in every row"),
    "the same id twice": (
        with_column("order_id", some("order_id", "order-1")),
        "ID: 1 rows have an id that another row has, as 'order-1'",
    ),
    "an id with a space": (with_column("order_id", some("order_id", "order 1")), "ID: 'order 1' and 0 others cannot be sent"),
    "an id with an umlaut": (with_column("order_id", some("order_id", "Köln-1")), "ID: 'Köln-1' and 0 others"),
    "an empty id": (with_column("order_id", some("order_id", "")), "ID: '' and 0 others cannot be sent"),
    "a missing id": (with_column("order_id", some("order_id", None)), "ID: is missing in 1 rows"),
    "ids that are fractions": (with_column("order_id", lambda t: np.arange(len(t)) / 2), "ID: 'order_id' holds float64"),
    "a constant entity": (with_column("customer_id", lambda t: "all"), "ENTITY: 'customer_id' is 'all' in every row"),
    "a column is missing": (
        lambda rows, time: without_the_later(rows, time).rename(columns={"price": "prize"}),
        "load: gives no column 'price', which the Record names; did you mean 'prize'?",
    ),
    "a column too many": (with_column("note", lambda t: 1.0), "load: gives 'note' beside the columns that are named"),
    "a column without values": (
        with_column("returned_before", lambda t: np.nan),
        "Record.returned_before: is missing in every row",
    ),
    "words among numbers": (with_column("price", lambda t: t["price"].astype(str)), "Record.price: Input should be a valid number, and it is '"),
    "a value beyond its bound": (with_column("price", some("price", 1001.5)), "Record.price: .*less than or equal to 1000, and it is 1001.5 in 1 of"),
    "a missing value": (with_column("price", some("price", np.nan)), "Record.price: .*and it is missing in 1 of 4,800 rows"),
    "half an item": (with_column("items", some("items", 2.5, "float64")), "Record.items: .*valid integer, and it is 2.5"),
    "a truth value of two": (with_column("gift", some("gift", 2, "int64")), "Record.gift: .*valid boolean, and it is 2.0"),
    "a day too early": (
        with_column("member_since", some("member_since", pd.Timestamp("2019-12-31"))),
        "Record.member_since: Input should be greater than or equal to 2020-01-01",
    ),
    "few rows": (
        lambda rows, time: without_the_later(rows, time).tail(700),
        "load: too few rows with a label for a training as of 2024-08-20; choose a later --as-of",
    ),
    "the data has ended": (
        lambda rows, time: without_the_later(rows[rows["placed_at"] < "2024-07-10"], time),
        "load: too few rows .*; the data ends on 2024-07-09: choose an earlier --as-of, as 2024-07-13",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "line"), ROWS.values(), ids=ROWS)
def test_a_mistake_in_load_is_one_line(
    sound: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, change: Callable[..., Any], line: str
) -> None:
    monkeypatch.setattr(problem, "load", lambda until, source, cache: change(ALL.copy(), until))
    told = [str(mistake) for mistake in check.mistakes(Settings(home=tmp_path), TIME)]
    assert any(re.match(line, text) for text in told), told
    assert len(told) == 1, told
    assert not any("\n" in text or "cannot be checked" in text for text in told)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"build_model": needs_no_gap}, "build_model: cannot be fitted on 400 rows: ValueError: "),
        ({"TRUSTED_TYPES": ()}, "TRUSTED_TYPES: lacks sklearn.ensemble.*TreePredictor, which the model holds"),
    ],
    ids=["missing values", "a type that nobody reviewed"],
)
def test_a_model_that_does_not_work_on_these_rows_is_one_line(
    sound: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, change: Change, line: str
) -> None:
    applied(monkeypatch, change | {"SEARCH": {}})
    assert re.match(line, told := only(check.mistakes(Settings(home=tmp_path), TIME))), told


@pytest.mark.parametrize("sound", [orders, tickets, *EXAMPLES], indirect=True, ids=lambda module: module.NAME)
def test_a_problem_without_a_mistake_is_told_none(sound: None, tmp_path: Any) -> None:
    assert [str(mistake) for mistake in check.mistakes(Settings(home=tmp_path))] == []


def test_all_mistakes_are_told_and_not_only_the_first(sound: None, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [STATIC[name][0] for name in ("a slash in NAME", "a misspelt slice", "a rule of the gate is misspelt")]
    for change in changes:
        applied(monkeypatch, change)
    found = check.static()
    assert [mistake.where for mistake in found] == ["NAME", "SLICES", "GATE"]
    assert check.told(found).splitlines()[0] == "3 mistakes in problem.py:"


@pytest.mark.parametrize("sound", [friedman], indirect=True, ids=["friedman"])
def test_a_regression_without_a_loss_is_told(sound: None, monkeypatch: pytest.MonkeyPatch) -> None:
    applied(monkeypatch, {
        "evaluate": lambda y, p: {"mae": float(np.abs(y - p).mean()), "r2": 0.9},
        "PRIMARY_METRIC": "mae",
        "GATE": {**friedman.GATE, "limits": {"mae": (None, 2.0)}},
    })  # fmt: skip
    assert only(check.static()).startswith("evaluate: gives neither rmse nor mse")


def test_a_training_of_a_day_is_told_by_its_local_day(
    sound: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem, "TIMEZONE", "Asia/Tokyo")  # where a day begins on the day before, in UTC
    time = pd.Timestamp("2024-06-13", tz="Asia/Tokyo").tz_convert("UTC")
    told = only(check.mistakes(Settings(home=tmp_path), time))
    assert told.startswith("load: too few rows with a label for a training as of 2024-06-13; choose a later --as-of")
    nothing = pd.Timestamp("2024-01-01", tz="Asia/Tokyo").tz_convert("UTC")
    assert "no row before 2024-01-01" in only(check.mistakes(Settings(home=tmp_path), nothing))


OBJECTS: dict[str, Callable[[Any], Any]] = {
    "sent_back": int,
    "items": int,
    "price": lambda value: Decimal(str(value)),
    "member_since": lambda value: value.date(),
    "gift": bool,
}


def test_numbers_and_dates_in_columns_of_objects_are_what_they_are(
    sound: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(until: pd.Timestamp, source: Any, cache: Any) -> pd.DataFrame:
        given = without_the_later(ALL.copy(), until)
        return given.assign(**{name: as_objects(name, kind)(given, until)[name] for name, kind in OBJECTS.items()})

    plain = schema.typed(without_the_later(ALL.copy(), TIME))
    monkeypatch.setattr(problem, "load", load)
    assert check.mistakes(Settings(home=tmp_path), TIME) == []
    pd.testing.assert_frame_equal(source.load(Settings(home=tmp_path), TIME), plain)


def test_a_rare_class_is_among_the_few_rows_that_are_tried(
    sound: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rare = with_column(
        "sent_back", lambda t: t["sent_back"].astype("float64").where(t["sent_back"].isna(), t.index % 2000 == 1)
    )
    monkeypatch.setattr(problem, "load", lambda until, source, cache: rare(ALL.copy(), until))
    assert check.mistakes(Settings(home=tmp_path), TIME) == []
    monkeypatch.setattr(problem, "TRUSTED_TYPES", ())
    assert only(check.mistakes(Settings(home=tmp_path), TIME)).startswith("TRUSTED_TYPES: lacks")


def test_numbers_as_ids_are_taken_as_texts(sound: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    change = with_column("order_id", lambda t: np.arange(len(t)))
    monkeypatch.setattr(problem, "load", lambda until, source, cache: change(ALL.copy(), until))
    assert check.mistakes(Settings(home=tmp_path), TIME) == []


@pytest.mark.integration
def test_a_fit_that_fails_because_of_the_rows_is_left_to_the_training(
    sound: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = with_column("price", lambda t: np.full(len(t), "dear"))
    monkeypatch.setattr(problem, "load", lambda until, source, cache: broken(ALL.copy(), until))
    check.refuse(Settings(home=tmp_path), TIME)  # does not raise: a broken column is bad data
    monkeypatch.setattr(problem, "load", lambda until, source, cache: without_the_later(ALL.copy(), until))
    monkeypatch.setattr(problem, "TRUSTED_TYPES", ())
    with pytest.raises(ProblemRefused, match="TRUSTED_TYPES: lacks"):
        check.refuse(Settings(home=tmp_path), TIME)


WRONG_TIMES: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "before the decision": lambda t: t["placed_at"] - pd.Timedelta("1h"),
    "missing": lambda t: t["known_at"].mask(t["known_at"].notna()),
}


@pytest.mark.integration
@pytest.mark.parametrize("wrong", WRONG_TIMES.values(), ids=WRONG_TIMES)
def test_one_wrong_label_time_is_bad_data_and_wrong_ones_everywhere_are_a_mistake(
    sound: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[pd.DataFrame], pd.Series]
) -> None:
    of_some = with_column("known_at", lambda t: t["known_at"].where(t["order_id"] != "order-7", wrong(t)))
    monkeypatch.setattr(problem, "load", lambda until, source, cache: of_some(ALL.copy(), until))
    check.refuse(Settings(home=tmp_path), TIME)  # does not raise: the step `validate` stops such a training
    stopped = run_training(Settings(home=tmp_path, actor="tester"), Request(TIME), orchestrated=False)
    assert stopped.code == DATA_FAULT
    assert re.search(r"known_at: .* \(1 rows of all, for example order-7\)\nNothing was trained", stopped.line)

    everywhere = with_column("known_at", wrong)
    monkeypatch.setattr(problem, "load", lambda until, source, cache: everywhere(ALL.copy(), until))
    with pytest.raises(ProblemRefused, match=r"^problem\.py: LABEL_TIME: .*: 4,680 rows"):
        check.refuse(Settings(home=tmp_path), TIME)
