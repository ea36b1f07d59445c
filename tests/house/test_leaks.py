"""Attempts to leak held-out windows into training are refused, are reported, or have no effect.

To add an attempt, write a function that makes the attempt. List the function in `REFUSED` with the
text of the error, in `REPORTED` with the kind of finding that `find_leakage` returns, or in
`WITHOUT_EFFECT` if nothing learned may depend on the windows that the attempt corrupts.
"""

import functools
import shutil
from dataclasses import replace

import numpy as np
import pytest
from fits import plain_classifier, weights
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

from sensorseq.errors import SensorseqError
from sensorseq.evaluation.evaluate import evaluate_folds, evaluate_test
from sensorseq.evaluation.inspect import inspect_leakage
from sensorseq.inspection.leakage import LeakageReport, find_leakage
from sensorseq.io.prepared import PreparedFile, read_windows, write_windows
from sensorseq.prepare import prepare
from sensorseq.preprocessing import ChannelScaler, ClassBalancer
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.preprocessing.scale import fit_scaler
from sensorseq.preprocessing.split import split_by_group, split_by_time
from sensorseq.preprocessing.splitters import BlockedTimeSplit, GroupBalancedKFold
from sensorseq.preprocessing.windowing.augment import Augmentation, augment_windows
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet

HOP_S, WINDOW_S = 0.5, 1.0


