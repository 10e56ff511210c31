"""A published version, checked and warmed up: what must be true of a model before it gets any request."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from level1_pipeline import schema
from level1_pipeline.bundle.load import GOLDEN, Bundle, load_to_serve, version_folder
from level1_pipeline.bundle.time_limit import Calls, Overdue
from level1_pipeline.errors import BundleRefused
from level1_pipeline.settings import Settings

if TYPE_CHECKING:
    import numpy as np

Record = dict[str, Any]
LOAD_SECONDS = 60.0
_loads: defaultdict[Path, Calls] = defaultdict(Calls)  # of each bundle


@dataclass(frozen=True)
class Model:
    """A loaded version. Immutable: requests in flight keep the one that they began with."""

    version: str
    bundle: Bundle
    checksum: str  # of the bundle: what the version is
    typical: Record  # an ordinary value for each input
    categories: dict[str, frozenset[str]]  # values that training saw, for the inputs of which that is known
    calls: Calls = field(default_factory=Calls, compare=False, repr=False)

    def predict(self, records: Sequence[Mapping[str, Any]], seconds: float) -> np.ndarray:
        """One number for each record. Compiled trees need a bounded time; anything else gets `seconds`.

        Raises:
            Overdue: it did not answer in time, or is not asked because earlier calls hang.
        """
        if self.bundle.scorer:
            return self.bundle.predict(records)
        return self.calls.run(lambda: self.bundle.predict(records), seconds)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the bundle says about itself."""
        return self.bundle.manifest

    @property
    def engine(self) -> dict[str, str | None]:
        """What scores, and why it is not the compiled trees: for the card of the model and for the log."""
        if self.bundle.scorer:
            return {"engine": "compiled", "engine_reason": None}
        return {"engine": "scikit-learn", "engine_reason": self.manifest.get("engine", {}).get("why")}


def folder(settings: Settings, version: str) -> Path:
    """Where a published version lies."""
    return version_folder(settings.bundles, version)


def load(settings: Settings, version: str, checksum: str | None = None) -> Model:
    """Verify the checksums, load with the reviewed types, repeat the golden predictions, warm up.

    Args:
        settings: of the home.
        version: a published one.
        checksum: what the store recorded for it; without it any whole bundle is taken.

    Raises:
        BundleRefused: any of it failed or did not end; this version must not be served.
    """
    place = folder(settings, version)
    try:
        return _loads[place].run(lambda: _load(place, version, checksum), LOAD_SECONDS)
    except Overdue as overdue:
        raise BundleRefused(f"version {version} could not be loaded: {overdue}") from overdue


def _load(place: Path, version: str, checksum: str | None) -> Model:
    loaded = load_to_serve(place, checksum)
    golden = json.loads((place / GOLDEN).read_text())["records"]
    manifest = loaded.manifest
    typical = manifest.get("typical") or {name: _typical([record[name] for record in golden]) for name in golden[0]}
    return Model(
        version=version,
        bundle=loaded,
        checksum=loaded.checksum,
        typical=dict.fromkeys(schema.names()) | typical,  # the Record may have inputs that this model does not know
        categories={name: frozenset(values) for name, values in manifest.get("categories", {}).items()},
    )


def _typical(values: list[Any]) -> Any:
    """Median or most frequent value; None where most are missing."""
    present = [value for value in values if value is not None]
    if len(present) <= len(values) / 2:
        return None
    return Counter(present).most_common(1)[0][0] if isinstance(present[0], str) else float(median(present))
