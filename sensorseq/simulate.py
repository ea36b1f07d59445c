"""Simulated motor current of wheeled robots on six surfaces: physics, not coloured noise.

One drive side of a small skid-steered robot is integrated in time: a permanent-magnet DC motor
behind a PWM stage and a sagging battery, gearbox, wheel, tyre contact, and half of the robot's
mass. A surface acts through forces on that chain alone; the label enters nowhere else.

- Motor: ``L di/dt = u - R i - Ke w`` with ``u = duty * battery voltage``, torque ``Kt i``, Kt = Ke.
- Battery: open-circuit voltage falling with the charge taken, minus the drop of its resistance.
- Gearbox: Coulomb, viscous and load-dependent friction.
- Controller: PI on motor speed with feed-forward, ramped set-point, current limit.
- Contact: LuGre friction; rolling carries bristles out of the contact patch [1]_. It produces
  slip, a static and a sliding friction coefficient, and stick-slip if the sliding one is much
  smaller.
- Turning: wheels scrub sideways on an elastic carcass; the two sides carry the scrub moment as a
  pair of longitudinal forces.
- Ground: rolling resistance [2]_ [3]_, grade and roughness as a spectrum over distance [4]_, stones
  and slab edges, tufts that only resist, sinkage that grows with slip [5]_.
- Sensor: gain and offset error, anti-alias filter, noise, 12-bit ADC, clock jitter, missing
  samples, gaps.

Left out: load transfer between wheels, pitch of the body, friction shared between the two
directions of slip. The figures describe no real machine; data/README.md lists which surface
parameters have a source and which are assumed.

References
----------
.. [1] C. Canudas de Wit, P. Tsiotras, E. Velenis, M. Basset, G. Gissinger, "Dynamic friction
       models for road/tire longitudinal interaction", Vehicle System Dynamics 39(3), 2003: the
       average lumped model. The Stribeck curve here is the Lorentzian of D. P. Hess and A. Soom,
       "Friction at a lubricated line contact", J. Tribology 112(1), 1990.
.. [2] J. Carvill, *Mechanical Engineer's Data Handbook*, 1993, pneumatic tyres: 0.01-0.02 on
       asphalt and concrete, 0.01-0.04 gravel, 0.08 medium hard soil, 0.1-0.2 sand.
.. [3] M. D. Hoffman et al., "Assessment of wheelchair drag resistance using a coasting
       deceleration technique", Am. J. Phys. Med. Rehabil. 82(11), 2003: carpet adds 0.012 to
       linoleum.
.. [4] ISO 8608, *Mechanical vibration, Road surface profiles*: elevation spectrum
       ``Gd(n) = Gd(n0) (n / n0)^-w``, n0 = 0.1 cycles/m; the geometric mean of ``Gd(n0)`` is
       16e-6 m^3 in class A and four times more in each further class.
.. [5] J. Y. Wong, *Theory of Ground Vehicles*: shear displacement modulus and slip-sinkage of
       loose soil. Friction coefficients: R. K. Noon, *Engineering Analysis of Vehicular
       Accidents*, 1994.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from sensorseq.arguments import check_integer, check_real
from sensorseq.errors import ArgumentError, check_choice
from sensorseq.memory import check_memory
from sensorseq.recording import Channel, Recording

__all__ = [
    "SURFACES",
    "TRACE_UNITS",
    "Case",
    "Drive",
    "Ground",
    "Motion",
    "Robot",
    "Sampling",
    "Surface",
    "advance_current",
    "simulate_motion",
    "simulate_recording",
    "simulate_recordings",
]

Array = NDArray[np.float64]

GRAVITY_M_S2 = 9.80665
COPPER_PER_K = 0.0039  # growth of a copper winding's resistance from 20 degrees Celsius
ISO_8608_REFERENCE_PER_M = 0.1
STEP_S = 1e-3
_SPACING_M = 0.005  # of the points of the ground

TRACE_UNITS = {
    "current_a": "A",
    "voltage_v": "V",
    "battery_v": "V",
    "supply_current_a": "A",
    "motor_speed_rad_s": "rad/s",
    "wheel_speed_m_s": "m/s",
    "vehicle_speed_m_s": "m/s",
    "traction_n": "N",
    "resistance_n": "N",
    "gear_loss_n_m": "N m",
}
"""Quantities that a simulated motion records at every step, with their units."""


def _check_fields(
    one: Any, positive: Sequence[str] = (), signed: Sequence[str] = (), most: float = 1e6
) -> None:
    """Raise unless all numbers are 0 or more, those named `positive` more, at most `most`."""
    for field in fields(one):
        if field.name != "name":
            low = -most if field.name in signed else 1e-9 if field.name in positive else 0.0
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
        _check_fields(self, ("stribeck_velocity_m_s", "sinkage_length_m", "shear_stiffness_per_m"))
        for name in ("bumps_per_m", "tufts_per_m", "bump_height_m", "slab_step_m", "tuft_drag"):
            check_real(name, getattr(self, name), 0.0, 100.0)
        for name in ("bump_length_m", "tuft_length_m"):
            check_real(name, getattr(self, name), _SPACING_M, 10.0)
        if self.slab_length_m:
            check_real("slab_length_m", self.slab_length_m, _SPACING_M)

    def varied(self, rng: np.random.Generator) -> "Surface":
        """Return another stretch of the same surface, with parameters varied by some percent.

        Parameters
        ----------
        rng : numpy.random.Generator
        """
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
    """Draw a value log-uniformly between `value * exp(-share)` and `value * exp(share)`."""
    return value * float(np.exp(share * rng.uniform(-1.0, 1.0)))


_SIX = (
    # Thin carpet on a hard floor grips and releases the rubber abruptly: stick-slip when turning.
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
    battery_v, battery_resistance_ohm, battery_v_per_a_s : float
        Open-circuit voltage at the start, inner resistance, fall for each ampere-second.
    idle_current_a : float
        Current that the rest of the robot draws from the battery.
    nominal_v : float
        Battery voltage for which the controller computes its duty.
    proportional_v_s, integral_v : float
        Controller gains on motor speed: volts per rad/s and volts per rad.
    feed_forward : float
        Share of the back EMF that the controller adds from the set-point.
    current_limit_a : float
        Largest motor current.
    acceleration_m_s2, deceleration_m_s2 : float
        Slopes of the set-point when speeding up and slowing down.
    cruise_speed_m_s : float
        Typical speed chosen by its driver.
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

    _DIVISORS: ClassVar[Sequence[str]] = (
        "mass_kg",
        "wheel_radius_m",
        "track_m",
        "gear_ratio",
        "rotor_inertia_kg_m2",
        "torque_constant_n_m_a",
        "resistance_ohm",
        "inductance_h",
        "battery_v",
        "nominal_v",
        "acceleration_m_s2",
        "deceleration_m_s2",
        "carcass_mass_kg",
    )

    def __post_init__(self) -> None:
        signed = ("winding_temperature_c", "sensor_gain", "sensor_offset_a")
        _check_fields(self, self._DIVISORS, signed)
        check_real("gear_efficiency", self.gear_efficiency, 0.01, 1.0, high_open=False)

    @classmethod
    def drawn(cls, rng: np.random.Generator, name: str) -> "Robot":
        """Draw one robot of a fleet, with random load, wear, tuning and sensor errors.

        Parameters
        ----------
        rng : numpy.random.Generator
        name : str
            Its name, the group of its recordings.
        """
        one = cls()
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

    def varied(self, rng: np.random.Generator) -> "Robot":
        """Return the robot on another day: other battery charge, winding temperature and load.

        Parameters
        ----------
        rng : numpy.random.Generator
        """
        return replace(
            self,
            battery_v=float(rng.uniform(13.6, 16.4)),
            winding_temperature_c=float(rng.uniform(20.0, 80.0)),
            mass_kg=_spread(rng, self.mass_kg, 0.04),
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
    stamp_step_s : float, default=0.001
        Resolution of the stamps.
    missing_fraction : float, default=0.004
        Share of missing samples.
    gap_probability : float, default=0.25
        Chance that a recording has one gap of 0.2 to 0.6 s.
    filter_s : float, default=0.004
        Time constant of the low-pass filter before the ADC.
    full_scale_a : float, default=10.24
        The ADC covers -full_scale_a to +full_scale_a.
    adc_bits : int, default=12
        Codes are ``2 * full_scale_a / 2**adc_bits`` apart: 5 mA.
    """

    sample_rate_hz: float = 50.0
    jitter_s: float = 0.0015
    stamp_step_s: float = 0.001
    missing_fraction: float = 0.004
    gap_probability: float = 0.25
    filter_s: float = 0.004
    full_scale_a: float = 10.24
    adc_bits: int = 12

    def __post_init__(self) -> None:
        check_integer("adc_bits", self.adc_bits, 1, 32)
        _check_fields(self, ("sample_rate_hz", "stamp_step_s", "filter_s", "full_scale_a"))
        for name in ("missing_fraction", "gap_probability"):
            check_real(name, getattr(self, name), 0.0, 1.0, high_open=False)

    @property
    def adc_step_a(self) -> float:
        """Step between ADC codes in amperes."""
        return float(2.0 * self.full_scale_a / 2**self.adc_bits)


