"""The examples of docs/validation.md run and do what the page claims."""

import re

import numpy as np
from checkout import code_in, page_of
from commands import succeed
from fits import plain_classifier

from sensorseq.io.prepared import write_windows
from sensorseq.windows import WindowSet


def test_windows_that_are_doubtful_or_unlike_the_training_are_unknown():
    rng = np.random.default_rng(0)
    y = np.repeat(["calm", "rough"], 60)
    waves = np.sin(np.arange(40) * np.where(y == "calm", 0.3, 1.2)[:, None])[:, :, None]
    clf = plain_classifier(hidden_size=8, max_epochs=20, learning_rate=0.02, random_state=0)
    clf.fit(waves + 0.3 * rng.normal(size=waves.shape), y)
    clf.fit_abstention(waves + 0.3 * rng.normal(size=waves.shape), y, error_rate=0.2)
    usual = waves[[0, 1, 60, 61]] + 0.3 * rng.normal(size=(4, 40, 1))
    code = code_in(page_of("validation.md").split("## None of the known classes")[1])[0]
    names = {"clf": clf, "np": np, "windows": np.concatenate([usual, 1000 * usual])}
    exec(code, names)
    assert names["labels"].tolist() == ["calm", "calm", "rough", "rough", *4 * ["unknown"]]
    clf.abstention_ = clf.abstention_._replace(threshold=1.0)
    exec(code, names)
    assert set(names["labels"]) == {"unknown"}


def test_the_figures_to_keep_with_a_model_come_from_info_and_evaluate(in_tmp_path):
    rng, recording = np.random.default_rng(0), np.repeat(np.arange(18), 4)
    waves = np.sin(np.arange(20) * (0.3 + 0.4 * (recording % 2))[:, None])[:, :, None]
    windows = WindowSet(
        waves + 0.3 * rng.normal(size=waves.shape),
        y=np.array(["ice", "mud"])[recording % 2],
        recording_id=recording.astype(str),
        split=np.array(["train", "validation", "test"])[recording // 2 % 3],
        channels=("curL",),
    )
    write_windows("terrain.h5", windows)
    plain_classifier(hidden_size=4, max_epochs=3).fit(windows).save("terrain.safetensors")
    section = page_of("validation.md").split("## Results to keep with a model")[1]
    text = ""
    for command in re.findall(r"^    sensorseq (.*) >>? terrain.txt$", section, re.M):
        text += succeed(*command.split())
    for fact in ("classes: ice, mud", "curL", "accuracy", "majority", "true \\ predicted"):
        assert fact in text, fact
    assert "accuracy" in (in_tmp_path / "terrain.html").read_text("utf-8")
