"""Find channels that repeat the label: they are constant within windows and reveal the class."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base.text import listed, percent

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Blocks = Iterable[NDArray[np.floating]]

LEAST_STEPS = 5  # windows with fewer steps may be constant by chance
MOST_SAMPLED = 256  # maximum number of windows that decide which channels are checked in full
# Minimum fractions of steps that are equal to, and near, the level of their window. Filters and
# delays smear a copy of the label where the label changes. A sensor at rest stays near its level,
# but noise keeps most steps from being equal to it.
EQUAL_STEPS, NEAR_STEPS = 0.5, 0.95
SAME, NEAR = 1e-4, 0.05  # tolerances relative to the range of the levels
NEARLY_ALL = 0.99  # minimum fraction of windows that have the level of their class
MOST_COMBINED = 32  # maximum number of channels tried together if none alone reveals the class


@dataclass(frozen=True)
class LabelChannels:
    """Channels that hardly ever change within a window, and whose values reveal the class.

    `share` is the fraction of windows that have the values of their class. `fewest` is the smallest
    number of recordings of any class. If `fewest` is 1, the values may belong to the recording, not
    to the class.
    """

    channels: list[int]
    share: float
    fewest: int

    @property
    def is_leak(self) -> bool:
        """True if the values of every class occur in several recordings."""
        return self.fewest > 1

    @property
    def is_certain(self) -> bool:
        """True if the channels are a leak and every window has the values of its class."""
        return self.is_leak and self.share == 1


def find_label_channels(
    read: Callable[[Ints], Blocks],
    y: ArrayLike,
    recording_id: ArrayLike | None,
    lengths: ArrayLike,
    split: ArrayLike | None = None,
) -> LabelChannels | None:
    """Find channels whose values alone reveal the class of the training windows.

    A channel that is constant in each recording, such as the mass of the load, is not a leak.
    Therefore, channels are reported only if each value, or combination of values, is the only one
    in its class or occurs in at least two recordings.

    Parameters
    ----------
    read : callable
        Function that takes increasing indices of windows, and returns their samples in blocks.
    y, recording_id, lengths, split : array-like of shape (n_windows,)
        Label, recording, length and part of each window. All windows are considered if there is no
        split, or if a class has only one recording in training. Without `recording_id`, each class
        counts as one recording.
    """
    target = np.unique(np.asarray(y), return_inverse=True)[1].ravel()
    origin = target if recording_id is None else np.asarray(recording_id)
    origin = np.unique(origin, return_inverse=True)[1].ravel()
    steps = np.asarray(lengths, np.int64)
    part = np.full(len(steps), "train") if split is None else np.asarray(split)
    rows = np.flatnonzero((part == "train") & (steps >= LEAST_STEPS))
    if _fewest(target[rows], origin[rows]) < 2:
        rows = np.flatnonzero((part != "") & (steps >= LEAST_STEPS))
    if len(np.unique(target[rows])) < 2:
        return None
    sampled = rows[_one_of_each(target[rows], origin[rows])]
    sample = np.concatenate([np.asarray(block, np.float64) for block in read(sampled)])
    level, equal, _ = _levels([sample], steps[sampled])
    width = _width(level)
    likely = np.flatnonzero((width > 0) & (equal >= EQUAL_STEPS))
    if not len(likely):
        return None  # in most cases, a sample of the windows is enough to decide
    level, equal, near = _levels(read(rows), steps[rows], likely, width[likely])
    finite = np.isfinite(level).all(axis=1)
    codes, has_levels = _level_numbers(level[finite], width[likely])
    kept = np.flatnonzero(has_levels & (equal >= EQUAL_STEPS) & (near >= NEAR_STEPS))
    target, origin = target[rows][finite], origin[rows][finite]
    if not len(kept) or len(classes := np.unique(target)) < 2:
        return None
    codes, target = codes[:, kept], np.searchsorted(classes, target)
    one_level, of_windows = _with_one_level(codes, target)
    left = np.setdiff1d(np.flatnonzero(equal[kept] == 1), one_level)
    more = _in_several_recordings(codes[:, left], target, origin, combine=not len(one_level))
    places = np.sort(np.r_[one_level, left[more]]).astype(np.int64)
    if not len(places):
        return None
    return LabelChannels(likely[kept][places].tolist(), of_windows, _fewest(target, origin))


def describe_label_channels(names: Sequence[str], label_channels: LabelChannels) -> str:
    """Return a sentence about the channels from `find_label_channels`."""
    is_single = len(names) == 1
    which_windows = (
        "every window"
        if label_channels.share == 1
        else f"{percent(label_channels.share)} of the windows"
    )
    text = (
        f"channel{'' if is_single else 's'} {listed([repr(name) for name in names], 12)}"
        f" {'is' if is_single else 'are'} constant within windows, and"
        f" {'its value' if is_single else 'their values'} alone {'gives' if is_single else 'give'}"
        f" the class of {which_windows}"
    )
    if label_channels.is_leak:
        return f"{text}: probably a copy of the label."
    return f"{text}, but one class has only one recording, so the value may identify the recording."


def _fewest(target: Ints, origin: Ints) -> int:
    """Return the smallest number of recordings of any class."""
    pairs = np.unique(np.column_stack([target, origin]), axis=0)
    return int(np.unique(pairs[:, 0], return_counts=True)[1].min(initial=len(target)))


def _one_of_each(target: Ints, origin: Ints) -> Ints:
    """Return the middle window of each class in each recording, at most `MOST_SAMPLED` windows."""
    order = np.lexsort((origin, target))
    starts = np.diff(target[order]) | np.diff(origin[order])
    firsts = np.r_[0, np.flatnonzero(starts) + 1]
    middle = order[(firsts + np.r_[firsts[1:], len(order)] - 1) // 2]
    which = np.linspace(0, len(middle) - 1, min(len(middle), MOST_SAMPLED)).astype(np.int64)
    return np.sort(middle[which])


def _levels(
    blocks: Blocks, steps: Ints, channels: Ints | None = None, width: Floats | None = None
) -> tuple[Floats, Floats, Floats]:
    """Return each window's median of each channel, and how constant each channel is.

    The last two arrays contain, for each channel, the fractions of all time steps whose values
    equal the median of their window, and are near it. `width` is, for each channel, the range of
    the medians; by default, the range in the first block.
    """
    levels, counts, n_known, at = [], [], np.int64(0), 0
    for block in blocks:
        x = np.asarray(block if channels is None else block[:, :, channels], np.float64)
        n_valid = steps[at : at + len(x)]
        if (n_valid < x.shape[1]).any():
            x = np.where((np.arange(x.shape[1]) < n_valid[:, None])[:, :, None], x, np.nan)
        middle = np.maximum(np.isfinite(x).sum(axis=1) - 1, 0) // 2
        level = np.take_along_axis(np.sort(x, axis=1), middle[:, None], axis=1)[:, 0]
        apart = np.abs(x - level[:, None])
        if width is None:
            width = _width(level)
        counts.append([(apart <= within * width).sum(axis=(0, 1)) for within in (SAME, NEAR)])
        levels.append(level)
        n_known = n_known + np.isfinite(x).sum(axis=(0, 1))
        at += len(x)
    equal, near = np.sum(counts, axis=0) / np.maximum(n_known, 1)
    return np.concatenate(levels), equal, near


def _width(level: Floats) -> Floats:
    """Return each channel's largest known level minus its smallest."""
    finite = np.isfinite(level)
    low, high = np.where(finite, level, np.inf), np.where(finite, level, -np.inf)
    return np.asarray(high.max(axis=0) - low.min(axis=0))