@dataclass(frozen=True, eq=False)
class Drive:
    """The driver's commands for one side: ramped set-points, one for each step.

    Parameters
    ----------
    speed_m_s : ndarray of shape (n_steps,)
        Set-point of the wheel's circumferential speed.
    yaw_rate_rad_s : ndarray of shape (n_steps,)
        Yaw rate; positive if this side is the outer one.
    step_s : float, default=0.001
        Time between set-points, which is also the integration step.
    """

    speed_m_s: Array
    yaw_rate_rad_s: Array
    step_s: float = STEP_S

    @classmethod
    def steady(
        cls, speed_m_s: float, duration_s: float, robot: Robot, yaw_rate_rad_s: float = 0.0
    ) -> "Drive":
        """Accelerate from standstill with the robot's ramp, then hold one speed and yaw rate.

        Parameters
        ----------
        speed_m_s : float
            The speed to hold.
        duration_s : float
            Length of the drive in seconds, including the ramp.
        robot : Robot
        yaw_rate_rad_s : float, default=0.0
            The yaw rate to hold.
        """
        wanted = np.full(round(duration_s / STEP_S), 1.0)
        slope = robot.acceleration_m_s2 / max(abs(speed_m_s), 1e-9)
        ramped = _ramp(wanted, slope, slope)
        return cls(speed_m_s * ramped, yaw_rate_rad_s * ramped)

    @classmethod
    def drawn(cls, duration_s: float, robot: Robot, rng: np.random.Generator) -> "Drive":
        """Draw a session: straights at changing speeds, curves, stops, turns on the spot.

        Parameters
        ----------
        duration_s : float
            Length of the session in seconds.
        robot : Robot
        rng : numpy.random.Generator
        """
        n_steps = round(duration_s / STEP_S)
        speed = np.zeros(n_steps)
        yaw_rate = np.zeros(n_steps)
        start = 0
        while start < n_steps:
            kind = int(rng.choice(4, p=(0.45, 0.30, 0.15, 0.10)))
            cruise = robot.cruise_speed_m_s * rng.uniform(0.5, 1.5)
            turn = rng.choice((-1.0, 1.0)) * rng.uniform(0.3, 1.2)
            length_s, forward, turning = (
                (rng.uniform(0.8, 2.5), cruise, 0.0),  # straight
                (rng.uniform(0.8, 2.0), 0.7 * cruise, turn),  # curve
                (rng.uniform(0.3, 0.8), 0.0, 0.0),  # stop
                (rng.uniform(0.6, 1.5), 0.0, turn),  # on the spot
            )[kind]
            end = start + round(length_s / STEP_S)
            speed[start:end] = forward + turning * robot.track_m / 2
            yaw_rate[start:end] = turning
            start = end
        yaw_slope = 2.0 * robot.acceleration_m_s2 / robot.track_m
        return cls(
            _ramp(speed, robot.acceleration_m_s2, robot.deceleration_m_s2),
            _ramp(yaw_rate, yaw_slope, yaw_slope),
        )


