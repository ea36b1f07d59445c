from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from fits import small_classifier, weights

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import (
    InputError,
    PreparedFileError,
    WindowError,
)
from sensorseq.io.prepared import write_windows
from sensorseq.prediction.preparation import seen_recordings
from sensorseq.preprocessing import ChannelScaler
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.preprocessing.scale import fit_scaler
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet

small = partial(small_classifier, hidden_size=6, max_epochs=4)


def make_recordings():
    rng = np.random.default_rng(0)
    t = np.arange(200) / 20
    return [
        Recording.evenly_sampled(
            np.stack([np.sin(2 * np.pi * f * t), np.cos(2 * np.pi * f * t)], axis=1)
            + 0.1 * rng.normal(size=(200, 2)),
            20.0,
            ["left", "right"],
            f"{label}_{i}",
            label=label,
        )
        for label, f in (("slow", 0.5), ("fast", 2.0))
        for i in range(5)
    ]


def with_digests(windows, digest_of):
    recordings = [
        {"recording_id": name, "sources": [{"path": f"{name}.csv", "sha256": digest_of(name)}]}
        for name in np.unique(windows.recording_id).tolist()
    ]
    return replace(windows, provenance={**windows.provenance, "recordings": recordings})


@pytest.fixture(scope="module")
def pipeline():
    pipeline = PreparePipeline(window_s=1.0)
    windows = pipeline.prepare(make_recordings())
    pipeline.windows_ = with_digests(windows, lambda name: f"digest of {name}")
    return pipeline


@pytest.fixture(scope="module")
def windows(pipeline):
    return pipeline.windows_


@pytest.fixture
def file(pipeline, tmp_path):
    path = tmp_path / "windows.h5"
    write_windows(
        path,
        pipeline.windows_,
        scaler=pipeline.scaler_.to_dict(),
        sample_indices=pipeline.sample_indices_,
    )
    return path


@pytest.mark.parametrize("garbage", [np.nan, -7.0])
def test_test_windows_change_no_bit_of_a_fit(windows, garbage):
    X, y = windows.X.copy(), windows.y.copy()
    X[windows.split == "test"], y[windows.split == "test"] = garbage, "slow"
    clean, spoilt = small().fit(windows), small().fit(replace(windows, X=X, y=y))
    assert weights(clean) == weights(spoilt)
    assert clean.scaler_.to_dict().keys() == spoilt.scaler_.to_dict().keys()
    for name, array in clean.scaler_.to_dict().items():
        np.testing.assert_array_equal(array, spoilt.scaler_.to_dict()[name])
    assert [row["val_loss"] for row in clean.history_] == [
        row["val_loss"] for row in spoilt.history_
    ]


def test_a_validation_window_changes_the_history_so_the_test_above_can_fail(windows):
    X = windows.X.copy()
    X[windows.split == "validation"] = -7.0
    first, second = small().fit(windows), small().fit(replace(windows, X=X))
    assert [r["val_loss"] for r in first.history_] != [r["val_loss"] for r in second.history_]
    assert [r["loss"] for r in first.history_] == [r["loss"] for r in second.history_]


def test_a_file_fits_as_its_windows_do(file, windows):
    from_file, from_memory = small().fit(file), small().fit(windows)
    assert weights(from_file) == weights(from_memory)
    assert from_file.preparation_ == from_memory.preparation_
    np.testing.assert_array_equal(from_file.predict_proba(file), from_memory.predict_proba(windows))
    assert from_file.score(str(file)) == from_memory.score(windows)


def test_a_balanced_file_trains_on_the_windows_it_kept(pipeline, windows, tmp_path):
    train = np.flatnonzero(windows.split == "train")
    kept = np.sort(np.concatenate([train[:5], train[-5:], train[-5:]]))
    path = tmp_path / "windows.h5"
    write_windows(path, windows, sample_indices=kept, scaler=pipeline.scaler_.to_dict())
    validation = np.flatnonzero(windows.split == "validation")
    classifier = small().fit(path)
    assert classifier.fluctuation_.n_train == len(kept)
    center = fit_scaler(windows.X[train]).channel_center
    np.testing.assert_array_equal(classifier.scaler_.channel_center, center)
    expected = small(scale="robust").fit(windows.take(np.concatenate([kept, validation])))
    assert weights(small(scale="robust").fit(path)) == weights(expected)


def test_the_model_remembers_preparation_and_the_recordings_it_learned_from(
    file, windows, tmp_path
):
    classifier = small().fit(file)
    kept = classifier.preparation_
    assert (kept["channels"], kept["sample_rate_hz"]) == (["left", "right"], 20.0)
    assert kept["n_timesteps"] == 20
    assert kept["configuration"]["window"]["window_s"] == 1.0
    learned_from = set(windows.recording_id[windows.split != "test"].tolist())
    assert kept["recordings"] == {name: [f"digest of {name}"] for name in learned_from}
    classifier.save(tmp_path / "model")
    again = SensorLSTMClassifier.load(tmp_path / "model")
    assert again.preparation_ == kept
    np.testing.assert_array_equal(again.predict_proba(windows), classifier.predict_proba(windows))


