"""Whether a whole bundle is for today's problem.py: the same task and classes, and each input there, in the form it was trained on.

A clone changes its Record while an older champion serves. Such a bundle is not damaged, and a person has a way on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from level1_pipeline import problem, schema
from level1_pipeline.errors import OtherContract
from level1_pipeline.schema.several_classes import classes

TRAIN_AGAIN = (
    "train one for them: python -m level1_pipeline train --promote-to champion (the gate judges it against the baselines), "
    "or bring the earlier problem.py back"
)
# As a model takes an input. Whole numbers and truth values are numbers to it, so a change among these three changes nothing.
FORMS = {schema.Kind.TEXT: "text", schema.Kind.DATE: "date"}
NUMBER = "number"


def input_forms() -> dict[str, str]:
    """The form of each input of today's Record, as a manifest keeps it."""
    return {column.name: FORMS.get(column.kind, NUMBER) for column in schema.columns()}


def made_for() -> dict[str, Any]:
    """What a manifest says of today's problem.py."""
    named = {"classes": list(classes())} if classes() else {}
    return {"problem": problem.NAME, "task": problem.TASK, **named, "inputs": input_forms()}


def demand_task(place: str, manifest: Mapping[str, Any]) -> None:
    """A probability is no value, and a value no probability. Bundles of earlier releases do not say their task.

    Raises:
        OtherContract: it is for another TASK, or for other CLASSES, or for these in another order.
    """
    task = manifest.get("task", problem.TASK)
    if task != problem.TASK:
        raise OtherContract(
            f"the model in {place} was trained for a {task}, and TASK is {problem.TASK} now; {TRAIN_AGAIN}"
        )
    if (named := manifest.get("classes", [])) != list(classes()):
        raise OtherContract(
            f"the model in {place} was trained for the classes {named}, and CLASSES are {list(classes())} now; {TRAIN_AGAIN}"
        )


def misread_labels(manifest: Mapping[str, Any]) -> str:
    """Why earlier labels would be read wrongly with today's CLASSES or TASK; empty if they would not.

    The store keeps labels of several classes as places in CLASSES, so each class has to keep its place. New ones may
    come at the end. Under another TASK the places would be read as values, and values as places.
    """
    before, now = manifest.get("classes", []), list(classes())
    if bool(before) != bool(now):
        return (
            f"TASK: is {problem.TASK} now, and the champion was trained for another one; the store keeps labels of several "
            "classes as places in CLASSES, so the earlier labels would be read wrongly; give the problem another NAME"
        )
    if now[: len(before)] == before:
        return ""
    return (
        f"CLASSES: are {now}, and the champion was trained for {before}; the store keeps labels as places, so keep the "
        "earlier classes where they were and add new ones at the end, or give the problem another NAME"
    )


def demand_inputs(place: str, manifest: Mapping[str, Any], golden: Iterable[Mapping[str, Any]]) -> None:
    """Every input of the model is in the Record, and of the same form. An input that came later is no reason.

    Args:
        place: where the bundle lies.
        manifest: of the bundle.
        golden: its golden records, which tell the forms in a bundle of an earlier release.

    Raises:
        OtherContract: an input is gone, or has another form.
    """
    now = input_forms()
    trained = {name: {form} for name, form in manifest.get("inputs", {}).items()} or _seen(golden)
    changed = [
        f"{name} was a {' or '.join(sorted(trained[name]))}, and is a {now[name]} now"
        for name in sorted(trained.keys() & now.keys())
        if now[name] not in trained[name]
    ]
    gone = ", ".join(sorted(trained.keys() - now.keys()))
    if told := [f"the Record has no {gone}"] * bool(gone) + changed:
        raise OtherContract(f"the model in {place} was trained for other inputs: {'; '.join(told)}; {TRAIN_AGAIN}")


def _seen(golden: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """The forms that the values of each input may have had: a date stands there as a text."""
    texts, forms = {*FORMS.values()}, dict[str, set[str]]()
    for record in golden:
        for name, value in record.items():
            possible = {*texts, NUMBER} if value is None else texts if isinstance(value, str) else {NUMBER}
            forms[name] = forms.get(name, {*texts, NUMBER}) & possible
    return forms
