import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import sklearn
from fits import small_classifier, watched

from sensorseq.errors import ArgumentError, InputError, SplitError
from sensorseq.evaluation.comparison_text import format_comparison
from sensorseq.evaluation.evaluate import evaluate_folds, evaluate_test
from sensorseq.evaluation.metrics import METRICS
from sensorseq.preprocessing.split import split_by_group
from sensorseq.windows import WindowSet

small = partial(small_classifier, hidden_size=12, max_epochs=25)


def make_windows(n_recordings=40, n_windows=12, *, label_of, seed=0):
    """Return recordings that a network can tell apart by their own level and frequency."""
    rng = np.random.default_rng(seed)
    ids = np.repeat([f"r{i:02d}" for i in range(n_recordings)], n_windows)
    level, frequency = 0.4 * rng.normal(size=n_recordings), rng.uniform(0.1, 1.2, n_recordings)
    labels = np.array([label_of(i) for i in range(n_recordings)])
    # Half of the classes have a high frequency, which generalizes to all recordings.
    frequency += 1.5 * (np.arange(n_recordings) % 2)
    phase = rng.uniform(0, 6, (n_recordings, n_windows, 1))
    t = np.arange(24)
    X = np.sin(frequency[:, None, None] * t + phase) + level[:, None, None]
    X = X + 0.05 * rng.normal(size=X.shape)
    windows = WindowSet(
        X.reshape(-1, 24, 1), y=np.repeat(labels, n_windows), recording_id=ids, sample_rate_hz=20.0
    )
    split = split_by_group(windows.y, windows.groups, (0.5, 0.2, 0.3), 0)
    return replace(windows, split=split)


@pytest.fixture(scope="module")
def honest():
    return make_windows(label_of=lambda i: ["calm", "rough"][i % 2])


@pytest.fixture(scope="module")
def shuffled():
    labels = np.random.default_rng(3).permutation(np.arange(40) % 2)
    return make_windows(label_of=lambda i: ["calm", "rough"][labels[i]])


def test_a_pattern_that_generalizes_to_new_recordings_is_learned(honest):
    comparison = evaluate_test(small().fit(honest), honest)
    assert comparison.model.scores["accuracy"] > 0.9
    assert comparison.model.scores["recording_vote"] > 0.9
    assert comparison.baselines["majority"].scores["accuracy"] < 0.6
    assert comparison.model.n_windows == (honest.split == "test").sum()


@pytest.mark.trains
def test_labels_shuffled_by_recording_fall_to_chance(shuffled):
    """Only recordings can be memorized, so a score above chance would mean a leak between parts."""
    comparison = evaluate_test(small().fit(shuffled), shuffled)
    for scored in (comparison.model, *comparison.baselines.values()):
        low, high = scored.intervals["accuracy"] if scored.n_groups else (0, 1)
        assert scored.scores["balanced_accuracy"] < 0.7
        assert not low > 0.5, (low, high)
    folds = evaluate_folds(small(), shuffled, 4, baselines=("gradient_boosting",))
    assert folds.model.scores["balanced_accuracy"] < 0.65
    assert folds.baselines["gradient_boosting"].scores["balanced_accuracy"] < 0.65


def test_the_same_shuffled_labels_look_learned_when_windows_leak(shuffled):
    """The test above can fail: if windows are split instead of recordings, labels are learned."""
    rng = np.random.default_rng(0)
    leaky = rng.choice(["train", "validation", "test"], len(shuffled), p=[0.6, 0.2, 0.2])
    leaking = replace(shuffled, split=leaky, groups=np.arange(len(shuffled)), recording_id=None)
    model = small(hidden_size=24, max_epochs=60, patience=60).fit(leaking)
    assert evaluate_test(model, leaking, baselines=()).model.scores["balanced_accuracy"] > 0.85


def test_recordings_the_model_has_seen_are_refused_unless_asked_for(honest):
    model = small(max_epochs=2).fit(honest)
    everything = replace(honest, split=np.full(len(honest), "test"))
    with pytest.raises(InputError, match=r"trained on 28 of the 40 test recordings .*r0"):
        evaluate_test(model, everything)
    comparison = evaluate_test(model, everything, include_seen=True)
    assert len(comparison.seen) == 28
    assert "inflated" in comparison.notes[0]
    assert "never saw" not in comparison.protocol


def test_a_file_without_a_split_is_scored_completely_and_without_baselines(honest):
    model = small(max_epochs=2).fit(honest)
    new = replace(honest.part("test"), split=None)
    comparison = evaluate_test(model, new)
    assert comparison.baselines == {}
    assert any("no baselines" in note for note in comparison.notes)
    expected = evaluate_test(model, honest, baselines=()).model.confusion_matrix
    np.testing.assert_array_equal(comparison.model.confusion_matrix, expected)


def test_a_model_of_arrays_cannot_list_its_training_recordings(honest):
    train = honest.part("train")
    model = small(max_epochs=1).fit(train.X, train.y, groups=train.groups)
    comparison = evaluate_test(model, honest, baselines=())
    assert "could not be checked" in comparison.notes[-1]
    assert "never saw" not in comparison.protocol


