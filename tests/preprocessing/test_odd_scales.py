"""Recordings in a different unit and misspelled classes are found, without false alarms."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from borealtc import BOREALTC, needs_borealtc
from scipy.signal import lfilter

from sensorseq.base.text import likely_unit
from sensorseq.datasets import load_surfaces
from sensorseq.errors import RecordingError
from sensorseq.inspection.recordings import similar_names
from sensorseq.options import ReadOptions
from sensorseq.prepare import prepare
from sensorseq.preprocessing import PreparePipeline
from sensorseq.preprocessing.measured import measure_values
from sensorseq.preprocessing.odd import odd_rates, odd_units
from sensorseq.readers import find_recordings, read_source
from sensorseq.recording import Recording


def scales_of(recording):
    return measure_values(recording, {}).scales


def odd_in(recordings, scales=None):
    """The positions of recordings with a channel in a different unit."""
    labels = [recording.label for recording in recordings]
    return [at for at, _, _ in odd_units(labels, scales or [*map(scales_of, recordings)])]


def times(recording, channel, factor):
    values = recording.values.copy()
    values[:, channel] *= factor
    return replace(recording, values=values)


@pytest.fixture(scope="module")
def surfaces():
    return load_surfaces()


class TestUnits:
    def test_healthy_recordings_are_in_one_unit(self, surfaces):
        assert odd_in(surfaces) == []

    @pytest.mark.parametrize("factor", [1000.0, 0.001, 100.0, 180 / np.pi])
    def test_each_recording_in_another_unit_is_found_alone(self, surfaces, factor):
        scales = [scales_of(recording) for recording in surfaces]
        for at in range(0, len(scales), 10):
            odd = scales_of(times(surfaces[at], 0, factor))
            assert odd_in(surfaces, [*scales[:at], odd, *scales[at + 1 :]]) == [at]

    def test_joints_that_often_rest_and_bear_other_loads_are_hardly_ever_refused(self):
        rng, n_odd = np.random.default_rng(0), 0
        for _ in range(5):
            made, loads = [], 10 ** rng.uniform(-1, 1, size=(4, 6))
            for i in range(24):
                moves = np.where(rng.random(6) < 0.6, rng.uniform(0.3, 3, 6), 0.02)
                waves = lfilter([1], [1, -0.7], rng.normal(size=(1000, 6)), axis=0)
                currents = waves * loads[i % 4] * moves + 0.01 * rng.normal(size=waves.shape)
                label = f"task {i % 3}"
                names = list("abcdef")
                made.append(Recording.evenly_sampled(currents, 100, names, str(i), label=label))
            n_odd += len({*odd_in(made)})
        assert n_odd <= 6  # of 120 recordings

    @pytest.mark.parametrize("share", [0.3, 0.5])
    def test_two_units_in_many_recordings_are_found(self, surfaces, share):
        is_odd = np.random.default_rng(0).random(len(surfaces)) < share
        factors = np.where(is_odd, 1000.0, 1.0)
        mixed = [times(r, 0, f) for r, f in zip(surfaces, factors, strict=True)]
        assert len(odd_in(mixed)) >= 0.5 * is_odd.sum()

    def test_another_scale_with_another_shape_is_no_unit(self, surfaces):
        noise = np.random.default_rng(0).normal(0, 1e4, surfaces[7].values.shape)
        other = replace(surfaces[7], values=noise)
        assert odd_in([*surfaces[:7], other, *surfaces[8:]]) == []

    def test_missing_values_do_not_change_the_scale(self):
        rng = np.random.default_rng(0)
        wave = np.convolve(rng.normal(size=20_009), np.ones(10) / 10, "valid")
        sparse = np.full((40_000, 1), np.nan)
        sparse[::2, 0] = wave
        dense = Recording(wave[:, None], np.arange(20_000) / 50, ("a",), "dense")
        gappy = Recording(sparse, np.arange(40_000) / 100, ("a",), "sparse")
        (without_gaps,), (with_gaps,) = (scales_of(r).values() for r in (dense, gappy))
        assert np.allclose(without_gaps, with_gaps, atol=0.4)

    @pytest.mark.parametrize(
        "values", [np.ones((500, 1)), np.ones((20, 1)), np.full((500, 1), np.nan)]
    )
    def test_a_channel_without_a_scale_is_left_out(self, values):
        assert scales_of(Recording(values, np.arange(len(values)) / 10, ("a",), "r")) == {}

    def test_the_unit_is_named(self):
        assert "mA where others have A" in likely_unit(1200)
        assert "A where others have mA" in likely_unit(1 / 1200)
        assert "degrees where others have radians" in likely_unit(57)
        assert likely_unit(9.81) == ""


class TestRates:
    def rates(self, *rates_hz, unit="s"):
        return odd_rates(rates_hz, [unit] * len(rates_hz))

    @pytest.mark.parametrize(("rate_hz", "unit"), [(0.1, "ms"), (1e-4, "us"), (1e-7, "ns")])
    def test_time_in_another_unit_is_named(self, rate_hz, unit):
        odd = self.rates(100.0, 98.0, rate_hz)
        assert list(odd) == [2]
        assert odd[2].endswith(f"perhaps in {unit}")

    def test_seconds_read_as_milliseconds_are_named(self):
        assert self.rates(100.0, 1e5, 101.0, unit="ms")[1].endswith("perhaps in s")

    def test_sensors_of_other_rates_and_slow_loggers_are_no_error(self):
        assert self.rates(10.0, 10.0, 400.0) == {}
        assert self.rates(0.01, 0.02, 0.01) == {}
        assert self.rates(None, float("nan"), 50.0) == {}
        assert self.rates() == {}


class TestNames:
    @pytest.mark.parametrize(
        "pair",
        [
            ("FLOORING", "FLOORNG"),
            ("asphalt", "ashpalt"),
            ("sandy_loam", "sandy loam"),
            ("Ice", "ice"),
            ("gravel_wet", "gravl_wet"),
            ("carpet", "carpets"),
            ("1", "1.0"),
        ],
    )
    def test_a_slip_is_found_and_both_names_are_given(self, pair):
        (finding,) = similar_names(Counter({pair[0]: 3, pair[1]: 1}))
        assert f"{pair[1]!r} (1 recording) and {pair[0]!r} (3 recordings)" in finding.text

    @pytest.mark.parametrize(
        "names",
        [
            ("surface_1", "surface_2"),
            ("fingerL", "fingerR"),
            ("stageI", "stageII"),
            ("tilt+x", "tilt-x"),
            ("tilt_-10", "tilt_10"),
            ("load 0.5", "load 05"),
            ("turn_l", "turn_r"),
            ("peg_in", "peg_on"),
            ("walk", "talk"),
            ("sanding", "landing"),
            ("sit", "set"),
            ("stairs_up", "stairs_down"),
            ("speed10", "speed1"),
            ("1", "01"),
            ("ASPHALT", "FLOORING", "ICE", "SANDY_LOAM", "SNOW"),
            ("carpet", "grass", "gravel", "ice", "paving", "sand"),
        ],
    )
    def test_other_classes_are_not_asked_about(self, names):
        assert list(similar_names(Counter(names))) == []


@pytest.fixture
def folder(tmp_path, surfaces):
    """Twelve short recordings of two surfaces as CSV files."""
    for label in ("ice", "gravel"):
        (tmp_path / "logs" / label).mkdir(parents=True)
        of_label = [recording for recording in surfaces if recording.label == label]
        for at, recording in enumerate(of_label[:6]):
            t, x = recording.timestamps_s[:800], recording.values[:800, 0]
            write(tmp_path / "logs" / label / f"r{at}.csv", t, x)
    return tmp_path / "logs"


def write(path, t, x):
    rows = "\n".join(f"{a!r},{b!r}" for a, b in zip(t.tolist(), x.tolist(), strict=True))
    path.write_text(f"time,current\n{rows}\n")


def rewrite(path, time_factor=1.0, factor=1.0):
    t, x = np.genfromtxt(path, delimiter=",", skip_header=1).T
    write(path, t * time_factor, x * factor)


class TestPrepare:
    @pytest.mark.parametrize("options", [{}, {"sample_rate_hz": 20.0}])
    def test_a_recording_in_milliseconds_is_an_error(self, folder, tmp_path, options):
        rewrite(folder / "ice" / "r2.csv", time_factor=1000.0)
        with pytest.raises(RecordingError, match=r"ice/r2.csv.* in ms .* time_unit='ms'"):
            prepare(folder, tmp_path / "o.h5", window_s=2, split="none", **options)
        assert not (tmp_path / "o.h5").exists()

    def test_a_recording_in_milliamperes_is_an_error_unless_it_is_allowed(self, folder, tmp_path):
        rewrite(folder / "gravel" / "r1.csv", factor=1000.0)
        words = r"gravel/r1.csv: channel 'current' varies .* times.* mA where others have A"
        with pytest.raises(RecordingError, match=words):
            prepare(folder, tmp_path / "o.h5", window_s=2, split="none")
        left = prepare(folder, tmp_path / "s.h5", window_s=2, split="none", on_error="skip")
        assert [entry["recording_id"] for entry in left.dropped] == ["gravel/r1"]
        used = prepare(folder, tmp_path / "o.h5", window_s=2, split="none", allow_scales=True)
        assert used.n_recordings == left.n_recordings + 1
        (text,) = used.odd_scales
        assert text.startswith("gravel/r1.csv: channel 'current' varies")

    def test_the_pipeline_refuses_what_the_command_refuses(self, surfaces):
        some = [recording for recording in surfaces if recording.label in ("ice", "gravel")][:16]
        late = replace(some[3], timestamps_s=some[3].timestamps_s * 1000)
        for odd, words in (
            (late, "its timestamps .*give .* perhaps in ms"),
            (times(some[3], 0, 1000.0), "channel 'current_a' varies .* mA where others have A"),
        ):
            recordings = [*some[:3], odd, *some[4:]]
            words = f"^recording '{odd.recording_id}': {words}.*allow_scales=True"
            for options in ({}, {"sample_rate_hz": 20.0}):
                pipeline = PreparePipeline(window_s=2, split=None, **options)
                with pytest.raises(RecordingError, match=words):
                    pipeline.prepare(recordings)
        windows = pipeline.prepare(recordings, allow_scales=True)
        assert odd.recording_id in windows.recording_id
        pipeline.prepare(some)

    def test_misspelt_folders_are_asked_about(self, folder, tmp_path):
        (folder / "gravl").mkdir()
        (folder / "gravel" / "r0.csv").rename(folder / "gravl" / "r0.csv")
        with pytest.warns(UserWarning, match=r"'gravl' \(1 .* 'gravel' \(5 .* nearly the same"):
            prepare(folder, tmp_path / "o.h5", window_s=2, split="none")


@pytest.mark.long
@needs_borealtc
@pytest.mark.parametrize("files", ["pro_*.csv", "imu_*.csv.gz"])
def test_no_recording_of_borealtc_is_in_a_different_unit(files):
    sources = find_recordings(BOREALTC, ReadOptions(files=[files], exclude=["MIXED"]))
    recordings = [read_source(source, ReadOptions(time_column="time")) for source in sources]
    assert len(recordings) > 60
    assert odd_in(recordings) == []
