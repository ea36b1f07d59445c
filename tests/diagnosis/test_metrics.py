import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sensorseq.diagnosis import metrics
from sensorseq.errors import ArgumentError

finite = st.floats(-100, 100, allow_nan=False).map(lambda value: round(value, 3))
series = st.lists(finite, min_size=8, max_size=60).map(np.array)


def white_noise(n_epochs, sd=1.0, seed=0):
    return np.random.default_rng(seed).normal(0, sd, n_epochs)


# --- noise --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sd", [0.01, 1.0, 30.0])
def test_noise_of_white_noise_is_its_standard_deviation(sd):
    assert metrics.high_frequency_noise(white_noise(20_000, sd)) == pytest.approx(sd, rel=0.03)


@given(values=series, slope=finite, level=finite)
def test_noise_does_not_depend_on_a_linear_trend(values, slope, level):
    line, noise = level + slope * np.arange(len(values)), metrics.high_frequency_noise(values)
    assert metrics.high_frequency_noise(values + line) == pytest.approx(noise, abs=1e-8)


@given(values=series, factor=st.floats(0.1, 10))
def test_noise_scales_with_its_unit(values, factor):
    noise = metrics.high_frequency_noise(values)
    assert metrics.high_frequency_noise(factor * values) == pytest.approx(factor * noise, abs=1e-8)


def test_noise_is_not_affected_by_a_few_outlying_epochs():
    values = white_noise(3000)
    wild = values.copy()
    wild[::60] += 1000
    assert metrics.high_frequency_noise(wild) == pytest.approx(1.0, rel=0.12)


def test_noise_of_a_random_walk_is_the_fraction_in_its_second_differences():
    # The second differences of a random walk are differences of two steps and have variance 2.
    # Second differences of white noise have variance 6.
    walk = np.cumsum(white_noise(20_000))
    assert metrics.high_frequency_noise(walk) == pytest.approx(math.sqrt(2 / 6), rel=0.03)


@pytest.mark.parametrize(("n_epochs", "n_seeds"), [(12, 150), (200, 40)])
def test_volatility_of_white_noise_is_its_standard_deviation(n_epochs, n_seeds):
    measured = [
        metrics.detrended_volatility(white_noise(n_epochs, 2.0, seed)) ** 2
        for seed in range(n_seeds)
    ]
    assert math.sqrt(np.mean(measured)) == pytest.approx(2.0, rel=0.06)


def test_volatility_sees_slow_waves_that_high_frequency_noise_misses():
    t = np.arange(200)
    wave = np.sin(2 * np.pi * t / 30) + white_noise(200, 0.01)
    assert metrics.high_frequency_noise(wave) < 0.05
    assert metrics.detrended_volatility(wave) > 0.4


def test_volatility_of_an_accuracy_with_few_values_does_not_collapse_to_zero():
    accuracy = np.full(40, 0.8)
    accuracy[[5, 17, 23, 31]] = 0.85
    assert metrics.high_frequency_noise(accuracy) == 0
    assert metrics.detrended_volatility(accuracy) > 0.01


# --- trend --------------------------------------------------------------------------------------


@given(values=series)
def test_slope_is_that_of_scipy(values):
    slope = stats.theilslopes(values).slope
    assert metrics.theil_sen_slope(values) == pytest.approx(slope, abs=1e-9)


def test_slope_of_a_very_long_history_is_still_right():
    values = 0.25 * np.arange(5000) + white_noise(5000)
    assert metrics.theil_sen_slope(values) == pytest.approx(0.25, rel=1e-3)


@given(slope=finite, level=finite, n_epochs=st.integers(1, 80))
def test_local_trend_of_a_line_is_the_line(slope, level, n_epochs):
    line = level + slope * np.arange(n_epochs)
    np.testing.assert_allclose(metrics.local_trend(line), line, atol=1e-7)


@given(values=series)
def test_the_local_trend_of_a_reversed_series_is_the_reversed_trend(values):
    window = 7 if len(values) > 7 else 5  # odd, because a window of even width has no center
    reversed_, trend = (metrics.local_trend(given, window) for given in (values[::-1], values))
    np.testing.assert_allclose(reversed_, trend[::-1], atol=1e-6)


def test_local_trend_ignores_outlying_epochs():
    line = np.arange(40.0)
    wild = line.copy()
    wild[[13, 20]] += 500
    np.testing.assert_allclose(metrics.local_trend(wild), line, atol=0.6)


# --- events -------------------------------------------------------------------------------------


def test_spikes_are_found_where_they_were_planted():
    values = white_noise(100, 0.05)
    values[[40, 77]] += 3
    assert metrics.spike_epochs(values) == [40, 77]
    assert metrics.spike_epochs(values, least_rise=5) == []
    assert metrics.spike_epochs(-values) == []  # a drop is not a spike


