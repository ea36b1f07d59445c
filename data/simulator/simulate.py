"""Simulates the motor currents of a fleet of robots on six surfaces, logged with sensor errors.

    python data/simulator/simulate.py

This command regenerates the recordings of `data/surfaces` byte for byte. `motion.py` contains the
physics.
"""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from motion import (
    STEP_S,
    TRACE_UNITS,
    Array,
    Robot,
    Surface,
    draw_drive,
    draw_ground,
    simulate_motion,
)
from scipy.signal import lfilter

from sensorseq.recording import Channel, Recording

_SIX = (
    # Thin carpet on a hard floor grips and releases rubber abruptly, which causes stick-slip in
    # turns.
    Surface("carpet", 0.028, 4e-6, 0.95, 0.50, 0.05, shear_stiffness_per_m=600.0),
    Surface(
        "grass", 0.05, 1024e-6, 0.55, 0.45, 0.3, waviness=2.5, shear_stiffness_per_m=60.0,
        tufts_per_m=1.5, tuft_drag=0.10, tuft_length_m=0.12,
    ),
    Surface(
        "gravel", 0.03, 256e-6, 0.60, 0.50, 0.3, waviness=1.6,
        bumps_per_m=4.0, bump_height_m=0.006, bump_length_m=0.08,
    ),
    Surface("ice", 0.012, 16e-6, 0.12, 0.07, 0.1),
    Surface("paving", 0.015, 16e-6, 0.85, 0.70, 0.5, slab_length_m=0.30, slab_step_m=0.005),
    Surface(
        "sand", 0.10, 64e-6, 0.50, 0.50, 0.3, waviness=2.5, shear_stiffness_per_m=40.0,
        slip_sinkage=0.3,
    ),
)  # fmt: skip
SURFACES: dict[str, Surface] = {surface.name: surface for surface in _SIX}
"""The six surfaces of the embedded recordings, by name."""

_STAMP_STEP_S = 0.001  # resolution of the timestamps
_FILTER_S = 0.004  # time constant of the low-pass filter before the ADC
_ADC_BITS, ADC_STEP_A = 12, 0.005

_SEED = 1
_N_ROBOTS = 10
_N_RECORDINGS = 2  # per pair of robot and surface
_DURATION_S = 71.0  # for fourteen windows, or thirteen if too many samples are lost at the ends


@dataclass(frozen=True)
class Sampling:
    """Describes how the current is logged.

    Parameters
    ----------
    sample_rate_hz : float, default=50
        Nominal rate of the logger.
    jitter_s : float, default=0.0015
        Standard deviation of the stamps' errors, which are clipped at a fifth of a period.
    missing_fraction : float, default=0.004
        Fraction of missing samples.
    gap_probability : float, default=0.25
        Probability that a recording has one gap, of 0.2 to 0.6 s.
    """

    sample_rate_hz: float = 50.0
    jitter_s: float = 0.0015
    missing_fraction: float = 0.004
    gap_probability: float = 0.25


def vary_surface(surface: Surface, rng: np.random.Generator) -> Surface:
    """Return a different place on the same surface, with randomly varied parameters."""
    friction = _spread(rng, 1.0, 0.10)
    return replace(
        surface,
        rolling_resistance=_spread(rng, surface.rolling_resistance, 0.15),
        roughness_m3=_spread(rng, surface.roughness_m3, 0.5),
        static_friction=surface.static_friction * friction,
        kinetic_friction=surface.kinetic_friction * friction,
        bumps_per_m=_spread(rng, surface.bumps_per_m, 0.3),
        slab_step_m=_spread(rng, surface.slab_step_m, 0.2),
        tufts_per_m=_spread(rng, surface.tufts_per_m, 0.3),
        tuft_drag=_spread(rng, surface.tuft_drag, 0.2),
        slip_sinkage=_spread(rng, surface.slip_sinkage, 0.25),
    )


def vary_robot(robot: Robot, rng: np.random.Generator) -> Robot:
    """Return the robot on a different day: battery charge, winding temperature and load differ."""
    return replace(
        robot,
        battery_v=float(rng.uniform(13.6, 16.4)),
        winding_temperature_c=float(rng.uniform(20.0, 80.0)),
        mass_kg=_spread(rng, robot.mass_kg, 0.04),
    )


def draw_robot(rng: np.random.Generator, name: str) -> Robot:
    """Draw one robot of a fleet, with random load, wear, tuning and sensor errors."""
    nominal = Robot()
    return replace(
        nominal,
        name=name,
        mass_kg=_spread(rng, nominal.mass_kg, 0.20),
        wheel_radius_m=_spread(rng, nominal.wheel_radius_m, 0.12),
        gear_efficiency=_spread(rng, nominal.gear_efficiency, 0.10),
        gear_friction_n_m=_spread(rng, nominal.gear_friction_n_m, 0.35),
        gear_viscous_n_m_s=_spread(rng, nominal.gear_viscous_n_m_s, 0.50),
        rotor_inertia_kg_m2=_spread(rng, nominal.rotor_inertia_kg_m2, 0.15),
        torque_constant_n_m_a=_spread(rng, nominal.torque_constant_n_m_a, 0.08),
        proportional_v_s=_spread(rng, nominal.proportional_v_s, 0.25),
        integral_v=_spread(rng, nominal.integral_v, 0.25),
        feed_forward=float(rng.uniform(0.8, 1.0)),
        acceleration_m_s2=_spread(rng, nominal.acceleration_m_s2, 0.3),
        deceleration_m_s2=_spread(rng, nominal.deceleration_m_s2, 0.3),
        cruise_speed_m_s=_spread(rng, nominal.cruise_speed_m_s, 0.2),
        carcass_stiffness_n_m=_spread(rng, nominal.carcass_stiffness_n_m, 0.3),
        sensor_gain=_spread(rng, nominal.sensor_gain, 0.05),
        sensor_offset_a=float(rng.uniform(-0.04, 0.04)),
        sensor_noise_a=_spread(rng, nominal.sensor_noise_a, 0.3),
    )


