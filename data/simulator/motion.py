"""Simulates the motor current of wheeled robots on six surfaces with physics, not colored noise.

The simulation integrates one side of a small skid-steered robot over time: a permanent-magnet DC
motor fed by a sagging battery through a PWM stage, the gearbox, the wheels and their tire contact,
and half of the robot's mass. A surface acts only through forces on these parts; its label has no
other effect.

- Motor: ``L di/dt = u - R i - Ke w`` with ``u = duty * battery voltage``, torque ``Kt i``, Kt = Ke.
- Battery: open-circuit voltage that falls with the charge drawn, minus the resistive voltage drop.
- Gearbox: Coulomb, viscous and load-dependent friction.
- Controller: PI on motor speed with feed-forward, ramped set-point, current limit.
- Contact: LuGre friction; rolling carries bristles out of the contact patch [1]_. The model
  produces slip, static and sliding friction, and stick-slip if sliding friction is much smaller
  than static friction.
- Turning: wheels scrub sideways on an elastic carcass; the two sides carry the scrub moment as a
  pair of longitudinal forces.
- Ground: rolling resistance [2]_ [3]_, grade and roughness as a spectrum over distance [4]_, stones
  and slab edges, tufts that only slow the wheel, sinkage that grows with slip [5]_.
- Sensor: gain and offset error, anti-alias filter, noise, 12-bit ADC, clock jitter, missing
  samples, gaps.

Not modeled: load transfer between wheels, pitch of the body, coupling of the friction in the two
directions of slip. The parameters do not describe a real machine; data/README.md lists which
surface parameters have a source and which are assumed.

References
----------
.. [1] C. Canudas de Wit, P. Tsiotras, E. Velenis, M. Basset, G. Gissinger, "Dynamic friction
       models for road/tire longitudinal interaction", Vehicle System Dynamics 39(3), 2003: the
       average lumped model. The Stribeck curve here is the Lorentzian of D. P. Hess and A. Soom,
       "Friction at a lubricated line contact", J. Tribology 112(1), 1990.
.. [2] J. Carvill, *Mechanical Engineer's Data Handbook*, 1993, pneumatic tires: 0.01-0.02 on
       asphalt and concrete, 0.01-0.04 gravel, 0.08 medium hard soil, 0.1-0.2 sand.
.. [3] M. D. Hoffman et al., "Assessment of wheelchair drag resistance using a coasting
       deceleration technique", Am. J. Phys. Med. Rehabil. 82(11), 2003: carpet adds 0.012 to
       linoleum.
.. [4] ISO 8608, *Mechanical vibration, Road surface profiles*: elevation spectrum
       ``Gd(n) = Gd(n0) (n / n0)^-w``, n0 = 0.1 cycles/m; the geometric mean of ``Gd(n0)`` is
       16e-6 m^3 in class A and quadruples from each class to the next.
.. [5] J. Y. Wong, *Theory of Ground Vehicles*: shear displacement modulus and slip-sinkage of
       loose soil. Friction coefficients: R. K. Noon, *Engineering Analysis of Vehicular
       Accidents*, 1994.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GRAVITY_M_S2 = 9.80665
# Relative increase in a copper winding's resistance per kelvin above 20 degrees Celsius.
COPPER_PER_K = 0.0039
ISO_8608_REFERENCE_PER_M = 0.1
STEP_S = 1e-3
SPACING_M = 0.005  # distance between neighboring points of the ground
N_POINTS = 12288  # 61 m, about the longest distance driven in the embedded recordings

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


@dataclass(frozen=True)
class Surface:
    """Parameters of the ground under a wheel.

    Parameters
    ----------
    name : str
        Label of the recordings made on this surface.
    rolling_resistance : float
        Resisting force divided by the weight in steady rolling.
    roughness_m3 : float
        Elevation spectrum at 0.1 cycles/m as in ISO 8608, in m^3.
    static_friction, kinetic_friction : float
        Friction coefficients at rest and in full sliding; the drop between them causes stick-slip.
    stribeck_velocity_m_s : float
        Slip velocity at which half of the drop from static to kinetic friction has occurred.
    waviness : float, default=2.0
        Exponent of the elevation spectrum; a larger exponent means fewer short waves.
    shear_stiffness_per_m : float, default=180
        Increase in the friction coefficient per meter of tangential deflection. On hard ground,
        this is a property of the tire; on loose ground, the reciprocal of the shear displacement
        modulus.
    bumps_per_m, bump_height_m, bump_length_m : float, default=0, 0, 0.1
        Stones: rate, mean height and length. A stone pushes the wheel back, then forward.
    slab_length_m, slab_step_m : float, default=0, 0
        Slabs: length, and standard deviation of the heights. A length of 0 means no slabs.
    tufts_per_m, tuft_drag, tuft_length_m : float, default=0, 0, 0.1
        Tufts: rate, mean extra resistance relative to the weight, and length. A tuft only pushes
        the wheel back.
    slip_sinkage : float, default=0
        Additional rolling resistance at full slip, because the wheels dig in.
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