@given(values=series, later=st.lists(finite, max_size=5))
def test_whether_an_epoch_is_a_spike_never_depends_on_later_ones(values, later):
    longer = np.concatenate([values, later])
    found = [epoch for epoch in metrics.spike_epochs(longer, 7) if epoch < len(values)]
    assert found == metrics.spike_epochs(values, 7)


def test_burn_in_lies_between_a_tenth_and_a_third_and_ends_after_the_fall():
    t = np.arange(60)
    assert metrics.burn_in(-t / 60.0) == 20  # a third, because the values fall until the end
    assert metrics.burn_in(np.zeros(60)) == 6  # a tenth, because the values never fall
    assert 6 <= metrics.burn_in(np.exp(-t / 4)) <= 12
    assert metrics.burn_in(np.zeros(2)) == 2


@given(values=series)
def test_burn_in_never_exceeds_its_limit(values):
    assert 0 <= metrics.burn_in(values) <= max(len(values) // 3, 3)


def test_noise_change_sees_growth_and_decay_and_rarely_either_in_constant_noise():
    t = np.arange(60)
    constant = [metrics.noise_change(white_noise(60, seed=seed))[1] for seed in range(150)]
    assert np.mean(np.abs(constant) > 1.96) < 0.05
    growing = [metrics.noise_change(white_noise(60, seed=s) * 1.05**t) for s in range(20)]
    assert np.mean([z > 1.96 for _, z in growing]) > 0.9
    ratio, z = metrics.noise_change((white_noise(60) * 1.05**t)[::-1])
    assert ratio < 0.6
    assert z < -1.96


# --- floors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "n"), [(0.5, 20), (0.85, 42), (0.85, 1000), (1.0, 30)])
def test_binomial_sd_is_that_of_scipy(p, n):
    assert metrics.binomial_sd(p, n) == pytest.approx(stats.binom(n, p).std() / n)


@pytest.mark.parametrize("n", [1, 5, 100])
def test_expected_maximum_is_that_of_simulated_draws(n):
    draws = np.random.default_rng(0).normal(size=(40_000, n)).max(axis=1)
    assert metrics.expected_maximum(n) == pytest.approx(draws.mean(), abs=0.02)


def test_expected_maximum_of_two_and_three_has_the_closed_form():
    assert metrics.expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), rel=1e-6)
    assert metrics.expected_maximum(3) == pytest.approx(1.5 / math.sqrt(math.pi), rel=1e-6)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_selection_bias_is_how_far_the_best_epoch_of_simulated_curves_is_too_high(rho):
    rng = np.random.default_rng(0)
    curves = np.zeros((4000, 40))
    curves[:, 0] = rng.normal(size=4000)
    for t in range(1, 40):
        curves[:, t] = rho * curves[:, t - 1] + math.sqrt(1 - rho**2) * rng.normal(size=4000)
    assert metrics.selection_bias(1.0, 40) == pytest.approx(curves.max(axis=1).mean(), rel=0.06)


def test_guessing_stays_below_its_limit_in_95_of_100_epochs():
    for p, n in [(1 / 6, 42), (0.5, 25), (0.3, 300)]:
        guesses = np.random.default_rng(0).binomial(n, p, 20_000) / n
        assert 0.92 < (guesses <= metrics.chance_limit(p, n)).mean() <= 0.99
    assert metrics.chance_limit(0.25, None) == 0.25


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 30), (3, 27), (27, 27)])
def test_lower_limit_of_a_proportion_is_that_of_wilson(hits, n):
    interval = stats.binomtest(hits, n).proportion_ci(0.9, method="wilson")
    assert metrics.share_lower_limit(hits, n) == pytest.approx(interval.low, abs=1e-4)
    assert metrics.share_lower_limit(0, 0) == 0


def test_divergence_is_three_epochs_far_above_the_start_or_a_non_finite_loss():
    assert metrics.divergence_epoch([1, 2, 50, 1, 50, 50, 1]) is None
    assert metrics.divergence_epoch([1, 2, 50, 1, 50, 50, 50, 1]) == 4
    assert metrics.divergence_epoch([1, 0.5, math.nan, 0.4]) == 2
    assert metrics.divergence_epoch([1, 0.5, math.inf]) == 2
    assert metrics.divergence_epoch([math.nan]) == 0
    assert metrics.divergence_epoch([]) is None
    warm = [0.001, 0.05, 0.06, 0.05, 0.04]
    assert metrics.divergence_epoch(warm) == 1
    assert metrics.divergence_epoch(warm, least=math.log(6)) is None


def test_softened_log_is_relative_at_large_and_flat_at_vanishing_losses():
    log_classes = math.log(6)
    large = metrics.softened_log([2.0, 2.2], log_classes)
    assert large[1] - large[0] == pytest.approx(math.log(1.1), rel=0.1)
    tiny = metrics.softened_log([0.001, 0.002], log_classes)
    assert tiny[1] - tiny[0] < 0.01


