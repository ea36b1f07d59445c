import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.prediction.checked_windows import Windows, crop_starts
from sensorseq.training.batches import BatchSampler
from sensorseq.training.window_format import crop_tensor


def draw(class_index, batch_size, sampler="shuffle", seed=0, **arguments):
    rng = np.random.default_rng(seed)
    return BatchSampler(np.asarray(class_index), batch_size, sampler, rng, **arguments)


@given(n=st.integers(1, 60), batch_size=st.one_of(st.none(), st.integers(1, 70)))
def test_an_epoch_visits_every_window_once(n, batch_size):
    sampler = draw(np.zeros(n, int), batch_size)
    batches = list(sampler)
    assert len(batches) == sampler.n_batches
    assert sorted(np.concatenate(batches)) == list(range(n))
    assert all(len(batch) <= (batch_size or n) for batch in batches)


def test_a_last_batch_too_small_to_be_normalized_is_merged():
    assert [len(b) for b in draw(np.zeros(9, int), 4, minimum_size=2)] == [4, 5]


@pytest.mark.parametrize("kind", ["balanced", "sqrt"])
@given(
    counts=st.lists(st.integers(1, 200), min_size=2, max_size=5),
    seed=st.integers(0, 100),
)
def test_balanced_and_sqrt_drawing_give_their_shares_and_repeat_no_window_more_than_needed(
    kind, counts, seed
):
    class_index = np.repeat(np.arange(len(counts)), counts)
    order = np.concatenate(list(draw(class_index, 7, kind, seed=seed)))
    n = len(class_index)
    assert len(order) == n
    wanted = np.array(counts) ** (0.5 if kind == "sqrt" else 0.0)
    exact = n * wanted / wanted.sum()
    assert (np.abs(np.bincount(class_index[order], minlength=len(counts)) - exact) < 1).all()
    times = np.bincount(order, minlength=len(class_index))
    for k in range(len(counts)):
        times_of_class = times[class_index == k]
        assert times_of_class.max() - times_of_class.min() <= 1


def test_the_mean_shares_of_sqrt_drawing_are_exact():
    class_index = np.repeat([0, 1, 2], [1, 4, 25])
    sampler = draw(class_index, None, "sqrt")
    shares = [np.bincount(class_index[next(iter(sampler))], minlength=3) for _ in range(4000)]
    assert np.mean(shares, axis=0) == pytest.approx([30 / 8, 60 / 8, 150 / 8], abs=0.03)


def test_orders_differ_between_epochs_and_agree_for_the_same_seed():
    first, second = draw(np.zeros(50, int), 50), draw(np.zeros(50, int), 50)
    epochs = [next(iter(first)).tolist() for _ in range(3)]
    assert epochs == [next(iter(second)).tolist() for _ in range(3)]
    assert epochs[0] != epochs[1]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8),
    keep=st.integers(1, 14),
    crop=st.sampled_from(["head", "tail", "centre", "random"]),
)
def test_a_crop_is_a_run_of_valid_steps(lengths, keep, crop):
    lengths = np.array(lengths)
    X = np.full((len(lengths), 12, 1), np.nan)
    for row, length in zip(X, lengths, strict=True):
        row[:length, 0] = np.arange(length)
    cropped = Windows(X, lengths).cropped(keep, crop)
    kept = cropped.lengths
    np.testing.assert_array_equal(kept, np.minimum(lengths, keep))
    for row, length, valid in zip(cropped.X, kept, lengths, strict=True):
        start = row[0, 0]
        np.testing.assert_array_equal(row[:length, 0], start + np.arange(length))
        wanted = {"head": 0, "tail": valid - length}.get(crop, (valid - length) // 2)
        assert start == wanted


def test_random_crops_reach_both_ends_and_no_further():
    starts = crop_starts(np.full(500, 10), 7, "random", np.random.default_rng(0))
    assert set(starts.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("with_lengths", [False, True])
def test_random_crops_of_tensors_stay_within_the_valid_steps(with_lengths):
    lengths = torch.tensor([4, 9, 2] * 20) if with_lengths else None
    X = torch.arange(9.0).repeat(60, 1)[:, :, None]
    cropped, kept = crop_tensor(X, lengths, 3, np.random.default_rng(0))
    assert cropped.shape == (60, 3, 1)
    valid = lengths if with_lengths else torch.full((60,), 9)
    last = cropped[:, :, 0].gather(1, (valid.clamp(max=3) - 1)[:, None])[:, 0]
    assert (last < valid).all()
    if with_lengths:
        assert torch.equal(kept, lengths.clamp(max=3))
    else:
        assert kept is None
