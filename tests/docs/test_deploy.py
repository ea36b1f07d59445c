"""The example of docs/deploy.md runs, and its tables name the metadata that the code writes."""

import re

import numpy as np
import onnx
import onnxruntime
from checkout import code_in, page_of
from fits import plain_classifier

from sensorseq.sequence.smoothing import Smoothing

PAGE = page_of("deploy.md")


def test_the_example_runs_and_the_metadata_are_on_the_page(in_tmp_path, capsys):
    rng = np.random.default_rng(0)
    y = np.array(["ice", "mud"])[np.arange(40) % 2]
    X = rng.normal(size=(40, 10, 1)) + (y == "ice")[:, None, None]
    code = code_in(PAGE)[0]
    exec(code, {"X": X, "y": y})
    difference, classes = capsys.readouterr().out.splitlines()
    assert float(difference) < 1e-6
    assert classes == '["ice", "mud"]'
    written = {entry.key for entry in onnx.load("terrain.onnx").metadata_props}
    keys = set(re.findall(r"`(\w+)`", PAGE.split("key of the metadata")[1].split("\n\n")[0]))
    assert written <= keys


def test_the_way_to_smooth_the_probabilities_of_a_graph_gives_the_timeline(in_tmp_path):
    rng = np.random.default_rng(0)
    y = np.array(["ice", "mud"])[np.arange(40) // 10 % 2]
    X = (rng.normal(size=(40, 10, 1)) + (y == "ice")[:, None, None]).astype(np.float32)
    clf = plain_classifier(max_epochs=5, sampler="balanced").fit(
        X, y
    )  # a balanced sampler, so that probabilities are not divided by class frequencies
    clf.to_onnx("terrain.onnx")
    session = onnxruntime.InferenceSession("terrain.onnx")
    (probabilities,) = session.run(["probabilities"], {"X": X})
    names = {"probabilities": probabilities, "classes": ["ice", "mud"], "start_s": np.arange(40)}
    exec(code_in(PAGE.split("## Decisions over time")[1])[0], names)
    whole = clf.timeline(
        X, start_s=np.arange(40.0), window_s=2.0, smooth=Smoothing("lag", mean_dwell_s=30)
    )
    np.testing.assert_allclose(names["timeline"].probabilities, whole.probabilities, atol=1e-5)
