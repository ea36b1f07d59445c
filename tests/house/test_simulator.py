from dataclasses import replace

import numpy as np
import pytest
from motion import (
    GRAVITY_M_S2,
    N_POINTS,
    SPACING_M,
    STEP_S,
    TRACE_UNITS,
    Robot,
    Surface,
    advance_current,
    draw_drive,
    draw_ground,
    ramp,
    simulate_motion,
)
from scipy.integrate import solve_ivp
from simulate import ADC_STEP_A, SURFACES, Sampling, draw_robot, simulate_recordings

HARD_FLOOR = Surface("floor", 0.02, 0.0, 0.8, 0.7, 0.5)
EVEN = Sampling(jitter_s=0.0, missing_fraction=0.0, gap_probability=0.0)


def flat(slope=0.0):
    return np.full(N_POINTS, slope), np.zeros(N_POINTS)


def steady(speed_m_s, duration_s, robot, yaw_rate_rad_s=0.0):
    """Accelerate from a standstill as the robot does, then keep a constant speed and yaw rate."""
    slope = robot.acceleration_m_s2 / abs(speed_m_s)
    ramped = ramp(np.ones(round(duration_s / STEP_S)), slope, slope)
    return speed_m_s * ramped, yaw_rate_rad_s * ramped


def simulate_recording(name, robot=None, duration_s=4.0, *, random_state=0, **options):
    of = {"random_states": [random_state], "recording_ids": [name]}
    (recording,) = simulate_recordings([name], [robot or Robot()], duration_s, **of, **options)
    return recording


def motion_of(surface, robot, drive, ground=None, step_s=STEP_S):
    return simulate_motion([surface], [robot], [drive], [ground or flat()], step_s=step_s)


def mean_currents(*conditions, seconds=2.5):
    """Return the mean current while cruising at 0.6 m/s under each condition.

    A condition is (surface, robot, yaw rate, slope).
    """
    surfaces, robots, yaw_rates, slopes = zip(*conditions, strict=True)
    drives = [
        steady(0.6, seconds, robot, yaw_rate)
        for robot, yaw_rate in zip(robots, yaw_rates, strict=True)
    ]
    motion = simulate_motion(surfaces, robots, drives, list(map(flat, slopes)), ["current_a"])
    return motion["current_a"][-1000:].mean(axis=0)


# The motor.


@pytest.mark.parametrize("step_s", [1e-5, 1e-3, 0.1])
def test_a_stalled_winding_charges_as_the_analytic_solution_says_whatever_the_step(step_s):
    robot = Robot()
    current = np.zeros(1)
    charge = 0.0
    for _ in range(20):
        current, mean = advance_current(current, np.array([12.0]), np.zeros(1), robot, step_s)
        charge += float(mean[0]) * step_s
    stall, tau_s = 12.0 / robot.resistance_ohm, robot.inductance_h / robot.resistance_ohm
    end_s = 20 * step_s
    np.testing.assert_allclose(current, stall * (1 - np.exp(-end_s / tau_s)), rtol=1e-12)
    np.testing.assert_allclose(
        charge, stall * (end_s - tau_s * (1 - np.exp(-end_s / tau_s))), rtol=1e-9
    )


