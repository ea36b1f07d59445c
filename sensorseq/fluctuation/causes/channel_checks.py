"""check_channels: channels that say nothing, that count time, or that are badly scaled."""

import numpy as np
from numpy.typing import NDArray

from sensorseq.fluctuation.causes.cause import Cause
from sensorseq.fluctuation.causes.windows_of_a_part import Floats, Names, Part
from sensorseq.fluctuation.series import SD_PER_MAD

# A standardized channel has mean 0 and standard deviation 1; these are ten and more times off.
MEAN_OVER_SD = 3.0
SD_RANGE = (0.1, 10.0)
SD_RATIO = 30.0
OUTLIER_SDS = 8.0  # robust standard deviations; of a normal channel 1 value in 10^15
# Rarer ones carry no weight; values that are more are the signal itself, such as bursts of current.
OUTLIER_SHARE = (0.005, 0.05)
LEAST_OUTLIERS, LEAST_OUTLIER_WINDOWS = 20, 3  # fewer say nothing of a share
CLOCK_SHARE = 0.99  # of the windows in which a clock is a straight line ...
CLOCK_STRAIGHT = 0.999  # ... by its squared correlation with the step ...
CLOCK_SLOPE = 0.02  # ... and one slope for all, but for this share
CLOCK_LEAST_STEPS, CLOCK_LEAST_WINDOWS = 5, 10
STILL_SHARE = 0.01  # of windows in which no channel moves


def check_channels(train: Part, validation: Part | None, names: Names) -> list[Cause]:
    """Return what is wrong with channels of the training windows."""
    least, largest = train.window_range
    constant = np.flatnonzero(least.min(axis=0) == largest.max(axis=0))
    clocks = [c for c in range(train.n_channels) if c not in constant and _is_clock(train, c)]
    found = [*_constant(train, constant, names), *_clocks(train, clocks, names)]
    found += _still(train, constant, names)
    usable = [c for c in range(train.n_channels) if c not in constant and c not in clocks]
    return [*found, *_scale(train, usable, names), *_outliers(train, usable, names)]


def _constant(train: Part, constant: NDArray[np.int64], names: Names) -> list[Cause]:
    if not len(constant):
        return []
    if len(constant) == train.n_channels:
        said, confidence = "No channel of the training windows ever changes", 0.9
    else:
        value = float(train.X[0, 0, constant[0]])
        said = (
            f"{names.channels(constant)} of {train.n_channels} never changes in"
            f" {len(train)} training windows (value {value:.3g})"
        )
        confidence = 0.05  # it adds a bias to the gates and nothing that moves
    return [
        Cause(
            "data_bug",
            "supported",
            confidence,
            f"{said}: a sensor that was not connected, or a column that is no signal.",
            finding="constant channel",
            advice="Leave the channel out, or look why it holds no signal.",
        )
    ]


def _still(train: Part, constant: NDArray[np.int64], names: Names) -> list[Cause]:
    """Return windows in which nothing moves, of channels that do elsewhere."""
    moving = np.setdiff1d(np.arange(train.n_channels), constant)
    if not len(moving) or train.X.shape[1] < CLOCK_LEAST_STEPS:
        return []
    least, largest = train.window_range
    still = np.flatnonzero((least[:, moving] == largest[:, moving]).all(axis=1))
    if len(still) < max(3, STILL_SHARE * len(train)):
        return []
    return [
        Cause(
            "data_bug",
            "supported",
            0.15,
            f"In {len(still)} of {len(train)} training windows (rows {train.name_rows(still)}) no"
            " channel changes from the first step to the last: the recording had stopped.",
            finding="windows without a signal",
            advice="Leave out windows cut from a recording that had stopped.",
        )
    ]


def _is_clock(train: Part, channel: int) -> bool:
    """Whether a channel is a straight line of one slope in nearly every window."""
    slopes, straight, n_bent = [], [], 0
    for where, values, _ in train.blocks():
        of_block, is_straight = _lines(
            np.asarray(values[:, :, channel], np.float64), train.steps[where]
        )
        slopes.append(of_block)
        straight.append(is_straight)
        n_bent += int((~is_straight).sum())
        if n_bent > (1 - CLOCK_SHARE) * len(train):
            return False  # the usual case, seen from the first windows
    every, are_straight = np.concatenate(slopes), np.concatenate(straight)
    if len(every) < CLOCK_LEAST_WINDOWS:
        return False
    usual = float(np.median(every[are_straight])) if are_straight.any() else 0.0
    same = are_straight & (np.abs(every - usual) <= CLOCK_SLOPE * abs(usual))
    return usual != 0 and bool(same.mean() >= CLOCK_SHARE)


