"""Check windows without training: channels, padding, classes, labels, levels and units."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.text import percent, plural
from sensorseq.inspection.finding import Finding
from sensorseq.inspection.measures import Measures
from sensorseq.inspection.overlap import check_duplicates
from sensorseq.prediction.checked_windows import Windows
from sensorseq.prediction.outside import Floats, Ints
from sensorseq.preprocessing.windowing.label_channels import Blocks, find_label_channels

# A standardized channel has mean 0 and standard deviation 1, far inside these limits.
MEAN_OVER_SD = 3.0
SD_RANGE = (0.1, 10.0)
SD_RATIO = 30.0
SEVERE = 10.0  # at this multiple of the limits, hardly any network can learn
SD_PER_MAD = 1.4826  # standard deviation of a normal distribution, divided by its MAD
# Limit in robust standard deviations, which 1 in 10^15 values of a normal channel exceeds.
OUTLIER_SDS = 8.0
# A smaller fraction of outliers has no influence; a larger fraction is part of the signal.
OUTLIER_SHARE = (0.005, 0.05)
LEAST_OUTLIERS, LEAST_OUTLIER_WINDOWS = 20, 3
CLOCK_SHARE = 0.99  # a clock is a straight line in at least this fraction of the windows
CLOCK_STRAIGHT = 0.999  # minimum squared correlation of a straight line with the step index
CLOCK_SLOPE = 0.02  # maximum relative difference of a clock's slopes from their median
LEAST_STEPS, CLOCK_LEAST_WINDOWS = 5, 10
SEVERE_CLIP = 0.2  # clipping is severe if it affects this fraction of the values
CLIPPED_SHARE = 0.03  # minimum fraction of the values at each extreme
CLIPPED_TIMES = 10  # minimum count at each extreme, as a multiple of the mean count per value
LEAST_LEVELS = 50  # minimum number of different values; a sensor with fewer has coarse steps
STILL_SHARE, LEAST_STILL = 0.01, 3  # minimum fraction and number of windows without variation


def check_channels(train: Measures, validation: Measures | None = None) -> Iterator[Finding]:
    """Yield findings about the channels of the training windows."""
    low, high = train.window_range
    constant = np.flatnonzero(low.min(axis=0) == high.max(axis=0))
    moving = np.setdiff1d(np.arange(train.n_channels), constant)
    clocks = _clocks(train, moving)
    if len(constant):
        yield train.finding(
            "constant_channels",
            channels=constant,
            n_channels=train.n_channels,
            value=float(train.windows.X[0, 0, constant[0]]),
            severe=len(constant) == train.n_channels,
        )
    if len(clocks):
        yield train.finding("clock_channels", channels=clocks, share=CLOCK_SHARE)
    yield from _still_windows(train, moving)
    usable = np.setdiff1d(moving, clocks)
    if len(usable):
        yield from _scale(train, usable)
        yield from _outliers(train, usable)
        yield from _clipped(train, usable)


def _clipped(train: Measures, usable: Ints) -> Iterator[Finding]:
    clipped: dict[int, float] = {}
    for channel in usable.tolist():
        values = train.sample(channel)
        levels, counts = np.unique(values, return_counts=True)
        least = max(CLIPPED_SHARE * len(values), CLIPPED_TIMES * len(values) / len(levels))
        if len(levels) >= LEAST_LEVELS and min(counts[0], counts[-1]) > least:
            clipped[channel] = float(counts[0] + counts[-1]) / len(values)
    if clipped:
        worst = max(clipped, key=lambda channel: clipped[channel])
        share = clipped[worst]
        yield train.finding(
            "clipped", channels=list(clipped), share=share, worst=worst, severe=share > SEVERE_CLIP
        )


def _still_windows(train: Measures, moving: Ints) -> Iterator[Finding]:
    if not len(moving) or train.n_timesteps < LEAST_STEPS:
        return
    least, largest = train.window_range
    still = np.flatnonzero((least[:, moving] == largest[:, moving]).all(axis=1))
    if len(still) >= max(LEAST_STILL, STILL_SHARE * len(train)):
        yield train.finding("still_windows", rows=still, n_windows=len(still))


def _clocks(train: Measures, channels: Ints) -> Ints:
    """Return the channels that are straight lines with the same slope in nearly every window."""
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
            break  # the first windows usually decide
    clocks = []
    for channel in channels:
        of_channel, is_straight = slope[is_long, channel], ~is_bent[is_long, channel]
        usual = float(np.median(of_channel[is_straight])) if is_straight.any() else 0.0
        is_same = is_straight & (np.abs(of_channel - usual) <= CLOCK_SLOPE * abs(usual))
        if usual and is_same.mean() >= CLOCK_SHARE:
            clocks.append(channel)
    return np.array(clocks, np.int64)


def _lines(values: NDArray[np.floating], steps: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the slope (n, c) of each window and channel, and a mask (n, c) of straight lines."""
    t = np.arange(values.shape[1])
    inside = t < steps[:, None]
    time = np.where(inside, t - (steps[:, None] - 1) / 2, 0.0)  # centered on zero
    value = (values - values[:, :1].astype(np.float64)) * inside[:, :, None]
    of_time = (time**2).sum(axis=1, keepdims=True)
    of_value = np.einsum("ntc,ntc->nc", value, value) - value.sum(axis=1) ** 2 / steps[:, None]
    both = np.einsum("nt,ntc->nc", time, value)
    is_line = (both**2 > CLOCK_STRAIGHT * of_time * of_value) & (of_value > 0)
    return both / np.where(of_time > 0, of_time, 1.0), is_line