def _ramp(wanted: Array, rise_per_s: float, fall_per_s: float) -> Array:
    """Follow `wanted` from 0 with limited slopes: away from zero `rise`, towards it `fall`."""
    ramped = np.empty_like(wanted)
    value = 0.0
    for step, goal in enumerate(wanted.tolist()):
        difference = goal - value
        limit = (rise_per_s if difference * value >= 0.0 else fall_per_s) * STEP_S
        value += min(max(difference, -limit), limit)
        ramped[step] = value
    return ramped


@dataclass(frozen=True, eq=False)
class Ground:
    """A stretch of ground under one side, sampled over distance; it repeats after its end.

    Parameters
    ----------
    slope : ndarray of shape (N_POINTS,)
        Rise over run: a conservative force over weight.
    drag : ndarray of shape (N_POINTS,)
        Extra resistance over weight, always against the motion.
    """

    slope: Array
    drag: Array

    SPACING_M: ClassVar[float] = _SPACING_M
    N_POINTS: ClassVar[int] = 12288  # 61 m, about as far as the longest embedded recording drives

    @classmethod
    def flat(cls, slope: float = 0.0) -> "Ground":
        """Return smooth ground with one slope.

        Parameters
        ----------
        slope : float, default=0.0
            Rise over run.
        """
        return cls(np.full(cls.N_POINTS, slope), np.zeros(cls.N_POINTS))

    @classmethod
    def drawn(cls, surface: Surface, robot: Robot, rng: np.random.Generator) -> "Ground":
        """Draw roughness with the surface's spectrum, its stones, slabs and tufts.

        Parameters
        ----------
        surface : Surface
        robot : Robot
        rng : numpy.random.Generator
        """
        n_points, spacing_m = cls.N_POINTS, cls.SPACING_M
        length_m = n_points * spacing_m
        n_per_m = np.fft.rfftfreq(n_points, spacing_m)
        # One-sided density of the slope, (2 pi n)^2 times that of the elevation, from 0.05
        # cycles/m: the lower limit that ISO 8608 gives for off-road vehicles.
        used = n_per_m >= 0.05
        density = np.zeros_like(n_per_m)
        density[used] = (
            (2 * np.pi * n_per_m[used]) ** 2
            * surface.roughness_m3
            * (n_per_m[used] / ISO_8608_REFERENCE_PER_M) ** -surface.waviness
        )
        noise = rng.standard_normal((2, len(n_per_m)))
        # |c_k|^2 sums to half the density of bin k, as a real series has each bin twice.
        spectrum = n_points * np.sqrt(density / length_m) / 2 * (noise[0] + 1j * noise[1])
        features = np.zeros(n_points)
        drag = np.zeros(n_points)
        for _ in range(rng.poisson(surface.bumps_per_m * length_m)):
            size = rng.uniform(0.4, 1.6)
            inside, phase = cls._stretch(rng, surface.bump_length_m * np.sqrt(size))
            # Slope of a raised cosine: first up, then down.
            steepest = np.pi * surface.bump_height_m * np.sqrt(size) / surface.bump_length_m
            features[inside] -= steepest * np.sin(2 * np.pi * phase)
        if surface.slab_length_m > 0:
            edges_m = np.arange(
                rng.uniform(0, surface.slab_length_m), length_m, surface.slab_length_m
            )
            heights_m = surface.slab_step_m * rng.standard_normal(len(edges_m))
            rise = np.diff(heights_m, prepend=heights_m[-1:])
            features[(edges_m / spacing_m).astype(np.int64) % n_points] += rise / spacing_m
        for _ in range(rng.poisson(surface.tufts_per_m * length_m)):
            size = rng.uniform(0.4, 1.6)
            inside, phase = cls._stretch(rng, surface.tuft_length_m * size)
            drag[inside] += surface.tuft_drag * size * (0.5 + 0.5 * np.cos(2 * np.pi * phase))
        # The contact patch averages what lies under it, front and rear wheel share the side.
        wheels = np.sinc(n_per_m * robot.contact_length_m) * np.cos(
            2 * np.pi * n_per_m * robot.half_wheelbase_m
        )
        return cls(
            np.fft.irfft((spectrum + np.fft.rfft(features)) * wheels, n_points),
            np.fft.irfft(np.fft.rfft(drag) * wheels, n_points),
        )

    @classmethod
    def _stretch(cls, rng: np.random.Generator, length_m: float) -> tuple[NDArray[np.int64], Array]:
        """Draw a place: the points within `length_m` of it, and their phase in -0.5..0.5."""
        centre = rng.uniform(0, cls.N_POINTS)
        points = length_m / cls.SPACING_M
        inside = np.arange(np.ceil(centre - points / 2), np.floor(centre + points / 2) + 1)
        return inside.astype(np.int64) % cls.N_POINTS, (inside - centre) / points


