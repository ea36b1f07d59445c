"""Parameters of the simulated surfaces, robots and loggers, and how a fleet of robots varies."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from sensorseq.checks import check_real


def _check_fields(one: Any, signed: Sequence[str] = (), most: float = 1e6) -> None:
    """Raise unless fields are in [0, most], or in [-most, most] for those that are `signed`."""
    for field in fields(one):
        if field.name != "name":
            low = -most if field.name in signed else 0.0
            check_real(field.name, getattr(one, field.name), low, most, high_open=False)


@dataclass(frozen=True)
class Surface:
    """Parameters of the ground under a wheel.

    Parameters
    ----------
    name : str
        Label of the recordings made on it.
    rolling_resistance : float
        Resisting force over weight in steady rolling.
    roughness_m3 : float
        Elevation spectrum at 0.1 cycles/m as in ISO 8608, in m^3.
    static_friction, kinetic_friction : float
        Friction coefficients at rest and in full sliding; the drop between them causes stick-slip.
    stribeck_velocity_m_s : float
        Slip velocity at half of that drop.
    waviness : float, default=2.0
        Exponent of the elevation spectrum; larger means fewer short waves.
    shear_stiffness_per_m : float, default=180
        Friction coefficient gained per metre of tangential deflection: the tyre's own on hard
        ground, one over the shear displacement modulus on loose ground.
    bumps_per_m, bump_height_m, bump_length_m : float, default=0, 0, 0.1
        Stones: rate, mean height and length. They push back, then push on.
    slab_length_m, slab_step_m : float, default=0, 0
        Slabs: length, and standard deviation of their heights. 0: no slabs.
    tufts_per_m, tuft_drag, tuft_length_m : float, default=0, 0, 0.1
        Tufts: rate, mean extra resistance over weight and length. They only push back.
    slip_sinkage : float, default=0
        Extra rolling resistance at full slip, by digging in.
    sinkage_length_m : float, default=0.3
        Rolling distance over which the sinkage builds up.
    """

    name: str
    rolling_resistance: float
    roughness_m3: float
    static_friction: float
    kinetic_friction: float
    stribeck_velocity_m_s: float
    waviness: float = 2.0
    shear_stiffness_per_m: float = 180.0
    bumps_per_m: float = 0.0
    bump_height_m: float = 0.0
    bump_length_m: float = 0.1
    slab_length_m: float = 0.0
    slab_step_m: float = 0.0
    tufts_per_m: float = 0.0
    tuft_drag: float = 0.0
    tuft_length_m: float = 0.1
    slip_sinkage: float = 0.0
    sinkage_length_m: float = 0.3

    def __post_init__(self) -> None:
        _check_fields(self, most=1000.0)

    def _varied(self, rng: np.random.Generator) -> "Surface":
        """Return another stretch of the same surface, with parameters varied by a few percent."""
        friction = _spread(rng, 1.0, 0.10)
        return replace(
            self,
            rolling_resistance=_spread(rng, self.rolling_resistance, 0.15),
            roughness_m3=_spread(rng, self.roughness_m3, 0.5),
            static_friction=self.static_friction * friction,
            kinetic_friction=self.kinetic_friction * friction,
            bumps_per_m=_spread(rng, self.bumps_per_m, 0.3),
            slab_step_m=_spread(rng, self.slab_step_m, 0.2),
            tufts_per_m=_spread(rng, self.tufts_per_m, 0.3),
            tuft_drag=_spread(rng, self.tuft_drag, 0.2),
            slip_sinkage=_spread(rng, self.slip_sinkage, 0.25),
        )


def _spread(rng: np.random.Generator, value: float, share: float) -> float:
    """Draw a value log-uniformly from `value * exp(-share)` to `value * exp(share)`."""
    return value * float(np.exp(share * rng.uniform(-1.0, 1.0)))


_SIX = (
    # Thin carpet on a hard floor grips and releases rubber abruptly: stick-slip when turning.
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


@dataclass(frozen=True)
class Robot:
    """One robot: drive, body, controller, current sensor. The defaults describe a nominal robot.

    Parameters
    ----------
    name : str
        Group of the recordings made with it.
    mass_kg : float
        Mass of the whole robot; each side carries half of it.
    wheel_radius_m, half_wheelbase_m, track_m, contact_length_m : float
        Geometry. The contact patch averages the ground and carries bristles out.
    gear_ratio, gear_efficiency : float
        Motor turns per wheel turn; share of the torque that reaches the wheel.
    gear_friction_n_m, gear_viscous_n_m_s : float
        Load-independent friction at the motor shaft.
    rotor_inertia_kg_m2 : float
        Motor, gears and wheels, seen from the motor shaft.
    torque_constant_n_m_a : float
        Torque per ampere; in SI units also volts per rad/s.
    resistance_ohm, inductance_h, winding_temperature_c : float
        Winding at 20 degrees Celsius, and its temperature.
    battery_v, battery_resistance_ohm, battery_v_per_a_s, idle_current_a : float
        Open-circuit voltage at the start, inner resistance, fall for each ampere-second; current
        of the rest of the robot.
    nominal_v : float
        Battery voltage for which the controller computes its duty.
    proportional_v_s, integral_v, feed_forward, current_limit_a : float
        Controller: gains on motor speed, share of the back EMF it adds, largest motor current.
    acceleration_m_s2, deceleration_m_s2, cruise_speed_m_s : float
        Slopes of the set-point when speeding up and slowing down, and its typical value.
    carcass_mass_kg, carcass_stiffness_n_m, carcass_damping_n_s_m : float
        Tyres and suspension of one side, sideways.
    sensor_gain, sensor_offset_a, sensor_noise_a : float
        Current sensor: gain, offset, standard deviation of its noise.
    """

    name: str = "nominal"
    mass_kg: float = 12.0
    wheel_radius_m: float = 0.09
    half_wheelbase_m: float = 0.13
    track_m: float = 0.40
    contact_length_m: float = 0.04
    gear_ratio: float = 26.0
    gear_efficiency: float = 0.78
    gear_friction_n_m: float = 0.006
    gear_viscous_n_m_s: float = 1e-5
    rotor_inertia_kg_m2: float = 2.2e-5
    torque_constant_n_m_a: float = 0.030
    resistance_ohm: float = 0.6
    inductance_h: float = 0.5e-3
    winding_temperature_c: float = 40.0
    battery_v: float = 15.0
    battery_resistance_ohm: float = 0.08
    battery_v_per_a_s: float = 2e-4
    idle_current_a: float = 1.0
    nominal_v: float = 15.0
    proportional_v_s: float = 0.08
    integral_v: float = 0.25
    feed_forward: float = 0.9
    current_limit_a: float = 9.0
    acceleration_m_s2: float = 1.5
    deceleration_m_s2: float = 2.0
    cruise_speed_m_s: float = 0.6
    carcass_mass_kg: float = 1.5
    carcass_stiffness_n_m: float = 4000.0
    carcass_damping_n_s_m: float = 4.0
    sensor_gain: float = 1.0
    sensor_offset_a: float = 0.0
    sensor_noise_a: float = 0.012

    def __post_init__(self) -> None:
        _check_fields(self, ("winding_temperature_c", "sensor_gain", "sensor_offset_a"))
        check_real("track_m", self.track_m, 1e-9)

    def _varied(self, rng: np.random.Generator) -> "Robot":
        """Return the robot on another day, with other charge, winding temperature and load."""
        return replace(
            self,
            battery_v=float(rng.uniform(13.6, 16.4)),
            winding_temperature_c=float(rng.uniform(20.0, 80.0)),
            mass_kg=_spread(rng, self.mass_kg, 0.04),
        )


def draw_robot(rng: np.random.Generator, name: str) -> Robot:
    """Draw one robot of a fleet, with random load, wear, tuning and sensor errors."""
    one = Robot()
    return replace(
        one,
        name=name,
        mass_kg=_spread(rng, one.mass_kg, 0.20),
        wheel_radius_m=_spread(rng, one.wheel_radius_m, 0.12),
        gear_efficiency=_spread(rng, one.gear_efficiency, 0.10),
        gear_friction_n_m=_spread(rng, one.gear_friction_n_m, 0.35),
        gear_viscous_n_m_s=_spread(rng, one.gear_viscous_n_m_s, 0.50),
        rotor_inertia_kg_m2=_spread(rng, one.rotor_inertia_kg_m2, 0.15),
        torque_constant_n_m_a=_spread(rng, one.torque_constant_n_m_a, 0.08),
        proportional_v_s=_spread(rng, one.proportional_v_s, 0.25),
        integral_v=_spread(rng, one.integral_v, 0.25),
        feed_forward=float(rng.uniform(0.8, 1.0)),
        acceleration_m_s2=_spread(rng, one.acceleration_m_s2, 0.3),
        deceleration_m_s2=_spread(rng, one.deceleration_m_s2, 0.3),
        cruise_speed_m_s=_spread(rng, one.cruise_speed_m_s, 0.2),
        carcass_stiffness_n_m=_spread(rng, one.carcass_stiffness_n_m, 0.3),
        sensor_gain=_spread(rng, one.sensor_gain, 0.05),
        sensor_offset_a=float(rng.uniform(-0.04, 0.04)),
        sensor_noise_a=_spread(rng, one.sensor_noise_a, 0.3),
    )


@dataclass(frozen=True)
class Sampling:
    """How the current is logged.

    Parameters
    ----------
    sample_rate_hz : float, default=50
        Nominal rate of the logger.
    jitter_s : float, default=0.0015
        Standard deviation of a stamp around its nominal time, clipped at a fifth of a period.
    missing_fraction : float, default=0.004
        Share of missing samples.
    gap_probability : float, default=0.25
        Chance that a recording has one gap of 0.2 to 0.6 s.
    """

    sample_rate_hz: float = 50.0
    jitter_s: float = 0.0015
    missing_fraction: float = 0.004
    gap_probability: float = 0.25

    def __post_init__(self) -> None:
        _check_fields(self)
        check_real("sample_rate_hz", self.sample_rate_hz, 1e-9)
        for name in ("missing_fraction", "gap_probability"):
            check_real(name, getattr(self, name), 0.0, 1.0, high_open=False)