def test_bootstrap_interval_covers_the_truth_about_as_often_as_stated():
    covered = 0
    for seed in range(60):
        resampled = metrics.block_bootstrap(
            white_noise(60, seed=seed), lambda draws: draws.mean(axis=1), n_resamples=300
        )
        low, high = metrics.interval_of(resampled)
        covered += low <= 0 <= high
    assert 0.82 < covered / 60 < 0.97


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: metrics.high_frequency_noise([1.0, math.nan, 2.0]), r"values\[1\] is nan"),
        (lambda: metrics.high_frequency_noise([1.0, 2.0]), "at least 3"),
        (lambda: metrics.theil_sen_slope(np.zeros((2, 2))), r"shape \(2, 2\)"),
        (lambda: metrics.softened_log([-5.0], 1.0), "cross-entropy"),
    ],
)
def test_bad_input_is_named(call, says):
    with pytest.raises(ArgumentError, match=says):
        call()


# --- plateau, tails -----------------------------------------------------------------------------


@given(values=st.lists(st.floats(-100, 100), min_size=3, max_size=25, unique=True).map(np.array))
def test_plateau_is_the_longest_end_that_a_rank_test_calls_trendless(values):
    def is_flat(part):
        n = len(part)
        rising = sum(np.sign(part[j] - part[i]) for i in range(n) for j in range(i + 1, n))
        return abs(rising) <= 1.96 * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)

    flat = [first for first in range(len(values)) if is_flat(values[first:])]
    assert metrics.plateau_start(values) == min(flat)


def test_plateau_of_a_decay_begins_where_the_decay_is_over():
    starts = []
    for seed in range(30):
        loss = np.exp(-np.arange(120) / 6) + white_noise(120, 0.02, seed)
        starts.append(metrics.plateau_start(loss))
    assert 12 <= np.median(starts) <= 36


def test_averaged_weights_save_the_loss_of_the_noise_on_a_parabola():
    # the loss is 1 + |w|^2 / 2, and each of the 50 weights has a standard deviation of 0.1
    rng = np.random.default_rng(0)
    weights = 0.1 * rng.normal(size=(60, 50))
    weights[:20] += np.linspace(1, 0, 20)[:, None]
    average = weights[0]
    for epoch in weights[1:]:
        average = 0.9 * average + 0.1 * epoch
    loss = 1 + (weights**2).sum(axis=1) / 2
    averaged = 1 + float((average**2).sum() / 2)
    # noise adds 50 * 0.01 / 2 to the loss; averaging multiplies this excess by 0.1 / 1.9
    expected = 0.25 * (1 - 0.1 / 1.9)
    excess, (low, high) = metrics.excess_plateau_loss(loss, averaged, 0.9)
    assert excess == pytest.approx(expected, rel=0.1)
    assert low < excess < high
    assert math.isnan(metrics.excess_plateau_loss(np.linspace(2, 1, 40), 1.0, 0.9)[0])


@pytest.mark.parametrize("n", [5, 20, 100])
@pytest.mark.parametrize("ratio", [0.8, 1.1, 1.4])
def test_p_of_an_sd_ratio_is_the_chi_square_tail(ratio, n):
    exact = stats.chi2.sf((n - 1) * ratio**2, n - 1)
    assert metrics.sd_ratio_p(ratio, n) == pytest.approx(exact, abs=0.004)
    assert metrics.sd_ratio_p(5.0, 1) == 1.0


@given(n=st.integers(0, 400), share=st.floats(0.001, 0.9), hits=st.integers(0, 400))
def test_binomial_tail_is_that_of_scipy(n, share, hits):
    hits = min(hits, n)
    exact = stats.binom.sf(hits - 1, n, share)
    assert metrics.binomial_tail(hits, n, share) == pytest.approx(exact, abs=1e-8)


def test_a_long_run_needs_no_memory_for_all_its_pairs():
    noise = white_noise(6_000)
    tracemalloc.start()
    metrics.noise_change(noise)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_the_band_of_an_accuracy_is_binomial_and_covers_95_of_100_independent_accuracies():
    low, high = metrics.sampling_band(np.full(3, 0.8), 25)
    half = 1.96 * math.sqrt(0.8 * 0.2 / 25)
    np.testing.assert_allclose([low, high], [[0.8 - half] * 3, [0.8 + half] * 3])
    accuracy = np.random.default_rng(0).binomial(50, 0.7, 480) / 50
    low, high = metrics.sampling_band(metrics.local_trend(accuracy), 50)
    assert 0.93 < np.mean((low <= accuracy) & (accuracy <= high)) < 0.99