@dataclass(frozen=True)
class Case:
    """The input of one simulated motion.

    Parameters
    ----------
    surface : Surface
    robot : Robot
    drive : Drive
    ground : Ground
    """

    surface: Surface
    robot: Robot
    drive: Drive
    ground: Ground


@dataclass(frozen=True, eq=False)
class Motion:
    """The simulated traces of several cases.

    Parameters
    ----------
    time_s : ndarray of shape (n_steps,)
        End of each step.
    traces : mapping of str to ndarray of shape (n_steps, n_cases)
        Traces by name; see `TRACE_UNITS`. Currents are taken at the end of a step, speeds at its
        beginning; voltages and forces act during it.
    """

    time_s: Array
    traces: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.traces[check_choice("trace", name, self.traces)]


def advance_current(
    current: Array, voltage: Array, motor_speed: Array, motor: Any, step_s: float
) -> tuple[Array, Array]:
    """Advance ``L di/dt = u - R i - Ke w`` exactly over a step with constant u and w.

    L / R is shorter than a step, so explicit schemes would fail.

    Parameters
    ----------
    current, voltage, motor_speed : ndarray
        Current at the beginning in A, voltage in V, speed in rad/s.
    motor : object
        With `torque_constant_n_m_a`, `resistance_ohm` and `inductance_h`, such as a `Robot`.
    step_s : float
        Length of the step in seconds.

    Returns
    -------
    end, mean : ndarray
        Current at the end of the step and its mean over it, in A.
    """
    rate = motor.resistance_ohm * step_s / motor.inductance_h
    decay = np.exp(-rate)
    settled = (voltage - motor.torque_constant_n_m_a * motor_speed) / motor.resistance_ohm
    return (
        settled + (current - settled) * decay,
        settled + (current - settled) * (1.0 - decay) / rate,
    )


