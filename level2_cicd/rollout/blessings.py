"""The two blessings without which a version gets no traffic: quality (the gate) and infrastructure (it can serve)."""

from __future__ import annotations

import json
import time
from pathlib import Path

from level1_pipeline.bundle.load import GOLDEN, load_bundle, verify_bundle
from level1_pipeline.errors import BundleRefused
from level1_pipeline.evaluation import gate
from level1_pipeline.evaluation.gate import Check

TIMED_ROWS = 1000


def blessings(folder: Path) -> list[Check]:
    """*Quality*: the gate passed it. *Infrastructure*: the serving code loads it, gets its golden numbers, in time."""
    try:
        verdict = verify_bundle(folder).get("verdict")
        bundle = load_bundle(folder)
        golden = json.loads((folder / GOLDEN).read_text())["records"]
        records = (golden * (TIMED_ROWS // len(golden) + 1))[:TIMED_ROWS]
        started = time.perf_counter()
        bundle.predict(records)
        seconds = time.perf_counter() - started
    except BundleRefused as refusal:
        return [Check("infrastructure blessing", "fail", str(refusal))]
    allowed = gate.rules().max_seconds_1000_rows
    message = f"loads, repeats its golden predictions, {seconds:.2f} s for 1,000 rows (allowed: {allowed:g} s)"
    return [
        Check("quality blessing", "pass" if verdict == "pass" else "fail", f"the gate's verdict is {verdict}"),
        Check("infrastructure blessing", "pass" if seconds <= allowed else "fail", message),
    ]