def _scale(train: Measures, usable: Ints) -> Iterator[Finding]:
    sd, mean = train.sd[usable], train.mean[usable]
    if not np.isfinite(sd).all() or (sd <= 0).any():
        return
    offset, ratio = np.abs(mean) / sd, float(sd.max() / sd.min())
    far, off = offset > MEAN_OVER_SD, (sd < SD_RANGE[0]) | (sd > SD_RANGE[1])
    if not (far.any() or off.any() or ratio > SD_RATIO):
        return
    excess = max(offset.max() / MEAN_OVER_SD, sd.max() / SD_RANGE[1], ratio / SD_RATIO)
    ends = np.sort(sd[off])[[0, -1][: off.sum()]]
    names = (train.channel_names(usable[which]) for which in (far, off))
    values = {
        "ratio": ratio,
        "offset": float(offset.max()),
        "sd": " to ".join(f"{end:.3g}" for end in ends),
        "differ": ratio > SD_RATIO,
        "severe": bool(excess > SEVERE),
    }
    yield Finding("not_scaled", values, dict(zip(("far", "off"), names, strict=True)))


def _outliers(train: Measures, usable: Ints) -> Iterator[Finding]:
    descriptions, worst = [], np.zeros(len(train))
    least, largest = train.window_range
    for channel in usable:
        sample = train.sample(channel)
        center = float(np.median(sample))
        scale = SD_PER_MAD * float(np.median(np.abs(sample - center)))
        if scale <= 0:
            continue  # a channel that is mostly at rest has no typical spread
        is_out = np.abs(sample - center) > OUTLIER_SDS * scale
        far = np.maximum(largest[:, channel] - center, center - least[:, channel]) / scale
        n_windows, share = int((far > OUTLIER_SDS).sum()), float(is_out.mean())
        is_rare = OUTLIER_SHARE[0] < share < OUTLIER_SHARE[1]
        if is_rare and is_out.sum() >= LEAST_OUTLIERS and n_windows >= LEAST_OUTLIER_WINDOWS:
            worst = np.maximum(worst, far)
            (name,) = train.channel_names([channel])
            descriptions.append(f"{percent(share)} of {name} (largest {far.max():.0f} times)")
    if descriptions:
        rows = np.argsort(-worst, kind="stable")[: int((worst > OUTLIER_SDS).sum())]
        where: dict[str, list[Any]] = {"channels": descriptions, "rows": train.row_names(rows)}
        yield Finding("outlier_windows", {"n_windows": len(rows), "n_sds": OUTLIER_SDS}, where)


LEAST_RUN = 3  # minimum number of equal steps at either end of a window that count as padding
RUN_SHARE = 0.1  # minimum length of padding, as a fraction of a window's steps
WINDOWS_SHARE = 0.1  # minimum fraction of windows with padding


def check_padding(train: Measures, validation: Measures | None) -> Iterator[Finding]:
    """Yield a finding if many windows without lengths end, or begin, with a run of one value."""
    if not train.windows.are_full:
        return
    trailing, leading = _padded(train)
    side, share = ("end", trailing) if trailing >= leading else ("beginning", leading)
    if share < WINDOWS_SHARE:
        return
    theirs = (0.0, 0.0) if validation is None else _padded(validation)
    is_other = theirs[side == "end"] >= WINDOWS_SHARE > theirs[side != "end"]
    yield train.finding(
        "padding_as_signal", share=share, side=side, is_leading=side != "end", is_other=is_other
    )


