"""The noise of a loss in the steady state of a run, and the three gates an alarm has to pass."""

from dataclasses import dataclass

import numpy as np

from sensorseq.fluctuation import metrics
from sensorseq.fluctuation.columns import Floats
from sensorseq.fluctuation.run import Run
from sensorseq.fluctuation.thresholds import (
    ALPHA,
    COMMON_LEAP_EPOCHS,
    COMMON_LEAP_NATS,
    MIN_DIFFERENCES,
    SURE_SHARE,
)

N_PARTS = 3  # of the steady state, to see whether the noise is always there


@dataclass(frozen=True, eq=False)
class SteadyNoise:
    """How much a loss moves from epoch to epoch over the second half of a run.

    Parameters
    ----------
    nats : float
        `metrics.mean_noise` there. The mean sees a leap in a few epochs, which a median does not.
    edge : float
        What healthy runs stay below.
    interval : (float, float)
        90 %, by the block bootstrap.
    p : float
        Share of the resamples at or below `SURE_SHARE` of the edge.
    parts : tuple of float
        The same noise in three equal parts.
    without_largest : float
        The same noise without the second differences that the largest leap enters.
    before : float
        The same noise in what comes before the second half, the initial descent left out; NaN where
        that is too short.
    """

    nats: float
    edge: float
    interval: tuple[float, float]
    p: float
    parts: tuple[float, ...]
    without_largest: float
    before: float

    @property
    def is_above(self) -> bool:
        """Whether it is above what healthy runs have."""
        return self.nats > self.edge

    @property
    def comes_back(self) -> bool:
        """Whether there is noise without its largest leap, too."""
        return self.without_largest > SURE_SHARE * self.edge

    @property
    def has_calmed(self) -> bool:
        """Whether it was above the edge before, and is no longer."""
        return not self.is_above and self.before > self.edge

    def passes(self, adjusted_p: float) -> bool:
        """Close the gates: large enough, surely not small, and not the work of one moment.

        Leaps make no narrow interval, however large; they are sure where the noise is above the
        edge without the largest of them as well.
        """
        is_sure = adjusted_p < ALPHA or self.without_largest > self.edge
        return self.is_above and is_sure and self.comes_back


def measure_steady_noise(run: Run, name: str, statistic: str, edge: float) -> SteadyNoise | None:
    """Measure the noise of a column and keep it as a statistic; None where there is too little.

    Second differences that hold an epoch right after a scheduled rise of the learning rate are left
    out.
    """
    loss, epochs = run.settled(name), run.settled_epochs(name)
    if len(loss) < MIN_DIFFERENCES + 2:
        return None
    differences = np.diff(loss, 2)
    judged = run.judged_triples(name)
    is_steady = epochs[2:] >= min(run.n_epochs // 2 + 2, int(epochs[-MIN_DIFFERENCES]))
    steady, before = differences[judged & is_steady], differences[judged & ~is_steady]
    if len(steady) < MIN_DIFFERENCES:
        return None
    sizes = np.abs(steady)
    resampled = metrics.block_bootstrap(sizes, metrics.mean_noise_of_differences)
    noise = SteadyNoise(
        nats=float(metrics.mean_noise_of_differences(sizes)),
        edge=edge,
        interval=metrics.interval_of(resampled),
        p=float((1 + (resampled <= SURE_SHARE * edge).sum()) / (1 + len(resampled))),
        parts=tuple(
            float(metrics.mean_noise_of_differences(part))
            for part in np.array_split(sizes, N_PARTS)
        ),
        without_largest=_without_largest(sizes),
        before=float(metrics.mean_noise_of_differences(before))
        if len(before) > 3
        else float("nan"),
    )
    run.add(
        statistic,
        noise.nats,
        "nats",
        edge,
        "healthy runs stay below",
        interval=noise.interval,
        p=noise.p,
    )
    return noise


def common_leaps(run: Run, name: str) -> list[int]:
    """Return the epochs, from 1, of the second half in which both losses leap up.

    One witness may err by itself; an event that both see in the same epoch is the model's.

    Parameters
    ----------
    run : Run
        Of which the leaps are.
    name : str
        Column of the training side. The mean over an epoch shows a leap at its end in the next one.
    """
    if not len(run.whole(name)) or not len(run.whole("val_loss")):
        return []
    train, validation = (_rises(run.columns[column].values) for column in (name, "val_loss"))
    if name == "loss":
        train = np.maximum(train, np.append(train[1:], 0.0))
    both = np.minimum(train, validation) > COMMON_LEAP_NATS
    both[: max(run.n_epochs // 2, run.first)] = False
    return [int(epoch) + 1 for epoch in np.flatnonzero(both & ~run.after_rise)]


def _rises(loss: Floats) -> Floats:
    """Return how far each epoch lies above the median of those before it; 0 where not known."""
    rises = np.zeros(len(loss))
    if len(loss) > COMMON_LEAP_EPOCHS:
        before = np.lib.stride_tricks.sliding_window_view(loss, COMMON_LEAP_EPOCHS)[:-1]
        rises[COMMON_LEAP_EPOCHS:] = loss[COMMON_LEAP_EPOCHS:] - np.median(before, axis=1)
    return np.nan_to_num(rises, nan=0.0)


def _without_largest(sizes: Floats) -> float:
    """Return the noise without the largest second difference and the two that share its epoch."""
    at = int(sizes.argmax())
    return float(metrics.mean_noise_of_differences(np.delete(sizes, slice(max(at - 1, 0), at + 2))))
