import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.diagnosis import metrics


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_the_closed_testing_procedure_of_bonferroni(p_values):
    # By the closure principle, the adjusted p-value of a hypothesis is the largest Bonferroni
    # p-value of all sets of hypotheses that contain the hypothesis.
    names = list(p_values)
    adjusted = metrics.holm(p_values)
    for name in names:
        closed = max(
            min(len(subset) * min(p_values[one] for one in subset), 1.0)
            for bits in range(1, 2 ** len(names))
            if name in (subset := [one for i, one in enumerate(names) if bits >> i & 1])
        )
        assert adjusted[name] == pytest.approx(closed)


def test_resampled_rows_are_drawn_as_a_whole_and_in_blocks():
    n = 64
    rows = np.column_stack([np.arange(n), 10 + np.arange(n)])
    drawn = []
    metrics.block_bootstrap(
        rows, lambda sample: (drawn.append(sample), sample[:, 0, 0])[1], n_resamples=200
    )
    sample = drawn[0]
    assert (sample[..., 1] - sample[..., 0] == 10).all()
    goes_on = (np.diff(sample[..., 0], axis=1) % n == 1).mean()
    assert goes_on == pytest.approx(1 - 1 / 4 + 1 / 4 / n, abs=0.02)  # blocks of ceil(64^(1/3)) = 4


def test_a_very_long_series_is_resampled_within_a_memory_limit():
    assert len(metrics.block_bootstrap(np.zeros(40_000), lambda s: s.mean(axis=1))) == 100


def test_shifting_keeps_each_unit_and_destroys_simultaneity():
    together = np.zeros((40, 30))
    together[::8] = 1.0
    test = metrics.circular_shift_test(together)
    assert test.value == pytest.approx(900 * 5 / 40)
    assert test.p == pytest.approx(1 / 501)
    assert test.null.max() < test.value
    # after random shifts, each count is the sum of 30 independent variables, each of which is 1
    # with probability 1/8
    expected = 30 / 8 * 7 / 8 + (30 / 8) ** 2
    assert test.null.mean() == pytest.approx(expected, rel=0.03)


def test_without_changes_there_is_nothing_to_test():
    assert metrics.circular_shift_test(np.zeros((20, 5))).p == 1.0
