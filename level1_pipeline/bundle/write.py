"""Writing a bundle: complete or not at all, with the compiled model only if it was proved equal."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from level1_pipeline import schema
from level1_pipeline.bundle import contract
from level1_pipeline.bundle.equivalence import prove
from level1_pipeline.bundle.load import (
    COMPILED,
    EVALUATION_MODEL,
    GOLDEN,
    MANIFEST,
    MODEL,
    PROFILE,
    bundle_checksum,
    sha256,
    verify_bundle,
)
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.tree_compiler import compile_pipeline
from level1_pipeline.errors import NotCompilable

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

GOLDEN_ROWS = 50


def write_bundle(
    folder: Path, pipeline: Pipeline, holdout: pd.DataFrame, info: dict[str, Any], profile: pd.DataFrame
) -> str:
    """Write a complete bundle or none (temporary folder, then rename). Returns its checksum.

    The rows of `holdout` are those on which the compiled model must equal the pipeline; some become golden.
    """
    import skops.io

    partial = folder.with_name(f".{folder.name}-{uuid4().hex}")
    partial.mkdir(parents=True)
    skops.io.dump(pipeline, partial / MODEL)
    golden = holdout.sample(min(GOLDEN_ROWS, len(holdout)), random_state=0)
    expected = {"records": schema.records(golden), "predictions": predict(pipeline, golden).tolist()}
    (partial / GOLDEN).write_text(json.dumps(expected))
    profile.to_parquet(partial / PROFILE)
    engine = _compile(partial / COMPILED, pipeline, holdout)
    files = {file.name: sha256(file) for file in sorted(partial.iterdir())}
    _write_manifest(partial, {**contract.made_for(), **info, "engine": engine, "files": files})
    _replace_folder(partial, folder)
    return bundle_checksum(folder)


def _replace_folder(partial: Path, folder: Path) -> None:
    """Put a finished folder in the place of an older one of the same run."""
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def _compile(path: Path, pipeline: Pipeline, rows: pd.DataFrame) -> dict[str, Any]:
    """Write the compiled model if it is proved equal. Says what serves, and why."""
    try:
        compiled = compile_pipeline(pipeline)
        proof = prove(compiled, pipeline, rows)
        text = json.dumps(compiled, allow_nan=False)
    except NotCompilable as reason:
        return {"name": "scikit-learn", "why": str(reason)}
    except Exception as error:  # a pipeline that nobody thought of costs speed, never the training
        return {"name": "scikit-learn", "why": f"the compilation failed ({type(error).__name__}: {error})"}
    path.write_text(text)
    return {"name": "compiled", **proof}


def seal_bundle(folder: Path, target: Path, info: dict[str, Any], evaluation_model: Path | None = None) -> Path:
    """Copy a bundle to `target`, with more in its manifest, and with the bundle of the evaluation model inside.

    Args:
        folder: the bundle of the model that will be served.
        target: where the copy goes.
        info: what is known only after the model was judged.
        evaluation_model: the bundle of the model that was judged.

    Raises:
        BundleRefused: a copy, which is what gets the seal, does not hold the files that its manifest names.
    """
    manifest = verify_bundle(folder)
    partial = target.with_name(f".{target.name}-{uuid4().hex}")
    try:
        shutil.copytree(folder, partial)
        files = dict(manifest["files"])
        if evaluation_model:
            evidence = Path(shutil.copytree(evaluation_model, partial / EVALUATION_MODEL))
            verify_bundle(evidence)
            files |= {f"{EVALUATION_MODEL}/{file.name}": sha256(file) for file in sorted(evidence.iterdir())}
        _write_manifest(partial, {**manifest, **info, "files": files})
        verify_bundle(partial)
        _replace_folder(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2))
