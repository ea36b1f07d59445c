import numpy as np
import pytest
from cut_windows import grouped_windows
from hypothesis import assume, given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, SplitError
from sensorseq.preprocessing.split import describe_split, holdout_by_group, split_by_group
from sensorseq.preprocessing.splitters import GroupBalancedKFold
from sensorseq.windows import PARTS


@given(data=grouped_windows(min_groups=3), seed=st.integers(0, 100))
def test_no_group_is_in_two_parts_and_every_part_has_every_class(data, seed):
    y, groups = data
    part = split_by_group(y, groups, random_state=seed)
    assert len(part) == len(y)  # every window belongs to a part
    for group in np.unique(groups):
        assert len(np.unique(part[groups == group])) == 1
    for name in PARTS:
        assert set(y[part == name]) == set(y)


@given(data=grouped_windows(min_groups=3), seed=st.integers(0, 100))
def test_the_same_seed_gives_the_same_split_whatever_labels_are_called(data, seed):
    y, groups = data
    part = split_by_group(y, groups, random_state=seed)
    np.testing.assert_array_equal(part, split_by_group(y, groups, random_state=seed))
    renamed = np.char.add("x", y)
    np.testing.assert_array_equal(part, split_by_group(renamed, groups, random_state=seed))


def test_different_seeds_give_different_splits():
    groups = np.repeat(np.arange(40), 5)
    splits = {tuple(split_by_group(groups % 2, groups, random_state=s)) for s in range(4)}
    assert len(splits) == 4


@given(
    fractions=st.sampled_from([(0.6, 0.2, 0.2), (0.5, 0.25, 0.25), (0.8, 0.1, 0.1)]),
    n_groups=st.sampled_from([20, 60, 100, 300]),
    seed=st.integers(0, 20),
)
def test_shares_come_near_when_groups_are_many(fractions, n_groups, seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), rng.integers(20, 60, n_groups))
    y = groups % 2
    part = split_by_group(y, groups, fractions, random_state=seed)
    for label in (0, 1):
        for name, fraction in zip(PARTS, fractions, strict=True):
            assert abs(np.mean(part[y == label] == name) - fraction) < 0.06


def test_the_search_finds_an_exact_split_where_there_is_one():
    # Class 0 has groups of 6, 2 and 2 windows; class 1 has groups of 3, 3, 1, 1 and 2 windows.
    sizes = [6, 2, 2, 3, 3, 1, 1, 2]
    y = np.repeat([0, 0, 0, 1, 1, 1, 1, 1], sizes)
    part = split_by_group(y, np.repeat(np.arange(8), sizes), random_state=0)
    for label in (0, 1):
        assert [int(np.sum(part[y == label] == name)) for name in PARTS] == [6, 2, 2]


