import pytest

from sensorseq.errors import ConfigurationError
from sensorseq.preprocessing.configuration import read_configuration

WHOLE = """
[input]
files = ["pro_*.csv", "imu_*.csv.gz"]
pair = "{sensor}_{recording}.*"
time_column = "time"
exclude = ["MIXED"]
channels = ["curL", "curR"]
manifest = false
[resample]
sample_rate_hz = 50
max_gap_s = 0.5
[window]
window_s = 5
hop_s = 2.5
[scale]
kind = "robust"
[split]
fractions = [0.5, 0.25, 0.25]
random_state = 3
[balance]
strategy = "undersample"
"""


def write(folder, text):
    path = folder / "größe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_section_becomes_arguments(tmp_path):
    assert read_configuration(write(tmp_path, WHOLE)) == {
        "files": ["pro_*.csv", "imu_*.csv.gz"],
        "pair": "{sensor}_{recording}.*",
        "time_column": "time",
        "exclude": ["MIXED"],
        "channels": ["curL", "curR"],
        "manifest": False,
        "sample_rate_hz": 50,
        "max_gap_s": 0.5,
        "window_s": 5,
        "hop_s": 2.5,
        "scale": "robust",
        "split": [0.5, 0.25, 0.25],
        "random_state": 3,
        "balance": "undersample",
    }


def test_keys_that_are_not_set_are_left_out_of_the_arguments(tmp_path):
    assert read_configuration(write(tmp_path, "")) == {}
    assert read_configuration(write(tmp_path, "[window]\nwindow_s = 2\n")) == {"window_s": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[windows]\nwindow_s = 5\n", r"section \[windows\] is not known. Did you mean 'window'"),
        ("[window]\nwindow = 5\n", r"key 'window' in \[window\] is not known. .* 'window_s'"),
        ("[window]\nsample_rate_hz = 5\n", r"'sample_rate_hz' in \[window\] .*\[resample\]"),
        ("window_s = 5\n", r"key 'window_s' belongs in section \[window\]"),
        ('[window]\nwindow_s = "5 s"\n', r"window\.window_s = '5 s' is not valid"),
        ("[input]\nfiles = 5\n", r"input\.files = 5 is not valid"),
        ("[split]\nfractions = [0.5, 'a']\n", r"split\.fractions"),
        ("window = 5\n", "window = 5 is not valid"),
        ("[window\n", r"is not valid TOML \(.*line 1"),
    ],
)
def test_an_error_names_the_file_and_the_nearest_key(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_configuration(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no\.toml: cannot be read"):
        read_configuration(tmp_path / "no.toml")
