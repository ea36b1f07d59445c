"""LinearMember: features of a window, and a linear layer that reads them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import InputError
from sensorseq.features.competing_kernels import CompetingKernels
from sensorseq.features.random_convolutions import RandomConvolutions
from sensorseq.features.summary_steps import SummarySteps
from sensorseq.io.model_file import arrays_below
from sensorseq.prediction.members.member import Kinds, check_sizes, in_blocks

Learned = Union[RandomConvolutions, CompetingKernels, SummarySteps]
LINEAR: Mapping[str, type[Learned]] = {
    "rocket": RandomConvolutions,
    "hydra": CompetingKernels,
    "summary": SummarySteps,
}
"""The kinds of features that a linear layer reads."""
_LEARNED = RandomConvolutions, CompetingKernels, SummarySteps
Described = Union[Learned, Callable[..., ArrayLike]]
"""The objects that compute features of windows; users may give a plain function."""


@dataclass(frozen=True, eq=False)
class LinearMember:
    """One kind of feature, with its weights in a linear layer."""

    describe: Described
    weight: NDArray[np.float32]  # (F, K)
    bias: NDArray[np.float64]  # (K,)

    def logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the logits (n, K) of scaled windows."""
        return in_blocks(self._logits, X, lengths, len(self.bias))

    def _logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
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
        cls,
        kind: type[Learned],
        settings: Mapping[str, Any],
        arrays: Mapping[str, NDArray[Any]],
    ) -> "LinearMember":
        """Restore a member from `state`; raise a ValueError if its parts do not match."""
        features = kind.from_state({"settings": settings, "arrays": arrays_below(arrays, "state.")})
        weight, bias = arrays["weight"], arrays["bias"]
        shape = features.n_features_, bias.size
        has_types = weight.dtype == np.float32 and bias.dtype == np.float64
        if weight.shape != shape or bias.ndim != 1 or not has_types:
            raise ValueError(
                f"the weight of the features has shape {weight.shape} and type {weight.dtype},"
                f" and the bias has type {bias.dtype}; expected {shape}, float32 and float64"
            )
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError("a weight of the features is not finite")
        return cls(features, weight, bias)

    def check(self, n_channels: int, n_outputs: int) -> None:
        """Raise a ValueError unless the member reads these channels and has these outputs."""
        assert isinstance(self.describe, _LEARNED)
        sizes = self.describe.n_channels_, len(self.bias)
        check_sizes(sizes, (n_channels, n_outputs))


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


KINDS: Kinds = {name: partial(LinearMember.restore, kind) for name, kind in LINEAR.items()}
