"""Random convolutions and aeon's MiniRocket compute the same features with the same parameters."""

import numpy as np
import pytest

from sensorseq.features import RandomConvolutions

pytestmark = pytest.mark.peers

SHAPES = [(40, 100, 1), (20, 500, 6), (40, 32, 4), (10, 9, 1), (12, 77, 12)]
NAMES = ("channel_counts", "channel_indices", "dilations", "features_per_dilation", "biases")


def make_windows(shape, kind):
    X = np.random.default_rng(0).normal(size=shape)
    if kind == "walk":
        X = np.cumsum(X, axis=1)
    if kind == "rounded":
        X = np.round(4 * X) / 4
    return X.astype(np.float32)


def fit_aeon(X, n_features):
    convolution_based = pytest.importorskip("aeon.transformations.collection.convolution_based")
    theirs = convolution_based.MiniRocket(n_kernels=n_features, random_state=0)
    return theirs.fit(np.ascontiguousarray(np.swapaxes(X, 1, 2)))


@pytest.mark.parametrize("kind", ["noise", "walk", "rounded"])
@pytest.mark.parametrize("shape", SHAPES)
def test_with_the_parameters_of_aeon_the_features_are_those_of_aeon(shape, kind):
    X = make_windows(shape, kind)
    theirs = fit_aeon(X, 10_000)
    arrays = dict(zip(NAMES, theirs.parameters, strict=True))
    settings = {
        "kind": "random_convolutions",
        "n_features": 10_000,
        "max_dilations": 32,
        "random_state": None,
        "n_channels": shape[2],
    }
    ours = RandomConvolutions.from_state({"settings": settings, "arrays": arrays})
    features = ours.transform(X)
    steps = np.abs(features - theirs.transform(np.swapaxes(X, 1, 2))) * shape[1]
    # a step may count differently only if its output equals the bias within rounding
    assert steps.sum() < 1e-3 * features.size * shape[1]
    assert (steps > 1.5).mean() < 1e-3


@pytest.mark.parametrize("n_features", [84, 1000, 10_000])
@pytest.mark.parametrize("steps", [9, 33, 150])
def test_on_one_window_of_one_channel_nothing_is_drawn_and_fit_chooses_what_aeon_chooses(
    steps, n_features
):
    X = make_windows((1, steps, 1), "walk")
    theirs = dict(zip(NAMES, fit_aeon(X, n_features).parameters, strict=True))
    ours = RandomConvolutions(n_features).fit(X).state()["arrays"]
    for name in NAMES[:-1]:
        np.testing.assert_array_equal(ours[name], theirs[name])
    np.testing.assert_allclose(ours["biases"], theirs["biases"], rtol=1e-5, atol=1e-5)