# Micro-damping of the bristles in s/m: chosen, so that the nominal robot vibrates on a hard floor
# with a fifth of critical damping.
_BRISTLE_DAMPING_S_PER_M = 0.77


def _grip(
    bristle: Array, slip: Array, rolled: Array, surface: Any, robot: Any, step_s: float
) -> tuple[Array, Array]:
    """Advance the bristles of a contact implicitly: new deflection and friction coefficient."""
    ratio = slip / surface.stribeck_velocity_m_s
    drop = surface.static_friction - surface.kinetic_friction
    sliding = surface.kinetic_friction + drop / (1.0 + ratio * ratio)
    stiffness = surface.shear_stiffness_per_m
    loosening = stiffness * np.abs(slip) / sliding + rolled / robot.contact_length_m
    moved = (bristle + step_s * slip) / (1.0 + step_s * loosening)
    damping = _BRISTLE_DAMPING_S_PER_M * (moved - bristle) / step_s
    return moved, stiffness * moved + damping


def _smooth_sign(value: Array, width: float) -> Array:
    scaled = value / width
    return scaled / np.sqrt(1.0 + scaled * scaled)


def _columns(items: Sequence[Any]) -> SimpleNamespace:
    """Turn the numbers of several dataclasses of one kind into arrays of shape (n_items,)."""
    names = [field.name for field in fields(items[0]) if field.name != "name"]
    return SimpleNamespace(**{n: np.array([getattr(item, n) for item in items]) for n in names})


def _robots_of(cases: Sequence[Case]) -> SimpleNamespace:
    """Return the robots as columns, with the resistance of the warm winding."""
    robot = _columns([case.robot for case in cases])
    robot.resistance_ohm = robot.resistance_ohm * (
        1.0 + COPPER_PER_K * (robot.winding_temperature_c - 20.0)
    )
    robot.voltage_room_v = robot.resistance_ohm * robot.current_limit_a
    robot.load_loss = 1.0 / robot.gear_efficiency - 1.0
    return robot


