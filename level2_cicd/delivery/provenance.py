"""Where a release comes from: an in-toto statement with the predicate SLSA provenance v1 (slsa.dev/spec/v1.0/provenance).

It is not signed: whoever can write into the folder of releases can write it. A builder that is to be trusted by others
signs the file; its subjects are the digests of all files of the release.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from level1_pipeline import problem
from level1_pipeline.environment import user_name
from level2_cicd.delivery.checks import CheckResult
from level2_cicd.delivery.release import PIPELINE_LOCK, PROVENANCE, Release

BUILD_TYPE, BUILDER = "urn:mlops-template:make-release", "urn:mlops-template:builder"


def statement(release: Release, results: Sequence[CheckResult], started: datetime) -> str:
    """The statement as JSON."""
    commit = {"name": "source", "digest": {"gitCommit": release.commit}}
    lock = {"name": PIPELINE_LOCK, "digest": {"sha256": release.files[PIPELINE_LOCK]}}
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"problem": problem.NAME, "checks": [result.target for result in results]},
            "resolvedDependencies": [commit, lock],
        },
        "runDetails": {
            "builder": {
                "id": f"{BUILDER}:{platform.node()}:{user_name()}",
                "version": {"python": platform.python_version()},
            },
            "metadata": {
                "invocationId": uuid4().hex,
                "startedOn": started.isoformat(timespec="seconds"),
                "finishedOn": datetime.now(UTC).isoformat(timespec="seconds"),
            },
            "byproducts": [{"name": f"make {result.target}", "annotations": asdict(result)} for result in results],
        },
    }
    subjects = [{"name": name, "digest": {"sha256": sha}} for name, sha in release.files.items()]
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects,
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": predicate,
        },
        indent=2,
    )


def tested(release: Release) -> dict[str, Any]:
    """What the checks said, by target of make; empty where none ran or nothing is known."""
    try:
        stated = json.loads((release.folder / PROVENANCE).read_text(encoding="utf-8"))
        byproducts = stated["predicate"]["runDetails"]["byproducts"]
        return {part["annotations"]["target"]: part["annotations"] for part in byproducts}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
