"""The way of docs/validation.md to mark windows of no known class runs, and marks them."""

import numpy as np
from checkout import code_in, page_of
from fits import plain_classifier


def test_windows_that_are_doubtful_or_unlike_the_training_are_unknown():
    rng = np.random.default_rng(0)
    y = np.repeat(["calm", "rough"], 60)
    waves = np.sin(np.arange(40) * np.where(y == "calm", 0.3, 1.2)[:, None])[:, :, None]
    clf = plain_classifier(hidden_size=8, max_epochs=20, learning_rate=0.02, random_state=0)
    clf.fit(waves + 0.3 * rng.normal(size=waves.shape), y)
    clf.fit_abstention(waves + 0.3 * rng.normal(size=waves.shape), y, error_rate=0.2)
    known = waves[[0, 1, 60, 61]] + 0.3 * rng.normal(size=(4, 40, 1))
    code = code_in(page_of("validation.md").split("## None of the known classes")[1])[0]
    names = {"clf": clf, "np": np, "windows": np.concatenate([known, 1000 * known])}
    exec(code, names)
    assert names["labels"].tolist() == ["calm", "calm", "rough", "rough", *4 * ["unknown"]]
    clf.abstention_ = clf.abstention_._replace(threshold=1.0)
    exec(code, names)
    assert set(names["labels"]) == {"unknown"}
