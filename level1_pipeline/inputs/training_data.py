"""The rows of a training, kept once for each digest, if the settings ask for it.

A source changes: files are corrected, tables are cut. The digest in a version's manifest then says that the rows were
others, and these files bring them back.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from level1_pipeline import problem
from level1_pipeline.settings import Settings

FOLDER = "training_data"


def file_of(settings: Settings, digest: str) -> Path:
    """Where the rows with this digest are kept."""
    return settings.home / FOLDER / problem.NAME / f"{digest}.parquet"


def files(settings: Settings) -> list[Path]:
    """All that are kept."""
    return sorted((settings.home / FOLDER / problem.NAME).glob("*.parquet"))


def keep(settings: Settings, rows: Path, digest: str) -> None:
    """Keep a file of rows under its digest, whole or not at all; nothing is done if it is kept already."""
    target = file_of(settings, digest)
    if not settings.keep_training_data or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}")
    shutil.copyfile(rows, partial)
    partial.replace(target)


def where(settings: Settings, digest: str) -> str:
    """Where the rows with this digest are, in words."""
    file = file_of(settings, digest)
    if not file.exists():
        return "not kept (MLOPS_KEEP_TRAINING_DATA=true keeps those of later trainings)"
    with file.open("rb") as opened:
        is_whole = hashlib.file_digest(opened, "sha256").hexdigest() == digest
    return str(file) if is_whole else f"DAMAGED: {file} has another SHA-256; take it from a backup"
