"""Run by `make wheel` in a clean environment, outside the checkout: does the wheel work alone?"""

import tempfile
from pathlib import Path

import numpy as np

import sensorseq
from sensorseq import PreparePipeline, SensorLSTMClassifier
from sensorseq.datasets import load_surfaces

assert "wheel-check" in sensorseq.__file__, f"the checkout was imported: {sensorseq.__file__}"
recordings = [r for r in load_surfaces() if r.label in ("ice", "sand")]
windows = PreparePipeline(window_s=5.0, sample_rate_hz=20.0).prepare(recordings)
clf = SensorLSTMClassifier(hidden_size=16, max_epochs=5, random_state=0).fit(windows)
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.safetensors"
    clf.save(path)
    again = SensorLSTMClassifier.load(path)
    page = Path(folder) / "report.html"  # templates and styles are package data
    clf.fluctuation_.to_html(page)
    assert "What was measured" in page.read_text("utf-8")
X = windows.part("test").X
np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
print(
    f"sensorseq {sensorseq.__version__} from the wheel: trained, saved, loaded, reported, predicted"
)