@dataclass(frozen=True)
class Robot:
    """One robot: drive, body, controller and current sensor. The defaults are a nominal robot.

    Parameters
    ----------
    name : str
        Group of the recordings made with this robot.
    mass_kg : float
        Mass of the whole robot; each side carries half of it.
    wheel_radius_m, half_wheelbase_m, track_m, contact_length_m : float
        Geometry. The ground's height is averaged over the contact patch; rolling carries bristles
        out of the patch.
    gear_ratio, gear_efficiency : float
        Motor turns per wheel turn; fraction of the torque that reaches the wheel.
    gear_friction_n_m, gear_viscous_n_m_s : float
        Load-independent friction at the motor shaft.
    rotor_inertia_kg_m2 : float
        Inertia of motor, gears and wheels, referred to the motor shaft.
    torque_constant_n_m_a : float
        Torque per ampere; in SI units also volts per rad/s.
    resistance_ohm, inductance_h, winding_temperature_c : float
        Resistance at 20 degrees Celsius, inductance and temperature of the winding.
    battery_v, battery_resistance_ohm, battery_v_per_a_s, idle_current_a : float
        Open-circuit voltage at the start, internal resistance, voltage drop per ampere-second, and
        the current of all other parts of the robot.
    nominal_v : float
        Battery voltage that the controller assumes when it computes the duty cycle.
    proportional_v_s, integral_v, feed_forward, current_limit_a : float
        Controller: gains on motor speed, feed-forward as a fraction of the back EMF, and largest
        motor current.
    acceleration_m_s2, deceleration_m_s2, cruise_speed_m_s : float
        Slopes of the speed set-point when speeding up and slowing down, and its typical value.
    carcass_mass_kg, carcass_stiffness_n_m, carcass_damping_n_s_m : float
        Lateral mass, stiffness and damping of the tires and suspension of one side.
    sensor_gain, sensor_offset_a, sensor_noise_a : float
        Current sensor: gain, offset, and standard deviation of the noise.
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


def draw_drive(duration_s: float, robot: Robot, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw a drive: straight sections at changing speeds, curves, stops, and turns on the spot.

    Return two set-points for each step: the wheel's circumferential speed, and the yaw rate, which
    is positive if the simulated side is on the outside of the turn.
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
            (rng.uniform(0.6, 1.5), 0.0, turn),  # turn on the spot
        )[kind]
        end = start + round(length_s / STEP_S)
        speed[start:end] = forward + turning * robot.track_m / 2
        yaw_rate[start:end] = turning
        start = end
    yaw_slope = 2.0 * robot.acceleration_m_s2 / robot.track_m
    return (
        ramp(speed, robot.acceleration_m_s2, robot.deceleration_m_s2),
        ramp(yaw_rate, yaw_slope, yaw_slope),
    )


def ramp(wanted: Array, rise_per_s: float, fall_per_s: float) -> Array:
    """Follow `wanted` from 0, with limited rates away from 0 (rise) and toward 0 (fall)."""
    ramped = np.empty_like(wanted)
    value = 0.0
    for step, goal in enumerate(wanted.tolist()):
        difference = goal - value
        limit = (rise_per_s if difference * value >= 0.0 else fall_per_s) * STEP_S
        value += min(max(difference, -limit), limit)
        ramped[step] = value
    return ramped


def draw_ground(surface: Surface, robot: Robot, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw a profile of the ground: roughness, stones, slab edges and tufts.

    Return two forces divided by the weight: the slope, which is conservative, and the drag, which
    always opposes the motion.
    """
    n_points, spacing_m = N_POINTS, SPACING_M
    length_m = n_points * spacing_m
    n_per_m = np.fft.rfftfreq(n_points, spacing_m)
    # One-sided spectral density of the slope: (2 pi n)^2 times that of the elevation. The density
    # starts at 0.05 cycles/m, the lower limit of ISO 8608 for off-road vehicles.
    used = n_per_m >= 0.05
    density = np.zeros_like(n_per_m)
    density[used] = (
        (2 * np.pi * n_per_m[used]) ** 2
        * surface.roughness_m3
        * (n_per_m[used] / ISO_8608_REFERENCE_PER_M) ** -surface.waviness
    )
    noise = rng.standard_normal((2, len(n_per_m)))
    # The mean of |c_k|^2 is half the power in bin k, because a real series contains each bin twice.
    spectrum = n_points * np.sqrt(density / length_m) / 2 * (noise[0] + 1j * noise[1])
    features = np.zeros(n_points)
    drag = np.zeros(n_points)
    for _ in range(rng.poisson(surface.bumps_per_m * length_m)):
        size = rng.uniform(0.4, 1.6)
        inside, phase = _stretch(rng, surface.bump_length_m * np.sqrt(size))
        # Slope of a raised cosine: up, then down.
        steepest = np.pi * surface.bump_height_m * np.sqrt(size) / surface.bump_length_m
        features[inside] -= steepest * np.sin(2 * np.pi * phase)
    if surface.slab_length_m >= SPACING_M:
        edges_m = np.arange(rng.uniform(0, surface.slab_length_m), length_m, surface.slab_length_m)
        heights_m = surface.slab_step_m * rng.standard_normal(len(edges_m))
        rise = np.diff(heights_m, prepend=heights_m[-1:])
        features[(edges_m / spacing_m).astype(np.int64) % n_points] += rise / spacing_m
    for _ in range(rng.poisson(surface.tufts_per_m * length_m)):
        size = rng.uniform(0.4, 1.6)
        inside, phase = _stretch(rng, surface.tuft_length_m * size)
        drag[inside] += surface.tuft_drag * size * (0.5 + 0.5 * np.cos(2 * np.pi * phase))
    # The ground is averaged over the contact patch and over the front and rear wheel of a side.
    wheels = np.sinc(n_per_m * robot.contact_length_m) * np.cos(
        2 * np.pi * n_per_m * robot.half_wheelbase_m
    )
    return (
        np.fft.irfft((spectrum + np.fft.rfft(features)) * wheels, n_points),
        np.fft.irfft(np.fft.rfft(drag) * wheels, n_points),
    )


