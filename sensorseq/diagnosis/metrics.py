"""The checked columns and measurements of a run, and formulas for series of epochs.

The arguments of formulas are one-dimensional series in the order of epochs, finite and without
gaps; callers drop epochs without an entry. All estimates are robust against a few outlying epochs,
unless their docstrings state otherwise.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import GenericAlias, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sensorseq.base.checks import check_integer_or_none
from sensorseq.base.text import Plain
from sensorseq.diagnosis.thresholds import RATE_RISE, RATE_RISE_EPOCHS
from sensorseq.errors import ArgumentError
from sensorseq.history import TrainingRecord

Floats = NDArray[np.float64]

COLUMNS = ("loss", "accuracy", "val_loss", "val_accuracy")
NEEDED = ("loss", "val_loss", "val_accuracy")


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a history."""

    values: Floats  # (n_epochs,); NaN if the entry is missing or is not a number
    # (n_epochs,): True if the epoch has an entry, even NaN or infinity
    recorded: NDArray[np.bool_]


def read_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Column], int]:
    """Return the columns named in `COLUMNS` from rows of epochs, and the number of epochs.

    None means "not recorded". NaN in a loss means that the loss diverged. NaN in an accuracy, which
    cannot diverge, means "not recorded".
    """
    if not rows:
        raise ArgumentError("history has no epochs; at least one is needed.")
    columns: dict[str, Column] = {}
    for name in COLUMNS:
        entries = [row.get(name) for row in rows]
        values = np.array([math.nan if entry is None else entry for entry in entries], np.float64)
        recorded = np.array([entry is not None for entry in entries])
        if name.endswith("accuracy"):
            outside = np.flatnonzero((values < 0) | (values > 1))
            if outside.size:
                raise ArgumentError(
                    f"history: {name} of epoch {outside[0] + 1} is {values[outside[0]]:g}; expected"
                    " a fraction, 0 to 1. Divide percentages by 100."
                )
            recorded = np.isfinite(values)
        columns[name] = Column(values, recorded)
    if not any(columns[name].recorded.any() for name in NEEDED):
        have = ", ".join(dict.fromkeys(str(name) for row in rows for name in row)) or "nothing"
        raise ArgumentError(
            f"history has {have}; it needs at least one of {', '.join(NEEDED)} to be judged."
        )
    return columns, len(rows)


