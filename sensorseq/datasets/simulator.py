"""Simulated recordings: a motion, logged with sensor and clock errors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.signal import lfilter

from sensorseq.checks import check_real
from sensorseq.datasets.motion import (
    STEP_S,
    TRACE_UNITS,
    Array,
    draw_drive,
    draw_ground,
    simulate_motion,
)
from sensorseq.datasets.parameters import SURFACES, Robot, Sampling, Surface
from sensorseq.errors import ArgumentError, check_choice
from sensorseq.recording import Channel, Recording

_STAMP_STEP_S = 0.001  # resolution of the timestamps
_FILTER_S = 0.004  # time constant of the low-pass filter before the ADC
_ADC_BITS, ADC_STEP_A = 12, 0.005


def simulate_recordings(
    surfaces: Sequence[Surface | str],
    robots: Sequence[Robot],
    duration_s: float = 60.0,
    *,
    random_states: Sequence[Any],
    recording_ids: Sequence[str],
    sampling: Sampling | None = None,
    channels: Sequence[str] = ("current_a",),
) -> list[Recording]:
    """Simulate several recordings at once, each identical to that of `simulate_recording`.

    Parameters
    ----------
    surfaces, robots, random_states, recording_ids : sequences of equal length
        One entry per recording; see `simulate_recording`.
    duration_s, sampling, channels
        See `simulate_recording`.
    """
    channels = [check_choice("channels", name, TRACE_UNITS) for name in channels]
    sampling = sampling or Sampling()
    n_cases = len(surfaces)
    check_real("duration_s", duration_s, 1.0)
    if {len(robots), len(random_states), len(recording_ids)} != {n_cases}:
        raise ArgumentError("give one robot, random state and recording id for each surface.")
    try:
        rngs = [np.random.default_rng(state) for state in random_states]
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"random_state: {error}.") from error
    places, today, drives, grounds = [], [], [], []
    for surface, robot, rng in zip(surfaces, robots, rngs, strict=True):
        if not isinstance(surface, Surface):
            surface = SURFACES[check_choice("surface", surface, SURFACES)]
        places.append(surface._varied(rng))
        today.append(robot._varied(rng))
        drives.append(draw_drive(duration_s, today[-1], rng))
        grounds.append(draw_ground(places[-1], today[-1], rng))
    with np.errstate(all="ignore"):  # values out of range are rejected below
        recorded = [*dict.fromkeys(("current_a", *channels))]
        motion = simulate_motion(places, today, drives, grounds, recorded)
    if not all(np.isfinite(trace).all() for trace in motion.values()):
        raise ArgumentError("the motion grew without limit; choose a more usual robot or surface.")
    recordings = []
    for index, robot in enumerate(today):
        timestamps_s, sampled = _log(motion, index, robot, sampling, rngs[index])
        recordings.append(
            Recording(
                np.column_stack([sampled[name] for name in channels]),
                timestamps_s,
                tuple(Channel(name, TRACE_UNITS[name]) for name in channels),
                recording_ids[index],
                group=robot.name,
                label=places[index].name,
                attributes={"simulated": True},
            )
        )
    return recordings


def simulate_recording(
    surface: Surface | str,
    robot: Robot | None = None,
    duration_s: float = 60.0,
    *,
    random_state: Any = None,
    recording_id: str | None = None,
    sampling: Sampling | None = None,
    channels: Sequence[str] = ("current_a",),
) -> Recording:
    """Simulate one logged session of a robot on a surface.

    Parameters
    ----------
    surface : Surface or str
        The surface, or the name of one of `SURFACES`.
    robot : Robot, optional
        The nominal robot by default.
    duration_s : float, default=60
        Length in seconds, at least 1.
    random_state : int, sequence of int or numpy Generator, optional
        Equal seeds give equal recordings. The seed sets the stretch of ground, battery and winding
        on that day, the driver and the sensor's errors.
    recording_id : str, optional
        ``<surface>_<robot>_000`` by default.
    sampling : Sampling, optional
        The logger; by default 50 Hz with jitter and missing samples.
    channels : sequence of str, default=("current_a",)
        Names in `TRACE_UNITS`. Only the current has sensor errors; the other channels are exact,
        at the same time stamps.

    Returns
    -------
    Recording
        The label is the surface's name, the group the robot's; attribute ``simulated`` is True.
    """
    robot = robot or Robot()
    usual = f"{getattr(surface, 'name', surface)}_{robot.name}_000"
    return simulate_recordings(
        [surface],
        [robot],
        duration_s,
        random_states=[random_state],
        recording_ids=[recording_id or usual],
        sampling=sampling,
        channels=channels,
    )[0]


def _log(
    motion: Mapping[str, Array],
    index: int,
    robot: Robot,
    sampling: Sampling,
    rng: np.random.Generator,
) -> tuple[Array, dict[str, Array]]:
    """Sample one case like its logger: timestamps in seconds, and each trace at these times."""
    time_s = np.arange(1, len(motion["current_a"]) + 1, dtype=np.float64) * STEP_S
    period_s = 1.0 / sampling.sample_rate_hz
    n_samples = int(time_s[-1] / period_s) - 1
    jitter_s = sampling.jitter_s * rng.standard_normal(n_samples)
    jitter_s = np.clip(jitter_s, -0.2 * period_s, 0.2 * period_s)
    stamps_s = (np.arange(n_samples) + 1) * period_s + jitter_s
    sampled = {name: np.interp(stamps_s, time_s, trace[:, index]) for name, trace in motion.items()}
    keep = np.exp(-STEP_S / _FILTER_S)
    filtered = lfilter([1.0 - keep], [1.0, -keep], motion["current_a"][:, index])
    seen = robot.sensor_gain * np.interp(stamps_s, time_s, filtered)
    seen += robot.sensor_offset_a + robot.sensor_noise_a * rng.standard_normal(n_samples)
    half_range = 2 ** (_ADC_BITS - 1)
    codes = np.clip(np.round(seen / ADC_STEP_A), -half_range, half_range - 1)
    sampled["current_a"] = codes * ADC_STEP_A

    kept = rng.random(n_samples) >= sampling.missing_fraction
    if rng.random() < sampling.gap_probability:
        start_s = rng.uniform(0.1, 0.8) * stamps_s[-1]
        kept &= (stamps_s < start_s) | (stamps_s > start_s + rng.uniform(0.2, 0.6))
    stamps_s = np.round(stamps_s / _STAMP_STEP_S) * _STAMP_STEP_S
    return stamps_s[kept], {name: trace[kept] for name, trace in sampled.items()}
