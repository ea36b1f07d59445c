"""Constants of the C source: arrays as text, int8 weights, boosted trees and size of the state."""

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import InputError
from sensorseq.features.trees import BoostedTrees

C_TYPES = {
    "f4": "float",
    "f8": "double",
    "i4": "int",
    "u2": "unsigned short",
    "i1": "signed char",
    "u1": "unsigned char",
}
_BYTES = {"double": 8, "float": 4, "int": 4}
_LARGEST = 127
_MOST_INNER = 127  # maximum number of inner nodes per tree, because node offsets are signed char


def quantize(weight: NDArray[Any], *, exponents: bool = False) -> tuple[NDArray[Any], Any]:
    """Quantize rows (n, m) to int8; also return the factor of each row.

    With `exponents`, factors are powers of two, and their exponents are returned.
    """
    scale = np.abs(weight).max(axis=1, initial=0.0).astype(np.float64) / _LARGEST
    scale = np.where(scale > 0, scale, 1.0)
    exponent = np.ceil(np.log2(scale)).clip(-126, 127)
    scale = np.exp2(exponent) if exponents else scale.astype(np.float32)
    whole = np.rint(weight / scale[:, None]).clip(-_LARGEST, _LARGEST).astype(np.int8)
    return whole, exponent.astype(np.int8) if exponents else scale


def rounded(weight: NDArray[Any], *, exponents: bool = False) -> NDArray[Any]:
    """Round rows (n, m) to int8 and convert the result back to the type of the rows."""
    whole, scale = quantize(weight, exponents=exponents)
    scale = np.exp2(scale.astype(np.float64)) if exponents else scale
    restored: NDArray[Any] = (whole * scale[:, None]).astype(weight.dtype)
    return restored


@dataclass
class Tables:
    """The constant arrays of a source file, in order; weights may be int8."""

    int8: bool
    entries: list[tuple[str, str, int, str]] = field(default_factory=list)
    n_bytes: int = 0

    def add(self, name: str, values: Any, kind: str) -> None:
        """Add an array with a type of `C_TYPES`; an empty array gets one unused element."""
        flat = np.ravel(np.asarray(values)).astype(kind)
        flat = flat if flat.size else np.zeros(1, kind)
        self.entries.append((C_TYPES[kind], name, flat.size, _lines(flat)))
        self.n_bytes += flat.nbytes

    def add_weight(self, name: str, rows: NDArray[Any]) -> None:
        """Add a weight (n, m) as float32, or as int8 with an array name_scale of row factors."""
        if not self.int8:
            self.add(name, rows, "f4")
            return
        whole, scale = quantize(rows)
        at = name.index("_") if "_" in name else len(name)
        self.add(name, whole, "i1")
        self.add(f"{name[:at]}_scale{name[at:]}", scale, "f4")

    def add_features(self, name: str, weight: NDArray[Any]) -> None:
        """Add weights (n_features, n_classes) as float32, or as int8 with an exponent per feature.

        One factor for all features is not enough, because weights of rare features are thousands of
        times larger than others.
        """
        if not self.int8:
            self.add(f"{name}_weight", weight, "f4")
            return
        whole, exponent = quantize(weight, exponents=True)
        self.add(f"{name}_weight", whole, "i1")
        self.add(f"{name}_exponent", exponent, "i1")


def _lines(values: NDArray[Any]) -> str:
    """Format the elements of an initializer in lines of about 100 characters."""
    if values.dtype.kind == "f":
        suffix = "f" if values.dtype == np.float32 else ""
        texts = [f"{_decimal(v)}{suffix}" for v in values]
    else:
        texts = [str(v) for v in values.tolist()]
    per_line = max(1, 96 // (max(map(len, texts)) + 2))
    rows = [texts[at : at + per_line] for at in range(0, len(texts), per_line)]
    return "\n".join("    " + ", ".join(row) + "," for row in rows)


def _decimal(value: np.floating) -> str:
    """Return the shortest decimal with a point or exponent that converts back to this number."""
    text = np.format_float_scientific(value, trim="0") if value else "0.0"
    return text if abs(float(value)) < 1e-3 or abs(float(value)) >= 1e6 else repr(value.item())[:24]


def struct_bytes(header: str) -> int:
    """Return the size in bytes of a header's struct of arrays, whose largest types come first."""
    fields = re.findall(r"^  (double|float|int) \w+\[(\d+)\];$", header, re.M)
    n_bytes = sum(_BYTES[kind] * int(size) for kind, size in fields)
    return -(-n_bytes // _BYTES[fields[0][0]]) * _BYTES[fields[0][0]]


def text(value: str) -> str:
    """Return a string as a C string literal in plain ASCII."""
    plain = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in value.encode()
    )
    return f'"{plain}"'


def comment(value: str) -> str:
    """Return a string as a single line that cannot end a C comment."""
    plain = "".join(char if char.isprintable() else " " for char in value)
    return plain.replace("*/", "* /").replace("/*", "/ *").rstrip("\\ ")


class _Places(NamedTuple):
    """The positions of the nodes of all trees."""

    is_inner: NDArray[np.bool_]
    tree: NDArray[np.int64]  # index of each node's tree
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
        """Return the leaf values with a row for each tree, padded to the largest tree."""
        leaves = ~self.is_inner
        rows = np.zeros((self.tree[-1] + 1, self.leaf.max() + 1))
        rows[self.tree[leaves], self.leaf[leaves]] = value[leaves]
        return rows


def add_trees(tables: Tables, name: str, trees: BoostedTrees, used: NDArray[np.int64]) -> None:
    """Add the boosted trees of a member, which read the statistics in `used`.

    Each inner node or leaf takes about four bytes. Thresholds are stored as float if that is exact
    for all of them, otherwise as double.
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
            f" most {_MOST_INNER + 1} and {2**16} can be exported to C. Export to ONNX instead."
        )
    children = np.stack([arrays["left"][inner], arrays["right"][inner]], axis=1)
    offset = places.inner[children] - places.inner[inner][:, None]
    thresholds = tests[1]
    is_short = (thresholds.astype(np.float32) == thresholds).all()
    tables.add(f"{name}_baseline", arrays["baseline"], "f8")
    tables.add(f"{name}_statistic", np.searchsorted(used, tests[0].astype(np.int64)), "u2")
    tables.add(f"{name}_threshold", thresholds, "f4" if is_short else "f8")
    tables.add(f"{name}_inner", n_inner, "u1")
    tables.add(f"{name}_test", number.ravel(), "u2")
    following = np.where(places.is_inner[children], offset, -places.leaf[children])
    tables.add(f"{name}_next", following, "i1")
    if not tables.int8:
        tables.add(f"{name}_leaf", arrays["value"][leaves], "f4")
        return
    whole, exponent = quantize(places.leaf_rows(arrays["value"]), exponents=True)
    tables.add(f"{name}_leaf", whole[places.tree[leaves], places.leaf[leaves]], "i1")
    tables.add(f"{name}_exponent", exponent, "i1")


def with_rounded_leaves(trees: BoostedTrees) -> BoostedTrees:
    """Return a copy of trees with leaf values rounded to int8."""
    state, places = trees.state(), _Places.of(trees)
    value = state["arrays"]["value"].copy()
    leaves = ~places.is_inner
    rows: Any = rounded(places.leaf_rows(value), exponents=True)
    value[leaves] = rows[places.tree[leaves], places.leaf[leaves]]
    return BoostedTrees({**state["arrays"], "value": value}, trees.n_statistics)
