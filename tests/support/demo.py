"""What `make demo` leaves in a home, small: enough to make the evidence site of it."""

from __future__ import annotations

from level1_pipeline import problem
from level1_pipeline.settings import Settings
from level1_pipeline.store.database import Store
from monitoring import history
from monitoring.reporting import html_report
from tests.support import ROOT
from tests.support.monitoring_runs import CHANGE, a_run


def leave_demo(home: Settings, digest: str) -> None:
    """What a demo leaves, small: the notebooks without outputs, a model card, and the report of a week."""
    notebooks = home.home / "reports" / "level0"
    notebooks.mkdir(parents=True)
    for notebook in (ROOT / "level0_notebooks").glob("*.ipynb"):
        (notebooks / f"{notebook.stem}.html").write_text(f"<h1>{notebook.stem}</h1>")
    summer = Settings(home=home.summer)
    card = summer.home / "reports" / "level1" / problem.NAME / "2013-07-28" / "model_card.md"
    card.parent.mkdir(parents=True)
    card.write_text(f"# Model card: {problem.NAME}\n\n- source_digest: {digest}\n")
    store, run = Store(summer.operations), a_run(CHANGE)
    history.record(store, run)
    html_report.write(summer, store, run, [])
    store.close()
