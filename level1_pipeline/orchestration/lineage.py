"""Which code, which environment, which data: what a run must know to be repeated or resumed."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
RELEASE = Path(sys.prefix) / "release.json"  # where a deployment puts the index of the installed release


def release() -> dict[str, Any]:
    """The index of the release that this interpreter belongs to; empty in a checkout."""
    try:
        return json.loads(RELEASE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def code_revision() -> str:
    """The commit of the release or the checkout, with `-dirty` when files differ from it; `unknown` in neither."""
    if commit := release().get("commit"):
        return str(commit)
    git = ["git", "-C", str(PACKAGE.parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run(
            [*git, "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def source_digest() -> str:
    """SHA-256 of this package's source: a result of other source must not be used again."""
    sha = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        sha.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
    return sha.hexdigest()


def lock_digest() -> str:
    """SHA-256 of the lock of the release or the checkout; `unknown` in neither."""
    if files := release().get("files"):
        return str(files["requirements-pipeline.lock"])
    lock = PACKAGE.parent / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else "unknown"


def identity() -> dict[str, str]:
    """Everything above, and the Python version."""
    return {
        "release": str(release().get("id", "none")),
        "code_revision": code_revision(),
        "source_digest": source_digest(),
        "lock_digest": lock_digest(),
        "python": platform.python_version(),
    }


def key(*parts: str) -> str:
    """A short name for a combination of parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
