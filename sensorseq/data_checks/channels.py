"""Channels that say nothing, that count time, or that are badly scaled; padding read as signal."""

from collections.abc import Iterable, Iterator
from typing import Any

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
SEVERE_CLIP = 0.2  # of the values
CLIPPED_SHARE = 0.03  # of the values, at the largest and at the smallest alike ...
CLIPPED_TIMES = 10  # ... and so many times what the other values get on average
LEAST_LEVELS = 50  # different values; a sensor of fewer has coarse steps
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
        yield from _clipped(train, usable)


def _clipped(train: Part, usable: Ints) -> Iterator[Finding]:
    found: dict[int, float] = {}
    for channel in usable.tolist():
        values = train.sample(channel)
        levels, counts = np.unique(values, return_counts=True)
        least = max(CLIPPED_SHARE * len(values), CLIPPED_TIMES * len(values) / len(levels))
        if len(levels) >= LEAST_LEVELS and min(counts[0], counts[-1]) > least:
            found[channel] = float(counts[0] + counts[-1]) / len(values)
    if found:
        worst = max(found, key=lambda channel: found[channel])
        yield Finding(
            "clipped",
            {"channels": list(found), "share": found[worst], "severe": found[worst] > SEVERE_CLIP},
            f"{train.name_channels(list(found))}: many values are exactly the largest or the"
            f" smallest one ({found[worst]:.0%} of channel {worst}), so the sensor or its amplifier"
            " is at its limit.",
            "Lower the gain or use a larger measuring range, and record again.",
        )


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


LEAST_RUN = 3  # steps alike at an end
RUN_SHARE = 0.1  # of a window's steps
WINDOWS_SHARE = 0.1  # of the windows that end so, in one and the same value


def check_padding(train: Part, validation: Part | None) -> Iterator[Finding]:
    """Yield it when windows without lengths end, or begin, in one value for all."""
    if train.lengths is not None:
        return
    trailing, leading = _padded(train)
    side, share = ("end", trailing) if trailing >= leading else ("beginning", leading)
    if share < WINDOWS_SHARE:
        return
    theirs = (0.0, 0.0) if validation is None else _padded(validation)
    is_other = theirs[side == "end"] >= WINDOWS_SHARE > theirs[side != "end"]
    yield Finding(
        "padding_as_signal",
        {"share": share, "side": side},
        f"{share:.0%} of {len(train)} training windows have the same constant in every channel at"
        f" their {side}, for a tenth of their steps or more. That is padding; without lengths it is"
        " read as signal."
        + (" The validation windows are padded at the other side." if is_other else ""),
        ("" if side == "end" else "Pad at the end instead. ")
        + "Give lengths=, or the windows as a list of arrays.",
    )


def _padded(part: Part) -> tuple[float, float]:
    """Return the share of windows that end, and that begin, in a run of one value for all."""
    if part.n_timesteps < 2 * LEAST_RUN:
        return 0.0, 0.0
    return _share(part.X[:, ::-1]), _share(part.X)


def _share(X: NDArray[np.floating]) -> float:
    """Return the share of windows that begin with the commonest first step, repeated."""
    least = max(LEAST_RUN, int(np.ceil(RUN_SHARE * X.shape[1])))
    repeated = np.flatnonzero((X[:, :least] == X[:, :1]).all(axis=(1, 2)))
    if not len(repeated):
        return 0.0
    _, counts = np.unique(X[repeated, 0], axis=0, return_counts=True)
    # a signal that rests does not rest at one value to the last bit, or not in every channel
    whole = (X[repeated] == X[repeated, :1]).all(axis=(1, 2)).sum()
    return float(counts.max() - min(whole, counts.max())) / len(X)


def check_zero_ends(X: NDArray[Any], lengths: Ints) -> Finding | None:
    """Return it when windows to predict, all of full length, end in zeros.

    scikit-learn hands `lengths` to `fit` and to `score`, but not to everything that predicts.
    """
    n_timesteps = X.shape[1]
    if n_timesteps < 2 or (lengths < n_timesteps).any():
        return None
    n_padded = int((X[:, -2:] == 0).all(axis=(1, 2)).sum())
    if not n_padded:
        return None
    return Finding(
        "zero_ends",
        {"n_windows": n_padded},
        f"{n_padded} of the {len(X)} windows end in zeros in every channel. fit was given lengths"
        " but this call was not, so the zeros are read as signal.",
        "Give lengths=, or give windows as a list of arrays of shape (t_i, c), which also works"
        " where scikit-learn does not pass metadata on.",
    )
