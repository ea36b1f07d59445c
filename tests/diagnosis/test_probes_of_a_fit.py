"""Probes that need no training work with the runner of a real fit."""

import numpy as np
import pytest
from fits import plain_classifier

from sensorseq.diagnosis.probe import zero_test

N_WINDOWS = 60
OPTIONS = {
    "autograd": {"engine": "autograd"},
    "dropout": {"dropout": 0.4, "recurrent_dropout": 0.2},
    "average": {"ema_decay": 0.9},
    "normalized head": {"head_norm": "batch", "batch_size": 7},
    "random crops": {"max_timesteps": 7, "crop": "random"},
    "augmented": {"augment": {"jitter": 0.1}},
    "balanced": {"sampler": "balanced"},
    "weighted": {"class_weight": "balanced", "label_smoothing": 0.1},
    "lengths": {"lengths": np.random.default_rng(1).integers(3, 13, N_WINDOWS)},
}


def fit(**options):
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(N_WINDOWS) % 3)
    X = rng.normal(size=(N_WINDOWS, 12, 2)) + y[:, None, None]
    keywords = {"groups": np.arange(N_WINDOWS) // 6}
    if "lengths" in options:
        keywords["lengths"] = options.pop("lengths")
    defaults = {"hidden_size": 6, "max_epochs": 10, "early_stopping": False, "random_state": 4}
    classifier = plain_classifier(**{**defaults, **options}).fit(X, y, **keywords)
    report = classifier.fluctuation_
    return classifier, report.origin.open(report.record, X, y, **keywords)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_sound_fit_passes_every_test(options):
    classifier, runner = fit(**options)
    trial = zero_test(runner)
    assert trial.outcome == "rejected", trial.sentence
    assert not any("data" in cause.sources for cause in classifier.fluctuation_.causes)


def test_unscaled_input_is_found_and_the_recommendation_is_valid_for_fit():
    rng = np.random.default_rng(0)
    y = np.arange(N_WINDOWS) % 3
    X = 100 + 30 * (rng.normal(size=(N_WINDOWS, 12, 2)) + y[:, None, None])
    classifier = plain_classifier(hidden_size=4, max_epochs=2, scale=None, random_state=0)
    (cause,) = classifier.fit(X, y).fluctuation_.causes  # the fit is too short to show other causes
    assert cause.finding == "not scaled"
    classifier.set_params(**cause.recommendation)
    assert classifier.fit(X, y).fluctuation_.causes == ()
