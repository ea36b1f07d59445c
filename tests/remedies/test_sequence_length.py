import numpy as np
import pytest
from remedy_problems import compare, gap, last, marked, pairs_of, tones

pytestmark = pytest.mark.trains

CROPS = ("head", "tail", "centre", "random")
FOUND = {"start": (2, {"head"}), "end": (36, {"tail"}), "centre": (20, {"centre", "random"})}


def validation_accuracy(classifier, data):
    _, _, X_val, y_val = data
    return classifier.score(X_val, y_val)


@pytest.mark.parametrize("place", FOUND)
def test_a_crop_keeps_what_stands_in_its_part_and_no_other(place):
    at, finders = FOUND[place]
    accuracies = compare(
        pairs_of(marked, at=at),
        validation_accuracy,
        *({"crop": crop} for crop in CROPS),
        max_timesteps=12,
        seeds=range(3),
    )
    for crop, accuracy in zip(CROPS, accuracies, strict=True):
        if crop in finders:
            assert accuracy.min() > 0.85, crop
        else:
            assert accuracy.max() < 0.7, crop


def test_shorter_windows_are_learned_where_long_ones_forget():
    whole, shortened = compare(
        pairs_of(marked, at=3, n_timesteps=120),
        validation_accuracy,
        {"max_timesteps": None},
        {"max_timesteps": 12},
        pooling="last",
    )
    assert np.median(whole) < 0.7
    assert shortened.min() > 0.85


def test_cropping_anew_in_each_epoch_narrows_the_gap_to_validation():
    problem = pairs_of(tones, n=24, n_timesteps=60, noise=1.0)
    fixed, drawn = compare(
        problem,
        lambda c, data: (gap(c, data), last("val_loss", 5)(c, data)),
        {"crop": "centre"},
        {"crop": "random"},
        max_timesteps=30,
        max_epochs=60,
    )
    assert np.median(drawn[:, 0]) < np.median(fixed[:, 0]) / 2
    assert np.median(drawn[:, 1]) < 0.8 * np.median(fixed[:, 1])
    assert (drawn < fixed).sum() >= 8