def test_a_fraction_of_zero_leaves_the_part_empty():
    y = np.repeat(["a", "b"], 20)
    part = split_by_group(y, np.arange(40) // 10, (0.5, 0.0, 0.5), random_state=0)
    assert set(part) == {"train", "test"}
    assert (split_by_group(y, np.zeros(40), (1, 0, 0)) == "train").all()


def test_without_labels_groups_still_stay_whole():
    groups = np.arange(100) // 10
    part = split_by_group(None, groups, random_state=0)
    assert [int(np.sum(part == name)) for name in PARTS] == [60, 20, 20]
    assert all(len(np.unique(part[groups == g])) == 1 for g in range(10))


def test_a_class_with_too_few_groups_is_named():
    y = np.repeat(["ice", "mud"], [30, 20])
    groups = np.r_[np.arange(30) // 10, 100 + np.arange(20) // 10]
    with pytest.raises(SplitError, match=r"class 'mud': 2 group\(s\).*3 parts"):
        split_by_group(y, groups)
    with pytest.raises(SplitError, match=r"^2 group\(s\)"):
        split_by_group(None, groups[30:])


@pytest.mark.parametrize(
    "split",
    [split_by_group, lambda y, groups: next(GroupBalancedKFold(2).split(y, y, groups))],
    ids=["parts", "folds"],
)
def test_classes_that_cannot_all_be_everywhere_are_an_error(split):
    # Each class has three groups, and these triples overlap like the lines of a Fano plane. If the
    # plane's points have two colors, some line has only one color. If the points have three colors,
    # some line lacks a color.
    lines = ["012", "034", "056", "135", "146", "236", "245"]
    y = np.repeat(np.arange(7), 3)
    groups = np.array([int(point) for line in lines for point in line])
    with pytest.raises(SplitError, match="no assignment of whole groups"):
        split(y, groups)


@pytest.mark.parametrize(
    "fractions", [(0.6, 0.4), (0.6, 0.2, 0.3), (1.2, -0.1, -0.1), (0, 0.5, 0.5), (np.nan, 0.5, 0.5)]
)
def test_fractions_are_three_shares_of_one(fractions):
    with pytest.raises(ArgumentError, match="fractions"):
        split_by_group(np.zeros(10), np.arange(10), fractions)


def test_shapes_that_disagree_are_an_error():
    with pytest.raises(SplitError, match="shape"):
        split_by_group(np.zeros(10), np.arange(9))
    with pytest.raises(SplitError, match="at least one"):
        split_by_group(np.zeros(0), np.zeros(0))


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
@given(data=grouped_windows(), seed=st.integers(0, 100))
def test_held_out_groups_are_whole_and_training_keeps_every_class(data, fraction, seed):
    y, groups = data
    counts = {label: len(np.unique(groups[y == label])) for label in np.unique(y)}
    assume(max(counts.values()) > 1)
    try:
        train, validation = holdout_by_group(y, groups, fraction, seed)
    # an error is correct only if each group contains a class that no other group has
    except SplitError:
        alone = [label for label, n in counts.items() if n == 1]
        assert all(set(y[groups == g]) & set(alone) for g in np.unique(groups))
        return
    np.testing.assert_array_equal(np.sort(np.r_[train, validation]), np.arange(len(y)))
    assert len(validation)
    assert not set(groups[train]) & set(groups[validation])
    assert set(y[train]) == set(y)
    np.testing.assert_array_equal(validation, holdout_by_group(y, groups, fraction, seed)[1])


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    fraction=st.sampled_from([0.0, 0.1, 0.2, 0.33, 0.9]),
    seed=st.integers(0, 100),
)
def test_without_groups_windows_are_drawn_by_class(counts, fraction, seed):
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    train, validation = holdout_by_group(y, None, fraction, seed)
    np.testing.assert_array_equal(np.sort(np.r_[train, validation]), np.arange(len(y)))
    assert set(y[train]) == set(y)
    held_out = np.bincount(y[validation], minlength=len(counts))
    for count, taken in zip(counts, held_out, strict=True):
        assert taken <= np.ceil(count * fraction) or taken == 1
        assert taken >= min(np.floor(count * fraction), count - 1)
    if fraction and max(counts) > 1:
        assert len(validation)
    np.testing.assert_array_equal(validation, holdout_by_group(y, None, fraction, seed)[1])


def test_the_held_out_share_is_the_wanted_one():
    y = np.repeat([0, 1, 2], [50, 30, 20])
    _, validation = holdout_by_group(y, None, 0.2, 0)
    np.testing.assert_array_equal(np.bincount(y[validation]), [10, 6, 4])
    _, validation = holdout_by_group(y, np.arange(100) // 2, 0.2, 0)
    np.testing.assert_array_equal(np.bincount(y[validation]), [10, 6, 4])
    _, validation = holdout_by_group(None, np.arange(100) // 5, 0.2, 0)
    assert len(validation) == 20


def test_the_reason_is_given_if_no_group_can_be_held_out():
    with pytest.raises(SplitError, match=r"all windows are in one group"):
        holdout_by_group([0, 1, 0, 1], ["a"] * 4, 0.2)
    with pytest.raises(SplitError, match=r"none of 2 group"):
        holdout_by_group([0, 1, 0, 1], ["a", "b", "a", "b"], 0.2)
    train, validation = holdout_by_group([0, 1, 2], None, 0.2)
    assert (len(train), len(validation)) == (3, 0)
    train, validation = holdout_by_group([0, 1], ["a", "a"], 0.0)
    assert (len(train), len(validation)) == (2, 0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2, np.nan])
def test_a_fraction_outside_its_range_is_an_error(fraction):
    with pytest.raises(ArgumentError, match="fraction"):
        holdout_by_group([0, 1], None, fraction)


def test_every_kind_of_random_state_is_accepted_and_other_types_are_refused():
    y = np.repeat([0, 1], 20)
    for state in (None, 3, np.int64(3), np.random.default_rng(3), np.random.RandomState(3)):
        assert len(holdout_by_group(y, None, 0.2, state)[1]) == 8
    for state in (-1, "seed", 1.5):
        with pytest.raises(ArgumentError, match="random_state"):
            holdout_by_group(y, None, 0.2, state)


@given(data=grouped_windows(min_groups=3), seed=st.integers(0, 100))
def test_a_summary_counts_windows_and_groups_of_each_part_and_class(data, seed):
    y, groups = data
    split = split_by_group(y, groups, random_state=seed)
    split[:: max(7, len(y) // 3)] = ""
    summary = describe_split(y, groups, split, (0.6, 0.2, 0.2))
    off = []
    for part, wanted in zip(PARTS, (0.6, 0.2, 0.2), strict=True):
        for label in np.unique(y).tolist():
            here = (split == part) & (y == label)
            assert summary["n_windows"][part][str(label)] == here.sum()
            assert summary["n_groups"][part][str(label)] == len(np.unique(groups[here]))
            off.append(abs(here.sum() / ((split != "") & (y == label)).sum() - wanted))
    assert summary["n_left_out"] == (split == "").sum()
    assert summary["deviation"] == pytest.approx(max(off))


def test_a_summary_describes_the_imbalance_in_a_sentence():
    y = np.repeat(["ice", "mud"], [50, 50])
    split = np.r_[np.repeat(PARTS, [30, 10, 10]), np.repeat(PARTS, [30, 4, 16])]
    groups, shares = np.arange(100) // 2, (0.6, 0.2, 0.2)
    said = describe_split(y, groups, split, shares)["imbalance"]
    assert said == "Largest imbalance: 8 % of class mud are in validation (20 % requested)."
    even = describe_split(y[:50], groups[:50], split[:50], shares)
    assert "requested fraction of every class" in even["imbalance"]
    alone = describe_split(None, groups[:50], split[:50], shares)
    assert "requested fraction of the windows" in alone["imbalance"]


def held_out_cost(counts, held_out, fraction):
    """Return the deviation from the wanted class fractions; inf for a forbidden choice."""
    kept, out = counts[~held_out].sum(axis=0), counts[held_out].sum(axis=0)
    if not held_out.any() or (kept == 0).any():
        return np.inf
    # A class of several groups that is missing in one part costs more than any deviation.
    missed = ((out == 0) & ((counts > 0).sum(axis=0) > 1)).sum()
    total = counts.sum(axis=0)
    shares = ((kept / total - 1 + fraction) ** 2).sum() + ((out / total - fraction) ** 2).sum()
    return 10 * missed + shares


def test_of_few_groups_nearly_always_the_best_stratified_choice_is_held_out():
    """All choices of up to ten groups are tried; a random search may narrowly miss the best one."""
    n_best, costs = 0, []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        n_classes, mixed = rng.integers(1, 4), rng.random() < 0.5
        of_class = rng.integers(1, 6 if n_classes < 3 else 4, n_classes)
        rows = [
            (label, number if mixed else (label, number), rng.integers(1, 30))
            for label in range(n_classes)
            for number in range(of_class[label])
        ]
        y = np.concatenate([[label] * size for label, _, size in rows])
        groups = np.concatenate([[str(group)] * size for _, group, size in rows])
        names, index = np.unique(groups, return_inverse=True)
        of_classes = [np.bincount(index[y == k], minlength=len(names)) for k in range(n_classes)]
        counts = np.stack(of_classes, axis=1)
        fraction = rng.choice([0.1, 0.2, 0.35, 0.5])
        choices = (np.arange(2 ** len(names))[:, None] >> np.arange(len(names))) % 2 == 1
        best = min(held_out_cost(counts, choice, fraction) for choice in choices)
        try:
            _, validation = holdout_by_group(y, groups, fraction, seed)
        except SplitError:
            assert best == np.inf  # only impossible splits are refused
            continue
        found = held_out_cost(counts, np.isin(names, groups[validation]), fraction)
        n_best += found == pytest.approx(best)
        costs.append(found - best)
    assert len(costs) > 25
    assert max(costs) < 0.02
    assert n_best > 0.97 * len(costs)
