"""Summary of a split: windows and groups of each part and class, and the largest imbalance."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sensorseq.errors import SplitError
from sensorseq.preprocessing.split import check_fractions
from sensorseq.windows import PARTS

_WIDTH = 80


@dataclass(frozen=True)
class SplitSummary:
    """Windows and groups of each (part, class); ``str`` is a table of at most 80 columns.

    Parameters
    ----------
    n_windows, n_groups : dict of str to dict of label to int
        By part, then class; without labels the only class is ``""``.
    n_left_out : int
        Windows in no part.
    deviation : float
        Largest difference, over parts and classes, between a part's share of a class's windows and
        its target share.
    where : tuple of (str, label)
        The part and the class with the largest difference.
    wanted : dict of str to float
        Target share of each part.
    is_given : bool
        Whether the target shares were given; otherwise they are the parts' shares of all windows.
    """

    n_windows: dict[str, dict[Any, int]]
    n_groups: dict[str, dict[Any, int]]
    n_left_out: int
    deviation: float
    where: tuple[str, Any]
    wanted: dict[str, float]
    is_given: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, and the sentence under ``"imbalance"``."""
        return {**asdict(self), "where": list(self.where), "imbalance": self.imbalance}

    @property
    def imbalance(self) -> str:
        """One sentence on the largest deviation."""
        part, label = self.where
        by_class = self.n_windows[part]
        total = sum(counts[label] for counts in self.n_windows.values())
        of = "the windows" if label == "" else f"class {label}"
        asked = "requested" if self.is_given else "of all windows"
        if self.deviation < 0.005:
            of_what = "the windows" if label == "" else "every class"
            return f"Every part has its share of {of_what}."
        return (
            f"Largest imbalance: {100 * by_class[label] / total:.0f} % of {of} are in {part}"
            f" ({100 * self.wanted[part]:.0f} % {asked})."
        )

    def __str__(self) -> str:
        parts = list(self.n_windows)
        names = list(self.n_windows[parts[0]])
        rows = [["class", *parts]]
        for name in names:
            cells = [f"{self.n_windows[p][name]} ({self.n_groups[p][name]})" for p in parts]
            rows.append([str(name) or "windows", *cells])
        widths = [max(len(row[i]) for row in rows) for i in range(len(parts) + 1)]
        widths[0] = min(widths[0], _WIDTH - sum(width + 2 for width in widths[1:]))
        lines = [
            "  ".join(
                [row[0][: widths[0]].ljust(widths[0])]
                + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            )
            for row in rows
        ]
        lines.append("windows (groups)" + f"; {self.n_left_out} left out" * bool(self.n_left_out))
        lines.append(textwrap.fill(self.imbalance, _WIDTH, subsequent_indent="  "))
        return "\n".join(lines)


def describe_split(
    y: ArrayLike | None,
    groups: ArrayLike | None,
    split: ArrayLike,
    fractions: Sequence[float] | None = None,
) -> SplitSummary:
    """Count the windows and groups of each part and class, and measure the imbalance.

    Parameters
    ----------
    y : array-like of shape (n_windows,) or None
        Labels.
    groups : array-like of shape (n_windows,) or None
        Groups; None counts every window as one.
    split : array-like of shape (n_windows,)
        ``"train"``, ``"validation"`` or ``"test"``; ``""`` for windows that are left out.
    fractions : sequence of 3 floats, optional
        Target shares of train, validation and test, as given to `split_by_group`. By default each
        class should be distributed like all windows.

    Raises
    ------
    SplitError
        If shapes disagree, a part is unknown, or every window is left out.
    ArgumentError
        If `fractions` are not three shares that sum to 1.
    """
    part = np.asarray(split, dtype=np.str_)
    label = np.full(part.shape, "") if y is None else np.asarray(y)
    group = np.arange(part.size) if groups is None else np.asarray(groups)
    if part.ndim != 1 or label.shape != part.shape or group.shape != part.shape:
        raise SplitError(
            f"split has shape {part.shape}, y has shape {label.shape} and groups has shape"
            f" {group.shape}; all need (n_windows,)."
        )
    unknown = sorted(set(part.tolist()) - {*PARTS, ""})
    if unknown:
        raise SplitError(f"split holds {unknown[0]!r}; expected {', '.join(PARTS)}, or ''.")
    kept = part != ""
    if not kept.any():
        raise SplitError("every window is left out; there is no split to describe.")
    wanted = dict(zip(PARTS, (kept & (part == name) for name in PARTS), strict=True))
    shares = {name: float(mask.sum() / kept.sum()) for name, mask in wanted.items()}
    if fractions is not None:
        shares = dict(zip(PARTS, check_fractions(fractions).tolist(), strict=True))
    parts = [name for name in PARTS if shares[name] > 0 or (part == name).any()]
    classes = np.unique(label)
    names = classes.tolist()
    n_windows, n_groups, off = {}, {}, {}
    for name in parts:
        here = [(part == name) & (label == one) for one in classes]
        n_windows[name] = {one: int(mask.sum()) for one, mask in zip(names, here, strict=True)}
        n_groups[name] = {
            one: len(np.unique(group[mask])) for one, mask in zip(names, here, strict=True)
        }
        for one, klass in zip(names, classes, strict=True):
            total = int((kept & (label == klass)).sum())
            if total:
                off[name, one] = abs(n_windows[name][one] / total - shares[name])
    where = max(off, key=lambda key: off[key])
    return SplitSummary(
        n_windows,
        n_groups,
        int((~kept).sum()),
        off[where],
        where,
        {name: shares[name] for name in parts},
        fractions is not None,
    )
