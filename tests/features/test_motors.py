"""The features of motors find the coefficients of simulated motors and keep the laws of units."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.features.motors import RIDGE, Motor, feature_names, motor_features

RATE_HZ = 20.0
LEFT = Motor((0, 2), ("curL", "velL"), ("A", "m/s"))
RIGHT = Motor((1, 3), ("curR", "velR"), ("A", "m/s"))
BOTH = [LEFT, RIGHT]
RNG = np.random.default_rng(0)


def smooth(n, t, channels, scale=0.3):
    """Return speeds that change smoothly, and often their sign."""
    steps = RNG.normal(size=(n, t + 40, channels))
    kernel = np.hanning(41) / np.hanning(41).sum()
    filtered = np.apply_along_axis(lambda x: np.convolve(x, kernel, "valid"), 1, steps)
    return scale * filtered / filtered.std()


def features_of(X, motors=BOTH, lengths=None, rate_hz=RATE_HZ):
    """Return the features by name."""
    values = motor_features(motors, X, lengths, rate_hz)
    return dict(zip(feature_names(motors, rate_hz), values.T, strict=True))


def test_the_coefficients_are_those_of_simulated_motors():
    v = smooth(30, 400, 2, 0.8)
    truth = {"friction, independent of speed (A)": 1.5, "viscous term (A per m/s)": 2.0}
    truth["inertia (A per m/s per s)"] = 0.4
    friction, viscous, inertia = truth.values()
    slope = np.gradient(v, axis=1) * RATE_HZ
    i = friction * np.sign(v) + viscous * v + inertia * slope
    i += RNG.normal(scale=0.05, size=i.shape)
    found = features_of(np.concatenate([i, v], axis=2))
    for motor in ("curL", "curR"):
        for name, expected in truth.items():
            assert np.median(found[f"{motor}: {name}"]) == pytest.approx(expected, rel=0.05)
        assert np.median(found[f"{motor}: |turning| (A per m/s)"]) == pytest.approx(0, abs=0.02)
    alone = features_of(
        np.concatenate([i[:, :, :1], v[:, :, :1]], axis=2), [Motor((0, 1), LEFT.names)]
    )
    name = "curL: inertia (per unit of velL per s)"
    assert np.median(alone[name]) == pytest.approx(inertia, rel=0.05)


def test_the_cost_of_turning_is_found():
    v = smooth(30, 400, 2, 0.8) + 1.5
    yaw = v[:, :, 1] - v[:, :, 0]
    i = np.stack([3.0 + 0.7 * np.abs(yaw) - 0.2 * yaw, 3.0 + 0.7 * np.abs(yaw) + 0.9 * yaw], axis=2)
    found = features_of(np.concatenate([i, v], axis=2))
    for name, expected in {
        "sum of currents: |turning| (A per m/s)": 1.4,
        "sum of currents: constant (A)": 6.0,
        "difference of currents: turning (A per m/s)": 1.1,
    }.items():
        assert np.median(found[f"curL + curR: {name}"]) == pytest.approx(
            expected, rel=0.06
        )  # of the ridge


def ridge(terms, sizes, y):
    """Return the coefficients by lstsq with a row of the ridge for each term."""
    A = np.stack(terms, axis=1) / np.array(sizes)
    penalty = np.sqrt(RIDGE * len(y)) * np.eye(len(terms))
    rows = np.concatenate([A, penalty]), np.concatenate([y, np.zeros(len(terms))])
    return np.linalg.lstsq(*rows, rcond=None)[0] / np.array(sizes)


@given(length=st.integers(2, 40), seed=st.integers(0, 999))
def test_features_are_those_of_a_plain_reference(length, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(1, 50, 4)) + rng.normal(size=(1, 1, 4))
    found = {k: value[0] for k, value in features_of(X, lengths=np.array([length])).items()}
    i, j, v, w = X[0, :length].T
    size = np.sqrt((np.mean(v**2) + np.mean(w**2)) / 2)

    def rms(x, least=size):
        return max(np.sqrt(np.mean(x**2)), least)

    dv, yaw = np.gradient(v) * RATE_HZ, w - v
    direction = np.tanh(v / (0.05 * np.mean(np.abs(v))))
    terms = [direction, v, dv, yaw, np.abs(yaw)]
    least = [0, size, 0.03 * size * RATE_HZ, size, size]
    expected = ridge(terms, [rms(*pair) for pair in zip(terms, least, strict=True)], i)
    names = [name for name in found if name.startswith("curL: ")]
    np.testing.assert_allclose([found[name] for name in names[:5]], expected, atol=1e-8)
    rest = i - np.stack(terms, axis=1) @ expected
    assert found["curL: sd of the residual (A)"] == pytest.approx(rest.std(), abs=1e-8)
    lagged = (rest[1:] * rest[:-1]).sum() / (rest**2).sum()
    assert found["curL: lag-1 correlation of the residual"] == pytest.approx(lagged, abs=1e-6)
    heat = (i**2).sum() / np.abs(v).sum()
    assert found["curL: heat per speed (A x A per m/s)"] == pytest.approx(heat)
    forward = (i * direction).mean()
    name = "curL: mean current in the direction of motion (A)"
    assert found[name] == pytest.approx(forward, abs=1e-12)
    total, order = np.abs(i) + np.abs(j), np.argsort(np.abs(yaw), kind="stable")
    highest = total[order][min(2 * length // 3, length - 1) :]
    name = "curL + curR: mean sum |i| in the highest third of |turning| (A)"
    assert found[name] == pytest.approx(highest.mean())
    correlation = np.corrcoef(i, v)[0, 1]
    assert found["curL: correlation of current and speed"] == pytest.approx(correlation, abs=1e-9)


FACTOR = {"A x A per m/s": (2, -1), "A per m/s per s": (1, -1), "A per m/s": (1, -1)}
FACTOR |= {"A x m/s": (1, 1), "A": (1, 0)}


@pytest.mark.parametrize("motors", [[LEFT], BOTH, [*BOTH, Motor((4, 5), ("i", "v"), ("A", "m/s"))]])
def test_other_units_multiply_each_feature_as_its_name_says(motors):
    X = RNG.normal(size=(6, 33, 6)) + 0.5
    currents, speeds = ([motor.columns[k] for motor in motors] for k in (0, 1))
    before = features_of(X, motors)
    Y = X.copy()
    Y[:, :, currents] *= 10
    Y[:, :, speeds] *= 1000
    for name, values in features_of(Y, motors).items():
        unit = name[name.rfind("(") + 1 : -1] if name.endswith(")") else ""
        of_current, of_speed = FACTOR.get(unit, (0, 0))
        expected = before[name] * 10.0**of_current * 1000.0**of_speed
        np.testing.assert_allclose(values, expected, rtol=1e-8, atol=1e-12, err_msg=name)


def test_names_without_units_say_of_which_channel():
    names = feature_names([Motor((0, 1), ("curL", "velL"))], None)
    assert "curL: viscous term (per unit of velL)" in names
    assert "curL: inertia (per unit of velL per step)" in names
    assert "curL: friction, independent of speed (unit of curL)" in names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("n_motors", [1, 2, 3])
@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_short_and_still_windows_have_finite_features(n_motors, length):
    motors = [Motor((k, k + 3), (f"i{k}", f"v{k}")) for k in range(n_motors)]
    X = RNG.normal(size=(8, 9, 6))
    X[1, :, 3:] = 0.0
    X[2] = 0.0
    X[3] = 1.0
    X[4] = 1e150
    X[5] *= 1e-160
    for lengths in (np.full(8, length), None):
        values = motor_features(motors, X, lengths, RATE_HZ)
        assert np.isfinite(values).all()
    assert not motor_features(motors, X, np.zeros(8, np.int64), RATE_HZ).any()


def test_a_pair_that_drives_straight_has_no_cost_of_turning():
    v = smooth(4, 60, 1) + 1.0
    v = np.concatenate([v, v * (1 + 1e-8 * RNG.normal(size=v.shape))], axis=2)
    i = 2.0 + RNG.normal(size=v.shape)
    found = features_of(np.concatenate([i, v], axis=2))
    for name, values in found.items():
        if "turning (A per m/s)" in name or "turning, second" in name or "|turning| (A per" in name:
            assert np.abs(values).max() < 1e-3, name