@pytest.fixture(scope="module")
def driven():
    """Simulate cases of 4 s together; a test below shows that this does not change the results."""
    lossless = {"gear_friction_n_m": 0.0, "gear_viscous_n_m_s": 0.0, "gear_efficiency": 1.0}
    free = {"idle_current_a": 0.0, "battery_resistance_ohm": 0.0, "battery_v_per_a_s": 0.0}
    in_the_air = replace(HARD_FLOOR, static_friction=1e-9, kinetic_friction=1e-9)
    brisk = replace(Robot(), acceleration_m_s2=4.0)
    full, empty = (replace(brisk, battery_v=volts) for volts in (16.4, 12.0))
    cases = {
        "without friction": (in_the_air, replace(brisk, **lossless, **free), 20.0),
        "steady": (HARD_FLOOR, brisk, 0.6),
        "sagging": (HARD_FLOOR, Robot(), 1.0),
        "full, fast": (HARD_FLOOR, full, 5.0),
        "empty, fast": (HARD_FLOOR, empty, 5.0),
        "full": (HARD_FLOOR, full, 0.6),
        "empty": (HARD_FLOOR, empty, 0.6),
    }
    surfaces, robots, speeds = zip(*cases.values(), strict=True)
    drives = [steady(speed, 4.0, robot) for robot, speed in zip(robots, speeds, strict=True)]
    motion = simulate_motion(surfaces, robots, drives, [flat()] * len(cases))
    return {
        name: (robots[case], {trace: values[:, case] for trace, values in motion.items()})
        for case, name in enumerate(cases)
    }


def test_without_friction_the_motor_reaches_its_no_load_speed_without_current(driven):
    robot, motion = driven["without friction"]
    no_load_speed = robot.battery_v / robot.torque_constant_n_m_a
    np.testing.assert_allclose(motion["motor_speed_rad_s"][-1], no_load_speed, rtol=1e-6)
    assert abs(motion["current_a"][-1]) < 1e-3


def test_steady_current_is_the_one_that_the_forces_need(driven):
    robot, motion = driven["steady"]
    lever = robot.wheel_radius_m / robot.gear_ratio
    force = HARD_FLOOR.rolling_resistance * robot.mass_kg / 2 * GRAVITY_M_S2
    shaft_n_m = (
        force * lever / robot.gear_efficiency
        + robot.gear_friction_n_m
        + robot.gear_viscous_n_m_s * 0.6 / lever
    )
    np.testing.assert_allclose(
        motion["current_a"][-1], shaft_n_m / robot.torque_constant_n_m_a, rtol=1e-3
    )
    np.testing.assert_allclose(motion["wheel_speed_m_s"][-1], 0.6, rtol=1e-4)


# The integration.


def smooth_speed(time_s):
    """Vary the speed smoothly from 0.1 to 0.7 m/s and back once a second."""
    return 0.4 - 0.3 * np.cos(2 * np.pi * time_s) * (time_s > 0)


def peer_solution(surface, robot, yaw_rate, end_s):
    """Solve the robot's equations with scipy, as one system, to a tolerance of 1e-9."""
    half = robot.mass_kg / 2
    weight, lever = half * GRAVITY_M_S2, robot.wheel_radius_m / robot.gear_ratio
    ohm = robot.resistance_ohm * (1 + 0.0039 * (robot.winding_temperature_c - 20))
    ke = robot.torque_constant_n_m_a
    stiffness = surface.shear_stiffness_per_m

    def sign(value, width):
        return value / np.hypot(value, width)

    def grip(bristle, slip, wheel):
        sliding = surface.kinetic_friction + (
            surface.static_friction - surface.kinetic_friction
        ) / (1 + (slip / surface.stribeck_velocity_m_s) ** 2)
        rate = slip - bristle * (
            stiffness * abs(slip) / sliding + abs(wheel) / robot.contact_length_m
        )
        return rate, stiffness * bristle + 0.77 * rate

    def slope(time_s, state):
        current, motor, vehicle, integral, bristle, side_bristle, side_slip, carcass, charge = state
        wanted = smooth_speed(time_s) / lever
        error = wanted - motor
        duty = (
            robot.feed_forward * ke * wanted + robot.proportional_v_s * error + integral
        ) / robot.nominal_v
        open_v = robot.battery_v - robot.battery_v_per_a_s * charge
        # battery = open - r (idle + 2 duty current), because the stage conserves power
        supply = robot.idle_current_a + 2 * duty * current
        battery = open_v - robot.battery_resistance_ohm * supply
        wheel = lever * motor
        bristle_rate, friction = grip(bristle, wheel - vehicle, wheel)
        traction = weight * friction
        side_rate, friction = grip(side_bristle, side_slip, wheel)
        scrub = weight * friction
        sideways = yaw_rate * robot.half_wheelbase_m
        pull = robot.carcass_stiffness_n_m * carcass + robot.carcass_damping_n_s_m * (
            sideways - side_slip
        )
        load = traction * lever
        loss = (robot.gear_friction_n_m + (1 / robot.gear_efficiency - 1) * abs(load)) * sign(
            motor, 2.0
        ) + robot.gear_viscous_n_m_s * motor
        resisting = weight * surface.rolling_resistance * sign(vehicle, 0.01)
        resisting += 2 * robot.half_wheelbase_m / robot.track_m * scrub
        return [
            (duty * battery - ohm * current - ke * motor) / robot.inductance_h,
            (ke * current - loss - load) / robot.rotor_inertia_kg_m2,
            (traction - resisting) / half,
            robot.integral_v * error,
            bristle_rate,
            side_rate,
            (pull - scrub) / robot.carcass_mass_kg,
            sideways - side_slip,
            supply,
        ]

    return solve_ivp(
        slope, (0, end_s), np.zeros(9), method="LSODA", rtol=1e-9, atol=1e-10, dense_output=True
    ).sol


