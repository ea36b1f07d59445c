import json
from dataclasses import replace

import numpy as np
import pytest
from borealtc import BOREALTC, needs_borealtc
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorseq.datasets import SURFACES_SAMPLE_RATE_HZ, load_surfaces
from sensorseq.errors import ArgumentError, WindowError
from sensorseq.evaluation.inspect import inspect_leakage
from sensorseq.inspection.copies import near_duplicates, shared_stretches
from sensorseq.inspection.leakage import find_leakage
from sensorseq.io.prepared import read_windows, write_windows
from sensorseq.messages import MESSAGES
from sensorseq.prepare import prepare
from sensorseq.preprocessing import ChannelScaler
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.preprocessing.scale import KINDS as SCALES
from sensorseq.preprocessing.scale import fit_scaler
from sensorseq.preprocessing.split import split_by_group, split_by_time
from sensorseq.preprocessing.splitters import BlockedTimeSplit, GroupBalancedKFold
from sensorseq.preprocessing.windowing.augment import Augmentation, augment_windows
from sensorseq.windows import PARTS, WindowSet


def windows(n_recordings=12, n_each=10, hop=0.5, seed=0, **more):
    """Windows of 1 s at 20 Hz from recordings of two classes, each cut from one signal."""
    rng = np.random.default_rng(seed)
    starts = np.arange(n_each) * hop
    X = []
    for recording in range(n_recordings):
        signal = rng.normal(recording % 2, 1, (int(n_each * 20 * hop) + 40, 2))
        X += [signal[int(20 * start) :][:20] for start in starts]
    recording_id = np.repeat([f"run {index}" for index in range(n_recordings)], n_each)
    fields = {
        "y": np.repeat(np.arange(n_recordings) % 2, n_each),
        "recording_id": recording_id,
        "start_s": np.tile(starts, n_recordings),
        "sample_rate_hz": 20.0,
    }
    return WindowSet(np.array(X, np.float32), **(fields | more))


def split_in_groups(cut, seed=0):
    return replace(cut, split=split_by_group(cut.y, cut.groups, random_state=seed))


def kinds(report, severity="leak"):
    return {finding.kind for finding in report.findings if finding.severity == severity}


@settings(max_examples=4)
@given(seed=st.integers(0, 100), hop=st.sampled_from([0.25, 0.5, 1.0]))
def test_honest_splits_and_folds_raise_no_alarm(seed, hop):
    cut = split_in_groups(windows(hop=hop, seed=seed), seed)
    scaler = fit_scaler(cut.part("train").X)
    train = np.flatnonzero(cut.split == "train")
    report = find_leakage(cut, scaler=scaler, sample_indices=np.repeat(train, 2))
    assert not report
    assert report.findings == ()
    folds = GroupBalancedKFold(3, random_state=seed).split(cut)
    assert find_leakage(cut, folds=folds).findings == ()


@pytest.mark.parametrize("embargo_s", [None, 1.0, 2.0])
def test_time_splits_with_an_embargo_cause_a_warning_but_are_not_a_leak(embargo_s):
    cut = windows(n_each=80, hop=0.25)
    part = split_by_time(cut.recording_id, cut.start_s, 1.0, embargo_s=embargo_s)
    report = find_leakage(cut, split=part)
    assert not report
    assert kinds(report, "warning") == {"shared_recordings"}
    assert "leave out" not in report.findings[0].text
    folds = BlockedTimeSplit(3, embargo_s).split(cut)
    assert not find_leakage(cut, folds=folds)


@given(seed=st.integers(0, 1000), hop=st.sampled_from([0.25, 0.5, 1.0, 1.5]))
def test_overlap_is_found_for_exactly_the_windows_that_share_time(seed, hop):
    rng = np.random.default_rng(seed)
    cut = windows(5, 8, hop, lengths=rng.integers(0, 21, 40))
    part = rng.choice(["", *PARTS], 40)
    report = find_leakage(cut, split=part)
    start, end = cut.start_s, cut.start_s + cut.lengths / 20
    meet = (start[:, None] < end - 1e-9) & (start < end[:, None] - 1e-9)
    meet &= (cut.lengths[:, None] > 0) & (cut.lengths > 0)
    meet &= cut.recording_id[:, None] == cut.recording_id
    meet &= (part[:, None] != part) & (part[:, None] != "") & (part != "")
    expected = np.isin(part, PARTS[1:]) & meet.any(axis=1)
    overlaps = [f for f in report.findings if f.kind == "overlapping_windows"]
    assert sum(finding.count for finding in overlaps) == expected.sum()
    for example in (example for finding in overlaps for example in finding.where["examples"]):
        assert meet[example["row"], example["other_row"]]


