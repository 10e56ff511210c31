"""The compiled model: it gives the pipeline's own numbers, or the pipeline serves and says why."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from examples.simulated_regression import problem as friedman
from level1_pipeline import problem, schema
from level1_pipeline.bundle import write
from level1_pipeline.bundle.equivalence import TOLERANCE, prove
from level1_pipeline.bundle.load import COMPILED, MANIFEST, load_bundle, sha256
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.tree_compiler import compile_pipeline
from level1_pipeline.bundle.tree_scorer import Scorer
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.errors import BundleRefused, NotCompilable
from level1_pipeline.schema.scores import shape
from level1_pipeline.schema.task import task
from tests.support import ROOT
from tests.support.problems import in_place

pytestmark = pytest.mark.integration

CLASSIFICATION = task().has_classes
TEXT = [column.name for column in schema.columns() if column.text]
NUMBERS = [column.name for column in schema.columns() if not column.text]
PROFILE = pd.DataFrame({"day": ["2013-01-01"]})
TREES = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
Data = dict[str, Any]


def trees(**parameters: Any) -> Any:
    kind = HistGradientBoostingClassifier if CLASSIFICATION else HistGradientBoostingRegressor
    return kind(**{"max_iter": 40, "early_stopping": False, "random_state": 0, **parameters})


def encoded(model: Any, unknown: Any = np.nan, **parameters: Any) -> Pipeline:
    parameters = {"handle_unknown": "use_encoded_value", "unknown_value": unknown} | parameters
    encode = ColumnTransformer([("codes", OrdinalEncoder(**parameters), TEXT)], remainder="passthrough")
    return Pipeline([("encode", encode), ("model", model)])


@pytest.fixture(autouse=True)
def reviewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trees of these tests may be loaded, whatever the model of the problem is."""
    monkeypatch.setattr(problem, "TRUSTED_TYPES", [*problem.TRUSTED_TYPES, TREES])


@pytest.fixture(scope="module")
def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows[problem.TARGET].notna()].head(4000)


@pytest.fixture(scope="module")
def fit(labelled: pd.DataFrame) -> Callable[[Any], Any]:
    return lambda model: model.fit(labelled[schema.names()], labelled[problem.TARGET])


@pytest.fixture(scope="module")
def pipeline(fit: Callable[[Any], Any]) -> Pipeline:
    return fit(encoded(trees()))


@pytest.fixture(scope="module")
def numbers(pipeline: Pipeline) -> Data:
    """The compiled model as it comes back from its file. Do not change it: change a copy."""
    return json.loads(json.dumps(compile_pipeline(pipeline), allow_nan=False))


@pytest.fixture(scope="module")
def scorer(numbers: Data) -> Scorer:
    return Scorer(numbers)


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
    assert [problem.choose_action(item) for item in ours.tolist()] == [
        problem.choose_action(item) for item in theirs.tolist()
    ]


# ---- the same numbers


def test_it_says_what_the_pipeline_says_about_rows_that_neither_has_seen(
    scorer: Scorer, pipeline: Pipeline, rows: pd.DataFrame
) -> None:
    unseen = rows.tail(10_000)
    expected = predict(pipeline, unseen)
    assert_same(scorer.predict_frame(unseen), expected)
    assert np.array_equal(scorer.predict(schema.records(unseen)), scorer.predict_frame(unseen))
    assert len(np.unique(expected)) > len(unseen) // 10


def test_one_row_alone_gets_the_same_bits_as_in_company(scorer: Scorer, rows: pd.DataFrame) -> None:
    records = schema.records(rows.tail(300))
    assert [scorer.predict([record])[0].tolist() for record in records] == scorer.predict(records).tolist()
    assert scorer.predict([]).shape == shape(0)
    assert scorer.predict_frame(rows.head(0)).shape == shape(0)


def values_of(column: schema.Column) -> st.SearchStrategy[Any]:
    """What the Record allows, and what it refuses though the type is right."""
    if column.text:
        allowed: Any = st.sampled_from(column.allowed) if column.allowed else st.nothing()
        if column.pattern:
            allowed = st.from_regex(column.pattern, fullmatch=True)
        typed: Any = allowed | st.text(max_size=4)
    else:
        typed = st.floats(column.low, column.high) | st.floats(allow_nan=False, allow_infinity=False)
    return st.none() | typed