def test_recordings_are_recognized_by_content_or_else_by_name(windows):
    preparation = small(max_epochs=1).fit(windows).preparation_
    test = windows.part("test")
    learned_from = np.unique(windows.recording_id[windows.split != "test"]).tolist()
    assert seen_recordings(preparation, windows) == learned_from
    assert seen_recordings(preparation, test) == []
    assert seen_recordings(None, windows) == []
    renamed = with_digests(
        replace(windows, recording_id=np.char.add("copy_of_", windows.recording_id)),
        lambda name: f"digest of {name.removeprefix('copy_of_')}",
    )
    assert seen_recordings(preparation, renamed) == [f"copy_of_{name}" for name in learned_from]
    other_content = with_digests(windows, lambda name: f"other content of {name}")
    assert seen_recordings(preparation, other_content) == []
    nameless = replace(windows, provenance={})
    assert seen_recordings(preparation, nameless) == learned_from


def test_separate_validation_windows_count_as_seen_whatever_their_split(windows):
    train, test = replace(windows.part("train"), split=None), windows.part("test")
    preparation = small(max_epochs=1).fit(train, X_val=test).preparation_
    assert seen_recordings(preparation, test) == np.unique(test.recording_id).tolist()
    assert seen_recordings(preparation, windows.part("validation")) == []


def test_arrays_have_no_preparation(windows):
    classifier = small(max_epochs=1).fit(windows.X, windows.y, groups=windows.groups)
    assert classifier.preparation_ is None


def test_scaled_windows_are_refused_unless_they_are_not_scaled_again(windows):
    scaled = ChannelScaler().fit_transform(windows)
    with pytest.raises(InputError, match=r"X is already scaled .*scaled twice"):
        small().fit(scaled)
    classifier = small(max_epochs=1).fit(windows)
    for use in (classifier.predict, classifier.predict_proba, classifier.score):
        with pytest.raises(InputError, match="scaled twice"):
            use(scaled)
    with pytest.raises(InputError, match="X_val is already scaled"):
        small().fit(windows.part("train"), X_val=scaled.part("validation"))
    assert small(scale=None, max_epochs=1).fit(scaled).preparation_["scaled"] == "standard"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": ("right", "left")}, "The order differs"),
        ({"channels": ("left", "torque")}, "left, torque, but the model was trained on left, rig"),
        ({"sample_rate_hz": 25.0}, "sampled at 25 Hz, but the model was trained on 20 Hz"),
    ],
)
def test_windows_prepared_differently_are_refused(windows, change, message):
    classifier = small(max_epochs=1).fit(windows)
    with pytest.raises(InputError, match=message):
        classifier.predict(replace(windows, **change))


def test_unnamed_channels_are_read_in_order(windows):
    classifier = small(max_epochs=1).fit(windows)
    unnamed = replace(windows, channels=())
    np.testing.assert_array_equal(classifier.predict(unnamed), classifier.predict(windows))


def test_files_that_cannot_be_trained_on_are_refused_with_their_name(windows, tmp_path):
    path = tmp_path / "windows.h5"
    write_windows(path, replace(windows, y=None))
    with pytest.raises(WindowError, match=r"windows\.h5: the windows have no labels"):
        small().fit(path)
    write_windows(path, windows.part("test"))
    with pytest.raises(WindowError, match=r"windows\.h5: the split has no train part"):
        small().fit(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PreparedFileError, match=r"windows\.h5: has no checksums"):
        small().fit(path)


def test_a_warm_start_remembers_what_was_learned_before_and_refuses_other_channels():
    rng = np.random.default_rng(0)

    def windows_of(recording_id, channels):
        X = rng.normal(size=(24, 10, 2))
        fields = {"y": np.arange(24) % 2, "recording_id": [recording_id] * 24}
        return WindowSet(X, channels=channels, **fields)

    arguments = {"warm_start": True, "max_epochs": 1, "validation_fraction": 0}
    classifier = small(**arguments, early_stopping=False).fit(windows_of("first", ("a", "b")))
    classifier.fit(windows_of("second", ("a", "b")))
    assert set(classifier.preparation_["recordings"]) == {"first", "second"}
    classifier.fit(rng.normal(size=(24, 10, 2)), np.arange(24) % 2)
    assert set(classifier.preparation_["recordings"]) == {"first", "second"}
    with pytest.raises(InputError, match=r"X has the channels b, a.*The order differs"):
        classifier.fit(windows_of("third", ("b", "a")))


def test_validation_windows_of_other_channels_are_refused(windows):
    names = [f"other {i}" for i in range(len(windows.channels))]
    other = replace(windows.part("test"), channels=tuple(names))
    with pytest.raises(InputError, match="X_val has the channels other 0"):
        small(max_epochs=1).fit(windows.part("train"), X_val=other)
