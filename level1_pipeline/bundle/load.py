"""The inference bundle of a version: a folder of data with checksums, which is all that serving needs.

    bundle.json   what it is: problem, training window, digests, metrics, and the SHA-256 of each file
    compiled.json the pipeline as plain numbers, if it could be proved equal (see tree_compiler.py, equivalence.py)
    model.skops   the fitted pipeline (no pickle): the source of the numbers, and served if there are none
    golden.json   records with the predictions that the trained pipeline gave for them
    profile.parquet   day summaries of the data it was trained on, for drift and for switching back
    evaluation_model/ the bundle of the model that the gate judged, as evidence: the same recipe without the newest days

A file is read only after its checksum was verified, and only types that the cloner reviewed
(`problem.TRUSTED_TYPES`) are built from it. A compiled one needs neither scikit-learn nor pandas.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from level1_pipeline import problem, schema
from level1_pipeline.bundle import contract
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.tree_scorer import Scorer
from level1_pipeline.errors import BundleRefused, NotFound

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline

MANIFEST, MODEL, GOLDEN, PROFILE = "bundle.json", "model.skops", "golden.json", "profile.parquet"
COMPILED, EVALUATION_MODEL = "compiled.json", "evaluation_model"
OWN_TYPES = ("level1_pipeline.bundle.recalibrated.Recalibrated",)  # beside those that the cloner reviewed
GOLDEN_TOLERANCE = 1e-12
REPAIR = "bring it back: python -m level1_pipeline repair VERSION"


@dataclass(frozen=True)
class Bundle:
    """A verified model, ready to predict, with its manifest."""

    manifest: dict[str, Any]
    folder: Path
    scorer: Scorer | None  # the compiled model; None if scikit-learn has to serve
    checksum: str  # of the manifest that was read, and through it of every file

    @cached_property
    def pipeline(self) -> Pipeline:
        """The pipeline as it was trained, loaded with the reviewed list of types.

        Raises:
            BundleRefused: its file is damaged, holds other types, or predicts other numbers.
        """
        if sha256(self.folder / MODEL) != self.manifest["files"][MODEL]:
            raise BundleRefused(f"{self.folder / MODEL} was changed after it was verified; {REPAIR}")
        loaded = _load_pipeline(self.folder / MODEL)
        _repeat_golden(self.folder, lambda records: predict(loaded, schema.frame(records)))
        return loaded

    @property
    def evaluation_model(self) -> Bundle | None:
        """The model that the gate judged in this one's place; None in a bundle without it.

        Raises:
            BundleRefused: it is damaged.
        """
        inside = f"{EVALUATION_MODEL}/{MANIFEST}" in self.manifest["files"]
        return load_bundle(self.folder / EVALUATION_MODEL) if inside else None

    def predict(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Probabilities (classification) or values (regression) of shape (n,), in the order given."""
        if self.scorer:
            return self.scorer.predict(schema.model_records(records))
        return predict(self.pipeline, schema.frame(records))

    def predict_frame(self, rows: pd.DataFrame) -> np.ndarray:
        """The same for the rows of a table, which may have more columns than the inputs."""
        return self.scorer.predict_frame(rows) if self.scorer else predict(self.pipeline, rows)

    def predict_columns(self, inputs: schema.Columns) -> np.ndarray:
        """The same for whole columns: without pandas, if the model is compiled."""
        return self.scorer.predict_columns(inputs) if self.scorer else predict(self.pipeline, schema.to_frame(inputs))


def version_folder(bundles: Path, version: str) -> Path:
    """Where a published version lies.

    Raises:
        NotFound: this is no name of a version. A path would name the same folder in other ways.
    """
    if not re.fullmatch(r"\w([\w.-]*\w)?", version):
        raise NotFound(f"'{version}' is no version; see the history for those that there are")
    return bundles / version


def bundle_checksum(folder: Path) -> str:
    """SHA-256 of the manifest, and through it of every file of the bundle."""
    return sha256(folder / MANIFEST)


def verify_bundle(folder: Path, checksum: str | None = None) -> dict[str, Any]:
    """Compare every file with the manifest, and that with the checksum, without loading any. Returns the manifest.

    Args:
        folder: of the bundle.
        checksum: what the store recorded for this version. Without it only damage is noticed: who can write the
            files can make the manifest fit.

    Raises:
        BundleRefused: a file is missing or altered, or the bundle is another one, or belongs to another problem.
    """
    return _verify(folder, checksum)[0]


