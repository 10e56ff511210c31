"""A fitted tree pipeline as plain numbers, and the one kernel that scores with them.

scikit-learn needs milliseconds for one row, because it builds a table and checks it; the trees
themselves need microseconds. `tree_compiler` reads the encoder's categories and, through treelite's
public interface, the trees; `Scorer` needs nothing but numpy to give the same probabilities.

The kernel is QuickScorer (Lucchese et al., 2015). The leaves of each tree are bits, left to right. A
comparison that fails rules out the leaves on its left, so for every input the position of its value
among the sorted thresholds picks a ready mask; the lowest bit that survives all masks is the leaf.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from sys import float_info
from typing import TYPE_CHECKING, Any

import numpy as np

from level1_pipeline import schema
from level1_pipeline.errors import NotCompilable

if TYPE_CHECKING:
    import pandas as pd

MOST_LEAVES = 64  # of a tree: one bit each
FEW = 8  # records; more are faster column by column
BLOCK = 1024  # rows scored together: what fits into the processor's cache


class Scorer:
    """Compiled trees, ready to predict. Immutable, and safe to share between threads."""

    def __init__(self, compiled: Mapping[str, Any]):
        self.link, self.base = compiled["link"], compiled["base"]
        self._classes = np.size(self.base)  # several: each has its trees, one class after the other
        trees = compiled["trees"]
        leaves = [_leaves_of_each_node(tree) for tree in trees]
        most = max(len(order) for order, _ in leaves)
        if most > MOST_LEAVES:
            raise NotCompilable(f"a tree has {most} leaves; at most {MOST_LEAVES} are possible")
        self._word = np.uint32 if most <= 32 else np.uint64
        self._leaf_values = np.zeros((len(trees), most))
        for number, (tree, (ordered, _)) in enumerate(zip(trees, leaves, strict=True)):
            self._leaf_values[number, : len(ordered)] = [tree["value"][leaf] for leaf in ordered]
        # One before each tree's first leaf, in the smallest type: the sum is as large as the rows times the trees.
        self._before_leaves = (np.arange(len(trees)) * most - 1).astype(np.min_scalar_type(-most * len(trees)))
        self._masks, self._inputs = self._tables(compiled["inputs"], trees, leaves)
        self._find = [(column.name, column.row) for column in self._inputs]

    def _tables(self, inputs: list[dict[str, Any]], trees: list[dict[str, Any]], leaves: list[Any]) -> tuple[Any, Any]:
        """One row of masks for each interval between thresholds and one for missing, of each input in use."""
        tables: list[np.ndarray] = []
        prepared, height = [], 0
        for feature, described in enumerate(inputs):
            thresholds, masks = self._masks_of(feature, trees, leaves)
            if not thresholds:
                continue
            prepared.append(_Input(described, thresholds, height))
            tables.append(masks)
            height += len(masks)
        return np.concatenate(tables or [np.full((1, len(trees)), -1).astype(self._word)]), prepared

    def _masks_of(self, feature: int, trees: list[dict[str, Any]], leaves: list[Any]) -> tuple[list[float], np.ndarray]:
        nodes = [
            (tree["threshold"][node], number, node)
            for number, tree in enumerate(trees)
            for node, left in enumerate(tree["left"])
            if left >= 0 and tree["feature"][node] == feature
        ]
        thresholds = sorted({threshold for threshold, _, _ in nodes})
        masks = np.full((len(thresholds) + 2, len(trees)), -1, np.int64).astype(self._word)
        for threshold, number, node in nodes:
            keep = ~self._word(leaves[number][1][node])
            masks[bisect_left(thresholds, threshold) + 1, number] &= keep
            if not trees[number]["missing_left"][node]:
                masks[-1, number] &= keep
        masks[:-1] = np.bitwise_and.accumulate(masks[:-1], axis=0)
        return thresholds, masks

    def predict(self, records: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """P(target = 1), the value for a regression, shape (n,), or P of each class, shape (n, classes), of records."""
        if len(records) < FEW:
            rows = [[find(record[name]) for name, find in self._find] for record in records]
            return self._score(np.array(rows, np.intp))
        places = [column.rows([record[column.name] for record in records]) for column in self._inputs]
        return self._score(self._by_row(places, len(records)))

    def predict_frame(self, rows: pd.DataFrame) -> np.ndarray:
        """The same numbers for the rows of a table."""
        return self.predict_columns(schema.from_frame(rows))

    def predict_columns(self, inputs: schema.Columns) -> np.ndarray:
        """The same numbers for whole columns."""
        height = len(next(iter(inputs.values())))
        return self._score(self._by_row([column.column(inputs[column.name]) for column in self._inputs], height))

    def _by_row(self, columns: list[Any], height: int) -> np.ndarray:
        places = np.empty((len(columns), height), np.intp)
        for position, column in enumerate(columns):
            places[position] = column
        return places.T

    def edges(self) -> dict[str, list[Any]]:
        """Where predictions change: the thresholds of each number, the categories of each text."""
        return {column.name: column.edges for column in self._inputs}

    def _score(self, rows: np.ndarray) -> np.ndarray:
        raw = np.empty(len(rows) if self._classes == 1 else (len(rows), self._classes))
        for start in range(0, len(rows), BLOCK):
            alive = self._alive(rows[start : start + BLOCK])
            first = np.bitwise_count(alive ^ (alive - self._word(1)))  # the lowest bit that is set; the lowest is 1
            leaves = self._leaf_values.take(first + self._before_leaves, mode="clip")
            if self._classes > 1:
                leaves = leaves.reshape(len(leaves), self._classes, -1)
            raw[start : start + BLOCK] = leaves.sum(axis=-1)
        raw += self.base
        if self.link == "softmax":
            powers = np.exp(raw - raw.max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
        return 1 / (1 + np.exp(-raw)) if self.link == "sigmoid" else raw

    def _alive(self, rows: np.ndarray) -> Any:
        """The leaves of each tree that no input rules out; all inputs at once, or one by one to stay in the cache."""
        if len(rows) < FEW or not self._inputs:
            return np.bitwise_and.reduce(self._masks.take(rows, axis=0), axis=1)
        alive = self._masks.take(rows[:, 0], axis=0)
        for position in range(1, rows.shape[1]):
            alive &= self._masks.take(rows[:, position], axis=0)
        return alive


class _Input:
    """Where a value of one input lies among the trees' thresholds, as a row of the masks."""

    def __init__(self, described: Mapping[str, Any], thresholds: list[float], first: int):
        self.name: str = described["name"]
        self._thresholds, self._first, self._missing = thresholds, first, first + len(thresholds) + 1
        self._sorted = np.array([*thresholds, np.inf])  # NaN comes after all: at the row of missing values
        self._codes: dict[str | None, int] | None = None
        if "codes" in described:
            codes = {**described["codes"], None: described["missing"]}
            self._codes = {value: self._place(code) for value, code in codes.items()}
            self._unknown = self._place(described["unknown"])

    @property
    def edges(self) -> list[Any]:
        """The thresholds of a number that lie in the range of numbers, or the categories of a text."""
        if self._codes is not None:
            return [value for value in self._codes if value is not None]
        return [threshold for threshold in self._thresholds if threshold < float_info.max]

    def row(self, value: Any) -> int:
        """Of one value; None is missing."""
        if self._codes is not None:
            return self._codes.get(value, self._unknown)
        if value is None or value != value:
            return self._missing
        return self._first + bisect_left(self._thresholds, value)

    def rows(self, values: Any) -> Any:
        """Of many values at once; None and NaN are missing."""
        if self._codes is not None:
            codes, unknown, missing = self._codes, self._unknown, self._codes[None]
            return [codes.get(value, unknown) if value == value else missing for value in values]
        return self._first + self._sorted.searchsorted(np.asarray(values, np.float64))

    def column(self, values: np.ndarray | schema.Texts) -> Any:
        """Of a whole column; each different text is looked up once."""
        if isinstance(values, schema.Texts):
            return np.array([self.row(text) for text in values.different])[values.places]
        return self.rows(values)

    def _place(self, number: float | None) -> int:
        if number is None or number != number:
            return self._missing
        return self._first + bisect_left(self._thresholds, number)


def _leaves_of_each_node(tree: Mapping[str, list[Any]]) -> tuple[list[int], list[int]]:
    """The leaves of a tree from left to right, and for each node the bits of the leaves below its left child."""
    order: list[int] = []
    left_bits = [0] * len(tree["left"])

    def below(node: int) -> int:
        if tree["left"][node] < 0:
            order.append(node)
            return 1 << (len(order) - 1)
        left_bits[node] = below(tree["left"][node])
        return left_bits[node] | below(tree["right"][node])

    below(0)
    return order, left_bits
