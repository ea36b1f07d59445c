"""Dwell times and transitions learned from labels equal those that generated the labels."""

import numpy as np
import pytest

from sensorseq.sequence.learn import learn_dwell

CLASSES = ["ice", "mud", "sand"]
FOLLOWS = np.array([[0, 1, 0], [0.5, 0, 0.5], [1, 0, 0]])
MEAN_S = np.array([10, 40, 20])


def drawn(n_recordings=40, n_windows=400):
    rng = np.random.default_rng(0)
    labels = np.empty((n_recordings, n_windows), int)
    for row in labels:
        current = rng.integers(3)
        for i in range(n_windows):
            row[i] = current
            if rng.random() < 1 / MEAN_S[current]:
                current = rng.choice(3, p=FOLLOWS[current])
    start_s = np.tile(np.arange(float(n_windows)), n_recordings)
    return labels.ravel(), start_s, np.repeat(np.arange(n_recordings), n_windows)


def test_the_chain_is_found():
    index, start_s, recording = drawn()
    order = np.random.default_rng(1).permutation(len(index))
    dwell = learn_dwell(index[order], CLASSES, start_s[order], 1.0, recording[order])
    np.testing.assert_allclose(dwell["mean_s"], MEAN_S, rtol=0.15)
    follows = np.array(dwell["follows"])
    np.testing.assert_allclose(follows / follows.sum(axis=1, keepdims=True), FOLLOWS, atol=0.06)
    assert (follows[~np.eye(3, dtype=bool)] > 0).all()  # no transition is ruled out


def test_nothing_is_learned_from_recordings_of_one_class():
    index, start_s, recording = drawn(3, 50)
    assert learn_dwell(recording, CLASSES, start_s, 1.0, recording) is None
    both = np.concatenate([index, [1] * 500])
    times = np.concatenate([start_s, np.arange(500.0)])
    names = np.concatenate([recording, np.full(500, 9)])
    assert learn_dwell(both, CLASSES, times, 1.0, names) == learn_dwell(
        index, CLASSES, start_s, 1.0, recording
    )


def test_the_duration_of_a_class_is_at_least_a_window():
    index = np.arange(30) % 2
    dwell = learn_dwell(index, CLASSES[:2], np.arange(30.0), 4.0, np.zeros(30))
    assert dwell["mean_s"] == [4.0, 4.0]
    assert dwell["follows"] == [[0.0, pytest.approx(16)], [pytest.approx(15), 0.0]]