def read_numbers(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Return the numeric columns except the duration; None marks a missing entry."""
    names = dict.fromkeys(str(name) for row in rows for name in row if name != "duration_s")
    columns = {name: [row.get(name) for row in rows] for name in names}
    return {
        name: [None if value is None else float(value) for value in values]
        for name, values in columns.items()
        if all(value is None or isinstance(value, int | float | np.number) for value in values)
    }


def check_epoch(best_epoch: int | None, n_epochs: int) -> int | None:
    """Return the epoch (from 1) whose weights were kept; raise an error if it is out of range."""
    checked = check_integer_or_none("best_epoch", best_epoch)
    if checked is not None and checked > n_epochs:
        raise ArgumentError(f"best_epoch={best_epoch}, but history has epochs 1 to {n_epochs}.")
    return checked


def from_plain(kind: type | UnionType | GenericAlias, value: Plain) -> Plain:
    """Rebuild a value of `kind` from the output of `plain`; ignore fields of other versions.

    A number that was not finite becomes NaN, or None where the type allows it.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is float:
        return math.nan if value is None else float(_of_kind(int | float, value))
    if kind in (str, int, bool):
        return _of_kind(kind, value)
    if origin in (UnionType, Union):
        return None if value is None else from_plain(inner[0], value)
    if origin in (list, tuple):
        return origin(from_plain(inner[0], part) for part in _of_kind(list | tuple, value))
    if origin is Mapping:
        return {str(name): from_plain(inner[1], part) for name, part in value.items()}
    if is_dataclass(kind):
        names, kinds = {field.name for field in fields(kind)}, get_type_hints(kind)
        values = {
            name: from_plain(kinds[name], part) for name, part in value.items() if name in names
        }
        make: Any = kind
        return make(**values)
    return value


def _of_kind(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is not of type {getattr(kind, '__name__', kind)}")
    return value


@dataclass(frozen=True)
class Statistic:
    """A measured number and a value to compare it with."""

    value: float
    unit: str  # "nats", "relative", "fraction", "epochs", "windows", "groups", "ratio" or "z"
    floor: float | None = None  # the value to compare with, such as the limit for healthy runs
    floor_is: str = ""  # what the floor is, in words
    low: float | None = None  # lower end of the 90 % interval of `value`, by block bootstrap
    high: float | None = None  # upper end of the interval
    p: float | None = None  # probability that chance gives so large a value; None if not tested


_NOTHING = Column(np.zeros(0), np.zeros(0, bool))


class Run:
    """The part of a history that can be judged, with the statistics measured so far."""

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
        learning_rate: Sequence[float | None] | None = None,
        record: TrainingRecord | None = None,
    ) -> None:
        self.columns = dict(columns)
        self.n_epochs = n_epochs
        self.n_val = n_val
        self.n_train = n_train
        self.best_epoch = best_epoch
        self.record = record if record is not None and record.n_epochs == n_epochs else None
        self.has_foreign_record = record is not self.record
        self.is_in_nats = self.record is None or self.record.is_in_nats
        if self.record is not None and self.is_in_nats and len(self.record.fixed_loss) == n_epochs:
            fixed = np.asarray(self.record.fixed_loss, np.float64)
            self.columns["fixed_loss"] = Column(fixed, np.isfinite(fixed))
        rate = np.array([math.nan if value is None else value for value in learning_rate or ()])
        # epochs after a scheduled rise of the rate, where leaps are not a fault
        self.after_rise = np.zeros(n_epochs, bool)
        for epoch in np.flatnonzero(rate[1:] > RATE_RISE * rate[:-1]) + 1:
            self.after_rise[epoch : epoch + RATE_RISE_EPOCHS] = True
        late = rate[len(rate) // 2 :]
        late = late[late > 0]
        self.rate_is_constant = len(late) > 1 and bool(np.ptp(late) <= 1e-6 * late.max())
        self.statistics: dict[str, Statistic] = {}
        self.evidence: dict[str, Any] = {}  # series to draw, by name, as lists
        labels = () if self.followed is None else np.unique(self.followed.val_target)
        self.validates_one_class = majority_fraction == 1 or len(labels) == 1
        self.chance = None if self.validates_one_class else majority_fraction
        if self.chance is None and n_classes is not None:
            self.chance = 1 / n_classes
        self.n_classes = n_classes
        # whether the accuracy of a constant answer is known; if not, assume balanced classes
        self.knows_majority = majority_fraction is not None
        self.scales: dict[str, float] = {}  # divisors of losses that are sums
        self.without_unit: set[str] = set()  # losses whose noise cannot be given in nats
        self.log_classes = self._guess_loss(n_classes)
        self.first = 0  # index of the first epoch after the initial descent

    def _guess_loss(self, n_classes: int | None) -> float:
        """Return the loss of guessing: ln K, or the first loss if K is unknown."""
        if n_classes is not None:
            return math.log(n_classes)
        for name in ("loss", "val_loss"):
            series = self.whole(name)
            if len(series) and np.isfinite(series[0]):
                return float(np.clip(series[0], math.log(2), math.log(100)))
        return math.log(2)

    def divide(self, name: str, scale: float) -> None:
        """Divide a loss that is a sum by `scale`, to convert it to a mean."""
        column = self.columns[name]
        self.columns[name] = Column(column.values / scale, column.recorded)
        self.scales[name] = scale
        self.log_classes = self._guess_loss(self.n_classes)

    @property
    def followed(self) -> TrainingRecord | None:
        """The record, if it contains predictions for validation windows in every epoch."""
        record = self.record
        if record is None or record.val_predicted.shape[0] != self.n_epochs:
            return None
        return record

    def whole(self, name: str) -> Floats:
        """Return the values of a column without the epochs that have no entry; may be empty."""
        column = self.columns.get(name, _NOTHING)
        return column.values[column.recorded]

    def settled(self, name: str) -> Floats:
        """Return the values of `whole` after the initial descent."""
        column = self.columns.get(name, _NOTHING)
        return column.values[self.first :][column.recorded[self.first :]]

    def settled_epochs(self, name: str) -> NDArray[np.int64]:
        """Return the indices of the epochs whose values `settled` returns."""
        recorded = np.flatnonzero(self.columns.get(name, _NOTHING).recorded)
        return np.asarray(recorded[recorded >= self.first], np.int64)

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        floor: float | None = None,
        floor_is: str = "",
        *,
        interval: tuple[float, float] | None = None,
        p: float | None = None,
    ) -> float:
        """Store a statistic under a name, and return its value."""
        low, high = (None, None) if interval is None else interval
        self.statistics[name] = Statistic(float(value), unit, floor, floor_is, low, high, p)
        return float(value)


def part_of(name: str) -> str:
    """Return "Training" or "Validation", the part that a column describes."""
    return "Validation" if name.startswith("val_") else "Training"


# Formulas

# standard deviation of a normal distribution divided by its median absolute deviation
SD_PER_MAD = 1.4826
_MAX_PAIRWISE_POINTS = 1000  # more epochs need more memory, but hardly change the median slope
_MAX_DRAWN = 4_000_000  # maximum number of values in all resamples together: 32 MB
_MAX_MOVED = 20_000_000  # maximum number of changes in all shifts: about a second of work


class NullTest(NamedTuple):
    """A test statistic, its null distribution, and its p value (1 without data)."""

    value: float
    null: Floats
    p: float


def check_series(values: ArrayLike, minimum: int, name: str = "values") -> Floats:
    """Return finite values, one per epoch, as float64; raise an error for the first bad value."""
    series = np.asarray(values, np.float64)
    if series.ndim != 1:
        raise ArgumentError(f"{name} has shape {series.shape}; expected one value per epoch.")
    if not np.isfinite(series).all():
        epoch = int(np.flatnonzero(~np.isfinite(series))[0])
        raise ArgumentError(f"{name}[{epoch}] is {series[epoch]}; drop epochs without a number.")
    if len(series) < minimum:
        raise ArgumentError(f"{name} has {len(series)} epochs; at least {minimum} are needed.")
    return series


def softened_log(loss: ArrayLike, log_classes: float) -> Floats:
    """Return ``log(loss + 0.1 ln K)``, logarithmic for usual losses and flat for vanishing ones."""
    series = check_series(loss, 0, "loss")
    softened = series + 0.1 * log_classes
    if len(softened) and softened.min() <= 0:
        raise ArgumentError(
            f"loss is {series.min():g}, far below zero; give a cross-entropy, in nats."
        )
    return np.log(softened)


def theil_sen_slope(values: ArrayLike) -> float:
    """Return the median slope per epoch over all pairs of up to 1000 epochs (P. K. Sen, 1968)."""
    series = check_series(values, 2)
    epochs = np.arange(len(series), dtype=np.float64)
    if len(series) > _MAX_PAIRWISE_POINTS:
        epochs = np.linspace(0, len(series) - 1, _MAX_PAIRWISE_POINTS).round()
        series = series[epochs.astype(np.int64)]
    first, second = np.triu_indices(len(series), 1)
    return float(np.median((series[second] - series[first]) / (epochs[second] - epochs[first])))


def _kendall_sd(n: Any) -> Any:
    """Return the sd of the Mann-Kendall statistic (rising - falling pairs) of n random values."""
    return np.sqrt(n * (n - 1) * (2 * n + 5) / 18)


def _rises(series: Floats) -> Floats:
    """For each value, return the number of later values above it minus the number below it."""
    signs = (np.sign(series[first + 1 :] - now).sum() for first, now in enumerate(series))
    return np.fromiter(signs, np.float64, len(series))


def plateau_start(values: ArrayLike, z: float = 1.96) -> int:
    """Return the index of the first epoch of the plateau, the longest flat end of the series.

    This is the longest suffix in which the Mann-Kendall test (H. B. Mann, 1945) finds no trend.
    Three epochs are too few to show a trend, so the last three always belong to the plateau.
    """
    series = check_series(values, 1)
    rising = np.cumsum(_rises(series)[::-1])[::-1]
    spread = _kendall_sd(len(series) - np.arange(len(series), dtype=np.float64))
    # a suffix of one epoch is always flat, so argmax finds a flat suffix
    return int(np.argmax(np.abs(rising) <= z * spread))


def trend_window(n_epochs: int) -> int:
    """Return the width of the local trend: a quarter of the epochs, at least 7 and at most 101."""
    return min(max(7, n_epochs // 4), 101)


def local_trend(values: ArrayLike, window: int | None = None) -> Floats:
    """Return the robust local linear trend at each epoch (LOESS; W. S. Cleveland, 1979)."""
    return loess(check_series(values, 0), window)[0]


def loess(series: Floats, window: int | None) -> tuple[Floats, float]:
    """Return the trend, and the fraction of white-noise variance that the residuals keep."""
    n_epochs = len(series)
    width = min(trend_window(n_epochs) if window is None else window, n_epochs)
    if width < 3:
        return series.copy(), 0.0
    start = np.clip(np.arange(n_epochs) - width // 2, 0, n_epochs - width)
    columns = start[:, None] + np.arange(width)
    offset = (columns - np.arange(n_epochs)[:, None]).astype(np.float64)
    # Slightly more than the farthest epoch's distance, so that this epoch's weight is not zero.
    reach = np.abs(offset).max(axis=1, keepdims=True) + 1
    tricube = (1 - (np.abs(offset) / reach) ** 3) ** 3

    def smoother(weight: Floats) -> Floats:
        moment_0 = weight.sum(axis=1)
        moment_1 = (weight * offset).sum(axis=1)
        moment_2 = (weight * offset**2).sum(axis=1)
        determinant = moment_0 * moment_2 - moment_1**2
        lines = weight * (moment_2[:, None] - moment_1[:, None] * offset)
        return np.asarray(lines / determinant[:, None])

    linear = smoother(tricube)
    diagonal = (linear * (offset == 0)).sum()
    # Residuals (I - S) y keep trace((I - S)(I - S)^T) / n of the variance of white noise.
    kept = (n_epochs - 2 * diagonal + (linear**2).sum()) / n_epochs
    # Start from running medians, because an outlying epoch would pull an initial line so far from
    # the neighboring epochs that all of them would look like outliers.
    trend = _running_median(series, width)
    for _ in range(2):
        residual = np.abs(series - trend)
        # If most residuals vanish, a hundredth of the largest residual still separates outliers.
        scale = max(6 * float(np.median(residual)), 0.01 * float(residual.max()), 1e-300)
        # A minimum weight keeps every local line defined, even if all its epochs are outliers.
        bisquare = np.maximum((1 - np.minimum(residual / scale, 1) ** 2) ** 2, 1e-3)
        trend = (smoother(tricube * bisquare[columns]) * series[columns]).sum(axis=1)
    return trend, float(kept)


def _running_median(series: Floats, width: int) -> Floats:
    """Return medians in symmetric windows, narrower at the ends to preserve straight lines."""
    last = len(series) - 1
    reach = np.minimum(width // 2, np.minimum(np.arange(last + 1), last - np.arange(last + 1)))
    medians = np.empty(len(series))
    whole = np.flatnonzero(reach == width // 2)
    if len(whole):
        medians[whole] = np.median(sliding_window_view(series, 2 * (width // 2) + 1), axis=1)
    for t in np.flatnonzero(reach < width // 2):
        around = series[t - reach[t] : t + reach[t] + 1]
        medians[t] = np.partition(around, reach[t])[reach[t]]
    return medians


def burn_in(log_loss: ArrayLike) -> int:
    """Return the number of epochs in the initial descent, in which noise cannot be measured.

    The descent ends when the robust slope of the `softened_log` loss over ``max(5, E / 8)`` epochs
    is at most half as steep as over the first epochs, where E is the number of epochs. The descent
    has at least ``max(3, 0.1 E)`` and at most ``E / 3`` epochs.
    """
    series = check_series(log_loss, 0, "log_loss")
    n_epochs = len(series)
    least = max(3, math.ceil(0.1 * n_epochs))
    most = max(n_epochs // 3, min(3, n_epochs))
    least = min(least, most)
    width = max(5, n_epochs // 8)
    if n_epochs < width:
        return least
    initial = theil_sen_slope(series[:width])
    if initial >= 0:
        return least
    for epoch in range(least, most, max(1, n_epochs // 1000)):
        if theil_sen_slope(series[epoch : epoch + width]) > initial / 2:
            return epoch
    return most


def high_frequency_noise(values: ArrayLike) -> float:
    """Return the noise from epoch to epoch, regardless of a linear trend.

    ``1.4826 * median(abs(d)) / sqrt(6)`` with the second differences d (T. Gasser, L. Sroka, C.
    Jennen-Steinmetz, 1986), whose variance is six times the variance of one epoch. For white noise,
    the result estimates the standard deviation, in the unit of `values`. Needs three epochs.
    """
    second_difference = np.diff(check_series(values, 3), 2)
    return float(SD_PER_MAD * np.median(np.abs(second_difference)) / math.sqrt(6))


def mean_noise(values: ArrayLike) -> float:
    """Return the noise from epoch to epoch as a mean, which includes leaps in a few epochs.

    ``sqrt(pi / 2) * mean(abs(d)) / sqrt(6)`` with the second differences d. The median in
    `high_frequency_noise` misses a model that is usually calm but sometimes leaps.
    """
    return float(mean_noise_of_differences(np.diff(check_series(values, 3), 2)))


def mean_noise_of_differences(second_differences: Floats) -> Floats:
    """Return `mean_noise` from second differences, along the last axis."""
    return np.asarray(math.sqrt(math.pi / 12) * np.abs(second_differences).mean(axis=-1))


def detrended_volatility(values: ArrayLike, window: int | None = None) -> float:
    """Return the standard deviation around the local trend; slow waves count as deviations.

    The result is corrected for the white noise that the trend absorbs. It is not robust, because a
    median would jump between the few possible values of an accuracy. Needs five epochs.
    """
    series = check_series(values, 5)
    trend, kept = loess(series, window)
    return float(np.sqrt(np.mean((series - trend) ** 2))) / math.sqrt(kept)


def noise_change(values: ArrayLike) -> tuple[float, float]:
    """Return the ratio of late to early noise, and the z score of a trend in the noise.

    The score is the z score of the Mann-Kendall trend test (M. Kendall, 1975) for ``abs(d_t)``,
    where d are the second differences. It is averaged over three subsequences, in each of which no
    two differences share an epoch. The noise falls if the score is below -2, and rises if the score
    is above 2. Needs 12 epochs.
    """
    series = check_series(values, 12)
    half = len(series) // 2
    early, late = high_frequency_noise(series[:half]), high_frequency_noise(series[-half:])
    ratio = late / early if early > 0 else (1.0 if late == 0 else math.inf)
    size = np.abs(np.diff(series, 2))
    scores = []
    for first in range(3):
        part = size[first::3]
        scores.append(float(_rises(part).sum() / _kendall_sd(float(len(part)))))
    return ratio, float(np.mean(scores))


def excess_plateau_loss(
    loss: ArrayLike, averaged_loss: float, decay: float
) -> tuple[float, tuple[float, float]]:
    """Return the loss due to noisy weights, with its interval; NaN if the plateau is too short.

    `averaged_loss` is the loss of the weights' exponential average (B. T. Polyak, A. B. Juditsky,
    1992), with `decay` per epoch. The losses of the raw weights are averaged with the same
    exponential factors, over the plateau only, because the average lags during a descent.
    """
    series = check_series(loss, 1, "loss")
    plateau = series[plateau_start(series) :]
    if 1 - decay ** len(plateau) < 0.5:
        return math.nan, (math.nan, math.nan)
    weight = decay ** np.arange(len(plateau))[::-1]
    weight = weight / weight.sum()
    resampled = block_bootstrap(plateau, lambda drawn: drawn @ weight) - averaged_loss
    return float(plateau @ weight) - averaged_loss, interval_of(resampled)


def spike_epochs(
    values: ArrayLike, window: int | None = None, *, factor: float = 4.0, least_rise: float = 0.0
) -> list[int]:
    """Return the indices of epochs that leap far above the epochs before them.

    An epoch is a spike when it exceeds the median of the previous `window` epochs by more than
    `factor` times their MAD scale and by more than `least_rise`. Later epochs have no influence.
    """
    series = check_series(values, 0)
    width = trend_window(len(series)) if window is None else window
    if len(series) <= width:
        return []
    before = sliding_window_view(series, width)[:-1]
    level = np.median(before, axis=1)
    scale = SD_PER_MAD * np.median(np.abs(before - level[:, None]), axis=1)
    limit = np.maximum(factor * scale, max(least_rise, 1e-12))
    return (width + np.flatnonzero(series[width:] - level > limit)).tolist()


def divergence_epoch(loss: ArrayLike, *, least: float = 0.0) -> int | None:
    """Return the index of the epoch at which a loss diverges, or None.

    This is the first epoch with a loss that is not finite, or the first of three consecutive epochs
    above ten times the first loss and above `least` (a pretrained model starts near zero). A single
    bad epoch is a spike.
    """
    series = np.asarray(loss, np.float64)
    broken = np.flatnonzero(~np.isfinite(series))
    end = int(broken[0]) if broken.size else len(series)
    if end >= 3:
        limit = max(10.0 * abs(series[0]), least)
        lasts = sliding_window_view(series[:end] > limit, 3).all(axis=1)
        if lasts.any():
            return int(lasts.argmax())
    return end if broken.size else None


def cross_entropy(logits: Floats, target: NDArray[np.int64]) -> Floats:
    """Return the cross-entropy of each window in nats, (n,), from its logits, (n, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    of_target = shifted[np.arange(len(target)), target]
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - of_target)


def constant_answer_loss(accuracy: float, n_classes: int) -> float:
    """Return the cross-entropy in nats of the best constant answer with this accuracy.

    This is the entropy of the classes if the most frequent class makes up the fraction `accuracy`
    and the others have equal fractions: 1.386 for an accuracy of 0.25 and four classes.
    """
    share = min(max(accuracy, 1 / n_classes), 0.99)
    return -share * math.log(share) - (1 - share) * math.log((1 - share) / (n_classes - 1))


def binomial_sd(accuracy: float, n_windows: int) -> float:
    """Return ``sqrt(p (1 - p) / n)``, the standard deviation of an accuracy over n windows."""
    return math.sqrt(accuracy * (1 - accuracy) / n_windows)


def expected_maximum(n_draws: float) -> float:
    """Return the expected maximum of n standard normal draws: for example, 2.04 for n = 30."""
    if n_draws <= 1:
        return 0.0
    # integrated by parts to avoid the density: -int_{-inf}^0 F^n + int_0^inf (1 - F^n)
    x = np.linspace(0, 9, 1801)
    upper = special.ndtr(-x)
    integrand = 1 - (1 - upper) ** n_draws - upper**n_draws
    return float(((integrand[1:] + integrand[:-1]) / 2 * np.diff(x)).sum())


def selection_bias(noise_sd: float, n_epochs: int) -> float:
    """Return how far the best of n epochs is expected to lie above their mean by chance."""
    return noise_sd * expected_maximum(n_epochs)


def chance_limit(chance: float, n_windows: int | None, z: float = 1.645) -> float:
    """Return an accuracy that guessing exceeds in about 5 % of epochs; `chance` if n is unknown."""
    if n_windows is None:
        return chance
    spread = max(z * binomial_sd(chance, n_windows), 1 / n_windows)
    return min(chance + spread, 1.0)


def share_lower_limit(n_hits: int, n_epochs: int, z: float = 1.645) -> float:
    """Return the one-sided 95 % lower limit of a proportion (Wilson); 0 without epochs."""
    if n_epochs == 0:
        return 0.0
    share = n_hits / n_epochs
    middle = share + z**2 / (2 * n_epochs)
    width = z * math.sqrt(share * (1 - share) / n_epochs + z**2 / (4 * n_epochs**2))
    return max((middle - width) / (1 + z**2 / n_epochs), 0.0)


def sd_ratio_p(ratio: float, n_epochs: int) -> float:
    """Return the probability that the sd of normal values is `ratio` times the true sd or more."""
    return float(special.chdtrc(n_epochs - 1, (n_epochs - 1) * ratio**2)) if n_epochs > 1 else 1.0


def binomial_tail(n_hits: int, n_trials: int, share: float) -> float:
    """Return the probability of at least `n_hits` hits in `n_trials` trials of chance `share`."""
    return float(special.bdtrc(n_hits - 1, n_trials, share)) if n_hits else 1.0


def sampling_band(trend: Floats, n_windows: int) -> tuple[Floats, Floats]:
    """Return the 95 % range of binomial sampling around the trend of an accuracy."""
    trend = np.clip(trend, 0.0, 1.0)
    # stay half a window away from 0 and 1, because even a perfect score of n windows is uncertain
    level = np.clip(trend, 0.5 / n_windows, 1 - 0.5 / n_windows)
    half_width = 1.96 * np.sqrt(level * (1 - level) / n_windows)
    return np.clip(trend - half_width, 0, 1), np.clip(trend + half_width, 0, 1)


def block_bootstrap(
    values: ArrayLike,
    statistic: Callable[[Floats], Floats],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Floats:
    """Return a statistic of each bootstrap resample of an autocorrelated series.

    This is the stationary bootstrap (D. N. Politis, J. P. Romano, 1994) with blocks of
    ``ceil(n^(1/3))`` epochs on average. `statistic` maps an array of resamples, one per row, to
    one value per row. The seed is fixed, so that the same history gives the same report.
    """
    series = np.asarray(values, np.float64)
    n = len(series)
    n_resamples = min(n_resamples, max(100, _MAX_DRAWN // max(n, 1)))
    rng = np.random.default_rng(seed)
    fresh = rng.random((n_resamples, n)) < 1 / math.ceil(n ** (1 / 3))
    fresh[:, 0] = True
    start = rng.integers(0, n, (n_resamples, n))
    position = np.arange(n)
    begun = np.maximum.accumulate(np.where(fresh, position, 0), axis=1)
    index = (np.take_along_axis(start, begun, axis=1) + position - begun) % n
    return np.asarray(statistic(series[index]))


def interval_of(resampled: Floats, confidence: float = 0.9) -> tuple[float, float]:
    """Return the percentile interval of resampled values."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def clustered_error(values: Floats, unit: NDArray[np.int64]) -> float:
    """Return the standard error of a mean of values that are correlated within units.

    The units are numbered from 0, and there are at least two.
    """
    sums = np.bincount(unit, values - values.mean())
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1))) / len(values)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p values adjusted for the number of tests, which may be dependent (S. Holm, 1979)."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min((len(p_values) - rank) * p_values[name], 1.0))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def circular_shift_test(changes: ArrayLike, *, n_shifts: int = 500, seed: int = 0) -> NullTest:
    """Test whether units change together more often than randomly shifted units do.

    The statistic is ``mean_t(sum_u(d_ut)^2)`` for changes of shape (n_changes, n_units). For the
    null distribution, each unit's series is rotated by its own random offset. The p value is
    one-sided.
    """
    change = np.asarray(changes, np.float64)
    n_changes, n_units = change.shape
    epoch, unit = np.nonzero(change)  # flips are rare, so only the flips are shifted
    value = change[epoch, unit]
    observed = float(np.mean(change.sum(axis=1) ** 2))
    if not len(value):
        return NullTest(observed, np.zeros(n_shifts), 1.0)
    n_shifts = min(n_shifts, max(100, _MAX_MOVED // len(value)))
    rng = np.random.default_rng(seed)
    sums = np.empty((n_shifts, n_changes))
    at_once = max(_MAX_DRAWN // len(value), 1)
    for first in range(0, n_shifts, at_once):
        n_now = min(at_once, n_shifts - first)
        offset = rng.integers(0, n_changes, (n_now, n_units))
        moved = (epoch + offset[:, unit]) % n_changes + n_changes * np.arange(n_now)[:, None]
        drawn = np.bincount(moved.ravel(), np.tile(value, n_now), n_now * n_changes)
        sums[first : first + n_now] = drawn.reshape(n_now, n_changes)
    null = (sums**2).mean(axis=1)
    n_beyond = int((null >= observed * (1 - 1e-12)).sum())
    return NullTest(observed, null, (1 + n_beyond) / (1 + n_shifts))
