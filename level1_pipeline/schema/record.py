"""The problem's Record as plain columns, for everything that is derived from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from level1_pipeline import problem


class Kind(Enum):
    """What an input holds. A model takes texts as texts, and everything else as numbers."""

    TEXT = "text"
    NUMBER = "number"
    WHOLE = "whole number"
    TRUTH = "truth value"
    DATE = "date"


@dataclass(frozen=True)
class Column:
    """One input of the model: its kind, whether it may be missing, and its bounds."""

    name: str
    kind: Kind
    nullable: bool
    low: float | None = None
    high: float | None = None
    low_excluded: bool = False
    high_excluded: bool = False
    pattern: str | None = None
    allowed: tuple[Any, ...] | None = None

    @property
    def text(self) -> bool:
        """Whether the model takes it as a text."""
        return self.kind is Kind.TEXT


@cache
def columns() -> tuple[Column, ...]:
    """The columns in the order of the Record, which is the order in which the model takes them."""
    return tuple(_column(name, rule) for name, rule in problem.Record.model_json_schema()["properties"].items())


def names() -> list[str]:
    """The names of the model's inputs."""
    return [column.name for column in columns()]


def dtypes() -> dict[str, str]:
    """The pandas type of each input, on purpose the same for every table that a model sees."""
    return {column.name: "str" if column.text else "float64" for column in columns()}


def _column(name: str, rule: dict[str, Any]) -> Column:
    choices = rule.get("anyOf", [rule])
    value = next(choice for choice in choices if choice.get("type") != "null")
    allowed = tuple(value["enum"]) if "enum" in value else (value["const"],) if "const" in value else None
    return Column(
        name=name,
        kind=_kind(value),
        nullable=len(choices) > 1,
        low=value.get("minimum", value.get("exclusiveMinimum")),
        high=value.get("maximum", value.get("exclusiveMaximum")),
        low_excluded="exclusiveMinimum" in value and "minimum" not in value,
        high_excluded="exclusiveMaximum" in value and "maximum" not in value,
        pattern=value.get("pattern"),
        allowed=allowed,
    )


def _kind(value: dict[str, Any]) -> Kind:
    if value.get("type") == "string":
        return Kind.DATE if value.get("format") == "date" else Kind.TEXT
    return {"integer": Kind.WHOLE, "boolean": Kind.TRUTH}.get(value.get("type", ""), Kind.NUMBER)