def _spread(rng: np.random.Generator, value: float, share: float) -> float:
    """Draw a value log-uniformly from `value * exp(-share)` to `value * exp(share)`."""
    return value * float(np.exp(share * rng.uniform(-1.0, 1.0)))


def simulate_recordings(
    surfaces: Sequence[str],
    robots: Sequence[Robot],
    duration_s: float,
    *,
    random_states: Sequence[Any],
    recording_ids: Sequence[str],
    sampling: Sampling | None = None,
    channels: Sequence[str] = ("current_a",),
) -> list[Recording]:
    """Simulate several recordings in one call; each recording is as if it were simulated alone.

    Parameters
    ----------
    surfaces : sequence of str
        Names in `SURFACES`, which become the labels.
    robots : sequence of Robot
        The robot of each recording; its name is the group.
    duration_s : float
        Length in seconds.
    random_states : sequence of int, sequence of int or numpy Generator
        Seeds for the ground, the state of battery and winding, the driver and the sensor errors.
        The same seeds give the same recordings.
    recording_ids : sequence of str
        Identifier of each recording.
    sampling : Sampling, optional
        The logger; by default, it records at 50 Hz with jitter and missing samples.
    channels : sequence of str, default=("current_a",)
        Names in `TRACE_UNITS`. Only the current has sensor errors; the other channels are exact and
        have the same timestamps.
    """
    sampling = sampling or Sampling()
    rngs = [np.random.default_rng(state) for state in random_states]
    places, today, drives, grounds = [], [], [], []
    for surface, robot, rng in zip(surfaces, robots, rngs, strict=True):
        places.append(vary_surface(SURFACES[surface], rng))
        today.append(vary_robot(robot, rng))
        drives.append(draw_drive(duration_s, today[-1], rng))
        grounds.append(draw_ground(places[-1], today[-1], rng))
    recorded = [*dict.fromkeys(("current_a", *channels))]
    motion = simulate_motion(places, today, drives, grounds, recorded)
    recordings = []
    for index, (robot, recording_id) in enumerate(zip(today, recording_ids, strict=True)):
        timestamps_s, sampled = _log(motion, index, robot, sampling, rngs[index])
        recordings.append(
            Recording(
                np.column_stack([sampled[name] for name in channels]),
                timestamps_s,
                tuple(Channel(name, TRACE_UNITS[name]) for name in channels),
                recording_id,
                group=robot.name,
                label=places[index].name,
                attributes={"simulated": True},
            )
        )
    return recordings


def _log(
    motion: dict[str, Array],
    index: int,
    robot: Robot,
    sampling: Sampling,
    rng: np.random.Generator,
) -> tuple[Array, dict[str, Array]]:
    """Sample one case as a logger does; return timestamps in seconds and the sampled traces."""
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


def simulate_fleet(
    robots: Sequence[Robot], seed: int, count: int, duration_s: float, recording_id: str
) -> list[Recording]:
    """Simulate `count` recordings of each robot on each surface.

    `recording_id` is a format string with the fields `surface`, `robot` and `k`.
    """
    plan = [
        (
            surface,
            robot,
            [seed, i, j, k],
            recording_id.format(surface=surface, robot=robot.name, k=k),
        )
        for i, surface in enumerate(SURFACES)
        for j, robot in enumerate(robots)
        for k in range(count)
    ]
    surfaces, of, states, names = map(list, zip(*plan, strict=True))
    return simulate_recordings(surfaces, of, duration_s, random_states=states, recording_ids=names)


def write_surfaces(folder: Path) -> None:
    """Simulate the recordings of `data/surfaces` and write them with their manifest."""
    robots = [
        draw_robot(np.random.default_rng([_SEED, number]), f"robot_{number:02d}")
        for number in range(_N_ROBOTS)
    ]
    path = "{surface}/{robot}_{k:02d}.csv.gz"
    recordings = simulate_fleet(robots, _SEED, _N_RECORDINGS, _DURATION_S, path)
    lines = ["path,label,group"]
    for recording in recordings:
        file = folder / recording.recording_id
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_compressed_csv(recording))
        lines.append(f"{recording.recording_id},{recording.label},{recording.group}")
    manifest = "\n".join(lines) + "\n"
    (folder / "manifest.csv").write_text(manifest, encoding="utf-8", newline="\n")


def _compressed_csv(recording: Recording) -> bytes:
    # Timestamps are in steps of 1 ms and currents in steps of 5 mA, so three decimals are exact.
    rows = zip(recording.timestamps_s.tolist(), recording.values[:, 0].tolist(), strict=True)
    lines = ["time_s,current_a", *(f"{time_s:.3f},{current_a:.3f}" for time_s, current_a in rows)]
    return gzip.compress(("\n".join(lines) + "\n").encode(), compresslevel=9, mtime=0)


if __name__ == "__main__":
    write_surfaces(Path(__file__).resolve().parents[1] / "surfaces")
