import pytest

from sensorseq.errors import ArgumentError, check_choice, nearest_known


def test_the_nearest_name_is_found_whatever_the_case():
    assert nearest_known("curl", ["curL", "curR", "velL"]) == "curL"
    assert nearest_known("MIXD", ["ICE", "MIXED"]) == "MIXED"
    assert nearest_known("zzz", ["ICE", "MIXED"]) is None


def test_an_unknown_choice_names_argument_value_nearest_and_all():
    with pytest.raises(ArgumentError, match=r"loss='croos_entropy'.*'cross_entropy'.*focal"):
        check_choice("loss", "croos_entropy", ["cross_entropy", "focal"])
    assert check_choice("loss", "focal", ["cross_entropy", "focal"]) == "focal"