def simulate_motion(cases: Sequence[Case], record: Sequence[str] = tuple(TRACE_UNITS)) -> Motion:
    """Integrate one drive side for several independent cases at once.

    The current is advanced exactly and the bristles implicitly, because both are faster than a
    step; speeds follow from the forces, then positions from the new speeds. The loop uses only
    operations that IEEE 754 rounds correctly, so results depend neither on the processor nor on
    the number of cases.

    Parameters
    ----------
    cases : sequence of Case
        The cases; all drives must have the same length and step.
    record : sequence of str, default=all of `TRACE_UNITS`

    Raises
    ------
    ArgumentError
        If `cases` is empty, the drives differ in length or step, or a trace is unknown.
    """
    record = [check_choice("record", name, TRACE_UNITS) for name in record]
    if len({(len(case.drive.speed_m_s), case.drive.step_s) for case in cases}) != 1:
        raise ArgumentError(
            "cases must not be empty, and their drives must have the same length and step_s."
        )
    n_steps, step_s = len(cases[0].drive.speed_m_s), cases[0].drive.step_s
    traces = {name: np.empty((n_steps, len(cases))) for name in record}
    for step, now in enumerate(_integrate(cases, step_s)):
        for name, trace in traces.items():
            trace[step] = now[name]
    time_s: Array = np.arange(1, n_steps + 1, dtype=np.float64) * step_s
    return Motion(time_s, traces)


def _integrate(cases: Sequence[Case], step_s: float) -> Iterator[dict[str, Array]]:
    """Yield all traces of each step."""
    surface = _columns([case.surface for case in cases])
    robot = _robots_of(cases)
    mass = robot.mass_kg / 2
    weight = mass * GRAVITY_M_S2
    lever = robot.wheel_radius_m / robot.gear_ratio  # metres per radian of the motor
    ke = robot.torque_constant_n_m_a
    slope = np.stack([case.ground.slope for case in cases])
    drag = np.stack([case.ground.drag for case in cases])
    wanted = np.stack([case.drive.speed_m_s for case in cases], axis=1) / lever
    yaw_rate = np.stack([case.drive.yaw_rate_rad_s for case in cases], axis=1)
    sideways = yaw_rate * robot.half_wheelbase_m

    current = motor = vehicle = distance = integral = charge = np.zeros(len(cases))
    bristle = sinkage = np.zeros(len(cases))
    side = bristle, bristle, bristle
    supply = robot.idle_current_a
    for step in range(len(wanted)):
        # Controller, PWM stage, battery, winding.
        duty, integral = _control(wanted[step], motor, integral, robot, step_s)
        battery = _battery_voltage(charge, supply, robot)
        voltage = _limit_current(duty * battery, motor, robot)
        current, mean_current = advance_current(current, voltage, motor, robot, step_s)
        supply = robot.idle_current_a + 2.0 * voltage * mean_current / battery  # two motors
        charge = charge + supply * step_s

        # Contact with the ground, along the track and across it.
        wheel = lever * motor
        rolled = np.abs(wheel)
        slip = wheel - vehicle
        bristle, friction = _grip(bristle, slip, rolled, surface, robot, step_s)
        traction = weight * friction
        side, scrub = _scrub(side, sideways[step], rolled, weight, surface, robot, step_s)

        # The ground's resistance where the side now is.
        grade, tufts = _interpolate(distance, slope, drag)
        rolling = (surface.rolling_resistance + tufts + sinkage) * _smooth_sign(vehicle, 0.01)
        turning = 2.0 * robot.half_wheelbase_m / robot.track_m * scrub
        resistance = weight * (rolling + grade) + turning
        sinkage = _sink(sinkage, slip, rolled, surface, step_s)

        # Speeds, then distance.
        load = traction * lever
        friction_torque = robot.gear_friction_n_m + robot.load_loss * np.abs(load)
        gear_loss = friction_torque * _smooth_sign(motor, 2.0) + robot.gear_viscous_n_m_s * motor
        yield {
            "current_a": current,
            "voltage_v": voltage,
            "battery_v": battery,
            "supply_current_a": supply,
            "motor_speed_rad_s": motor,
            "wheel_speed_m_s": wheel,
            "vehicle_speed_m_s": vehicle,
            "traction_n": traction,
            "resistance_n": resistance,
            "gear_loss_n_m": gear_loss,
        }
        motor = motor + step_s * (ke * mean_current - gear_loss - load) / robot.rotor_inertia_kg_m2
        vehicle = vehicle + step_s * (traction - resistance) / mass
        distance = distance + step_s * vehicle


