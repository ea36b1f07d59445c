"""The provenance of windows is parsed in one place."""

import numpy as np

from sensorseq.preprocessing import ChannelScaler, PreparePipeline
from sensorseq.preprocessing.provenance import Provenance, SourceFile
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet

FILE = {
    "configuration": {"window": {"window_s": 2.0}, "scale": {"kind": "none"}},
    "input_channels": ["a", "b"],
    "recordings": [
        {"recording_id": "x", "sources": [{"path": "A/x.csv", "sha256": "12", "size_bytes": 3}]},
        {"recording_id": "y"},
    ],
}


def test_the_provenance_of_a_file_has_types():
    made = Provenance.of(FILE)
    assert made.configuration == FILE["configuration"]
    assert made.files == {"x": (SourceFile("A/x.csv", "12"),)}
    assert made.input_channels == ["a", "b"]
    assert (made.scaled, made.made_before_split) == (None, ())


def test_windows_that_were_not_prepared_have_none():
    assert Provenance.of({}) == Provenance(None, None, None, {}, (), False)


def test_the_provenance_of_each_joined_set_is_read():
    joined = {"joined": [FILE, {"balanced": {"before_split": True}}, {"scaled": "robust"}]}
    first, second, third = Provenance.of_each(joined)
    assert first == Provenance.of(FILE)
    assert second.made_before_split == ("balanced",)
    assert third.scaled == "robust"
    assert Provenance.of_each(FILE) == [first]


def test_records_of_the_pipeline_and_the_scaler_are_read():
    recordings = [
        Recording.evenly_sampled(values, 10.0, ["a"], f"r{i}", label="AB"[i % 2])
        for i, values in enumerate(np.random.default_rng(0).normal(size=(6, 100, 1)))
    ]
    pipeline = PreparePipeline(window_s=2.0, scale="robust")
    windows = pipeline.prepare(recordings)
    scaled = ChannelScaler("robust").fit(windows).transform(windows)
    assert isinstance(scaled, WindowSet)
    made = Provenance.of(scaled.provenance)
    assert made.scaled == "robust"
    assert made.configuration == pipeline.configuration
