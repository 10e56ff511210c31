"""The bundle: what comes back is what was trained, or nothing comes back."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import create_model
from pydantic.fields import FieldInfo
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import (
    COMPILED,
    EVALUATION_MODEL,
    GOLDEN,
    GOLDEN_TOLERANCE,
    MANIFEST,
    MODEL,
    PROFILE,
    bundle_checksum,
    load_bundle,
    sha256,
    verify_bundle,
)
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.write import seal_bundle, write_bundle
from level1_pipeline.errors import BundleRefused, OtherContract
from level1_pipeline.schema.task import task
from tests.support.bundles import demand_compiled, is_compiled

pytestmark = pytest.mark.integration

TEXTS = [column.name for column in schema.columns() if column.text]
NUMBERS = [column.name for column in schema.columns() if column.kind is schema.Kind.NUMBER]
FILES = (COMPILED, MODEL, GOLDEN, PROFILE)  # the first one only where the model is compiled
DAYS = pd.DataFrame({"day": ["2013-01-01", "2013-01-02"], "count": [842, 943]})  # the bundle carries any table


@pytest.fixture(scope="module")
def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows[problem.TARGET].notna()].head(3000)


@pytest.fixture(scope="module")
def pipeline(labelled: pd.DataFrame) -> Pipeline:
    return problem.build_model().fit(labelled[schema.names()], labelled[problem.TARGET])


@pytest.fixture(scope="module")
def written(pipeline: Pipeline, labelled: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good bundle. Do not spoil it: spoil a copy."""
    folder = tmp_path_factory.mktemp("bundles") / "1"
    write_bundle(folder, pipeline, labelled.head(50), {"version": "1", "window": ["2013-01-01", "2013-02-01"]}, DAYS)
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "copy"))


def files_of(folder: Path) -> list[str]:
    """The files of the problem's own model."""
    return [name for name in FILES if name != COMPILED or is_compiled(folder)]