def _control(
    wanted: Array, motor: Array, integral: Array, robot: Any, step_s: float
) -> tuple[Array, Array]:
    """Return the controller's duty and its integral part after the step."""
    error = wanted - motor
    asked = (
        robot.feed_forward * robot.torque_constant_n_m_a * wanted
        + robot.proportional_v_s * error
        + integral
    ) / robot.nominal_v
    duty = np.minimum(np.maximum(asked, -1.0), 1.0)
    # Anti-windup: no integration while saturated. Released at standstill: no humming motor.
    standing = (wanted == 0.0) & (np.abs(motor) < 2.0)
    integral = np.where(
        standing,
        integral - 20.0 * step_s * integral,
        integral + np.where(asked == duty, robot.integral_v * error * step_s, 0.0),
    )
    return duty, integral


def _battery_voltage(charge: Array, supply: Array, robot: Any) -> Any:
    return (
        robot.battery_v - robot.battery_v_per_a_s * charge - robot.battery_resistance_ohm * supply
    )


def _limit_current(voltage: Array, motor: Array, robot: Any) -> Any:
    back_emf = robot.torque_constant_n_m_a * motor
    room = robot.voltage_room_v
    return np.minimum(np.maximum(voltage, back_emf - room), back_emf + room)


def _scrub(
    side: tuple[Array, Array, Array],
    sideways: Array,
    rolled: Array,
    weight: Array,
    surface: Any,
    robot: Any,
    step_s: float,
) -> tuple[tuple[Array, Array, Array], Array]:
    """Advance bristles, slip and carcass of a tyre across the track: the three, and the force."""
    bristle, slip, carcass = side
    bristle, friction = _grip(bristle, slip, rolled, surface, robot, step_s)
    scrub = weight * friction
    pull = robot.carcass_stiffness_n_m * carcass + robot.carcass_damping_n_s_m * (sideways - slip)
    slip = slip + step_s * (pull - scrub) / robot.carcass_mass_kg
    carcass = carcass + step_s * (sideways - slip)
    return (bristle, slip, carcass), scrub


def _sink(sinkage: Array, slip: Array, rolled: Array, surface: Any, step_s: float) -> Any:
    slip_share = np.minimum(np.abs(slip) / (rolled + 0.05), 1.0)
    return sinkage + step_s * rolled / surface.sinkage_length_m * (
        surface.slip_sinkage * slip_share - sinkage
    )


def _interpolate(distance: Array, *grounds: Array) -> list[Array]:
    """Return what each of `grounds` (n_cases, n_points) is at the distance of each case."""
    place = distance / Ground.SPACING_M
    left = np.floor(place)
    part = place - left
    here = left.astype(np.int64) % Ground.N_POINTS
    there = (here + 1) % Ground.N_POINTS
    row = np.arange(len(distance))
    return [of[row, here] * (1.0 - part) + of[row, there] * part for of in grounds]