def _verify(folder: Path, checksum: str | None) -> tuple[dict[str, Any], str]:
    """The manifest and its checksum, from the same bytes."""
    try:
        content = (folder / MANIFEST).read_bytes()
        actual = hashlib.sha256(content).hexdigest()
        if checksum not in (None, actual):
            raise BundleRefused(
                f"{folder} holds another bundle ({actual[:12]}) than the one that was registered as this version "
                f"({str(checksum)[:12]}); {REPAIR}"
            )
        manifest = json.loads(content)
        owner, registered = manifest["problem"], manifest["files"]
        needed = {MODEL, GOLDEN, PROFILE, *registered}
        altered = [name for name in sorted(needed) if registered[name] != sha256(folder / name)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleRefused(f"{folder} is not a complete bundle ({error}); {REPAIR}") from error
    if altered:
        raise BundleRefused(f"{', '.join(altered)} in {folder} is not what was registered (SHA-256 differs); {REPAIR}")
    if owner != problem.NAME:
        raise BundleRefused(f"{folder} was made for '{owner}', but this is '{problem.NAME}'")
    return manifest, actual


def load_bundle(folder: Path, checksum: str | None = None) -> Bundle:
    """Verify, load the compiled model (or else the pipeline), and repeat the golden predictions.

    Raises:
        BundleRefused: see `verify_bundle`; or a type that is not in TRUSTED_TYPES, or other numbers.
        OtherContract: it needs an input that the Record has no more, or has in another form, or is for another TASK or
            other CLASSES. An
            input that the Record has since got is no reason: such a model goes on without it.
    """
    manifest, actual = _verify(folder, checksum)
    contract.demand_task(str(folder), manifest)
    contract.demand_inputs(str(folder), manifest, _golden(folder)["records"])
    bundle = Bundle(manifest, folder, _scorer(folder, manifest), actual)
    if bundle.scorer:
        _repeat_golden(folder, bundle.predict)
    else:
        bundle.pipeline  # noqa: B018  (what must not be loaded is refused now, not at the first request)
    return bundle


def load_to_serve(folder: Path, checksum: str | None = None) -> Bundle:
    """Everything that must be true of a version before it answers a request, or before a route names it: verified,
    blessed, loaded, its golden predictions repeated, and warmed up with one row and with many.

    Raises:
        BundleRefused: any of it is not true.
    """
    bundle = load_bundle(folder, checksum)
    if bundle.manifest.get("verdict") != "pass":
        raise BundleRefused(f"the bundle in {folder} has not passed the gate, so it is not served")
    golden = json.loads((folder / GOLDEN).read_text())["records"]
    try:
        for size in (1, len(golden)):
            bundle.predict(golden[:size])
    except Exception as error:  # whatever a model raises
        raise BundleRefused(f"the model in {folder} cannot score its own golden records ({error!r})") from error
    return bundle


def _golden(folder: Path) -> dict[str, Any]:
    """The golden records of a bundle, and the predictions for them."""
    try:
        golden = json.loads((folder / GOLDEN).read_text())
        return {"records": [dict(record) for record in golden["records"]], "predictions": golden["predictions"]}
    except Exception as error:  # whatever a hostile or broken file makes the reader raise, it is not loaded
        raise BundleRefused(f"{folder / GOLDEN} holds no golden predictions ({error!r}); {REPAIR}") from error


def _repeat_golden(folder: Path, predict: Callable[[list[dict[str, Any]]], np.ndarray]) -> None:
    golden = _golden(folder)
    try:
        difference = abs(predict(golden["records"]) - golden["predictions"]).max()
    except Exception as error:  # a model that cannot answer its own golden records is not served, whatever it raises
        raise BundleRefused(
            f"the model in {folder} cannot repeat its golden predictions ({error!r}); train again"
        ) from error
    if not difference <= GOLDEN_TOLERANCE:
        raise BundleRefused(
            f"the model in {folder} predicts other numbers than when it was trained (off by {difference:.2g}); compare the environments"
        )


def _scorer(folder: Path, manifest: dict[str, Any]) -> Scorer | None:
    if COMPILED not in manifest["files"]:
        return None
    try:
        return Scorer(json.loads((folder / COMPILED).read_text()))
    except Exception as error:  # whatever a hostile or broken file makes the reader raise, it is not loaded
        raise BundleRefused(f"{folder / COMPILED} cannot be read ({error!r}); {REPAIR}") from error


def _load_pipeline(path: Path) -> Pipeline:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.load(path, trusted=[*problem.TRUSTED_TYPES, *OWN_TYPES])
    except UntrustedTypesFoundException as error:
        raise BundleRefused(
            f"{path} wants to build types that nobody reviewed: {error}; if they are yours, add them to TRUSTED_TYPES"
        ) from error
    except Exception as error:  # whatever a hostile or broken file makes the reader raise, it is not loaded
        raise BundleRefused(f"{path} is not a readable skops file ({type(error).__name__}: {error})") from error


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
