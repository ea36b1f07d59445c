import numpy as np
import pytest
from fits import plain_classifier
from remedy_problems import SMALL, compare, pairs_of, relabelled, tones

pytestmark = pytest.mark.trains

PLAIN = {"class_weight": None, "sampler": "shuffle", "loss": "cross_entropy"}
BALANCED = {
    "class_weight balanced": {"class_weight": "balanced"},
    "class_weight effective_number": {"class_weight": "effective_number"},
    "class_weight by hand": {"class_weight": {0: 1.0, 1: 10.0}},
    "sampler balanced": {"sampler": "balanced"},
    "focal with class_weight": {"loss": "focal", "class_weight": "balanced"},
}


def rare(seed):
    """Two hundred windows of a class, twenty of the other, half hidden in noise."""
    X, y, X_val, y_val = pairs_of(tones, n=400, n_val=200, n_classes=2, noise=2.0)(seed)
    kept = (y == 0) | (np.cumsum(y == 1) <= 20)
    return X[kept], y[kept], X_val, y_val


def recall_and_balanced_accuracy(classifier, data):
    right = classifier.predict(data[2]) == data[3]
    recalls = [right[data[3] == k].mean() for k in (0, 1)]
    return recalls[1], np.mean(recalls)


@pytest.mark.parametrize("remedy", BALANCED)
def test_the_rare_class_is_found_with(remedy):
    plain, weighted = compare(
        rare, recall_and_balanced_accuracy, PLAIN, {**PLAIN, **BALANCED[remedy]}, max_epochs=15
    )
    assert np.median(plain[:, 0]) < 0.1
    assert np.median(weighted[:, 0]) > 0.25
    assert np.median(weighted[:, 1]) > np.median(plain[:, 1]) + 0.03
    assert (weighted > plain).all(axis=1).sum() >= 4


def test_focal_alone_makes_the_rare_class_likelier_but_seldom_the_likeliest():
    def probability_and_recall(classifier, data):
        p = classifier.predict_proba(data[2])[data[3] == 1, 1]
        return p.mean(), (p > 0.5).mean()

    plain, focal = compare(
        rare, probability_and_recall, {"loss": "cross_entropy"}, {"loss": "focal"}, max_epochs=15
    )
    assert (focal[:, 0] > 1.5 * plain[:, 0]).all()
    assert np.median(focal[:, 1]) < 0.25


def test_class_weights_do_not_enter_the_validation_loss():
    plain, weighted = compare(
        rare,
        lambda classifier, _: classifier.history_["val_loss"][0],
        {},
        {"class_weight": {0: 1.0, 1: 50.0}},
        learning_rate=1e-12,
        max_epochs=1,
        seeds=range(2),
    )
    np.testing.assert_allclose(plain, weighted, rtol=1e-5)


def test_a_small_weight_for_doubtful_labels_brings_the_accuracy_back():
    trusting, doubting = [], []
    for seed in range(5):
        X, y, X_val, y_val = pairs_of(tones, n=90)(seed)
        given = relabelled(y, 0.4, seed)
        classifier = plain_classifier(**{**SMALL, "random_state": seed})
        trusting.append(classifier.fit(X, given, X_val=X_val, y_val=y_val).score(X_val, y_val))
        weight = np.where(given == y, 1.0, 0.02)
        doubting.append(
            classifier.fit(X, given, weight, X_val=X_val, y_val=y_val).score(X_val, y_val)
        )
    assert np.median(doubting) > np.median(trusting) + 0.1
    assert all(d > t for d, t in zip(doubting, trusting, strict=True))
