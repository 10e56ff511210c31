"""`make bench-staleness`: the picture of what age costs, from the versions that the year's Level 2 has made."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from level1_pipeline import problem
from level1_pipeline.command_line import open_settings
from level1_pipeline.evaluation import staleness
from level1_pipeline.store.days import start_of

EARLIER = "2013-07-01"  # before this day the limits of the loop were chosen: the picture shows what was known then, too


def backtests(bundles: Path) -> list[tuple[str, dict[str, Any]]]:
    """What each version's training measured, by its last row's day, oldest first."""
    manifests = [json.loads(file.read_text()) for file in bundles.glob("*/bundle.json")]
    measured = sorted((each["trained_until"], each["staleness"]) for each in manifests if each.get("staleness"))
    return measured


def shown(measured: list[tuple[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The newest backtest, and the last one before EARLIER, by the names that the picture gives them."""
    early = [each for each in measured if each[0] < start_of(EARLIER).isoformat()][-1:]
    return {f"known on {until[:10]}": backtest for until, backtest in [*measured[-1:], *early]}


def draw(target: Path, measured: dict[str, dict[str, Any]]) -> None:
    """Write the picture as SVG, always the same bytes for the same figures."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": "staleness", "text.parse_math": False}
    with mpl.rc_context(style):  # type: ignore[arg-type]
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        staleness.draw(figure, measured)
        figure.savefig(target, format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, required=True, help="where the picture is written")
    home = open_settings().home / "year" / "level2"
    measured = backtests(home / "bundles" / problem.NAME)
    if not measured:
        raise SystemExit(f"no version below {home}/bundles has measured what age costs: run `make year` first")
    target = parser.parse_args().plot
    draw(target, shown(measured))
    Console().print(f"bench-staleness | {len(measured)} backtests, {' and '.join(shown(measured))} drawn | {target}")


if __name__ == "__main__":
    main()
