"""Laws of streams, on models, signals and pushes that are drawn at random.

However samples are divided into pushes, the decisions are the same; if no sample is lost, they are
those of the whole recording, to the bit.
"""

import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np

from sensorseq import PreparePipeline, Recording, SensorLSTMClassifier
from sensorseq.errors import SensorseqError
from sensorseq.recording import Channel

RATES_HZ = [20.0, 50.0, 33.3, 100.0, 6.5, 104.0, 59.94, 1 / 0.03, 41.7]
STARTS_S = [0.0, -0.1, -50.0, 0.007, 1000.5, -1e6, 1.7e9]
JUMPS_S = [3.0, 100.0, -0.7, -3.0, -100.0, 1e6]
BAD_STAMPS_S = [1e308, -1e308, 1e18, -1e18, np.inf, np.nan, 5e-324]
BAD_VALUES = [np.inf, -np.inf, 1e308, 1e39, 3e38, 1e-310]


def draw_steps(rng, rate_hz):
    """Return up to two steps of preparation."""
    phases = rng.choice(["zero", "causal"], 2).tolist()
    kinds = [
        {"kind": "moving", "statistic": "rms", "window_s": 0.5, "phase": phases[0]},
        {"kind": "moving", "statistic": "max", "window_s": 1.3, "phase": phases[0]},
        {"kind": "detrend", "window_s": 2.0, "phase": phases[0]},
        {"kind": "derivative", "order": 1, "phase": phases[1]},
        {"kind": "difference", "keep": True},
        {"kind": "band_pass", "high_hz": rate_hz / 5, "phase": phases[1]},
        {"kind": "notch", "frequency_hz": rate_hz / 6, "width_hz": rate_hz / 10},
    ]
    return [kinds[at] for at in rng.integers(len(kinds), size=rng.integers(3))]


def recording(rng, rate_hz, seconds, start_s, label, name, n_channels):
    """Return a noisy wave whose frequency depends on its label."""
    since_s = np.arange(int(rate_hz * seconds)) / rate_hz
    wave = 2 * np.sin(2 * np.pi * (1 + label) * since_s)
    x = rng.normal(size=(len(since_s), n_channels)) + wave[:, None]
    channels = tuple(Channel(f"c{number}") for number in range(n_channels))
    return Recording(x, start_s + since_s, channels, name, label="ab"[label], group=name)


