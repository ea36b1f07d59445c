import csv
import gzip
import importlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from simulate import SURFACES, write_surfaces

from sensorseq import datasets, read_recordings
from sensorseq.errors import EnvironmentProblemError

DATA = Path(__file__).resolve().parents[2] / "data"


@pytest.fixture(scope="module")
def recordings():
    return datasets.load_surfaces()


def test_every_robot_has_two_recordings_on_each_of_six_surfaces(recordings):
    pairs = Counter((recording.label, recording.group) for recording in recordings)
    labels, groups = ({pair[side] for pair in pairs} for side in (0, 1))
    assert (len(labels), len(groups)) == (6, 10)
    assert labels == set(SURFACES)
    assert len(pairs) == 60
    assert set(pairs.values()) == {2}


def test_each_recording_is_marked_as_simulated_and_has_one_current(recordings):
    assert len({recording.recording_id for recording in recordings}) == len(recordings)
    for recording in recordings:
        assert recording.attributes["simulated"] is True
        assert [(c.name, c.unit) for c in recording.channels] == [("current_a", "A")]
        assert np.isfinite(recording.values).all()
        assert recording.duration_s == pytest.approx(71.0, abs=1.0)
        assert recording.median_sample_rate_hz == pytest.approx(50.0, rel=0.05)
    assert "simulated" in datasets.load_surfaces.__doc__.lower()


def test_the_order_is_that_of_the_manifest(recordings):
    assert [r.recording_id for r in recordings] == sorted(r.recording_id for r in recordings)


def test_each_recording_fills_fourteen_windows_and_no_more(recordings):
    window_s = datasets.SURFACES_WINDOW_SAMPLES / datasets.SURFACES_SAMPLE_RATE_HZ
    assert {int(recording.duration_s / window_s) for recording in recordings} == {14}


def test_some_recordings_have_a_gap_and_all_have_an_uneven_clock(recordings):
    longest_s = np.array([np.diff(r.timestamps_s).max() for r in recordings])
    assert 10 < np.sum(longest_s > 0.15) < 60
    assert all(np.diff(r.timestamps_s).std() > 0.001 for r in recordings)


def test_the_mean_current_alone_does_not_reveal_the_surface(recordings):
    means = {label: [] for label in SURFACES}
    for recording in recordings:
        means[recording.label].append(recording.values.mean())
    overlapping = [
        (surface, other)
        for surface in SURFACES
        for other in SURFACES
        if surface < other
        and max(min(means[surface]), min(means[other]))
        < min(max(means[surface]), max(means[other]))
    ]
    assert len(overlapping) >= 8  # out of fifteen pairs of surfaces


def test_the_embedded_files_stay_below_three_megabytes():
    files = [path for path in (DATA / "surfaces").rglob("*") if path.is_file()]
    assert len(files) == 121  # the recordings and the manifest
    assert sum(path.stat().st_size for path in files) < 3_000_000


def test_the_manifest_lists_every_file_once_and_only_those():
    with (DATA / "surfaces" / "manifest.csv").open(newline="") as manifest:
        listed = [row["path"] for row in csv.DictReader(manifest)]
    on_disk = [p.relative_to(DATA / "surfaces").as_posix() for p in DATA.rglob("*.csv.gz")]
    assert sorted(listed) == sorted(on_disk)
    assert len(set(listed)) == len(listed)


def test_the_files_contain_no_modification_time():
    for path in DATA.rglob("*.csv.gz"):
        assert path.read_bytes()[4:8] == bytes(4)


@pytest.mark.long
def test_the_simulator_writes_the_embedded_recordings_to_the_last_digit(tmp_path):
    write_surfaces(tmp_path)
    for path in sorted((DATA / "surfaces").rglob("*.csv*")):
        again = tmp_path / path.relative_to(DATA / "surfaces")
        # Compare the text, not the bytes: other builds of zlib compress it to different bytes.
        read = gzip.decompress if path.suffix == ".gz" else bytes
        assert read(again.read_bytes()) == read(path.read_bytes()), path.name


def test_the_folder_is_read_like_any_other(recordings):
    loaded_ice = [recording for recording in recordings if recording.label == "ice"]
    ice = read_recordings(DATA / "surfaces", labels=["ice"])
    for read, loaded in zip(ice, loaded_ice, strict=True):
        assert (read.label, read.group) == (loaded.label, loaded.group)
        np.testing.assert_array_equal(read.values, loaded.values)
        np.testing.assert_array_equal(read.timestamps_s, loaded.timestamps_s)


def test_an_installation_without_the_files_says_what_to_do(tmp_path, monkeypatch):
    surfaces = importlib.import_module("sensorseq.datasets.surfaces")
    monkeypatch.setattr(surfaces, "__file__", str(tmp_path / "sensorseq/datasets/surfaces.py"))
    monkeypatch.setattr(surfaces.importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(EnvironmentProblemError, match="reinstall it"):
        datasets.load_surfaces()
