"""A snapshot of each monitoring run in an Evidently workspace: its columns and its dashboard over time, for diagnosis only.

Evidently's own drift alarms cry wolf on small windows (docs/monitoring.md), so nothing is decided by them.
A snapshot holds sums, shares and histograms, no rows: each column is shuffled by itself before Evidently sees it.
"""

from __future__ import annotations

import json
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
import pandas as pd
import sqlalchemy as sa

from level1_pipeline import problem, schema
from level1_pipeline.inputs import source
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from level1_pipeline.store.tables import predictions
from monitoring.reporting import text
from monitoring.results import MonitoringRun, Window

if TYPE_CHECKING:
    from evidently.ui.workspace import Project, Workspace

SAMPLE_ROWS = 30_000  # rows on each side: Evidently's time and memory grow with them
IDS_IN_MEMORY = 20_000  # ids in memory at a time
IDS_IN_STATEMENT = 500  # ids in one statement: databases limit its parameters
COMPARABLE_MIN_ROWS = 50  # below this many rows a histogram says nothing
NOTE = "Which columns look different, for diagnosis: no alarm. What to do stands in the report of the monitoring run."
DRIFT = "evidently:metric_v2:DriftedColumnsCount"
COLUMN = "evidently:metric_v2:ValueDrift"


def workspace(settings: Settings) -> Path:
    """The folder that Evidently's own pages show."""
    return settings.home / "reports" / "evidently"


@dataclass(frozen=True)
class Written:
    """Where a snapshot is, and the distance that Evidently gives each column, with the name of its measure."""

    path: Path
    columns: dict[str, tuple[float, str]]


def write(settings: Settings, store: Store, run: MonitoringRun, rows: int = SAMPLE_ROWS) -> Written | None:
    """Compare the window with the reference, column by column, of at most so many rows on each side; the same run again
    replaces its snapshot.

    Returns None when one of the two has too few rows.
    """
    current = _window(store, run.window, rows)
    reference = _reference(settings, store, run, rows) if len(current) >= COMPARABLE_MIN_ROWS else current
    if min(len(current), len(reference)) < COMPARABLE_MIN_ROWS:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy and pandas about Evidently, while it is imported and runs
        return _write(workspace(settings), run, current, reference)


def _window(store: Store, window: Window, rows: int) -> pd.DataFrame:
    """The inputs of the answers in the window; above so many rows those whose id has a small hash: always the same ones."""
    p = predictions.c
    answers = (p.problem == problem.NAME) & (p.arm != "shadow")
    in_window = answers & (p.at >= window.start) & (p.at < window.end)
    reading = {"reads_only": True, "stream_results": True, "yield_per": IDS_IN_MEMORY}
    with store.engine.connect().execution_options(**reading) as connection:
        count = connection.scalar(sa.select(sa.func.count()).select_from(predictions).where(in_window)) or 1
        limit, kept, records = 2**32 * rows / count, list[str](), list[str]()
        for names in connection.execute(sa.select(p.id).where(in_window)).scalars().partitions(IDS_IN_MEMORY):
            kept += [name for name in names if zlib.crc32(name.encode()) < limit]
        # Records only of these, by their key: their text is most of the log.
        for first in range(0, len(kept), IDS_IN_STATEMENT):
            some = p.id.in_(kept[first : first + IDS_IN_STATEMENT])
            records += connection.scalars(sa.select(sa.cast(p.record, sa.Text)).where(answers, some))
    return schema.frame(json.loads(f"[{','.join(records)}]"))


def _reference(settings: Settings, store: Store, run: MonitoringRun, most: int) -> pd.DataFrame:
    """The log's reference window; while the log is too young for one, the problem's newest rows before the window."""
    logged = _window(store, run.reference, most) if run.reference else pd.DataFrame()
    if len(logged) >= COMPARABLE_MIN_ROWS:
        return logged
    rows = source.load(settings, pd.Timestamp(run.window.start))
    return rows.tail(most)[schema.names()].astype(schema.dtypes())


def drifted_share(current: pd.DataFrame, reference: pd.DataFrame) -> float:
    """The share of the columns that Evidently's preset calls drifted; from 0.5 on, it says that the data set drifted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metrics = json.loads(_compared(current, reference).json())["metrics"]
    return float(next(metric["value"]["share"] for metric in metrics if metric["config"]["type"] == DRIFT))


def _compared(current: pd.DataFrame, reference: pd.DataFrame, **about: Any) -> Any:
    """The preset's report of the columns that have values on both sides. That a column is empty is a data fault, which
    the run reports."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    texts = [column.name for column in schema.columns() if column.text]
    names = [name for name in schema.names() if current[name].notna().any() and reference[name].notna().any()]
    kinds = DataDefinition(
        numerical_columns=[name for name in names if name not in texts],
        categorical_columns=[name for name in names if name in texts],
    )
    both = [Dataset.from_pandas(_shuffled(rows[names]), kinds) for rows in (current, reference)]
    return Report([DataDriftPreset()]).run(current_data=both[0], reference_data=both[1], **about)


def _write(folder: Path, run: MonitoringRun, current: pd.DataFrame, reference: pd.DataFrame) -> Written:
    from evidently.ui.workspace import Workspace

    name = f"{run.problem} {text.day(run.window.start)} to {text.day(run.window.end)}"
    facts: dict[str, Any] = {"cause": run.diagnosis.cause, "champion": run.champion or "none"}
    report = _compared(current, reference, timestamp=run.window.end, metadata=facts, name=name)
    folder.mkdir(parents=True, exist_ok=True)
    opened = Workspace(str(folder))
    project, snapshot = _project(opened, run.problem), project_id(f"{run.problem} {run.window.end.isoformat()}")
    # `add_run` would give a new id each time, and a run over the same window a second snapshot.
    opened.state.write_snapshot(project.id, snapshot, report.to_snapshot_model())
    metrics = [metric for metric in json.loads(report.json())["metrics"] if metric["config"]["type"] == COLUMN]
    columns = {metric["config"]["column"]: (metric["value"], metric["config"]["method"]) for metric in metrics}
    return Written(folder / str(project.id) / "snapshots" / f"{snapshot}.json", columns)


def _shuffled(rows: pd.DataFrame) -> pd.DataFrame:
    """Every column in an order of its own: for few rows Evidently's plots would else show them one by one."""
    draws = np.random.default_rng(0)
    return pd.DataFrame({name: rows[name].array[draws.permutation(len(rows))] for name in rows})


def _project(opened: Workspace, name: str) -> Project:
    """The project in the workspace, made with its dashboard when it is the first time."""
    from evidently.sdk.models import PanelMetric, ProjectModel
    from evidently.sdk.panels import line_plot_panel, text_panel

    if existing := opened.get_project(project_id(name)):
        return existing
    project = opened.add_project(ProjectModel(id=project_id(name), name=name, description=NOTE))
    share = PanelMetric(legend="share", metric=DRIFT, metric_labels={"value_type": "share"})
    columns = PanelMetric(legend="{{column}}", metric=COLUMN)
    project.dashboard.add_panel(text_panel(title=NOTE))
    project.dashboard.add_panel(
        line_plot_panel(title="Share of the columns above Evidently's threshold", values=[share])
    )
    project.dashboard.add_panel(line_plot_panel(title="Distance of each column from the reference", values=[columns]))
    return project


def project_id(name: str) -> UUID:
    """The id of the project of a problem (or of a snapshot, by its name), always the same one."""
    return uuid5(NAMESPACE_URL, name)
