"""Features in a graph equal the features of sensorseq.features, for windows of every length."""

import numpy as np
import onnxruntime
import pytest

from sensorseq.export.features import competing_shares, convolution_shares, statistics_of
from sensorseq.export.graph import Graph
from sensorseq.export.graph_preprocessing import GraphWindows
from sensorseq.features import CompetingKernels, RandomConvolutions, SummaryFeatures

N, T = 119, 120
LENGTHS = np.arange(1, T)  # with 35, 55, 70 ... steps, a frequency is on the edge of a band


def drawn():
    X = np.random.default_rng(0).normal(size=(N, T, 3))
    X[:, :, 1] = np.round(2 * X[:, :, 1]) / 2
    X[:, :, 2] = 0.3
    return np.where((np.arange(T) < LENGTHS[:, None])[:, :, None], X, 0).astype(np.float32)


def computed(make, dtype, width):
    g = Graph()
    g.add_input("X", np.float32, ["n", "t", 3])
    g.add_input("lengths", np.int64, ["n"])
    windows = GraphWindows("X", "lengths", g("Shape", "X", start=1, end=2), 3, False)
    g.add_output(make(g, windows), "found", dtype, ["n", width])
    session = onnxruntime.InferenceSession(g.model("features", {}, "1").SerializeToString())
    return session.run(None, {"X": drawn(), "lengths": LENGTHS})[0]


@pytest.mark.parametrize("n_steps", [None, 2, 64, 119])
def test_statistics_are_equal_except_for_rounding(n_steps):
    summary = SummaryFeatures(n_steps is not None).fit(drawn()[:, :n_steps])
    expected = summary.transform(drawn(), LENGTHS)
    width = summary.n_features_
    found = computed(lambda g, windows: statistics_of(g, summary, windows, {}), np.float64, width)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_shares_of_convolutions_have_the_same_bits():
    how = RandomConvolutions(1000, random_state=0).fit(drawn()[-20:])
    expected = how.transform(drawn(), LENGTHS)
    found = computed(
        lambda g, windows: convolution_shares(g, how, windows), np.float32, how.n_features_
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("pad", [False, True])
def test_kernels_win_and_lose_at_the_same_steps(pad):
    how = CompetingKernels(random_state=0, pad=pad).fit(drawn()[:60], LENGTHS[:60])
    expected = how.transform(drawn(), LENGTHS).reshape(N, -1, 2, 7)
    found = computed(
        lambda g, windows: competing_shares(g, how, windows), np.float32, how.n_features_
    ).reshape(N, -1, 2, 7)
    assert (expected[0].any(), expected[1:].any(axis=(2, 3)).all()) == (True, True)
    np.testing.assert_array_equal(found[:, :, 1], expected[:, :, 1])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
