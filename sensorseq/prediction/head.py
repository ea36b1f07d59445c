"""FeatureHead: the features' part of a model's logits, and the weight of the LSTM's logits."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.features.blocks import KINDS, Block, LinearBlock, ProbabilityBlock, finite
from sensorseq.io.model_file import arrays_below, check_texts

BOOSTING = "boosting"
NAMES = (*KINDS, BOOSTING)
LSTM = "lstm"
_BLOCK = 512  # windows per block in prediction


@dataclass(frozen=True)
class Candidate:
    """A model scored in cross-validation (``"lstm"``, a kind of features, or ``"together"``).

    `log_loss` is the mean over the test windows, in nats, after optimal scaling of the scores.
    `weight` is the factor of the model's scores in the logits, or None for ``"together"``.
    """

    name: str
    log_loss: float
    accuracy: float
    weight: float | None


@dataclass(frozen=True)
class FeatureChoice:
    """The kinds of features used in addition to the LSTM, and the reason for this choice in words.

    `candidates` contains each model alone, followed by all models together, and is empty if nothing
    was compared. The comparison used `n_windows` test windows of `n_folds` folds.
    """

    names: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    n_windows: int = 0
    n_folds: int = 0
    reason: str = "features=None"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        candidates = [vars(candidate) for candidate in self.candidates]
        return vars(self) | {"names": list(self.names), "candidates": candidates}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "FeatureChoice":
        """Restore from the result of `to_dict`; raise a TypeError if a value has the wrong type."""
        candidates = tuple(Candidate(**fields) for fields in stored["candidates"])
        choice = cls(**{**stored, "names": tuple(stored["names"]), "candidates": candidates})
        texts = [*choice.names, choice.reason, *(candidate.name for candidate in candidates)]
        numbers = [
            value
            for candidate in candidates
            for value in (candidate.log_loss, candidate.accuracy, candidate.weight)
        ]
        counts = [choice.n_windows, choice.n_folds]
        check_texts("features", texts)
        if not (
            all(type(value) in (int, float, type(None)) for value in numbers)
            and all(type(count) is int for count in counts)
        ):
            raise TypeError(f"features: {stored!r} does not describe a choice")
        return choice

    def __str__(self) -> str:
        if not self.candidates:
            return f"the LSTM alone ({self.reason})"
        lines = [f"{self.reason}", "                log-loss  accuracy  weight"]
        for name, log_loss, accuracy, factor in map(astuple, self.candidates):
            weight = "" if factor is None else f"{factor:8.3g}"
            lines.append(f"  {name:<12}  {log_loss:8.3f}  {100 * accuracy:6.1f} %{weight}")
        return "\n".join(lines)


@dataclass
class FeatureHead:
    """The features' part of the logits, and the weight of the LSTM's logits."""

    lstm_weight: float
    blocks: list[Block]
    choice: FeatureChoice
    out_of_fold: NDArray[np.float64] | None = field(default=None, repr=False)  # (n, K) logits
    # index of each row of `out_of_fold` among the windows of the fit
    out_of_fold_rows: NDArray[np.int64] | None = field(default=None, repr=False)
    # index of each row of `out_of_fold` in the X given to `fit`
    given_rows: NDArray[np.int64] | None = field(default=None, repr=False)

    def join(
        self,
        lstm_logits: NDArray[np.float64],
        X: NDArray[Any],
        lengths: NDArray[np.int64] | None,
    ) -> NDArray[np.float64]:
        """Add the features' logits for scaled windows (n, t, c) to the LSTM's logits (n, K)."""
        logits = self.lstm_weight * lstm_logits
        for start in range(0, len(X), _BLOCK):
            rows = slice(start, start + _BLOCK)
            valid = None if lengths is None else lengths[rows]
            for block in self.blocks:
                logits[rows] += block.logits(X[rows], valid)
        return logits

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays for a model file."""
        return {
            f"features.{block.name}.{name}": array
            for block in self.blocks
            for name, array in block.state()[1].items()
        }

    def description(self) -> dict[str, Any]:
        """Return everything for a model file except the arrays."""
        return {
            "lstm_weight": self.lstm_weight,
            "choice": self.choice.to_dict(),
            "blocks": {block.name: block.state()[0] for block in self.blocks},
        }

    @classmethod
    def restore(
        cls, description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> "FeatureHead":
        """Rebuild a head from `description` and `arrays`, or raise a ValueError on a mismatch."""
        blocks: list[Block] = []
        for name, settings in description["blocks"].items():
            if name not in NAMES:
                raise ValueError(f"features of an unknown kind {name!r}")
            kind = LinearBlock if name in KINDS else ProbabilityBlock
            blocks.append(kind.restore(name, settings, arrays_below(arrays, f"features.{name}.")))
        choice = FeatureChoice.from_dict(description["choice"])
        return cls(finite("the factor of the LSTM", description["lstm_weight"]), blocks, choice)

    def check(self, n_channels: int, n_outputs: int) -> None:
        """Raise a ValueError unless this head matches a network."""
        for block in self.blocks:
            if block.sizes != (n_channels, n_outputs):
                raise ValueError(
                    f"{block.name} features of {block.sizes[0]} channels with {block.sizes[1]}"
                    f" outputs; the network has {n_channels} channels and {n_outputs} outputs"
                )

    @property
    def linear_blocks(self) -> list[LinearBlock]:
        """The blocks that apply linear weights to features."""
        return [block for block in self.blocks if isinstance(block, LinearBlock)]

    @property
    def is_plain(self) -> bool:
        """True if no features come from a user's function."""
        return all(block.name in NAMES for block in self.blocks)
