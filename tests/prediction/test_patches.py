"""Patches join several samples into a step, with the same results in every implementation."""

import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from fits import plain_classifier
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError
from sensorseq.prediction.patches import Patch, count_steps
from sensorseq.training.window_format import apply_patch, fit_patch, make_patch

N_TIMESTEPS, N_CHANNELS = 67, 2


def make_windows(n=24, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    angle = np.arange(N_TIMESTEPS)[None, :, None] * (0.2 + 0.2 * y[:, None, None])
    X = np.sin(angle + np.arange(N_CHANNELS)) + 0.3 * rng.normal(size=(n, N_TIMESTEPS, N_CHANNELS))
    return X.astype(np.float32), y


X, Y = make_windows()
LENGTHS = np.array([N_TIMESTEPS - 11, N_TIMESTEPS])[np.arange(len(X)) % 2]


def fitted(patch=9, **arguments):
    defaults = {"max_epochs": 2, "hidden_size": 4, "random_state": 0, "early_stopping": False}
    given_lengths = arguments.pop("lengths", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = plain_classifier(**{**defaults, "patch": patch, **arguments})
        return made.fit(X, Y, lengths=given_lengths)


@settings(deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 40), st.integers(1, 3), st.integers(2, 15), st.integers(0, 99)
)
def test_steps_match_their_definition(n, t, c, size, seed):
    rng = np.random.default_rng(seed)
    windows = rng.normal(size=(n, t, c)) * 10.0 ** rng.integers(-3, 3, c)
    lengths = rng.integers(1, t + 1, n)
    tensor = torch.from_numpy(windows)
    patch = fit_patch(Patch(size), [(tensor, torch.from_numpy(lengths))])
    patched, of_steps = patch.apply(windows, lengths)
    tensors = apply_patch(patch, tensor, torch.from_numpy(lengths))
    np.testing.assert_array_equal(tensors[0], patched)
    np.testing.assert_array_equal(tensors[1], of_steps)
    alone, _ = patch.apply(windows[:1, : lengths[0]], None)
    np.testing.assert_array_equal(alone[0], patched[0, : of_steps[0]])  # whatever the batch
    hop = size // 2
    center, scale = patch.scaler.channel_center, patch.scaler.channel_scale
    assert patched.shape == (n, count_steps(t, patch), patch.n_inputs(c))
    for row in range(n):
        starts = [0, *range(hop, lengths[row] - size + hop, hop)]
        assert of_steps[row] == len(starts)
        assert starts[-1] + size >= lengths[row]  # every sample is in a frame
        assert starts[-1] < lengths[row]
        assert (patched[row, len(starts) :] == 0).all()
        for step, start in enumerate(starts):
            held = np.minimum(np.arange(start, start + size), lengths[row] - 1)
            part = windows[row, held]
            expected = [*part.mean(0), *logs(part.var(0)), *part.min(0), *part.max(0)]
            expected += list(logs(welch(part, patch.bands)).ravel())
            np.testing.assert_allclose(
                patched[row, step] * scale + center, expected, rtol=1e-9, atol=1e-9
            )


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(2, 15), st.booleans())
def test_inputs_have_mean_0_and_deviation_1_over_valid_steps(n, t, size, cut):
    rng = np.random.default_rng(n + t)
    windows = torch.from_numpy(rng.normal(size=(n, t, 2)) * [0.1, 30] + [0, 100])
    lengths = torch.from_numpy(rng.integers(1, t + 1, n)) if cut else None
    patch = fit_patch(Patch(size), [(windows, lengths)])
    pieces = [(windows[i : i + 1], lengths[i : i + 1] if cut else None) for i in range(n)]
    np.testing.assert_equal(fit_patch(Patch(size), pieces).arrays(), patch.arrays())
    steps, n_steps = patch.apply(windows.numpy(), lengths.numpy() if cut else None)
    if n_steps is None:
        n_steps = np.full(n, steps.shape[1])
    valid = np.concatenate([of_window[:k] for of_window, k in zip(steps, n_steps, strict=True)])
    np.testing.assert_allclose(valid.mean(0), 0, atol=1e-9)
    plain = valid * patch.scaler.channel_scale + patch.scaler.channel_center
    scale = np.maximum(plain.std(0), 1e-4 * np.abs(plain).max(0))
    np.testing.assert_allclose(valid.std(0), plain.std(0) / scale, rtol=1e-6, atol=1e-9)


def test_rounding_is_not_enlarged():
    rng = np.random.default_rng(0)
    level, rounding = rng.normal(size=(50, 1, 1)) * 100, rng.choice([-1, 1], (50, 40, 1))
    windows = (level * (1 + 1e-7 * rounding)).astype(np.float32)
    patch = fit_patch(Patch(8), [(torch.from_numpy(windows), None)])
    steps, _ = patch.apply(windows, None)
    assert np.ptp(steps[:, :, 1]) < 0.02  # would be about 8 if scaling enlarged rounding errors
    assert steps[:, :, 0].std() == pytest.approx(1)


def logs(power):
    return np.log(power + 1e-4)


