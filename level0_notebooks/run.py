"""Run the four notebooks of Level 0 in order, as a patient person would, and keep what they showed.

    python level0_notebooks/run.py        (`make level0`)

The notebooks themselves stay as they are. Executed copies with all plots are written as HTML pages to
`<home>/reports/level0/`; the model and the numbers go to LEVEL0_OUT, by default `<home>/level0`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import nbformat
from jinja2 import DictLoader
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

HERE = Path(__file__).resolve().parent
NOTEBOOKS = ("01_explore", "02_train", "03_handoff", "04_monitor_by_hand")
CELL_TIMEOUT = 300  # seconds; far above the slowest cell, so that only a hanging one is ended
STEP = "manual-step"  # the tag of a cell in which a person does or decides something


# The usual page without the scripts it would fetch from the network, and with a text for each plot.
PAGE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block data_png scoped %}
<div class="jp-RenderedImage jp-OutputArea-output">
<img src="data:image/png;base64,{{ output.data['image/png'] }}" alt="{{ cell.metadata.get('alt', '') | escape_html }}">
</div>
{% endblock %}
"""


class NotebookFailed(Exception):
    """A notebook stopped: which one, in which cell, and why."""


def main() -> int:
    """Run everything; 0 if all four notebooks ran to their end."""
    home = Path(os.environ.get("MLOPS_HOME") or ".mlops").expanduser().resolve()
    out = Path(os.environ.get("LEVEL0_OUT") or home / "level0").expanduser().resolve()
    os.environ["LEVEL0_OUT"] = str(out)  # the kernels inherit both
    unproxied = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    # One notebook asks a service that it has started itself: no proxy knows that one.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, [unproxied, "127.0.0.1"]))
    # Threads that wait for each other by spinning make a fit many times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # nor sleep at once, which is dear on a virtual machine
    steps = 0
    try:
        for name in NOTEBOOKS:
            notebook = nbformat.read(HERE / f"{name}.ipynb", as_version=4)
            steps += sum(STEP in cell.metadata.get("tags", ()) for cell in notebook.cells)
            try:
                execute(name, notebook)
            finally:  # of a failed notebook, too: its page shows the error in its place
                write_page(name, notebook, home / "reports" / "level0")
    except NotebookFailed as failure:
        print(f"level 0 | flight_delay | failed: {failure}", file=sys.stderr)
        return 1
    scores = json.loads((out / "metrics.json").read_text())
    print(
        f"level 0 | flight_delay | log_loss={scores['log_loss']:.4f} roc_auc={scores['roc_auc']:.4f}"
        f" | handed over: {out / 'handoff'} | {steps} manual steps"
    )
    return 0


def execute(name: str, notebook: nbformat.NotebookNode) -> None:
    """Run all cells of `notebook` in a kernel of its own; the outputs stay in `notebook`.

    Raises:
        NotebookFailed: a cell raised, took too long, or took the kernel down.
    """
    started = 0
    columns = (TextColumn("{task.description:20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(name, total=len(notebook.cells))

        def show(cell_index: int, **_: object) -> None:
            nonlocal started
            started = cell_index
            progress.update(bar, completed=cell_index)

        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_name="python3",
            resources={"metadata": {"path": str(HERE)}},
            extra_arguments=["--log-level=40"],  # errors only: that it listens on 127.0.0.1 is no news
            on_cell_start=show,
        )
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            cell = f"cell {started + 1} ({notebook.cells[started].id})"
            raise NotebookFailed(f"{name}.ipynb, {cell}: {reason(error)}") from error
        progress.update(bar, completed=len(notebook.cells))


def reason(error: Exception) -> str:
    """One line that says why, without the traceback that the page shows anyway."""
    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue}".splitlines()[0]
    return f"{type(error).__name__}: {error}".splitlines()[0]


def write_page(name: str, notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Write the notebook with its outputs as one HTML file that needs no network."""
    exporter = HTMLExporter(extra_loaders=[DictLoader({"page.html.j2": PAGE})], template_file="page.html.j2")
    page, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": name}})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.html").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
