import numpy as np
import pytest

from sensorseq.errors import ArgumentError
from sensorseq.preprocessing.steps import Magnitude, Power, Product, SignedBy, Subtract
from sensorseq.preprocessing.steps.units import product_unit, quantity_of
from sensorseq.recording import Channel, Recording


def applied(step, values, *channels):
    recording = Recording.evenly_sampled(np.asarray(values, np.float64), 10.0, channels, "run")
    return step.apply(recording)


@pytest.mark.parametrize(
    ("left", "right", "unit", "factor"),
    [
        ("A", "V", "W", 1.0),
        ("V", "A", "W", 1.0),
        ("mA", "kV", "W", 1.0),
        ("mA", "V", "W", 1e-3),
        ("µA", "mV", "W", 1e-9),
        ("μA", "V", "W", 1e-6),
        ("uA", "V", "W", 1e-6),
        ("N m", "rad/s", "W", 1.0),
        ("Nm", "rpm", "W", 2 * np.pi / 60),
        ("mN*m", "rad/s", "W", 1e-3),
        ("N·m", "deg/s", "W", np.pi / 180),
        ("kN", "m/s", "W", 1e3),
        ("N", "km/h", "W", 1 / 3.6),
        ("A", "rad/s", "A*rad/s", 1.0),
        ("A", "A", "A*A", 1.0),
        ("N", "rad/s", "N*rad/s", 1.0),
        ("", "V", "", 1.0),
        ("A", "", "", 1.0),
    ],
)
def test_products_that_are_power_are_watts_and_others_say_their_units(left, right, unit, factor):
    result = applied(
        Product("a", "b"), [[3.0, -2.0], [0.5, 4.0]], Channel("a", left), Channel("b", right)
    )
    assert result.channels[-1] == Channel("a_times_b", unit)
    np.testing.assert_allclose(result.values[:, -1], np.array([-6.0, 2.0]) * factor, rtol=1e-15)
    assert product_unit(left, right) == (unit, pytest.approx(factor, rel=1e-15))


def test_letters_that_only_look_like_a_prefix_are_not_known():
    for unit in ("", "%", "m", "xA", "kmA", "rad", "nm", "1/s", "AV"):
        assert quantity_of(unit) is None


def test_power_is_current_times_voltage_in_watts():
    channels = Channel("curL", "mA"), Channel("volL", "V"), Channel("velL", "rad/s")
    values = [[500.0, 24.0, 1.0], [-2000.0, 25.0, 2.0]]
    result = applied(Power("curL", "volL"), values, *channels)
    assert result.channels == (*channels, Channel("curL_power", "W"))
    np.testing.assert_allclose(result.values[:, -1], [12.0, -50.0])
    alone = applied(Power("curL", "volL", name="left", keep=False), values, *channels)
    assert alone.channels == (channels[2], Channel("left", "W"))


@pytest.mark.parametrize(
    ("current", "voltage", "match"),
    [
        ("", "V", r"current='a' has no unit; power needs a current in A, mA.*Channel\('a', 'A'\)"),
        ("rad/s", "V", r"current='a' is in 'rad/s'; power needs a current"),
        ("V", "A", r"current='a' is in 'V'"),
        ("A", "", r"voltage='b' has no unit; power needs a voltage in V.*or use a product"),
    ],
)
def test_power_of_other_units_is_an_error_that_says_the_way_out(current, voltage, match):
    channels = Channel("a", current), Channel("b", voltage)
    for act in (Power("a", "b").output_channels, lambda c: Power("a", "b").stream(c, 10.0)):
        with pytest.raises(ArgumentError, match=match):
            act(channels)


def test_a_difference_of_channels_requires_one_unit():
    values = [[3.0, 5.0], [1.0, -1.0]]
    step = Subtract("a", "b")
    for left, right, unit in (("A", "A", "A"), ("A", "", "A"), ("", "A", "A"), ("", "", "")):
        result = applied(step, values, Channel("a", left), Channel("b", right))
        assert result.channels[-1] == Channel("a_minus_b", unit)
        np.testing.assert_array_equal(result.values[:, -1], [-2.0, 2.0])
    with pytest.raises(ArgumentError, match=r"'a' is in 'A' and 'b' is in 'mA'; convert"):
        applied(step, values, Channel("a", "A"), Channel("b", "mA"))


def test_a_magnitude_is_the_euclidean_length():
    values = np.random.default_rng(0).normal(size=(50, 12))
    names = tuple(f"c{i}" for i in range(12))
    result = applied(Magnitude(names, name="length"), values, *names)
    np.testing.assert_allclose(result.values[:, -1], np.linalg.norm(values, axis=1), rtol=1e-14)
    assert applied(Magnitude(("c1",)), values, *names).channel_names[-1] == "c1_magnitude"
    channels = Channel("x", "g"), Channel("y"), Channel("z", "m/s^2")
    with pytest.raises(ArgumentError, match="a magnitude needs equal units"):
        Magnitude(("x", "y", "z")).output_channels(channels)
    assert Magnitude(("x", "y")).output_channels(channels)[-1] == Channel("x_y_magnitude", "g")


def test_a_channel_takes_the_sign_of_another():
    values = [[2.0, -3.0], [2.0, 0.0], [-2.0, 0.1], [-2.0, -0.1]]
    channels = Channel("cur", "A"), Channel("vel", "rad/s")
    result = applied(SignedBy("cur", "vel", keep=False), values, *channels)
    assert result.channels == (Channel("cur_signed_by_vel", "A"),)
    np.testing.assert_array_equal(result.values[:, 0], [-2.0, 0.0, -2.0, 2.0])


def test_a_name_that_already_exists_is_an_error():
    with pytest.raises(ArgumentError, match="two channels named 'b'"):
        Product("a", "b", name="b").output_channels((Channel("a"), Channel("b")))
    (only,) = Product("a", "b", name="b", keep=False).output_channels((Channel("a"), Channel("b")))
    assert only.name == "b"


def test_an_overflow_in_float32_is_found_and_named():
    recording = Recording.evenly_sampled(np.full((3, 2), 1e30, np.float32), 10.0, ("a", "b"), "run")
    with pytest.raises(ValueError, match="'a_times_b' is infinite at sample 0"):
        Product("a", "b").apply(recording)
