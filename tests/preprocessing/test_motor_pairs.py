"""Currents and speeds of the same motor, found by names and units."""

import pytest

from sensorseq.preprocessing.motor_pairs import motor_pairs
from sensorseq.recording import Channel


def pairs_of(*names, **units):
    return motor_pairs([Channel(name, units.get(name, "")) for name in names])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("curL", "curR", "velL", "velR"), [("curL", "velL"), ("curR", "velR")]),
        (("curl", "curr", "vell", "velr"), [("curl", "vell"), ("curr", "velr")]),
        (("current_left", "velocity_left"), [("current_left", "velocity_left")]),
        (("left_torque", "left_speed", "ax"), [("left_torque", "left_speed")]),
        (("motorCurrent1", "wheelSpeed1", "wheelSpeed2"), [("motorCurrent1", "wheelSpeed1")]),
        (("i_1", "i_2", "vel_1", "vel_2"), [("i_1", "vel_1"), ("i_2", "vel_2")]),
        (("i_fl", "i_fr", "rpm_fr", "rpm_fl"), [("i_fl", "rpm_fl"), ("i_fr", "rpm_fr")]),
        (("CURRENT_L", "speedLeft"), [("CURRENT_L", "speedLeft")]),
        (("current", "rpm", "voltage"), [("current", "rpm")]),
        (("curL", "velR"), []),
        (("cur_a", "cur_b", "vel_c"), []),
        (("wx", "wy", "wz", "ax", "ay", "az"), []),
    ],
)
def test_currents_and_speeds_with_matching_names_are_motors(names, expected):
    assert pairs_of(*names) == expected


def test_units_decide_before_names():
    assert pairs_of("m1", "w1", m1="mA", w1="rpm") == [("m1", "w1")]
    assert pairs_of("cur", "vel", cur="V") == []
    assert pairs_of("cur", "wz", wz="rad/s") == []  # a turn rate, not a wheel speed
