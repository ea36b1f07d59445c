"""Measures the accuracy on BorealTC's inertial unit when the sensor is turned in the test part.

    bench_rotation.py --borealtc FOLDER

The recordings are divided into five folds. Each test window is turned five times by 20 degrees,
each time about a different, uniformly drawn axis. Prints the mean accuracy over the folds. Takes
ten minutes on one core.
"""

from pathlib import Path

import numpy as np
from accuracy import data
from common.arguments import make_parser
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from sensorseq import SensorLSTMClassifier

ANGLE_DEG, N_DRAWS = 20, 5
AXES = [(0, 1, 2), (3, 4, 5)]  # wx, wy, wz, ax, ay, az
WAYS = {
    "default": None,
    "default, standard": "standard",
    "default, up to 20 degrees": {"rotation_deg": 20, "axes": AXES},
    "default, up to 30 degrees": {"rotation_deg": 30, "axes": AXES},
}


def turned(X, seed):
    """Turn both triples of axes by `ANGLE_DEG`, about a different random axis in each window."""
    axis = np.random.default_rng(seed).normal(size=(len(X), 3))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    R = Rotation.from_rotvec(ANGLE_DEG * axis, degrees=True).as_matrix()
    triples = X.reshape(*X.shape[:2], 2, 3)
    return np.einsum("nij,ntkj->ntki", R, triples).reshape(X.shape).astype(X.dtype)


def measure(train, test, augment):
    """Return the accuracies on the unchanged and on the turned test windows."""
    clf = SensorLSTMClassifier(augment=augment, random_state=0)
    clf.fit(train.X, train.y, groups=train.groups)
    draws = [clf.score(turned(test.X, seed), test.y) for seed in range(N_DRAWS)]
    return clf.score(test.X, test.y), np.mean(draws)


def main():
    """Print a line for each kind of augmentation."""
    parser = make_parser(__doc__)
    parser.add_argument("--borealtc", type=Path, required=True, help="folder of the BorealTC set")
    parser.add_argument("--only", nargs="+", choices=WAYS, help="ways to train")
    options = parser.parse_args()
    windows, folds = data.load("B", data.Places(options.borealtc))
    parts = [(windows.take(f.train), windows.take(f.test)) for f in folds if f.split == 0]
    for name, augment in WAYS.items():
        if options.only is None or name in options.only:
            with threadpool_limits(1):
                accuracies = np.array([measure(*part, augment) for part in parts])
            plain, rotated = 100 * accuracies.mean(axis=0)
            print(f"{name}: {plain:.1f} % as recorded, {rotated:.1f} % turned", flush=True)


if __name__ == "__main__":
    main()