def draw_model(rng):
    """Train a small classifier; return it, its preparation and its recordings."""
    rate_hz, n_channels = float(rng.choice(RATES_HZ)), int(rng.integers(1, 4))
    target_hz = [None, 25.0, 2 * rate_hz, rate_hz / 2, 40.0, 50.0][rng.integers(6)]
    window_s = float(rng.choice([1.0, 2.0, 1.37, 3.1]))
    pipeline = PreparePipeline(
        window_s=window_s,
        hop_s=[None, window_s / 2, window_s / 3, 0.7][rng.integers(4)],
        sample_rate_hz=target_hz,
        steps=draw_steps(rng, target_hz or rate_hz),
        short=str(rng.choice(["drop", "pad"])),
        split=None,
    )
    seconds = 6 * window_s + rng.uniform(4, 8)
    start_s = float(rng.choice(STARTS_S))
    recordings = [
        recording(rng, rate_hz, seconds, start_s, number % 2, f"r{number}", n_channels)
        for number in range(6)
    ]
    classifier = SensorLSTMClassifier(
        hidden_size=4,
        max_epochs=1,
        random_state=0,
        features=[None, None, "summary"][rng.integers(3)],
        patch=[None, "auto"][rng.integers(2)],
        missing=str(rng.choice(["error", "expected"])),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier.fit(pipeline.prepare(recordings))
    return classifier, pipeline, recordings


def decisions_of(stream, x, stamps, cuts):
    """Push the samples, divided at `cuts`; return the decisions and the counts, or the error."""
    decisions = []
    edges = [0, *cuts, len(x)]
    try:
        for first, last in pairwise(edges):
            part = None if stamps is None else stamps[first:last]
            decisions += stream.push(x[first:last], part)
        decisions += stream.flush()
    except SensorseqError as error:
        return type(error).__name__
    # the delay depends on the newest sample, and so on the push
    fields = [{**vars(decision), "delay_s": 0.0} for decision in decisions]
    return fields, stream.counts


def damaged(rng, x, stamps, rate_hz):
    """Return samples and stamps as a bad sensor and a bad line deliver them."""
    n = len(x)
    if rng.random() < 0.5:
        stamps = stamps + rng.uniform(-0.4, 0.4, n) / rate_hz
    if rng.random() < 0.4:
        x = np.where(rng.random(x.shape) < rng.choice([0.02, 0.3]), np.nan, x)
    if rng.random() < 0.3:
        kept = rng.random(n) > rng.choice([0.05, 0.3])
        x, stamps = x[kept], stamps[kept]
    if rng.random() < 0.3:
        later = np.arange(len(x)) >= rng.integers(1, n)
        stamps = stamps + later * rng.choice(JUMPS_S)
    if rng.random() < 0.2:
        some = np.flatnonzero(rng.random(len(x)) < 0.1)
        stamps = stamps.copy()
        stamps[some] = stamps[rng.permutation(some)]
    if rng.random() < 0.2:
        stamps = np.where(rng.random(len(x)) < 0.1, stamps[rng.integers(len(x))], stamps)
    if rng.random() < 0.2:
        stamps = stamps.copy()
        stamps[rng.integers(len(x))] = rng.choice(BAD_STAMPS_S)
    if rng.random() < 0.2:
        x = x.copy()
        x[rng.integers(len(x)), 0] = rng.choice(BAD_VALUES)
    return x, stamps


def check_model(seed, n_signals=6):
    """Check the laws on a model and several signals; return what does not hold."""
    rng = np.random.default_rng(seed)
    try:
        classifier, pipeline, recordings = draw_model(rng)
    except SensorseqError:
        return []  # the preparation that was drawn is not possible
    rate_hz = recordings[0].median_sample_rate_hz
    wrong = []
    for number in range(n_signals):
        signal = recordings[rng.integers(len(recordings))]
        begin = int(rng.integers(signal.n_samples // 3))
        x, stamps = signal.values[begin:], signal.timestamps_s[begin:]
        is_damaged = number % 3 > 0
        options = {}
        if is_damaged:
            x, stamps = damaged(rng, x, stamps, rate_hz)
            options["max_delay_s"] = float(rng.choice([0.0, 0.0, 3.3 / rate_hz, 0.5]))
            options["smooth"] = str(rng.choice(["none", "filter", "lag"]))
            options["max_gap_s"] = [None, 1.5 / rate_hz, 1.0, 100.0][rng.integers(4)]
        elif rng.random() < 0.3:
            stamps = None
        cuts = sorted(rng.integers(0, len(x) + 1, rng.integers(12)).tolist())
        rows = list(range(1, len(x)))
        whole, cut, single = (
            decisions_of(classifier.stream(rate_hz, **options), x, stamps, at)
            for at in ([], cuts, rows)
        )
        for name, other in (("random pushes", cut), ("rows", single)):
            if repr(other) != repr(whole):
                wrong.append(f"seed {seed}, signal {number}: {name} and the whole differ")
        if not is_damaged:
            times_s = signal.timestamps_s[begin:]
            kept = replace(signal, values=x, timestamps_s=times_s)
            offset_s = times_s[0] if stamps is None else 0.0
            differences = unlike_windows(classifier, pipeline, kept, whole[0], offset_s)
            wrong += [f"seed {seed}, signal {number}: {what}" for what in differences]
    return wrong


def unlike_windows(classifier, pipeline, signal, decisions, offset_s):
    """Return how the decisions of a stream differ from the predictions for the recording."""
    try:
        windows = pipeline.prepare([signal])
    except SensorseqError:  # too short for a window
        return ["a stream has windows, a recording has none"] if decisions else []
    expected = classifier.predict_proba(windows)
    found = np.array([fields["probabilities"] for fields in decisions])
    if found.shape != expected.shape:
        return [f"a stream has {len(found)} windows, a recording has {len(expected)}"]
    wrong = []
    if not (found == expected).all():
        wrong.append(f"probabilities differ by {np.abs(found - expected).max():.1e}")
    starts_s = offset_s + np.array([fields["start_s"] for fields in decisions])
    if np.abs(starts_s - windows.start_s).max() > 1e-5:
        wrong.append(f"starts differ by {np.abs(starts_s - windows.start_s).max():.1e} s")
    return wrong