def _level_numbers(level: Floats, width: Floats) -> tuple[Ints, NDArray[np.bool_]]:
    """Return each window's level number by channel, and whether a channel's levels are distinct."""
    codes, has_levels = np.zeros(level.shape, np.int64), np.ones(level.shape[1], bool)
    for c in range(level.shape[1]):
        order = np.argsort(level[:, c])
        ranked = level[order, c]
        ends = np.flatnonzero(np.diff(ranked) > SAME * width[c])
        codes[order, c] = np.searchsorted(ends, np.arange(len(ranked)))
        spread = ranked[np.r_[ends, len(ranked) - 1]] - ranked[np.r_[0, ends + 1]]
        has_levels[c] = spread.max() <= 2 * SAME * width[c]
    return codes, has_levels


def _with_one_level(codes: Ints, target: Ints) -> tuple[Ints, float]:
    """Return channels with one level per class, and the fraction of windows at their class's level.

    Examples of such channels are one-hot columns, the digits of a class number, and the number
    itself. If the channels together do not reveal the class, no channel is returned.
    """
    by_class = [codes[target == k] for k in range(int(target.max()) + 1)]
    usual = np.array(
        [[np.bincount(column).argmax() for column in class_codes.T] for class_codes in by_class]
    )
    is_usual = codes == usual[target]
    places = np.flatnonzero((is_usual.mean(axis=0) >= NEARLY_ALL) & (np.ptp(usual, axis=0) > 0))
    share = float(is_usual[:, places].all(axis=1).mean())
    if len(np.unique(usual[:, places], axis=0)) < len(usual) or share < NEARLY_ALL:
        return places[:0], 1.0
    return places, share


def _in_several_recordings(codes: Ints, target: Ints, origin: Ints, *, combine: bool) -> list[int]:
    """Return channels whose levels reveal the class and each occur in two or more recordings.

    If there is no such channel and `combine` is True, several channels are tried together.
    """
    rows = np.unique(np.column_stack([target, origin, codes]), axis=0)
    own_class, own_origin, levels = rows[:, 0], rows[:, 1], rows[:, 2:]

    def fewest(places: list[int]) -> int:
        """Return the number of recordings in which the rarest levels occur.

        The result is 0 if the levels do not reveal the class.
        """
        which = np.unique(levels[:, places], axis=0, return_inverse=True)[1].ravel()
        n_classes = np.bincount(np.unique(np.column_stack([which, own_class]), axis=0)[:, 0])
        pairs = np.unique(np.column_stack([which, own_origin]), axis=0)
        return int(np.bincount(pairs[:, 0]).min()) if n_classes.max() == 1 else 0

    single = [place for place in range(levels.shape[1]) if fewest([place]) > 1]
    if single or not combine or not 1 < levels.shape[1] <= MOST_COMBINED:
        return single
    # Keep as few channels as possible; try to drop the channels with the most levels first.
    n_levels = [len(np.unique(column)) for column in levels.T]
    together = sorted(range(len(n_levels)), key=lambda place: -n_levels[place])
    for place in list(together):
        fewer = [kept for kept in together if kept != place]
        if fewer and fewest(fewer):
            together = fewer
    return together if fewest(together) > 1 else []