RECORDS = st.lists(
    st.fixed_dictionaries({column.name: values_of(column) for column in schema.columns()}), min_size=1, max_size=40
)


@examples(max_examples=60, deadline=None)
@given(records=RECORDS)
@pytest.mark.slow
def test_it_says_what_the_pipeline_says_about_any_typed_record(
    scorer: Scorer, pipeline: Pipeline, records: list[Data]
) -> None:
    expected = predict(pipeline, schema.frame(records))
    assert_same(scorer.predict(records), expected)
    assert_same(scorer.predict_frame(schema.frame(records)), expected)


def test_at_every_threshold_and_right_beside_it_the_prediction_is_the_pipelines(
    numbers: Data, scorer: Scorer, pipeline: Pipeline, rows: pd.DataFrame
) -> None:
    names, jumps = [item["name"] for item in numbers["inputs"]], 0
    for name in NUMBERS:
        request = thresholds_of(numbers, names.index(name))
        if not request:
            continue
        company = rows.head(1).loc[[0] * 3 * len(request), schema.names()]
        at = company.assign(
            **{name: [np.nextafter(item, side) for item in request for side in (-np.inf, item, np.inf)]}
        )
        expected = predict(pipeline, at)
        assert_same(scorer.predict_frame(at), expected)
        below, exactly, above = (expected[place::3] for place in range(3))
        assert np.array_equal(below, exactly), "a threshold belongs to its left side"
        jumps += int((exactly != above).sum())
    assert jumps > 20


def thresholds_of(numbers: Data, feature: int) -> list[float]:
    request = {
        tree["threshold"][node]
        for tree in numbers["trees"]
        for node, left in enumerate(tree["left"])
        if left >= 0 and tree["feature"][node] == feature
    }
    return sorted(item for item in request if item < sys.float_info.max)


def test_missing_values_and_unseen_categories_go_where_the_pipeline_sends_them(
    fit: Callable[[Any], Any], labelled: pd.DataFrame, rows: pd.DataFrame
) -> None:
    for unknown in (np.nan, -1, 10**6):
        pipeline = fit(encoded(trees(), unknown))
        scorer = Scorer(compile_pipeline(pipeline))
        for name in schema.names():
            some = rows.tail(200).astype({name: object})
            some.loc[some.index[:100], name] = None
            some.loc[some.index[100:], name] = "never seen" if name in TEXT else 1e300
            some = some.astype({name: schema.dtypes()[name]})
            assert_same(scorer.predict_frame(some), predict(pipeline, some))
            assert_same(scorer.predict(schema.records(some)), predict(pipeline, some))


def test_categories_that_were_missing_in_training_are_known(labelled: pd.DataFrame) -> None:
    if not TEXT:
        pytest.skip("this problem has no text inputs")
    holes = labelled[schema.names()].astype({TEXT[0]: object})
    holes.loc[holes.index[::5], TEXT[0]] = None
    holes = holes.astype(schema.dtypes())
    for unknown in (np.nan, -1):
        pipeline = encoded(trees(), unknown, encoded_missing_value=-2).fit(holes, labelled[problem.TARGET])
        numbers = compile_pipeline(pipeline)
        assert_same(Scorer(numbers).predict_frame(holes), predict(pipeline, holes))
        assert prove(numbers, pipeline, holes)["largest_difference"] <= TOLERANCE


@pytest.mark.parametrize(
    "parameters",
    [{"min_samples_leaf": 10**6}, {"max_leaf_nodes": 2}, {"max_leaf_nodes": 64, "max_iter": 10}, {"max_iter": 1}],
    ids=str,
)
def test_trees_of_any_size_up_to_64_leaves(
    fit: Callable[[Any], Any], rows: pd.DataFrame, parameters: dict[str, Any]
) -> None:
    pipeline = fit(encoded(trees(**parameters)))
    numbers = compile_pipeline(pipeline)
    scorer = Scorer(numbers)
    assert_same(scorer.predict_frame(rows.tail(2000)), predict(pipeline, rows.tail(2000)))
    assert_same(scorer.predict(schema.records(rows.tail(50))), predict(pipeline, rows.tail(50)))
    assert prove(numbers, pipeline, rows.head(500))["rows_compared"] >= 500