def _padded(part: Measures) -> tuple[float, float]:
    """Return the fractions of windows that end, and begin, with a run of the most common value."""
    if part.n_timesteps < 2 * LEAST_RUN:
        return 0.0, 0.0
    return _share(part.windows.X[:, ::-1]), _share(part.windows.X)


def _share(X: NDArray[np.floating]) -> float:
    """Return the fraction of windows that begin with repetitions of the most common first step."""
    least = max(LEAST_RUN, int(np.ceil(RUN_SHARE * X.shape[1])))
    repeated = np.flatnonzero((X[:, :least] == X[:, :1]).all(axis=(1, 2)))
    if not len(repeated):
        return 0.0
    _, counts = np.unique(X[repeated, 0], axis=0, return_counts=True)
    # windows that are constant throughout are not padded
    whole = (X[repeated] == X[repeated, :1]).all(axis=(1, 2)).sum()
    return float(counts.max() - min(whole, counts.max())) / len(X)


DOMINANT = 0.9  # a class dominates above this fraction of the windows
MANY_UNSEEN = 0.05  # a finding is severe above this fraction of the validation windows


def check_shares(
    target: Ints, classes: Sequence[Any], groups: NDArray[Any] | None = None
) -> Iterator[Finding]:
    """Yield findings if one class dominates, or a class has a single window or group."""
    counts = np.bincount(target, minlength=len(classes))
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    share = float(counts[largest] / counts.sum())
    if share > DOMINANT:
        values = {"class": largest, "share": share}
        yield Finding("dominant_class", values, {"classes": [repr(classes[largest])]})
    if counts[smallest] < 2:
        values = {"class": smallest, "n_classes": int((counts < 2).sum())}
        yield Finding("single_window", values, {"classes": [repr(classes[smallest])]})
    elif groups is not None:
        of_class = [len(np.unique(groups[target == k])) for k in range(len(classes))]
        alone = int(np.argmin(of_class))
        if of_class[alone] < 2:
            yield Finding("single_group", {"class": alone}, {"classes": [repr(classes[alone])]})


def check_classes(train: Measures, validation: Measures | None) -> Iterator[Finding]:
    """Yield findings about classes that are missing from one of the parts."""
    if validation is None:
        return
    ours, theirs = np.unique(train.windows.target), np.unique(validation.windows.target)
    unlearned, unseen = np.setdiff1d(theirs, ours), np.setdiff1d(ours, theirs)
    if len(unlearned):
        n, n_validation = int(np.isin(validation.windows.target, unlearned).sum()), len(validation)
        severe = n > MANY_UNSEEN * n_validation
        yield train.finding(
            "class_not_in_training",
            classes=unlearned,
            n_windows=n,
            n_validation=n_validation,
            severe=severe,
        )
    if len(unseen) and len(validation) >= 5 * len(ours):  # a small part may lack a class by chance
        n = int(np.isin(train.windows.target, unseen).sum())
        yield train.finding("class_not_in_validation", classes=unseen, n_windows=n)


def check_label_channels(
    read: Callable[[Ints], Blocks],
    y: ArrayLike,
    recording_id: ArrayLike | None,
    lengths: ArrayLike,
    split: ArrayLike | None,
    channels: Sequence[str] | None,
) -> Finding | None:
    """Return a finding if constant channels reveal the class; see `find_label_channels`.

    `channels` are the names of the channels, or None if they have only numbers.
    """
    constant = find_label_channels(read, y, recording_id, lengths, split)
    if constant is None:
        return None
    names = [str(place) if channels is None else channels[place] for place in constant.channels]
    values = {"is_leak": constant.is_leak, "share": constant.share, "fewest": constant.fewest}
    return Finding("label_channels", {**values, "count": len(names)}, {"channels": names})


