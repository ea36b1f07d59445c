"""Repeats the computation of csrc/signal/augment.cpp for single windows, with numpy and scipy."""

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

KINDS = (
    *("window_shift", "time_warp", "magnitude_warp", "scaling", "jitter", "offset", "mirror"),
    "rotation",
)


def stream(seed, index, copy, kind):
    counter = np.array([0, KINDS.index(kind), copy, 0], np.uint64)
    key = np.array([seed, index], np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))


def augmented(x, how, draw, sd=None):
    """Return an augmented window (t, c); `draw(kind)` returns the random generator for a kind."""
    n_timesteps, n_channels = x.shape
    noise_sd = x.std(axis=0) if sd is None else sd
    most = int(how.window_shift * n_timesteps)
    if most:
        x = shifted(x, int(draw("window_shift").integers(-most, most + 1)))
    if how.time_warp and n_timesteps > 2:
        log_speed = draw("time_warp").normal(0, how.time_warp, how.n_knots + 2)
        x = warped(x, np.exp(spline(n_timesteps, log_speed)))
    if (how.mirror or how.swap) and draw("mirror").random() < 0.5:
        order, sign = np.arange(n_channels), np.ones(n_channels)
        for a, b in how.swap:
            order[[a, b]] = b, a
        sign[list(how.mirror)] = -1
        x = x[:, order] * sign
        noise_sd = noise_sd[order] if sd is None else noise_sd
    if how.rotation_deg:
        height, turn, share = draw("rotation").random(3) * [2, 2 * np.pi, 1] - [1, 0, 0]
        flat = np.sqrt(1 - height**2)
        axis = np.array([flat * np.cos(turn), flat * np.sin(turn), height])
        turned = Rotation.from_rotvec(share * how.rotation_deg * axis, degrees=True)
        x = x.copy()
        for triple in map(list, how.axes):
            x[:, triple] = turned.apply(x[:, triple])
    if how.magnitude_warp:
        gains = draw("magnitude_warp").normal(1, how.magnitude_warp, (how.n_knots + 2, n_channels))
        x = x * spline(n_timesteps, gains)
    if how.scaling:
        x = x * draw("scaling").normal(1, how.scaling, n_channels)
    if how.offset:
        x = x + how.offset * noise_sd * draw("offset").normal(size=n_channels)
    if how.jitter:
        x = x + how.jitter * noise_sd * draw("jitter").normal(size=x.shape)
    return x


def shifted(x, shift):
    return x[np.clip(np.arange(len(x)) + shift, 0, len(x) - 1)]


def warped(x, speed):
    passed = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2)])
    steps = np.arange(len(x))
    times = passed * (len(x) - 1) / passed[-1]
    return np.stack([np.interp(times, steps, channel) for channel in x.T], axis=1)


def spline(n_timesteps, values):
    return CubicSpline(np.linspace(0, 1, len(values)), values)(np.linspace(0, 1, n_timesteps))
