"""DEMO, the optional days of `make demo`, `make level2` and `make year`: what it says wrong would come out after minutes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

from level1_pipeline import problem, schema
from level1_pipeline.evaluation.contract.mistake import Mistake, did_you_mean

KEYS = ("as_of", "row", "simulate", "year")
SIMULATE = ("trained", "first", "last", "fault", "fault_from", "fault_days")
DAYS_OF_SIMULATION = ("trained", "first", "last", "fault_from")
DAY = 'a day, written as "2024-02-29"'


def demo() -> Iterator[Mistake]:
    """Its keys, and values of the right kind."""
    given = getattr(problem, "DEMO", {})
    if not isinstance(given, dict):
        yield Mistake(
            "DEMO", f"must be a dict, and it is of the type {type(given).__name__}; write one, or leave it out"
        )
        return
    yield from _unknown("DEMO", given, KEYS)
    if "as_of" in given:
        yield from _day("DEMO['as_of']", given["as_of"])
    if not isinstance(given.get("row", ""), str):
        yield Mistake("DEMO['row']", f"is {given['row']!r}; write the {problem.ID} of a row, as a text")
    if "year" in given:
        yield from _span("DEMO['year']", given["year"])
    simulate = given.get("simulate", {})
    if isinstance(simulate, dict):
        yield from _simulate(simulate)
    else:
        yield Mistake("DEMO['simulate']", f"must be a dict of {', '.join(SIMULATE)}; write one, or leave it out")


def _simulate(given: dict[Any, Any]) -> Iterator[Mistake]:
    where = "DEMO['simulate']"
    yield from _unknown(where, given, SIMULATE)
    for name in DAYS_OF_SIMULATION:
        if name in given:
            yield from _day(f"{where}['{name}']", given[name])
    if _is_day(given.get("first")) and _is_day(given.get("last")):
        yield from _span(where, (given["first"], given["last"]))
    if given.get("fault") is not None and hasattr(problem.Record, "model_fields"):
        numbers = [column.name for column in schema.columns() if column.kind is schema.Kind.NUMBER]
        if given["fault"] not in numbers:
            hint = did_you_mean(given["fault"], numbers)
            yield Mistake(f"{where}['fault']", f"{given['fault']!r} is no number of the Record; {hint}")
    days = given.get("fault_days", 1)
    if isinstance(days, bool) or not isinstance(days, int) or days < 1:
        yield Mistake(f"{where}['fault_days']", f"is {days!r}, and must be a whole number from 1 on; correct it")


def _unknown(where: str, given: dict[Any, Any], possible: tuple[str, ...]) -> Iterator[Mistake]:
    for key in given:
        if key not in possible:
            yield Mistake(where, f"knows no '{key}'; {did_you_mean(key, possible)}")


def _span(where: str, given: Any) -> Iterator[Mistake]:
    if not isinstance(given, tuple | list) or len(given) != 2 or not all(map(_is_day, given)):
        yield Mistake(where, f"is {given!r}; write the first and the last day, each {DAY}")
    elif given[0] > given[1]:
        yield Mistake(where, f"ends on {given[1]}, before it begins on {given[0]}; swap them")


def _day(where: str, given: Any) -> Iterator[Mistake]:
    if not _is_day(given):
        yield Mistake(where, f"is {given!r}; write {DAY}")


def _is_day(given: Any) -> bool:
    try:
        return isinstance(given, str) and str(date.fromisoformat(given)) == given
    except ValueError:
        return False
