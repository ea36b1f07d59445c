import functools
from dataclasses import replace

import numpy as np
import pytest
import scipy
from augment_reference import augmented, stream
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.preprocessing.windowing.augment import (
    Augmentation,
    augment_windows,
    channel_sd_of,
    find_axes,
)

KINDS = ("jitter", "scaling", "time_warp", "magnitude_warp", "window_shift", "offset")
MIRROR = {"mirror": [0, 2], "swap": [(0, 1)]}
EVERYTHING = Augmentation(0.05, 0.1, 0.2, 0.2, 0.1, offset=0.3)
ALL = replace(EVERYTHING, **MIRROR, rotation_deg=30, axes=[(2, 0, 1)])
IMU = ((0, 1, 2), (5, 3, 4))  # accelerometer and gyroscope


def signal(n_windows=30, n_timesteps=40, n_channels=3, dtype=np.float32, seed=0):
    X = np.random.default_rng(seed).normal(2, 1, (n_windows, n_timesteps, n_channels))
    return X.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_strength_zero_is_the_identity_bit_for_bit(dtype):
    X = signal(dtype=dtype)
    X[0, 3, 1], X[1, 0, 0] = np.nan, -0.0
    same = augment_windows(X, Augmentation(), 0)
    assert same is not X
    assert same.dtype == dtype
    assert same.tobytes() == X.tobytes()


