import csv
import gzip
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sensorseq import datasets
from sensorseq.datasets import surfaces
from sensorseq.errors import ArgumentError, EnvironmentProblemError, OutputError
from sensorseq.simulate import SURFACES

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


def test_each_recording_says_that_it_is_simulated_and_is_one_current(recordings):
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


def test_the_mean_current_alone_does_not_give_the_surface_away(recordings):
    means = {label: [] for label in SURFACES}
    for recording in recordings:
        means[recording.label].append(recording.values.mean())
    overlapping = [
        (one, other)
        for one in SURFACES
        for other in SURFACES
        if one < other
        and max(min(means[one]), min(means[other])) < min(max(means[one]), max(means[other]))
    ]
    assert len(overlapping) >= 8  # of fifteen pairs


def test_the_embedded_files_stay_below_three_megabytes():
    files = [path for path in DATA.rglob("*") if path.is_file()]
    assert len(files) == 122  # recordings, manifest, README
    assert sum(path.stat().st_size for path in files) < 3_000_000


def test_the_manifest_lists_every_file_once_and_only_those():
    with (DATA / "surfaces" / "manifest.csv").open(newline="") as manifest:
        listed = [row["path"] for row in csv.DictReader(manifest)]
    found = [p.relative_to(DATA / "surfaces").as_posix() for p in DATA.rglob("*.csv.gz")]
    assert sorted(listed) == sorted(found)
    assert len(set(listed)) == len(listed)


@pytest.mark.long
@pytest.mark.parametrize("label", ["carpet", "sand"])
def test_a_recording_simulated_again_is_the_embedded_one_to_the_last_digit(tmp_path, label):
    (written,) = datasets.write_surfaces(tmp_path, only=f"{label}_robot_04_01")
    embedded = DATA / "surfaces" / label / "robot_04_01.csv.gz"
    assert written == tmp_path / "surfaces" / label / "robot_04_01.csv.gz"
    # Text, not bytes: other builds of zlib compress the same text to other bytes.
    assert gzip.decompress(written.read_bytes()) == gzip.decompress(embedded.read_bytes())


def test_the_files_carry_no_time_of_writing():
    for path in DATA.rglob("*.csv.gz"):
        assert path.read_bytes()[4:8] == bytes(4)


@pytest.mark.slow
def test_the_whole_set_simulated_again_is_the_embedded_one(tmp_path):
    datasets.write_surfaces(tmp_path)
    for path in sorted((DATA / "surfaces").rglob("*.csv*")):
        again = tmp_path / "surfaces" / path.relative_to(DATA / "surfaces")
        read = gzip.decompress if path.suffix == ".gz" else bytes
        assert read(again.read_bytes()) == read(path.read_bytes()), path.name


def test_an_unknown_recording_to_write_is_an_error(tmp_path):
    with pytest.raises(ArgumentError, match="mars_robot_04_01"):
        datasets.write_surfaces(tmp_path, only="mars_robot_04_01")
    assert list(tmp_path.iterdir()) == []


def test_an_installation_without_the_files_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(surfaces, "__file__", str(tmp_path / "sensorseq/datasets/surfaces.py"))
    monkeypatch.setattr(surfaces.importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(EnvironmentProblemError, match="reinstall it"):
        datasets.load_surfaces()


@pytest.mark.long
def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    program = f"from sensorseq.datasets import *; write_simulated({str(tmp_path / 'new')!r})"
    killed = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[2])
    until_s = time.monotonic() + 60
    while not list(tmp_path.glob(".new.part/*/*.gz")) and time.monotonic() < until_s:
        time.sleep(0.02)
    with pytest.raises(OutputError, match="another run"):
        datasets.write_simulated(tmp_path / "new")
    killed.kill()
    killed.wait()
    datasets.write_simulated(
        tmp_path / "new", surfaces=["ice"], n_robots=1, n_recordings=1, duration_s=1
    )
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_folder_that_is_a_link_is_written_into_its_target(tmp_path):
    (tmp_path / "link").symlink_to("target")
    few = {"surfaces": ["ice"], "n_robots": 1, "n_recordings": 1, "duration_s": 5}
    datasets.write_simulated(tmp_path / "link", **few)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target" / "manifest.csv").is_file()
    # a run that was killed after its last step holds no lock
    (tmp_path / ".target.manifest.lock").touch()
    with pytest.raises(OutputError, match="already exists"):
        datasets.write_simulated(tmp_path / "link", **few)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]
    with pytest.raises(OutputError, match="already exists"):
        datasets.write_simulated("", **few)
