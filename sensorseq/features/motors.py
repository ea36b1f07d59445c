"""Features of motors: what their currents and speeds tell about friction, load and turning."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]
Term = tuple[str, Rows, Any]  # a name, values (n, t), and the smallest size (n,) or 0

RIDGE = 1e-3  # relative to the mean square of each term
_REST = 0.05  # tanh rises from 0 to 1 within a few times this fraction of the mean speed
LEAST_SLOPE = 0.03  # a change per step below this fraction of the speed counts less
_CONSTANT = 1e-9  # a series with a smaller relative spread has no correlation
_LARGEST = 1e30


@dataclass(frozen=True)
class Motor:
    """The channels of a motor: their columns in a window, names and units ("" if unknown)."""

    columns: tuple[int, int]  # of the current and of the speed
    names: tuple[str, str]
    units: tuple[str, str] = ("", "")


def motor_features(
    motors: Sequence[Motor], X: Rows, lengths: NDArray[np.int64] | None, rate_hz: Optional[float]
) -> Rows:
    """Return the features (n, F) of windows (n, t, c) in physical units; `feature_names` has names.

    A coefficient of a standing motor, and any other ratio with the denominator 0, is 0. All
    features of a window without samples are 0.
    """
    n, n_steps = X.shape[:2]
    features = np.zeros((n, len(feature_names(motors, rate_hz))))
    valid = np.full(n, n_steps) if lengths is None else np.asarray(lengths)
    for length in np.unique(valid[valid > 0]).tolist():
        rows = np.flatnonzero(valid == length)
        # one channel after the other in memory, so that no result depends on the other windows
        x = np.ascontiguousarray(X[rows, :length].transpose(2, 0, 1), np.float64)
        with np.errstate(all="ignore"):
            values = np.stack([value for _, value in _features(motors, x, rate_hz)], axis=1)
        features[rows] = np.clip(np.nan_to_num(values), -_LARGEST, _LARGEST)
    return features


def feature_names(motors: Sequence[Motor], rate_hz: Optional[float]) -> list[str]:
    """Return the name of each feature: the motor, the quantity and its unit."""
    nothing = np.zeros((1 + max(max(motor.columns) for motor in motors), 0, 1))
    return [name for name, _ in _features(motors, nothing, rate_hz)]


def _features(
    motors: Sequence[Motor], x: Rows, rate_hz: Optional[float]
) -> Iterator[tuple[str, Rows]]:
    """Yield the name and the values (n,) of each feature of channels (c, n, t)."""
    rate = 1.0 if rate_hz is None else rate_hz
    time = "step" if rate_hz is None else "s"
    currents, speeds = ([x[motor.columns[k]] for motor in motors] for k in (0, 1))
    is_pair = len(motors) == 2
    yaw = speeds[1] - speeds[0] if is_pair else speeds[0]
    size = np.sqrt(sum(_mean_square(v) for v in speeds) / len(motors))
    for motor, i, v in zip(motors, currents, speeds):
        name, amp, _, per_speed = _units(motor)
        size = size if is_pair else np.sqrt(_mean_square(v))
        terms: list[Term] = [
            (f"friction, independent of speed ({amp})", _direction(v), 0.0),
            (f"viscous term ({per_speed})", v, size),
            (f"inertia ({per_speed} per {time})", _slope(v) * rate, LEAST_SLOPE * rate * size),
        ]
        if is_pair:
            terms.append((f"turning, second motor minus first ({per_speed})", yaw, size))
            terms.append((f"|turning| ({per_speed})", np.abs(yaw), size))
        yield from _regression(name, amp, i, terms, with_noise=True)
        yield from _energy(motor, i, v)
        yield f"{name}: correlation of current and speed", _correlation(i, v)
        yield f"{name}: sd of second differences ({amp})", _change(_change(i)).std(axis=-1)
        weight = np.abs(i)
        yield f"{name}: sd / mean of |current|", _ratio(weight.std(axis=-1), weight.mean(axis=-1))
    total = _total(currents)
    drive = _total(speeds) if len(motors) > 2 else sum(speeds) / len(speeds)
    together, amp, meter, per_speed = _units_together(motors)
    axes = [("speed", np.abs(drive)), ("|acceleration|", np.abs(_slope(drive) * rate))]
    if is_pair:
        both, side = currents[0] + currents[1], currents[1] - currents[0]
        one, of_slope = np.ones_like(drive), LEAST_SLOPE * rate * size
        terms = [
            (f"constant ({amp})", one, 0.0),
            (f"speed ({per_speed})", np.abs(drive), size),
            (f"acceleration ({per_speed} per {time})", _slope(drive) * rate, of_slope),
            (f"|turning| ({per_speed})", np.abs(yaw), size),
        ]
        yield from _regression(f"{together}: sum of currents", amp, both, terms)
        terms = [
            (f"constant ({amp})", one, 0.0),
            (f"turning ({per_speed})", yaw, size),
            (f"change of turning ({per_speed} per {time})", _slope(yaw) * rate, of_slope),
        ]
        yield from _regression(f"{together}: difference of currents", amp, side, terms)
        axes.append(("|turning|", np.abs(yaw)))
        turned, driven = np.abs(yaw).mean(axis=-1), np.abs(drive).mean(axis=-1)
        yield f"{together}: turning / (turning + speed)", _ratio(turned, turned + driven)
        yield f"{together}: correlation of both currents", _correlation(*currents)
        yield f"{together}: correlation of sum |i| and |turning|", _correlation(total, axes[-1][1])
    if len(motors) > 1:
        effort, travel = total.mean(axis=-1), _total(speeds).mean(axis=-1)
        yield f"{together}: sum |i| per speed ({per_speed})", _ratio(effort, travel)
        power = sum(np.abs(i) * np.abs(v) for i, v in zip(currents, speeds)).mean(axis=-1)
        yield f"{together}: mean |i| |v| ({amp} x {meter})", power
        yield f"{together}: correlation of sum |i| and speed", _correlation(total, axes[0][1])
    for axis, by in axes:
        for third, part in zip(("lowest", "middle", "highest"), _thirds(total, by)):
            place = f"sum |i| in the {third} third of {axis} ({amp})"
            yield f"{together}: mean {place}", part.mean(axis=-1)
            yield f"{together}: sd {place}", part.std(axis=-1)


def _units(motor: Motor) -> tuple[str, str, str, str]:
    """Return a motor's name, the units of its current and speed, and of current per speed."""
    (current, speed), (amp, meter) = motor.names, motor.units
    per_speed = f"{amp} per {meter or 'unit of ' + speed}".strip()
    return current, amp or f"unit of {current}", meter or f"unit of {speed}", per_speed