def test_stamps_of_an_epoch_clock_do_not_overlap_by_rounding():
    cut = windows(hop=1.0)
    cut = replace(cut, start_s=1.7e9 + np.arange(120) * 1.0, recording_id=np.full(120, "run"))
    part = np.where(np.arange(120) < 60, "train", "test")
    report = find_leakage(cut, split=part)
    assert "overlapping_windows" not in kinds(report)
    assert "shared_recordings" in kinds(report)  # the parts touch, because there is no embargo


def test_an_embargo_in_one_recording_does_not_excuse_a_group_divided_elsewhere():
    cut = windows(8, 20, 1.0)
    group = np.repeat(["robot a", "robot a", *"bcdefg"], 20)
    part = np.repeat(["train", "test", *["train"] * 5, ""], 20).astype("<U10")
    # the last recording is split in time, with an embargo
    part[140:150], part[152:] = "train", "test"
    report = find_leakage(replace(cut, groups=group), split=part)
    (leak,) = report.leaks
    assert (leak.kind, leak.count) == ("shared_groups", 1)
    assert leak.where["examples"][0] == {"group": "robot a", "parts": ["train", "test"]}
    assert kinds(report, "warning") == {"shared_recordings", "shared_groups"}


def test_identical_windows_are_counted_once_and_constant_ones_are_not(tmp_path):
    cut = split_in_groups(windows())
    X = cut.X.copy()
    train, test = (np.flatnonzero(cut.split == name) for name in ("train", "test"))
    X[test[:4]] = X[train[0]]
    X[test[5]] = X[test[6]]  # both windows are in the same part
    X[test[7]], X[train[7]] = 3.0, 3.0  # the sensor is at rest
    report = find_leakage(replace(cut, X=X))
    (finding,) = report.findings
    assert (finding.kind, finding.count) == ("identical_windows", 4)
    assert finding.where["examples"][0]["other_row"] == train[0]
    assert finding.where["examples"][0]["part"] == "test"
    X[np.flatnonzero(cut.split == "validation")[0]] = X[train[0]]
    write_windows(tmp_path / "w.h5", replace(cut, X=X))
    report, data = inspect_leakage(tmp_path / "w.h5")
    assert report.findings[0].count == 5
    assert "windows_in_both_parts" not in {finding.kind for finding in data}


@pytest.mark.parametrize("lengths", [None, 15])
@pytest.mark.parametrize(
    ("how", "gain"),
    [
        (Augmentation(jitter=0.05), 1.0),
        (Augmentation(jitter=0.1), 1.0),
        (Augmentation(), 7.0),
        (Augmentation(), np.array([0.1, 1000.0])),
        (Augmentation(scaling=0.2), 1.0),
        (Augmentation(scaling=0.1, jitter=0.05), 1.0),
    ],
)
def test_copies_with_noise_or_gain_are_found_and_traced(how, gain, lengths):
    options = {} if lengths is None else {"lengths": np.full(120, lengths)}
    cut = split_in_groups(windows(hop=1.0, **options))
    X = cut.X.copy()
    train, test = (np.flatnonzero(cut.split == name) for name in ("train", "test"))
    X[test[:10]] = gain * augment_windows(X[train[:10]], how, 0, channel_sd=[1, 1]) + 5
    if lengths is not None:
        X[:, lengths:] = np.nan
    report = find_leakage(replace(cut, X=X))
    (finding,) = report.findings
    assert finding.kind == "near_duplicates"
    assert finding.severity == "leak"
    assert finding.count >= 9
    for example in finding.where["examples"]:
        assert example["other_row"] == train[list(test).index(example["row"])]


