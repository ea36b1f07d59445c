"""Small problems on which one remedy shows, and runs in pairs that show it.

Every arm of a comparison sees the same windows from the same first weights, so that what differs
between two columns of a row is the argument alone.
"""

import warnings

import numpy as np
from fits import plain_classifier
from sklearn.exceptions import ConvergenceWarning

SMALL = {
    "hidden_size": 8,
    "learning_rate": 0.01,
    "lr_schedule": "constant",
    "batch_size": 16,
    "max_epochs": 40,
    "early_stopping": False,
    "restore_best": False,
    "device": "cpu",
}


def tones(n, seed, *, n_timesteps=24, n_classes=3, noise=0.5, first=0.3, step=0.3):
    """Sines in random phase whose frequency is the class, one channel."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    t = np.arange(n_timesteps)
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    X = np.sin(t * (first + step * y[:, None]) + phase)
    return (X + noise * rng.normal(size=X.shape))[:, :, None], y


def marked(n, seed, *, at, n_timesteps=40, noise=1.0, height=3.0):
    """Noise in which the sign of two samples at `at` is the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = noise * rng.normal(size=(n, n_timesteps, 1))
    X[:, at : at + 2] += height * (2.0 * y[:, None, None] - 1.0)
    return X, y


def relabelled(y, share, seed):
    """Give a share of the windows another class."""
    rng = np.random.default_rng(seed)
    y = y.copy()
    rows = rng.permutation(len(y))[: round(share * len(y))]
    y[rows] = (y[rows] + rng.integers(1, y.max() + 1, len(rows))) % (y.max() + 1)
    return y


def pairs_of(make, n=60, n_val=90, **options):
    """Return what draws, for a seed, windows to learn from and others to validate on."""
    return lambda seed: (*make(n, seed, **options), *make(n_val, 1000 + seed, **options))


def mislabelled(seed):
    """Draw noisy tones, a quarter of which have a wrong label where they are learned from."""
    X, y, X_val, y_val = pairs_of(tones, noise=1.0)(seed)
    return X, relabelled(y, 0.25, seed), X_val, y_val


def run(data, seed, **arguments):
    """Fit the small network on ``(X, y)`` and validate on ``(X_val, y_val)``."""
    X, y, X_val, y_val = data
    classifier = plain_classifier(**{**SMALL, "random_state": seed, **arguments})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # some arms are there to diverge
        return classifier.fit(X, y, X_val=X_val, y_val=y_val)


def compare(problem, measure, *arms, seeds=range(5), **common):
    """Return what `measure` says of each arm, shape (n_arms, n_seeds) and its own."""
    rows = []
    for seed in seeds:
        data = problem(seed)
        rows.append([measure(run(data, seed, **{**common, **arm}), data) for arm in arms])
    return np.array(rows, dtype=float).swapaxes(0, 1)


def last(column, n_epochs=1):
    """Measure the mean of a column of the history over its last epochs."""
    return lambda classifier, data: classifier.history_[column][-n_epochs:].mean()


def roughness(column, since=0):
    """Measure by how much a column moves from one epoch to the next, as the median."""
    return lambda classifier, data: np.median(np.abs(np.diff(classifier.history_[column][since:])))


def rises(column, since=0):
    """Measure the share of epochs in which a column rises."""
    return lambda classifier, data: np.mean(np.diff(classifier.history_[column][since:]) > 0)


def gap(classifier, data):
    """Measure how much higher the loss is on validation windows than on those learned from."""
    X, y, X_val, y_val = data
    return log_loss(classifier, X_val, y_val) - log_loss(classifier, X, y)


def log_loss(classifier, X, y):
    """Return the mean of ``-log p`` of the true class."""
    p = classifier.predict_proba(X)
    return -np.log(np.maximum(p[np.arange(len(y)), y], 1e-300)).mean()