def rewrite_manifest(folder: Path, **changes: Any) -> None:
    """What an attacker with write access does: make the checksums fit the altered files."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {name: sha256(folder / name) for name in files_of(folder)}
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


# ---- round trip


@pytest.mark.evidence("Infra 2")
def test_a_loaded_bundle_predicts_what_the_trained_pipeline_says_one_by_one_and_together(
    written: Path, pipeline: Pipeline, rows: pd.DataFrame
) -> None:
    unseen = rows.iloc[-500:]
    expected = predict(pipeline, unseen)
    loaded = load_bundle(written)
    records = schema.records(unseen)
    assert bool(loaded.scorer) == is_compiled(written)
    np.testing.assert_allclose(loaded.predict(records), expected, rtol=0, atol=GOLDEN_TOLERANCE)
    alone, together = np.array([loaded.predict([item])[0] for item in records[:100]]), loaded.predict(records)[:100]
    # The bits are the same where the model is compiled; a sum in scikit-learn depends on how many rows there are.
    close = 0 if loaded.scorer else GOLDEN_TOLERANCE
    np.testing.assert_allclose(alone, together, rtol=0, atol=close)
    np.testing.assert_allclose(loaded.predict_frame(unseen), loaded.predict(records), rtol=0, atol=close)
    assert np.array_equal(predict(loaded.pipeline, unseen), expected)
    assert len(np.unique(expected)) > 50


def test_predictions_come_in_the_order_of_the_records_whatever_the_order_of_their_fields(
    written: Path, labelled: pd.DataFrame
) -> None:
    loaded, records = load_bundle(written), schema.records(labelled.head(40))
    expected = loaded.predict(records)
    assert np.array_equal(loaded.predict(records[::-1]), expected[::-1])
    assert np.array_equal(loaded.predict([dict(reversed(item.items())) for item in records]), expected)


def test_the_manifest_says_what_the_bundle_is(written: Path) -> None:
    manifest = load_bundle(written).manifest
    assert (manifest["problem"], manifest["version"]) == (problem.NAME, "1")
    assert set(manifest["files"]) == set(files_of(written))
    assert {file.name for file in written.iterdir()} == {MANIFEST, *files_of(written)}
    assert pd.read_parquet(written / PROFILE).equals(DAYS)
    assert verify_bundle(written) == manifest


def test_writing_again_replaces_the_older_bundle_and_leaves_no_rest(
    copy: Path, pipeline: Pipeline, labelled: pd.DataFrame
) -> None:
    before = bundle_checksum(copy)
    after = write_bundle(copy, pipeline, labelled.head(10), {"version": "2"}, DAYS)
    assert before != after == bundle_checksum(copy)
    assert load_bundle(copy).manifest["version"] == "2"
    assert [file.name for file in copy.parent.iterdir()] == [copy.name]


def test_sealing_adds_what_became_known_later_and_keeps_the_same_files(copy: Path, tmp_path: Path) -> None:
    sealed = seal_bundle(copy, tmp_path / "sealed", {"verdict": "pass"})
    before, after = load_bundle(copy).manifest, load_bundle(sealed).manifest
    assert after == before | {"verdict": "pass"}
    assert {file.name for file in tmp_path.iterdir()} == {"copy", "sealed"}


def test_a_damaged_bundle_is_not_sealed(copy: Path, tmp_path: Path) -> None:
    (copy / MODEL).write_bytes(b"something else")
    with pytest.raises(BundleRefused):
        seal_bundle(copy, tmp_path / "sealed", {})
    assert not (tmp_path / "sealed").exists()


def test_a_file_that_changes_while_it_is_copied_is_not_sealed(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copytree(source: Path, target: Path) -> None:
        whole(source, target)
        (target / MODEL).write_bytes(b"something else")

    whole = shutil.copytree
    monkeypatch.setattr(shutil, "copytree", copytree)
    with pytest.raises(BundleRefused, match=rf"{MODEL} .* is not what was registered"):
        seal_bundle(copy, tmp_path / "sealed", {"verdict": "pass"})
    assert {file.name for file in tmp_path.iterdir()} == {"copy"}


def test_the_seal_covers_no_file_that_was_not_registered(copy: Path, tmp_path: Path) -> None:
    demand_compiled(copy)
    manifest = json.loads((copy / MANIFEST).read_text())
    del manifest["files"][COMPILED]  # scikit-learn serves, and somebody puts other numbers beside it
    (copy / MANIFEST).write_text(json.dumps(manifest))
    sealed = load_bundle(seal_bundle(copy, tmp_path / "sealed", {}))
    assert (sealed.manifest["files"], sealed.scorer) == (manifest["files"], None)


@pytest.fixture
def with_evidence(copy: Path, written: Path, tmp_path: Path) -> Path:
    """A bundle with another one inside, as the evidence of what was judged."""
    return seal_bundle(copy, tmp_path / "sealed", {"verdict": "pass"}, written)


def test_the_evaluation_model_lies_inside_the_bundle_and_can_be_loaded(with_evidence: Path, written: Path) -> None:
    served = load_bundle(with_evidence)
    judged = served.evaluation_model
    assert judged is not None
    assert judged.manifest == load_bundle(written).manifest
    assert judged.evaluation_model is None
    files = files_of(written)
    assert set(served.manifest["files"]) == {*files, *(f"{EVALUATION_MODEL}/{name}" for name in (*files, MANIFEST))}


@pytest.mark.parametrize("name", [MODEL, MANIFEST])
def test_a_bundle_whose_evidence_was_changed_or_removed_is_refused(with_evidence: Path, name: str) -> None:
    file = with_evidence / EVALUATION_MODEL / name
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    with pytest.raises(BundleRefused, match=f"{EVALUATION_MODEL}/{name} .* is not what was registered"):
        load_bundle(with_evidence)
    file.unlink()
    with pytest.raises(BundleRefused, match="not a complete bundle"):
        load_bundle(with_evidence)


def test_damaged_evidence_is_not_sealed(copy: Path, written: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(written, tmp_path / "damaged"))
    (damaged / PROFILE).write_bytes(b"something else")
    with pytest.raises(BundleRefused):
        seal_bundle(copy, tmp_path / "sealed", {}, damaged)
    assert not (tmp_path / "sealed").exists()


def test_records_hold_none_for_what_is_missing_and_survive_json(rows: pd.DataFrame) -> None:
    nullable = [column.name for column in schema.columns() if column.nullable]
    some = rows.head(300)
    records = schema.records(some)
    assert json.loads(json.dumps(records, allow_nan=False)) == records
    assert [list(item) for item in records] == [schema.names()] * 300
    missing = some[schema.names()].isna().to_numpy()
    assert [[value is None for value in item.values()] for item in records] == missing.tolist()
    assert missing.any() == bool(nullable)
    pd.testing.assert_frame_equal(schema.frame(records), some[schema.names()].reset_index(drop=True), check_exact=True)


def test_a_frame_of_one_record_has_the_types_of_training_even_if_all_is_missing(labelled: pd.DataFrame) -> None:
    nothing = dict.fromkeys(schema.names())
    assert schema.frame([nothing]).dtypes.equals(labelled[schema.names()].dtypes)
    assert schema.frame([]).dtypes.equals(labelled[schema.names()].dtypes)


# ---- what is refused


@pytest.mark.evidence("an artifact is damaged", "Level 1: safe to load")
@examples(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), which=st.integers(0, len(FILES) - 1))
def test_a_flipped_bit_anywhere_is_refused(written: Path, place: float, bit: int, which: int) -> None:
    names = files_of(written)
    file = written / names[which % len(names)]
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[int(place * len(content))] ^= 1 << bit
    file.write_bytes(flipped)
    try:
        with pytest.raises(BundleRefused, match="SHA-256 differs"):
            load_bundle(written)
    finally:
        file.write_bytes(content)
    verify_bundle(written)


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
def test_a_missing_file_is_refused_and_named(copy: Path, name: str) -> None:
    if name == COMPILED:
        demand_compiled(copy)
    (copy / name).unlink()
    with pytest.raises(BundleRefused, match=rf"not a complete bundle .*{name}"):
        load_bundle(copy)


@pytest.mark.parametrize("name", [MANIFEST, *FILES])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_truncated_file_is_refused(copy: Path, name: str, share: float) -> None:
    if name == COMPILED:
        demand_compiled(copy)
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(BundleRefused):
        load_bundle(copy)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="bring it back"):
        load_bundle(tmp_path / "nowhere")


def test_a_bundle_of_another_problem_is_refused(copy: Path) -> None:
    rewrite_manifest(copy, problem="another")
    with pytest.raises(BundleRefused, match=f"made for 'another', but this is '{problem.NAME}'"):
        load_bundle(copy)


def test_a_manifest_that_lists_no_files_vouches_for_nothing(copy: Path) -> None:
    rewrite_manifest(copy, files={})
    with pytest.raises(BundleRefused, match="not a complete bundle"):
        load_bundle(copy)


def edit_manifest(edit: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        manifest = json.loads((folder / MANIFEST).read_text())
        edit(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return spoil


def spoil_golden(content: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / GOLDEN).write_text(content)
        rewrite_manifest(folder)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda folder: (folder / MANIFEST).write_text("[]"), id="manifest is a list"),
        pytest.param(edit_manifest(lambda manifest: manifest.pop("files")), id="no files"),
        pytest.param(
            edit_manifest(lambda manifest: manifest.update(files=list(manifest["files"]))),
            id="files without digests",
        ),
        pytest.param(edit_manifest(lambda manifest: manifest.pop("problem")), id="no problem"),
        pytest.param(spoil_golden("{}"), id="no golden records"),
        pytest.param(spoil_golden('{"records": [], "predictions": []}'), id="empty golden records"),
    ],
)
def test_a_malformed_bundle_is_refused_like_a_damaged_one(copy: Path, spoil: Callable[[Path], None]) -> None:
    spoil(copy)
    with pytest.raises(BundleRefused):
        load_bundle(copy)


class Payload:
    """Unpickled, it makes a folder: the harmless stand-in for whatever an attacker would run."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