def simulate_recordings(
    surfaces: Sequence[Surface | str],
    robots: Sequence[Robot],
    duration_s: float = 60.0,
    *,
    random_states: Sequence[Any],
    recording_ids: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    channels: Sequence[str] = ("current_a",),
) -> list[Recording]:
    """Simulate several recordings together; each equals the one `simulate_recording` returns.

    Parameters
    ----------
    surfaces, robots, random_states, recording_ids : sequences of equal length
        One entry per recording; see `simulate_recording`.
    duration_s, sampling, channels
        See `simulate_recording`.

    Raises
    ------
    ArgumentError
        If the sequences differ in length, or for the reasons given in `simulate_recording`.
    """
    channels = [check_choice("channels", name, TRACE_UNITS) for name in channels]
    sampling = sampling or Sampling()
    n_cases = len(surfaces)
    check_simulation(n_cases, duration_s, len({"current_a", *channels}), sampling.sample_rate_hz)
    if recording_ids is None:
        recording_ids = [
            f"{_surface(surface).name}_{robot.name}_{number:03d}"
            for number, (surface, robot) in enumerate(zip(surfaces, robots, strict=False))
        ]
    for name, given in (
        ("robots", robots),
        ("random_states", random_states),
        ("recording_ids", recording_ids),
    ):
        if len(given) != n_cases:
            raise ArgumentError(f"{len(given)} {name} for {n_cases} surfaces; give one for each.")
    try:
        rngs = [np.random.default_rng(state) for state in random_states]
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"random_state: {error}.") from error
    cases = []
    for surface, robot, rng in zip(surfaces, robots, rngs, strict=True):
        stretch, today = _surface(surface).varied(rng), robot.varied(rng)
        drive = Drive.drawn(duration_s, today, rng)
        cases.append(Case(stretch, today, drive, Ground.drawn(stretch, today, rng)))
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        motion = simulate_motion(cases, record=[*dict.fromkeys(("current_a", *channels))])
    if not all(np.isfinite(trace).all() for trace in motion.traces.values()):
        raise ArgumentError("the motion grew without limit; choose a more usual robot or surface.")
    recordings = []
    for index, case in enumerate(cases):
        timestamps_s, sampled = _log(motion, index, case.robot, sampling, rngs[index])
        recordings.append(
            Recording(
                np.column_stack([sampled[name] for name in channels]),
                timestamps_s,
                tuple(Channel(name, TRACE_UNITS[name]) for name in channels),
                recording_ids[index],
                group=case.robot.name,
                label=case.surface.name,
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

    Raises
    ------
    ArgumentError
        If the surface or a channel is unknown, or the duration is too short.
    """
    return simulate_recordings(
        [surface],
        [robot or Robot()],
        duration_s,
        random_states=[random_state],
        recording_ids=None if recording_id is None else [recording_id],
        sampling=sampling,
        channels=channels,
    )[0]


def check_simulation(
    n_cases: int, duration_s: float, n_traces: int = 1, sample_rate_hz: float = 0.0
) -> None:
    """Raise if recordings are too short, or do not fit into memory together."""
    check_real("duration_s", duration_s, 1.0)
    n_steps, n_samples = int(duration_s / STEP_S), int(duration_s * sample_rate_hz)
    subject = f"duration_s={duration_s:g} of {n_cases:,} recordings"
    parts = {
        "the steps of the simulation": 8 * n_cases * n_steps * (n_traces + 2),
        "the samples": 8 * n_cases * n_samples * (n_traces + 1),
    }
    check_memory(subject, parts, "a shorter duration_s, fewer recordings or a lower rate")


def _surface(surface: Surface | str) -> Surface:
    if isinstance(surface, Surface):
        return surface
    return SURFACES[check_choice("surface", surface, SURFACES)]


def _log(
    motion: Motion, index: int, robot: Robot, sampling: Sampling, rng: np.random.Generator
) -> tuple[Array, dict[str, Array]]:
    """Sample one case as its logger would: stamps in seconds, and each trace at them."""
    step_s = float(motion.time_s[0])
    period_s = 1.0 / sampling.sample_rate_hz
    n_samples = int(motion.time_s[-1] / period_s) - 1
    jitter_s = sampling.jitter_s * rng.standard_normal(n_samples)
    jitter_s = np.clip(jitter_s, -0.2 * period_s, 0.2 * period_s)
    stamps_s = (np.arange(n_samples) + 1) * period_s + jitter_s
    sampled = {
        name: np.interp(stamps_s, motion.time_s, trace[:, index])
        for name, trace in motion.traces.items()
    }
    keep = np.exp(-step_s / sampling.filter_s)
    filtered = lfilter([1.0 - keep], [1.0, -keep], motion["current_a"][:, index])
    seen = robot.sensor_gain * np.interp(stamps_s, motion.time_s, filtered)
    seen += robot.sensor_offset_a + robot.sensor_noise_a * rng.standard_normal(n_samples)
    half_range = 2 ** (sampling.adc_bits - 1)
    codes = np.clip(np.round(seen / sampling.adc_step_a), -half_range, half_range - 1)
    sampled["current_a"] = codes * sampling.adc_step_a

    kept = rng.random(n_samples) >= sampling.missing_fraction
    if rng.random() < sampling.gap_probability:
        start_s = rng.uniform(0.1, 0.8) * stamps_s[-1]
        kept &= (stamps_s < start_s) | (stamps_s > start_s + rng.uniform(0.2, 0.6))
    stamps_s = np.round(stamps_s / sampling.stamp_step_s) * sampling.stamp_step_s
    return stamps_s[kept], {name: trace[kept] for name, trace in sampled.items()}