MASK = [column.text for column in schema.columns()]
PLACES = np.flatnonzero(MASK)
CHOSEN: list[Any] = [MASK, np.array(MASK), PLACES, PLACES.tolist(), lambda rows: TEXT]
if TEXT and len(PLACES) == PLACES[-1] - PLACES[0] + 1:
    CHOSEN += [slice(int(PLACES[0]), int(PLACES[-1]) + 1), slice(TEXT[0], TEXT[-1])]


@pytest.mark.skipif(not TEXT, reason="this problem has no text inputs")
@pytest.mark.parametrize("columns", CHOSEN, ids=[f"{n} {type(item).__name__}" for n, item in enumerate(CHOSEN)])
def test_however_the_encoder_was_told_its_columns_the_pipeline_is_compiled(
    fit: Callable[[Any], Any], labelled: pd.DataFrame, tmp_path: Path, columns: Any
) -> None:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    unused = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    nothing = np.zeros(len(MASK), bool)
    steps = [("unused", unused, nothing), ("codes", codes, columns), ("dropped", "drop", NUMBERS[:1])]
    pipeline = fit(make_pipeline(ColumnTransformer(steps, remainder="passthrough"), trees(max_iter=5)))
    write_bundle(tmp_path / "1", pipeline, labelled.tail(300), {}, PROFILE)
    loaded = load_bundle(tmp_path / "1")
    assert loaded.manifest["engine"]["name"] == "compiled", loaded.manifest["engine"]
    assert_same(loaded.predict_frame(labelled.head(300)), predict(pipeline, labelled.head(300)))


def test_the_problems_own_recipe_is_compiled_and_proved(fit: Callable[[Any], Any], rows: pd.DataFrame) -> None:
    pipeline = fit(problem.build_model())
    try:
        numbers, holdout = compile_pipeline(pipeline), rows.iloc[4000:9000]
    except NotCompilable as why:
        if problem.NAME == "flight_delay":
            raise
        pytest.skip(f"the model of {problem.NAME} is not compiled: {why}")
    proof = prove(numbers, pipeline, holdout)
    assert proof["largest_difference"] <= TOLERANCE
    comparisons = sum(left >= 0 for tree in numbers["trees"] for left in tree["left"])
    assert proof["rows_compared"] > len(holdout) + 2 * comparisons


# ---- the proof can fail


def tampered(numbers: Data, change: Callable[[Data], None]) -> Data:
    changed = copy.deepcopy(numbers)
    change(changed)
    assert changed != numbers
    return changed


def inner_nodes(numbers: Data) -> Iterator[tuple[Data, int]]:
    """Every comparison of every tree with a number that a Record can hold: not with a code, nor of missing values."""
    coded = {feature for feature, item in enumerate(numbers["inputs"]) if "codes" in item}
    for tree in numbers["trees"]:
        for node, left in enumerate(tree["left"]):
            if left >= 0 and tree["threshold"][node] < sys.float_info.max and tree["feature"][node] not in coded:
                yield tree, node


def assert_refused(numbers: Data, pipeline: Pipeline, rows: pd.DataFrame) -> None:
    with pytest.raises(NotCompilable, match=r"rows differ by up to .*decisions flip"):
        prove(numbers, pipeline, rows)


def move_thresholds(side: float) -> Callable[[Data], None]:
    def change(numbers: Data) -> None:
        for tree, node in inner_nodes(numbers):
            tree["threshold"][node] = float(np.nextafter(tree["threshold"][node], side))

    return change


def as_32_bits(numbers: Data) -> None:
    for tree, node in inner_nodes(numbers):
        tree["threshold"][node] = float(np.float32(tree["threshold"][node]))


def has_longer_thresholds(numbers: Data) -> bool:
    return any(tree["threshold"][node] != np.float32(tree["threshold"][node]) for tree, node in inner_nodes(numbers))


def missing_to_the_other_side(numbers: Data) -> None:
    tree, node = next(inner_nodes(numbers))
    tree["missing_left"][node] = not tree["missing_left"][node]


