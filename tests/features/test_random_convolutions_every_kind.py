"""Every kind of features keeps the same laws."""

import copy
import json
import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.features import (
    CompetingKernels,
    RandomConvolutions,
    SummaryFeatures,
    SummarySteps,
)

DRAWN = {
    "random convolutions": partial(RandomConvolutions, 840, 4, random_state=0),
    "padded convolutions": partial(RandomConvolutions, 840, random_state=0, pad=True),
    "competing kernels": partial(CompetingKernels, random_state=0),
    "padded kernels": partial(CompetingKernels, random_state=0, pad=True),
}
KINDS = {
    **DRAWN,
    "statistics": SummaryFeatures,
    "statistics with a spectrum": partial(SummaryFeatures, spectrum=True),
    "steps of statistics": partial(SummarySteps, 6),
}
X = np.random.default_rng(0).normal(size=(6, 20, 2))
NUMBERS = np.arange(240).reshape(X.shape)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
class TestEveryKind:
    @given(st.integers(1, 60), st.integers(1, 4), st.integers(0, 10**6))
    def test_gives_a_window_the_same_features_in_any_batch_and_reads_no_padding(
        self, make, t, c, seed
    ):
        rng = np.random.default_rng(seed)
        windows = rng.normal(size=(5, t, c)).astype(np.float32)
        lengths = rng.integers(0, t + 1, 5)
        lengths[0] = t
        spoilt = windows.copy()
        spoilt[np.arange(t) >= lengths[:, None]] = np.nan
        features = make().fit(spoilt, lengths)
        together = features.transform(spoilt, lengths)
        assert together.shape == (5, features.n_features_)
        assert np.isfinite(together).all()
        for row, length in enumerate(lengths):
            alone = features.transform(spoilt[row : row + 1], lengths[row : row + 1])
            np.testing.assert_array_equal(together[row], alone[0])
            if length:
                cut = features.transform(windows[row : row + 1, :length])
                np.testing.assert_array_equal(together[row], cut[0])
        assert features.transform(windows[:0]).shape == (0, features.n_features_)

    def test_gives_the_same_bits_after_a_restored_state_a_copy_and_a_second_fit(self, make):
        lengths = [20, 9, 3, 20, 1, 15]
        features = make().fit(X, lengths)
        state = features.state()
        settings = json.loads(json.dumps(state["settings"]))
        for other in (
            type(features).from_state({"settings": settings, "arrays": state["arrays"]}),
            pickle.loads(pickle.dumps(features)),
            copy.deepcopy(features),
            make().fit(X, lengths),
        ):
            np.testing.assert_array_equal(
                other.transform(X, lengths), features.transform(X, lengths)
            )
            assert (other.n_features_, other.n_channels_) == (features.n_features_, 2)
            assert repr(other) == repr(features)
            assert other.state()["settings"] == settings

    def test_reads_two_dimensions_as_one_channel_and_every_type_of_number(self, make):
        whole = np.random.default_rng(0).integers(-100, 100, size=(8, 40))
        features = make().fit(whole)
        expected = features.transform(whole[:, :, None].astype(np.float32))
        for same in (whole, whole.astype(np.float64), np.asfortranarray(whole.astype(np.float32))):
            np.testing.assert_array_equal(features.transform(same), expected)

    @pytest.mark.parametrize("step", ["fit", "transform"])
    @pytest.mark.parametrize(
        ("windows", "lengths", "message"),
        [
            (X[0, :, 0], None, "expected"),
            (X[:, :0], None, "no timesteps or no channels"),
            (X[:, :, :0], None, "no timesteps or no channels"),
            (X.astype(str), None, "real numbers"),
            (X, [20, 20], "lengths has 2 values"),
            (X, [20, 20, 20, 20, 20, 21], r"lengths\[5\] is 21"),
            (np.where(NUMBERS == 171, np.nan, X), None, "X is NaN in window 4, step 5, channel 1"),
            (np.where(NUMBERS == 171, -np.inf, X), [20] * 4 + [6, 5], "is inf in window 4, step 5"),
        ],
    )
    def test_names_what_cannot_be_read_and_stays_as_it_was(
        self, make, step, windows, lengths, message
    ):
        features = make().fit(X)
        if step == "fit" and isinstance(features, SummaryFeatures) and "window 4" in message:
            return  # statistics are not learned from values
        expected = features.transform(X)
        with pytest.raises(SignalError, match=message):
            getattr(features, step)(windows, lengths)
        np.testing.assert_array_equal(features.transform(X), expected)

    def test_refuses_other_channels_no_fit_and_a_state_of_another_kind(self, make):
        features = make().fit(X)
        with pytest.raises(SignalError, match=r"X has 1 channels, .* fitted on 2"):
            features.transform(X[:, :, :1])
        with pytest.raises(SignalError, match="call fit first"):
            make().transform(X)
        with pytest.raises(SignalError, match="call fit first"):
            make().state()
        arrays = features.state()["arrays"]
        with pytest.raises(SignalError, match="of kind None"):
            type(features).from_state({"settings": {}, "arrays": arrays})
        with pytest.raises(SignalError, match="lacks settings or arrays"):
            type(features).from_state({"settings": {}})


@pytest.mark.parametrize("make", DRAWN.values(), ids=DRAWN)
class TestEveryDrawnKind:
    @pytest.mark.parametrize("n_threads", [2, 3, 64])
    def test_gives_the_same_bits_with_any_number_of_threads(self, make, n_threads):
        rng = np.random.default_rng(0)
        windows, lengths = rng.normal(size=(37, 50, 3)), rng.integers(0, 51, 37)
        single = make().fit(windows, lengths)
        several = make(n_threads=n_threads).fit(windows, lengths)
        expected = single.transform(windows, lengths)
        np.testing.assert_array_equal(several.transform(windows, lengths), expected)
        windows[[5, 30], 0, [2, 1]] = np.nan
        lengths[[5, 30]] = 50
        with pytest.raises(SignalError, match="X is NaN in window 5, step 0, channel 2"):
            several.transform(windows, lengths)

    def test_is_drawn_by_its_seed(self, make):
        first, other, drawn = (
            make(random_state=seed).fit(X).transform(X) for seed in (3, 4, np.random.default_rng(3))
        )
        assert first.shape != other.shape or (first != other).any()
        np.testing.assert_array_equal(first, drawn)
        with pytest.raises(ArgumentError, match="random_state="):
            make(random_state=-1)

    def test_refuses_a_fit_to_no_step_and_values_beyond_float32(self, make):
        for windows, lengths in ((X, [0] * 6), (X[:0], None)):
            with pytest.raises(SignalError, match="no valid step"):
                make().fit(windows, lengths)
        with pytest.raises(SignalError, match=r"X is 1e\+39 in .* outside the range of float32"):
            make().fit(np.where(NUMBERS == 171, 1e39, X))
