"""Which channel and which stretch of time a decision rests on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from sensorseq.errors import ArgumentError, InputError, check_choice
from sensorseq.preprocessing._checks import check_count
from sensorseq.training.stream import is_stored

if TYPE_CHECKING:
    from sensorseq.estimator.classifier import SensorLSTMClassifier

METHODS = ("auto", "gradients", "occlusion")
_NODES = 32  # of the integral: the error was below 1e-3 nats on borealtc
_WINDOWS = 512  # differentiated at a time


@dataclass(frozen=True, eq=False)
class Explanation:
    """What decisions rest on, for n windows in R regions of time and C channels.

    Attributes
    ----------
    label : ndarray of shape (n,)
        The class that is explained.
    probability : ndarray of shape (n,)
        Its probability.
    contributions : ndarray of shape (n, R, C)
        By how much a channel in a region raises the logarithm of that probability, in nats.
    edges : ndarray of shape (R + 1,)
        First timestep of each region, and the end of the last.
    method : str
        ``"gradients"`` or ``"occlusion"``.
    """

    label: NDArray[Any]
    probability: NDArray[np.float64]
    contributions: NDArray[np.float64]
    edges: NDArray[np.int64]
    method: str

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of each region and channel in all contributions of a window, whatever their sign.

        Of shape (n, R, C); each window's sum is 1, or 0 where nothing contributes.
        """
        size = np.abs(self.contributions)
        total = size.sum(axis=(1, 2), keepdims=True)
        shares: NDArray[np.float64] = np.divide(
            size, total, out=np.zeros_like(size), where=total > 0
        )
        return shares


def explain(
    model: "SensorLSTMClassifier",
    X: Any,
    lengths: ArrayLike | None,
    *,
    label: ArrayLike | None,
    method: str,
    n_regions: int,
) -> Explanation:
    """Explain decisions; see `SensorLSTMClassifier.explain`."""
    check_choice("method", method, METHODS)
    check_count("n_regions", n_regions)
    if method == "auto":
        method = "gradients" if model._head is None else "occlusion"
    elif method == "gradients" and model._head is not None:
        raise ArgumentError(
            'method="gradients" is for the network alone, but this model also uses features, which'
            ' have no gradient; use method="occlusion".'
        )
    sequences = model._read_windows(X, lengths)
    if is_stored(sequences):
        raise InputError(
            "X is larger than memory; explain a part of its windows, such as X.part('test')."
        )
    scaled, valid = model._scaled(sequences)
    n_regions = min(n_regions, scaled.shape[1])
    edges = np.linspace(0, scaled.shape[1], n_regions + 1).round().astype(np.int64)

    def log_probability(windows: torch.Tensor) -> NDArray[np.float64]:
        logs: NDArray[np.float64] = log_softmax(
            model._join(windows, valid) / model.temperature_, axis=1
        )
        return logs

    whole = log_probability(scaled)
    rows = np.arange(len(whole))
    target = whole.argmax(axis=1) if label is None else _target_of(model, label, len(whole))
    if method == "gradients":
        steps = integrated_gradients(model, scaled, valid, target)
        contributions = np.add.reduceat(steps, edges[:-1], axis=1)
    else:
        contributions = _occlude(scaled, edges, lambda x: log_probability(x)[rows, target])
    return Explanation(
        model.classes_[target], np.exp(whole[rows, target]), contributions, edges, method
    )


def integrated_gradients(
    model: "SensorLSTMClassifier",
    scaled: torch.Tensor,
    valid: torch.Tensor | None,
    target: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the contribution of each timestep and channel (n, t, c); see `explain`."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    at_once = max(1, _WINDOWS // _NODES)
    found = []
    for first in range(0, len(scaled), at_once):
        x = scaled[first : first + at_once]
        own = None if valid is None else valid[first : first + at_once]
        wanted = torch.from_numpy(target[first : first + at_once])
        total = torch.zeros_like(x, dtype=torch.float64)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            point = (x * node).detach().requires_grad_(True)
            value = _differentiable(model, point, own)[torch.arange(len(x)), wanted].sum()
            (gradient,) = torch.autograd.grad(value, point)
            total += weight * gradient.double()
        found.append((total * x.double()).numpy())
    return np.concatenate(found) if found else np.empty(tuple(scaled.shape))


def _differentiable(
    model: "SensorLSTMClassifier", x: torch.Tensor, valid: torch.Tensor | None
) -> torch.Tensor:
    """Return the logarithms of the probabilities, (n, classes), with a graph."""
    device = next(model.module_.parameters()).device
    moved = x.to(device), None if valid is None else valid.to(device)
    members = [module(*moved).double() for module in model.modules_]
    outputs = members[0]
    if len(members) > 1:
        logs = torch.stack([torch.log_softmax(one, 1) for one in members])
        outputs = torch.logsumexp(logs, 0)
    return torch.log_softmax(outputs / model.temperature_, 1).to(x.device)


def _occlude(
    scaled: torch.Tensor,
    edges: NDArray[np.int64],
    value_of: Callable[[torch.Tensor], NDArray[np.float64]],
) -> NDArray[np.float64]:
    whole = value_of(scaled)
    n_regions, n_channels = len(edges) - 1, scaled.shape[2]
    contributions = np.empty((len(whole), n_regions, n_channels))
    for region in range(n_regions):
        for channel in range(n_channels):
            hidden = scaled.clone()
            hidden[:, edges[region] : edges[region + 1], channel] = 0.0
            contributions[:, region, channel] = whole - value_of(hidden)
    return contributions


def _target_of(model: "SensorLSTMClassifier", label: ArrayLike, n: int) -> NDArray[np.int64]:
    labels = np.asarray(label)
    wanted = np.broadcast_to(labels, (n,)) if labels.ndim == 0 else labels
    known = model.classes_.tolist()
    strange = [name for name in wanted.tolist() if name not in known]
    if wanted.shape != (n,) or strange:
        raise ArgumentError(
            f"label must be one of the classes ({', '.join(map(str, known))}), for all windows or"
            f" for each of {n}" + (f"; {strange[0]!r} is none." if strange else ".")
        )
    return np.array([known.index(name) for name in wanted.tolist()], np.int64)
