"""Bad recordings and arguments of a preparation: one clear error, or said and survived."""

import numpy as np
import pytest

from sensorseq import PreparePipeline, Recording
from sensorseq.errors import InputError
from sensorseq.preprocessing.splitters import GroupBalancedKFold
from sensorseq.recording import LabelSpan

RATE = 20.0


def drive(name, label=None, n=400, seed=0, channels=("current", "speed"), **more):
    values = np.random.default_rng(seed).normal(size=(n, len(channels)))
    return Recording.evenly_sampled(values, RATE, channels, name, label=label, **more)


def drives(n_each=3):
    return [drive(f"{label} {i}", label, seed=i) for label in ("ice", "mud") for i in range(n_each)]


def prepare(recordings, **arguments):
    return PreparePipeline(**{"window_s": 2.0, **arguments}).prepare(recordings)


def spans(*given, rule="whole", **more):
    label_spans = [LabelSpan(*span) for span in given]
    recordings = []
    for i in range(3):
        plain = drive(f"log {i}", seed=i)
        recordings.append(
            Recording(
                plain.values,
                plain.timestamps_s,
                plain.channels,
                plain.recording_id,
                label_spans=label_spans,
            )
        )
    return prepare(recordings, label_rule=rule, **more)


CASES = {
    "a channel missing in some recordings": (
        lambda: prepare([*drives(), drive("odd", "mud", channels=("current",))]),
        ["'odd'", "current", "speed", "Select"],
    ),
    "a hop of 0": (lambda: prepare(drives(), hop_s=0), ["hop_s=0", "above zero"]),
    "training windows of their own without a split": (
        lambda: prepare(drives(), train_hop_s=0.5, split=None),
        ["train_hop_s", "split", "hop_s"],
    ),
    "a negative rate": (
        lambda: prepare(drives(), sample_rate_hz=-3.0),
        ["sample_rate_hz=-3", "above zero"],
    ),
    "a scale by ratings without them": (
        lambda: prepare(drives(), scale="physical"),
        ["physical", "rated", "[scale]"],
    ),
    "a class of one training recording under a cap": (
        lambda: prepare(drives(), balance="undersample", max_per_recording=0.3),
        ["1 recording", "max_per_recording", "training part"],
    ),
    "a window longer than everything": (
        lambda: prepare(drives(), window_s=99),
        ["window_s=99", "longest", "19.95 s"],
    ),
    "a purity that drops a class entirely": (
        lambda: spans(
            (0, 9.2, "ice"), (9.2, 10.7, "mud"), (10.7, 20, "ice"), rule="majority", min_purity=0.9
        ),
        ["'mud'", "min_purity"],
    ),
    "one group in a class": (
        lambda: prepare([*drives(), drive("alone", "tar")]),
        ["'tar'", "1 group", "test"],
    ),
    "more folds than groups": (
        lambda: list(
            GroupBalancedKFold(5).split(np.zeros((12, 1)), [0, 1] * 6, np.repeat([0, 1, 2], 4))
        ),
        ["5", "3"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_error_that_names_it_and_the_way_out(name):
    attempt, said = CASES[name]
    with pytest.raises(InputError) as caught:
        attempt()
    for words in said:
        assert words in " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


def test_mixed_rates_are_brought_to_one_and_the_choice_is_said():
    slow = Recording.evenly_sampled(
        np.zeros((100, 2)), 5.0, ("current", "speed"), "slow", label="mud"
    )
    windows = prepare([*drives(), slow])
    assert windows.sample_rate_hz == RATE
    assert windows.provenance["sample_rate_from"] == "median of the recordings"
    assert windows.provenance["recordings"][-1]["sample_rate_hz"] == pytest.approx(5.0)


def test_a_constant_channel_is_kept_scaled_by_one_and_said():
    recordings = drives()
    for recording in recordings:
        recording.values[:, 1] = 7.25
    pipeline = PreparePipeline(window_s=2.0)
    windows = pipeline.prepare(recordings)
    assert windows.channels == ("current", "speed")
    assert pipeline.scaler_.channel_scale[1] == 1.0
    np.testing.assert_array_equal(pipeline.scaler_.transform(windows.X)[:, :, 1], 0.0)
    assert windows.provenance["constant_channels"] == ["speed"]


def test_windows_outside_every_span_are_left_out_and_counted():
    windows = spans((0, 6, "ice"), (10, 20, "mud"), rule="centre", split=None)
    assert set(windows.y) == {"ice", "mud"}
    assert any("label" in entry["reason"] for entry in windows.provenance["dropped"])
