"""Each planted fault of the data is found and named, and clean data is left in peace."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.fluctuation.causes import windows_of_a_part
from sensorseq.fluctuation.causes.cause import CAUSE_NAMES
from sensorseq.fluctuation.causes.data_checks import check_data
from sensorseq.fluctuation.causes.duplicate_windows import window_keys
from sensorseq.fluctuation.causes.windows_of_a_part import Part
from sensorseq.fluctuation.probes.arm import LabWindows

N_CLASSES = 3


def clean(
    n=240, t=30, c=2, seed=0, *, with_groups=True, with_lengths=False, kind="normal", first=0,
    order="mixed",
):  # fmt: skip
    """Standardized windows of recordings that have one class and a level of their own."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n) // max(1, n // 24)
    target = groups % N_CLASSES if order == "blocks" else rng.permutation(np.arange(n) % N_CLASSES)
    noise = {
        "normal": rng.normal(size=(n, t, c)),
        "walk": np.cumsum(rng.normal(size=(n, t, c)), axis=1),
        "laplace": rng.laplace(size=(n, t, c)),
        "sine": np.sin(np.arange(t)[:, None] * rng.uniform(0.1, 1, (n, 1, c)) + rng.normal())
        + 0.1 * rng.normal(size=(n, t, c)),
        "counts": rng.poisson(30, (n, t, c)).astype(float),
    }[kind]
    level = rng.normal(0, 0.5 * noise.std(), groups.max() + 1)[groups]
    X = noise + level[:, None, None] + 0.5 * noise.std() * target[:, None, None]
    lengths = rng.integers(max(1, t // 2), t + 1, n) if with_lengths else None
    inside = np.ones((n, t), bool) if lengths is None else np.arange(t) < lengths[:, None]
    X = (X - X[inside].mean(axis=0)) / X[inside].std(axis=0)
    X[~inside] = 0
    rows = np.arange(first, first + n)
    return LabWindows(
        X.astype(np.float32), lengths, target, groups + first if with_groups else None, rows
    )


def found(train, validation=None, **names):
    return {(cause.name, cause.finding): cause for cause in check_data(train, validation, **names)}


def only(train, validation=None, **names):
    causes = check_data(train, validation, **names)
    assert len(causes) == 1, [cause.evidence for cause in causes]
    (cause,) = causes
    assert cause.name in CAUSE_NAMES
    assert cause.grade == "supported"
    assert 0 < cause.confidence < 1
    assert cause.evidence.endswith(".")
    return cause


def changed(windows, **fields):
    return windows._replace(**{k: np.array(v) if k == "X" else v for k, v in fields.items()})


@given(
    st.integers(0, 10**6),
    st.integers(12, 300),
    st.integers(1, 40),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["normal", "walk", "laplace", "sine", "counts"]),
    st.sampled_from(["mixed", "blocks"]),
)
def test_clean_data_is_left_in_peace(seed, n, t, c, with_groups, with_lengths, kind, order):
    options = {"with_groups": with_groups, "with_lengths": with_lengths and t > 1, "kind": kind}
    train = clean(n, t, c, seed, order=order, **options)
    validation = clean(max(12, n // 3), t, c, seed + 1, first=n, **options)
    causes = check_data(train, validation)
    assert not causes, [cause.evidence for cause in causes]


def test_a_constant_channel_is_named():
    train = clean()
    X = train.X.copy()
    X[:, :, 1] = 0.0
    cause = only(changed(train, X=X), channels=["current", "voltage"])
    assert (cause.name, cause.finding) == ("data_bug", "constant channel")
    assert "channel 1 (voltage) of 2 never changes in 240 training windows" in cause.evidence
    cause = only(changed(train, X=0 * X))
    assert cause.confidence > 0.5


@pytest.mark.parametrize("of_recording", [False, True])
@pytest.mark.parametrize("with_lengths", [False, True])
def test_a_clock_is_found_by_its_one_slope(of_recording, with_lengths):
    train = clean(with_lengths=with_lengths)
    X = train.X.copy()
    clock = np.arange(30) + (30 * np.arange(240)[:, None] if of_recording else 0.0)
    clock = clock + 0.1 * np.random.default_rng(0).normal(size=clock.shape)
    X[:, :, 0] = (clock - clock.mean()) / clock.std() + np.zeros((240, 1))
    if with_lengths:
        X[np.arange(30) >= train.lengths[:, None]] = 0
    if of_recording and not with_lengths:  # in float32, beside long recordings
        X[:, :, 0] = X[:, :, 0].astype(np.float32)
    cause = only(changed(train, X=X))
    assert (cause.name, cause.finding) == ("data_bug", "a clock among the channels")
    assert "channel 0" in cause.evidence


def test_a_ramp_of_another_slope_in_each_window_is_a_signal():
    train = clean()
    X = train.X.copy()
    speed = np.random.default_rng(0).uniform(0.5, 2, (240, 1))
    X[:, :, 0] = (np.arange(30) - 15) * speed / 12
    assert not check_data(changed(train, X=X))


def test_windows_in_which_nothing_moves_are_counted():
    train = clean()
    X = train.X.copy()
    X[7:17] = X[7:17, :1]
    cause = only(changed(train, X=X))
    assert cause.finding == "windows without a signal"
    assert "In 10 of 240 training windows (rows 7, 8, 9, 10, 11, ...)" in cause.evidence


def test_one_window_with_two_labels_is_found_with_its_rows():
    train = clean(first=1000)
    X, target = train.X.copy(), train.target.copy()
    X[40], target[40] = X[3], (target[3] + 1) % 3
    X[50], target[50] = X[5], target[5]  # a copy with the same label contradicts nothing
    cause = only(changed(train, X=X, target=target), classes=["ice", "snow", "mud"])
    assert (cause.name, cause.finding) == ("data_bug", "one window, two labels")
    assert "2 of 240 training windows" in cause.evidence
    assert "row 1003" in cause.evidence
    assert "row 1040" in cause.evidence
    assert any(name in cause.evidence for name in ("'ice'", "'snow'", "'mud'"))


@pytest.mark.parametrize("with_lengths", [False, True])
def test_training_windows_in_validation_are_counted(with_lengths):
    train = clean(with_lengths=with_lengths)
    validation = clean(100, seed=1, first=240, with_lengths=with_lengths)
    X = validation.X.copy()
    X[:9] = train.X[20:29]
    lengths = validation.lengths
    if with_lengths:
        lengths = lengths.copy()
        lengths[:9] = train.lengths[20:29]
    validation = changed(validation, X=X, lengths=lengths)
    cause = only(train, validation)
    assert (cause.name, cause.finding) == ("data_bug", "training windows in validation")
    assert "9 of 100 validation windows (rows 240, 241," in cause.evidence


def test_keys_are_alike_for_alike_windows_only():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 12, 2)).astype(np.float32)
    X[1500] = X[20]
    X[21] = X[20][::-1]  # the same values in another order
    X[22], X[22, 3, 1] = X[20], np.nextafter(X[20, 3, 1], np.float32(9))
    keys = window_keys(Part(X, None, np.zeros(2000, int)))
    alike = [(i, j) for i, j in ((20, 1500), (20, 21), (20, 22)) if keys[i] == keys[j]]
    assert alike == [(20, 1500)]
    assert len(np.unique(keys)) == 1999
    # padding does not count, nor does how far it goes
    lengths = np.full(2000, 10)
    padded = np.concatenate([X, rng.normal(size=(2000, 5, 2)).astype(np.float32)], axis=1)
    target = np.zeros(2000, int)
    np.testing.assert_array_equal(
        window_keys(Part(X, lengths, target)), window_keys(Part(padded, lengths, target))
    )
    assert not window_keys(Part(np.round(X > 0), None, target)).any()  # too poor to be known by


@pytest.mark.parametrize(
    ("scale", "offset", "said"),
    [
        ((30, 30), (0, 0), "the standard deviation is 30 to 30"),
        ((1, 1), (100, 0), "the mean is up to 100 standard deviations from zero"),
        ((0.1, 9), (0, 0), "differ 90 times"),
        ((0.01, 1), (0, 0), "channel 0: the standard deviation is 0.01 where 1 is expected"),
    ],
)
def test_input_far_from_unit_scale_is_found_and_scaling_recommended(scale, offset, said):
    train = clean()
    raw = changed(train, X=train.X * np.float32(scale) + np.float32(offset))
    cause = only(raw, arguments={"scale": None})
    assert (cause.name, cause.finding) == ("preprocessing", "not scaled")
    assert said in cause.evidence
    assert cause.recommendation == {"scale": "standard"}
    assert not only(raw, arguments={"scale": "standard"}).recommendation
    foreign = only(raw, arguments={"batch_size": 8})  # of a module of one's own
    assert not foreign.recommendation
    assert "Scale each channel" in foreign.advice


def test_scale_within_bounds_is_left_in_peace():
    train = clean()
    assert not check_data(changed(train, X=train.X * np.float32([0.2, 5]) + np.float32([0.4, 9])))


def test_a_few_values_far_out_are_outliers_and_bursts_are_a_signal():
    train = clean()
    rng = np.random.default_rng(0)
    X = train.X.copy()
    hit = rng.random(X.shape[:2]) < 0.01
    X[hit, 0] = 40.0
    cause = only(changed(train, X=X))
    assert (cause.name, cause.finding) == ("preprocessing", "outliers")
    assert cause.recommendation == {"scale": "robust"}
    assert "channel 0" in cause.evidence
    X[rng.random(X.shape[:2]) < 0.2, 0] = 20.0
    assert not [c for c in check_data(changed(train, X=X)) if c.finding == "outliers"]


def test_values_in_the_padding_are_found():
    train = clean(with_lengths=True)
    X = train.X.copy()
    short = np.flatnonzero(train.lengths < 30)[:4]
    X[short, 29] = 1.0
    cause = only(changed(train, X=X))
    assert cause.finding == "values in the padding"
    assert f"4 of 240 training windows (rows {short[0]}," in cause.evidence


@pytest.mark.parametrize("side", ["end", "beginning"])
def test_padding_without_lengths_is_told_by_its_one_value(side):
    train = clean(with_lengths=True)
    X = train.X + np.where(np.arange(30)[:, None] < train.lengths[:, None, None], 0, -0.7)
    X = X.astype(np.float32)
    if side == "beginning":
        X = X[:, ::-1]
    cause = only(changed(train, X=X, lengths=None))
    assert (cause.name, cause.finding) == ("preprocessing", "padding read as signal")
    assert side in cause.evidence
    other = clean(100, seed=1, first=240)
    theirs = other.X.copy()
    if side == "end":
        theirs[:, :8] = -0.7
    else:
        theirs[:, -8:] = -0.7
    causes = check_data(changed(train, X=X, lengths=None), changed(other, X=theirs))
    assert any("at the other side" in cause.evidence for cause in causes)


def test_classes_that_a_part_lacks_are_named():
    train, validation = clean(), clean(90, seed=1, first=240)
    few = train.target != 2
    part = LabWindows(train.X[few], None, train.target[few], train.groups[few], train.rows[few])
    causes = found(part, validation, classes=["ice", "snow", "mud"])
    cause = causes["data_bug", "class missing in training"]
    assert "no training window of class 'mud', and 30 validation windows of 90" in cause.evidence
    few = validation.target != 0
    part = LabWindows(
        validation.X[few], None, validation.target[few], validation.groups[few],
        validation.rows[few],
    )  # fmt: skip
    cause = found(train, part)["distribution_shift", "class missing in validation"]
    assert "class 0, which has 80 of 240" in cause.evidence


def test_another_level_in_validation_is_a_shift():
    train, validation = clean(), clean(200, seed=1, first=240)
    moved = changed(validation, X=validation.X + np.float32([0, 1.5]))
    cause = only(train, moved, channels=["x", "y"])
    assert (cause.name, cause.finding) == ("distribution_shift", "another level in validation")
    assert "channel 1 (y) is at another level in validation: +1." in cause.evidence
    few = validation.groups < validation.groups.min() + 3  # three groups may differ by chance
    some = LabWindows(moved.X[few], None, moved.target[few], moved.groups[few], moved.rows[few])
    assert not [c for c in check_data(train, some) if c.name == "distribution_shift"]


def test_a_length_that_tells_the_class_is_found():
    train = clean(with_lengths=True)
    lengths = 10 + 8 * train.target + np.random.default_rng(0).integers(0, 4, 240)
    X = train.X.copy()
    X[np.arange(30) >= lengths[:, None]] = 0
    cause = only(changed(train, X=X, lengths=lengths))
    assert cause.finding == "length tells the class"
    assert "% of its class: the median is 12 steps for 0 and 2" in cause.evidence


@pytest.mark.parametrize("k", [1, -2])
def test_labels_that_are_rows_off_are_found(k):
    train = clean(600)
    X = train.X + 2 * np.float32([1, 0]) * (train.target - 1)[:, None, None]
    X /= X.std(axis=(0, 1))
    off = changed(train, X=X.astype(np.float32), target=np.roll(train.target, k))
    cause = only(off)
    assert (cause.name, cause.finding) == (
        "data_bug", f"labels are {abs(k)} row{'s' if k != 1 else ''} off",
    )  # fmt: skip
    # also where a part of the rows was held out: the label of its neighbour is in validation
    held = np.random.default_rng(0).random(600) < 0.2
    parts = [LabWindows(off.X[w], None, off.target[w], None, off.rows[w]) for w in (~held, held)]
    assert [cause.finding[:10] for cause in check_data(*parts)] == ["labels are"]


def test_labels_drawn_at_random_are_not_called_misaligned():
    rng = np.random.default_rng(0)
    train = clean(600)
    for _ in range(10):
        assert not check_data(changed(train, target=rng.permutation(train.target)))


def test_the_most_confident_comes_first_and_nothing_is_written_to():
    train = clean()
    X = train.X.copy()
    X[:, :, 1] = 500.0 * X[:, :, 1]
    target = train.target.copy()
    X[40], target[40] = X[3], (target[3] + 1) % 3
    X.flags.writeable = target.flags.writeable = False
    causes = check_data(changed(train, X=X, target=target))
    confidences = [cause.confidence for cause in causes]
    assert len(causes) == 2
    assert confidences == sorted(confidences, reverse=True)


def test_no_windows_at_all_are_no_error():
    train = clean()
    none = LabWindows(train.X[:0], None, train.target[:0])
    assert check_data(none) == []
    assert check_data(train, none) == []
    one = LabWindows(train.X[:1, :1], None, train.target[:1], None, train.rows[:1])
    assert all(cause.finding == "constant channel" for cause in check_data(one))


def test_many_windows_take_seconds():
    n = 20_000
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 100, 1)).astype(np.float32)
    many = LabWindows(X, None, np.arange(n) % 3, np.arange(n) // 50, np.arange(n))
    began = time.process_time()
    assert check_data(many) == []
    assert time.process_time() - began < 10  # about 0.5 s


def test_a_clock_is_found_whatever_the_first_windows_are(monkeypatch):
    train = clean(n=6000, t=10)
    monkeypatch.setattr(windows_of_a_part, "BLOCK_VALUES", 40 * train.X[0].size)
    X = train.X.copy()
    X[50:, :, 0] = np.linspace(-1.7, 1.7, 10)  # 0.8 % have none, among them the first block
    assert ("data_bug", "a clock among the channels") in found(changed(train, X=X))
    X[50:150, :, 0] = train.X[50:150, :, 0]  # 2.5 %
    assert ("data_bug", "a clock among the channels") not in found(changed(train, X=X))


@pytest.mark.parametrize("with_lengths", [False, True])
def test_moments_are_those_of_the_valid_steps_in_every_block(with_lengths, monkeypatch):
    windows = clean(n=50, t=9, c=3, with_lengths=with_lengths)
    X = 7 + 3 * windows.X
    lengths = np.full(50, 9) if windows.lengths is None else windows.lengths
    monkeypatch.setattr(windows_of_a_part, "BLOCK_VALUES", 4 * 27 + 1)
    part = Part(X, windows.lengths, windows.target)
    inside = [window[:n].astype(np.float64) for window, n in zip(X, lengths, strict=True)]
    for of_part, function in (
        (part.window_mean, np.mean),
        (part.window_sd, np.std),
        (part.window_range[0], np.min),
        (part.window_range[1], np.max),
    ):
        np.testing.assert_allclose(of_part, [function(w, axis=0) for w in inside], rtol=1e-9)
    every = np.concatenate(inside)
    np.testing.assert_allclose(part.mean, every.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(part.sd, every.std(axis=0), rtol=1e-9)
