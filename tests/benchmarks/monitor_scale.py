"""How long a run takes and how much memory it needs: `make bench-monitor`.

Logs of 10 k, 100 k and 1 M predictions in one week, each measured in a process of its own, beside what people
write first: `pandas.read_sql` of the window and Evidently's preset on all of it. Peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from level1_pipeline import problem, schema
from level1_pipeline.bundle.load import Bundle, load_bundle
from level1_pipeline.bundle.predict import predict
from level1_pipeline.bundle.write import write_bundle
from level1_pipeline.evaluation.drift import day_summaries
from level1_pipeline.settings import Settings
from level1_pipeline.steps.fit import fit_model
from level1_pipeline.store import leases
from level1_pipeline.store.audit import Change, Promoted
from level1_pipeline.store.database import Store
from level1_pipeline.store.outcomes import Reported, keep
from level1_pipeline.store.tables import predictions

SIZES = (10_000, 100_000, 1_000_000)
CHUNK = 20_000
LIMIT_SECONDS, LIMIT_GIB = 60, 1.5


def fill(settings: Settings, rows: pd.DataFrame, size: int) -> datetime:
    """A home with a champion, and a log of which `size` predictions lie in the last week. Returns the week's end."""
    labelled = rows[rows[problem.TARGET].notna()]
    start = labelled[problem.EVENT_TIME].iloc[0].tz_convert(problem.TIMEZONE).normalize() + pd.DateOffset(days=90)
    end = start + pd.DateOffset(days=35)
    past = labelled[labelled[problem.EVENT_TIME] < start]
    folder = settings.home / "bundles" / problem.NAME / "1"
    model = fit_model(past)
    scores = predict(model, past)
    info = {
        "kind": "refitted",
        "verdict": "pass",
        "metrics": problem.evaluate(past[problem.TARGET].to_numpy(), scores),
        "trained_until": past[problem.EVENT_TIME].max().isoformat(),
    }
    write_bundle(folder, model, past.tail(50), info, day_summaries(past))
    store = Store(settings.operations)
    with leases.hold(store, leases.promotion(problem.NAME), 60) as lease:
        change = Change("bench", Promoted("champion"), "bench", start.to_pydatetime())
        store.change_route(problem.NAME, lease, change, champion="1")
    log = labelled[(labelled[problem.EVENT_TIME] >= start) & (labelled[problem.EVENT_TIME] < end)]
    week = log[problem.EVENT_TIME] >= end - pd.DateOffset(days=7)
    served = load_bundle(folder)
    _write(store, served, log[~week], len(log[~week]), "before")
    _write(store, served, log[week], size, "week")
    store.close()
    return end.tz_convert("UTC").to_pydatetime()


def _write(store: Store, served: Bundle, rows: pd.DataFrame, size: int, name: str) -> None:
    """Log `size` predictions: the rows, again and again under other ids, with their outcomes."""
    records, scores = schema.records(rows), served.predict_frame(rows).tolist()
    times, labelled = rows[problem.EVENT_TIME].dt.to_pydatetime(), rows[problem.LABEL_TIME].dt.to_pydatetime()
    values, ids, now = rows[problem.TARGET].tolist(), rows[problem.ID].tolist(), datetime.now(UTC)
    fixed = {"problem": problem.NAME, "arm": "champion", "version": "1", "recorded_at": now, "latency_ms": 0.1}
    for first in range(0, size, CHUNK):
        places = [(n, n % len(ids)) for n in range(first, min(first + CHUNK, size))]
        answer = [
            {
                **fixed,
                "id": f"{ids[i]}-{name}{n // len(ids)}",
                "entity_id": ids[i],
                "at": times[i],
                "record": records[i],
                "score": scores[i],
            }
            for n, i in places
        ]
        with store.engine.begin() as connection:
            connection.execute(predictions.insert(), answer)
        outcomes = [Reported(row["id"], values[i], labelled[i]) for row, (_, i) in zip(answer, places, strict=True)]
        keep(store, outcomes, datetime.now(UTC))


def ours(settings: Settings, end: datetime) -> str:
    """One monitoring run, complete but for Evidently's snapshot."""
    from monitoring.run import run_monitoring

    run = run_monitoring(settings, end)
    return f"{run.coverage.predictions} predictions, {run.diagnosis.cause}"


