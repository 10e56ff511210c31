"""`evaluate`, PRIMARY_METRIC, GATE, COSTS and `choose_action`: what models are compared by, and what a score makes us do."""

from __future__ import annotations

import ast
import inspect
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import ValidationError

from level1_pipeline import problem
from level1_pipeline.evaluation.contract import made_up
from level1_pipeline.evaluation.contract.mistake import Mistake, did_you_mean
from level1_pipeline.evaluation.gate import Gate
from level1_pipeline.schema.task import task

# Two models are compared day by day, and a day may have a single row, or a single label.
DAYS = {"one row": [1.0], "one row without the event": [0.0], "rows with one label only": [1.0, 1.0, 1.0]}


def evaluate() -> Iterator[Mistake]:
    """On ordinary rows, and on days with few."""
    seen: dict[str, float] = {}
    for what, labels in {"many rows": made_up.labels().tolist(), **DAYS}.items():
        y = np.array(labels)
        p = made_up.good(y) if len(y) == made_up.ROWS else made_up.middling(len(y))
        try:
            metrics = _quietly(y, p)
            wrong = _no_numbers(metrics)
        except Exception as error:  # whatever a metric raises
            wrong = (
                f"raises {type(error).__name__} on a day with {what} ({error}); give NaN for a metric that is not "
                "defined there"
            )
        if wrong:
            yield Mistake("evaluate", wrong)
            return
        seen = seen or metrics
        yield from _named(seen) if what == "many rows" else ()
        value = metrics.get(problem.PRIMARY_METRIC, 0.0)
        if not math.isfinite(value):
            yield Mistake(
                "PRIMARY_METRIC",
                f"the metric '{problem.PRIMARY_METRIC}' is {value} on a day with {what}, and models are compared by it "
                "day by day; choose one that is a mean over rows, as log_loss or mae, and keep the other as a limit",
            )
            return


def _no_numbers(metrics: Any) -> str:
    if not isinstance(metrics, dict) or not metrics:
        return f"must give a dict of metrics, and it gives {type(metrics).__name__}; return {{'name': value}}"
    wrong = [name for name, value in metrics.items() if not isinstance(value, int | float | np.floating)]
    return f"gives no number for '{wrong[0]}'; write float(…) around it" if wrong else ""


def _named(metrics: dict[str, float]) -> Iterator[Mistake]:
    """The metrics that other names of the file name."""
    if problem.PRIMARY_METRIC not in metrics:
        hint = did_you_mean(problem.PRIMARY_METRIC, sorted(metrics))
        yield Mistake("PRIMARY_METRIC", f"names '{problem.PRIMARY_METRIC}', which `evaluate` does not give; {hint}")
    for name in problem.GATE.get("limits") or {}:
        if name not in metrics:
            hint = did_you_mean(name, sorted(metrics))
            yield Mistake("GATE['limits']", f"names '{name}', which `evaluate` does not give; {hint}")
    if (losses := task().loss_metrics) and not {*losses} & {*metrics}:
        yield Mistake(
            "evaluate",
            "gives neither rmse nor mse, so monitoring cannot test the loss of a regression; add one of them",
        )


def direction() -> Iterator[Mistake]:
    """Less of PRIMARY_METRIC must be better: asked with predictions that are good, and with some that are bad."""
    y, name = made_up.labels(), problem.PRIMARY_METRIC
    try:
        good, bad = (_quietly(y, p)[name] for p in (made_up.good(y), made_up.bad(y)))
    except Exception:  # which `evaluate` above tells
        return
    if good > bad:
        yield Mistake(
            "PRIMARY_METRIC",
            f"more of '{name}' is better ({good:.3g} for good predictions, {bad:.3g} for bad ones), and every comparison "
            "takes less as better; choose a loss, as log_loss, brier, rmse or mae, and keep this one in GATE['limits']",
        )
    elif good == bad:
        yield Mistake(
            "PRIMARY_METRIC",
            f"'{name}' is {good:.3g} for good predictions as for bad ones; choose a loss, as log_loss or rmse",
        )


def gate() -> Iterator[Mistake]:
    """Its keys, and values of the right kind."""
    possible = list(Gate.model_fields)
    try:
        Gate(**problem.GATE)
    except ValidationError as error:
        for detail in error.errors():
            key = str(detail["loc"][0])
            if detail["type"] == "extra_forbidden":
                yield Mistake("GATE", f"has no rule '{key}'; {did_you_mean(key, possible)}")
            elif detail["type"] == "missing":
                yield Mistake(
                    "GATE", f"lacks the rule '{key}'; add it (level1_pipeline/evaluation/gate.py says what it is)"
                )
            else:
                place = "".join(f"[{part!r}]" for part in detail["loc"])
                yield Mistake(f"GATE{place}", f"{detail['msg']}, and it is {detail['input']!r}; correct it")
        return
    for name in ("holdout_days", "min_rows"):
        if problem.GATE[name] < 1:
            yield Mistake(f"GATE['{name}']", f"is {problem.GATE[name]}, and must be at least 1; raise it")
    if problem.GATE["maturity_hours"] < 0:
        yield Mistake("GATE['maturity_hours']", "is below 0; write the hours from EVENT_TIME until a label is known")
    for name, (low, high) in problem.GATE["limits"].items():
        if low is not None and high is not None and low > high:
            yield Mistake(f"GATE['limits']['{name}']", f"nothing is at least {low} and at most {high}; swap them")


def costs() -> Iterator[Mistake]:
    """Prices, and those that `choose_action` names."""
    for name, price in problem.COSTS.items():
        if isinstance(price, bool) or not isinstance(price, int | float) or not math.isfinite(price) or price < 0:
            yield Mistake(
                f"COSTS['{name}']", f"is {price!r}, and must be a finite number that is not below 0; correct it"
            )
    if task().has_event and len(problem.COSTS) == 1:
        yield Mistake(
            "COSTS", "has one price; name first that of a miss, then that of a needless action, or leave it empty"
        )
    for key in sorted(_costs_used() - set(map(str, problem.COSTS))):
        yield Mistake("choose_action", f"names COSTS['{key}'], which is not there; {did_you_mean(key, problem.COSTS)}")


def _costs_used() -> set[str]:
    """The keys that `choose_action` takes from COSTS, as its text says."""
    try:
        tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(problem.choose_action)))
    except (OSError, TypeError, SyntaxError):
        return set()
    taken = [node for node in ast.walk(tree) if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)]
    keys = [node.slice.value for node in taken if node.value.id == "COSTS" and isinstance(node.slice, ast.Constant)]  # type: ignore[attr-defined]
    return {key for key in keys if isinstance(key, str)}


def choose_action() -> Iterator[Mistake]:
    """A text for every score."""
    for score in task().probes:
        try:
            action = problem.choose_action(score)
        except Exception as error:  # whatever the cloner's code raises
            if not (isinstance(error, KeyError) and _costs_used() - set(problem.COSTS)):  # which `costs` tells
                yield Mistake(
                    "choose_action", f"raises {type(error).__name__} for the score {_told(score)} ({error}); mend it"
                )
            return
        if not isinstance(action, str) or not action:
            yield Mistake(
                "choose_action", f"gives {action!r} for the score {_told(score)}; return the action as a text"
            )
            return


def _told(score: float | list[float]) -> str:
    return ", ".join(f"{part:g}" for part in score) if isinstance(score, list) else f"{score:g}"


def _quietly(y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a metric that is not defined; that is judged here
        return problem.evaluate(y, p)
