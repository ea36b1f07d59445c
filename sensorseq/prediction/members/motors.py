"""MotorsMember: boosted trees on what currents and speeds tell about motors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import check_integer
from sensorseq.features.motors import Motor, feature_names, motor_features
from sensorseq.features.trees import BoostedTrees
from sensorseq.io.model_file import check_texts
from sensorseq.prediction.members.boosting import log_probabilities
from sensorseq.prediction.members.member import Kinds, check_sizes, finite, in_blocks

MOTORS = "motors"  # name of the member
_GRID = 1e-6  # of physical values, relative to the center and the factor


@dataclass(frozen=True, eq=False)
class MotorWindows:
    """How the features of motors are computed from scaled windows.

    Physical values are ``x * factor + center``. Only one of `every` steps is read if values were
    held until the next one. `rate_hz`, the rate of the steps that are read, is None if unknown.
    """

    motors: Sequence[Motor]
    center: NDArray[np.float64]  # (n_channels,)
    factor: NDArray[np.float64]
    rate_hz: Optional[float] = None
    every: int = 1

    @property
    def grid(self) -> NDArray[np.float64]:
        """The distance (n_channels,) of physical values; 0 if they were not scaled.

        It is the same for all currents, and for all speeds, so that equal values stay equal and 0
        stays 0, although scaling to float32 rounds each channel differently.
        """
        grid = np.zeros(len(self.center))
        for k in (0, 1):
            columns = [motor.columns[k] for motor in self.motors]
            if self.center[columns].any() or (self.factor[columns] != 1).any():
                size = (np.abs(self.center[columns]) + self.factor[columns]).max()
                grid[columns] = 2.0 ** np.ceil(np.log2(_GRID * size))
        return grid

    @property
    def names(self) -> list[str]:
        """The names of the features, with units."""
        return feature_names(self.motors, self.rate_hz)

    def physical(self, X: NDArray[Any]) -> NDArray[np.float64]:
        """Return scaled windows in physical units."""
        values = X.astype(np.float64) * self.factor + self.center
        grid = self.grid
        step = np.where(grid > 0, grid, 1.0)
        return np.where(grid > 0, np.rint(values / step) * step, values)

    def features(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the features (n, F) of scaled windows."""
        return in_blocks(self._features, X, lengths, len(self.names))

    def _features(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        of_read = None if lengths is None else -(-lengths // self.every)
        read = self.physical(X[:, :: self.every])
        return motor_features(self.motors, read, of_read, self.rate_hz)


@dataclass(frozen=True, eq=False)
class MotorsMember:
    """Boosted trees on features of motors; their log-probabilities are the logits.

    `means` (K, F) are the means of the features in the windows of each class of the fit.
    """

    windows: MotorWindows
    trees: BoostedTrees
    means: NDArray[np.float64]

    def logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the logits (n, K) of scaled windows."""
        features = self.windows.features(X, lengths)
        return log_probabilities(self.trees, features, len(self.means))

    def most_used(self, n: int) -> list[tuple[str, NDArray[np.float64]]]:
        """Return the names of the features that trees test most often, and their means (K,)."""
        feature, names = self.trees.arrays["feature"], self.windows.names
        count = np.bincount(feature[feature >= 0], minlength=len(names))
        order = np.argsort(-count, kind="stable")[:n]
        return [(names[column], self.means[:, column]) for column in order if count[column]]

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return settings and arrays for a model file."""
        trees, windows = self.trees.state(), self.windows
        motors = [[list(part) for part in vars(motor).values()] for motor in windows.motors]
        settings = {"trees": trees["settings"], "motors": motors, "rate_hz": windows.rate_hz}
        settings["every"] = windows.every
        arrays = {"center": windows.center, "factor": windows.factor, "means": self.means}
        return settings, {**trees["arrays"], **arrays}

    @classmethod
    def restore(
        cls, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> "MotorsMember":
        """Restore a member from `state`; raise a ValueError if its parts do not match."""
        own = {name: np.asarray(arrays[name]) for name in ("center", "factor", "means")}
        of_trees = {name: array for name, array in arrays.items() if name not in own}
        trees = BoostedTrees.from_state({"settings": settings["trees"], "arrays": of_trees})
        center, factor, means = own.values()
        motors = [_read_motor(parts, center.size) for parts in settings["motors"]]
        rate_hz = settings["rate_hz"]
        if rate_hz is not None and finite("the rate", rate_hz) <= 0:
            raise ValueError(f"the rate is {rate_hz!r}")
        if not motors or center.ndim != 1 or center.shape != factor.shape:
            raise ValueError(f"{len(motors)} motors in channels of {center.shape}, {factor.shape}")
        if any(array.dtype != np.float64 or not np.isfinite(array).all() for array in own.values()):
            raise ValueError("a number of the motors is not finite, or of a wrong type")
        every = check_integer("every", settings["every"])
        windows = MotorWindows(motors, center, factor, rate_hz, every)
        expected = trees.n_outputs, len(windows.names)
        if means.shape != expected or trees.n_statistics != expected[1]:
            raise ValueError(
                f"means of shape {means.shape} and trees of {trees.n_statistics} features; expected"
                f" {expected}"
            )
        return cls(windows, trees, means)

    def check(self, n_channels: int, n_outputs: int) -> None:
        """Raise a ValueError unless the member reads these channels and has these outputs."""
        sizes = len(self.windows.center), len(self.means)
        check_sizes(sizes, (n_channels, n_outputs))


def _read_motor(parts: Any, n_channels: int) -> Motor:
    """Return a motor from a model file, or raise an error."""
    columns, names, units = parts
    check_texts("motors", [*names, *units])
    current, speed = (check_integer("a column", column, 0, n_channels - 1) for column in columns)
    if len(names) != 2 or len(units) != 2:
        raise ValueError(f"motors: {parts!r} does not describe a motor")
    return Motor((current, speed), (names[0], names[1]), (units[0], units[1]))


KINDS: Kinds = {MOTORS: MotorsMember.restore}
