import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from fits import watched
from hypothesis import given
from hypothesis import strategies as st

from sensorseq import Recording, SensorLSTMClassifier
from sensorseq.errors import InputError
from sensorseq.evaluation.comparison_text import format_comparison
from sensorseq.evaluation.evaluate import choose_fold_windows, evaluate_folds
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.recording import LabelSpan


def record(name, seconds, rate, *, label="calm", gaps=(), seed=0, spans=()):
    """Return one channel at a constant rate; `gaps` contains starts and lengths in seconds."""
    t = np.arange(int(seconds * rate)) / rate
    for start, length in gaps:
        t = t[(t < start) | (t >= start + length)]
    values = np.random.default_rng([seed, len(t)]).normal(size=(len(t), 1))
    named = {"label_spans": spans} if spans else {"label": label}
    return Recording(values, t, ("x",), name, **named)


def recordings(n=12, rate=10.0, seconds=40, **arguments):
    return [
        record(f"r{i:02d}", seconds + i, rate, label=["calm", "rough"][i % 2], seed=i, **arguments)
        for i in range(n)
    ]


def starts_of(windows, rows):
    chosen = windows.take(rows)
    return sorted(zip(chosen.recording_id.tolist(), chosen.start_s.tolist(), strict=True))


@given(
    rate=st.sampled_from([6.5, 7.3, 10.0, 12.7, 100.0]),
    window_s=st.sampled_from([1.0, 2.0, 3.3]),
    times=st.integers(1, 6),
    train_hop_s=st.sampled_from([0.31, 0.5, 1.0, 1.7]),
    gaps=st.lists(st.tuples(st.floats(1, 30), st.floats(2, 8)), max_size=2),
    seed=st.integers(0, 100),
)
def test_folds_are_tested_on_the_windows_cut_without_train_hop(
    rate, window_s, times, train_hop_s, gaps, seed
):
    given_recordings = [record("a", 40, rate, gaps=gaps, seed=seed), record("b", 35, rate)]
    cut = {
        "window_s": window_s,
        "hop_s": times * train_hop_s,
        "sample_rate_hz": rate,
        "max_gap_s": 1.0,
        "split": (1, 0, 0),
    }
    plain = PreparePipeline(**cut).prepare(given_recordings)
    overlapping = PreparePipeline(**cut, train_hop_s=train_hop_s).prepare(given_recordings)
    rows = choose_fold_windows(overlapping).rows
    expected = starts_of(plain, np.arange(len(plain)))
    starts = starts_of(overlapping, rows)
    assert [name for name, _ in starts] == [name for name, _ in expected]
    np.testing.assert_allclose([s for _, s in starts], [s for _, s in expected], atol=0.1 / rate)
    assert len(choose_fold_windows(plain).rows) == len(plain)


@given(
    rule=st.sampled_from(["whole", "majority", "last"]),
    cuts=st.lists(st.floats(1, 39), min_size=1, max_size=4, unique=True),
)
def test_test_windows_of_changing_labels_never_overlap(rule, cuts):
    edges = [0.0, *sorted(cuts), 40.0]
    spans = [
        LabelSpan(a, b, ["calm", "rough"][i % 2])
        for i, (a, b) in enumerate(pairwise(edges))
        if b - a > 0.2
    ]
    windows = PreparePipeline(
        window_s=2.0, train_hop_s=0.5, sample_rate_hz=10.0, split=(1, 0, 0), label_rule=rule
    ).prepare([record("a", 40, 10.0, spans=spans), *recordings(2)])
    chosen = windows.take(choose_fold_windows(windows).rows)
    for name in np.unique(windows.recording_id):
        starts = np.sort(chosen.start_s[chosen.recording_id == name])
        assert len(starts)
        assert (np.diff(starts) >= 2.0 - 1e-6).all()


@pytest.mark.trains
def test_no_sample_of_a_fold_is_on_both_sides():
    windows = PreparePipeline(
        window_s=2.0, train_hop_s=0.5, sample_rate_hz=10.0, split=(1, 0, 0)
    ).prepare(recordings())
    kind, seen = watched()
    model = kind(hidden_size=2, max_epochs=1, device="cpu", random_state=0)
    comparison = evaluate_folds(model, windows, 3, baselines=("majority",))
    assert len(seen) == 3
    for train, test in seen:
        assert not set(train.recording_id.tolist()) & set(test.recording_id.tolist())
        samples = set(test.X.ravel().tolist())
        assert not samples & set(train.X.ravel().tolist())
        steps = np.diff(np.sort(test.start_s[test.recording_id == test.recording_id[0]]))
        np.testing.assert_allclose(steps, 2.0)
        first = train.recording_id == train.recording_id[0]
        np.testing.assert_allclose(np.diff(np.sort(train.start_s[first])), 0.5)
    assert comparison.model.n_windows == sum(len(test) for _, test in seen) < len(windows) / 3
    assert "trained on windows every 0.5 s, tested on windows every 2 s" in comparison.protocol
    assert not any("--split 1,0,0" in note for note in comparison.notes)
    plain = comparison.to_dict()
    assert plain["fold_accuracy_mean"] == pytest.approx(np.mean(comparison.fold_accuracy))
    assert plain["fold_accuracy_sd"] == pytest.approx(np.std(comparison.fold_accuracy, ddof=1))
    pattern = r"mean of the fold accuracies: ([\d.]+) %, sd\s+([\d.]+) points"
    shown = re.search(pattern, format_comparison(comparison))
    assert float(shown[1]) == pytest.approx(100 * np.mean(comparison.fold_accuracy), abs=0.051)
    assert float(shown[2]) == pytest.approx(
        100 * np.std(comparison.fold_accuracy, ddof=1), abs=0.051
    )


def test_recordings_outside_the_train_part_are_reported_and_tested_as_they_are():
    windows = PreparePipeline(window_s=2.0, train_hop_s=0.5, sample_rate_hz=10.0).prepare(
        recordings(20)
    )
    chosen = choose_fold_windows(windows)
    held_out = np.flatnonzero(windows.split != "train")
    assert np.isin(held_out, chosen.rows).all()
    n_others = len(np.unique(windows.recording_id[held_out]))
    assert f"{n_others} of 20 recordings are not in the train part" in chosen.notes[0]
    assert "--split 1,0,0" in chosen.notes[0]


def test_windows_off_the_grid_are_refused_with_a_solution():
    for settings, message in (
        ({"train_hop_s": 0.8}, r"such as 0\.666667"),
        ({"train_hop_s": 4.0}, r"every 4 s .* such as 2, "),
    ):
        windows = PreparePipeline(
            window_s=2.0, sample_rate_hz=10.0, split=(1, 0, 0), **settings
        ).prepare(recordings(4))
        with pytest.raises(InputError, match=message):
            evaluate_folds(SensorLSTMClassifier(), windows, 2)


def test_a_recording_in_two_groups_is_refused():
    windows = PreparePipeline(window_s=2.0, split=None).prepare(recordings(4))
    divided = replace(windows, groups=np.arange(len(windows)) // 3)
    with pytest.raises(InputError, match="recording r00 has windows in several groups"):
        evaluate_folds(SensorLSTMClassifier(), divided, 2)