MOST_ROWS = 3  # maximum shift of labels that is tested, in rows
LEAST_LABELED, MOST_LABELED = 60, 20_000  # minimum and maximum number of windows that are checked
LEAST_GAIN = 0.15  # minimum gain in accuracy that shows a shift of the labels
# Maximum gain of unshifted labels over guessing, as a fraction of the gain of shifted labels.
NEAR_GUESSING = 0.5
GAIN_ERRORS = 6.0  # minimum gain in accuracy, as a multiple of its standard error
RIDGE = 1e-2  # penalty of the ridge regression, per window
LEAST_SHIFT_SDS = 0.3  # minimum shift of a level, in training standard deviations; 1 without groups
SHIFT_ERRORS = 5.0
LEAST_GROUPS = 5  # minimum number of groups in each part; with fewer, parts differ by chance
LEAST_WINDOWS = 20  # minimum number of windows in a part without groups
UNIT_RATIO = 10.0  # minimum ratio of spreads between two clusters of a class's groups
# minimum distance of validation groups from the training mean: as a multiple of the distance of
# training groups, and in standard deviations
LEAST_APART, LEAST_APART_SDS = 3.0, 0.5
LEAST_VALIDATION_GROUPS = 3


def check_labels(train: Measures, validation: Measures | None) -> Iterator[Finding]:
    """Yield a finding if the windows fit the labels of other rows far better than their own.

    A linear classifier on the mean and the spread of each channel is fitted on half of the rows and
    scored on the other half. The accuracy with the given labels is compared with the accuracy after
    a shift of the labels by 1 to 3 rows.
    """
    parts = [
        part for part in (train, validation) if part is not None and part.windows.rows is not None
    ]
    if not parts or parts[0] is not train or parts[-1].n_channels != train.n_channels:
        return
    rows = np.concatenate([part.windows.rows for part in parts])
    order = np.argsort(rows)
    rows = rows[order]
    if (np.diff(rows) == 0).any():
        return
    inside = rows < rows[0] + MOST_LABELED
    features = np.concatenate([np.hstack([p.window_mean, p.window_sd]) for p in parts])
    classes, codes = np.unique(
        np.concatenate([p.windows.target for p in parts]), return_inverse=True
    )
    features, codes, rows = features[order][inside], codes[order][inside], rows[inside]
    label_of = np.full(int(rows[-1] - rows[0]) + 1 + 2 * MOST_ROWS, -1)
    label_of[rows - rows[0] + MOST_ROWS] = codes
    offsets = [k for k in range(-MOST_ROWS, MOST_ROWS + 1) if k]
    shifted = {k: label_of[rows - rows[0] + MOST_ROWS + k] for k in (0, *offsets)}
    usable = np.all([labels >= 0 for labels in shifted.values()], axis=0)
    if len(classes) < 2 or usable.sum() < LEAST_LABELED:
        return
    hits = {k: _hits(features[usable], of_k[usable], len(classes)) for k, of_k in shifted.items()}
    best = max(offsets, key=lambda k: hits[k].mean())
    unshifted, other = float(hits[0].mean()), float(hits[best].mean())
    gain = hits[best] - hits[0]
    error = max(float(gain.std()), 0.05) / np.sqrt(len(gain))
    guess = float(np.bincount(codes[usable]).max()) / int(usable.sum())
    is_near = unshifted - guess <= NEAR_GUESSING * (other - guess)
    if other - unshifted < max(LEAST_GAIN, GAIN_ERRORS * error) or not is_near:
        return
    shift = {"offset": best, "is_after": best > 0, "distance": plural(abs(best), "row")}
    yield Finding("labels_off", {**shift, "own": unshifted, "other": other, "guess": guess})


def _hits(features: Floats, codes: Ints, n_classes: int) -> Floats:
    """Mark windows that a ridge model, fitted on the other half, classifies correctly."""
    sd = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(sd > 0, sd, 1.0)
    design = np.column_stack([np.clip(scaled, -10, 10), np.ones(len(scaled))])
    wanted, hits = np.eye(n_classes)[codes], np.zeros(len(codes))
    # contiguous halves, because alternating rows would put neighbors in both halves
    first = np.arange(len(codes)) < len(codes) // 2
    for half in (first, ~first):
        penalty = RIDGE * half.sum() * np.eye(design.shape[1])
        product = design[half].T @ design[half] + penalty
        weights = np.linalg.solve(product, design[half].T @ wanted[half])
        hits[~half] = (design[~half] @ weights).argmax(axis=1) == codes[~half]
    return hits


