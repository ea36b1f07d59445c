"""Derived channels of the terrain windows, each computed from the samples of its window alone.

Stands in for ``sensorseq prepare --derive auto``: nothing else in this benchmark derives channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOTOR_RATE_HZ = 6.5
IMU_RATE_HZ = 100.0
FRAME_SAMPLES, FRAME_HOP = 50, 10  # of the IMU: 0.5 s, every 0.1 s
_MOVING_STEPS = 7  # about 1 s of the motors
_FLOOR = 0.01  # added to a magnitude before the logarithm
_BINS = slice(1, 26)

Floats = NDArray[Any]


def motor_channels(motor: Floats) -> Floats:
    """Return 31 channels from windows (n, t, 4) of curL, curR, velL and velR."""
    current, velocity = motor[:, :, :2], motor[:, :, 2:]
    change = np.diff(motor, axis=1, prepend=motor[:, :1])
    first = motor[:, :1].repeat(_MOVING_STEPS - 1, axis=1)
    over = np.lib.stride_tricks.sliding_window_view(
        np.concatenate([first, motor], axis=1), _MOVING_STEPS, axis=1
    )
    parts = [
        motor,
        change,
        np.abs(change),
        current * np.sign(velocity),
        np.abs(current).sum(axis=2, keepdims=True),
        current[:, :, :1] - current[:, :, 1:],
        velocity[:, :, :1] - velocity[:, :, 1:],
        current * velocity,
        over.mean(axis=3),
        over.std(axis=3),
        over.max(axis=3) - over.min(axis=3),
    ]
    return np.concatenate(parts, axis=2).astype(np.float32)


def imu_frames(imu: Floats) -> Floats:
    """Return log spectra and means of overlapping Hann frames, (n, frames, 26 c)."""
    frames = np.lib.stride_tricks.sliding_window_view(imu, FRAME_SAMPLES, axis=1)[:, ::FRAME_HOP]
    mean = frames.mean(axis=3, keepdims=True)  # (n, frames, c, 1)
    spectrum = np.abs(np.fft.rfft((frames - mean) * np.hanning(FRAME_SAMPLES), axis=3))
    log_power = np.log(spectrum[:, :, :, _BINS] + _FLOOR)
    n, n_frames = frames.shape[:2]
    parts = [log_power.reshape(n, n_frames, -1), mean[:, :, :, 0]]
    return np.concatenate(parts, axis=2).astype(np.float32)


def hold_on_frames(motor: Floats, first_sample_s: Floats, n_frames: int) -> Floats:
    """Repeat the motor samples on the IMU's frames: the last one before each frame ends.

    `first_sample_s` is the time of each window's first motor sample after the window's start.
    """
    ends_s = (FRAME_SAMPLES + FRAME_HOP * np.arange(n_frames)) / IMU_RATE_HZ
    return hold(motor, first_sample_s, ends_s)


def hold(motor: Floats, first_sample_s: Floats, times_s: Floats) -> Floats:
    """Return the last motor sample at or before each time, the first one where there is none."""
    index = np.floor((times_s[None] - first_sample_s[:, None]) * MOTOR_RATE_HZ + 1e-6)
    index = np.clip(index, 0, motor.shape[1] - 1).astype(np.int64)
    return np.take_along_axis(motor, index[:, :, None], axis=1)
