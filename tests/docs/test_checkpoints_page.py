"""The code of docs/remedies/checkpoints.md runs in the order of the page."""

import numpy as np
from checkout import code_in, page_of

from sensorseq import SensorLSTMClassifier


def test_the_page_can_be_typed_from_top_to_bottom(in_tmp_path, capsys):
    y = np.arange(60) % 3
    X = np.random.default_rng(0).normal(size=(60, 20, 2)) + y[:, None, None]
    names = {"SensorLSTMClassifier": SensorLSTMClassifier, "X": X, "y": y}
    names["recording_id"] = np.arange(60) // 6
    first, second = code_in(page_of("remedies/checkpoints.md"))
    exec(first.replace("random_state=0", "random_state=0, max_epochs=8"), names)
    exec(second, names)
    printed = capsys.readouterr().out.strip()
    assert f"print(kept.features_)  # {printed}\n" in second
    assert {path.name for path in in_tmp_path.iterdir()} == {"lstm.safetensors", "more.safetensors"}
    before, after = names["clf"].history_, names["kept"].history_
    assert after[0]["val_loss"] < before[0]["val_loss"]
