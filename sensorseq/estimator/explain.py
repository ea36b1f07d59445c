"""Explain which channels and time intervals a decision is based on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from sensorseq.base.checks import check_integer
from sensorseq.base.text import html_table, percent
from sensorseq.errors import ArgumentError
from sensorseq.prediction.members.sensors import SensorSum
from sensorseq.prediction.members.sum import Sum
from sensorseq.prediction.model import TrainedModel


@dataclass(frozen=True, eq=False)
class Explanation:
    """Contributions to the decisions on n windows, in R regions of time and C channels.

    Attributes
    ----------
    label : ndarray of shape (n,)
        The explained class of each window.
    probability : ndarray of shape (n,)
        The probability of that class.
    contributions : ndarray of shape (n, R, C)
        How much a channel's values in a region raise the logarithm of that probability, in nats.
    edges : ndarray of shape (R + 1,)
        First timestep of each region, and the end of the last region.
    """

    label: NDArray[Any]
    probability: NDArray[np.float64]
    contributions: NDArray[np.float64]
    edges: NDArray[np.int64]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Each window's absolute contributions, divided by their sum.

        The shape is (n, R, C). The fractions of a window sum to 1, or to 0 if nothing contributes.
        """
        size = np.abs(self.contributions)
        total = size.sum(axis=(1, 2), keepdims=True)
        shares: NDArray[np.float64] = np.divide(
            size, total, out=np.zeros_like(size), where=total > 0
        )
        return shares

    def __repr__(self) -> str:
        n, n_regions, n_channels = self.contributions.shape
        return f"<Explanation of {n} window(s) in {n_regions} regions of {n_channels} channel(s)>"

    def _repr_html_(self) -> str:
        """Show the mean fraction of each channel and region as a table in a notebook."""
        ends = zip(self.edges[:-1].tolist(), self.edges[1:].tolist(), strict=True)
        heads = ["channel", *(f"steps {first} to {last - 1}" for first, last in ends)]
        rows = [
            [str(c), *(percent(share, 0) for share in shares)]
            for c, shares in enumerate(self.shares.mean(axis=0).T)
        ]
        return html_table(repr(self)[1:-1], heads, rows)


@dataclass(frozen=True)
class SensorPart:
    """The sum of one of several sensors, with the other sensors' contribution as a constant.

    The joint logits of all sensors are the logits of `members` times `weight` (n,), plus
    `other_sensors` (n, K).
    """

    members: Sum
    weight: NDArray[np.float64]
    other_sensors: NDArray[np.float64]

    def logits(self, X: NDArray[Any], lengths: NDArray[np.int64] | None) -> NDArray[np.float64]:
        """Return the joint logits of all sensors for the windows X of this sensor."""
        return self.weight[:, None] * self.members.logits(X, lengths) + self.other_sensors


def explain(
    model: TrainedModel | SensorPart,
    windows: tuple[NDArray[Any], NDArray[np.int64] | None],
    temperature: float,
    classes: NDArray[Any],
    *,
    label: ArrayLike | None,
    n_regions: int,
) -> Explanation:
    """Explain decisions on scaled windows and their lengths; see `SensorLSTMClassifier.explain`."""
    check_integer("n_regions", n_regions)
    member = model.sum if isinstance(model, TrainedModel) else model
    scaled, valid = windows
    n_regions = min(n_regions, scaled.shape[1])
    edges = np.linspace(0, scaled.shape[1], n_regions + 1).round().astype(np.int64)

    def log_probability(windows: NDArray[Any]) -> NDArray[np.float64]:
        logs: NDArray[np.float64] = log_softmax(member.logits(windows, valid) / temperature, axis=1)
        return logs

    whole = log_probability(scaled)
    rows = np.arange(len(whole))
    target = whole.argmax(axis=1) if label is None else target_of(classes, label, len(whole))
    contributions = _occlude(scaled, edges, lambda x: log_probability(x)[rows, target])
    return Explanation(classes[target], np.exp(whole[rows, target]), contributions, edges)


def explain_sensors(
    model: TrainedModel, X: Any, *, label: ArrayLike | None, n_regions: int
) -> dict[str, Explanation]:
    """Explain each sensor's contribution; see `SensorFusionClassifier.explain`."""
    joint, (_, of_sensors) = model.sum, model.read(X)
    assert isinstance(joint, SensorSum)
    logits, lacks = model.of_sensors(X)
    model.check_not_empty(lacks.min(axis=1))
    weights, (joined, _) = joint.weights_for(lacks), joint.join(logits, lacks)
    target = joined.argmax(axis=1)
    if label is not None:
        target = target_of(model.classes, label, len(joined))
    explanations = {}
    for at, (name, of_sensor) in enumerate(model.inputs.items()):
        if name in of_sensors:
            windows, rows = of_sensors[name]
            weight = weights[rows, at]
            other_sensors = joined[rows] - weight[:, None] * logits[at, rows]
            explanations[name] = explain(
                SensorPart(joint.of_sensor(name), weight, other_sensors),
                of_sensor.scaled(of_sensor.without_failed(windows)[0]),
                model.temperature,
                model.classes,
                label=model.classes[target[rows]],
                n_regions=n_regions,
            )
    return explanations


def _occlude(
    scaled: NDArray[Any],
    edges: NDArray[np.int64],
    value_of: Callable[[NDArray[Any]], NDArray[np.float64]],
) -> NDArray[np.float64]:
    whole = value_of(scaled)
    n_regions, n_channels = len(edges) - 1, scaled.shape[2]
    contributions = np.empty((len(whole), n_regions, n_channels))
    for region in range(n_regions):
        for channel in range(n_channels):
            hidden = scaled.copy()
            hidden[:, edges[region] : edges[region + 1], channel] = 0.0
            contributions[:, region, channel] = whole - value_of(hidden)
    return contributions


def target_of(classes: NDArray[Any], label: ArrayLike, n: int) -> NDArray[np.int64]:
    """Return the index of the class to explain for each of `n` windows."""
    labels = np.asarray(label)
    labels = np.broadcast_to(labels, (n,)) if labels.ndim == 0 else labels
    names = classes.tolist()
    unknown = [name for name in labels.tolist() if name not in names]
    if labels.shape != (n,) or unknown:
        raise ArgumentError(
            f"label must be one of the classes ({', '.join(map(str, names))}), or one class"
            f" for each of {n} windows" + (f"; {unknown[0]!r} is not a class." if unknown else ".")
        )
    return np.array([names.index(name) for name in labels.tolist()], np.int64)
