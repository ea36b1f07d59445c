"""Each planted fault in the data is found and named; clean data gives no finding."""

from types import SimpleNamespace

import numpy as np
import pytest
from held import held_windows

from sensorseq.diagnosis.causes import CAUSE_NAMES, CAUSE_OF_FINDING, causes_of
from sensorseq.inspection import measures
from sensorseq.inspection.copies import window_keys
from sensorseq.inspection.window_checks import check_shares, check_windows

N_CLASSES = 3
SIGNALS = ["normal", "walk", "laplace", "sine", "counts"]


def clean(
    n=240, t=30, c=2, seed=0, *, with_groups=True, with_lengths=False, kind="normal", first=0,
    order="mixed",
):  # fmt: skip
    """Return standardized windows of recordings; levels differ between recordings."""
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
    groups = groups + first if with_groups else None
    fields = {"lengths": lengths, "target": target, "groups": groups}
    return SimpleNamespace(X=X.astype(np.float32), rows=np.arange(first, first + n), **fields)


def some(windows, mask):
    parts = {k: None if v is None else v[mask] for k, v in vars(windows).items()}
    return SimpleNamespace(**parts)


def findings_of(train, validation=None, **names):
    parts = [None if w is None else held_windows(**vars(w), **names) for w in (train, validation)]
    return list(check_windows(*parts))


def only(kind, train, validation=None, **names):
    findings = findings_of(train, validation, **names)
    assert [finding.kind for finding in findings] == [kind]
    assert findings[0].text.endswith(".")
    assert findings[0].advice.endswith(".")
    return findings[0].text


