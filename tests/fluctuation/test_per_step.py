import math

import numpy as np
import pytest

from sensorseq.errors import ArgumentError
from sensorseq.fluctuation import metrics


def batches(rng, *, n_train, batch_size, n_epochs, movement=0.0, descent=0.0):
    """Losses of batches drawn without replacement from windows that keep their losses."""
    window_loss = rng.gamma(2.0, 0.5, n_train)
    loss, variance, sizes, bounds = [], [], [], [0]
    for epoch in range(n_epochs):
        order = rng.permutation(n_train)
        for begin in range(0, n_train, batch_size):
            drawn = window_loss[order[begin : begin + batch_size]]
            loss.append(drawn.mean() - descent * epoch + movement * rng.normal())
            variance.append(drawn.var())
            sizes.append(len(drawn))
        bounds.append(len(loss))
    return window_loss, np.array(loss), np.array(variance), np.array(sizes), np.array(bounds)


@pytest.mark.parametrize(("n_train", "batch_size"), [(98, 32), (96, 24), (300, 10), (64, 32)])
def test_a_batch_curve_that_is_only_sampling_has_a_ratio_of_one(n_train, batch_size):
    rng = np.random.default_rng(0)
    parts = [
        metrics.batch_noise(
            *batches(rng, n_train=n_train, batch_size=batch_size, n_epochs=40, descent=0.02)[1:]
        )
        for _ in range(30)
    ]
    ratios = np.array([part.ratio for part in parts])
    assert ratios.mean() == pytest.approx(1, abs=4 * ratios.std() / math.sqrt(30))
    # 90 % in the limit of many epochs; with 40 the blocks make it 70 to 80 %.
    assert np.mean([part.low <= 1 <= part.high for part in parts]) > 0.55


def test_a_model_that_moves_between_batches_shows_in_the_ratio():
    rng = np.random.default_rng(0)
    window_loss, *steps = batches(rng, n_train=320, batch_size=32, n_epochs=60, movement=0.3)
    noise = metrics.batch_noise(*steps)
    sampling = window_loss.var(ddof=1) / 32
    assert noise.ratio == pytest.approx((sampling + 0.3**2) / sampling, rel=0.15)
    assert noise.low < noise.ratio < noise.high


def test_the_floor_is_the_variance_of_batch_means_about_their_epoch():
    rng = np.random.default_rng(0)
    _, loss, variance, sizes, bounds = batches(rng, n_train=96, batch_size=24, n_epochs=2000)
    seen = np.mean((loss.reshape(-1, 4) - loss.reshape(-1, 4).mean(axis=1, keepdims=True)) ** 2)
    floor = metrics.batch_loss_floor(variance, sizes, 96)
    assert floor.mean() == pytest.approx(seen, rel=0.03)
    assert metrics.batch_noise(loss, variance, sizes, bounds).floor == pytest.approx(floor.mean())


def test_a_full_batch_has_no_sampling_and_a_batch_of_one_no_variance():
    assert metrics.batch_loss_floor([0.4], [96], 96)[0] == 0
    assert math.isnan(metrics.batch_loss_floor([0.0], [1], 96)[0])
    noise = metrics.batch_noise([1.0, 2.0, 3.0], [0.0] * 3, [1] * 3, [0, 3])
    assert math.isnan(noise.ratio)
    assert math.isnan(metrics.batch_noise([1.0, 2.0], [0.1] * 2, [9] * 2, [0, 1, 2]).ratio)


def test_a_batch_larger_than_the_epoch_is_refused():
    with pytest.raises(ArgumentError, match="a batch has 97 windows"):
        metrics.batch_loss_floor([0.1], [97], 96)


def test_spikes_after_large_gradients_are_lifted_and_others_are_not():
    rng = np.random.default_rng(0)
    norm = rng.lognormal(size=20_000)
    large = np.flatnonzero(norm > np.quantile(norm, 0.99))
    assert metrics.spike_lift(norm, large[:-1] + 1) > 20
    unrelated = [
        metrics.spike_lift(norm, rng.choice(20_000, 300, replace=False)) for _ in range(20)
    ]
    assert np.mean(unrelated) == pytest.approx(1, abs=0.2)


def test_a_hard_batch_is_no_consequence_of_its_own_gradient():
    rng = np.random.default_rng(0)
    norm = rng.lognormal(size=20_000)
    large = np.flatnonzero(norm > np.quantile(norm, 0.99))
    assert metrics.spike_lift(norm, large) < 2


def test_without_spikes_or_gradients_there_is_no_lift():
    assert math.isnan(metrics.spike_lift(np.ones(50), []))
    assert math.isnan(metrics.spike_lift(np.full(50, np.nan), [3]))
    assert math.isnan(metrics.spike_lift(np.ones(50), [3]))


def test_overshoot_of_gradient_descent_on_a_parabola_begins_at_twice_the_inverse_curvature():
    # w <- w - rate * curvature * w lowers the loss exactly when rate < 2 / curvature.
    def rate_of_overshoot(rate, curvature=4.0):
        w = np.random.default_rng(0).normal(size=100)
        before, after = curvature * w**2 / 2, curvature * (w - rate * curvature * w) ** 2 / 2
        return metrics.overshoot_rate(before, after)

    assert rate_of_overshoot(0.9 * 2 / 4) == 0
    assert rate_of_overshoot(1.1 * 2 / 4) == 1


def test_steps_that_were_not_measured_do_not_count_as_overshoot():
    assert metrics.overshoot_rate([1.0, np.nan, 1.0], [2.0, 5.0, 0.5]) == 0.5
    assert math.isnan(metrics.overshoot_rate([np.nan], [1.0]))