def add_to_the_base(numbers: Data) -> None:
    base = np.array(numbers["base"])
    base.flat[0] += 1e-9  # of several classes that of one: a softmax does not see what is added to all
    numbers["base"] = base.tolist()


def swap_two_inputs(numbers: Data) -> None:
    numbers["inputs"][-2:] = numbers["inputs"][:-3:-1]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(move_thresholds(np.inf), id="thresholds one bit up"),
        pytest.param(move_thresholds(-np.inf), id="thresholds one bit down"),
        as_32_bits,
        missing_to_the_other_side,
        add_to_the_base,
        swap_two_inputs,
    ],
)
def test_a_model_that_is_slightly_another_one_is_not_proved(
    numbers: Data, pipeline: Pipeline, labelled: pd.DataFrame, change: Callable[[Data], None]
) -> None:
    if change is as_32_bits and not has_longer_thresholds(numbers):
        pytest.skip(f"every threshold of {problem.NAME} is a number of 32 bits")
    assert_refused(tampered(numbers, change), pipeline, labelled.tail(1000))


PLANTED = [5, pytest.param(40, marks=pytest.mark.slow)]  # each proof of a planted place takes a quarter of a second


@pytest.mark.parametrize("count", PLANTED)
@pytest.mark.parametrize("side", [-np.inf, np.inf])
def test_one_single_threshold_that_is_one_bit_off_is_found_wherever_it_is(
    numbers: Data, pipeline: Pipeline, labelled: pd.DataFrame, side: float, count: int
) -> None:
    places = list(inner_nodes(numbers))
    for tree, node in places[:: len(places) // count]:
        right = tree["threshold"][node]
        tree["threshold"][node] = float(np.nextafter(right, side))
        try:
            assert_refused(numbers, pipeline, labelled.tail(1000))
        finally:
            tree["threshold"][node] = right


@pytest.mark.parametrize("count", PLANTED)
def test_one_leaf_that_is_off_by_a_billionth_is_found_wherever_it_is(
    numbers: Data, pipeline: Pipeline, labelled: pd.DataFrame, count: int
) -> None:
    leaves = [(tree, node) for tree in numbers["trees"] for node, left in enumerate(tree["left"]) if left < 0]
    for tree, node in leaves[:: len(leaves) // count]:
        right = tree["value"][node]
        tree["value"][node] = right + 1e-9
        try:
            assert_refused(numbers, pipeline, labelled.tail(1000))
        finally:
            tree["value"][node] = right


def test_two_categories_that_changed_their_codes_are_found(
    numbers: Data, pipeline: Pipeline, labelled: pd.DataFrame
) -> None:
    coded = [number for number, item in enumerate(numbers["inputs"]) if "codes" in item]
    result = 0
    for number in coded:
        split = thresholds_of(numbers, number)
        if not split:
            continue
        seen_before = numbers["inputs"][number]["codes"]
        low = next(name for name, code in seen_before.items() if code <= split[0])
        high = next(name for name, code in seen_before.items() if code > split[0])

        def swap(changed: Data, number: int = number, low: str = low, high: str = high) -> None:
            codes = changed["inputs"][number]["codes"]
            codes[low], codes[high] = codes[high], codes[low]

        assert_refused(tampered(numbers, swap), pipeline, labelled.tail(1000))
        result += 1
    if not result:
        pytest.skip("no tree asks about a text input of this problem")


def test_an_altered_compiled_model_with_a_fitting_manifest_fails_its_golden_predictions(
    numbers: Data, pipeline: Pipeline, labelled: pd.DataFrame, tmp_path: Path
) -> None:
    folder = tmp_path / "1"
    write_bundle(folder, pipeline, labelled.tail(500), {}, PROFILE)
    assert load_bundle(folder).manifest["engine"]["name"] == "compiled"
    for change in (add_to_the_base, swap_two_inputs):
        (folder / COMPILED).write_text(json.dumps(tampered(numbers, change)))
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"][COMPILED] = sha256(folder / COMPILED)
        (folder / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(BundleRefused, match="predicts other numbers"):
            load_bundle(folder)


# ---- whatever a cloner brings is served


class Doubled(BaseEstimator, TransformerMixin):
    """A step that only its author knows."""

    def fit(self, rows: Any, target: Any = None) -> Doubled:
        self.fitted_ = True
        return self

    def transform(self, rows: Any) -> Any:
        return rows * 2


class Halved(HistGradientBoostingClassifier if CLASSIFICATION else HistGradientBoostingRegressor):  # type: ignore[misc]
    """An estimator that says something else than its trees."""

    def predict_proba(self, rows: Any) -> Any:
        others = super().predict_proba(rows)[:, 1:] / 2
        return np.column_stack([1 - others.sum(axis=1), others])

    def predict(self, rows: Any) -> Any:
        return super().predict(rows) / 2


def linear() -> Pipeline:
    text = OneHotEncoder(handle_unknown="ignore")
    encode = ColumnTransformer([("text", text, TEXT)], remainder=make_pipeline(SimpleImputer(), StandardScaler()))
    return Pipeline([("encode", encode), ("model", LogisticRegression(max_iter=5000) if CLASSIFICATION else Ridge())])


def forest() -> Any:
    return (RandomForestClassifier if CLASSIFICATION else RandomForestRegressor)(10, max_leaf_nodes=30, random_state=0)


HERE = __name__
BROUGHT = [
    pytest.param(lambda: encoded(forest()), ["sklearn.tree._tree.Tree"], "averages|ends in", id="a forest"),
    pytest.param(linear, ["numpy.dtype"], "OneHotEncoder, not an OrdinalEncoder", id="a linear model"),
    pytest.param(
        lambda: Pipeline([*encoded(None).steps[:1], ("double", Doubled()), ("model", trees())]),
        [TREES, f"{HERE}.Doubled"],
        "3 steps is no encoder and model",
        id="a transformer of its own between the two",
    ),
    pytest.param(
        lambda: Pipeline([
            ("encode", ColumnTransformer([("double", Doubled(), NUMBERS)], remainder="drop")),
            ("model", trees()),
        ]),
        [TREES, f"{HERE}.Doubled"],
        "pass through a Doubled, not an OrdinalEncoder",
        id="a transformer of its own in the encoder",
    ),
    pytest.param(
        lambda: encoded(Halved(max_iter=10, early_stopping=False)),
        [TREES, f"{HERE}.Halved"],
        "a Halved is not scikit-learn's own",
        id="a subclass that predicts otherwise",
    ),
    pytest.param(
        lambda: encoded(trees(), handle_unknown="error", unknown_value=None),
        [TREES],
        "no code for unknown values",
        id="an encoder that refuses unknown categories",
        marks=pytest.mark.skipif(not TEXT, reason="this problem has no text inputs"),
    ),
    pytest.param(
        lambda: encoded(trees(max_leaf_nodes=100, max_iter=5, min_samples_leaf=2)),
        [TREES],
        "leaves; at most 64",
        id="trees of a hundred leaves",
    ),
    pytest.param(
        lambda: make_pipeline(encoded(None).steps[0][1], make_pipeline(trees())),
        [TREES],
        "treelite cannot read a Pipeline",
        id="a pipeline in the pipeline",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("build", "trusted", "why"), BROUGHT)
def test_a_model_that_cannot_be_compiled_is_served_by_scikit_learn_which_says_why(
    fit: Callable[[Any], Any],
    labelled: pd.DataFrame,
    rows: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    build: Callable[[], Any],
    trusted: list[str],
    why: str,
) -> None:
    if "64" in why and len(labelled) < 1000:
        pytest.skip(f"{problem.NAME} has too few rows for trees of so many leaves: {len(labelled)}")
    monkeypatch.setattr(problem, "TRUSTED_TYPES", trusted)
    pipeline = fit(build())
    write_bundle(tmp_path / "1", pipeline, labelled.tail(300), {}, PROFILE)
    loaded = load_bundle(tmp_path / "1")
    assert loaded.manifest["engine"]["name"] == "scikit-learn"
    assert pd.Series([loaded.manifest["engine"]["why"]]).str.contains(why).all(), loaded.manifest["engine"]
    assert loaded.scorer is None
    assert not (tmp_path / "1" / COMPILED).exists()
    some = labelled.head(200)
    expected = predict(pipeline, some)
    assert np.array_equal(loaded.predict(schema.records(some)), expected)
    assert np.array_equal(loaded.predict_frame(some), expected)
    assert np.array_equal(loaded.predict_columns(schema.from_frame(some)), expected)
    assert len(np.unique(expected)) > 10


@pytest.mark.parametrize("error", [KeyError("visib"), RecursionError("too deep"), TypeError("no len")], ids=repr)
def test_whatever_goes_wrong_while_compiling_costs_speed_and_not_the_training(
    pipeline: Pipeline, labelled: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: Any) -> None:
        raise error

    monkeypatch.setattr(write, "compile_pipeline", fail)
    write_bundle(tmp_path / "1", pipeline, labelled.tail(100), {}, PROFILE)
    engine = load_bundle(tmp_path / "1").manifest["engine"]
    why = f"the compilation failed ({type(error).__name__}: {error})"
    assert engine == {"name": "scikit-learn", "why": why}


def test_a_compiled_form_that_json_cannot_say_is_not_written(
    numbers: Data, pipeline: Pipeline, labelled: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "compile_pipeline", lambda _: {**numbers, "note": np.inf})
    write_bundle(tmp_path / "1", pipeline, labelled.tail(100), {}, PROFILE)
    assert "not JSON compliant" in load_bundle(tmp_path / "1").manifest["engine"]["why"]
    assert not (tmp_path / "1" / COMPILED).exists()


@pytest.mark.parametrize("library", ["xgboost.sklearn", "lightgbm.sklearn"])
def test_trees_of_another_library_are_not_compiled_and_the_reason_is_the_library(
    fit: Callable[[Any], Any], library: str
) -> None:
    other = type("Boosted", (type(trees()),), {"__module__": library})
    with pytest.raises(NotCompilable, match="a Boosted is not scikit-learn's own"):
        compile_pipeline(fit(encoded(other(max_iter=5, early_stopping=False))))


def test_without_its_type_in_the_reviewed_list_it_is_not_loaded(
    fit: Callable[[Any], Any], labelled: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem, "TRUSTED_TYPES", [TREES])
    pipeline = fit(encoded(Halved(max_iter=5, early_stopping=False)))
    write_bundle(tmp_path / "1", pipeline, labelled.tail(100), {}, PROFILE)
    with pytest.raises(BundleRefused, match=r"Halved.*add them to TRUSTED_TYPES"):
        load_bundle(tmp_path / "1")


# ---- what it costs to load, and other problems


def test_a_compiled_bundle_is_loaded_and_asked_without_scikit_learn_and_pandas(
    pipeline: Pipeline, labelled: pd.DataFrame, tmp_path: Path
) -> None:
    write_bundle(tmp_path / "1", pipeline, labelled.tail(100), {}, PROFILE)
    record = schema.records(labelled.head(1))[0]
    code = (
        "import json, sys; from pathlib import Path; from level1_pipeline.bundle.load import load_bundle\n"
        "said = load_bundle(Path(sys.argv[1])).predict([json.loads(sys.argv[2])])\n"
        "heavy = {'sklearn', 'pandas', 'scipy', 'skops', 'treelite'} & set(sys.modules)\n"
        "print(json.dumps([said[0].tolist(), sorted(heavy)]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "1"), json.dumps(record)]
    said, heavy = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert said == pytest.approx(predict(pipeline, labelled.head(1))[0].tolist(), abs=TOLERANCE)
    assert heavy == []


@pytest.fixture
def regression(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The simulated regression in the place of problem.py."""
    with in_place(friedman, monkeypatch):
        yield friedman


def test_a_regression_is_compiled_proved_and_served(regression: ModuleType, tmp_path: Path) -> None:
    rows = regression.load(pd.Timestamp("2100-01-01", tz="UTC"))
    train, holdout = rows.head(4000), rows.tail(2000)
    pipeline = regression.build_model().fit(train[schema.names()], train[regression.TARGET])
    write_bundle(tmp_path / "1", pipeline, holdout, {}, PROFILE)
    loaded = load_bundle(tmp_path / "1")
    assert loaded.manifest["engine"]["name"] == "compiled"
    expected = pipeline.predict(holdout[schema.names()])
    np.testing.assert_allclose(loaded.predict_frame(holdout), expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(loaded.predict(schema.records(holdout)), expected, rtol=0, atol=TOLERANCE)
    assert expected.std() > 1
