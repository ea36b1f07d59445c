"""Shares of classes, labels that belong to other rows, and channels at another level."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.data_checks.part import Finding, Floats, Ints, Part

DOMINANT = 0.9  # share of the windows
MANY_UNSEEN = 0.05  # of the validation windows


def check_shares(
    target: Ints, classes: Sequence[Any], groups: NDArray[Any] | None = None
) -> Iterator[Finding]:
    """Yield it when one class dominates, or one has a single window or a single group."""
    counts = np.bincount(target, minlength=len(classes))
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    share = float(counts[largest] / counts.sum())
    if share > DOMINANT:
        yield Finding(
            "dominant_class",
            {"class": largest, "share": share},
            f"{share:.0%} of the windows belong to class {classes[largest]!r}: a classifier that"
            " always predicts it reaches that accuracy, and the loss rewards it for that.",
            "Use class_weight='balanced' or sampler='balanced', and compare balanced accuracy.",
        )
    if counts[smallest] < 2:
        n_single = int((counts < 2).sum())
        yield Finding(
            "single_window",
            {"class": smallest, "n_classes": n_single},
            f"class {classes[smallest]!r} of y has one window ({n_single} such class"
            f"{'es' if n_single > 1 else ''}), so validation cannot show whether it is learned.",
            "Record more of it, or drop the class.",
        )
    elif groups is not None:
        of_class = [len(np.unique(groups[target == k])) for k in range(len(classes))]
        alone = int(np.argmin(of_class))
        if of_class[alone] < 2:
            yield Finding(
                "single_group",
                {"class": alone},
                f"All windows of class {classes[alone]!r} come from one group: the network may"
                " learn that group instead of the class.",
                "Record the class again in another group.",
            )


def check_classes(train: Part, validation: Part | None) -> Iterator[Finding]:
    """Yield classes that one of the parts has no window of."""
    if validation is None:
        return
    ours, theirs = np.unique(train.target), np.unique(validation.target)
    unlearned, unseen = np.setdiff1d(theirs, ours), np.setdiff1d(ours, theirs)
    if len(unlearned):
        n = int(np.isin(validation.target, unlearned).sum())
        are = "window belongs to one" if n == 1 else "windows belong to such classes"
        yield Finding(
            "class_not_in_training",
            {"n_windows": n, "severe": n > MANY_UNSEEN * len(validation)},
            f"There is no training window of class {train.name_classes(unlearned)}: {n} of"
            f" {len(validation)} validation {are}, and cannot be predicted correctly.",
            "Split so that every part has every class, or drop the class.",
        )
    if len(unseen) and len(validation) >= 5 * len(ours):  # else a small part lacks one by chance
        n = int(np.isin(train.target, unseen).sum())
        yield Finding(
            "class_not_in_validation",
            {"n_windows": n},
            f"There is no validation window of class {train.name_classes(unseen)}, which has {n} of"
            f" {len(train)} training windows: validation measures a different problem.",
            "Split so that every part has every class.",
        )


MOST_ROWS = 3  # by which labels are tried to be off
LEAST_LABELLED, MOST_LABELLED = 60, 20_000  # windows
LEAST_GAIN = 0.15  # of accuracy, against the labels where they are
NEAR_GUESSING = 0.5  # of the accuracy above guessing that the labels where they are may keep
GAIN_ERRORS = 6.0  # standard errors
RIDGE = 1e-2  # of the number of windows
LEAST_SHIFT_SDS = 0.3  # of the channel in training; 1 without groups
SHIFT_ERRORS = 5.0
LEAST_GROUPS = 5  # in each part, below which a difference between parts is that of a few groups
LEAST_WINDOWS = 20  # of a part without groups
UNIT_RATIO = 10.0  # of spreads in one class, between groups that are otherwise alike
LEAST_APART, LEAST_APART_SDS = 3.0, 0.5  # of levels of groups: times those of training, and sds
LEAST_VALIDATION_GROUPS = 3


def check_labels(train: Part, validation: Part | None) -> Iterator[Finding]:
    """Yield it when the label of another row fits each window far better than its own.

    A linear classifier on the mean and the spread of each channel is fitted on half of the rows and
    scored on the other, with the labels where they are and 1 to 3 rows off.
    """
    parts = [part for part in (train, validation) if part is not None and part.rows is not None]
    if not parts or parts[0] is not train or parts[-1].n_channels != train.n_channels:
        return
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows)
    rows = rows[order]
    if (np.diff(rows) == 0).any():
        return
    inside = rows < rows[0] + MOST_LABELLED
    features = np.concatenate([np.hstack([p.window_mean, p.window_sd]) for p in parts])
    classes, codes = np.unique(np.concatenate([p.target for p in parts]), return_inverse=True)
    features, codes, rows = features[order][inside], codes[order][inside], rows[inside]
    label_of = np.full(int(rows[-1] - rows[0]) + 1 + 2 * MOST_ROWS, -1)
    label_of[rows - rows[0] + MOST_ROWS] = codes
    offsets = [k for k in range(-MOST_ROWS, MOST_ROWS + 1) if k]
    shifted = {k: label_of[rows - rows[0] + MOST_ROWS + k] for k in (0, *offsets)}
    known = np.all([labels >= 0 for labels in shifted.values()], axis=0)
    if len(classes) < 2 or known.sum() < LEAST_LABELLED:
        return
    hits = {k: _hits(features[known], of_k[known], len(classes)) for k, of_k in shifted.items()}
    best = max(offsets, key=lambda k: hits[k].mean())
    own, other = float(hits[0].mean()), float(hits[best].mean())
    gain = hits[best] - hits[0]
    error = max(float(gain.std()), 0.05) / np.sqrt(len(gain))
    guess = float(np.bincount(codes[known]).max()) / int(known.sum())
    is_near = own - guess <= NEAR_GUESSING * (other - guess)
    if other - own < max(LEAST_GAIN, GAIN_ERRORS * error) or not is_near:
        return
    distance = f"{abs(best)} row{'s' if abs(best) > 1 else ''}"
    yield Finding(
        "labels_off",
        {"distance": distance, "offset": best, "own": own, "other": other},
        f"The label {distance} {'after' if best > 0 else 'before'} fits each window better than its"
        f" own: a linear classifier on mean and spread of the channels is right for {other:.0%}"
        f" with it and for {own:.0%} as they are; guessing gives {guess:.0%}.",
        "Check how windows and labels were joined; one of them lost or gained rows.",
    )


def _hits(features: Floats, codes: Ints, n_classes: int) -> Floats:
    """Return which windows a ridge classifier fitted on the other half of them gets right."""
    sd = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(sd > 0, sd, 1.0)
    design = np.column_stack([np.clip(scaled, -10, 10), np.ones(len(scaled))])
    wanted, hits = np.eye(n_classes)[codes], np.zeros(len(codes))
    # by halves, not in turn: neighbours of one recording would be in both
    first = np.arange(len(codes)) < len(codes) // 2
    for half in (first, ~first):
        penalty = RIDGE * half.sum() * np.eye(design.shape[1])
        product = design[half].T @ design[half] + penalty
        weights = np.linalg.solve(product, design[half].T @ wanted[half])
        hits[~half] = (design[~half] @ weights).argmax(axis=1) == codes[~half]
    return hits


def check_levels(train: Part, validation: Part | None) -> Iterator[Finding]:
    """Yield channels whose level differs more between the parts than between their groups.

    Windows of one recording are alike, so without groups the shift must be larger. Where the mean
    over groups is that of training, they may still lie far apart.
    """
    if validation is not None and validation.n_channels == train.n_channels:
        yield from list(_moved(train, validation)) or _moved_apart(train, validation)


def _moved(train: Part, validation: Part) -> Iterator[Finding]:
    by_group = train.groups is not None and validation.groups is not None
    ours, theirs = (_levels(part, by_group) for part in (train, validation))
    n_fewest = min(len(ours), len(theirs))
    if n_fewest < (LEAST_GROUPS if by_group else LEAST_WINDOWS):
        return
    scale = np.where(train.sd > 0, train.sd, 1.0)
    shift = np.abs(theirs.mean(axis=0) - ours.mean(axis=0)) / scale
    error = np.hypot(*(of.std(axis=0, ddof=1) / np.sqrt(len(of)) for of in (ours, theirs))) / scale
    # of few groups the error is uncertain itself
    limit = SHIFT_ERRORS * (1 + 4 / n_fewest) * error
    least = LEAST_SHIFT_SDS if by_group else 1.0
    moved = np.flatnonzero((shift > np.maximum(limit, least)) & (train.sd > 0))
    if not len(moved):
        return
    worst = int(moved[shift[moved].argmax()])
    signed = (theirs.mean(axis=0) - ours.mean(axis=0))[worst] / scale[worst]
    yield Finding(
        "level_shift",
        {"channels": moved.tolist(), "shift": float(signed), "severe": bool(shift[worst] > 1)},
        f"{train.name_channels(moved)} {'is' if len(moved) == 1 else 'are'} at another level in"
        f" validation: {signed:+.2f} standard deviations for {train.name_channels([worst])}; the"
        f" standard error between {len(ours)} and {len(theirs)}"
        f" {'groups' if by_group else 'windows'} is {error[worst]:.2f}.",
        "Check whether both parts were recorded and scaled alike; scaling each recording by itself"
        " removes its level.",
    )


def _moved_apart(train: Part, validation: Part) -> Iterator[Finding]:
    if train.groups is None or validation.groups is None:
        return
    ours, theirs = _levels(train, True), _levels(validation, True)
    if len(ours) < LEAST_GROUPS or len(theirs) < LEAST_VALIDATION_GROUPS:
        return
    scale = np.where(train.sd > 0, train.sd, 1.0)
    usual, apart = (np.sqrt(((of - train.mean) ** 2).mean(axis=0)) / scale for of in (ours, theirs))
    limit = LEAST_APART * (1 + 4 / min(len(ours), len(theirs))) * usual
    moved = np.flatnonzero((apart > np.maximum(limit, LEAST_APART_SDS)) & (train.sd > 0))
    if not len(moved):
        return
    worst = int(moved[apart[moved].argmax()])
    yield Finding(
        "groups_apart",
        {
            "channels": moved.tolist(),
            "apart": float(apart[worst]),
            "severe": bool(apart[worst] > 1),
        },
        f"{train.name_channels(moved)}: validation groups are at other levels than training"
        f" groups, {apart[worst]:.2g} standard deviations from the mean for"
        f" {train.name_channels([worst])}; training groups are {usual[worst]:.2g}.",
        "Check whether all groups were recorded and calibrated alike; scaling each recording by"
        " itself removes its level.",
    )


def check_units(train: Part, validation: Part | None) -> Iterator[Finding]:
    """Yield a channel whose spread falls into two heaps of groups, within one class."""
    if train.groups is None:
        return
    pairs = np.stack([train.target, np.unique(train.groups, return_inverse=True)[1]], axis=1)
    kinds, code = np.unique(pairs, axis=0, return_inverse=True)
    spread = np.sqrt(_means(train.window_sd**2, code.ravel()))
    found: dict[int, float] = {}
    for channel in np.flatnonzero((spread > 0).all(axis=0)).tolist():
        logs = np.log10(spread[:, channel])
        classes = [np.sort(logs[kinds[:, 0] == k]) for k in np.unique(kinds[:, 0])]
        gaps = np.array([np.diff(of).max() for of in classes if len(of) >= LEAST_GROUPS])
        if len(gaps) and np.median(gaps) > np.log10(UNIT_RATIO):
            found[channel] = float(10 ** np.median(gaps))
    if found:
        worst = max(found, key=lambda channel: found[channel])
        yield Finding(
            "mixed_units",
            {"channels": list(found), "ratio": found[worst]},
            f"{train.name_channels(list(found))}: in some groups the values vary"
            f" {found[worst]:.2g} times as much as in other groups of the same class, and no group"
            " lies between: they may be in other units.",
            "Bring all recordings to the same units before they are cut into windows.",
        )


def _levels(part: Part, by_group: bool) -> NDArray[np.float64]:
    """Return the mean of each window, or of each group over its windows; (units, c)."""
    if not by_group or part.groups is None:
        return part.window_mean
    return _means(part.window_mean, np.unique(part.groups, return_inverse=True)[1])


def _means(values: Floats, code: Ints) -> Floats:
    """Return the mean of the rows of each code, (codes, c)."""
    sums = np.zeros((int(code.max()) + 1, values.shape[1]))
    np.add.at(sums, code, values)
    return np.asarray(sums / np.bincount(code)[:, None])