@pytest.mark.parametrize("seed", range(20))
def test_clean_data_gives_no_finding(seed):
    rng = np.random.default_rng(seed)
    n, t, c = int(rng.integers(12, 300)), int(rng.integers(1, 40)), int(rng.integers(1, 5))
    options = {"with_groups": bool(seed % 2), "with_lengths": seed % 4 < 2 and t > 1}
    options["kind"] = SIGNALS[seed % 5]
    train = clean(n, t, c, seed, order=["mixed", "blocks"][seed // 10], **options)
    assert findings_of(train, clean(max(12, n // 3), t, c, seed + 1000, first=n, **options)) == []
    # random labels do not look shifted either
    train.target = rng.permutation(train.target)
    assert findings_of(train) == []


def test_a_constant_channel_is_named():
    train = clean()
    train.X[:, :, 1] = 0.0
    text = only("constant_channels", train, channels=["current", "voltage"])
    assert "channel 1 (voltage) of 2 channels never changes in 240 training windows" in text
    train.X[:] = 0.0
    assert "No channel" in only("constant_channels", train)


@pytest.mark.parametrize("of_recording", [False, True])
@pytest.mark.parametrize("with_lengths", [False, True])
def test_a_clock_is_found_by_its_constant_slope(of_recording, with_lengths):
    train = clean(with_lengths=with_lengths)
    clock = np.arange(30) + (30 * np.arange(240)[:, None] if of_recording else 0.0)
    clock = clock + 0.1 * np.random.default_rng(0).normal(size=clock.shape)
    train.X[:, :, 0] = (clock - clock.mean()) / clock.std() + np.zeros((240, 1))
    if with_lengths:
        train.X[np.arange(30) >= train.lengths[:, None]] = 0
    assert "channel 0: a straight line" in only("clock_channels", train)


def test_ramps_with_a_different_slope_in_each_window_are_a_signal():
    train = clean()
    speed = np.random.default_rng(0).uniform(0.5, 2, (240, 1))
    train.X[:, :, 0] = (np.arange(30) - 15) * speed / 12
    assert findings_of(train) == []


def test_windows_in_which_nothing_moves_are_counted():
    train = clean()
    train.X[7:17] = train.X[7:17, :1]
    text = only("still_windows", train)
    assert "In 10 of 240 training windows (rows 7, 8, 9, 10, 11 and 5 more)" in text


def test_identical_windows_with_two_labels_are_found_with_their_rows():
    train = clean(first=1000)
    train.X[40], train.target[40] = train.X[3], (train.target[3] + 1) % 3
    train.X[50], train.target[50] = train.X[5], train.target[5]  # no contradiction
    text = only("two_labels", train, classes=["ice", "snow", "mud"])
    assert "2 of 240 training windows" in text
    assert "row 1003 is '" in text
    assert "row 1040 with the same values is '" in text


@pytest.mark.parametrize("with_lengths", [False, True])
def test_training_windows_in_validation_are_counted(with_lengths):
    train = clean(with_lengths=with_lengths)
    validation = clean(100, seed=1, first=240, with_lengths=with_lengths)
    validation.X[:9] = train.X[20:29]
    if with_lengths:
        validation.lengths[:9] = train.lengths[20:29]
    text = only("windows_in_both_parts", train, validation)
    assert "9 of 100 validation windows (rows 240, 241," in text


@pytest.mark.parametrize(
    ("groups", "rows", "advice"),
    [
        (None, "own", "Split by recording: give groups=, and remove copies."),
        (None, None, "Take validation windows from other recordings, and remove copies."),
        ("other", "own", "These groups share windows: 2 and 240, 2 and 241, 2 and 242. If"),
        ("same", "own", "These groups are in both parts: 2. Keep each group in one part."),
    ],
)
def test_what_to_do_about_shared_windows_depends_on_the_groups_that_were_given(
    groups, rows, advice
):
    train, validation = clean(), clean(100, seed=1, first=240)
    validation.X[:9] = train.X[20:29]
    if groups is None:
        train.groups = validation.groups = None
    if groups == "same":
        validation.groups[:9] = 2
    if rows is None:
        validation.rows = None
    (finding,) = findings_of(train, validation)
    assert finding.kind == "windows_in_both_parts"
    assert finding.advice.startswith(advice)
    assert ("groups=" in finding.advice) == (groups is None and rows == "own")


def test_keys_are_the_same_for_identical_windows_only():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 12, 2)).astype(np.float32)
    X[1500] = X[20]
    X[21] = X[20][::-1]  # the same values in another order
    X[22], X[22, 3, 1] = X[20], np.nextafter(X[20, 3, 1], np.float32(9))
    X[30, 4], X[31] = 0.0, X[30]
    X[31, 4] = -0.0
    keys = window_keys(X)
    assert keys[20] == keys[1500]
    assert keys[30] == keys[31]
    assert len(np.unique(keys)) == 1998
    assert keys.all()
    # keys depend neither on padding nor on the number of windows
    lengths = np.full(2000, 10)
    padded = np.concatenate([X, rng.normal(size=(2000, 5, 2)).astype(np.float32)], axis=1)
    np.testing.assert_array_equal(window_keys(X, lengths), window_keys(padded, lengths))
    np.testing.assert_array_equal(window_keys(X[7:9]), keys[7:9])


def test_windows_with_only_a_few_different_values_are_not_duplicates():
    train = clean()
    train.X = np.sign(train.X)
    train.X[40], train.target[40] = train.X[3], (train.target[3] + 1) % 3
    assert findings_of(train) == []


@pytest.mark.parametrize(
    ("scale", "offset", "words"),
    [
        ((30, 30), (0, 0), "the standard deviation is 30 to 30"),
        ((1, 1), (100, 0), "the mean is up to 100 standard deviations from zero"),
        ((0.1, 9), (0, 0), "differ by a factor of 90"),
        ((0.01, 1), (0, 0), "channel 0: the standard deviation is 0.01 where 1 is expected"),
    ],
)
def test_input_far_from_unit_scale_is_found(scale, offset, words):
    train = clean()
    train.X = train.X * np.float32(scale) + np.float32(offset)
    assert words in only("not_scaled", train)


def test_a_scale_within_bounds_is_not_a_finding():
    train = clean()
    train.X = train.X * np.float32([0.2, 5]) + np.float32([0.4, 9])
    assert findings_of(train) == []


def test_a_few_extreme_values_are_outliers_but_bursts_are_a_signal():
    train, rng = clean(), np.random.default_rng(0)
    train.X[rng.random(train.X.shape[:2]) < 0.01, 0] = 40.0
    assert "% of channel 0 (largest" in only("outlier_windows", train)
    train.X[rng.random(train.X.shape[:2]) < 0.2, 0] = 20.0
    assert "outlier_windows" not in [finding.kind for finding in findings_of(train)]


@pytest.mark.parametrize("side", ["end", "beginning"])
def test_padding_without_lengths_is_found_by_its_constant_value(side):
    train = clean(with_lengths=True)
    train.X = (train.X - 0.7 * (np.arange(30)[:, None] >= train.lengths[:, None, None])).astype("f")
    train.X, train.lengths = train.X[:, :: 1 if side == "end" else -1], None
    assert f"at their {side}," in only("padding_as_signal", train)
    other = clean(100, seed=1, first=240)
    other.X[:, slice(0, 8) if side == "end" else slice(-8, None)] = -0.7
    assert any("at the other end" in finding.text for finding in findings_of(train, other))


def test_classes_that_are_missing_in_a_part_are_named():
    train, validation = clean(), clean(90, seed=1, first=240)
    findings = findings_of(
        some(train, train.target != 2), validation, classes=["ice", "snow", "mud"]
    )
    (text,) = [finding.text for finding in findings if finding.kind == "class_not_in_training"]
    assert "no training window of class 'mud', so 30 of 90 validation windows" in text
    findings = findings_of(train, some(validation, validation.target != 0))
    (text,) = [finding.text for finding in findings if finding.kind == "class_not_in_validation"]
    assert "class 0, which has 80 of 240" in text


def test_a_class_with_nearly_all_windows_or_one_window_or_one_group_is_named():
    target, groups = np.arange(60) % 3, np.arange(60) // 6
    assert list(check_shares(target, "abc", groups)) == []
    few = np.where(np.arange(60) < 57, 0, 1)
    dominant = list(check_shares(few, "ab"))
    assert [finding.kind for finding in dominant] == ["dominant_class"]
    assert "95 % of the windows belong to class 'a'" in dominant[0].text
    (single,) = check_shares(np.where(np.arange(60) == 7, 3, target), "abcd", groups)
    assert single.kind == "single_window"
    assert "class 'd' of y has only one window (1 such class)" in single.text
    (alone,) = check_shares(np.where(groups == 4, 3, target), "abcd", groups)
    assert alone.kind == "single_group"
    assert "class 'd' come from one group" in alone.text


def test_a_different_level_in_validation_is_a_shift():
    train, validation = clean(), clean(200, seed=1, first=240)
    validation.X += np.float32([0, 1.5])
    text = only("level_shift", train, validation, channels=["x", "y"])
    assert "channel 1 (y) is at a different level in validation: +1." in text
    few = some(validation, validation.groups < validation.groups.min() + 3)  # differ by chance
    assert "level_shift" not in [finding.kind for finding in findings_of(train, few)]


def test_validation_groups_at_different_levels_are_a_shift_even_if_their_mean_is_the_same():
    train, validation = clean(), clean(120, seed=1, first=240)
    of_group = np.where(validation.groups % 2, 3.0, -3.0)
    validation.X[:, :, 1] += of_group[:, None]
    text = only("groups_apart", train, validation, channels=["x", "y"])
    assert "channel 1 (y): validation groups are at different levels" in text


def test_groups_in_different_units_are_found_but_not_a_class_that_moves_more():
    train = clean()
    train.X[np.isin(train.groups, [1, 2, 3, 9, 12]), :, 1] *= 50
    train.X[:, :, 1] /= train.X[:, :, 1].std()
    assert "channel 1: in some groups the values vary 4" in only("mixed_units", train)
    moves = clean(order="blocks")
    moves.X[moves.target == 1] *= 50
    assert "mixed_units" not in [finding.kind for finding in findings_of(moves)]


def test_a_sensor_at_its_limits_is_clipped_but_a_sensor_at_rest_is_not():
    train = clean(kind="sine")
    limits = np.quantile(train.X[:, :, 0], [0.1, 0.9])
    train.X[:, :, 0] = train.X[:, :, 0].clip(*limits)
    assert "(20 % of channel 0)" in only("clipped", train)
    resting = clean(kind="sine")
    resting.X = np.maximum(resting.X, 0)  # a motor at rest repeats a single value
    assert "clipped" not in [finding.kind for finding in findings_of(resting)]


def test_copies_of_training_windows_are_counted():
    train = clean(200, with_groups=False)
    train.X[150:] = train.X[:50]
    train.target[150:] = train.target[:50]
    assert "50 of 200 training windows are copies" in only("copied_windows", train)


@pytest.mark.parametrize("k", [1, -2])
def test_labels_shifted_by_rows_are_found(k):
    train = clean(600)
    X = train.X + 2 * np.float32([1, 0]) * (train.target - 1)[:, None, None]
    train.X = (X / X.std(axis=(0, 1))).astype(np.float32)
    train.target = np.roll(train.target, k)
    distance = f"{abs(k)} row{'s' if k != 1 else ''}"
    assert f"The label {distance} after" in only("labels_off", train) or k < 0
    assert causes_of(findings_of(train))[0].finding == f"labels are {distance} off"
    # the shift is also found if some rows are held out with their labels
    train.groups = None
    held = np.random.default_rng(0).random(600) < 0.2
    assert [finding.kind for finding in findings_of(some(train, ~held), some(train, held))] == [
        "labels_off"
    ]


@pytest.mark.parametrize("with_lengths", [False, True])
def test_block_size_does_not_matter(with_lengths, monkeypatch):
    windows = clean(n=50, t=9, c=3, with_lengths=with_lengths)
    windows.X = 7 + 3 * windows.X
    lengths = np.full(50, 9) if windows.lengths is None else windows.lengths
    whole = findings_of(windows)
    monkeypatch.setattr(measures, "BLOCK_VALUES", 4 * 27 + 1)
    assert findings_of(windows) == whole
    part = measures.Measures(held_windows(**vars(windows)))
    inside = [window[:n].astype(np.float64) for window, n in zip(windows.X, lengths, strict=True)]
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


def test_a_clock_is_found_whatever_the_first_windows_are(monkeypatch):
    train = clean(n=6000, t=10)
    original = train.X.copy()
    monkeypatch.setattr(measures, "BLOCK_VALUES", 40 * train.X[0].size)
    # channel 0 is a clock except in 0.8 % of the windows, which include the first block
    train.X[50:, :, 0] = np.linspace(-1.7, 1.7, 10)
    assert "clock_channels" in [finding.kind for finding in findings_of(train)]
    train.X[50:150, :, 0] = original[50:150, :, 0]  # now 2.5 %
    assert "clock_channels" not in [finding.kind for finding in findings_of(train)]


def test_an_empty_set_is_not_an_error_and_inputs_are_not_changed():
    train = clean()
    none = some(train, slice(0, 0))
    assert findings_of(none) == findings_of(train, none) == []
    single = some(train, slice(0, 1))
    single.X = single.X[:, :1]
    assert {finding.kind for finding in findings_of(single)} <= {"constant_channels"}
    train.X.flags.writeable = train.target.flags.writeable = False
    assert findings_of(train) == []


def test_findings_become_causes_with_arguments_that_the_estimator_can_change():
    train = clean()
    train.X[:, :, 1] *= 500.0
    train.X[40], train.target[40] = train.X[3], (train.target[3] + 1) % 3
    findings = list(check_windows(held_windows(**vars(train))))
    scaling, labels = causes_of(findings, {"scale": None})
    assert (scaling.name, scaling.finding) == ("preprocessing", "not scaled")
    assert (labels.name, labels.finding) == ("data_bug", "identical windows with two labels")
    assert not scaling.is_minor
    assert scaling.recommendation == {"scale": "standard"}
    is_scaled = causes_of(findings, {"scale": "standard"})[0]
    assert not is_scaled.recommendation
    assert "were scaled" in is_scaled.advice
    foreign = causes_of(findings, {"batch_size": 8})[0]  # of another module
    assert not foreign.recommendation
    assert "Scale each channel" in foreign.advice
    assert {cause.name for cause in CAUSE_OF_FINDING.values()} <= set(CAUSE_NAMES)