def whole(settings: Settings, end: datetime) -> str:
    """What `make monitor` does, snapshot and report included."""
    from monitoring import cli

    setattr(cli, "open_settings", lambda: settings.changed({"clock": end.isoformat()}))  # noqa: B010
    return f"exit code {cli.main(['run'])}"


def naive(settings: Settings, end: datetime) -> str:
    """The week by pandas.read_sql, and Evidently's preset on all of it against the four weeks before."""
    import warnings

    warnings.simplefilter("ignore")
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    engine = Store(settings.operations).engine
    query = "SELECT p.at, p.score, p.record, o.value FROM predictions p LEFT JOIN outcomes o ON o.id = p.id"
    log = pd.read_sql(query, engine)
    inputs = pd.DataFrame([json.loads(figure) for figure in log["record"]])[schema.names()].astype(schema.dtypes())
    week = pd.to_datetime(log["at"], utc=True) >= pd.Timestamp(end) - pd.DateOffset(days=7)
    texts = [column.name for column in schema.columns() if column.text]
    kinds = DataDefinition(numerical_columns=[name for name in inputs if name not in texts], categorical_columns=texts)
    both = [Dataset.from_pandas(inputs[part].reset_index(drop=True), kinds) for part in (week, ~week)]
    run = Report([DataDriftPreset()]).run(current_data=both[0], reference_data=both[1])
    labelled = log[week].dropna()
    problem.evaluate(labelled["value"].to_numpy(), labelled["score"].to_numpy())
    return f"{json.loads(run.json())['metrics'][0]['value']}"


KINDS = {"observe": ours, "make monitor": whole, "read_sql + preset": naive}


def measure_here(home: Path, kind: str, end: str) -> None:
    """Measure in this process; prints JSON."""
    settings = Settings(home=home).prepare()
    started = time.perf_counter()
    answer = KINDS[kind](settings, datetime.fromisoformat(end))
    # Not getrusage: its maximum begins with that of the process which started this one.
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**20
    print(json.dumps({"seconds": time.perf_counter() - started, "gib": peak, "said": answer}))


def measure(home: Path, kind: str, end: datetime) -> dict[str, float]:
    """The figures of a process of its own. Its imports count, because a run by hand pays them."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.monitor_scale",
        "--home",
        str(home),
        "--kind",
        kind,
        "--end",
        end.isoformat(),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"'{kind}' failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    """Measure every size; 1 if the largest breaks its limits."""
    read = argparse.ArgumentParser(description=__doc__)
    read.add_argument("--home", type=Path)
    read.add_argument("--kind", choices=KINDS)
    read.add_argument("--end")
    read.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    options = read.parse_args()
    if options.kind:
        measure_here(options.home, options.kind, options.end)
        return 0
    figures: dict[tuple[int, str], dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = problem.load(pd.Timestamp.max.tz_localize("UTC").as_unit("us"), None, Path(folder) / "cache")
        for size in options.sizes:
            figures |= _measure_size(Path(folder), rows, size)
    largest = figures[max(options.sizes), "observe"]
    fine = largest["seconds"] < LIMIT_SECONDS and largest["gib"] < LIMIT_GIB
    message = f"{max(options.sizes):,} predictions in {largest['seconds']:.1f} s and {largest['gib']:.2f} GiB"
    print(f"bench-monitor | {message} | {'within' if fine else 'BEYOND'} {LIMIT_SECONDS} s and {LIMIT_GIB} GiB")
    return 0 if fine else 1


def _measure_size(folder: Path, rows: pd.DataFrame, size: int) -> dict[tuple[int, str], dict[str, float]]:
    home, result = folder / str(size), {}
    home.mkdir()
    (home / "cache").symlink_to(folder / "cache")
    end = fill(Settings(home=home), rows, size)
    for kind in KINDS:
        figure = result[size, kind] = measure(home, kind, end)
        print(
            f"{size:>9,} {kind:<18} {figure['seconds']:7.1f} s {figure['gib']:6.2f} GiB  {figure['said']}", flush=True
        )
    return result


if __name__ == "__main__":
    sys.exit(main())