def welch(part, bands):
    """The power in bands (c, bands), computed with sums of sines and cosines."""
    size = len(part)
    number = np.arange(size)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * (number + 0.5) / size)
    apart = (part - part.mean(0)) * window[:, None] / np.sqrt((window**2).sum())
    angle = 2 * np.pi * np.outer(np.arange(size // 2 + 1), number) / size
    power = (np.cos(angle) @ apart) ** 2 + (np.sin(angle) @ apart) ** 2
    return np.stack([power[low:high].mean(0) for low, high in bands], 1)


@pytest.mark.parametrize("size", [2, 3, 8, 25, 100, 1001])
def test_bands_contain_every_frequency_once(size):
    bands = Patch(size).bands
    assert 1 <= len(bands) <= 6
    held = [number for low, high in bands for number in range(low, high)]
    assert held == list(range(1, size // 2 + 1))


@pytest.mark.parametrize("amplitude", [1e-4, 1e4])
def test_frames_of_channels_of_any_size_are_rounded_only_once(amplitude):
    """If a channel is small, the logarithms vary so little that scaling enlarges their errors."""
    X = (amplitude * make_windows()[0]).astype(np.float32)
    X -= X[:, ::-1] * np.float32(0.999)  # nearly symmetric, so some bands have little power
    patch = fit_patch(Patch(8), [(torch.from_numpy(X), None)])
    single, double = (patch.apply(X.astype(dtype), None)[0] for dtype in ("float32", "float64"))
    np.testing.assert_allclose(single, double, rtol=1e-6, atol=1e-6)


def test_a_window_that_ends_within_a_frame_depends_only_on_its_own_samples():
    clf = fitted(lengths=LENGTHS)
    for n_samples in (1, 4, 8, 9, 10, 13, 66, 67):
        whole = clf.predict_proba(X, lengths=np.full(len(X), n_samples))
        changed = X.copy()
        changed[:, n_samples:] = 7.0  # later samples have no influence
        later = clf.predict_proba(changed, lengths=np.full(len(X), n_samples))
        np.testing.assert_array_equal(whole, later)
        alone = np.concatenate([clf.predict_proba(X[i : i + 1, :n_samples]) for i in range(len(X))])
        np.testing.assert_allclose(alone, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [2, 9, N_TIMESTEPS])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_a_graph_a_file_and_a_pickle_have_the_patches(tmp_path, size, lengths):
    clf = fitted(size, lengths=lengths, bidirectional=True)
    assert clf.patch_.n_samples == size
    expected = clf.predict_proba(X, lengths=lengths)
    clf.save(tmp_path / "model.safetensors")
    loaded = SensorLSTMClassifier.load(tmp_path / "model.safetensors")
    np.testing.assert_equal(loaded.patch_.arrays(), clf.patch_.arrays())
    np.testing.assert_array_equal(loaded.predict_proba(X, lengths=lengths), expected)
    clf.to_onnx(tmp_path / "model.onnx", lengths=lengths is not None)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    inputs = {"X": X} if lengths is None else {"X": X, "lengths": lengths}
    np.testing.assert_allclose(session.run(None, inputs)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [None, LENGTHS[:0]])
def test_no_windows_have_no_steps(lengths):
    patch, nothing = fitted().patch_, X[:0]
    expected, _ = patch.apply(nothing, lengths)
    tensor_lengths = None if lengths is None else torch.from_numpy(lengths)
    patched, _ = apply_patch(patch, torch.from_numpy(nothing), tensor_lengths)
    assert patched.shape == expected.shape == (0, 16, patch.n_inputs(N_CHANNELS))


def test_windows_that_change_in_each_epoch_also_become_patches():
    # changes of 1e-30 give the same results as no augmentation
    plain = fitted()
    renewed = fitted(augment={"jitter": 1e-30})
    assert renewed.history_["loss"].tolist() == plain.history_["loss"].tolist()
    assert np.isfinite(fitted(augment="standard", lengths=LENGTHS).predict_proba(X)).all()


def test_the_length_of_windows_decides_how_many_samples_are_a_step():
    for n_timesteps in (1, 27):
        assert make_patch("auto", n_timesteps) is None
    assert make_patch("auto", 28) == make_patch("auto", 179) == Patch(8)
    for n_timesteps in (180, 500, 5000):
        patch = make_patch("auto", n_timesteps)
        assert 36 <= count_steps(n_timesteps, patch) <= 48
    assert make_patch("auto", 500) == Patch(25)
    assert make_patch(200, 100) == Patch(100)
    assert make_patch(None, 5000) is make_patch(1, 5000) is make_patch("auto", 1) is None


def test_random_crops_have_no_patches():
    arguments = {"crop": "random", "max_timesteps": 64, "max_epochs": 1}
    assert plain_classifier(patch="auto", **arguments).fit(X, Y).patch_ is None
    with pytest.raises(ArgumentError, match=r"patch=4 cannot be combined with crop='random'"):
        plain_classifier(patch=4, **arguments).fit(X, Y)
    assert plain_classifier(patch="auto", **{**arguments, "crop": "tail"}).fit(X, Y).patch_


def test_a_warm_start_keeps_the_patches_of_the_first():
    clf = plain_classifier(patch="auto", max_epochs=1, warm_start=True, random_state=0)
    first = clf.fit(X, Y).patch_
    assert first.n_samples == 8
    assert clf.fit(2 * X, Y).patch_ is first  # the kept weights need the first scaling


def test_samples_of_any_size_have_a_probability(tmp_path):
    clf = fitted()
    clf.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for size in (1e10, 1e25, 1e37):
        large = X.copy()
        large[:, 20:24, 1] = size
        predicted = clf.predict_proba(large)
        assert np.isfinite(predicted).all()
        np.testing.assert_allclose(session.run(None, {"X": large})[0], predicted, atol=1e-5)
