"""Test which values `pytest --rounding SEED` moves, and by how much; see tests/rounding."""

import os
import subprocess
import sys

import numpy as np
import pytest
import rounding_moves
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

FIT = """
import hashlib, sys, warnings
import numpy as np
from sensorseq import SensorLSTMClassifier
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, y = rng.normal(size=(40, 12, 1)), np.arange(40) % 2
fits = [
    SensorLSTMClassifier(max_epochs=2, features=features, refit=None, random_state=0).fit(X, y)
    for features in (None, "summary", None)
]
print(*[hashlib.sha256(fit.predict_proba(X).tobytes()).hexdigest() for fit in fits])
"""
FLOATS = st_numpy.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.tuples(st.integers(1, 5), st.integers(1, 4)),
    elements=st.floats(-(2.0**90), 2.0**90, width=32),
)


@given(FLOATS, st.integers(0, 50))
def test_a_move_is_at_most_the_last_digit_and_leaves_zero(values, seed):
    for after in (
        rounding_moves.move_weights(seed, "weight", values),
        rounding_moves.move_features(seed, values),
    ):
        assert after.dtype == values.dtype
        assert (np.abs(after - values) <= np.spacing(np.abs(values))).all()
        assert (after[values == 0] == 0).all()


def test_a_third_of_all_values_stays_a_third_rises_a_third_falls():
    steps = rounding_moves.moves(1, "weight", np.arange(9000))
    counts = np.unique(steps, return_counts=True)[1]
    assert (np.abs(counts - 3000) < 4 * np.sqrt(9000 * 2 / 9)).all()


def test_a_move_depends_on_seed_name_and_place_alone():
    whole = rounding_moves.moves(3, "weight", np.arange(100))
    assert rounding_moves.moves(3, "weight", [42]) == whole[42]
    for other in (
        rounding_moves.moves(4, "weight", np.arange(100)),
        rounding_moves.moves(3, "bias", np.arange(100)),
    ):
        assert (other != whole).any()


def test_equal_features_of_a_column_stay_equal():
    values = np.tile(np.linspace(1, 2, 7), (3, 1))
    after = rounding_moves.move_features(2, values)
    assert (after == after[0]).all()
    assert (after != values).any()


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """Fit three times in another process under a seed; return the digests and the log."""

    def run(seed):
        log = tmp_path_factory.mktemp("rounding") / "log"
        own = {
            rounding_moves.SEED: seed,
            rounding_moves.LOG: str(log),
            "PYTHONPATH": rounding_moves.HERE,
        }
        done = subprocess.run(
            [sys.executable, "-c", FIT],
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            check=True,
        )
        lines = rounding_moves.read_log(log)
        count = {
            what: sum(n for kind, _, _, n in lines if kind == what) for what in ("trained", "moved")
        }
        return done.stdout.split(), count

    return run


@pytest.mark.long
def test_a_process_that_a_test_starts_is_covered(fit):
    plain, of_plain = fit("")
    moved, of_moved = fit("5")
    assert of_plain == {"trained": of_moved["trained"], "moved": 0}
    assert of_moved["trained"] >= 4  # three networks and a ridge regression
    assert of_moved["moved"] > 0
    assert all(a != b for a, b in zip(plain, moved, strict=True))
    assert moved[0] == moved[2]  # the same seed gives the same bits
    assert fit("5")[0] == moved