def _stretch(rng: np.random.Generator, length_m: float) -> tuple[NDArray[np.int64], Array]:
    """Draw a section of `length_m`; return its point indices, and phases from -0.5 to 0.5."""
    center = rng.uniform(0, N_POINTS)
    points = length_m / SPACING_M
    inside = np.arange(np.ceil(center - points / 2), np.floor(center + points / 2) + 1)
    return inside.astype(np.int64) % N_POINTS, (inside - center) / points


def advance_current(
    current: Array, voltage: Array, motor_speed: Array, motor: Any, step_s: float
) -> tuple[Array, Array]:
    """Solve ``L di/dt = u - R i - Ke w`` exactly over a step; return final and mean current.

    Voltage and speed are constant during the step. L / R is shorter than a step, so explicit
    schemes would be unstable.
    """
    rate = motor.resistance_ohm * step_s / motor.inductance_h
    decay = np.exp(-rate)
    settled = (voltage - motor.torque_constant_n_m_a * motor_speed) / motor.resistance_ohm
    return (
        settled + (current - settled) * decay,
        settled + (current - settled) * (1.0 - decay) / rate,
    )


# Micro-damping of the bristles in s/m, chosen so that vibrations of the nominal robot on a hard
# floor have a fifth of critical damping.
_BRISTLE_DAMPING_S_PER_M = 0.77


def _grip(
    bristle: Array, slip: Array, rolled: Array, surface: Any, robot: Any, step_s: float
) -> tuple[Array, Array]:
    """Advance a contact's bristles implicitly; return deflection and friction coefficient."""
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
    """Collect each numeric field of instances of one dataclass in an array of shape (n_items,)."""
    names = [field.name for field in fields(items[0]) if field.name != "name"]
    return SimpleNamespace(**{n: np.array([getattr(item, n) for item in items]) for n in names})


