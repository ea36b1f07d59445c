"""Blocks: kinds of features, each of which contributes to the logits of windows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import InputError
from sensorseq.features.competing_kernels import CompetingKernels
from sensorseq.features.random_convolutions import RandomConvolutions
from sensorseq.features.summary import SummaryFeatures
from sensorseq.features.summary_steps import SummarySteps
from sensorseq.features.trees import SMALLEST_LOG, BoostedTrees
from sensorseq.io.model_file import arrays_below

Learned = Union[RandomConvolutions, CompetingKernels, SummarySteps]
KINDS: Mapping[str, type[Learned]] = {
    "rocket": RandomConvolutions,
    "hydra": CompetingKernels,
    "summary": SummarySteps,
}
"""The kinds of features that a linear layer reads."""
_LEARNED = RandomConvolutions, CompetingKernels, SummarySteps
Described = Union[Learned, Callable[..., ArrayLike]]
"""The objects that compute features of windows; users may give a plain function."""


@dataclass
class LinearBlock:
    """One kind of feature, with its weights in the linear layer."""

    name: str
    describe: Described
    weight: NDArray[np.float32]  # (F, K)
    bias: NDArray[np.float64]  # (K,)

    def logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return this block's contribution to the logits of scaled windows."""
        features = describe(self.describe, X, lengths)
        if features.shape[1] != len(self.weight):
            raise InputError(
                f"features have {features.shape[1]} columns, but had"
                f" {len(self.weight)} when the model was fitted."
            )
        # Multiply rows one by one, because the rounding of a matrix product depends on its row
        # count.
        weight = self.weight.astype(np.float64)
        products = [row @ weight for row in features.astype(np.float64)]
        return np.reshape(products, (len(features), len(self.bias))) + self.bias

    def multiply(self, factor: float) -> None:
        """Multiply the block's logits by a factor."""
        self.weight = self.weight * np.float32(factor)
        self.bias = self.bias * factor

    def add(self, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
        """Add `weight` and `bias` to the weight and bias of the block."""
        self.weight = (self.weight + weight).astype(np.float32)
        self.bias = self.bias + bias

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return settings and arrays for a model file."""
        if not isinstance(self.describe, _LEARNED):
            raise InputError(
                "a model file cannot contain a function given as features; only features chosen by"
                " name can be saved. Use pickle or skops instead."
            )
        state = self.describe.state()
        arrays = {f"state.{name}": array for name, array in state["arrays"].items()}
        return state["settings"], arrays | {"weight": self.weight, "bias": self.bias}

    @classmethod
    def restore(
        cls, name: str, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> "LinearBlock":
        """Restore a block from `state`; raise a ValueError if its parts do not match."""
        features = KINDS[name].from_state(
            {"settings": settings, "arrays": arrays_below(arrays, "state.")}
        )
        weight, bias = arrays["weight"], arrays["bias"]
        shape = features.n_features_, bias.size
        has_types = weight.dtype == np.float32 and bias.dtype == np.float64
        if weight.shape != shape or bias.ndim != 1 or not has_types:
            raise ValueError(
                f"the weight of {name} features has shape {weight.shape} and type {weight.dtype},"
                f" and the bias has type {bias.dtype}; expected {shape}, float32 and float64"
            )
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(f"a weight of {name} features is not finite")
        return cls(name, features, weight, bias)

    @property
    def sizes(self) -> tuple[int, int]:
        """The number of channels of the windows, and the number of outputs."""
        assert isinstance(self.describe, _LEARNED)
        return self.describe.n_channels_, len(self.bias)


@dataclass
class ProbabilityBlock:
    """Boosted trees on summary statistics; their log-probabilities are added to the logits."""

    name: str
    summary: SummaryFeatures
    trees: BoostedTrees
    n_classes: int
    factor: float = 1.0

    def logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return this block's contribution to the logits of scaled windows."""
        statistics = self.summary.transform(X, lengths)
        return self.factor * log_probabilities(self.trees, statistics, self.n_classes)

    def multiply(self, factor: float) -> None:
        """Multiply the block's logits by a factor."""
        self.factor *= factor

    def state(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return settings and arrays for a model file."""
        state = self.trees.state()
        settings = {
            "trees": state["settings"],
            "summary": self.summary.state()["settings"],
            "factor": self.factor,
        }
        return settings, state["arrays"]

    @classmethod
    def restore(
        cls, name: str, settings: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> "ProbabilityBlock":
        """Restore a block from `state`; raise a ValueError if its parts do not match."""
        trees = BoostedTrees.from_state({"settings": settings["trees"], "arrays": arrays})
        summary = SummaryFeatures.from_state({"settings": settings["summary"], "arrays": {}})
        if trees.n_statistics != summary.n_features_:
            raise ValueError(
                f"the trees read {trees.n_statistics} statistics, but windows have"
                f" {summary.n_features_}"
            )
        factor = finite("the factor of the trees", settings["factor"])
        return cls(name, summary, trees, trees.n_outputs, factor)

    @property
    def sizes(self) -> tuple[int, int]:
        """The number of channels of the windows, and the number of outputs."""
        return self.summary.n_channels_, self.n_classes


Block = Union[LinearBlock, ProbabilityBlock]


def log_probabilities(
    trees: BoostedTrees, statistics: NDArray[np.float64], n_classes: int
) -> NDArray[np.float64]:
    """Return log-probabilities (n, n_classes) of at least `SMALLEST_LOG`.

    This bound is also the result for classes that the trees lack.
    """
    logs = np.full((len(statistics), n_classes), SMALLEST_LOG)
    logs[:, trees.classes_] = np.maximum(trees.log_probabilities(statistics), SMALLEST_LOG)
    return logs


def finite(what: str, value: Any) -> float:
    """Return a number from a file, or raise a ValueError if it is not finite."""
    number = float(value)
    if not np.isfinite(number):
        raise ValueError(f"{what} is {number}")
    return number


def describe(
    how: Described, X: NDArray[Any], lengths: NDArray[np.int64] | None
) -> NDArray[np.float32]:
    """Return features of scaled windows as float32; check the result of a user's function."""
    if isinstance(how, _LEARNED):
        return np.asarray(how.transform(X, lengths), np.float32)
    features = np.asarray(how(X, lengths))
    if features.ndim != 2 or len(features) != len(X) or features.dtype.kind not in "fiub":
        raise InputError(
            f"the function given as features returned shape {features.shape} of {features.dtype}"
            f" for {len(X)} windows; expected numbers of shape ({len(X)}, f)."
        )
    with np.errstate(over="ignore"):
        features = features.astype(np.float32)
    if not np.isfinite(features).all():
        row = int(np.argmin(np.isfinite(features).all(axis=1)))
        raise InputError(f"the function given as features returned NaN or infinity in row {row}.")
    return features
