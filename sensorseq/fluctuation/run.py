"""Run: one history as the rules see it, and the statistics measured on the way."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sensorseq.fluctuation.columns import Column, Floats


@dataclass(frozen=True)
class Statistic:
    """One measured number, and what to hold it against.

    Parameters
    ----------
    value : float
        What was measured.
    unit : str
        ``"nats"``, ``"relative"``, ``"fraction"``, ``"epochs"``, ``"ratio"`` or ``"z"``.
    floor : float, optional
        What a healthy run, or sampling alone, accounts for; None when there is no such number.
    floor_is : str
        Where the floor comes from, in words.
    """

    value: float
    unit: str
    floor: float | None = None
    floor_is: str = ""


class Run:
    """One history, cut to what can be judged, and the statistics measured on the way."""

    def __init__(
        self,
        columns: Mapping[str, Column],
        n_epochs: int,
        *,
        n_val: int | None,
        n_train: int | None,
        n_classes: int | None,
        majority_fraction: float | None,
        best_epoch: int | None,
    ) -> None:
        self.columns = columns
        self.n_epochs = n_epochs
        self.n_val = n_val
        self.n_train = n_train
        self.best_epoch = best_epoch
        self.statistics: dict[str, Statistic] = {}
        self.chance = majority_fraction
        if self.chance is None and n_classes is not None:
            self.chance = 1 / n_classes
        self.log_classes = self._guess_loss(n_classes)
        self.first = 0  # index of the first epoch after the initial descent

    def _guess_loss(self, n_classes: int | None) -> float:
        """Return ln K; where K is not known, the first loss, for that is what guessing costs."""
        if n_classes is not None:
            return math.log(n_classes)
        for name in ("loss", "val_loss"):
            series = self.whole(name)
            if len(series) and np.isfinite(series[0]):
                return float(np.clip(series[0], math.log(2), math.log(100)))
        return math.log(2)

    def whole(self, name: str) -> Floats:
        """Return what was recorded of a column, gaps left out; empty when there is none."""
        column = self.columns[name]
        return column.values[column.recorded]

    def settled(self, name: str) -> Floats:
        """Return the same from the end of the initial descent on."""
        column = self.columns[name]
        return column.values[self.first :][column.recorded[self.first :]]

    def add(
        self, name: str, value: float, unit: str, floor: float | None = None, floor_is: str = ""
    ) -> float:
        """Keep a statistic under its name, and return its value."""
        self.statistics[name] = Statistic(float(value), unit, floor, floor_is)
        return float(value)


def part(name: str) -> str:
    """Return which part of the data a column speaks of."""
    return "Validation" if name.startswith("val_") else "Training"


def points(fraction: float) -> str:
    """Return a fraction in points, or per cent, of accuracy."""
    return f"{100 * fraction:.1f}"


def nats(loss: float) -> str:
    """Return a noise in nats, without digits that mean nothing."""
    return f"{loss:.3f}" if loss >= 0.0005 else "under 0.001"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
