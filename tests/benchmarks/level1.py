"""`make bench`: what Level 1 costs, as ratios measured side by side in one run.

Our steps (validation, gate, plots, card, registration and all) run in this process, in turns with a
bare script that loads the same Parquet file, fits the same model twice and scores the same holdout.
Then the whole command is timed as a process of its own: cold, and against a running Prefect server.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from level1_pipeline import problem, schema
from level1_pipeline.bundle.predict import predict
from level1_pipeline.orchestration.prefect_server import prefect_server, wait_until_ready
from level1_pipeline.orchestration.run import Request, new_run
from level1_pipeline.settings import Settings
from level1_pipeline.store.days import start_of
from tests.support import ROOT

AS_OF, ROUNDS = "2013-04-01", 3
console = Console()


def our_steps(home: Path) -> tuple[float, dict[str, float]]:
    """Seconds of a whole training without imports and Prefect, and of each step."""
    from level1_pipeline.orchestration.pipeline import pipeline

    run = new_run(Settings(home=home), Request(start_of(AS_OF), promote_to="none"))
    start = time.perf_counter()
    results = pipeline(run)
    return time.perf_counter() - start, {result.step: result.seconds for result in results}


def bare(path: Path) -> float:
    """Seconds of the least that anybody would have to do."""
    start = time.perf_counter()
    rows = pd.read_parquet(path)
    newest = start_of(AS_OF) - pd.Timedelta("37h")
    pool = rows[rows[problem.TARGET].notna() & (rows[problem.EVENT_TIME] <= newest)]
    old = pool[problem.EVENT_TIME] <= newest - pd.Timedelta("14D")
    for part in (pool[old], pool):
        model = problem.build_model().fit(part[schema.names()], part[problem.TARGET])
        problem.evaluate(pool.loc[~old, problem.TARGET].to_numpy(), predict(model, pool[~old]))
    return time.perf_counter() - start


def command(home: Path, *message: str, **environment: str) -> tuple[float, float]:
    """Wall seconds and peak MiB (of the largest process) of `python -m level1_pipeline …`."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "level1_pipeline", *message],
        cwd=ROOT,
        env=os.environ | {"MLOPS_HOME": str(home)} | environment,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"`{' '.join(message)}` ended with exit code {child.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def import_seconds() -> float:
    """Median seconds to import `level1_pipeline.problem` in a fresh interpreter."""
    code = "import time; t = time.perf_counter(); import level1_pipeline.problem; print(time.perf_counter() - t)"
    timed = [
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(5)
    ]
    return statistics.median(map(float, timed))


def main() -> None:
    """Measure everything; print a table and one line."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch, "home")
        Settings(home=home).prepare()
        rows = Path(scratch, "rows.parquet")
        problem.load(start_of(AS_OF), cache=home / "cache").to_parquet(rows)
        our_steps(home), bare(rows)  # imports, and MLflow's migrations
        ours, bares = [], []
        for _ in range(ROUNDS):
            ours.append(our_steps(home))
            bares.append(bare(rows))
        ratio = statistics.median(own[0] / other for own, other in zip(ours, bares, strict=True))
        train = ("train", "--as-of", AS_OF, "--promote-to", "none")
        cold, peak = command(home, *train)
        log = home / "server.log"
        with prefect_server(log) as api:
            wait_until_ready(api, log)
            warm, _ = command(home, *train, MLOPS_PREFECT_API_URL=api)
        table = Table("step", "seconds (median)", title=f"our steps, {ROUNDS} rounds")
        for name in ours[0][1]:
            table.add_row(name, f"{statistics.median(steps[name] for _, steps in ours):.2f}")
        table.add_row("all", f"{statistics.median(total for total, _ in ours):.2f}")
        table.add_row("bare script", f"{statistics.median(bares):.2f}")
        console.print(table)
    imported = import_seconds()
    print(
        f"bench | steps_vs_bare={ratio:.2f} | make level1: cold {cold:.0f} s, with a Prefect server {warm:.0f} s"
        f" | import problem {imported:.2f} s | peak {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
