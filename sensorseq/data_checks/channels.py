"""check_channels: channels that say nothing, that count time, or that are badly scaled."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from sensorseq.data_checks.part import Finding, Floats, Ints, Part

# A standardized channel has mean 0 and standard deviation 1; these are ten and more times off.
MEAN_OVER_SD = 3.0
SD_RANGE = (0.1, 10.0)
SD_RATIO = 30.0
SEVERE = 10.0  # times the limits: there is hardly a network that copes
SD_PER_MAD = 1.4826  # of a normal distribution
OUTLIER_SDS = 8.0  # robust standard deviations; of a normal channel 1 value in 10^15
# Rarer ones carry no weight; values that are more are the signal itself, such as bursts of current.
OUTLIER_SHARE = (0.005, 0.05)
LEAST_OUTLIERS, LEAST_OUTLIER_WINDOWS = 20, 3
CLOCK_SHARE = 0.99  # of the windows in which a clock is a straight line ...
CLOCK_STRAIGHT = 0.999  # ... by its squared correlation with the step ...
CLOCK_SLOPE = 0.02  # ... and one slope for all, but for this share
LEAST_STEPS, CLOCK_LEAST_WINDOWS = 5, 10
STILL_SHARE, LEAST_STILL = 0.01, 3  # windows in which no channel moves


def constant_channels(parts: Iterable[Part]) -> Ints:
    """Return the channels that have one value in all windows of all parts."""
    ranges = [part.window_range for part in parts]
    least = np.min([low.min(axis=0) for low, _ in ranges], axis=0)
    return np.flatnonzero(least == np.max([high.max(axis=0) for _, high in ranges], axis=0))


def check_channels(train: Part, validation: Part | None = None) -> Iterator[Finding]:
    """Yield what is wrong with channels of the training windows."""
    constant = constant_channels([train])
    moving = np.setdiff1d(np.arange(train.n_channels), constant)
    clocks = _clocks(train, moving)
    if len(constant):
        yield _of_constant(train, constant)
    if len(clocks):
        yield Finding(
            "clock_channels",
            {"channels": clocks.tolist()},
            f"{train.name_channels(clocks)}: a straight line of one slope in at least"
            f" {CLOCK_SHARE:.0%} of {len(train)} training windows, so this is a clock or a row"
            " number. The network can learn the recording from it, and new recordings lie outside"
            " its range.",
            "Remove the channel of time stamps or row numbers.",
        )
    yield from _still_windows(train, moving)
    usable = np.setdiff1d(moving, clocks)
    if len(usable):
        yield from _scale(train, usable)
        yield from _outliers(train, usable)


def _of_constant(train: Part, constant: Ints) -> Finding:
    are_all = len(constant) == train.n_channels
    if are_all:
        text = "No channel of the training windows ever changes"
    else:
        text = (
            f"{train.name_channels(constant)} of {train.n_channels} never"
            f" change{'s' if len(constant) == 1 else ''} in {len(train)} training windows (value"
            f" {float(train.X[0, 0, constant[0]]):.3g})"
        )
    return Finding(
        "constant_channels",
        {"channels": constant.tolist(), "severe": are_all},
        f"{text}: the sensor was not connected, or the column is not a signal.",
        "Remove the channel, or check why it holds no signal.",
    )


def _still_windows(train: Part, moving: Ints) -> Iterator[Finding]:
    """Yield windows in which nothing moves, of channels that do elsewhere."""
    if not len(moving) or train.n_timesteps < LEAST_STEPS:
        return
    least, largest = train.window_range
    still = np.flatnonzero((least[:, moving] == largest[:, moving]).all(axis=1))
    if len(still) >= max(LEAST_STILL, STILL_SHARE * len(train)):
        yield Finding(
            "still_windows",
            {"n_windows": len(still)},
            f"In {len(still)} of {len(train)} training windows (rows {train.name_rows(still)}) no"
            " channel changes: the recording had stopped.",
            "Remove windows cut after a recording had stopped.",
        )


def _clocks(train: Part, channels: Ints) -> Ints:
    """Return the channels that are a straight line of one slope in nearly every window."""
    is_long = train.steps >= LEAST_STEPS
    if is_long.sum() < CLOCK_LEAST_WINDOWS:
        return channels[:0]
    slope = np.zeros((len(train), train.n_channels))
    is_bent = np.zeros(slope.shape, bool)
    most_bent = (1 - CLOCK_SHARE) * len(train)
    for where, values, _ in train.blocks():
        slope[where][:, channels], is_line = _lines(values[:, :, channels], train.steps[where])
        is_bent[where][:, channels] = ~is_line & is_long[where, None]
        channels = channels[is_bent[:, channels].sum(axis=0) <= most_bent]
        if not len(channels):
            break  # the usual case, seen from the first windows
    found = []
    for channel in channels:
        of_channel, is_straight = slope[is_long, channel], ~is_bent[is_long, channel]
        usual = float(np.median(of_channel[is_straight])) if is_straight.any() else 0.0
        is_same = is_straight & (np.abs(of_channel - usual) <= CLOCK_SLOPE * abs(usual))
        if usual and is_same.mean() >= CLOCK_SHARE:
            found.append(channel)
    return np.array(found, np.int64)


def _lines(values: NDArray[np.floating], steps: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the slope of each window and channel, and whether it is a line; (n, c) each."""
    t = np.arange(values.shape[1])
    inside = t < steps[:, None]
    time = np.where(inside, t - (steps[:, None] - 1) / 2, 0.0)  # of mean zero
    value = (values - values[:, :1].astype(np.float64)) * inside[:, :, None]
    of_time = (time**2).sum(axis=1, keepdims=True)
    of_value = np.einsum("ntc,ntc->nc", value, value) - value.sum(axis=1) ** 2 / steps[:, None]
    both = np.einsum("nt,ntc->nc", time, value)
    is_line = (both**2 > CLOCK_STRAIGHT * of_time * of_value) & (of_value > 0)
    return both / np.where(of_time > 0, of_time, 1.0), is_line