def test_the_integration_converges_to_an_independent_solution_in_proportion_to_its_step():
    robot, yaw_rate, end_s = Robot(), 0.3, 0.7
    peer = peer_solution(HARD_FLOOR, robot, yaw_rate, end_s)
    errors = []
    for step_s in (STEP_S, STEP_S / 2, STEP_S / 4):
        starts_s = step_s * np.arange(round(end_s / step_s))
        drive = smooth_speed(starts_s), np.full(len(starts_s), yaw_rate)
        motion = motion_of(HARD_FLOOR, robot, drive, step_s=step_s)
        time_s = starts_s + step_s
        settled = time_s > 0.2
        error_a = motion["current_a"][settled, 0] - peer(time_s[settled])[0]
        errors.append(np.sqrt(np.mean(error_a**2)))
    scale_a = peer(np.linspace(0.2, end_s, 500))[0].std()
    assert errors[0] < 0.02 * scale_a
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


def test_electrical_power_is_heat_plus_shaft_power_and_shaft_power_is_losses_plus_motion():
    robot = Robot()
    rng = np.random.default_rng(5)
    surface = SURFACES["gravel"]
    drive = draw_drive(4.0, robot, rng)
    motion = motion_of(surface, robot, drive, draw_ground(surface, robot, rng))
    trace = {name: motion[name][:, 0] for name in TRACE_UNITS}
    before = np.concatenate([[0.0], trace["current_a"][:-1]])
    ohm = robot.resistance_ohm * (1 + 0.0039 * (robot.winding_temperature_c - 20))
    ke = robot.torque_constant_n_m_a
    # The mean current of each step follows from the winding's equation, integrated over the step.
    mean_a = (
        trace["voltage_v"]
        - ke * trace["motor_speed_rad_s"]
        - robot.inductance_h * (trace["current_a"] - before) / STEP_S
    ) / ohm

    electrical_j = STEP_S * np.sum(trace["voltage_v"] * mean_a)
    heat_j = STEP_S * np.sum(ohm * mean_a**2)
    shaft_j = STEP_S * np.sum(ke * mean_a * trace["motor_speed_rad_s"])
    coil_j = robot.inductance_h / 2 * trace["current_a"][-1] ** 2
    assert electrical_j > 10.0
    np.testing.assert_allclose(electrical_j, heat_j + shaft_j + coil_j, rtol=0.01)

    gear_j = STEP_S * np.sum(trace["gear_loss_n_m"] * trace["motor_speed_rad_s"])
    slip_speed = trace["wheel_speed_m_s"] - trace["vehicle_speed_m_s"]
    slip_j = STEP_S * np.sum(trace["traction_n"] * slip_speed)
    resisted_j = STEP_S * np.sum(trace["resistance_n"] * trace["vehicle_speed_m_s"])
    moving_j = (
        robot.rotor_inertia_kg_m2 * trace["motor_speed_rad_s"][-1] ** 2
        + robot.mass_kg / 2 * trace["vehicle_speed_m_s"][-1] ** 2
    ) / 2
    assert min(gear_j, slip_j, resisted_j) > 0
    np.testing.assert_allclose(shaft_j, gear_j + slip_j + resisted_j + moving_j, rtol=0.02)
    np.testing.assert_allclose(
        trace["battery_v"] * (trace["supply_current_a"] - robot.idle_current_a),
        2 * trace["voltage_v"] * mean_a,
        atol=1e-6,
    )


