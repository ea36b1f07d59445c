"""Each fault planted into healthy recordings is found and named; healthy recordings pass."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from borealtc import BOREALTC, needs_borealtc

from sensorseq.inspection.facts import N_BINS, QUANTILES, measure
from sensorseq.inspection.recordings import check_recordings
from sensorseq.readers import find_recordings, read_source
from sensorseq.recording import Channel, Recording

RATE = 100.0


def make_recording(seed, label, seconds=20.0):
    """Two channels with colored noise, one of them with an offset, and a slow third channel."""
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    smooth = np.convolve(rng.normal(size=n + 9), np.ones(10) / 10, "valid")
    pitch = {"ice": 3.0, "gravel": 9.0}[label]
    first = smooth + 0.5 * np.sin(2 * np.pi * pitch * t + rng.uniform(0, 6))
    second = 9.81 + 0.4 * rng.normal(size=n) + 0.3 * first
    third = -0.8 * first + 0.1 * rng.normal(size=n)
    values = np.stack([first, second, third], axis=1)
    return Recording(values, t, ("wx", "az", "wy"), f"{label}/r{seed}", label=label)


@pytest.fixture(scope="module")
def healthy():
    lengths = np.random.default_rng(0).uniform(15, 25, 20)
    return [make_recording(i, ("ice", "gravel")[i % 2], s) for i, s in enumerate(lengths)]


@pytest.fixture(scope="module")
def facts(healthy):
    return [measure(recording) for recording in healthy]


def changed(recording, name, change):
    values = recording.values.copy()
    column = recording.channel_names.index(name)
    values[:, column] = change(values[:, column].copy())
    return replace(recording, values=values)


def held(x, first=500, last=900):
    x[first:last] = x[first]
    return x


def spiked(x):
    x[[100, 700]] = 300.0, -9999.0
    return x


def kept(recording, rows):
    values, timestamps_s = recording.values[rows], recording.timestamps_s[rows]
    return replace(recording, values=values, timestamps_s=timestamps_s)


PLANTED = {
    "time_unit": (["wx", "az", "wy"], lambda r: replace(r, timestamps_s=1000 * r.timestamps_s)),
    "rates": (["wx", "az", "wy"], lambda r: kept(r, slice(None, None, 2))),
    "unit": (["wx"], lambda r: changed(r, "wx", lambda x: x * 1000)),
    "constant": (["wx"], lambda r: changed(r, "wx", lambda x: 0 * x)),
    "empty": (["wx"], lambda r: changed(r, "wx", lambda x: x * np.nan)),
    "stuck": (["wx"], lambda r: changed(r, "wx", held)),
    "saturated": (["wx"], lambda r: changed(r, "wx", lambda x: np.minimum(x, 0.6))),
    "gaps": (["wx", "az", "wy"], lambda r: kept(r, np.r_[0:500, 600 : r.n_samples])),
    "outliers": (["wy"], lambda r: changed(r, "wy", spiked)),
    "missing_channel": (["wy"], lambda r: r.select(["wx", "az"])),
    "copies": ([], None),
}


def test_healthy_recordings_pass(facts):
    assert check_recordings(facts)[0] == []
    assert check_recordings([])[0] == []


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_fault_is_found_and_named(kind, healthy, facts):
    channels, plant = PLANTED[kind]
    faulty = healthy[7]
    if kind == "copies":
        piece = kept(healthy[3], slice(300, 900))
        planted = replace(piece, recording_id=faulty.recording_id, label="ice")
    else:
        planted = plant(faulty)
    (finding,) = check_recordings([*facts[:7], measure(planted), *facts[8:]])[0]
    assert finding.kind == kind
    assert faulty.recording_id in finding.where["recordings"]
    assert len(finding.where["recordings"]) == 1 + (kind == "copies")
    assert finding.where.get("channels", []) == channels
    assert faulty.recording_id in finding.text
    assert finding.advice
    assert ("labels is wrong" in finding.text) == (kind == "copies")


def test_classes_that_the_clock_or_the_length_reveals_are_named(healthy):
    n = len(healthy)
    blocks = sorted(healthy, key=lambda r: r.label)
    late = [replace(r, timestamps_s=r.timestamps_s + 100 * i) for i, r in enumerate(blocks)]
    (finding,) = check_recordings([measure(r) for r in late])[0]
    assert finding.kind == "class_order"
    short = [kept(r, slice(0, 900 if r.label == "ice" else None)) for r in healthy]
    (finding,) = check_recordings([measure(r) for r in short])[0]
    assert finding.kind == "class_by_length"
    days = [replace(r, group=f"{r.label} day {i % 3}") for i, r in enumerate(healthy)]
    assert [finding.kind for finding in check_recordings([measure(r) for r in days])[0]] == [
        "class_is_group"
    ]
    few = [r for r in healthy if r.label == "ice"][:2] + [r for r in healthy if r.label != "ice"]
    (finding,) = check_recordings([measure(r) for r in few])[0]
    assert finding.kind == "few_groups"
    assert len(few) < n


def test_a_fault_of_all_recordings_is_reported_once(healthy):
    faulty = [changed(changed(r, "wx", lambda x: 0 * x), "wy", lambda x: 0 * x) for r in healthy]
    (finding,) = check_recordings([measure(r) for r in faulty])[0]
    assert finding.text.startswith("wx, wy: constant in every recording")
    assert "--exclude" not in finding.advice


def test_sensors_that_were_not_joined_are_named(healthy):
    parts = [healthy[0].select(["wx"]), *[r.select(["az", "wy"]) for r in healthy[1:]]]
    kinds = [finding.kind for finding in check_recordings([measure(r) for r in parts])[0]]
    assert kinds[0] == "channel_sets"


def test_the_facts_are_those_of_numpy(healthy):
    recording = healthy[0]
    x = recording.values[:, 0].copy()
    x[100:150] = np.nan
    x[300] = np.nan
    facts = measure(changed(recording, "wx", lambda _: x)).channels["wx"]
    finite = x[np.isfinite(x)]
    expected = np.quantile(finite, QUANTILES, method="nearest")
    np.testing.assert_array_equal(facts.quantiles, expected)
    assert (facts.low.value, facts.high.value) == (finite.min(), finite.max())
    assert facts.rate_hz == pytest.approx(RATE)
    assert facts.n_lost == 1
    np.testing.assert_allclose(facts.gaps_s, [[0.99, 1.5]])
    assert facts.gap_share == pytest.approx(0.5 / recording.duration_s)
    assert facts.envelope.shape == (2, N_BINS)
    assert np.nanmin(facts.envelope) == np.float32(finite.min())
    assert np.nanmax(facts.envelope) == np.float32(finite.max())


@pytest.mark.parametrize("gain", [1.0, 50.0])
def test_the_spectrum_is_a_power_density(gain):
    rng = np.random.default_rng(0)
    noise = gain * rng.normal(size=(60_000, 1))
    recording = Recording.evenly_sampled(noise, RATE, ["x"], "r")
    spectrum = measure(recording).channels["x"].spectrum
    # white noise of variance v has the one-sided density v / (rate / 2)
    np.testing.assert_allclose(spectrum[2:-2], np.log10(gain**2 / (RATE / 2)), atol=0.15)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_a_recording_of_few_samples_has_facts(n, facts):
    recording = Recording.evenly_sampled(np.ones((n, 3)), RATE, ["wx", "az", "wy"], "short")
    check_recordings([*facts, measure(recording)])
    check_recordings([measure(recording)])


@pytest.mark.long
@needs_borealtc
def test_findings_in_real_recordings_are_true():
    facts = [measure(read_source(source)) for source in find_recordings(BOREALTC)]
    finding = check_recordings(facts)[0]
    once = dict.fromkeys(("copies", "channel_sets", "stuck", "outliers", "few_groups"), 1)
    assert Counter(finding.kind for finding in finding) == {"saturated": 2, **once}
    (copies,) = [finding for finding in finding if finding.kind == "copies"]
    twice = {f"SNOW/{sensor}_{number}" for sensor in ("imu", "pro") for number in (12, 13)}
    assert set(copies.where["recordings"]) == twice


def test_if_samples_are_often_lost_there_is_a_coarser_spectrum():
    rng = np.random.default_rng(0)
    t = np.arange(2000) / RATE
    x = np.sin(2 * np.pi * RATE / 4 * t) + 0.1 * rng.normal(size=2000)
    kept = np.flatnonzero(rng.random(2000) > 0.15)
    assert np.diff(np.flatnonzero(np.diff(kept) > 1)).max() < 64  # every long segment has gaps
    recording = Recording(x[kept, None], t[kept], (Channel("x"),), "a")
    spectrum = measure(recording).channels["x"].spectrum
    assert np.isfinite(spectrum).all()
    # the peak is at half of the highest frequency
    assert abs(spectrum.argmax() / (len(spectrum) - 1) - 0.5) < 0.05
    assert spectrum.max() > spectrum[5] + 1