@given(
    kind=st.sampled_from((*KINDS, "all")),
    n=st.integers(1, 12),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_a_window_changes_in_the_same_way_alone_and_among_others(kind, n, seed, dtype):
    how = ALL if kind == "all" else Augmentation(**{kind: 0.3})
    X, order = signal(n, dtype=dtype, seed=seed), np.random.default_rng(seed).permutation(n)
    lengths = np.random.default_rng(seed).integers(0, 41, n)
    whole = augment_windows(X, how, seed, lengths)
    assert whole.dtype == dtype
    shuffled = augment_windows(X[order], how, seed, lengths[order], order)
    np.testing.assert_array_equal(shuffled, whole[order])
    alone = augment_windows(X[-1:], how, seed, lengths[-1:], [n - 1])
    np.testing.assert_array_equal(alone, whole[-1:])
    threaded = augment_windows(X, how, seed, lengths, n_threads=3)
    np.testing.assert_array_equal(threaded, whole)


@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_padding_is_neither_read_nor_written(kind):
    how = ALL if kind == "all" else Augmentation(**{kind: 0.3})
    X, lengths = signal(), np.arange(30) % 41
    padding = np.arange(40) >= lengths[:, None]
    garbage = X.copy()
    garbage[padding] = np.nan
    clean, found = augment_windows(X, how, 1, lengths), augment_windows(garbage, how, 1, lengths)
    np.testing.assert_array_equal(found[~padding], clean[~padding])
    assert np.isnan(found[padding]).all()
    np.testing.assert_array_equal(clean[padding], X[padding])


def fitted_rotations(X, turned, axes):
    """Return the best-fitting rotation of each window (Kabsch's method), and the largest error."""
    found = [Rotation.align_vectors(b[:, axes], a[:, axes]) for a, b in zip(X, turned, strict=True)]
    return Rotation.concatenate([one for one, _ in found]), max(error for _, error in found)


@given(most=st.floats(0.1, 180), seed=st.integers(0, 1000))
def test_accelerometer_and_gyroscope_are_turned_by_one_rotation_that_keeps_norms(most, seed):
    X = signal(4, 9, 7, np.float64, seed)
    turned = augment_windows(X, Augmentation(rotation_deg=most, axes=IMU), seed)
    np.testing.assert_array_equal(turned[:, :, 6], X[:, :, 6])
    for axes in map(list, IMU):
        norms = (np.linalg.norm(some[:, :, axes], axis=2) for some in (turned, X))
        np.testing.assert_allclose(*norms, rtol=1e-12)
    (first, error), (second, _) = (fitted_rotations(X, turned, list(axes)) for axes in IMU)
    assert error < 1e-5  # the error is the root of a difference of nearly equal numbers
    np.testing.assert_allclose(first.as_matrix(), second.as_matrix(), atol=1e-9)
    assert np.rad2deg(first.magnitude()).max() <= most * (1 + 1e-6) + 1e-5


def test_angles_are_uniform_up_to_the_largest_and_axes_on_the_sphere():
    X = np.tile(np.eye(3), (4000, 1, 1))
    turned = augment_windows(X, Augmentation(rotation_deg=30, axes=[(0, 1, 2)]), 0)
    rotations = Rotation.from_matrix(turned.transpose(0, 2, 1))  # row t is the image of axis t
    angle = np.rad2deg(rotations.magnitude())
    axis = rotations.as_rotvec() / rotations.magnitude()[:, None]
    uniform = {
        "angle": angle / 30,
        "longitude": np.arctan2(axis[:, 1], axis[:, 0]) / 2 / np.pi + 0.5,
    }
    uniform |= {f"height {c}": (axis[:, c] + 1) / 2 for c in range(3)}  # Archimedes' theorem
    for name, values in uniform.items():
        assert scipy.stats.kstest(values, "uniform").pvalue > 1e-3, name
    assert abs(np.corrcoef(angle, axis[:, 2])[0, 1]) < 4 / np.sqrt(4000)


STYLES = {  # axis names that occur in the data of sensors and drivers
    "acc.x": "{sensor}.{axis}",
    "gyro_y": "{sensor}_{axis}",
    "AccZ": "{sensor}{AXIS}",
    "x_acc": "{axis}_{sensor}",
    "xgyro": "{axis}{sensor}",
}


@given(
    sensors=st.lists(
        st.sampled_from(["acc", "gyro", "mag", "imu/Acc", "w"]), min_size=1, unique=True
    ),
    style=st.sampled_from(list(STYLES)),
    others=st.lists(
        st.sampled_from(["current", "speed", "max", "heading", "pitch_y", "w"]), unique=True
    ),
    random=st.randoms(use_true_random=False),
    shout=st.booleans(),
)
def test_axes_are_found_by_their_names_in_any_order_and_case(sensors, style, others, random, shout):
    triples = [
        [STYLES[style].format(sensor=sensor, axis=axis, AXIS=axis.upper()) for axis in "xyz"]
        for sensor in sensors
    ]
    channels = [name for triple in triples for name in triple] + others
    random.shuffle(channels)
    shown = [name.upper() for name in channels] if shout else channels
    expected = sorted(tuple(channels.index(name) for name in triple) for triple in triples)
    assert find_axes(shown) == expected
    given = Augmentation(rotation_deg=5).with_indices(len(channels), shown)
    named = Augmentation(rotation_deg=5, axes=triples).with_indices(len(channels), channels)
    assert sorted(named.axes) == list(given.axes) == expected
    assert given.with_indices(len(channels)) == given


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        (["speed", "acc_x", "acc_y"], "among speed, acc_x, acc_y, no three names"),
        (["q.w", "q.x", "q.y", "q.z"], "no three names"),  # a quaternion
        (["acc_x", "acc_y", "acc_z", "ACC_X"], "no clear x, y and z among acc_x, acc_y, acc_z,"),
        ([a + b for a in "xyz" for b in "xyz"], "no clear x, y and z among"),  # a tensor
        (None, "by their names, but the windows have no channel names"),
    ],
)
def test_axes_that_are_not_clear_are_refused_with_the_way_to_name_them(channels, said):
    n = 3 if channels is None else len(channels)
    with pytest.raises(ArgumentError, match=rf"{said}.*axes=\[\('acc.x', 'acc.y', 'acc.z'\)"):
        Augmentation(rotation_deg=5).with_indices(n, channels)
    assert Augmentation(rotation_deg=5, axes=[(2, 0, 1)]).with_indices(n, channels).axes == (
        (2, 0, 1),
    )
    assert Augmentation().with_indices(n, channels).axes == ()


def test_names_of_channels_become_their_numbers():
    named = Augmentation(mirror=["yaw"], swap=[["left", "right"]])
    known = ["left", "speed", "right", "yaw"]
    assert named.with_indices(4, known) == Augmentation(mirror=[3], swap=[(0, 2)])
    assert named.with_indices(4, known).with_indices(4) == named.with_indices(4, known)
    with pytest.raises(ArgumentError, match=r"'yam'.*Did you mean 'yaw'.*left, speed, right, yaw"):
        Augmentation(mirror=["yam"]).with_indices(4, known)
    with pytest.raises(ArgumentError, match="'yaw', but the windows have no channel names"):
        augment_windows(signal(2), named, 0)
    with pytest.raises(ArgumentError, match="channel 3, but the windows have the channels 0 to 2"):
        augment_windows(signal(2), Augmentation(mirror=[3]), 0)


