"""If a second column repeats the label, prepare refuses it, and other commands name it."""

import numpy as np
import pytest
from commands import said
from fits import plain_classifier
from tables import write_table

from sensorseq import PreparePipeline, Recording, read_recordings
from sensorseq.errors import WindowError
from sensorseq.inspection.leakage import find_leakage
from sensorseq.io.prepared import read_windows
from sensorseq.prepare import prepare
from sensorseq.recording import LabelSpan

CLASSES = ("carpet", "gravel", "tile")


def columns(k, seed, n=400):
    """Noise, with the class as a number in one column and one-hot in three more columns."""
    rng = np.random.default_rng(seed)
    made = {"time": np.arange(n) / 50, "ax": rng.normal(size=n), "ay": rng.normal(size=n)}
    hot = {f"is_{name}": np.full(n, at == k, np.int64) for at, name in enumerate(CLASSES)}
    return {**made, "class_id": np.full(n, k + 1), **hot}


def write_folder(root, n=3, names=("ax", "ay", "class_id")):
    for k, label in enumerate(CLASSES):
        (root / label).mkdir(parents=True)
        for i in range(n):
            every = columns(k, 10 * k + i)
            kept = {name: every[name] for name in ("time", *names)}
            write_table(root / label / f"r{i}.csv", kept)
    return root


def changing(seed, n=2400, late=0):
    """A recording whose class changes every 8 s, with the class in a column that may be delayed."""
    rng = np.random.default_rng(seed)
    k = (seed + np.arange(n) // 400) % 2
    values = np.column_stack([rng.normal(size=(n, 2)), np.roll(k, late)])
    spans = [LabelSpan(8 * i, 8 * i + 8, ("low", "high")[k[400 * i]]) for i in range(n // 400)]
    names = ("ax", "ay", "mode")
    return Recording.evenly_sampled(values, 50, names, f"r{seed}", label_spans=spans)


def test_a_column_with_the_class_is_refused_and_both_remedies_work(tmp_path):
    logs, file = write_folder(tmp_path / "logs"), tmp_path / "w.h5"
    words = ("prepare", logs, "--window-s", 2, "-o", file)
    code, _, error = said(*words)
    assert code == 3
    assert not file.exists()
    assert "channel 'class_id' is constant within windows, and its value alone" in error
    assert "To leave it out, name the others with --channels ax,ay; to keep it, use" in error
    assert "--allow-constant" in error
    code, _, error = said(*words, "--channels", "ax,ay")
    assert (code, error) == (0, "")
    assert said("inspect", file, "--leakage")[0] == 0
    code, _, error = said(*words, "--allow-constant")
    assert (code, error) == (0, "")
    code, out, _ = said("inspect", file, "--leakage")
    assert code == 10
    assert "leak: channel class_id is constant within windows" in " ".join(out.split())


def test_one_hot_columns_are_named_together(tmp_path):
    names = ("is_carpet", "ax", "is_gravel", "is_tile")
    logs = write_folder(tmp_path / "logs", names=names)
    channels = (
        "'is_carpet', 'is_gravel', 'is_tile' are constant .* leave them out, .* channels=\\['ax'\\]"
    )
    for options in (
        {},
        {"split": "none"},
        {"split_by": "time", "window_s": 0.5},
        {"sample_rate_hz": 33.0},
    ):
        with pytest.raises(WindowError, match=channels):
            prepare(logs, tmp_path / "w.h5", **{"window_s": 2, **options})
    with pytest.raises(WindowError, match=channels):
        PreparePipeline(window_s=2).prepare(read_recordings(logs))


@pytest.mark.parametrize(("rate", "late"), [(None, 0), (20.0, 5), (120.0, 5)])
def test_a_column_that_changes_with_the_label_is_refused(rate, late):
    recordings = [changing(seed, late=late) for seed in range(6)]
    pipeline = PreparePipeline(window_s=2, sample_rate_hz=rate)
    with pytest.raises(WindowError, match="'mode' is constant"):
        pipeline.prepare(recordings)
    windows = pipeline.prepare(recordings, allow_constant=True)
    (leak,) = find_leakage(windows).leaks
    assert (leak.kind, leak.where["channels"]) == ("label_channels", ["mode"])
    assert not find_leakage(pipeline.prepare([one.select(["ax", "ay"]) for one in recordings]))


def test_with_one_recording_of_each_class_it_is_a_warning():
    recordings = [
        Recording.evenly_sampled(
            np.column_stack([np.random.default_rng(k).normal(size=4000), np.full(4000, k)]),
            *(50, ("ax", "id"), f"r{k}"),
            label=name,
        )
        for k, name in enumerate(CLASSES)
    ]
    pipeline = PreparePipeline(window_s=2, split_by="time")
    with pytest.warns(UserWarning, match=r"'id' is constant .* only one recording, .* channels="):
        windows = pipeline.prepare(recordings)
    report = find_leakage(windows)
    assert "label_channels" in {f.kind for f in report.findings if f.severity == "warning"}
    assert not report


def test_each_of_several_sensors_is_checked(tmp_path):
    for k, label in enumerate(CLASSES):
        (tmp_path / "logs" / label).mkdir(parents=True)
        for i in range(4):
            every = columns(k, 10 * k + i)
            for sensor, names in (("imu", ("ax", "class_id")), ("motor", ("ay",))):
                kept = {name: every[name] for name in ("time", *names)}
                write_table(tmp_path / "logs" / label / f"{sensor}_{i}.csv", kept)
    options = {"pair": "{sensor}_{recording}.csv", "native_rates": True, "window_s": 2}
    with pytest.raises(WindowError, match=r"'class_id' is constant .*remove the column") as error:
        prepare(tmp_path / "logs", tmp_path / "w.h5", **options)
    assert "in the recordings of sensor 'imu'" in "".join(error.value.__notes__)
    prepare(tmp_path / "logs", tmp_path / "w.h5", allow_constant=True, **options)


@pytest.mark.trains
def test_fit_warns_and_the_leak_is_found(tmp_path):
    logs = write_folder(tmp_path / "logs")
    prepare(logs, tmp_path / "w.h5", window_s=2, allow_constant=True)
    windows = read_windows(tmp_path / "w.h5")
    model = plain_classifier(hidden_size=4, max_epochs=1)
    for given in ((windows,), (tmp_path / "w.h5",), (windows.X, windows.y)):
        with pytest.warns(UserWarning, match=r"channel (class_id|2) is constant within windows"):
            model.fit(*given)
    (leak,) = find_leakage(windows).leaks
    assert (leak.kind, leak.count) == ("label_channels", 1)


def test_the_remedy_works_if_names_have_brackets_or_steps_change_them(tmp_path):
    logs, rng = tmp_path / "logs", np.random.default_rng(0)
    for k, label in enumerate(CLASSES[:2]):
        (logs / label).mkdir(parents=True)
        for i in range(4):
            arrays = {"imu": rng.normal(size=(400, 2)), "mode": np.full(400, k, bool)}
            np.savez(logs / label / f"r{i}.npz", time=np.arange(400) / 50, **arrays)
    words = ("prepare", logs, "--window-s", 2, "-o", tmp_path / "w.h5")
    code, _, error = said(*words)
    assert code == 3
    assert "'mode' is constant" in error
    assert "name the others with --channels; to keep it" in error
    assert said(*words, "--channels", "imu[0],imu[1]")[0] == 0
    recordings = read_recordings(logs)
    steps = [{"kind": "difference", "channels": ["imu[0]"]}]
    with pytest.raises(WindowError, match="name the others with `channels`; to keep"):
        PreparePipeline(window_s=2, steps=steps).prepare(recordings)