def _units_together(motors: Sequence[Motor]) -> tuple[str, str, str, str]:
    """Return the same as `_units` for all motors; units that differ are unknown."""
    joined = [" + ".join(motor.names[k] for motor in motors) for k in (0, 1)]
    units = [{motor.units[k] for motor in motors} for k in (0, 1)]
    amp, meter = (of_all.pop() if len(of_all) == 1 else "" for of_all in units)
    return _units(Motor((0, 0), (joined[0], joined[1]), (amp, meter)))


def _regression(
    name: str, amp: str, y: Rows, terms: list[Term], with_noise: bool = False
) -> Iterator[tuple[str, Rows]]:
    """Yield the coefficients of the terms, and statistics of what they leave of y (n, t).

    Each term is divided by its size, so that the ridge is independent of units. Because of the
    smallest sizes, rounding errors and other small changes do not count as motion.
    """
    A = np.stack([term for _, term, _ in terms], axis=1)  # (n, p, t)
    size = np.stack(
        [np.maximum(np.sqrt(_mean_square(term)), least) for _, term, least in terms], axis=1
    )
    size = np.where(size > 0, size, 1.0)
    products = np.stack([(A * A[:, [k]]).mean(axis=-1) for k in range(len(terms))], axis=1)
    products = products / (size[:, :, None] * size[:, None]) + RIDGE * np.eye(len(terms))
    right = (A * y[:, None]).mean(axis=-1) / size
    is_usable = np.isfinite(products).all(axis=(1, 2))
    products[~is_usable] = np.eye(len(terms))
    coefficients = np.linalg.solve(products, right[:, :, None])[:, :, 0] / size
    rest = y - (A * coefficients[:, :, None]).sum(axis=1)
    for k, (what, *_) in enumerate(terms):
        yield f"{name}: {what}", coefficients[:, k]
    yield f"{name}: sd of the residual ({amp})", rest.std(axis=-1)
    yield f"{name}: sd of the residual's differences ({amp})", _change(rest).std(axis=-1)
    if with_noise:
        yield f"{name}: mean |residual| ({amp})", np.abs(rest).mean(axis=-1)
        lagged = (rest[:, 1:] * rest[:, :-1]).sum(axis=-1)
        yield f"{name}: lag-1 correlation of the residual", _ratio(lagged, (rest**2).sum(axis=-1))