def test_a_warp_beyond_all_numbers_stays_within_the_window():
    ramp = np.arange(40.0).reshape(1, 40, 1).repeat(30, axis=0)
    times = augment_windows(ramp, Augmentation(time_warp=1e300), 0)
    assert times.min() >= 0
    assert times.max() <= 39


@pytest.mark.parametrize("n_timesteps", [0, 1, 2, 3])
def test_tiny_windows_are_accepted(n_timesteps):
    X = signal(5, n_timesteps)
    assert np.isfinite(augment_windows(X, EVERYTHING, 0)).all()
    assert augment_windows(X[:0], EVERYTHING, 0).shape == (0, n_timesteps, 3)


def test_one_channel_may_be_two_dimensional():
    X = signal(5, n_channels=1)
    flat, deep = (augment_windows(one, EVERYTHING, 0) for one in (X[:, :, 0], X))
    np.testing.assert_array_equal(flat, deep[:, :, 0])
    assert augment_windows(np.ones((2, 5), int), Augmentation(jitter=0.1), 0).dtype == np.float64


@pytest.mark.parametrize(
    "wrong",
    [
        {"jitter": -1},
        {"jitter": True},
        {"scaling": np.nan},
        {"time_warp": np.inf},
        {"magnitude_warp": "0.2"},
        {"window_shift": 1.0},
        {"n_knots": 0},
        {"n_knots": 2.5},
        {"rotation_deg": -1},
        {"rotation_deg": 181},
        {"axes": ["acc.x", "acc.y", "acc.z"]},
        {"axes": [(0, 1)]},
        {"axes": [(0, 1, 2), (2, 3, 4)]},
    ],
)
def test_a_strength_without_meaning_is_refused_by_name(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        Augmentation(**wrong)


def test_errors_say_what_is_wrong():
    X = signal()
    too_long = np.r_[0, 0, 41, np.zeros(27, int)]
    with pytest.raises(ArgumentError, match="is not an Augmentation"):
        augment_windows(X, 0.1)
    for wrong, arguments, error, said in (
        (X[0, 0], {}, SignalError, "X has shape .* expected"),
        (X, {"lengths": too_long}, SignalError, r"lengths\[2\] is 41; .* from 0 to 40"),
        (X[:1], {"indices": [-1]}, SignalError, r"indices\[0\] is -1; expected 0 or more"),
        (X, {"copies": [0]}, SignalError, "copies has shape"),
        (X, {"channel_sd": [1.0]}, ArgumentError, "channel_sd"),
    ):
        with pytest.raises(error, match=said):
            augment_windows(wrong, EVERYTHING, **arguments)
    X[4, 7, 2] = np.inf
    for use in (lambda: augment_windows(X, EVERYTHING), lambda: channel_sd_of(X)):
        with pytest.raises(SignalError, match="window 4, step 7, channel 2"):
            use()


@given(
    strengths=st.fixed_dictionaries({}, optional={k: st.floats(0, 0.6) for k in KINDS}),
    n_knots=st.integers(1, 7),
    n_timesteps=st.integers(1, 40),
    own_sd=st.booleans(),
    mirrored=st.booleans(),
    most_deg=st.sampled_from([0, 20, 180]),
    seed=st.integers(0, 2**62),
)
def test_windows_change_as_numpy_and_scipy_change_them(
    strengths, n_knots, n_timesteps, own_sd, mirrored, most_deg, seed
):
    how = Augmentation(**strengths, n_knots=n_knots, **(MIRROR if mirrored else {}))
    how = replace(how, rotation_deg=most_deg, axes=[(1, 2, 0)])
    random = np.random.default_rng(seed)
    X = random.normal(2, [1, 5, 0.1], (4, n_timesteps, 3))
    lengths = random.integers(0, n_timesteps + 1, 4)
    indices, copies = random.integers(0, 2**40, 4), random.integers(0, 1000, 4)
    sd = None if own_sd else random.uniform(0, 3, 3)
    found = augment_windows(X, how, seed, lengths, indices, copies=copies, channel_sd=sd)
    drawn = int(np.random.default_rng(seed).integers(2**63))
    for row, n in enumerate(lengths):
        if n:
            expected = augmented(
                X[row, :n],
                how,
                functools.partial(stream, drawn, indices[row], copies[row]),
                sd,
            )
            np.testing.assert_allclose(found[row, :n], expected, rtol=1e-9, atol=1e-9)
