"""A TrainingMonitor in Keras' own fit, with the code of docs/monitor.md."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.peers
os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")


@pytest.mark.parametrize("activation", [None, "softmax"])
def test_the_code_of_the_page_works(activation, capsys):
    rng = np.random.default_rng(0)
    y = np.arange(70) % 3
    X = (rng.normal(size=(70, 4)) + y[:, None]).astype(np.float32)
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dropout(0.2)]
    model = keras.Sequential([*layers, keras.layers.Dense(3, activation=activation)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    page = Path(__file__).resolve().parents[2] / "docs" / "monitor.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
    names = {
        "keras": keras,
        "model": model,
        "X": X,
        "y": y,
        "X_val": X[:48:2] + 0.1,
        "y_val": y[:48:2],
    }
    exec(blocks[-1], names)
    assert "70 train / 24 validation windows, 3 classes, 20 epochs" in capsys.readouterr().out
    evaluated = model.evaluate(names["X_val"], names["y_val"], verbose=0)
    last = names["monitor"].history[-1]
    assert [last["val_loss"], last["val_accuracy"]] == pytest.approx(evaluated, abs=1e-5)