def test_copies_of_all_training_recordings_are_found_though_they_are_in_train_too():
    cut = windows(24, hop=1.0)
    X = cut.X.copy()
    noise = np.random.default_rng(1).normal(0, 0.05, X[120:].shape)
    X[120:] = X[:120] + noise  # runs 12 to 23 repeat runs 0 to 11
    report = find_leakage(split_in_groups(replace(cut, X=X)))
    assert kinds(report) == {"near_duplicates"}


def test_a_single_similar_window_is_a_warning():
    cut = split_in_groups(windows(hop=1.0))
    X = cut.X.copy()
    X[np.flatnonzero(cut.split == "test")[0]] = 2 * X[np.flatnonzero(cut.split == "train")[3]]
    report = find_leakage(replace(cut, X=X))
    assert not report
    assert kinds(report, "warning") == {"near_duplicates"}


def test_projection_of_long_windows_gives_the_same_findings():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 400, 6)).astype(np.float32)
    X[100:110] = X[:10] + 0.1 * rng.normal(size=(10, 400, 6))
    rows, among = np.arange(100, 120), np.arange(100)
    copies, original = near_duplicates(X, np.full(120, 400), np.arange(120) // 5, rows, among)
    np.testing.assert_array_equal(copies, rows[:10])
    np.testing.assert_array_equal(original, np.arange(10))


@given(shift=st.integers(1, 19), seed=st.integers(0, 100), short=st.sampled_from([0, 1, 3]))
def test_a_piece_of_a_recording_under_another_name_is_found_at_any_shift(shift, seed, short):
    signal = np.random.default_rng([seed, 1]).normal(size=(400, 2)).astype(np.float32)
    cut = split_in_groups(windows(hop=1.0, seed=seed))
    train, test = (np.flatnonzero(cut.split == name) for name in ("train", "test"))
    X = cut.X.copy()
    X[train[:10]] = signal[:200].reshape(10, 20, 2)
    X[test[:9]] = signal[shift : 180 + shift].reshape(9, 20, 2)
    rows, other = shared_stretches(X, np.full(120, 20), test, train)
    np.testing.assert_array_equal(rows, test[:9])
    starts = 20 * np.searchsorted(train, other)
    np.testing.assert_array_less(np.abs(starts - 20 * np.arange(9) - shift), 11)
    report = find_leakage(replace(cut, X=X))
    assert kinds(report) == {"shared_stretches"}
    # Padding is not compared.
    lengths = np.full(120, 20)
    lengths[test] = short
    assert not len(shared_stretches(X, lengths, test, train)[0])


def test_samples_that_repeat_by_chance_are_not_a_leak():
    rng = np.random.default_rng(0)
    cut = split_in_groups(windows(n_each=100, hop=1.0))
    few_values = rng.integers(0, 2, (1200, 20, 1)).astype(np.float32)
    cut = replace(cut, X=few_values, channels=())
    report = find_leakage(cut)
    assert kinds(report) == set()
    assert "shared_stretches" in kinds(report, "warning")
    # Signals with few shapes, or that are mostly constant, are not a leak either.
    still = np.zeros((1200, 20, 1), np.float32)
    still[:, 18:] = rng.normal(size=(1200, 2, 1))
    still[:, :2] = rng.normal(size=(1200, 2, 1))
    assert kinds(find_leakage(replace(cut, X=still))) == set()
    waves = np.sin(np.outer(np.arange(1, 4), np.arange(20) / 3))
    shapes = (rng.normal(size=(1200, 3)) @ waves).astype(np.float32)[:, :, np.newaxis]
    assert kinds(find_leakage(replace(cut, X=shapes))) == set()


def test_windows_that_all_look_alike_are_not_copies():
    """If robots repeat a motion, the nearest window is not much nearer than other windows."""
    rng = np.random.default_rng(0)
    shape = np.sin(np.linspace(0, 6, 50))[None, :, None]
    X = (shape + 0.02 * rng.normal(size=(400, 50, 1))).astype(np.float32)
    recording = np.arange(400) // 20
    rows, _ = near_duplicates(X, np.full(400, 50), recording, np.arange(200, 400), np.arange(200))
    assert not len(rows)
    X[:] = shape
    rows, _ = near_duplicates(X, np.full(400, 50), recording, np.arange(200, 400), np.arange(200))
    assert not len(rows)


@pytest.mark.parametrize("kind", SCALES)
def test_the_report_names_the_part_whose_statistics_a_scaler_has(kind):
    cut = split_in_groups(windows())
    lengths = cut.lengths
    cut.X[cut.split != "train"] *= 2  # beyond the range of train
    train = fit_scaler(cut.part("train").X, kind=kind)
    assert not find_leakage(cut, scaler=train).findings
    assert not find_leakage(cut, scaler=train.to_dict()).findings
    assert not find_leakage(cut, scaler=ChannelScaler(kind).fit(cut)).findings
    for rows in (np.arange(120), np.flatnonzero(cut.split != "test")):
        beyond = fit_scaler(cut.X[rows], lengths[rows], kind)
        assert kinds(find_leakage(cut, scaler=beyond)) == {"scaler_fit_beyond_train"}
    foreign = fit_scaler(windows(seed=9).X * 3, kind=kind)
    assert kinds(find_leakage(cut, scaler=foreign), "warning") == {"scaler_unknown"}


@pytest.mark.parametrize("kind", SCALES)
def test_scaled_windows_reveal_the_part_that_the_scaler_was_fitted_on(kind):
    cut = split_in_groups(windows())
    cut.X[cut.split != "train"] *= 2
    assert not find_leakage(ChannelScaler(kind).fit_transform(cut)).findings
    unsplit = replace(cut, split=None)
    scaled = replace(ChannelScaler(kind).fit_transform(unsplit), split=cut.split)
    assert kinds(find_leakage(scaled)) == {"scaler_fit_beyond_train"}


def test_rated_values_are_not_statistics():
    cut = split_in_groups(windows())
    scaler = ChannelScaler("physical", rated=[20.0, 3.0]).fit(cut)
    assert not find_leakage(cut, scaler=scaler).findings
    assert not find_leakage(scaler.transform(cut)).findings


def test_groups_on_both_sides_of_a_split_by_recording_cause_a_warning():
    robots = np.repeat(np.arange(6), 20)
    cut = windows(groups=robots)
    part = split_by_group(cut.y, cut.recording_id, random_state=1)
    asked = replace(cut, split=part, provenance={"configuration": {"split": {"by": "recording"}}})
    report = find_leakage(asked)
    assert not report
    assert kinds(report, "warning") == {"shared_groups"}
    assert kinds(find_leakage(replace(cut, split=part))) == {"shared_groups"}
    other = split_by_group(cut.y, cut.recording_id, random_state=2)
    assert kinds(find_leakage(asked, split=other)) == {"shared_groups"}


def test_one_table_with_many_recordings_is_not_a_copy_but_two_files_are():
    cut = split_in_groups(windows())
    names = np.unique(cut.recording_id).tolist()

    def of(paths):
        entries = [
            {"recording_id": name, "sources": [{"path": path, "sha256": digest}]}
            for name, (path, digest) in zip(names, paths, strict=True)
        ]
        return replace(cut, provenance={"recordings": entries})

    assert not find_leakage(of([("table.csv", "aa")] * 12)).findings
    part_of = dict(zip(cut.recording_id.tolist(), cut.split.tolist(), strict=True))
    for same in (True, False):
        other = next(n for n in names[1:] if (part_of[n] == part_of[names[0]]) == same)
        digests = [f"digest {name}" for name in names]
        digests[names.index(other)] = digests[0]
        report = find_leakage(of(list(zip(names, digests, strict=True))))
        (finding,) = report.findings
        assert finding.kind == "same_source"
        assert bool(report) != same
        assert finding.where["examples"][0]["other_recording_id"] == other
    joined = {"joined": [of(list(zip(names, digests, strict=True))).provenance]}
    assert find_leakage(replace(cut, provenance=joined))


def test_a_report_is_plain_and_fits_eighty_columns():
    names = [f"a long name of a recording/{i}" for i in range(12)]
    cut = windows(recording_id=np.repeat(names, 10))
    part = np.random.default_rng(0).choice(PARTS, 120)
    report = find_leakage(cut, split=part, sample_indices=np.arange(120))
    assert {"overlapping_windows", "shared_recordings", "samples_outside_train"} <= kinds(report)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["n_leaks"] == len(report.leaks)
    assert {row["kind"] for row in plain["findings"]} <= set(MESSAGES)
    assert max(len(line) for line in str(report).splitlines()) <= 80
    assert "fix:" in str(report)
    assert "120 windows" in str(report)


def test_checks_without_the_needed_information_are_listed_as_unchecked():
    cut = windows()
    report = find_leakage(WindowSet(cut.X), split=np.repeat(["train", "test"], 60))
    unchecked = {reason.split(":")[0] for reason in report.not_checked}
    assert unchecked == {"recordings and overlap in time", "shared groups", "near-duplicates"}
    report = find_leakage(replace(cut, start_s=None), split=np.repeat(["train", "test"], 60))
    assert any("no start_s" in reason for reason in report.not_checked)
    report = find_leakage(cut)
    assert not report
    assert any("windows have no split" in reason for reason in report.not_checked)


def test_windows_with_nan_are_left_out_and_reported():
    cut = split_in_groups(windows())
    scaler = fit_scaler(cut.part("train").X)
    X = cut.X.copy()
    X[np.flatnonzero(cut.split == "test")[:2]] = np.nan
    report = find_leakage(replace(cut, X=X), scaler=scaler)
    assert not report.findings
    assert any("2 windows, which contain NaN" in reason for reason in report.not_checked)


def test_arguments_that_do_not_fit_are_refused():
    cut = split_in_groups(windows())
    narrow = fit_scaler(cut.X[:, :, :1])
    for options, error, message in (
        ({"split": ["train"]}, WindowError, "split has 1 value, but X has 120 windows"),
        ({"split": np.full(120, "dev")}, WindowError, "'dev'"),
        ({"sample_indices": [0, 120]}, WindowError, "sample_indices contain 120"),
        ({"folds": [([0], [0.5])]}, WindowError, "test rows of fold 0"),
        ({"folds": []}, WindowError, "folds is empty"),
        ({"split": cut.split, "folds": [([0], [1])]}, ArgumentError, "both given"),
        ({"scaler": 3}, ArgumentError, "is not a Scaler"),
        ({"scaler": narrow}, ArgumentError, "scaler has 1 channels"),
    ):
        with pytest.raises(error, match=message):
            find_leakage(cut, **options)


def test_the_shipped_recordings_raise_no_alarm():
    steps = PreparePipeline(
        sample_rate_hz=SURFACES_SAMPLE_RATE_HZ, window_s=5.0, hop_s=2.5, random_state=0
    )
    cut = steps.prepare(load_surfaces()[::4])
    report = find_leakage(cut, scaler=steps.scaler_, sample_indices=steps.sample_indices_)
    assert report.findings == (), str(report)
    part = split_by_time(cut.recording_id, cut.start_s, 5.0)
    assert not find_leakage(cut, split=part)


@pytest.mark.slow
@needs_borealtc
@pytest.mark.parametrize(("files", "window_s"), [("pro_*.csv", 5.0), ("imu_*.csv.gz", 2.0)])
def test_real_recordings_raise_no_alarm_except_for_a_duplicate_run(files, window_s, tmp_path):
    """The files of SNOW run 12 are the beginning of the files of run 13, line by line."""
    path = tmp_path / "terrain.h5"
    more = {"files": files, "exclude": ["MIXED"], "time_column": "time", "window_s": window_s}
    prepare(BOREALTC, path, hop_s=window_s / 2, **more)
    twice = {files.split("_")[0].join(("SNOW/", f"_{number}")) for number in (12, 13)}
    cut = read_windows(path)
    in_parts = {str(p) for p in cut.split[np.isin(cut.recording_id, list(twice))]}
    assert bool(inspect_leakage(path)[0]) == (len(in_parts) > 1)
    for seed in range(4):
        split = split_by_group(cut.y, cut.groups, random_state=seed)
        apart = len(set(split[np.isin(cut.recording_id, list(twice))])) > 1
        report = find_leakage(cut, split=split)
        examples = [example for f in report.findings for example in f.where["examples"]]
        named = {value for shown in examples for key, value in shown.items() if "record" in key}
        assert named == (twice if apart else set()), str(report)
