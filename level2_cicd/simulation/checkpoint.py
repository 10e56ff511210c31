"""A copy of a home in which nothing happens just now, whole or not at all."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

DATABASES = ("operations.db", "mlflow.db")


def keep_checkpoint(home: Path, folder: Path) -> None:
    """Copy a home while nothing happens in it, whole or not at all. A copy that is there already stays."""
    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(home, partial, symlinks=True, ignore=shutil.ignore_patterns("*.db", "*.db-*"))
    for name in DATABASES:  # a log of SQLite that is not merged yet belongs to the database
        with closing(sqlite3.connect(home / name)) as source, closing(sqlite3.connect(partial / name)) as target:
            source.backup(target)
    partial.replace(folder)