def test_a_case_has_the_same_bits_alone_and_among_others():
    robots = [draw_robot(np.random.default_rng(seed), f"robot_{seed}") for seed in range(5)]
    names = list(SURFACES)[:5]
    together = simulate_recordings(
        names, robots, 0.6, random_states=[1, 2, 3, 4, 5], recording_ids=names
    )
    for case in (0, 4):
        in_batch = together[case]
        alone = simulate_recording(names[case], robots[case], 0.6, random_state=1 + case)
        np.testing.assert_array_equal(alone.values, in_batch.values)
        np.testing.assert_array_equal(alone.timestamps_s, in_batch.timestamps_s)


# Effects of load, slip and supply on the current.


def condition(ground=HARD_FLOOR, yaw_rate=0.0, slope=0.0, **changes):
    return replace(ground, **changes), Robot(), yaw_rate, slope


def test_more_resistance_takes_more_current_and_an_easier_gearbox_less():
    sand = SURFACES["sand"]
    rising = {
        "rolling resistance": ([condition(rolling_resistance=c) for c in (0.01, 0.1, 0.2)], 0.05),
        "digging in": (
            [condition(sand, slip_sinkage=s) for s in (0.0, 0.3, 0.6)],
            0.01,
        ),
        "inner to outer side of a turn": ([condition(yaw_rate=r) for r in (-0.5, 0.0, 0.5)], 0.3),
        "climbing": ([condition(slope=slope) for slope in (-0.05, 0.0, 0.05)], 0.2),
    }
    robots = [Robot(), replace(Robot(), mass_kg=20.0), replace(Robot(), gear_friction_n_m=0.003)]
    currents = mean_currents(
        *(condition for conditions, _ in rising.values() for condition in conditions),
        *((HARD_FLOOR, robot, 0.0, 0.0) for robot in robots),
    )
    for row, (what, (_, least_a)) in enumerate(rising.items()):
        assert np.all(np.diff(currents[3 * row : 3 * row + 3]) > least_a), what
    nominal, heavy, easy = currents[-3:]
    assert heavy > 1.05 * nominal
    assert easy < 0.9 * nominal


def test_on_slippery_ground_the_wheel_outruns_the_robot_and_starting_takes_less_current():
    robot = replace(Robot(), acceleration_m_s2=3.0)
    drive = steady(0.8, 0.3, robot)
    grip = motion_of(HARD_FLOOR, robot, drive)
    ice = motion_of(replace(HARD_FLOOR, static_friction=0.12, kinetic_friction=0.07), robot, drive)
    slip = [m["wheel_speed_m_s"][-1, 0] - m["vehicle_speed_m_s"][-1, 0] for m in (grip, ice)]
    assert slip[1] > slip[0] + 0.2
    assert ice["current_a"].max() < 0.6 * grip["current_a"].max()
    # The ground provides at most static friction, and slightly more while bristles deflect.
    assert np.abs(ice["traction_n"]).max() < 1.2 * 0.12 * robot.mass_kg / 2 * GRAVITY_M_S2


