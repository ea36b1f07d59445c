"""Constants that reveal the class are found; constants of recordings and sensors are ignored."""

from functools import partial

import numpy as np
import pytest

from sensorseq.preprocessing.windowing.label_channels import find_label_channels

N_RECORDINGS, N_EACH, N_STEPS = 12, 20, 50
RECORDING = np.repeat(np.arange(N_RECORDINGS), N_EACH)
N = len(RECORDING)


def noise(seed=0, n_channels=2):
    return np.random.default_rng(seed).normal(size=(N, N_STEPS, n_channels))


def constant(values):
    """Return a channel with one value in each window."""
    return np.broadcast_to(np.asarray(values, float)[:, None, None], (N, N_STEPS, 1)).copy()


def find(y, *channels, recording_id=RECORDING, split=None, lengths=N_STEPS):
    X = np.concatenate([noise(), *channels], axis=2).astype(np.float32)

    def read(rows):
        return (X[rows[first : first + 64]] for first in range(0, len(rows), 64))

    return find_label_channels(read, y, recording_id, np.broadcast_to(lengths, N), split)


def one_hot(y):
    return [constant(y == label) for label in np.unique(y)]


@pytest.mark.parametrize("n_classes", [2, 3, 5, 6])
@pytest.mark.parametrize("kind", ["id", "one-hot", "binary", "squared", "id and one-hot"])
def test_the_label_is_found_however_it_is_written(kind, n_classes):
    y = RECORDING % n_classes
    channels = {
        "id": [constant(7 - y)],
        "one-hot": one_hot(y),
        "binary": [constant(y >> bit & 1) for bit in range(int(n_classes - 1).bit_length())],
        "squared": [constant(1e5 + y**2)],
        "id and one-hot": [constant(y), *one_hot(y)],
    }[kind]
    names = np.array([f"class {number}" for number in range(n_classes)])
    # the last channel is constant in each recording
    found = find(names[y], *channels, constant(RECORDING * 0.3))
    assert found.channels == [2 + place for place in range(len(channels))]
    assert found.is_certain
    assert found.fewest == N_RECORDINGS // n_classes


def test_a_finer_label_is_found_alone_and_in_two_columns():
    y, wet = RECORDING % 2, RECORDING // 2 % 2
    assert find(y, constant(10 * y + wet)).channels == [2]
    assert find(y, constant(wet), constant(y ^ wet)).channels == [2, 3]
    assert find(y, constant(wet)) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_channel_that_is_constant_for_another_reason_is_not_a_label(seed):
    rng = np.random.default_rng(seed)
    y = RECORDING % 2
    mass = rng.uniform(0, 5, N_RECORDINGS)[RECORDING]
    assert find(y, constant(mass)) is None  # a constant that differs in each recording
    assert find(y, constant(np.round(mass)), constant(RECORDING // 2 % 3)) is None  # some are equal
    assert find(y, constant(np.full(N, 3.0))) is None  # a dead channel
    posture = np.where(y, 9.81, -9.81)[:, None, None] + 0.02 * noise(seed, 1)
    assert find(y, posture) is None  # a real sensor that reveals the class
    assert find(y, np.round(posture * 64) / 64) is None
    contact = np.where(y[:, None, None] == 1, rng.integers(0, 2, (N, N_STEPS, 1)), 0)
    assert find(y, contact) is None  # a switch that bounces in one class
    drift = 20 + np.round(0.37 * RECORDING[:, None, None] + 0.1 * noise(seed, 1).cumsum(1), 1)
    assert find(y, drift) is None  # a slow sensor with few digits
    assert find(RECORDING % 3, constant(RECORDING % 3 == 0)) is None  # two classes remain possible


def test_a_label_that_is_late_or_sometimes_wrong_is_found():
    y = RECORDING % 2
    late = constant(y)
    late[::N_EACH, :7] = 1 - late[::N_EACH, :7]  # only in windows where the class changes
    found = find(y, late)
    assert found.channels == [2]
    assert found.is_certain
    wrong = constant(y)
    wrong[:2] = 1 - wrong[:2]
    found = find(y, wrong)
    assert found.channels == [2]
    assert found.is_leak
    assert not found.is_certain
    assert found.share == pytest.approx(1 - 2 / N)
    wrong[:8] = 1 - wrong[:8]
    assert find(y, wrong) is None


def test_the_value_of_one_recording_for_each_class_is_only_suspected():
    y = RECORDING % 2
    for recording_id in (y, None):
        found = find(y, constant(y), recording_id=recording_id)
        assert found.channels == [2]
        assert not found.is_leak
    assert find(y, constant(RECORDING), recording_id=None) is None
    # One recording of each class is for training; the other recordings show what the value means.
    split = np.where(RECORDING < 2, "train", "test")
    assert find(y, constant(y), split=split).is_certain
    assert find(y, constant(RECORDING), split=split) is None


def test_only_training_windows_count_where_they_suffice():
    y = RECORDING % 2
    split = np.where(RECORDING < 8, "train", "test")
    other = np.where(RECORDING < 8, y, 5)
    assert find(y, constant(other), split=split).is_certain
    assert find(y, constant(np.where(RECORDING < 8, 5, y)), split=split) is None


def test_padding_short_windows_and_gaps_are_not_read_as_values():
    y = RECORDING % 2
    padded = constant(y + 1)
    padded[:, 30:] = 0
    assert find(y, padded, lengths=30).is_certain
    assert find(y, constant(y), lengths=4) is None
    gaps = constant(y)
    gaps[::3, 10:20] = np.nan
    assert find(y, gaps).channels == [2]
    gaps[0] = np.nan
    assert find(y, gaps).channels == [2]


def test_nothing_is_found_with_one_class_or_no_window():
    assert find(np.zeros(N), constant(RECORDING)) is None
    assert find(RECORDING % 2, constant(RECORDING % 2), split=np.full(N, "")) is None
    none = partial(find_label_channels, lambda rows: iter(()))
    assert none(np.empty(0), np.empty(0), np.empty(0, int)) is None
