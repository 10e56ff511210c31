"""What MLflow's own pages show at first sight: an experiment with its columns, and each version in one line."""

from __future__ import annotations

import base64
import json
import zlib

from level1_pipeline import problem

NOTE = "mlflow.note.content"  # the tag that MLflow shows as a description, read as Markdown
VIEW = "trainings"
GAIN = "gain"  # over the champion of that time, on the same days
CARD = "model_card.md"
COLUMNS = (
    "tags.`verdict`",
    "tags.`version`",
    f"metrics.`{problem.PRIMARY_METRIC}`",
    f"metrics.`{GAIN}`",
    "tags.`trigger`",
    "tags.`reasons`",
)


def experiment_tags() -> dict[str, str]:
    """The description of an experiment, and a shared view with COLUMNS: MLflow alone shows neither metrics nor tags.

    A page with this view has an address that ends with `?viewStateShareKey=trainings`.
    """
    view = {"selectedColumns": COLUMNS, "orderByKey": "attributes.`start_time`", "orderByAsc": False}
    packed = base64.b64encode(zlib.compress(json.dumps(view).encode())).decode()
    about = f"Every training of {problem.NAME}: what the gate said, and how much better it was than the champion."
    return {NOTE: about, f"mlflow.sharedViewState.{VIEW}": f"deflate;{packed}"}


def description(
    day: str, verdict: str, loss: float | None, gain: float | None, champion: str | None, trigger: str
) -> str:
    """A training in one line: its day, verdict, gain and trigger.

    Args:
        day: as of which it was made.
        verdict: of the gate.
        loss: the primary metric on the holdout, where it was measured.
        gain: how much lower that is than the champion's on the same days, where there was one to compare with.
        champion: that served then.
        trigger: who or what asked for it.
    """
    parts = [day, f"gate {verdict.upper()}"]
    parts += [] if loss is None else [f"{problem.PRIMARY_METRIC} {loss:.4f}"]
    if gain is not None:
        parts.append(f"{abs(gain):.4f} {'better' if gain >= 0 else 'worse'} than champion {champion}")
    elif champion is None:
        parts.append("the first one, so with no champion to compare with")
    return " · ".join([*parts, f"trigger: {trigger}"])


def card_link(experiment: str, run_id: str) -> str:
    """The model card of a run, as a link inside MLflow's pages."""
    return f"[model card](#/experiments/{experiment}/runs/{run_id}/artifacts/{CARD})"
