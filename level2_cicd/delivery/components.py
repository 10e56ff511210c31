"""The list of components (SBOM, CycloneDX 1.6): every package that the pipeline's lock installs, and nothing else."""

from __future__ import annotations

import re
from datetime import datetime
from uuid import NAMESPACE_URL, uuid5

from level1_pipeline import problem

LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def packages(lock: str) -> dict[str, str]:
    """The versions of a lock, by package."""
    return dict(LOCKED.findall(lock))


def as_json(lock: str, commit: str, at: datetime) -> str:
    """The components of a lock; the same for the same commit.

    Args:
        lock: the text of a lock with hashes.
        commit: of our own code, which is the root of the list.
        at: when it was committed.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    root = Component(name=problem.NAME, version=commit, type=ComponentType.APPLICATION, bom_ref=problem.NAME)
    parts = [
        Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=PackageURL("pypi", name=name, version=version),
            bom_ref=f"{name}=={version}",
        )
        for name, version in packages(lock).items()
    ]
    bom = Bom(components=parts, serial_number=uuid5(NAMESPACE_URL, f"{problem.NAME}/{commit}"))
    bom.metadata.component, bom.metadata.timestamp = root, at
    bom.register_dependency(root, parts)
    return JsonV1Dot6(bom).output_as_string(indent=2)