def test_a_pickle_in_place_of_the_model_never_runs_even_with_a_fitting_manifest(copy: Path, tmp_path: Path) -> None:
    proof = tmp_path / "it ran"
    payload = pickle.dumps(Payload(proof))
    (copy / MODEL).write_bytes(payload)
    with pytest.raises(BundleRefused, match="SHA-256 differs"):
        load_bundle(copy).pipeline  # noqa: B018
    rewrite_manifest(copy)
    with pytest.raises(BundleRefused, match="not a readable skops file"):
        load_bundle(copy).pipeline  # noqa: B018
    assert not proof.exists()
    pickle.loads(payload)  # the payload is a real one
    assert proof.exists()


@pytest.mark.evidence("a model file is an attack", "Level 1: safe to load")
def test_a_pickle_hidden_in_an_array_of_the_model_never_runs(copy: Path, tmp_path: Path) -> None:
    proof = tmp_path / "it ran"
    hidden = io.BytesIO()
    np.save(hidden, np.array([Payload(proof)], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(copy / MODEL) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    arrays = [name for name in members if name.endswith(".npy")]
    assert arrays
    with zipfile.ZipFile(copy / MODEL, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, hidden.getvalue() if name in arrays else content)
    rewrite_manifest(copy)
    with pytest.raises(BundleRefused, match="not a readable skops file"):
        load_bundle(copy).pipeline  # noqa: B018
    assert not proof.exists()
    np.load(io.BytesIO(hidden.getvalue()), allow_pickle=True)
    assert proof.exists()


def numeric(labelled: pd.DataFrame) -> pd.DataFrame:
    return labelled[[column.name for column in schema.columns() if not column.text]].fillna(0.0)


@pytest.mark.parametrize(
    ("step", "untrusted"),
    [
        pytest.param(FunctionTransformer(os.system), "posix.system", id="a function of the operating system"),
        pytest.param(
            RandomForestRegressor(5, random_state=0),
            "sklearn.tree._tree.Tree",
            id="a forest",
            marks=pytest.mark.flights,
        ),
    ],
)
def test_a_type_that_nobody_reviewed_is_refused_by_name(
    copy: Path, labelled: pd.DataFrame, step: Any, untrusted: str
) -> None:
    if hasattr(step, "predict"):
        step.fit(numeric(labelled), labelled[problem.TARGET])
    skops.io.dump(Pipeline([("step", step)]), copy / MODEL)
    rewrite_manifest(copy)
    with pytest.raises(BundleRefused, match=rf"(?s)types that nobody reviewed.*{untrusted}.*add them to TRUSTED_TYPES"):
        load_bundle(copy).pipeline  # noqa: B018


@pytest.mark.parametrize("off", [1e-6, float("nan")])
def test_a_model_that_predicts_other_numbers_than_in_training_is_refused(copy: Path, off: float) -> None:
    golden = json.loads((copy / GOLDEN).read_text())
    golden["predictions"][7] = (np.array(golden["predictions"][7]) + off).tolist()
    (copy / GOLDEN).write_text(json.dumps(golden))
    rewrite_manifest(copy)
    with pytest.raises(BundleRefused, match="predicts other numbers"):
        load_bundle(copy)


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Gives the problem another Record, by its fields."""

    def change(fields: dict[str, Any]) -> None:
        kinds: Any = {name: (field.annotation, field) for name, field in fields.items()}
        monkeypatch.setattr(problem, "Record", create_model("Record", __config__=problem.Record.model_config, **kinds))
        schema.columns.cache_clear()

    yield change
    monkeypatch.undo()
    schema.columns.cache_clear()


@pytest.mark.evidence("Checklist 7")
@pytest.mark.parametrize("name", [schema.names()[0], schema.names()[-1]])
def test_a_model_that_was_trained_for_other_inputs_is_refused_and_they_are_named(
    written: Path, record: Callable[[dict[str, Any]], None], name: str
) -> None:
    fields = problem.Record.model_fields
    record({f"new_{item}" if item == name else item: field for item, field in fields.items()})
    with pytest.raises(
        BundleRefused, match=rf"was trained for other inputs: the Record has no {name}; train one for them"
    ):
        load_bundle(written)


@pytest.mark.parametrize("release", ["this one", "an earlier one"])
@pytest.mark.parametrize("name", [NUMBERS[0], TEXTS[-1]] if TEXTS else NUMBERS[:1])
def test_an_input_that_became_a_number_or_a_text_is_another_contract_and_named(
    copy: Path, record: Callable[[dict[str, Any]], None], name: str, release: str
) -> None:
    if release == "an earlier one":  # whose manifest does not say the forms of the inputs
        manifest = json.loads((copy / MANIFEST).read_text())
        del manifest["inputs"]
        (copy / MANIFEST).write_text(json.dumps(manifest))
    record({**problem.Record.model_fields, name: FieldInfo(annotation=float | None if name in TEXTS else str | None)})
    told = (
        f"{name} was a (date or )?text, and is a number now" if name in TEXTS else f"{name} was a number, and is a text"
    )
    with pytest.raises(OtherContract, match=rf"was trained for other inputs: {told}.*train --promote-to champion"):
        load_bundle(copy)


def test_a_number_that_became_a_whole_one_is_no_other_contract(
    written: Path, labelled: pd.DataFrame, record: Callable[[dict[str, Any]], None]
) -> None:
    expected = load_bundle(written).predict_frame(labelled.head(20))
    record({**problem.Record.model_fields, NUMBERS[0]: FieldInfo(annotation=int | None)})
    assert np.array_equal(load_bundle(written).predict_frame(labelled.head(20)), expected)


def test_an_input_that_came_later_leaves_an_older_model_as_it_is(
    written: Path, labelled: pd.DataFrame, record: Callable[[dict[str, Any]], None]
) -> None:
    records, expected = schema.records(labelled.head(20)), load_bundle(written).predict_frame(labelled.head(20))
    numbers = [column.name for column in schema.columns() if not column.text]
    record({**problem.Record.model_fields, "came_later": problem.Record.model_fields[numbers[0]]})
    loaded = load_bundle(written)
    assert np.array_equal(loaded.predict([{**item, "came_later": 1.0} for item in records]), expected)


def test_a_model_without_an_encoder_of_columns_goes_on_without_a_later_input_too(
    labelled: pd.DataFrame, record: Callable[[dict[str, Any]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem, "TRUSTED_TYPES", ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"])
    fields, few = problem.Record.model_fields, labelled.head(200)
    trees = HistGradientBoostingClassifier if task().has_classes else HistGradientBoostingRegressor
    record({name: fields[name] for name in NUMBERS})
    alone = Pipeline([("model", trees(max_iter=5))]).fit(few[schema.names()], few[problem.TARGET])
    write_bundle(tmp_path / "1", alone, few, {}, DAYS)
    expected = load_bundle(tmp_path / "1").predict_frame(few)
    record({"came_before": fields[NUMBERS[0]], **{name: fields[name] for name in NUMBERS}})
    assert np.array_equal(load_bundle(tmp_path / "1").predict_frame(few.assign(came_before=1.0)), expected)


def test_another_model_in_place_of_the_registered_one_is_refused(copy: Path, labelled: pd.DataFrame) -> None:
    half = labelled.head(len(labelled) // 2)
    other = problem.build_model().fit(half[schema.names()], half[problem.TARGET])
    skops.io.dump(other, copy / MODEL)
    rewrite_manifest(copy)
    with pytest.raises(BundleRefused, match="predicts other numbers"):
        load_bundle(copy).pipeline  # noqa: B018