def test_turns_chatter_where_sliding_friction_is_much_below_static_and_not_where_it_is_equal():
    robot = Robot()
    drive = steady(0.15, 3.0, robot, yaw_rate_rad_s=0.5)
    carpet = SURFACES["carpet"]
    even = replace(carpet, static_friction=carpet.kinetic_friction)
    motion = simulate_motion([carpet, even], [robot] * 2, [drive] * 2, [flat()] * 2)
    sticky, smooth = motion["current_a"][1500:].T
    assert sticky.std() > 0.02
    assert smooth.std() < 0.1 * sticky.std()


def test_a_lower_battery_lowers_the_top_speed_and_not_the_current_of_cruising(driven):
    full, empty = (driven[f"{name}, fast"][1]["wheel_speed_m_s"][-1] for name in ("full", "empty"))
    assert empty < 0.8 * full
    cruising = [driven[name][1]["current_a"][-1000:].mean() for name in ("full", "empty")]
    np.testing.assert_allclose(*cruising, rtol=0.02)


def test_the_battery_sags_with_the_current_drawn(driven):
    robot, motion = driven["sagging"]
    sag = robot.battery_v - motion["battery_v"][1:]
    drawn = motion["supply_current_a"][:-1]
    assert np.corrcoef(sag, drawn)[0, 1] > 0.99
    assert sag.min() > 0


def test_current_stays_within_the_controllers_limit():
    robot = replace(Robot(), mass_kg=60.0, acceleration_m_s2=20.0)
    current_a = motion_of(HARD_FLOOR, robot, steady(2.0, 1.0, robot))["current_a"]
    assert current_a.max() > 0.99 * robot.current_limit_a
    assert current_a.max() <= robot.current_limit_a * (1 + 1e-12)


# The ground.


@pytest.mark.parametrize("waviness", [1.7, 2.0, 2.5])
def test_roughness_has_the_spectrum_of_iso_8608(waviness):
    point = replace(Robot(), contact_length_m=1e-6, half_wheelbase_m=0.0)
    surface = Surface("test", 0.02, 256e-6, 0.8, 0.7, 0.5, waviness=waviness)
    n_per_m = np.fft.rfftfreq(N_POINTS, SPACING_M)
    power = np.zeros(len(n_per_m))
    for seed in range(20):
        slope = draw_ground(surface, point, np.random.default_rng(seed))[0]
        length_m = N_POINTS * SPACING_M
        power += 2 * np.abs(np.fft.rfft(slope) * SPACING_M) ** 2 / length_m / 20
    for low, high in ((0.1, 0.5), (0.5, 2.0), (2.0, 10.0), (10.0, 50.0)):
        band = (n_per_m >= low) & (n_per_m < high)
        n = n_per_m[band]
        expected = (2 * np.pi * n) ** 2 * 256e-6 * (n / 0.1) ** -waviness
        np.testing.assert_allclose(power[band].sum() / expected.sum(), 1.0, atol=0.2)


def test_stones_give_back_the_height_they_took_and_tufts_only_resist():
    gravel = replace(SURFACES["gravel"], roughness_m3=0.0)
    stones = draw_ground(gravel, Robot(), np.random.default_rng(0))[0]
    assert np.abs(stones).max() > 0.02
    assert abs(stones.mean()) < 1e-3 * np.abs(stones).max()
    tufts = draw_ground(SURFACES["grass"], Robot(), np.random.default_rng(0))[1]
    assert tufts.max() > 0.02
    assert tufts.min() > -1e-3 * tufts.max()  # averaging over the contact patch causes this ripple


def test_slab_edges_come_at_the_slabs_distance():
    paving = replace(SURFACES["paving"], roughness_m3=0.0)
    point = replace(Robot(), contact_length_m=1e-6, half_wheelbase_m=0.0)
    slope = draw_ground(paving, point, np.random.default_rng(0))[0]
    edges_m = np.flatnonzero(np.abs(slope) > 1e-6) * SPACING_M
    np.testing.assert_allclose(np.diff(edges_m)[5:-5], 0.30, atol=0.0051)