def test_folds_predict_every_window_once_and_are_reproducible(honest):
    few = honest.take(np.flatnonzero(np.char.find(honest.recording_id, "r0") == 0))
    arguments = {"baselines": ("majority", "ridge")}
    first = evaluate_folds(small(max_epochs=2), few, 3, **arguments)
    second = evaluate_folds(small(max_epochs=2), few, 3, **arguments)
    assert first.to_dict() == second.to_dict()
    assert first.model.n_windows == len(few)
    assert len(first.fold_accuracy) == 3
    other = evaluate_folds(small(max_epochs=2), few, 3, seed=1, baselines=())
    assert other.fold_accuracy != first.fold_accuracy


def test_folds_keep_recordings_whole(honest):
    kind, seen = watched()
    evaluate_folds(small(kind=kind, max_epochs=1), honest, 5, baselines=())
    assert len(seen) == 5
    all_ids = set(honest.recording_id.tolist())
    held_out = [all_ids - set(train.recording_id.tolist()) for train, _ in seen]
    assert set().union(*held_out) == all_ids
    assert sum(len(ids) for ids in held_out) == len(all_ids)
    # the estimator holds out its own validation windows
    assert all(train.split is None for train, _ in seen)


def test_the_result_has_plain_values_and_the_scores_at_the_top(honest):
    plain = evaluate_test(small(max_epochs=2).fit(honest), honest).to_dict()
    json.dumps(plain, allow_nan=False)
    assert {*METRICS, "confusion_matrix", "classes", "recordings", "baselines"} <= plain.keys()
    assert plain["classes"] == ["calm", "rough"]
    difference = plain["baselines"]["ridge"]["difference"]["accuracy"]
    assert difference["value"] == pytest.approx(
        plain["accuracy"] - plain["baselines"]["ridge"]["accuracy"]
    )
    low, high = difference["interval"]
    assert low <= difference["value"] <= high


def test_windows_that_cannot_be_evaluated_are_reported(honest):
    model = small(max_epochs=1).fit(honest)
    for windows, message in (
        (replace(honest, y=None), "no labels"),
        (honest.take(honest.split != "test"), "no test part"),
        (honest.take(np.empty(0, np.int64)), "no test part"),
        (replace(honest, y=np.where(honest.y == "calm", "Calm", honest.y)), "'Calm' .* 'calm'"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_test(model, windows)
    with pytest.raises(SplitError, match=r"class 'calm' has 20 groups.*--folds 20"):
        evaluate_folds(model, honest, 21)
    with pytest.raises(ArgumentError, match="at least 2"):
        evaluate_folds(model, honest, 1)


def test_without_a_test_part_recordings_from_elsewhere_are_scored(honest):
    model = small(max_epochs=1).fit(honest)
    test = honest.part("test")
    elsewhere = replace(test, split=np.full(len(test), "train"))
    comparison = evaluate_test(model, elsewhere)
    assert comparison.model.to_dict() == evaluate_test(model, test).model.to_dict()
    assert not comparison.baselines  # baselines would be trained on the windows that are scored


def test_unbalanced_test_parts_are_pointed_out(honest):
    model = small(max_epochs=1).fit(honest)
    test = honest.part("test")
    ids = np.unique(test.recording_id)
    few = [np.flatnonzero(test.recording_id == name)[:3] for name in ids[1:4]]
    rows = np.concatenate([np.flatnonzero(test.recording_id == ids[0]), *few])
    notes = " ".join(evaluate_test(model, test.take(rows), baselines=()).notes)
    assert "these scores come from only 4 groups" in notes
    assert f"recording {ids[0]} alone has" in notes


@pytest.mark.skipif(
    tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8),
    reason="before scikit-learn 1.8, other folds are drawn, and one has a single class",
)
def test_a_recording_with_most_windows_of_its_class_is_named(honest):
    ids = honest.recording_id
    few = np.isin(ids, ["r00", "r01", "r02", "r03", "r04", "r05"])
    rows = np.flatnonzero(few & ((np.arange(len(ids)) % 12 < 3) | (ids == "r02")))
    windows = replace(honest.take(rows), split=None)
    comparison = evaluate_folds(small(max_epochs=1), windows, 3, baselines=())
    note = (
        "r02 has 67 % of the windows of calm, so the fold that is tested on this recording is"
        " trained on few windows of calm."
    )
    assert note in comparison.notes
    assert note in " ".join(format_comparison(comparison).split())
    (named,) = comparison.to_dict()["dominant_recordings"]
    assert named == {"recording_id": "r02", "label": "calm", "share": pytest.approx(12 / 18)}
    model = small(max_epochs=1).fit(replace(honest, split=None))
    test = evaluate_test(model, windows, include_seen=True)
    assert any("r02 has 67 % of the test windows of calm" in note for note in test.notes)
    even = replace(honest.take(np.flatnonzero(few)), split=None)
    assert evaluate_folds(small(max_epochs=1), even, 3, baselines=()).dominant == ()
    two = windows.take(np.flatnonzero(np.isin(windows.recording_id, ["r00", "r02", "r01", "r03"])))
    all_train = small(max_epochs=1, validation_fraction=0.0, early_stopping=False)
    # of two recordings of a class, one always has at least half of the windows
    assert evaluate_folds(all_train, two, 2, baselines=()).dominant == ()
