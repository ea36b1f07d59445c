import re

import pytest

from sensorseq.errors import (
    ArgumentError,
    InputError,
    OutputError,
    check_choice,
    nearest_known,
    writing,
)


def test_the_nearest_name_is_found_whatever_the_case():
    assert nearest_known("curl", ["curL", "curR", "velL"]) == "curL"
    assert nearest_known("MIXD", ["ICE", "MIXED"]) == "MIXED"
    assert nearest_known("cur", ["speed", "cur [A]"]) == "cur [A]"
    assert nearest_known("zzz", ["ICE", "MIXED"]) is None
    assert nearest_known("current_a", ["c", "curL", "curR", "velL"]) is None


def test_an_unknown_choice_names_argument_value_nearest_and_all():
    with pytest.raises(ArgumentError, match=r"loss='croos_entropy'.*'cross_entropy'.*focal"):
        check_choice("loss", "croos_entropy", ["cross_entropy", "focal"])
    assert check_choice("loss", "focal", ["cross_entropy", "focal"]) == "focal"


def test_an_unwritable_file_is_an_input_error_and_an_os_error_with_its_name(tmp_path):
    for path, said in (
        (tmp_path / "no" / "file", f"The folder {tmp_path / 'no'} is missing; create it"),
        (tmp_path, "is a folder; give a file name"),
    ):
        with pytest.raises(OutputError, match=re.escape(said)) as caught, writing(path):
            path.write_text("x")
        assert str(path) in str(caught.value)
        assert isinstance(caught.value, OSError)
        assert isinstance(caught.value, InputError)


def test_a_name_that_is_too_long_is_refused_with_a_message(tmp_path):
    path = tmp_path / ("x" * 300)
    with pytest.raises(OutputError, match=r"\(file name too long\)"), writing(path):
        path.write_text("x")