# The log. Cases are simulated together; a test above shows that a case gives the same result alone.


def simulate_together(names, robots, duration_s=4.0, **options):
    ids = list(map(str, range(len(names))))
    of = {"random_states": [0] * len(names), "recording_ids": ids}
    return simulate_recordings(names, robots, duration_s, **of, **options)


@pytest.fixture(scope="module")
def logged():
    """Simulate a randomly drawn robot on each surface, and a different robot on "gravel"."""
    drawn = draw_robot(np.random.default_rng(3), "robot_3")
    recordings = simulate_together([*SURFACES, "gravel"], [drawn] * len(SURFACES) + [Robot()])
    return dict(zip([*SURFACES, "plain gravel"], recordings, strict=True))


@pytest.fixture(scope="module")
def evenly_logged():
    """Simulate three robots without jitter: with a sensor gain of 10, no noise, or an offset."""
    quiet = replace(Robot(), sensor_noise_a=0.0)
    off = replace(quiet, sensor_gain=1.1, sensor_offset_a=0.05)
    robots = [replace(Robot(), sensor_gain=10.0), quiet, off]
    return simulate_together(["sand", "ice", "ice"], robots, 2.0, sampling=EVEN)


@pytest.mark.parametrize("name", SURFACES)
def test_every_surface_gives_a_finite_recording_that_says_what_it_is(logged, name):
    recording = logged[name]
    assert np.isfinite(recording.values).all()
    assert np.all(np.diff(recording.timestamps_s) > 0)
    assert recording.values.std() > 0.05
    assert (recording.label, recording.group) == (name, "robot_3")
    assert recording.attributes["simulated"] is True
    assert [(c.name, c.unit) for c in recording.channels] == [("current_a", "A")]


def test_the_current_comes_in_whole_adc_codes_of_five_milliamperes(logged):
    codes = logged["plain gravel"].values / 0.005
    np.testing.assert_allclose(codes, np.round(codes), atol=1e-9)
    assert len(np.unique(np.round(codes))) > 50


def test_the_adc_clips_at_its_full_scale(evenly_logged):
    assert evenly_logged[0].values.max() == pytest.approx(10.24 - ADC_STEP_A)


def test_the_clock_jitters_about_its_rate_and_loses_samples_and_stretches(evenly_logged):
    lossy = Sampling(missing_fraction=0.05, gap_probability=1.0)
    recording = simulate_recording("ice", duration_s=3.0, sampling=lossy)
    distance_s = np.diff(recording.timestamps_s)
    assert recording.median_sample_rate_hz == pytest.approx(50.0, rel=0.05)
    assert 0.001 < distance_s[distance_s < 0.03].std() < 0.004
    assert 0.2 < distance_s.max() < 0.75
    assert 0.68 < recording.n_samples / 149 < 0.93
    np.testing.assert_allclose(np.diff(evenly_logged[1].timestamps_s), 0.02, atol=1e-9)


def test_the_sensor_scales_and_shifts_what_it_reads(evenly_logged):
    true, seen = (recording.values for recording in evenly_logged[1:])
    np.testing.assert_allclose(seen, 1.1 * true + 0.05, atol=0.006)


def test_other_channels_can_be_logged_alongside_the_current():
    channels = ["wheel_speed_m_s", "current_a"]
    recording = simulate_recording("ice", duration_s=1.5, channels=channels)
    alone = simulate_recording("ice", duration_s=1.5)
    assert recording.channel_names == ("wheel_speed_m_s", "current_a")
    np.testing.assert_array_equal(recording.values[:, 1], alone.values[:, 0])
    assert recording.values[:, 0].max() > 0.2