def _scale(train: Part, usable: Ints) -> Iterator[Finding]:
    """Yield channels far from unit scale."""
    sd, mean = train.sd[usable], train.mean[usable]
    if not np.isfinite(sd).all() or (sd <= 0).any():
        return
    offset, ratio = np.abs(mean) / sd, float(sd.max() / sd.min())
    said = []
    far, off = offset > MEAN_OVER_SD, (sd < SD_RANGE[0]) | (sd > SD_RANGE[1])
    if far.any():
        said.append(
            f"{train.name_channels(usable[far])}: the mean is up to {offset.max():.3g} standard"
            " deviations from zero"
        )
    if off.any():
        to = f" to {sd[off].max():.3g}" if off.sum() > 1 else ""
        said.append(
            f"{train.name_channels(usable[off])}: the standard deviation is {sd[off].min():.3g}{to}"
            " where 1 is expected"
        )
    if ratio > SD_RATIO:
        said.append(f"standard deviations of the channels differ {ratio:.3g} times")
    if said:
        excess = max(offset.max() / MEAN_OVER_SD, sd.max() / SD_RANGE[1], ratio / SD_RATIO)
        yield Finding(
            "not_scaled",
            {"ratio": ratio, "offset": float(offset.max()), "severe": bool(excess > SEVERE)},
            f"The inputs of the network are far from unit scale. {'; '.join(said)}.",
            "Scale each channel by its mean and standard deviation over training windows.",
        )


def _outliers(train: Part, usable: Ints) -> Iterator[Finding]:
    """Yield channels with a few values far beyond all others."""
    said, worst = [], np.zeros(len(train))
    least, largest = train.window_range
    for channel in usable:
        sample = train.sample(channel)
        centre = float(np.median(sample))
        scale = SD_PER_MAD * float(np.median(np.abs(sample - centre)))
        if scale <= 0:
            continue  # a channel that mostly rests has no usual spread
        is_out = np.abs(sample - centre) > OUTLIER_SDS * scale
        far = np.maximum(largest[:, channel] - centre, centre - least[:, channel]) / scale
        n_windows, share = int((far > OUTLIER_SDS).sum()), float(is_out.mean())
        is_rare = OUTLIER_SHARE[0] < share < OUTLIER_SHARE[1]
        if is_rare and is_out.sum() >= LEAST_OUTLIERS and n_windows >= LEAST_OUTLIER_WINDOWS:
            worst = np.maximum(worst, far)
            said.append(
                f"{share:.1%} of {train.name_channels([channel])} (largest {far.max():.0f} times)"
            )
    if said:
        rows = np.argsort(-worst, kind="stable")[: int((worst > OUTLIER_SDS).sum())]
        yield Finding(
            "outliers",
            {"n_windows": len(rows)},
            f"Values lie beyond {OUTLIER_SDS:.0f} robust standard deviations of the median:"
            f" {', '.join(said[:3])}; in {len(rows)} windows, the farthest in rows"
            f" {train.name_rows(rows)}.",
            "Clip values beyond 8 deviations when preparing, or repair the recordings.",
        )