def _lines(values: Floats, steps: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the slope of each window over its steps, and whether it is a line; (n,) of those."""
    enough = steps >= CLOCK_LEAST_STEPS
    values, steps = values[enough], steps[enough]
    t = np.arange(values.shape[1], dtype=np.float64)
    inside = t < steps[:, None]
    time = np.where(inside, t - (steps[:, None] - 1) / 2, 0.0)
    value = np.where(inside, values, 0.0)
    value = np.where(inside, value - value.sum(axis=1, keepdims=True) / steps[:, None], 0.0)
    of_time, of_value = (time**2).sum(axis=1), (value**2).sum(axis=1)
    both = (time * value).sum(axis=1)
    explained = both**2
    is_line = (explained > CLOCK_STRAIGHT * of_time * of_value) & (of_value > 0)
    return np.asarray(both / of_time), np.asarray(is_line)


def _clocks(train: Part, clocks: list[int], names: Names) -> list[Cause]:
    if not clocks:
        return []
    return [
        Cause(
            "data_bug",
            "supported",
            0.3,
            f"{names.channels(clocks)} rises or falls along one straight line in at least"
            f" {100 * CLOCK_SHARE:.0f} % of {len(train)} training windows: a clock or a row number,"
            " not a signal. It tells the recording, and new recordings lie outside of what was"
            " learned.",
            finding="a clock among the channels",
            advice="Leave the channel of time stamps or row numbers out.",
        )
    ]


def _scale(train: Part, usable: list[int], names: Names) -> list[Cause]:
    """Return channels far from unit scale."""
    sd, mean = train.sd[usable], train.mean[usable]
    if not len(sd) or not np.isfinite(sd).all() or (sd <= 0).any():
        return []
    offset, ratio = np.abs(mean) / sd, float(sd.max() / sd.min())
    said = []
    far = np.flatnonzero(offset > MEAN_OVER_SD)
    if len(far):
        worst = int(far[offset[far].argmax()])
        said.append(
            f"{names.channels([usable[i] for i in far])}: the mean is up to {offset[worst]:.3g}"
            " standard deviations from zero"
        )
    off = np.flatnonzero((sd < SD_RANGE[0]) | (sd > SD_RANGE[1]))
    if len(off):
        said.append(
            f"{names.channels([usable[i] for i in off])}: the standard deviation is"
            f" {sd[off].min():.3g}"
            + (f" to {sd[off].max():.3g}" if len(off) > 1 else "")
            + " where 1 is expected"
        )
    if ratio > SD_RATIO:
        said.append(f"standard deviations of the channels differ {ratio:.3g} times")
    if not said:
        return []
    # far off by another factor of ten there is hardly a network that copes
    gross = offset.max() > 10 * MEAN_OVER_SD or sd.max() > 10 * SD_RANGE[1] or ratio > 10 * SD_RATIO
    recommendation = {"scale": "standard"} if names.can_scale("standard", "robust") else {}
    scaled = names.arguments.get("scale") is not None
    return [
        Cause(
            "preprocessing",
            "supported",
            0.4 if gross else 0.25,
            f"What the network sees is far from unit scale. {'; '.join(said)}.",
            finding="not scaled",
            recommendation=recommendation,
            alternatives=({"scale": "robust"},) if recommendation else (),
            advice=(
                "Look why values that were scaled are so far off."
                if scaled
                else "Scale each channel by its mean and standard deviation over training windows."
            ),
        )
    ]


def _outliers(train: Part, usable: list[int], names: Names) -> list[Cause]:
    """Return channels with a few values far beyond all others."""
    said, worst = [], np.zeros(len(train))
    for channel in usable:
        sample = train.sample(channel)
        if not len(sample):
            continue
        centre = float(np.median(sample))
        scale = SD_PER_MAD * float(np.median(np.abs(sample - centre)))
        if scale <= 0:
            continue  # a channel that mostly rests has no usual spread
        are_out = np.abs(sample - centre) > OUTLIER_SDS * scale
        share = float(are_out.mean())
        least, largest = (side[:, channel] for side in train.window_range)
        far = np.maximum(largest - centre, centre - least) / scale
        n_windows = int((far > OUTLIER_SDS).sum())
        is_rare = OUTLIER_SHARE[0] < share < OUTLIER_SHARE[1]
        if is_rare and are_out.sum() >= LEAST_OUTLIERS and n_windows >= LEAST_OUTLIER_WINDOWS:
            worst = np.maximum(worst, far)
            said.append(
                f"{100 * share:.1f} % of {names.channel(channel)} (largest {far.max():.0f} times)"
            )
    if not said:
        return []
    rows = np.argsort(-worst, kind="stable")[: int((worst > OUTLIER_SDS).sum())]
    return [
        Cause(
            "preprocessing",
            "supported",
            0.15,
            f"Values lie beyond {OUTLIER_SDS:.0f} robust standard deviations of the median:"
            f" {', '.join(said[:3])}; in {len(rows)} windows, the farthest in rows"
            f" {train.name_rows(rows)}.",
            finding="outliers",
            recommendation={"scale": "robust"} if names.can_scale("robust") else {},
            advice="Clip values beyond 8 deviations when preparing, or repair the recordings.",
        )
    ]
