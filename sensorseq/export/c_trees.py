"""Boosted trees as tables with four bytes for each inner node or leaf."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.export.c_tables import Tables, quantize, rounded
from sensorseq.features.trees import BoostedTrees

_MOST_INNER = 127  # inner nodes of a tree, whose offsets are signed char


class _Places(NamedTuple):
    """The positions of the nodes of all trees."""

    is_inner: NDArray[np.bool_]
    tree: NDArray[np.int64]  # the tree that each node belongs to
    inner: NDArray[np.int64]  # index of an inner node within its tree
    leaf: NDArray[np.int64]  # index of a leaf within its tree

    @classmethod
    def of(cls, trees: BoostedTrees) -> "_Places":
        arrays = trees.state()["arrays"]
        is_inner, starts = arrays["feature"] >= 0, arrays["root"].ravel()
        tree = np.searchsorted(starts, np.arange(is_inner.size), side="right") - 1
        before = [np.cumsum(kind) - kind for kind in (is_inner, ~is_inner)]
        return cls(is_inner, tree, *(count - count[starts][tree] for count in before))

    def leaf_rows(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the leaf values as rows, (trees, most leaves)."""
        leaves = ~self.is_inner
        rows = np.zeros((self.tree[-1] + 1, self.leaf.max() + 1))
        rows[self.tree[leaves], self.leaf[leaves]] = value[leaves]
        return rows


def add_trees(tables: Tables, trees: BoostedTrees, used: NDArray[np.int64]) -> None:
    """Add the trees, which read the statistics in `used`.

    Thresholds are stored as float if that is exact for all of them, otherwise as double.
    """
    arrays, places = trees.state()["arrays"], _Places.of(trees)
    inner, leaves = np.flatnonzero(places.is_inner), ~places.is_inner
    n_inner = np.bincount(places.tree[inner], minlength=places.tree[-1] + 1)
    tests, number = np.unique(
        np.stack([arrays["feature"][inner], arrays["threshold"][inner]]),
        axis=1,
        return_inverse=True,
    )
    if n_inner.max() > _MOST_INNER or tests.shape[1] > 2**16:
        raise InputError(
            f"the trees have up to {n_inner.max() + 1} leaves and {tests.shape[1]} thresholds; at"
            f" most {_MOST_INNER + 1} and {2**16} can be exported to C. Export ONNX."
        )
    children = np.stack([arrays["left"][inner], arrays["right"][inner]], axis=1)
    on = places.inner[children] - places.inner[inner][:, None]
    thresholds = tests[1]
    is_short = (thresholds.astype(np.float32) == thresholds).all()
    tables.add("boosting_baseline", arrays["baseline"], "f8")
    tables.add("boosting_statistic", np.searchsorted(used, tests[0].astype(np.int64)), "u2")
    tables.add("boosting_threshold", thresholds, "f4" if is_short else "f8")
    tables.add("boosting_inner", n_inner, "u1")
    tables.add("boosting_test", number.ravel(), "u2")
    tables.add(
        "boosting_next", np.where(places.is_inner[children], on, -places.leaf[children]), "i1"
    )
    if not tables.int8:
        tables.add("boosting_leaf", arrays["value"][leaves], "f4")
        return
    whole, exponent = quantize(places.leaf_rows(arrays["value"]), exponents=True)
    tables.add("boosting_leaf", whole[places.tree[leaves], places.leaf[leaves]], "i1")
    tables.add("boosting_exponent", exponent, "i1")


def with_rounded_leaves(trees: BoostedTrees) -> BoostedTrees:
    """Return trees with leaf values rounded to int8."""
    state, places = trees.state(), _Places.of(trees)
    value = state["arrays"]["value"].copy()
    leaves = ~places.is_inner
    rows: Any = rounded(places.leaf_rows(value), exponents=True)
    value[leaves] = rows[places.tree[leaves], places.leaf[leaves]]
    return BoostedTrees({**state["arrays"], "value": value}, trees.n_statistics)