def recordings(n=12, seconds=9.0, seed=0):
    """Return recordings of two robots at 20 Hz; three of four recordings have the same class."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(n):
        label = "mud" if index % 4 == 3 else "ice"
        t = np.arange(int(20 * seconds)) / 20
        current = np.sin(2 * np.pi * (1 + index % 4) * t + rng.uniform(0, 6))
        values = np.stack([current + rng.normal(size=len(t)), rng.normal(size=len(t))], axis=1)
        names = ("current", "gyro")
        made.append(Recording.evenly_sampled(values, 20.0, names, f"run {index}", label=label))
    return made


@functools.cache
def unsplit(hop_s=HOP_S):
    """Return the windows that all attempts share, so none may write to them."""
    return PreparePipeline(window_s=WINDOW_S, hop_s=hop_s, split=None).prepare(recordings())


def split(windows=None, seed=0):
    windows = unsplit() if windows is None else windows
    return replace(windows, split=split_by_group(windows.y, windows.groups, random_state=seed))


def rows(windows, part):
    return np.flatnonzero(windows.split == part)


def name_of(value):
    return getattr(value, "__name__", "")


def model(**more):
    arguments = {"hidden_size": 4, "max_epochs": 3, "random_state": 0, "engine": "native"}
    return plain_classifier(**(arguments | more))


# Attempts that find_leakage reports


def undersample_before_the_split():
    return find_leakage(split(ClassBalancer(random_state=0).fit_resample(unsplit())[0]))


def oversample_then_split_by_group():
    balanced, _ = ClassBalancer("oversample", 0).fit_resample(unsplit())
    return find_leakage(split(balanced))


def oversample_then_fold_over_windows():
    balanced, _ = ClassBalancer("oversample", 0).fit_resample(unsplit(hop_s=WINDOW_S))
    folds = StratifiedKFold(4, shuffle=True, random_state=0).split(balanced.X, balanced.y)
    return find_leakage(balanced, folds=folds)


def oversample_arrays_then_fold_over_windows():
    given = unsplit(hop_s=WINDOW_S)
    X, y = ClassBalancer("oversample", 0).fit_resample(given.X, given.y)
    return find_leakage(WindowSet(X, y=y), folds=KFold(4, shuffle=True, random_state=0).split(X))


def balance_all_rows_beside_a_split():
    windows = split()
    balancer = ClassBalancer("oversample", 0)
    balancer.fit_resample(windows.X, windows.y)
    return find_leakage(windows, sample_indices=balancer.sample_indices_)


def augmented(windows):
    """Return each window and a changed copy."""
    made = windows.take(np.repeat(np.arange(len(windows)), 2))
    X = made.X.copy()
    X[1::2] = augment_windows(windows.X, Augmentation.standard(), 0)
    return replace(made, X=X)


def augment_then_split_by_group():
    return find_leakage(split(augmented(unsplit())))


def augment_then_fold_over_windows():
    windows = augmented(unsplit(hop_s=WINDOW_S))
    folds = KFold(4, shuffle=True, random_state=0).split(windows.X)
    return find_leakage(windows, folds=folds)


def augmented_copies_of_training_windows_in_validation():
    windows = split()
    X = windows.X.copy()
    validation = rows(windows, "validation")
    copied = rows(windows, "train")[: len(validation)]
    X[validation] = augment_windows(X[copied], Augmentation(jitter=0.05, scaling=0.1), 0)
    return find_leakage(replace(windows, X=X))


def _with_a_test_recording_copied_from_train(change):
    """Copy a training recording into the test part under a different name."""
    windows = split()
    name = windows.recording_id[rows(windows, "train")[0]]
    again = windows.take(windows.recording_id == name)
    new = np.full(len(again), "another run")
    changed = {"X": change(again.X), "split": np.full(len(again), "test")}
    again = replace(again, recording_id=new, groups=new, **changed)
    return find_leakage(WindowSet.concatenate([windows, again]))


def a_recording_under_another_name_in_test():
    return _with_a_test_recording_copied_from_train(lambda X: X)


def jittered_near_duplicates_in_test():
    noise = np.random.default_rng(0).normal(0, 0.05, (17, 20, 2))
    return _with_a_test_recording_copied_from_train(lambda X: X + noise.astype(np.float32))


def a_rescaled_recording_in_test():
    return _with_a_test_recording_copied_from_train(lambda X: X * np.float32([1000, 0.1]) + 3)


def fit_the_scaler_on_all_windows():
    windows = split()
    return find_leakage(windows, scaler=fit_scaler(windows.X, windows.lengths))


def fit_the_scaler_on_train_and_validation():
    windows = split()
    fitted = ChannelScaler("robust").fit(windows.X[windows.split != "test"])
    return find_leakage(windows, scaler=fitted)


def scale_all_windows_then_split():
    return find_leakage(split(ChannelScaler().fit_transform(unsplit())))


def fold_randomly_over_overlapping_windows():
    windows = unsplit()
    return find_leakage(windows, folds=KFold(5, shuffle=True, random_state=0).split(windows.X))


def fold_without_groups_over_windows_side_by_side():
    windows = unsplit(hop_s=WINDOW_S)
    return find_leakage(windows, folds=StratifiedKFold(5).split(windows.X, windows.y))


def fold_by_recording_where_robots_are_groups():
    windows = unsplit()
    robots = np.array([f"robot {int(name[4:]) // 3}" for name in windows.recording_id])
    folds = GroupBalancedKFold(3, by="recording").split(replace(windows, groups=robots))
    return find_leakage(replace(windows, groups=robots), folds=folds)


def train_on_rows_of_the_test_fold():
    windows = unsplit()
    ((train, test), *_) = GroupKFold(3).split(windows.X, windows.y, windows.groups)
    return find_leakage(windows, folds=[(np.append(train, test[:5]), test)])


def put_a_recording_in_two_parts():
    windows = split()
    parts = windows.split.copy()
    first = np.flatnonzero(windows.recording_id == "run 0")
    parts[first[:8]], parts[first[8:]] = "train", "test"
    return find_leakage(replace(windows, split=parts))


def put_a_group_in_two_parts():
    windows = split()
    days = np.where(windows.split == "validation", "monday", windows.groups)
    days[rows(windows, "test")[:3]] = "monday"
    return find_leakage(replace(windows, groups=days))


def split_by_time_without_an_embargo():
    windows = unsplit()
    part = split_by_time(windows.recording_id, windows.start_s, WINDOW_S, embargo_s=0.0)
    return find_leakage(windows, split=part)


def fold_by_time_without_an_embargo():
    windows = unsplit()
    return find_leakage(windows, folds=BlockedTimeSplit(3, embargo_s=0.0).split(windows))


def _write_logs(folder):
    for number, recording in enumerate(recordings(16)):
        table = np.column_stack([recording.timestamps_s, recording.values])
        file = folder / str(recording.label) / f"run_{number:02d}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(file, table, "%.4f", ",", header="time,current,gyro", comments="")


def _prepare_until_something_leaks(folder):
    for seed in range(20):  # with one of the seeds, two recordings end up in different parts
        prepare(folder, folder / "w.h5", window_s=WINDOW_S, random_state=seed)
        report = inspect_leakage(folder / "w.h5")[0]
        if report:
            break
    return report


def a_piece_of_a_recording_under_another_name(tmp_path):
    """Copy a log without its first seven samples, with the clock reset."""
    _write_logs(tmp_path)
    head, *lines = (tmp_path / "ice/run_00.csv").read_text().splitlines()
    stamps, values = zip(*(line.split(",", 1) for line in lines), strict=True)
    piece = [",".join(row) for row in zip(stamps, values[7:], strict=False)]
    (tmp_path / "ice/run_99.csv").write_text("\n".join([head, *piece]) + "\n")
    return _prepare_until_something_leaks(tmp_path)


def one_file_under_two_names(tmp_path):
    _write_logs(tmp_path)
    shutil.copy(tmp_path / "ice/run_00.csv", tmp_path / "ice/run_99.csv")
    return _prepare_until_something_leaks(tmp_path)


REPORTED = [
    (undersample_before_the_split, "balanced_before_split"),
    (oversample_then_split_by_group, "held_out_copies"),
    (oversample_then_fold_over_windows, "overlapping_windows"),
    (oversample_arrays_then_fold_over_windows, "identical_windows"),
    (balance_all_rows_beside_a_split, "samples_outside_train"),
    (augment_then_split_by_group, "held_out_copies"),
    (augment_then_fold_over_windows, "overlapping_windows"),
    (augmented_copies_of_training_windows_in_validation, "near_duplicates"),
    (a_recording_under_another_name_in_test, "identical_windows"),
    (jittered_near_duplicates_in_test, "near_duplicates"),
    (a_rescaled_recording_in_test, "near_duplicates"),
    (fit_the_scaler_on_all_windows, "scaler_fit_beyond_train"),
    (fit_the_scaler_on_train_and_validation, "scaler_fit_beyond_train"),
    (scale_all_windows_then_split, "scaler_fit_beyond_train"),
    (fold_randomly_over_overlapping_windows, "overlapping_windows"),
    (fold_without_groups_over_windows_side_by_side, "shared_recordings"),
    (fold_by_recording_where_robots_are_groups, "shared_groups"),
    (train_on_rows_of_the_test_fold, "rows_in_two_parts"),
    (put_a_recording_in_two_parts, "shared_recordings"),
    (put_a_group_in_two_parts, "shared_groups"),
    (split_by_time_without_an_embargo, "shared_recordings"),
    (fold_by_time_without_an_embargo, "shared_recordings"),
    (one_file_under_two_names, "same_source"),
    (a_piece_of_a_recording_under_another_name, "shared_stretches"),
]


@pytest.mark.parametrize(("attempt", "kind"), REPORTED, ids=name_of)
def test_the_attempt_is_reported(attempt, kind, request):
    arguments = attempt.__code__.co_varnames[: attempt.__code__.co_argcount]
    report = attempt(*(request.getfixturevalue(name) for name in arguments))
    assert isinstance(report, LeakageReport)
    assert kind in {finding.kind for finding in report.leaks}, str(report)


def test_without_an_attempt_nothing_is_reported():
    steps = PreparePipeline(window_s=WINDOW_S, hop_s=HOP_S, balance="oversample")
    windows = steps.prepare(recordings())
    honest = {"scaler": steps.scaler_, "sample_indices": steps.sample_indices_}
    assert find_leakage(windows, **honest).findings == ()
    assert find_leakage(ClassBalancer("oversample", 0).fit_resample(windows)[0]).findings == ()
    assert find_leakage(ChannelScaler().fit_transform(windows)).findings == ()
    folds = GroupBalancedKFold(3).split(windows)
    assert find_leakage(windows, folds=folds).findings == ()


# Attempts that are refused with an error


def prepare_balanced_without_a_split():
    PreparePipeline(window_s=WINDOW_S, split=None, balance="oversample")


def balance_the_test_part():
    ClassBalancer().fit_resample(split().part("test"))


def scale_twice():
    windows = ChannelScaler().fit_transform(split())
    ChannelScaler().fit(windows)


def fit_on_scaled_windows_with_a_scaling():
    model().fit(ChannelScaler().fit_transform(split()))


def fit_with_a_group_in_two_parts():
    windows = split()
    parts = windows.split.copy()
    parts[rows(windows, "train")[0]] = "test"
    model().fit(replace(windows, split=parts))


def _split_by(by, embargo_s=None):
    steps = PreparePipeline(window_s=WINDOW_S, hop_s=HOP_S, split_by=by, embargo_s=embargo_s)
    windows = steps.prepare(recordings(seconds=20.0))
    assert model().fit(windows).n_iter_ == 3  # the unchanged file is accepted
    return windows


def fit_on_a_split_by_time_with_other_parts():
    windows = _split_by("time", embargo_s=0.0)
    parts = np.random.default_rng(0).permutation(windows.split)
    model().fit(replace(windows, split=parts))


def fit_on_a_split_by_recording_with_other_parts():
    windows = _split_by("recording")
    parts = np.random.default_rng(0).permutation(windows.split)
    model().fit(replace(windows, split=parts))


def evaluate_on_another_time_of_the_same_recordings():
    windows = _split_by("time")
    evaluate_test(model().fit(windows), windows, baselines=())


def give_validation_windows_beside_a_split():
    windows = split()
    test = windows.part("test")
    model().fit(windows, X_val=test.X, y_val=test.y)


def evaluate_on_recordings_that_were_learned_from():
    windows = split()
    fitted = model().fit(windows)
    evaluate_test(fitted, replace(windows, split=split(windows, seed=5).split), baselines=())


def evaluate_by_folds_without_groups():
    windows = replace(unsplit(), recording_id=None)
    evaluate_folds(model(), replace(windows, groups=None), 3)


def fold_without_groups():
    windows = unsplit()
    next(GroupBalancedKFold(3).split(windows.X, windows.y))


def fold_by_time_without_times():
    windows = unsplit()
    next(BlockedTimeSplit(3).split(windows.X, windows.y, windows.recording_id))


def more_folds_than_groups_of_a_class():
    next(GroupBalancedKFold(5).split(unsplit()))


REFUSED = [
    (prepare_balanced_without_a_split, "only training windows may be balanced"),
    (balance_the_test_part, "at least one window"),
    (scale_twice, "already scaled"),
    (fit_on_scaled_windows_with_a_scaling, "would be scaled twice"),
    (fit_with_a_group_in_two_parts, "in train and test"),
    (fit_on_a_split_by_time_with_other_parts, "overlaps a "),
    (fit_on_a_split_by_recording_with_other_parts, "in train and"),
    (evaluate_on_another_time_of_the_same_recordings, "These windows are split by time"),
    (give_validation_windows_beside_a_split, "so X_val cannot be given"),
    (evaluate_on_recordings_that_were_learned_from, "the model was trained on"),
    (evaluate_by_folds_without_groups, "would leak"),
    (fold_without_groups, "groups is missing"),
    (fold_by_time_without_times, "needs start_s"),
    (more_folds_than_groups_of_a_class, "too few for n_splits=5"),
]


@pytest.mark.parametrize(("attempt", "words"), REFUSED, ids=name_of)
def test_the_attempt_is_refused(attempt, words):
    with pytest.raises(SensorseqError, match=words):
        attempt()


# Attempts without effect: everything learned has the same bits


def spoilt(part, garbage):
    """Return the windows of `split`, with garbage in one part; None leaves all parts clean."""
    windows = split()
    X = windows.X.copy()
    noise = np.random.default_rng(1).normal(5, 9, X.shape).astype(np.float32)
    of_part = rows(windows, part)
    X[of_part] = noise[of_part] if garbage == "noise" else garbage
    return replace(windows, X=X)


def learned_from_a_prepared_file(part, garbage, tmp_path):
    """Fit with early stopping and keep the best epoch; no step may use test windows."""
    scaler = fit_scaler(split().part("train").X).to_dict()
    write_windows(tmp_path / "w.h5", spoilt(part, garbage), scaler=scaler)
    fitted = model(early_stopping=True, patience=1, max_epochs=6).fit(tmp_path / "w.h5")
    return weights(fitted), fitted.history_["val_loss"].tobytes(), fitted.best_epoch_


def learned_from_a_balanced_file(part, garbage, tmp_path):
    steps = PreparePipeline(window_s=WINDOW_S, hop_s=HOP_S, balance="oversample")
    windows = steps.prepare(recordings())
    of_part = rows(windows, part)
    windows.X[of_part] = np.float32(7) if garbage == "noise" else garbage
    file, chosen = tmp_path / "w.h5", steps.sample_indices_
    assert len(np.unique(chosen)) < len(chosen)
    write_windows(file, windows, scaler=steps.scaler_.to_dict(), sample_indices=chosen)
    return weights(model(early_stopping=True, max_epochs=2).fit(file))


def learned_from_a_window_set(part, garbage, tmp_path):
    fitted = model(early_stopping=True, patience=1, max_epochs=6).fit(spoilt(part, garbage))
    scaler = [array.tobytes() for array in fitted.scaler_.to_dict().values()]
    return weights(fitted), scaler, fitted.best_score_


def learned_by_the_steps(part, garbage, tmp_path):
    windows = spoilt(part, garbage)
    balancer = ClassBalancer("oversample", 0)
    return (
        ChannelScaler("robust").fit(windows).scaler_.channel_center.tobytes(),
        balancer.fit_resample(windows)[0].part("train").X.tobytes(),
    )


def learned_by_the_pipeline(part, garbage, tmp_path):
    """Put noise or 1e30 in recordings before windows are cut; NaN would leave no windows."""
    windows = split()
    names = set(windows.recording_id[rows(windows, part)].tolist())
    given = recordings()
    for recording in given:
        if recording.recording_id in names:
            noise = np.random.default_rng(1).normal(5, 9, recording.values.shape)
            recording.values[:] = 1e30 if garbage == 1e30 else noise
    options = {"balance": "undersample", "scale": "robust", "random_state": 0}
    steps = PreparePipeline(window_s=WINDOW_S, hop_s=HOP_S, **options)
    steps.prepare(given)
    scaler, chosen = steps.scaler_, steps.sample_indices_
    return scaler.channel_center.tobytes(), scaler.channel_scale.tobytes(), chosen.tobytes()


WITHOUT_EFFECT = [
    learned_from_a_prepared_file,
    learned_from_a_balanced_file,
    learned_from_a_window_set,
    learned_by_the_steps,
    learned_by_the_pipeline,
]


@pytest.fixture(scope="module")
def without_garbage(tmp_path_factory):
    """Return the values learned from the clean windows, computed once for all kinds of garbage."""
    return functools.cache(lambda learned: learned(None, "noise", tmp_path_factory.mktemp("clean")))


@pytest.mark.parametrize("garbage", [np.nan, 1e30, "noise"])
@pytest.mark.parametrize("learned", WITHOUT_EFFECT, ids=name_of)
def test_garbage_in_every_test_window_changes_no_bit_of_what_is_learned(
    learned, garbage, tmp_path, without_garbage
):
    assert learned("test", garbage, tmp_path) == without_garbage(learned)


@pytest.mark.parametrize("learned", WITHOUT_EFFECT, ids=name_of)
def test_garbage_in_training_windows_changes_what_is_learned(learned, tmp_path, without_garbage):
    assert learned("train", "noise", tmp_path) != without_garbage(learned)


def test_the_command_reports_a_prepared_file_that_leaks(tmp_path, capsys):
    from sensorseq.cli import run
    from sensorseq.cli.app import GATE

    windows = split()
    file = tmp_path / "clean.h5"
    write_windows(file, windows, scaler=fit_scaler(windows.part("train").X).to_dict())
    assert run(["inspect", str(file), "--leakage"]) == 0
    assert "no leak found" in capsys.readouterr().out
    file = tmp_path / "leaking.h5"
    parts = np.random.default_rng(0).choice(["train", "test"], len(windows))
    flat = windows.X.copy()
    flat[:, :, 1] = 0.5
    y = np.where(windows.groups == windows.groups[0], "rare", windows.y)
    write_windows(file, replace(windows, split=parts, X=flat, y=y))
    assert run(["inspect", str(file), "--leakage"]) == GATE == 10
    text = capsys.readouterr().out
    assert "overlap" in text
    assert "data: channel 1 (gyro) of 2 channels never changes in" in " ".join(text.split())
    assert max(len(line) for line in text.splitlines()) <= 80
    assert run(["inspect", str(file), "--leakage", "--json"]) == GATE
    shown = capsys.readouterr().out
    assert '"kind": "overlapping_windows"' in shown
    assert '"kind": "constant_channels"' in shown
    assert '"kind": "single_group"' in shown
    assert run(["inspect", str(file)]) == 3
    assert "--leakage" in capsys.readouterr().err
    assert run(["inspect", str(file), "--leakage", "--files", "x"]) == 2
    assert run(["inspect", str(tmp_path), "--leakage"]) == 3
    with PreparedFile(file) as prepared:
        assert len(prepared) == len(read_windows(file))