def check_levels(train: Measures, validation: Measures | None) -> Iterator[Finding]:
    """Yield channels whose level differs more between the parts than between groups of a part.

    Windows of one recording are similar, so the shift must be larger if there are no groups. Even
    if the means over all groups agree, single groups may be far from the training mean, so their
    distances are checked next.
    """
    if validation is None or validation.n_channels != train.n_channels:
        return
    by_group = train.windows.groups is not None and validation.windows.groups is not None
    ours, theirs = (_levels(part, by_group) for part in (train, validation))
    figures: dict[str, Any] = {"n_train": len(ours), "n_validation": len(theirs)}
    n_fewest = min(len(ours), len(theirs))
    varies, scale = train.sd > 0, np.where(train.sd > 0, train.sd, 1.0)
    # with few groups, the error estimate is itself uncertain
    margin = 1 + 4 / n_fewest
    if n_fewest >= (LEAST_GROUPS if by_group else LEAST_WINDOWS):
        shift = (theirs.mean(axis=0) - ours.mean(axis=0)) / scale
        errors = (levels.std(axis=0, ddof=1) / np.sqrt(len(levels)) for levels in (ours, theirs))
        error, least = np.hypot(*errors) / scale, LEAST_SHIFT_SDS if by_group else 1.0
        limit = np.maximum(SHIFT_ERRORS * margin * error, least)
        if len(moved := _farthest(np.abs(shift), limit, varies)):
            far, uncertain = float(shift[moved[0]]), float(error[moved[0]])
            figures |= {"shift": far, "error": uncertain, "by_group": by_group}
            figures["severe"] = abs(far) > 1
            yield train.finding("level_shift", channels=moved, **figures)
            return
    if by_group and len(ours) >= LEAST_GROUPS and len(theirs) >= LEAST_VALIDATION_GROUPS:
        squares = (((levels - train.mean) ** 2).mean(axis=0) for levels in (ours, theirs))
        usual, apart = (np.sqrt(square) / scale for square in squares)
        limit = np.maximum(LEAST_APART * margin * usual, LEAST_APART_SDS)
        if len(moved := _farthest(apart, limit, varies)):
            far, typical = float(apart[moved[0]]), float(usual[moved[0]])
            figures |= {"apart": far, "usual": typical, "severe": far > 1}
            yield train.finding("groups_apart", channels=moved, **figures)


def _farthest(distance: Floats, limit: Floats, among: NDArray[np.bool_]) -> Ints:
    """Return the channels beyond their limits, the farthest first."""
    beyond = np.flatnonzero((distance > limit) & among)
    return beyond[np.argsort(-distance[beyond], kind="stable")]


def check_units(train: Measures, validation: Measures | None) -> Iterator[Finding]:
    """Yield a finding if a channel's spread splits the groups of a class into two clusters."""
    if train.windows.groups is None:
        return
    pairs = np.stack(
        [train.windows.target, np.unique(train.windows.groups, return_inverse=True)[1]], axis=1
    )
    kinds, code = np.unique(pairs, axis=0, return_inverse=True)
    spread = np.sqrt(_means(train.window_sd**2, code.ravel()))
    ratios: dict[int, float] = {}
    for channel in np.flatnonzero((spread > 0).all(axis=0)).tolist():
        logs = np.log10(spread[:, channel])
        classes = [np.sort(logs[kinds[:, 0] == k]) for k in np.unique(kinds[:, 0])]
        gaps = np.array([np.diff(sizes).max() for sizes in classes if len(sizes) >= LEAST_GROUPS])
        if len(gaps) and np.median(gaps) > np.log10(UNIT_RATIO):
            ratios[channel] = float(10 ** np.median(gaps))
    if ratios:
        yield train.finding("mixed_units", channels=list(ratios), ratio=max(ratios.values()))


def _levels(part: Measures, by_group: bool) -> NDArray[np.float64]:
    """Return the mean of each group or, without groups, of each window, shape (units, c)."""
    if not by_group or part.windows.groups is None:
        return part.window_mean
    return _means(part.window_mean, np.unique(part.windows.groups, return_inverse=True)[1])


def _means(values: Floats, code: Ints) -> Floats:
    """Return the mean over the rows with each code, shape (codes, c)."""
    sums = np.zeros((int(code.max()) + 1, values.shape[1]))
    np.add.at(sums, code, values)
    return np.asarray(sums / np.bincount(code)[:, None])


def check_windows(train: Windows, validation: Windows | None = None) -> Iterator[Finding]:
    """Yield findings about the windows as the network sees them, before any training.

    A finding is a fact about the data, and not necessarily the cause of a fluctuating loss curve.
    """
    if not train.X.size:
        return
    of_train = Measures(train)
    of_validation = None if validation is None or not validation.X.size else Measures(validation)
    for check in (
        check_duplicates,
        check_labels,
        check_channels,
        check_padding,
        check_classes,
        check_levels,
        check_units,
    ):
        yield from check(of_train, of_validation)
