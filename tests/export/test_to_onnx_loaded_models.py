"""An estimator and the model loaded from its file have the same exports."""

import numpy as np
import onnx
import pytest
from fits import fused_classifier, small_classifier

from sensorseq.export.c_source import COptions, render_c
from sensorseq.export.to_onnx import write_onnx
from sensorseq.prediction import load

RNG = np.random.default_rng(0)
Y = np.arange(48) % 3
X = RNG.normal(size=(48, 20, 2)) + Y[:, None, None]
C_OPTIONS = {"units": None, "check": None, "prefix": "m", "is_refitted": False}
ONNX_OPTIONS = {"n_timesteps": None, "lengths": None, "dtype": "float32", "steps": False}


def small(**arguments):
    return small_classifier(max_epochs=2, **arguments).fit(X, Y)


def fused():
    both = {"fast": X, "slow": X[:, ::3, :1]}
    return fused_classifier(hidden_size=4, max_epochs=2, random_state=0).fit(both, Y)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: small(n_models=2, num_layers=2, head_norm="batch"), id="networks"),
        pytest.param(lambda: small(features="summary", patch=4), id="features"),
        pytest.param(fused, id="sensors"),
    ],
)
def test_the_model_of_a_file_has_the_same_exports_as_the_estimator(made, tmp_path):
    fitted = made()
    fitted.save(tmp_path / "model")
    models = fitted.model_, load(tmp_path / "model")
    for weights in ("float32", "int8"):
        texts = [render_c(model, COptions(weights=weights, **C_OPTIONS))[1] for model in models]
        assert texts[0] == texts[1]
    graphs = []
    for number, model in enumerate(models):
        path = tmp_path / f"{number}.onnx"
        write_onnx(model, path, **ONNX_OPTIONS, stored=fitted._stored)
        graphs.append(onnx.load(path).graph.SerializeToString())
    assert graphs[0] == graphs[1]