def _energy(motor: Motor, i: Rows, v: Rows) -> Iterator[tuple[str, Rows]]:
    """Yield what a motor spends on motion."""
    name, amp, meter, per_speed = _units(motor)
    travel, weight = np.abs(v).mean(axis=-1), np.abs(i)
    forward = i * _direction(v)
    yield f"{name}: sum |i| per speed ({per_speed})", _ratio(weight.mean(axis=-1), travel)
    yield f"{name}: heat per speed ({amp} x {per_speed})", _ratio(_mean_square(i), travel)
    yield f"{name}: mean |i| |v| ({amp} x {meter})", (weight * np.abs(v)).mean(axis=-1)
    yield f"{name}: mean current in the direction of motion ({amp})", forward.mean(axis=-1)
    yield f"{name}: sd of the current in the direction of motion ({amp})", forward.std(axis=-1)


def _thirds(total: Rows, by: Rows) -> Iterator[Rows]:
    """Yield the values of `total` (n, t) at the lowest, middle and highest third of `by`."""
    n = total.shape[1]
    ordered = np.take_along_axis(total, np.argsort(by, axis=1, kind="stable"), axis=1)
    for third in range(3):
        start = min(n * third // 3, n - 1)
        yield ordered[:, start : max(n * (third + 1) // 3, start + 1)]


def _total(series: Sequence[Rows]) -> Rows:
    """Return the sum of the absolute values of all motors."""
    return np.asarray(sum(np.abs(each) for each in series))


def _direction(v: Rows) -> Rows:
    """Return the direction of motion, -1 to 1, which changes smoothly at rest."""
    rest = _REST * np.abs(v).mean(axis=-1, keepdims=True)
    return np.asarray(np.tanh(v / np.where(rest > 0, rest, 1.0)))


def _slope(v: Rows) -> Rows:
    """Return the change of v (n, t) per step: central differences, one-sided at the ends."""
    if v.shape[1] < 2:
        return np.zeros_like(v)
    ends = v[:, 1:2] - v[:, :1], v[:, -1:] - v[:, -2:-1]
    return np.concatenate([ends[0], (v[:, 2:] - v[:, :-2]) / 2, ends[1]], axis=1)


def _change(x: Rows) -> Rows:
    """Return the differences of successive steps; 0 for a single step."""
    return np.diff(x, axis=1) if x.shape[1] > 1 else np.zeros_like(x)


def _mean_square(x: Rows) -> Rows:
    return np.asarray((x**2).mean(axis=-1))


def _ratio(a: Rows, b: Rows) -> Rows:
    return np.asarray(np.where(b > 0, a / np.where(b > 0, b, 1.0), 0.0))


def _correlation(a: Rows, b: Rows) -> Rows:
    """Return the correlation of two series; 0 if one of them is constant up to rounding."""
    a_0, b_0 = (x - x.mean(axis=-1, keepdims=True) for x in (a, b))
    spread = np.sqrt(_mean_square(a_0)) * np.sqrt(_mean_square(b_0))
    varies = [
        np.sqrt(_mean_square(x_0)) > _CONSTANT * np.sqrt(_mean_square(x))
        for x_0, x in ((a_0, a), (b_0, b))
    ]
    return np.where(varies[0] & varies[1], _ratio((a_0 * b_0).mean(axis=-1), spread), 0.0)
