import json
import subprocess
import sys

import numpy as np
import pytest

from sensorseq.errors import ArgumentError, InputError, RecordingError, SplitError, WindowError
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.recording import Recording


def drives(n_each=(5, 4, 6), seconds=10.0, rate=100.0, labeled=True, **more):
    """Return recordings of three surfaces, each with a different mean and length."""
    rng = np.random.default_rng(0)
    recordings = []
    for label, (surface, count) in enumerate(zip(("ice", "mud", "tar"), n_each, strict=True)):
        for index in range(count):
            n_samples = int((seconds + 3 * index) * rate)
            values = rng.normal(label + index, 1.0 + label, (n_samples, 2))
            recordings.append(
                Recording.evenly_sampled(
                    values,
                    rate,
                    ("current", "gyro"),
                    f"{surface} {index}",
                    label=surface if labeled else None,
                    **more,
                )
            )
    return recordings


def test_windows_are_unscaled_unbalanced_and_split_by_group():
    recordings = drives()
    windows = PreparePipeline(sample_rate_hz=100.0, window_s=1.0, balance="undersample").prepare(
        recordings
    )
    assert len(windows) == sum(r.n_samples // 100 for r in recordings)
    np.testing.assert_array_equal(windows.X[0], recordings[0].values[:100].astype(np.float32))
    for group in np.unique(windows.groups):
        assert len(np.unique(windows.split[windows.groups == group])) == 1
    for part in ("train", "validation", "test"):
        assert set(windows.part(part).y) == {"ice", "mud", "tar"}


def test_values_of_held_out_recordings_change_nothing_that_is_learned():
    pipeline = PreparePipeline(window_s=1.0, balance="oversample")
    recordings = drives()
    windows = pipeline.prepare(recordings)
    scaler, indices = pipeline.scaler_, pipeline.sample_indices_
    held_out = set(windows.recording_id[windows.split != "train"])
    for recording in recordings:
        if recording.recording_id in held_out:
            recording.values[:] = 1e6
    pipeline.prepare(recordings)
    np.testing.assert_array_equal(pipeline.scaler_.channel_center, scaler.channel_center)
    np.testing.assert_array_equal(pipeline.sample_indices_, indices)


@pytest.mark.parametrize("strategy", ["undersample", "oversample", None])
def test_sample_indices_are_balanced_training_windows(strategy):
    pipeline = PreparePipeline(window_s=1.0, balance=strategy)
    windows = pipeline.prepare(drives())
    chosen = windows.take(pipeline.sample_indices_)
    assert set(chosen.split) == {"train"}
    counts = np.unique(chosen.y, return_counts=True)[1]
    if strategy:
        assert len(set(counts)) == 1
    else:
        training = np.flatnonzero(windows.split == "train")
        np.testing.assert_array_equal(pipeline.sample_indices_, training)


def test_without_a_rate_the_median_is_used_and_recorded():
    ones = np.ones((4000, 2))
    fast = Recording.evenly_sampled(ones, 200.0, ("current", "gyro"), "fast", label="tar")
    recordings = [*drives(n_each=(3, 3, 3), rate=50.0)[:8], fast]
    windows = PreparePipeline(window_s=1.0).prepare(recordings)
    assert windows.sample_rate_hz == 50.0
    assert windows.provenance["sample_rate_hz"] == 50.0
    chosen = "median of the recordings, whose rates are 50 to 200 Hz"
    assert windows.provenance["sample_rate_from"] == chosen
    assert windows.provenance["recordings"][-1]["sample_rate_hz"] == pytest.approx(200.0)
    assert PreparePipeline(window_s=1.0, sample_rate_hz=25).prepare(recordings).X.shape[1] == 25


def test_provenance_is_plain_and_lists_dropped_recordings_with_reasons():
    recordings = drives()
    times = np.r_[np.arange(50), 1000 + np.arange(300)] / 100.0
    recordings.append(Recording(np.ones((350, 2)), times, ("current", "gyro"), "torn", label="ice"))
    never = np.full((200, 2), np.nan)
    never[:50, 0], never[150:, 1] = 1.0, 1.0
    apart = Recording.evenly_sampled(never, 100.0, ("current", "gyro"), "apart", label="ice")
    recordings.append(apart)
    pipeline = PreparePipeline(window_s=1.0)
    provenance = json.loads(json.dumps(dict(pipeline.prepare(recordings).provenance)))
    dropped = [(row["recording_id"], row["n_samples"]) for row in provenance["dropped"]]
    assert dropped == [("torn", 50), ("apart", 0)]
    assert all(row["reason"] == "shorter than a window" for row in provenance["dropped"])
    torn = provenance["recordings"][-1]
    assert (torn["n_samples"], torn["n_pieces"], torn["n_windows"]) == (350, 2, 3)
    assert provenance["configuration"] == pipeline.configuration
    assert provenance["configuration"]["window"]["window_s"] == 1.0
    assert provenance["configuration"]["window"]["hop_s"] is None


def test_channels_are_selected_in_the_requested_order():
    windows = PreparePipeline(window_s=1.0, channels=["gyro"]).prepare(drives())
    assert windows.channels == ("gyro",)
    gyro = drives()[0].values[:100, 1].astype(np.float32)
    np.testing.assert_array_equal(windows.X[0, :, 0], gyro)
    windows = PreparePipeline(window_s=1.0, channels=["gyro", "current"]).prepare(drives())
    assert windows.channels == ("gyro", "current")


def test_recordings_to_predict_are_windowed_without_learning_anything():
    pipeline = PreparePipeline(window_s=1.0, split=None)
    windows = pipeline.prepare(drives(labeled=False))
    assert windows.split is None
    assert windows.y is None
    assert pipeline.scaler_ is None
    assert pipeline.sample_indices_ is None


def test_recordings_and_classes_that_cannot_be_prepared_are_named():
    pipeline = PreparePipeline(window_s=1.0)
    with pytest.raises(WindowError, match="no recordings"):
        pipeline.prepare([])
    with pytest.raises(RecordingError, match=r"'ice 0' is used 2 times"):
        pipeline.prepare([drives()[0], drives()[0]])
    with pytest.raises(RecordingError, match=r"'ice 0' has no channel 'torque'"):
        PreparePipeline(window_s=1.0, channels=["torque"]).prepare(drives())
    with pytest.raises(SplitError, match=r"class 'mud': 2 group"):
        pipeline.prepare(drives(n_each=(3, 2, 3)))
    with pytest.raises(WindowError, match="none of 15"):
        PreparePipeline(window_s=99.0).prepare(drives())
    capped = PreparePipeline(window_s=1.0, balance="undersample", max_per_recording=0.3)
    with pytest.raises(WindowError, match=r"1 recording.*max_per_recording") as caught:
        capped.prepare(drives(n_each=(3, 3, 3)))
    assert "training part" in str(caught.value.__notes__)
    with pytest.raises(RecordingError, match="needs labels"):
        PreparePipeline(window_s=1.0, balance="undersample").prepare(drives(labeled=False))


def test_a_constant_channel_is_kept_scaled_by_one_and_reported():
    recordings = drives()
    for recording in recordings:
        recording.values[:, 1] = 7.25
    pipeline = PreparePipeline(window_s=2.0)
    windows = pipeline.prepare(recordings)
    assert windows.channels == ("current", "gyro")
    assert pipeline.scaler_.channel_scale[1] == 1.0
    np.testing.assert_array_equal(pipeline.scaler_.transform(windows.X)[:, :, 1], 0.0)
    assert windows.provenance["constant_channels"] == ["gyro"]


def test_preparing_imports_neither_torch_nor_scikit_learn_nor_scipy_signal():
    code = (
        "import sys, sensorseq.prepare; from sensorseq import PreparePipeline;"
        "PreparePipeline(window_s=1);"
        "print([m for m in ('torch', 'sklearn', 'scipy.signal') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_training_windows_may_overlap_although_other_windows_do_not():
    plain = PreparePipeline(window_s=1.0).prepare(drives())
    windows = PreparePipeline(window_s=1.0, train_hop_s=0.25).prepare(drives())
    for part in ("validation", "test"):
        np.testing.assert_array_equal(windows.part(part).X, plain.part(part).X)
    train, before = windows.part("train"), plain.part("train")
    assert set(train.recording_id) == set(before.recording_id)
    # Drives last a whole number of seconds, so the shorter hop adds three windows between
    # consecutive windows, and none after the last window.
    assert len(train) == 4 * len(before) - 3 * len(set(before.recording_id))
    assert {float(start) % 0.25 for start in train.start_s} == {0.0}
    # Windows stay in the order of the recordings although training windows are cut separately.
    order = list(dict.fromkeys(windows.recording_id.tolist()))
    assert order == list(dict.fromkeys(plain.recording_id.tolist()))


def test_a_split_by_time_keeps_windows_an_embargo_apart():
    by_time = PreparePipeline(window_s=1.0, hop_s=0.5, split_by="time", embargo_s=2.0)
    windows = by_time.prepare(drives())
    for name in np.unique(windows.recording_id):
        own = windows.take(windows.recording_id == name)
        for part in ("validation", "test"):
            later, earlier = own.start_s[own.split == part], own.start_s[own.split == "train"]
            if len(later) and len(earlier):
                assert np.abs(later[:, None] - earlier).min() >= 1.0 + 2.0 - 1e-9
    assert set(windows.split) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    "how",
    [
        {"sample_rate_hz": 20.0},
        {"steps": [{"kind": "band_pass", "low_hz": 2.0, "high_hz": 20.0}]},
    ],
    ids=["resampling", "zero phase"],
)
def test_no_filter_lets_a_training_window_see_what_comes_after_the_embargo(how):
    """Changed samples in the later parts must not change a single bit of a training window."""
    pipeline = PreparePipeline(window_s=1.0, split_by="time", **how)
    recordings = drives(n_each=(3, 3, 3), seconds=20.0)
    before = pipeline.prepare(recordings)
    for recording in recordings:
        own = before.take(before.recording_id == recording.recording_id)
        later = own.start_s[own.split != "train"].min()
        recording.values[recording.timestamps_s >= later] += 1e3
    after = pipeline.prepare(recordings)
    np.testing.assert_array_equal(after.split, before.split)
    np.testing.assert_array_equal(after.part("train").X, before.part("train").X)
    assert not np.array_equal(after.part("test").X, before.part("test").X)
    with pytest.raises(SplitError, match=r"embargo_s=0\.01 is shorter than the .* s"):
        PreparePipeline(window_s=1.0, split_by="time", embargo_s=0.01, **how).prepare(recordings)


def test_separate_training_windows_cannot_be_combined_with_a_split_by_time():
    with pytest.raises(ArgumentError, match="embargo"):
        PreparePipeline(window_s=1.0, split_by="time", train_hop_s=0.5)


def test_a_step_that_does_not_fit_is_named_with_its_place():
    with pytest.raises(InputError, match="detrent") as caught:
        PreparePipeline(window_s=1.0, steps=[{"kind": "detrent", "window_s": 1}])
    assert "detrend" in str(caught.value)
    assert any("steps[0]" in note for note in caught.value.__notes__)
    unknown = PreparePipeline(window_s=1.0, steps=[{"kind": "difference", "channels": ["torque"]}])
    with pytest.raises(InputError, match="torque"):
        unknown.prepare(drives())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"window_s": 0}, "window_s"),
        ({"sample_rate_hz": -1}, "sample_rate_hz"),
        ({"hop_s": np.nan}, "hop_s"),
        ({"max_gap_s": 0}, "max_gap_s"),
        ({"channels": "current"}, "channels"),
        ({"scale": "standart"}, "scale"),
        ({"balance": "smote"}, "balance"),
        ({"random_state": "seed"}, "random_state"),
        ({"split": (0.5, 0.6, 0.1)}, "fractions"),
        ({"split": None, "balance": "undersample"}, "only training windows"),
        ({"train_hop_s": 0.5, "split": None}, "train_hop_s.*split"),
        ({"scale": "physical"}, r"rated.*\[scale\]"),
        ({"rated": {"current": 1.0}}, "physical"),
        ({"embargo_s": 1.0}, "split_by"),
        ({"max_per_recording": 3}, "balance"),
        ({"split_by": "day"}, "split_by"),
        ({"label_rule": "majorty"}, "majority"),
        ({"min_purity": 1.5}, "min_purity"),
        ({"short": "stretch"}, "short"),
        ({"steps": {"kind": "difference"}}, "list"),
        ({"steps": ["difference"]}, "steps"),
    ],
)
def test_invalid_or_contradictory_arguments_are_refused_immediately(arguments, said):
    with pytest.raises(InputError, match=said):
        PreparePipeline(**{"window_s": 1.0, **arguments})


def test_a_class_that_marks_unlabeled_windows_is_named():
    rng = np.random.default_rng(0)
    recordings = [
        Recording.evenly_sampled(
            rng.normal(size=(200, 1)), 50.0, ["a"], f"{k}", label=str(k % 4 - 1)
        )
        for k in range(16)
    ]
    said = r"the class is '-1' for 16 of 64 windows, .* from folders .* labels=\['0', '1', '2'\]"
    with pytest.warns(UserWarning, match=said):
        PreparePipeline(window_s=1.0).prepare(recordings)
    most = [one for one in recordings if one.label == "-1" or int(one.recording_id) < 4]
    with pytest.raises(InputError, match="'-1' for 16 of 28 windows"):
        PreparePipeline(window_s=1.0, split=None).prepare(most)
