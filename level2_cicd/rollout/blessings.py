"""The two blessings without which a version gets no traffic: quality (the gate) and infrastructure (it can serve)."""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from level1_pipeline.bundle.load import GOLDEN, load_bundle, verify_bundle
from level1_pipeline.bundle.time_limit import Calls, Overdue
from level1_pipeline.errors import BundleRefused
from level1_pipeline.evaluation import gate
from level1_pipeline.evaluation.gate import Check
from level1_pipeline.policies import RolloutPolicy

TIMED_ROWS = 1000
TRIAL_SECONDS = 60.0  # for the whole trial: a candidate that hangs must not hang the rollout
CALLS, CALLS_SECONDS = 200, 3.0  # of one row, after which memory must not have grown
ROUNDS = 3  # of these calls, while memory grows too much: a leak grows in each, what another thread keeps does not
MAX_GROWTH_MB = 5.0
QUALITY, INFRASTRUCTURE = "quality blessing", "infrastructure blessing"
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def blessings(folder: Path, policy: RolloutPolicy | None = None, checksum: str | None = None) -> list[Check]:
    """*Quality*: the gate passed it. *Infrastructure*: the serving code loads it, gets its golden numbers, in time and
    in bounded memory."""
    try:
        verdict = verify_bundle(folder, checksum).get("verdict")
        infrastructure = Calls().run(lambda: _trial(folder, policy or RolloutPolicy(), checksum), TRIAL_SECONDS)
    except BundleRefused as refusal:
        return [Check(INFRASTRUCTURE, "fail", str(refusal))]
    except Overdue as overdue:
        return [Check(INFRASTRUCTURE, "fail", f"it hangs: {overdue} for loading and scoring {TIMED_ROWS:,} rows")]
    return [Check(QUALITY, "pass" if verdict == "pass" else "fail", f"the gate's verdict is {verdict}"), infrastructure]


def _trial(folder: Path, policy: RolloutPolicy, checksum: str | None) -> Check:
    _forget_peak()
    before = _megabytes("VmRSS")
    bundle = load_bundle(folder, checksum)
    golden = json.loads((folder / GOLDEN).read_text())["records"]
    records = (golden * (TIMED_ROWS // len(golden) + 1))[:TIMED_ROWS]
    started = time.perf_counter()
    bundle.predict(records)
    seconds = time.perf_counter() - started
    growth, calls = _growth(bundle.predict, records)
    taken = max(0.0, _megabytes("VmHWM") - before)
    allowed = gate.rules().max_seconds_1000_rows
    message = f"loads, repeats its golden predictions, {seconds:.2f} s for 1,000 rows (allowed: {allowed:g} s), "
    message += f"{taken:.0f} MB (allowed: {policy.max_memory_mb:g}), "
    message += f"{growth:+.0f} MB after {calls} more calls (allowed: {MAX_GROWTH_MB:+g})"
    bounded = taken <= policy.max_memory_mb and growth <= MAX_GROWTH_MB
    return Check(INFRASTRUCTURE, "pass" if seconds <= allowed and bounded else "fail", message)


def _growth(predict: Callable[[list[dict[str, Any]]], Any], records: list[dict[str, Any]]) -> tuple[float, int]:
    """By how many MB calls of one row make the process grow, and how many calls these were: in the calmest round, because
    other threads of this process take memory meanwhile, too."""
    for _ in range(5):
        predict(records[:1])
    calmest = (float("inf"), 0)
    for _ in range(ROUNDS):
        calmest = min(calmest, _grown(predict, records))
        if calmest[0] <= MAX_GROWTH_MB:
            break
    return calmest


def _grown(predict: Callable[[list[dict[str, Any]]], Any], records: list[dict[str, Any]]) -> tuple[float, int]:
    gc.collect()  # garbage that is collected meanwhile would hide a leak
    # Its own memory: a kernel that drops pages of libraries meanwhile would hide a leak in the whole, too.
    before, until, calls = _megabytes("RssAnon"), time.monotonic() + CALLS_SECONDS, 0
    while calls < CALLS and time.monotonic() < until:
        predict(records[calls : calls + 1])
        calls += 1
    return _megabytes("RssAnon") - before, calls


def _forget_peak() -> None:
    """The peak of this process counts from now on (Linux); where that cannot be, only a new peak is seen."""
    with suppress(OSError):
        CLEAR.write_text("5")


def _megabytes(name: str) -> float:
    """A figure of this process's memory; where the system does not tell it, its peak."""
    try:
        figures = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(figures[name].split()[0]) / 1024
    except (OSError, KeyError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