def simulate_motion(
    surfaces: Sequence[Surface],
    robots: Sequence[Robot],
    drives: Sequence[tuple[Array, Array]],
    grounds: Sequence[tuple[Array, Array]],
    record: Sequence[str] = tuple(TRACE_UNITS),
    step_s: float = STEP_S,
) -> dict[str, Array]:
    """Integrate one side of the robot for several cases together, with drives of equal length.

    Return traces of shape (n_steps, n_cases). Currents are sampled at the end of a step and speeds
    at the beginning; voltages and forces act during the step. The current is advanced exactly and
    the bristles implicitly, because both can settle within a step. Speeds are updated from the
    forces, then positions from the new speeds. The loop uses only operations that IEEE 754 rounds
    correctly, so results depend neither on the processor nor on the number of cases.
    """
    surface, robot = _columns(surfaces), _columns(robots)
    # Convert the resistance from 20 degrees Celsius to the winding's temperature.
    robot.resistance_ohm *= 1.0 + COPPER_PER_K * (robot.winding_temperature_c - 20.0)
    room_v = robot.resistance_ohm * robot.current_limit_a
    load_loss = 1.0 / robot.gear_efficiency - 1.0
    mass = robot.mass_kg / 2
    weight = mass * GRAVITY_M_S2
    lever = robot.wheel_radius_m / robot.gear_ratio  # meters per radian of the motor
    ke = robot.torque_constant_n_m_a
    slope, drag = (np.stack(part) for part in zip(*grounds, strict=True))
    speed, yaw_rate = (np.stack(part, axis=1) for part in zip(*drives, strict=True))
    wanted = speed / lever
    sideways = yaw_rate * robot.half_wheelbase_m

    current = motor = vehicle = distance = integral = charge = np.zeros(len(surfaces))
    bristle = sinkage = side_bristle = side_slip = carcass = np.zeros(len(surfaces))
    supply = robot.idle_current_a
    traces = {name: np.empty(wanted.shape) for name in record}
    for step in range(len(wanted)):
        # Controller, PWM stage, battery, winding.
        duty, integral = _control(wanted[step], motor, integral, robot, step_s)
        battery = robot.battery_v - robot.battery_v_per_a_s * charge
        battery = battery - robot.battery_resistance_ohm * supply
        voltage = np.minimum(np.maximum(duty * battery, ke * motor - room_v), ke * motor + room_v)
        current, mean_current = advance_current(current, voltage, motor, robot, step_s)
        supply = robot.idle_current_a + 2.0 * voltage * mean_current / battery  # of both motors
        charge = charge + supply * step_s

        # Contact with the ground, along the track and across it.
        wheel = lever * motor
        rolled = np.abs(wheel)
        slip = wheel - vehicle
        bristle, friction = _grip(bristle, slip, rolled, surface, robot, step_s)
        traction = weight * friction
        side_bristle, friction = _grip(side_bristle, side_slip, rolled, surface, robot, step_s)
        scrub = weight * friction
        stretching = sideways[step] - side_slip
        pull = robot.carcass_stiffness_n_m * carcass + robot.carcass_damping_n_s_m * stretching
        side_slip = side_slip + step_s * (pull - scrub) / robot.carcass_mass_kg
        carcass = carcass + step_s * (sideways[step] - side_slip)

        # The resistance of the ground at the robot's position.
        grade, tufts = _interpolate(distance, slope, drag)
        rolling = (surface.rolling_resistance + tufts + sinkage) * _smooth_sign(vehicle, 0.01)
        turning = 2.0 * robot.half_wheelbase_m / robot.track_m * scrub
        resistance = weight * (rolling + grade) + turning
        dug_in = surface.slip_sinkage * np.minimum(np.abs(slip) / (rolled + 0.05), 1.0) - sinkage
        sinkage = sinkage + step_s * rolled / surface.sinkage_length_m * dug_in

        # Update the speeds first, then the distance.
        load = traction * lever
        friction_torque = robot.gear_friction_n_m + load_loss * np.abs(load)
        gear_loss = friction_torque * _smooth_sign(motor, 2.0) + robot.gear_viscous_n_m_s * motor
        now = {
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
        for name, trace in traces.items():
            trace[step] = now[name]
        motor = motor + step_s * (ke * mean_current - gear_loss - load) / robot.rotor_inertia_kg_m2
        vehicle = vehicle + step_s * (traction - resistance) / mass
        distance = distance + step_s * vehicle
    return traces


def _control(
    wanted: Array, motor: Array, integral: Array, robot: Any, step_s: float
) -> tuple[Array, Array]:
    """Return the controller's duty cycle and its integral part after the step."""
    error = wanted - motor
    asked = (
        robot.feed_forward * robot.torque_constant_n_m_a * wanted
        + robot.proportional_v_s * error
        + integral
    ) / robot.nominal_v
    duty = np.minimum(np.maximum(asked, -1.0), 1.0)
    # Anti-windup: no integration while saturated. At standstill, the integral part decays.
    standing = (wanted == 0.0) & (np.abs(motor) < 2.0)
    integral = np.where(
        standing,
        integral - 20.0 * step_s * integral,
        integral + np.where(asked == duty, robot.integral_v * error * step_s, 0.0),
    )
    return duty, integral


def _interpolate(distance: Array, *grounds: Array) -> list[Array]:
    """Interpolate each of `grounds` (n_cases, n_points), with every row at its case's distance."""
    place = distance / SPACING_M
    left = np.floor(place)
    part = place - left
    here = left.astype(np.int64) % N_POINTS
    there = (here + 1) % N_POINTS
    row = np.arange(len(distance))
    return [of[row, here] * (1.0 - part) + of[row, there] * part for of in grounds]
